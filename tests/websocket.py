"""A blocking WebSocket client for tests in threads: text messages that are JSON, over wsproto."""

from __future__ import annotations

import json
import queue
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Ping, RejectConnection, Request, TextMessage
from wsproto.utilities import LocalProtocolError

PATIENCE = 30.0


class WebSocketClient:
    """Connected when it is made; messages are read by a thread of its own."""

    def __init__(self, port: int, target: str, token: str) -> None:
        self._messages: queue.Queue[Any] = queue.Queue()
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self._connection = WSConnection(ConnectionType.CLIENT)
        headers = [(b"Authorization", b"Bearer " + token.encode())]
        request = Request(host=f"127.0.0.1:{port}", target=target, extra_headers=headers)
        self._socket.sendall(self._connection.send(request))
        self._open = threading.Event()
        self.refused: int | None = None
        threading.Thread(target=self._read, daemon=True).start()
        assert self._open.wait(PATIENCE)
        assert self.refused is None, self.refused

    def _read(self) -> None:
        parts = ""
        while True:
            try:
                data = self._socket.recv(65536)
            except OSError:
                return
            if not data:
                return
            self._connection.receive_data(data)
            for event in self._connection.events():
                match event:
                    case AcceptConnection():
                        self._open.set()
                    case RejectConnection():
                        self.refused = event.status_code
                        self._open.set()
                    case TextMessage():
                        parts += event.data
                        if event.message_finished:
                            self._messages.put(json.loads(parts))
                            parts = ""
                    case Ping():
                        self._socket.sendall(self._connection.send(event.response()))

    def next(self, wanted: Callable[[Any], bool]) -> Any:
        """The next message that is wanted; others are passed over."""
        while True:
            message = self._messages.get(timeout=PATIENCE)
            if wanted(message):
                return message

    def send(self, message: Any) -> None:
        """One text message of JSON."""
        self._socket.sendall(self._connection.send(TextMessage(data=json.dumps(message))))

    def close(self) -> None:
        """Say goodbye; harmless twice."""
        with suppress(OSError, LocalProtocolError):  # a closed socket, a second goodbye
            self._socket.sendall(self._connection.send(CloseConnection(code=1000)))
        self._socket.close()
