"""LoRaCenter's customer-server interface as bytes: NUL-delimited JSON (document, chapter 3; sans-IO).

::

    {"CMD":"SENDTO","Token":2,"CsEUI":"AA555A0000000000",...}\\0      \\0 alone keeps the connection alive
     └ a JSON object                                         └ one or more

Reading is tolerant, because the document's own examples are not JSON and clients in the field follow older editions:
names in any case and with blanks around them, the same for the values of CMD and of EUIs, an optional ``0x`` before
hexadecimal numbers, EUIs of 1 to 16 digits, base64 without its padding, one comma too many before a closing bracket.

Writing is strict: compact ASCII JSON, the names as in the document's examples and in their order, EUIs of 16 upper-case
digits, padded base64, exactly one NUL. A known client cuts what it receives at brackets, so no text that we write has
one inside, and all indications are flat.

What a command means is `commands`' business, who may give it `protocol`'s.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from binascii import Error as Base64Error
from binascii import a2b_base64
from collections.abc import Iterator
from typing import Any, Final

from broker.model.jsontext import decode

NUL: Final = b"\0"

#: Largest Token: UINT32 by the document.
MAX_TOKEN: Final = 0xFFFF_FFFF

_EUI = re.compile(r"(?:0[xX])?([0-9A-Fa-f]{1,16})")
_HEX128 = re.compile(r"(?:0[xX])?([0-9A-Fa-f]{1,32})")
_BASE64 = re.compile(r"[A-Za-z0-9+/\s]*={0,2}\s*")
#: A comma with nothing behind it but the end of its object or list. Texts are skipped as a whole, also one that has no
#: end: looking for an end from each quotation mark anew would take the square of the time.
_SPARE_COMMA = re.compile(r'("(?:[^"\\]|\\.)*+(?:"|\\?\Z))|,(?=\s*[}\]])', re.DOTALL)
#: What of a CMD may be echoed.
_CMD = re.compile(r"[A-Z0-9_]{1,32}")


class Malformed(Exception):
    """A frame that is no message. ``reason`` is of names.CLOSE_REASONS, for frames that end the connection."""

    def __init__(self, text: str, reason: str = "malformed") -> None:
        super().__init__(text)
        self.text = text
        self.reason = reason


class FrameDecoder:
    """Cuts a stream at its NULs. Empty frames, which keep the connection alive, are counted and left out."""

    __slots__ = ("_held", "keep_alives", "limit")

    def __init__(self, limit: int) -> None:
        #: Bytes that a frame may have.
        self.limit = limit
        self.keep_alives = 0
        self._held = bytearray()

    @property
    def buffered(self) -> int:
        return len(self._held)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The frames that are complete now. Raises Malformed with ``too_long``; nothing is to be fed after that."""
        held = self._held
        start = 0
        end = data.find(NUL)
        if end >= 0 and held:
            held += data[:end]
            self._check(len(held))
            self._held = bytearray()
            yield bytes(held)
            start = end + 1
            end = data.find(NUL, start)
        while end >= 0:
            self._check(end - start)
            if end == start:
                self.keep_alives += 1
            else:
                yield data[start:end]
            start = end + 1
            end = data.find(NUL, start)
        self._held += data[start:]
        self._check(len(self._held))

    def _check(self, size: int) -> None:
        if size > self.limit:
            raise Malformed(f"a message has at most {self.limit} bytes", "too_long")


class Request:
    """A message of a customer server. ``fields`` has the names in lower case without blanks."""

    __slots__ = ("cmd", "fields", "token")

    def __init__(self, fields: dict[str, Any]) -> None:
        self.fields = fields
        cmd = fields.get("cmd")
        word = cmd.strip().upper() if isinstance(cmd, str) else ""
        #: In upper case; empty when there is none, or none that could be echoed.
        self.cmd = word if _CMD.fullmatch(word) is not None else ""
        #: What is echoed: a number of 32 bits, or such a number in quotes; anything else becomes 0.
        self.token: int | str = _token(fields.get("token"))

    def get(self, name: str) -> Any:
        """A field by its name in lower case, or None."""
        return self.fields.get(name)

    def __repr__(self) -> str:
        return f"<Request {self.cmd}>"


