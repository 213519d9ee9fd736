"""Calls of the HTTP API that block, to a process that may be away."""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import quote, urlencode

from tests.real import RealBroker

TOKEN = "admin"
#: Seconds for an answer.
API_PATIENCE = 3.0
#: What there is instead of an answer.
NO_ANSWER = (OSError, http.client.HTTPException)
#: Commands of one page.
PAGE = 500


def call_api(broker: RealBroker, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    """Status and decoded answer of ``/api/v1``. Raises one of `NO_ANSWER`."""
    status, text = fetch(broker, method, "/api/v1" + path, body)
    return status, json.loads(text) if text else None


def fetch(broker: RealBroker, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
    """Status and body of anything that is served. Raises one of `NO_ANSWER`."""
    port = broker.ports.get("http")
    if port is None:
        raise ConnectionRefusedError("the process is down")
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=API_PATIENCE)
    try:
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def made(broker: RealBroker, path: str, body: Any) -> Any:
    """A call that has to succeed, before any fault."""
    status, answer = call_api(broker, "POST", path, body)
    assert status in (200, 201), (path, status, answer)
    return answer


def put(broker: RealBroker, path: str, body: Any = None) -> None:
    """Likewise."""
    status, answer = call_api(broker, "PUT", path, body)
    assert status < 300, (path, status, answer)


def commands_of(broker: RealBroker, device: str) -> list[dict[str, Any]]:
    """All commands of a device. Raises one of `NO_ANSWER`, also for an answer that is none."""
    found: list[dict[str, Any]] = []
    cursor = ""
    while True:
        query = urlencode({"limit": PAGE, **({"cursor": cursor} if cursor else {})})
        status, answer = call_api(broker, "GET", f"/devices/{quote(device, safe='')}/commands?{query}")
        if status != 200:
            raise ConnectionError(f"the list of commands was refused: {status} {answer}")
        found += answer["items"]
        cursor = answer["next"]
        if not cursor:
            return found


def figure(broker: RealBroker, name: str) -> float:
    """One of /metrics, which has to be there; its only label is the process. Raises one of `NO_ANSWER`."""
    status, text = fetch(broker, "GET", "/metrics")
    found = [line for line in text.decode().splitlines() if line.startswith((f"{name} ", f"{name}{{"))]
    assert status != 200 or found, f"/metrics has no {name}"
    if status != 200:
        raise ConnectionError(f"/metrics was refused: {status}")
    return float(found[0].rpartition(" ")[2])
