"""A receiver of webhooks: a plain HTTP server in a thread, which does as it is told and notes what it was given.

It believes nothing that is not signed, with code of its own: what docs/events.md says that a receiver has to do.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SECRET = "a secret of the test's"


class Request:
    """What came: the body, decoded, and the headers; and what it was answered with."""

    def __init__(self, body: Any, headers: dict[str, str]) -> None:
        self.body = body
        self.headers = headers
        self.status = 0

    @property
    def ids(self) -> list[str]:
        return [event["id"] for event in self.body["events"]]


class Answer:
    """What a receiver answers. ``body`` may be long; ``hang``: seconds before the head, ``cut``: no answer at all."""

    def __init__(
        self, status: int = 200, body: bytes = b"", hang: float = 0.0, cut: bool = False, **headers: str
    ) -> None:
        self.status = status
        self.body = body
        self.hang = hang
        self.cut = cut
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class Receiver:
    """``answer(request)`` decides; `stop` and `start` take it down and up again on the same port."""

    def __init__(self, answer: Callable[[Request], Answer] = lambda request: Answer()) -> None:
        self.answer = answer
        self.requests: list[Request] = []
        self.forged = 0
        self.port = 0
        self._server: ThreadingHTTPServer | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook?a=1"

    @property
    def accepted(self) -> list[str]:
        """Ids of the events of every request that was answered with 2xx, in order."""
        return [id for request in self.requests if 200 <= request.status < 300 for id in request.ids]

    def start(self) -> None:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if not is_signed(body, self.headers.get("Broker-Signature", "")):
                    receiver.forged += 1
                    self.send_error(401)
                    return
                request = Request(json.loads(body), {name.lower(): value for name, value in self.headers.items()})
                answer = receiver.answer(request)
                if answer.hang:
                    receiver._hang(answer.hang)
                if answer.cut:
                    receiver.requests.append(request)
                    self.close_connection = True
                    return
                request.status = answer.status
                receiver.requests.append(request)
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)

            def log_message(self, format: str, *args: Any) -> None:
                """Quiet."""

        class Server(ThreadingHTTPServer):
            def handle_error(self, request: Any, client_address: Any) -> None:
                """Of what goes wrong here, only our clients' hanging up is meant to."""
                if not isinstance(sys.exception(), ConnectionError):
                    super().handle_error(request, client_address)

        self._stopping = threading.Event()
        self._server = Server(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def _hang(self, seconds: float) -> None:
        self._stopping.wait(seconds)

    def stop(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            self._stopping.set()
            server.shutdown()
            server.server_close()


def is_signed(body: bytes, header: str, secret: str = SECRET) -> bool:
    """As in docs/events.md."""
    fields = dict(part.split("=", 1) for part in header.split(",") if "=" in part)
    at = fields.get("t", "")
    if not at.isdigit() or abs(time.time() - int(at)) > 300:
        return False
    wanted = hmac.new(secret.encode(), at.encode() + b"." + body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(wanted, fields.get("v1", ""))
