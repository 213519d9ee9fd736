"""A simulated LoRaWAN 1.0.x mote: it joins, speaks at intervals, listens in its windows, acknowledges.

What it knows of LoRaWAN is the device's side only. Its cryptography is the broker's (`broker.devices.lorawan.keys`),
which the tests compare with that of others.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from broker.devices.lorawan import keys
from broker.devices.lorawan.regions import Region
from broker.simulate.lorawan_radio import Air
from broker.simulate.room import Room

JOIN_DELAY: Final = 5.0
#: Seconds by which a packet may begin beside the start of a window.
TOLERANCE: Final = 0.05
#: Seconds after which a join-request without an answer is sent again.
JOIN_AGAIN: Final = 10.0
#: Seconds until a class C mote acknowledges.
ACK_AFTER: Final = 0.5
PORT: Final = 10


class MoteIdentity(NamedTuple):
    """What a mote is made with."""

    dev_eui: str
    join_eui: str
    app_key: str

    def registration(self, **more: Any) -> dict[str, Any]:
        """The body of ``POST /devices``."""
        return {"protocol": "lorawan", "id": self.dev_eui, "join_eui": self.join_eui, "app_key": self.app_key, **more}


def mote_identity(seed: int, number: int) -> MoteIdentity:
    """The same for the same seed and number."""
    key = keys.cmac(seed.to_bytes(16, "big"), number.to_bytes(4, "big"))
    return MoteIdentity(f"5EED{seed & 0xFFFF:04X}{number:08X}", "5EED000000000000", key.hex().upper())


class SimulatedMote:
    """``reach``: numbers of the forwarders that hear it; ``told(mote, what)`` is for people.

    ``session``: DevAddr, NwkSKey and AppSKey of a mote that was made with them and never joins (ABP).
    """

    def __init__(
        self,
        air: Air,
        identity: MoteIdentity,
        reach: list[int],
        *,
        class_c: bool = False,
        every: float = 10.0,
        confirmed: float = 0.0,
        session: tuple[int, bytes, bytes] | None = None,
        told: Callable[[SimulatedMote, str], None] = lambda mote, what: None,
    ) -> None:
        self.air = air
        self.identity = identity
        self.reach = reach
        self.class_c = class_c
        self.every = every
        #: The share of its messages that ask for an acknowledgement.
        self.confirmed = confirmed
        self._told = told
        self._reactor = air.reactor
        self._region: Region = air.region
        self._key = bytes.fromhex(identity.app_key)
        self._nonce = air.dice.randrange(1 << 16)
        self._nwk_s_key = self._app_s_key = b""
        self._address = 0
        self._room = Room(air.dice, air.reactor.seconds)
        self._up = self._down = 0
        self._ack = False
        self._rx_delay, self._rx1_offset, self._rx2_rate = 1, 0, air.region.rx2_rate
        self._rx2_frequency = air.region.rx2_frequency
        #: (frequency, data rate, start) of the windows after its last packet.
        self._windows: list[tuple[int, str | int, float]] = []
        self._timer: Any = None
        self._stopped = False
        self.joined = session is not None
        if session is not None:
            self._address, self._nwk_s_key, self._app_s_key = session
        self.sent = self.received = self.acknowledged = 0
        #: Payloads of commands, in their order.
        self.commands: list[tuple[int, bytes]] = []
        air.motes.append(self)

    def start(self, after: float = 0.0) -> None:
        self._timer = self._reactor.callLater(after, self.speak if self.joined else self._join)

    def stop(self) -> None:
        self._stopped = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def _next(self, seconds: float, call: Callable[[], None]) -> None:
        if not self._stopped:
            if self._timer.active():
                self._timer.cancel()
            self._timer = self._reactor.callLater(seconds, call)

    # -- up --------------------------------------------------------------------------------------------------------

    def _transmit(self, frame: bytes, delay: float, offset: int, rx2_rate: int, join: bool = False) -> None:
        region = self._region
        channel = self.air.dice.choice(self.air.channels)
        frequency, number = channel.frequency, channel.max_rate
        if join and region.join_channels:
            frequency = self.air.dice.choice(region.join_channels).frequency
            self._rx2_frequency = region.rx2_for(region.join_channel(frequency))
        rate = region.rate(number)
        ends = self._reactor.seconds() + self.air.from_mote(frame, frequency, rate.datr, self.reach)
        first = region.rx1_frequency(frequency, join=join)
        assert first is not None
        self._windows = [
            (first, region.rate(region.rx1_rate(number, offset)).datr, ends + delay),
            (self._rx2_frequency, region.rate(rx2_rate).datr, ends + delay + 1.0),
        ]

    def _join(self) -> None:
        self._nonce = (self._nonce + 1) & 0xFFFF
        join_eui, dev_eui = (bytes.fromhex(text)[::-1] for text in (self.identity.join_eui, self.identity.dev_eui))
        body = b"\0" + join_eui + dev_eui + self._nonce.to_bytes(2, "little")
        self._transmit(body + keys.join_mic(self._key, body), JOIN_DELAY, 0, self._region.rx2_rate, join=True)
        self._next(JOIN_AGAIN + self.air.dice.random(), self._join)

    def speak(self) -> None:
        """Send a message, with what is owed to the network."""
        confirmed = self.air.dice.random() < self.confirmed
        payload = self._room.telemetry()
        head = 0x80 if confirmed else 0x40
        body = struct.pack("<BIBHB", head, self._address, self._ack and 0x20, self._up & 0xFFFF, PORT)
        body += keys.crypt_payload(self._app_s_key, keys.UP, self._address, self._up, payload)
        frame = body + keys.data_mic(self._nwk_s_key, keys.UP, self._address, self._up, body)
        self._up += 1
        self._ack = False
        self.sent += 1
        self._transmit(frame, float(self._rx_delay), self._rx1_offset, self._rx2_rate)
        self._next(self.every * self.air.dice.uniform(0.9, 1.1), self.speak)

    # -- down ------------------------------------------------------------------------------------------------------

    def hears(self, frame: bytes, frequency: int, datr: str | int, began: float) -> None:
        """A forwarder's packet that this mote receives if it listened there and then."""
        continuous = (self._rx2_frequency, self._region.rate(self._rx2_rate).datr)
        listened = self.class_c and (frequency, datr) == continuous
        for channel, rate, start in self._windows:
            listened = listened or ((channel, rate) == (frequency, datr) and abs(began - start) <= TOLERANCE)
        if not listened:
            return
        if frame[0] == 0x20:
            self._accepted(frame)
        elif self.joined and frame[0] in (0x60, 0xA0):
            self._down_frame(frame)

    def _accepted(self, frame: bytes) -> None:
        if self.joined or len(frame) not in (17, 33):
            return
        clear = keys.encrypt_blocks(self._key, frame[1:])
        body, mic = clear[:-4], clear[-4:]
        if keys.join_mic(self._key, frame[:1] + body) != mic:
            return
        app_nonce, net_id = int.from_bytes(body[:3], "little"), int.from_bytes(body[3:6], "little")
        self._address = int.from_bytes(body[6:10], "little")
        self._rx1_offset, self._rx2_rate, self._rx_delay = body[10] >> 4 & 7, body[10] & 15, body[11] & 15 or 1
        self._nwk_s_key, self._app_s_key = keys.session_keys(self._key, app_nonce, net_id, self._nonce)
        self._up = self._down = 0
        self.joined = True
        self._told(self, f"joined as {self._address:08X}")
        self._next(self.air.dice.random() * self.every, self.speak)

    def _down_frame(self, frame: bytes) -> None:
        _, address, control, bits = struct.unpack_from("<BIBH", frame)
        if address != self._address:
            return
        fcnt = self._down + ((bits - self._down) & 0xFFFF)
        again = bits == (self._down - 1) & 0xFFFF and self._down > 0
        if again:
            fcnt = self._down - 1
        if keys.data_mic(self._nwk_s_key, keys.DOWN, address, fcnt, frame[:-4]) != frame[-4:]:
            return
        self._down = fcnt + 1
        self.received += 1
        self.acknowledged += control >> 5 & 1
        if frame[0] == 0xA0:
            self._ack = True
            if self.class_c:
                self._next(ACK_AFTER, self.speak)
        at = 8 + (control & 15)
        if again or at >= len(frame) - 4 or not frame[at]:
            return
        payload = keys.crypt_payload(self._app_s_key, keys.DOWN, address, fcnt, frame[at + 1 : -4])
        self.commands.append((frame[at], payload))
        self._told(self, f"command on port {frame[at]}: {payload.hex()}")
        if control & 0x10:  # more is waiting
            self._next(self._rx_delay + 2.0, self.speak)
