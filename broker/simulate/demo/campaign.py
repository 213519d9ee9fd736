"""A small firmware campaign over the gateways of the demo, where the broker has campaigns."""

from __future__ import annotations

from typing import Any, Final

from broker.simulate.api import Api, ApiError
from broker.simulate.demo.cast import GATEWAY, GATEWAY88

IMAGE: Final = "demo-gateway-2.4.0.bin"
VERSION: Final = "2.4.0"
#: Not a real image: the simulated gateways install whatever they fetch.
_CONTENT: Final = b"simulated firmware " * 4096
PLAN: Final = {
    "name": "demo · 演示",
    "protocol": GATEWAY88,
    "image": IMAGE,
    "version": VERSION,
    "targets": {"filter": {"product": GATEWAY}},
    "backup": True,
    "pace": {"concurrency": 1},
}


async def campaign(api: Api) -> str:
    """Start it; what there is to say of it. Raises ApiError."""
    try:
        await api.call("GET", "/campaigns", limit=1)
    except ApiError as error:
        if error.status == 404:  # this broker has none
            return ""
        raise
    await api.fetch("PUT", f"{api.url}/api/v1/files/{IMAGE}", _CONTENT, "application/octet-stream")
    made: dict[str, Any] = await api.call("POST", "/campaigns", PLAN)
    await api.call("POST", f"/campaigns/{made['id']}/start")
    return f"a campaign brings the gateways to firmware {VERSION}, one after the other, with a backup before"