def parse(frame: bytes) -> Request | None:
    """The message in a frame, or None for blanks and for bare numbers, by which old clients keep a connection alive.

    Raises Malformed for what is no JSON object, even with a spare comma forgiven.
    """
    text = frame.strip()
    if not text or (len(text) <= 10 and text.isdigit()):
        return None
    try:
        value = decode(text)
    except ValueError:
        try:
            value = decode(_SPARE_COMMA.sub(lambda found: found[1] or "", text.decode()))
        except ValueError as error:
            raise Malformed(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise Malformed("not a JSON object")
    return Request({name.strip().lower(): field for name, field in value.items()})


def _token(value: Any) -> int | str:
    if isinstance(value, bool):
        return 0
    if isinstance(value, int):
        return value if 0 <= value <= MAX_TOKEN else 0
    if isinstance(value, str) and value.isascii() and value.strip().isdigit() and len(value) <= 10:
        return value.strip()
    return 0


# -- fields ------------------------------------------------------------------------------------------------------------


def eui(value: Any) -> str | None:
    """16 upper-case hexadecimal digits, or None for what is no EUI."""
    if not isinstance(value, str):
        return None
    found = _EUI.fullmatch(value.strip())
    return found[1].upper().zfill(16) if found is not None else None


def challenge(value: Any) -> int | None:
    """The number that a Challenge stands for: up to 32 hexadecimal digits; None for anything else."""
    if not isinstance(value, str):
        return None
    found = _HEX128.fullmatch(value.strip())
    return int(found[1], 16) if found is not None else None


def integer(value: Any, least: int, most: int) -> int | None:
    """A whole number within bounds, also in quotes; None for anything else."""
    if isinstance(value, str):
        text = value.strip()
        value = int(text) if text.isascii() and text.isdigit() and len(text) <= 10 else None
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        return None
    return value


def flag(value: Any) -> bool:
    """True for true, 1 and "true"; anything else is false, as is a missing Confirm."""
    return value is True or value == 1 or (isinstance(value, str) and value.strip().lower() == "true")


def payload(value: Any) -> bytes | None:
    """The bytes of a base64 text in the standard alphabet, padded or not; None for anything else."""
    if not isinstance(value, str) or not value.isascii() or _BASE64.fullmatch(value) is None:
        return None
    text = "".join(value.split()).rstrip("=")
    if len(text) % 4 == 1:
        return None
    try:
        return a2b_base64(text + "=" * (-len(text) % 4))
    except Base64Error:
        return None


# -- writing -----------------------------------------------------------------------------------------------------------

_encode = json.JSONEncoder(ensure_ascii=True, separators=(",", ":")).encode


def message(fields: dict[str, Any]) -> bytes:
    """One frame. Fields that are None are left out."""
    return _encode({name: value for name, value in fields.items() if value is not None}).encode("ascii") + NUL


def answer(
    code: int,
    cmd: str,
    token: int | str,
    text: Any,
    cs_eui: str | None = None,
    dev_eui: str | None = None,
    app_eui: str | None = None,
    **more: Any,
) -> bytes:
    """An answer in the order of the document's examples; ``more`` (Qlen, TXGW, payload) stands before or after MSG.

    ``payload`` follows MSG as in GWCOMSEND, everything else precedes it as in SENDTO.
    """
    data = more.pop("payload", None)
    return message(
        {
            "CODE": code,
            "CsEUI": cs_eui,
            "AppEUI": app_eui,
            "DevEUI": dev_eui,
            "CMD": cmd,
            "Token": token,
            **more,
            "MSG": text,
            "payload": data,
        }
    )


def upload(cs_eui: str, token: int, dev_eui: str, data: bytes, port: int) -> bytes:
    """Uplink data of a device (document 4.10). Made without the general encoder: this is the hot one."""
    return (
        b'{"CODE":1,"CsEUI":"%b","Token":%d,"CMD":"UPLOAD","MSG":"UPLOAD","DevEUI":"%b","payload":"%b","Port":%d}\0'
        % (cs_eui.encode("ascii"), token, dev_eui.encode("ascii"), b64encode(data), port)
    )


def mote_join(cs_eui: str, token: int, dev_eui: str) -> bytes:
    """A mote has joined (document 4.9)."""
    return message(
        {"CODE": 1, "CsEUI": cs_eui, "Token": token, "CMD": "MOTEJOIN", "DevEUI": dev_eui, "MSG": "MOTEJOIN"}
    )


def signal_quality(
    cs_eui: str,
    token: int,
    dev_eui: str,
    direction: str,
    gateway: str | None = None,
    rssi: float | None = None,
    snr: float | None = None,
    noise: float | None = None,
) -> bytes:
    """Signal quality of a mote (document 4.13); ``direction`` is UP or DOWN, ``noise`` only of DOWN. dBm and dB."""
    return message(
        {
            "CODE": 1,
            "CsEUI": cs_eui,
            "Token": token,
            "CMD": "UPLOADSQ",
            "MSG": "UPLOADSQ",
            "DevEUI": dev_eui,
            "Dir": direction,
            "GatewayEui": gateway,
            "Rssi": rssi,
            "Snr": snr,
            "Bgnoise": noise if direction == "DOWN" else None,
        }
    )


def gateway_state(token: int, gateway: str, state: str) -> bytes:
    """A gateway came or went (document 4.15); ``state`` is ONLINE, or the configured word for off-line."""
    return message(
        {"CODE": 1, "Token": token, "CMD": "GWSTATEUPLOAD", "GWEUI": gateway, "STATE": state, "MSG": "GWSTATEUPLOAD"}
    )
