"""Frames of the device's side (LoRaWAN 1.0.3, chapters 4 and 6.2): what a mote sends, and how it reads what it hears.

The cryptography is the broker's (`broker.devices.lorawan.keys`), which the tests compare with that of others; counters
and forms of frames are written anew here.
"""

from __future__ import annotations

import struct
from typing import Any, Final, NamedTuple

from broker.devices.lorawan import keys

UNCONFIRMED_UP: Final = 0x40
CONFIRMED_UP: Final = 0x80
JOIN_ACCEPT: Final = 0x20
DOWN_TYPES: Final = (0x60, 0xA0)
#: FCtrl of an uplink.
ADR: Final = 0x80
ADR_ACK_REQ: Final = 0x40
ACK: Final = 0x20
#: Frames that may be missing between two downlinks (LoRaWAN 1.0.3, 4.3.1.5).
MAX_FCNT_GAP: Final = 16_384


class MoteIdentity(NamedTuple):
    """What a mote is made with, in hexadecimal digits."""

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


class Accepted(NamedTuple):
    """What a join-accept says besides the session."""

    rx1_offset: int
    rx2_rate: int
    rx_delay: int
    cf_list: bytes


class Down(NamedTuple):
    """A downlink that is this mote's and new, in clear. ``commands``: of FOpts or port 0."""

    fcnt: int
    confirmed: bool
    ack: bool
    adr: bool
    pending: bool
    port: int | None
    payload: bytes
    commands: bytes


class Session:
    """One mote's keys and counters. ``nonce``: the DevNonce before the first join-request."""

    def __init__(self, identity: MoteIdentity, nonce: int) -> None:
        self._identity = identity
        self._app_key = bytes.fromhex(identity.app_key)
        self._nonce = nonce
        self._nwk_s_key = self._app_s_key = b""
        self.address: int | None = None
        #: The next counter up; the last one down.
        self.up = 0
        self._down = -1

    @property
    def joined(self) -> bool:
        return self.address is not None

    def join_request(self) -> bytes:
        """With a new DevNonce."""
        self._nonce = (self._nonce + 1) & 0xFFFF
        join_eui, dev_eui = (bytes.fromhex(text)[::-1] for text in (self._identity.join_eui, self._identity.dev_eui))
        body = b"\0" + join_eui + dev_eui + struct.pack("<H", self._nonce)
        return body + keys.join_mic(self._app_key, body)

    def accept(self, frame: bytes) -> Accepted | None:
        """Begin a session, if the join-accept answers the last request."""
        if len(frame) not in (17, 33):
            return None
        clear = keys.encrypt_blocks(self._app_key, frame[1:])
        body, mic = clear[:-4], clear[-4:]
        if keys.join_mic(self._app_key, frame[:1] + body) != mic:
            return None
        app_nonce, net_id = int.from_bytes(body[:3], "little"), int.from_bytes(body[3:6], "little")
        self.address = int.from_bytes(body[6:10], "little")
        self._nwk_s_key, self._app_s_key = keys.session_keys(self._app_key, app_nonce, net_id, self._nonce)
        self.up, self._down = 0, -1
        return Accepted(body[10] >> 4 & 7, body[10] & 15, body[11] & 15 or 1, body[12:])

    def begin(self, address: int, nwk_s_key: bytes, app_s_key: bytes) -> None:
        """It has had this session since it was made (ABP)."""
        self.address, self._nwk_s_key, self._app_s_key = address, nwk_s_key, app_s_key
        self.up, self._down = 0, -1

    def leave(self) -> None:
        """There is no session any more."""
        self.address = None

    def uplink(self, control: int, confirmed: bool, fopts: bytes, port: int | None, payload: bytes) -> bytes:
        """The next frame. ``control``: ADR, ADRACKReq and ACK; port 0 carries MAC commands."""
        address = self.address
        assert address is not None
        assert len(fopts) <= 15
        head = CONFIRMED_UP if confirmed else UNCONFIRMED_UP
        body = struct.pack("<BIBH", head, address, control | len(fopts), self.up & 0xFFFF) + fopts
        if port is not None:
            key = self._app_s_key if port else self._nwk_s_key
            body += bytes((port,)) + keys.crypt_payload(key, keys.UP, address, self.up, payload)
        frame = body + keys.data_mic(self._nwk_s_key, keys.UP, address, self.up, body)
        self.up += 1
        return frame

    def read(self, frame: bytes) -> Down | None:
        """What a data frame says; None for one of another mote, a forged one, and one that came before."""
        if len(frame) < 12:
            return None
        head, address, control, bits = struct.unpack_from("<BIBH", frame)
        if address != self.address:
            return None
        ahead = (bits - self._down) & 0xFFFF if self._down >= 0 else bits + 1
        if not 0 < ahead <= MAX_FCNT_GAP:
            return None
        fcnt = self._down + ahead
        if keys.data_mic(self._nwk_s_key, keys.DOWN, address, fcnt, frame[:-4]) != frame[-4:]:
            return None
        self._down = fcnt
        at = 8 + (control & 15)
        fopts, port, payload = frame[8:at], None, b""
        if at < len(frame) - 4:
            port = frame[at]
            key = self._app_s_key if port else self._nwk_s_key
            payload = keys.crypt_payload(key, keys.DOWN, address, fcnt, frame[at + 1 : -4])
        commands = payload if port == 0 else fopts
        flags = (head == DOWN_TYPES[1], bool(control & 0x20), bool(control & 0x80), bool(control & 0x10))
        confirmed, ack, adr, pending = flags
        return Down(fcnt, confirmed, ack, adr, pending, port, payload, commands)


class GroupSession:
    """A multicast group that a class C mote is in (1.0.3, chapter 17): keys that others hold too, its own counter."""

    def __init__(self, address: int, nwk_s_key: bytes, app_s_key: bytes) -> None:
        self.address = address
        self._nwk_s_key = nwk_s_key
        self._app_s_key = app_s_key
        #: The next counter that is listened to.
        self._next = 0

    def read(self, frame: bytes) -> tuple[int, bytes] | None:
        """Port and payload; None for what is not for the group, forged, or no newer than what was heard.

        A group's frames are unconfirmed, and have neither flags nor MAC commands.
        """
        if len(frame) < 13:
            return None
        head, address, control, bits = struct.unpack_from("<BIBH", frame)
        if (head, address, control) != (DOWN_TYPES[0], self.address, 0) or not frame[8]:
            return None
        fcnt = self._next + (bits - self._next & 0xFFFF)
        if keys.data_mic(self._nwk_s_key, keys.DOWN, address, fcnt, frame[:-4]) != frame[-4:]:
            return None
        self._next = fcnt + 1
        return frame[8], keys.crypt_payload(self._app_s_key, keys.DOWN, address, fcnt, frame[9:-4])
