"""The Open API on the bed: requests as bytes into a connection in memory, answers out of it."""

from __future__ import annotations

from typing import Any

from twisted.internet.testing import StringTransport

from broker.applications.gizwits.listener import GserviceListener
from broker.applications.gizwits.settings import Settings, UserLimits
from broker.applications.gizwits.user_records import Session
from broker.model.jsontext import decode, encode
from tests.applications.gizwits.bed import APP, AppBed

#: Rounds of storage that one call may take.
PATIENCE = 12


class ApiBed(AppBed):
    """With the listener ``gservice``."""

    def __init__(self, folder: str, limits: UserLimits | None = None, **settings: Any) -> None:
        super().__init__(folder, limits, **settings)
        self.gservice = GserviceListener(self.core, Settings(users=limits or UserLimits()), self.side)

    async def http(self, line: str, body: Any = None, *, step: float = 0.0, **who: Any) -> tuple[int, Any]:
        """Status and JSON of one call, as `called` makes it for ``who``. ``step``: seconds that go by with each look
        whether the answer is there."""
        connection = self.called(line, body, **who)
        transport = connection.transport
        for _ in range(200 if step else PATIENCE):
            await self.settle()
            if b"\r\n\r\n" in transport.value():
                break
            self.core.commands.tick()
            self.clock.advance(step)
        answered, _, text = transport.value().partition(b"\r\n\r\n")
        connection.connectionLost()
        return int(answered.split()[1]), decode(text) if text else None

    def called(
        self,
        line: str,
        body: Any = None,
        *,
        app: str | None = APP,
        user: Session | None = None,
        token: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> Any:
        """A connection that has brought one request, whose answer is not there yet. ``body``: bytes as they are, or
        what is to be JSON."""
        token = user.token if user is not None else token
        fields = {
            "Host": "iot.example.org:8081",
            **({} if app is None else {"X-Gizwits-Application-Id": app}),
            **({} if token is None else {"x-gizwits-user-token": token}),
            **({} if body is None else {"Content-Type": "application/json"}),
            **(headers or {}),
        }
        content = b"" if body is None else body if isinstance(body, bytes) else encode(body)
        if body is not None:
            fields["Content-Length"] = str(len(content))
        head = "\r\n".join([f"{line} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""])
        connection = self.gservice.buildProtocol(None)
        assert connection is not None
        connection.makeConnection(StringTransport())
        connection.dataReceived(head.encode() + content)
        return connection

    async def refused(self, line: str, body: Any = None, **more: Any) -> tuple[int, int]:
        """Status and number of a refusal."""
        status, answer = await self.http(line, body, **more)
        assert set(answer) == {"error_message", "error_code", "detail_message"}, answer
        return status, answer["error_code"]
