"""An app on WebSocket, in memory: what it says goes through wsproto and back."""

from __future__ import annotations

from typing import Any

from twisted.internet.testing import StringTransport
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Event, Request, TextMessage

from broker.applications.gizwits.user_records import Session
from broker.model.jsontext import decode, encode
from tests.applications.gizwits.api_bed import ApiBed
from tests.applications.gizwits.bed import APP


class SocketClient:
    """``code``: of the close frame that came."""

    def __init__(self, bed: ApiBed) -> None:
        self.bed = bed
        connection: Any = bed.gservice.buildProtocol(None)
        assert connection is not None
        self.connection = connection
        self.transport = StringTransport()
        self.code: int | None = None
        self.accepted = False
        self._text = ""
        self._wire = WSConnection(ConnectionType.CLIENT)
        connection.makeConnection(self.transport)
        connection.dataReceived(self._wire.send(Request("iot.example.org", "/ws/app/v1")))
        self.now()

    def say(self, cmd: str, data: Any = None) -> None:
        self.send(TextMessage(encode({"cmd": cmd} if data is None else {"cmd": cmd, "data": data}).decode()))

    def send(self, event: TextMessage | BytesMessage) -> None:
        self.connection.dataReceived(self._wire.send(event))
        self.bed.flush()

    async def got(self) -> list[tuple[str, Any]]:
        """(cmd, data) of what came since the last call, once storage has had its say."""
        await self.bed.settle()
        return self.now()

    def now(self) -> list[tuple[str, Any]]:
        """The same, at once."""
        self.bed.flush()
        self._wire.receive_data(self.transport.value())
        self.transport.clear()
        found = []
        for event in self._wire.events():
            text = self._take(event)
            if text is not None:
                message = decode(text)
                found.append((message["cmd"], message.get("data")))
        return found

    def _take(self, event: Event) -> str | None:
        match event:
            case AcceptConnection():
                self.accepted = True
            case CloseConnection():
                self.code = event.code
            case TextMessage():
                self._text += event.data
                if event.message_finished:
                    text, self._text = self._text, ""
                    return text
        return None

    @property
    def closed(self) -> str | None:
        """Why the broker closed it."""
        return self.connection.reason if self.connection.closing else None

    def lose(self) -> None:
        self.connection.connectionLost()
        self.bed.flush()

    async def login(self, session: Session, p0_type: str = "custom", **more: Any) -> list[tuple[str, Any]]:
        """Log in; what came behind the answer that it worked."""
        data = {"appid": APP, "uid": session.uid, "token": session.token, "p0_type": p0_type, **more}
        self.say("login_req", data)
        answers = await self.got()
        assert answers[0] == ("login_res", {"success": True}), answers
        return answers[1:]
