"""What gateways tell about themselves that is nobody else's business: Wi-Fi passwords, keys, tokens.

Gateways in the field send them in gateway_info (``wifipwd``, ``connpwd``, ``geekkey``). They are masked before a
message leaves this protocol: in events, history, info, topics and logs. The gateway's own echo is the one exception.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final

MASK: Final = "***"
#: So much of a key's end is enough to tell; to remember whole ones would be to remember whatever somebody makes up.
ENDING: Final = 16
_SECRET: Final = re.compile(r"(?:pwd|password|key|token|secret)\s*\Z", re.IGNORECASE)


@lru_cache(maxsize=4_096)
def is_secret(key: str) -> bool:
    """Whether what stands under this key is nobody's business."""
    return _SECRET.search(key) is not None


def masked(value: Any) -> Any:
    """The same with secrets masked; the same object if there are none. Nested as deep as JSON may be."""
    if isinstance(value, dict):
        changed: dict[str, Any] = {}
        for key, item in value.items():
            if is_secret(key[-ENDING:]):
                if item not in ("", None):
                    changed[key] = MASK
            elif item.__class__ in (dict, list):
                inside = masked(item)
                if inside is not item:
                    changed[key] = inside
        return {**value, **changed} if changed else value
    if isinstance(value, list):
        items = [masked(item) for item in value]
        return items if any(one is not other for one, other in zip(items, value, strict=True)) else value
    return value
