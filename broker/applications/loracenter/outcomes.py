"""What becomes of a command, in the words of the document: CODE, MSG and gateway.

==========================  ==============================================  ============================================
state                       a mote's                                        another device's
==========================  ==============================================  ============================================
queued                      1 READY SEND (said when it is kept)             the same
pending                     2 SENDED TO GW, TXGW, at each transmission      -
succeeded                   2 as above; nothing more if it was confirmed    2 SENDED TO GW without TXGW
failed                      -6 SEND FAIL n; -7 and the milliseconds         -6 SEND FAIL 11
timed out                   -6 SEND FAIL 8 if confirmed, else 1             -6 SEND FAIL 8
expired                     -6 SEND FAIL 10                                 the same
cancelled                   nothing; -5 if its device was removed           the same
==========================  ==============================================  ============================================

Numbers behind SEND FAIL, which the document leaves open: 1 no gateway, or none that answers; 2 TOO_LATE; 3 TOO_EARLY;
4 COLLISION; 5 TX_FREQ; 6 TX_POWER; 7 GPS_UNLOCKED; 8 not acknowledged in time; 9 too long for the data rate; 10 waited
too long; 11 refused by the device; 12 could not be kept.
"""

from __future__ import annotations

from base64 import b64encode
from typing import Any, Final, NamedTuple

from broker.model.jsontext import encode
from broker.model.messages import CANCELLED, EXPIRED, FAILED, PENDING, SUCCEEDED, TIMED_OUT, Command

MOTE: Final = "lorawan"

NO_GATEWAY: Final = 1
NOT_ACKNOWLEDGED: Final = 8
WAITED_TOO_LONG: Final = 10
REFUSED_BY_DEVICE: Final = 11
NOT_KEPT: Final = 12

SENT: Final = "SENDED TO GW"


class Outcome(NamedTuple):
    """``gateway``: EUI for TXGW."""

    code: int
    text: str
    gateway: str | None = None


def failed(number: int) -> Outcome:
    return Outcome(-6, f"SEND FAIL {number}")


def outcome(command: Command) -> Outcome | None:
    """What a SENDTO's sender hears of the state that its command has now; None for nothing."""
    result = command.result if isinstance(command.result, dict) else {}
    mote = command.protocol == MOTE
    if command.status == PENDING:
        return Outcome(2, SENT, _gateway(result)) if mote else None
    if command.status == SUCCEEDED:
        if mote and command.options.get("confirm"):
            return None
        return Outcome(2, SENT, _gateway(result))
    return _end(command, result)


def _end(command: Command, result: dict[str, Any]) -> Outcome | None:
    mote = command.protocol == MOTE
    if command.status == FAILED:
        code = result.get("code")
        if code == -7:
            return Outcome(-7, str(result.get("wait_ms", 0)))
        return failed(code if mote and isinstance(code, int) else NO_GATEWAY if mote else REFUSED_BY_DEVICE)
    if command.status == TIMED_OUT:
        return failed(NOT_ACKNOWLEDGED if not mote or command.options.get("confirm") else NO_GATEWAY)
    if command.status == EXPIRED:
        return failed(WAITED_TOO_LONG)
    if command.status == CANCELLED and result:
        return Outcome(-5, "DEVEUI ERROR")
    return None


def passed_through(command: Command) -> tuple[Outcome, str | None] | None:
    """The same for a GWCOMSEND, with the payload; None while it is under way."""
    if command.status == SUCCEEDED:
        return Outcome(1, "GWCOMUPLOAD"), _answered(command.result)
    if not command.final:
        return None
    end = _end(command, command.result if isinstance(command.result, dict) else {})
    return (end or failed(NO_GATEWAY)), None


def _gateway(result: dict[str, Any]) -> str | None:
    gateway = result.get("gateway")
    return gateway if isinstance(gateway, str) and gateway else None


def _answered(result: Any) -> str:
    """What a gateway answered, as base64: its ``payload`` where there is one, else all of it as JSON."""
    body = result
    for name in ("ack", "result", "rs485"):
        if isinstance(body, dict) and isinstance(body.get(name), dict):
            body = body[name]
    if isinstance(body, dict) and isinstance(body.get("payload"), str):
        text: str = body["payload"]
        if text.isascii() and text.isprintable() and not set(text) & set('{}"\\'):
            return text
    return b64encode(encode(result)).decode("ascii")
