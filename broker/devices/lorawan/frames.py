"""LoRaWAN 1.0.2, 1.0.3 and 1.0.4 frames (PHYPayload) <-> fields, sans-IO: no Twisted, no clock, no log.

::

    PHYPayload    MHDR | MACPayload | MIC (4)                                                          (chapter 4)
    MHDR          MType (3 bits) | RFU (3) | Major (2)
    join-request  00 | JoinEUI LE (8) | DevEUI LE (8) | DevNonce LE (2) | MIC                          (6.2.4)
    join-accept   20 | AES-decrypted( AppNonce LE (3) | NetID LE (3) | DevAddr LE (4) | DLSettings | RxDelay
                  | CFList (0 or 16) | MIC )                                                           (6.2.5)
    data          MHDR | DevAddr LE (4) | FCtrl | FCnt LE (2) | FOpts (0..15) | FPort (0..1) | FRMPayload | MIC
    FCtrl up      ADR | ADRACKReq | ACK | ClassB | FOptsLen (4 bits)                                   (4.3.1)
    FCtrl down    ADR | RFU | ACK | FPending | FOptsLen

The law of this file:

* `parse_uplink` has two outcomes: a frame, or FrameError with a word of `FAULTS`. Any other exception is a bug here.
* A frame is not believed here: its MIC is compared by `DataUp.verify` and `JoinRequest.verify` with a key that somebody
  else knows.
* Frame counters have 16 bits in the air and 32 in all calculations; which one is meant is decided in `counter`.

What it does not do: MAC commands (`mac`), which mote it is, what is answered.
"""

from __future__ import annotations

from hmac import compare_digest
from struct import Struct
from typing import Final

from broker.devices.lorawan import keys
from broker.devices.lorawan.keys import DOWN, UP

JOIN_REQUEST: Final = 0
JOIN_ACCEPT: Final = 1
UNCONFIRMED_UP: Final = 2
UNCONFIRMED_DOWN: Final = 3
CONFIRMED_UP: Final = 4
CONFIRMED_DOWN: Final = 5

#: Why a PHYPayload is no uplink of ours. ``{word: what it says}``.
FAULTS: Final[dict[str, str]] = {
    "size": "shorter than its type needs, or longer than a LoRa packet can be",
    "version": "a Major version that is not LoRaWAN R1",
    "type": "not a join-request and not a data uplink",
    "options": "FOpts longer than the frame, or FOpts and MAC commands as payload in one frame",
}

#: A LoRa packet has at most 255 bytes.
MAX_FRAME: Final = 255
#: MHDR, FHDR without FOpts, MIC.
MIN_DATA: Final = 12
JOIN_REQUEST_SIZE: Final = 23
MAX_FOPTS: Final = 15
#: What a data frame has beside its FRMPayload when there are no FOpts: MHDR, FHDR, FPort, MIC.
OVERHEAD: Final = 13

_data_head: Final = Struct("<BIBH").unpack_from
_pack_head: Final = Struct("<BIBH").pack
_join: Final = Struct("<xQQH").unpack_from


class FrameError(ValueError):
    """Not an uplink; ``fault`` is of `FAULTS`."""

    def __init__(self, fault: str) -> None:
        super().__init__(fault)
        self.fault = fault


class JoinRequest:
    """A mote asks for a session."""

    __slots__ = ("_body", "_mic", "dev_eui", "dev_nonce", "join_eui")

    def __init__(self, phy: bytes) -> None:
        self.join_eui, self.dev_eui, self.dev_nonce = _join(phy)
        self._body = phy[:-4]
        self._mic = phy[-4:]

    def verify(self, app_key: bytes) -> bool:
        """Whether the MIC is right under this AppKey."""
        return compare_digest(keys.join_mic(app_key, self._body), self._mic)

    def __repr__(self) -> str:
        return f"<JoinRequest of {self.dev_eui:016X}>"


