"""Valid beginnings for the API: its calls, on the registry that `tests.fuzz.world` prepares."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

from broker.devices.gizwits.firmware import FIRST_FID
from tests.applications.http.test_fuzz import masked
from tests.applications.mqtt.bed import NOW, SECRET
from tests.devices.gizwits.bed import DID, PASSCODE, PRODUCT
from tests.fuzz import clients as client
from tests.fuzz.listeners import CUT, WAIT
from tests.fuzz.world import ADMIN_TOKEN, ANN, APP, HARD_VERSION, PLAIN

_RIGHT: Final = bytes((client.COMPANY | client.RIGHT,))
_SLOW: Final = bytes((client.COMPANY | client.RIGHT | client.SLOW,))
#: What an application may ask of its devices.
_OF_APPLICATIONS: Final = re.compile(r"GET \S+/devices|POST \S+/commands|PUT \S+/log")
_POINT: Final = {
    "name": "power",
    "data_type": "bool",
    "type": "status_writable",
    "position": {"byte_offset": 0, "unit": "bit", "len": 1, "bit_offset": 0},
}


def api_seeds() -> dict[str, list[bytes]]:
    """Target -> valid inputs."""
    calls = [call(*one) for one in _calls()]
    theirs = [call(line, body, f"{APP}:{SECRET}") for line, body in _calls() if _OF_APPLICATIONS.match(line)]
    stream = call("GET /api/v1/stream?kind=raw&protocol=plain", None).removesuffix(b"\r\n") + (
        b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    waiting = call(f"POST /api/v1/devices/{DID}/commands?wait=5", {"payload": {"power": True}, "ack": True})
    return {
        "api-listener": [
            *(_RIGHT + one for one in (*calls, *theirs, *_uploads())),
            _SLOW + CUT.join(theirs),
            _SLOW + CUT.join((waiting, client.NEXT + stream, masked(0x89, b"ping"))) + WAIT + masked(0x81, b"text"),
        ]
    }


def call(line: str, body: Any, token: str = ADMIN_TOKEN, kind: str = "application/json") -> bytes:
    """A request."""
    content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    head = f"{line} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
    more = "" if body is None else f"Content-Type: {kind}\r\nContent-Length: {len(content)}\r\n"
    return f"{head}{more}\r\n".encode() + content


def _uploads() -> Iterator[bytes]:
    image = f"product={PRODUCT}&type=wifi&hard_version={HARD_VERSION}&soft_version=2&filename=a.bin"
    form = (
        b'--frontier\r\nContent-Disposition: form-data; name="file"; filename="f.bin"\r\n\r\ndata\r\n--frontier--\r\n'
    )
    yield call("PUT /api/v1/files/a.bin", b"data", kind="application/octet-stream")
    yield call("PUT /api/v1/files/a.bin", form, kind="multipart/form-data; boundary=frontier")
    yield call(f"POST /api/v1/gizwits/firmware?{image}", b"data", kind="application/octet-stream")
    lines = [{"protocol": "plain", "id": "p2"}, {"protocol": "gizwits", "product": PRODUCT, "mac": "0123456789AB"}]
    ndjson = b"\n".join(json.dumps(one).encode() for one in lines)
    yield call("POST /api/v1/devices/import", ndjson, kind="application/x-ndjson")


def _calls() -> Iterator[tuple[str, Any]]:
    yield from _registry()
    yield from _devices()
    yield from _gizwits()
    for path in ("connections", "quarantine?protocol=plain", "event-kinds", "traces", "overview", "openapi.json"):
        yield f"GET /api/v1/{path}", None
    yield "POST /api/v1/session", {"token": ADMIN_TOKEN}
    yield "DELETE /api/v1/session", None


def _registry() -> Iterator[tuple[str, Any]]:
    sensor = {"value_key": "t", "name": "temperature", "unit": "C"}
    product = {"key": "p", "name": "n", "protocol": "plain", "sensors": [sensor], "actuators": [{"command_key": "c"}]}
    yield "POST /api/v1/products", product
    yield f"GET /api/v1/products/{PRODUCT}", None
    yield f"PATCH /api/v1/products/{PRODUCT}", {"name": "lamp", "sensors": [sensor]}
    yield f"DELETE /api/v1/products/{PRODUCT}", None
    yield "POST /api/v1/applications", {"kind": "mqtt", "id": "a", "secret": SECRET, "name": "n"}
    yield f"GET /api/v1/applications/{APP}", None
    yield f"PATCH /api/v1/applications/{APP}", {"name": "n", "disabled": True}
    yield f"PUT /api/v1/applications/{APP}/devices/{DID}", None
    yield f"DELETE /api/v1/applications/{APP}/devices/{DID}", None
    yield f"DELETE /api/v1/applications/{APP}", None


def _devices() -> Iterator[tuple[str, Any]]:
    yield "POST /api/v1/devices", {"protocol": "plain", "id": "p1", "name": "n", "tags": ["a"], "dev_eui": "A" * 16}
    yield "POST /api/v1/devices", {"protocol": "gizwits", "product": PRODUCT, "mac": "0123456789AB", "secret": PASSCODE}
    yield "GET /api/v1/devices?protocol=gizwits&online=true&q=D&limit=2", None
    for did in (DID, PLAIN):
        one = f"/api/v1/devices/{did}"
        yield f"GET {one}", None
        yield f"PATCH {one}", {"name": "n", "secret": PASSCODE, "disabled": False}
        yield f"GET {one}/messages?kind=raw&since={NOW - 99}&until={NOW}&limit=5", None
        for body in ({"payload": {"power": True}, "ref": "r", "expires": 9}, {"payload_base64": "AQE=", "force": True}):
            yield f"POST {one}/commands?wait=1", body
        yield f"GET {one}/commands?limit=5", None
        yield f"PUT {one}/trace", {"seconds": 9}
        yield f"DELETE {one}/trace", None
        yield f"DELETE {one}", None


def _gizwits() -> Iterator[tuple[str, Any]]:
    own = "/api/v1/gizwits"
    yield f"GET {own}/firmware?product={PRODUCT}", None
    rule = {"devices": [DID], "percentage": 50, "from_versions": ["1"]}
    yield f"PATCH {own}/firmware/{FIRST_FID}", {"active": True, "rule": rule}
    yield f"DELETE {own}/firmware/{FIRST_FID}", None
    yield f"GET {own}/devices/{DID}/log", None
    yield f"PUT {own}/devices/{DID}/log", {"error": True, "leds": False}
    yield f"PUT {own}/products/{PRODUCT}/switches", {"one_packet": True, "max_packet": 1024}
    yield f"PUT {own}/products/{PRODUCT}/datapoints", {"datapoints": [_POINT], "secret": SECRET}
    users = f"{own}/applications/{APP}/users"
    yield f"POST {users}", {"username": "carol", "password": "p"}
    yield f"GET {users}?limit=1", None
    yield f"GET {users}/{ANN}", None
    yield f"PUT {users}/{ANN}/devices/{PLAIN}", None
    yield f"DELETE {users}/{ANN}/devices/{DID}", None
    yield f"DELETE {users}/{ANN}", None
    yield f"PUT {own}/applications/{APP}/auth", {"secret": SECRET, "sources": {"qq": SECRET}}
