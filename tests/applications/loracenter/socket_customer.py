"""A customer server with a blocking socket, for tests against the real broker."""

from __future__ import annotations

import json
import socket
from typing import Any

from tests.applications.loracenter.bed import CS_EUI, KEY, frame, registration
from tests.real import PATIENCE, RealBroker


class SocketCustomer:
    """Registered when it is made, unless told otherwise."""

    def __init__(self, port: int, cs_eui: str = CS_EUI, service: int | None = None, register: bool = True) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self.cs_eui = cs_eui
        self._buffer = b""
        self._token = 0
        if register:
            self.ask("CSREG", **registration(cs_eui, service))
            answer = self.next()
            assert answer["CODE"] == 1, answer

    def ask(self, cmd: str, **fields: Any) -> int:
        """Send a request; its Token."""
        self._token += 1
        self.socket.sendall(frame({"CMD": cmd, "Token": self._token, **fields}))
        return self._token

    def next(self) -> dict[str, Any]:
        """The next message."""
        while b"\0" not in self._buffer:
            data = self.socket.recv(65_536)
            assert data, "closed by the broker"
            self._buffer += data
        text, _, self._buffer = self._buffer.partition(b"\0")
        value: dict[str, Any] = json.loads(text)
        return value

    def until(self, cmd: str, code: int | None = None) -> dict[str, Any]:
        """The next message of that kind; others are passed over."""
        while True:
            value = self.next()
            if value["CMD"] == cmd and code in (None, value["CODE"]):
                return value

    def closed(self) -> bool:
        """Wait for the end."""
        while self.socket.recv(65_536):
            pass
        return True

    def close(self) -> None:
        self.socket.close()


def add_customer(broker: RealBroker, *devices: str, id: str = "customer", cs_eui: str = CS_EUI) -> None:
    """Register the application, with rights on these devices."""
    broker.made("/applications", {"id": id, "kind": "loracenter", "cs_eui": cs_eui, "app_key": KEY})
    for device in devices:
        assert broker.call("PUT", f"/applications/{id}/devices/{device}")[0] in (200, 201, 204)
