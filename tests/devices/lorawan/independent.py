"""Motes that others wrote: npm's lora-packet in a Node.js of its own, and PyPI's pamoja-lorawan."""

from __future__ import annotations

import atexit
import json
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
#: Where tools/environment.sh installs what tests/clients/package.json names.
MODULES = HERE.parent.parent.parent / ".venv" / "node"


@cache
def _node() -> subprocess.Popen[str]:
    node = shutil.which("node")
    assert node is not None, "Node.js is missing: sh tools/environment.sh test"
    child = subprocess.Popen(
        [node, str(HERE / "lorapacket.mjs"), str(MODULES)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    atexit.register(child.wait)
    atexit.register(child.kill)
    return child


def lora_packet(**request: Any) -> dict[str, Any]:
    """One question to lora-packet; bytes become hex digits."""
    child = _node()
    assert child.stdin is not None and child.stdout is not None
    child.stdin.write(json.dumps(request, default=bytes.hex) + "\n")
    child.stdin.flush()
    answer: dict[str, Any] = json.loads(child.stdout.readline())
    return answer
