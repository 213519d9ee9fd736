"""Gizwits apps: the vendor's application with its secret, and two apps of people, on MQTT and on WebSocket.

To them devices of every protocol are Gizwits devices: what they say comes as a report, what they are told goes as a
control with a number, which is acknowledged when it was done. A command that fails is not acknowledged.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from random import Random
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamClientEndpoint

from broker.devices.gizwits import codec as g
from broker.devices.gizwits.topics import command_topic, split
from broker.mqtt.client import Message, MqttClient
from broker.mqtt.packets import MQTT_3_1
from broker.simulate.demo.board import Board
from broker.simulate.demo.cast import BY_ID, CELLS, SUBJECTS, Subject, short
from broker.simulate.demo.orders import Order
from broker.simulate.demo.turns import SUCCEEDED, Turns
from broker.simulate.demo.words import said, said_fields
from broker.simulate.gizwits_app import GizwitsApp
from broker.simulate.gizwits_socket import GizwitsSocket

#: Seconds until the web app connects again.
RECONNECT: Final = 2.0

M2m = Callable[[str, int], IStreamClientEndpoint]


def bindable(side: str) -> list[Subject]:
    """What the user of an app binds: what can be commanded at once."""
    return [one for one in SUBJECTS if one.prompt and (one.protocol, side) in CELLS]


def hear(board: Board, side: str, turns: Turns, did: str, packet: g.Business) -> None:
    """Reports are shown, acknowledgements end the command that has their number as its name."""
    subject = BY_ID.get(did)
    match packet:
        case g.Report() if subject is not None:
            board.uplink(side, subject, said(subject, packet.data))
        case g.Ack():
            turns.answered_as(packet.sn, SUCCEEDED)


class CloudApplication:
    """The application itself, with its id and secret, on MQTT: for the devices that are bound to it."""

    def __init__(
        self,
        reactor: Any,
        endpoint: IStreamClientEndpoint,
        board: Board,
        side: str,
        login: tuple[str, str],
        chance: Random,
    ) -> None:
        self._board = board
        self._side = side
        self._turns = Turns(reactor, board, side, SUBJECTS, chance, self._send)
        self._mqtt = MqttClient(
            reactor,
            endpoint,
            client_id=side,
            user=login[0],
            password=login[1],
            version=MQTT_3_1,
            on_message=self._message,
        )

    async def start(self) -> None:
        """Raises MqttRefused."""
        self._mqtt.start()
        await self._mqtt.subscribe("dev2app/+", 0)
        await self._mqtt.subscribe(f"dev2app/+/{self._side}", 0)

    def go(self) -> None:
        self._turns.start()

    def stop(self) -> Deferred[None]:
        self._turns.stop()
        return self._mqtt.stop()

    def _send(self, number: int, subject: Subject, given: Order) -> None:
        self._turns.call(number, number)
        packet = g.encode(g.Request(number, given.data))
        sent = self._mqtt.publish(command_topic(subject.id, self._side), packet, 1)
        sent.addErrback(lambda failure: self._turns.answered(number, f"not sent: {failure.getErrorMessage()}"))

    def _message(self, message: Message) -> None:
        parts = split(message.topic)
        if parts is not None:
            hear(self._board, self._side, self._turns, parts[1], g.decode_business(message.payload))


class PhoneApp:
    """Somebody's app: binds over the Open API, talks over MQTT."""

    def __init__(
        self,
        reactor: Any,
        url: str,
        m2m: M2m,
        board: Board,
        side: str,
        appid: str,
        passcodes: dict[str, str],
        chance: Random,
    ) -> None:
        self._side = side
        self._passcodes = passcodes
        turns = self._turns = Turns(reactor, board, side, bindable(side), chance, self._send)
        self._app = GizwitsApp(
            reactor, url, appid, side, m2m, lambda did, packet: hear(board, side, turns, did, packet)
        )

    async def start(self) -> None:
        """Raises OpenApiError, ValueError."""
        await log_in(self._app, self._side, self._passcodes)
        await self._app.start()

    def go(self) -> None:
        self._turns.start()

    def stop(self) -> Deferred[None]:
        self._turns.stop()
        return Deferred.fromCoroutine(self._app.stop())

    def _send(self, number: int, subject: Subject, given: Order) -> None:
        self._turns.call(number, self._app.control(subject.id, given.data, acknowledged=True))


class WebApp:
    """Another person's app, on the WebSocket."""

    def __init__(
        self,
        reactor: Any,
        url: str,
        m2m: M2m,
        board: Board,
        side: str,
        appid: str,
        passcodes: dict[str, str],
        chance: Random,
    ) -> None:
        self._reactor = reactor
        self._url = url
        self._board = board
        self._side = side
        self._passcodes = passcodes
        self._turns = Turns(reactor, board, side, bindable(side), chance, self._send)
        self._app = GizwitsApp(reactor, url, appid, side, m2m)
        self._socket: GizwitsSocket | None = None
        self._again: Any = None
        self._stopped = False

    async def start(self) -> None:
        """Raises OpenApiError, ValueError, SocketRefused, and what connecting raises."""
        await log_in(self._app, self._side, self._passcodes)
        app = self._app
        self._socket = GizwitsSocket(
            self._reactor, self._url, app.appid, app.uid, app.token, self._message, self._ended
        )
        if self._stopped:
            self._socket.stop()
        await self._socket.start()

    def go(self) -> None:
        self._turns.start()

    def stop(self) -> Deferred[None]:
        self._stopped = True
        self._turns.stop()
        if self._again is not None and self._again.active():
            self._again.cancel()
        if self._socket is not None:
            self._socket.stop()
        return Deferred.fromCoroutine(self._app.stop())

    def _send(self, number: int, subject: Subject, given: Order) -> None:
        if self._socket is None:
            return
        if given.payload is None:
            self._socket.write_raw(subject.id, given.data, number)
        else:
            self._socket.write(subject.id, given.payload, number)

    def _message(self, cmd: str, data: dict[str, Any]) -> None:
        subject = BY_ID.get(data.get("did", ""))
        match cmd:
            case "s2c_noti" if subject is not None:
                self._board.uplink(self._side, subject, said_fields(data["attrs"]))
            case "s2c_raw" if subject is not None:
                packet = g.decode_business(bytes(data["raw"]))
                if isinstance(packet, g.Report):
                    self._board.uplink(self._side, subject, said(subject, packet.data))
            case "s2c_ack":
                self._turns.answered(data["req_sn"], SUCCEEDED)
            case "s2c_invalid_msg":
                # It does not say what it is about; a device that is away is the only reason that there should be.
                self._board.note(f"{self._side} was told: {data['msg']}")

    def _ended(self, why: str) -> None:
        if not self._stopped:
            self._board.note(f"{self._side}: {why}")
            self._again = self._reactor.callLater(RECONNECT, self._try_again)

    def _try_again(self) -> None:
        work: Coroutine[Any, Any, None] = self.start()
        Deferred.fromCoroutine(work).addErrback(lambda failure: self._ended(failure.getErrorMessage()))


async def log_in(app: GizwitsApp, side: str, passcodes: dict[str, str]) -> None:
    """Be the user of this phone, and bind what it may. Raises OpenApiError, ValueError."""
    await app.log_in()
    await app.bind_all((one.id, passcodes[one.id], short(one)) for one in bindable(side))
