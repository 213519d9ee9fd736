"""Business messages from apps to devices: checked, then passed on or made a command.

================  ================================================  ==============================================
to                0x0090, 0x0093                                    0x0094, 0x0010, others
================  ================================================  ==============================================
a Gizwits device  to its ``app2dev/<did>/<app client id>``          the same: untouched, whatever they are
any other device  a command; the data is the JSON object that it    nothing that such a device could be told:
                  parses as, else bytes (DESIGN §3)                 dropped
================  ================================================  ==============================================

A 0x0093 to another protocol's device is acknowledged when its command has succeeded: 0x0094 with its number, to that
app alone. One that fails is not acknowledged, as a 0x0094 says nothing but yes (4.9); an app on WebSocket is told with
an s2c_invalid_msg. The command carries what is needed for that in its options, so it survives a restart. The broker
never acknowledges for a Gizwits device (4.9).

A frame that is wrong raises Malformed and goes nowhere; who sent it counts and closes.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from typing import Any, ClassVar, Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from broker.applications.ordering import CommandBody, order
from broker.core import Core
from broker.devices.gizwits import codec
from broker.devices.gizwits.identity import PROTOCOL
from broker.devices.gizwits.side import GizwitsDevices
from broker.model.errors import BrokerError, DeviceOffline, Unavailable
from broker.model.jsontext import decode
from broker.model.messages import Payload

#: Options of a command that an app waits for: the app's client id, and the number of its request.
ACK_APP: Final = "gizwits_app"
ACK_SN: Final = "gizwits_sn"

Done = Callable[[Exception | None], None]


def content_of(data: bytes) -> Payload:
    """What the data of an app's message is to a device of another protocol."""
    if data[:1] == b"{":
        try:
            value = decode(data)
        except ValueError:
            return data
        if isinstance(value, dict):
            return value
    return data


def body_of(content: Payload, **fields: Any) -> CommandBody:
    """A command's body with this content."""
    if isinstance(content, bytes):
        return CommandBody(payload_base64=b64encode(content).decode(), **fields)
    return CommandBody(payload=content, **fields)


class Business:
    """Takes what apps say to devices."""

    log: ClassVar[Logger] = Logger(namespace="broker.gizwits")

    def __init__(self, core: Core, devices: GizwitsDevices) -> None:
        self._core = core
        self._devices = devices

    def look(self, did: str, frame: bytes) -> None:
        """What has to be known of a message to a Gizwits device that goes its way. Raises Malformed."""
        if codec.open_business(frame)[0] == codec.SET_LOG:
            packet = codec.decode_business(frame)
            assert isinstance(packet, codec.SetLog)
            self._devices.log_was_set(did, packet.bits)

    def send(self, did: str, client_id: str, origin: str, frame: bytes, done: Done) -> None:
        """One message of an app that is not on MQTT to a device that it has bound; ``done`` as in `order`.

        Raises Malformed, and has then not called ``done``.
        """
        self.look(did, frame)
        live = self._core.devices.get(did)
        if live is not None and live.online and live.ref.protocol == PROTOCOL:
            self._devices.send(did, client_id, frame)
            done(None)
        else:
            self.order(did, client_id, origin, frame, done)

    def order(self, did: str, client_id: str, origin: str, frame: bytes, done: Done) -> None:
        """A message to a device that is no Gizwits device, or is away; ``done(None)`` when it is kept, else the
        BrokerError.

        ``frame`` is sound: see `codec.open_business`.
        """
        if self._core.whereabouts.protocol_of(did) == PROTOCOL:
            self._devices.send(did, client_id, frame)
            done(None)
            return
        command, at = codec.open_business(frame)
        # None: nothing that another protocol's device could be told.
        options: dict[str, Any] | None = None
        if command == codec.REQUEST:
            options = {ACK_APP: client_id, ACK_SN: int.from_bytes(frame[at : at + 4], "big")}
            at += 4
        elif command == codec.CONTROL:
            options = {}
        elif self._core.backplane.alone:
            done(None)
            return

        def kept(_: object) -> None:
            done(None)

        def refused(failure: Failure) -> None:
            error = failure.value
            if not isinstance(error, BrokerError):
                self.log.failure("fault while taking an app's message", failure)
                error = Unavailable("the broker could not take the message")
            done(error)

        async def keep() -> None:
            record = await self._core.registry.get_device(did)
            if record.protocol == PROTOCOL:
                self._pass_on(did, client_id, frame)
            elif options is not None:
                await order(self._core, did, body_of(content_of(frame[at:])), origin, options)

        Deferred.fromCoroutine(keep()).addCallbacks(kept, refused)

    def _pass_on(self, did: str, client_id: str, frame: bytes) -> None:
        """To a Gizwits device that may have come to some process meanwhile. One that is away hears nothing: it is now
        or never.

        Raises DeviceOffline.
        """
        live = self._core.devices.get(did)
        away = self._core.backplane.alone and (live is None or not live.online)
        if away or not self._devices.send(did, client_id, frame):
            raise DeviceOffline("a Gizwits device that is away hears nothing")