class DataUp:
    """A data frame from a mote, not yet verified; ``payload`` is still encrypted."""

    __slots__ = (
        "_body",
        "_mic",
        "ack",
        "adr",
        "adr_ack_req",
        "confirmed",
        "dev_addr",
        "fcnt16",
        "fopts",
        "payload",
        "port",
    )

    def __init__(self, phy: bytes) -> None:
        head, self.dev_addr, control, self.fcnt16 = _data_head(phy)
        self.confirmed = head >> 5 == CONFIRMED_UP
        self.adr = control & 0x80 != 0
        self.adr_ack_req = control & 0x40 != 0
        self.ack = control & 0x20 != 0
        end = len(phy) - 4
        options = 8 + (control & 0x0F)
        if options > end:
            raise FrameError("options")
        self.fopts = phy[8:options]
        if options == end:
            self.port: int | None = None
            self.payload = b""
        else:
            self.port = phy[options]
            self.payload = phy[options + 1 : end]
            if not self.port and self.fopts:
                raise FrameError("options")
        self._body = phy[:end]
        self._mic = phy[end:]

    def verify(self, nwk_s_key: bytes, fcnt: int) -> bool:
        """Whether the MIC is right under this key and with this 32-bit counter."""
        return compare_digest(keys.data_mic(nwk_s_key, UP, self.dev_addr, fcnt, self._body), self._mic)

    def decrypt(self, nwk_s_key: bytes, app_s_key: bytes, fcnt: int) -> bytes:
        """The FRMPayload in clear: MAC commands on port 0, else the application's."""
        key = app_s_key if self.port else nwk_s_key
        return keys.crypt_payload(key, UP, self.dev_addr, fcnt, self.payload)

    def __repr__(self) -> str:
        return f"<DataUp of {self.dev_addr:08X} counter {self.fcnt16}>"


Uplink = JoinRequest | DataUp


def parse_uplink(phy: bytes) -> Uplink:
    """What a gateway heard. Raises FrameError."""
    size = len(phy)
    if not MIN_DATA <= size <= MAX_FRAME:
        raise FrameError("size")
    head = phy[0]
    if head & 0x03:
        raise FrameError("version")
    kind = head >> 5
    if kind in (UNCONFIRMED_UP, CONFIRMED_UP):
        return DataUp(phy)
    if kind != JOIN_REQUEST:
        raise FrameError("type")
    if size != JOIN_REQUEST_SIZE:
        raise FrameError("size")
    return JoinRequest(phy)


# -- what we send ------------------------------------------------------------------------------------------------------


def data_down(
    nwk_s_key: bytes,
    app_s_key: bytes,
    dev_addr: int,
    fcnt: int,
    *,
    port: int | None = None,
    payload: bytes = b"",
    confirmed: bool = False,
    ack: bool = False,
    pending: bool = False,
    adr: bool = False,
    fopts: bytes = b"",
) -> bytes:
    """A data frame to a mote. Raises ValueError for what the frame has no place for.

    Without a port there is no payload; port 0 carries MAC commands, and then there are no FOpts.
    """
    if len(fopts) > MAX_FOPTS:
        raise ValueError("FOpts have at most 15 bytes")
    if port is None and payload:
        raise ValueError("a payload needs a port")
    if port == 0 and fopts:
        raise ValueError("MAC commands are in FOpts or in the payload, not in both")
    control = len(fopts) | (adr and 0x80) | (ack and 0x20) | (pending and 0x10)
    head = _pack_head((CONFIRMED_DOWN if confirmed else UNCONFIRMED_DOWN) << 5, dev_addr, control, fcnt & 0xFFFF)
    body = head + fopts
    if port is not None:
        key = app_s_key if port else nwk_s_key
        body += bytes((port,)) + keys.crypt_payload(key, DOWN, dev_addr, fcnt, payload)
    if len(body) + 4 > MAX_FRAME:
        raise ValueError("longer than a LoRa packet can be")
    return body + keys.data_mic(nwk_s_key, DOWN, dev_addr, fcnt, body)


def join_accept(
    app_key: bytes,
    app_nonce: int,
    net_id: int,
    dev_addr: int,
    *,
    rx1_offset: int = 0,
    rx2_data_rate: int = 0,
    rx_delay: int = 1,
    cf_list: bytes = b"",
) -> bytes:
    """The answer to a join-request; ``cf_list`` is empty or 16 bytes."""
    if len(cf_list) not in (0, 16):
        raise ValueError("a CFList has 16 bytes")
    settings = (rx1_offset & 7) << 4 | (rx2_data_rate & 15)
    clear = (
        app_nonce.to_bytes(3, "little")
        + net_id.to_bytes(3, "little")
        + dev_addr.to_bytes(4, "little")
        + bytes((settings, rx_delay & 15))
        + cf_list
    )
    head = bytes((JOIN_ACCEPT << 5,))
    return head + keys.decrypt_blocks(app_key, clear + keys.join_mic(app_key, head + clear))
