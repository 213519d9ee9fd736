"""0x88 messages -> what the broker speaks: uplinks, last values, info, answers to commands.

================  ============================================================  ==================
from the gateway  becomes                                                       document
================  ============================================================  ==================
hb                Uplink "status"; last values, disk in bytes                   心跳
gateway_info      Uplink "event"; ``info``                                      网关初始化连接信息
newdevices        Uplink "event"                                                新设备通知
anything else     Uplink "event"                                                -
an answer         Reply (`operations`)                                          升级与备份, 远程控制
================  ============================================================  ==================

An uplink's payload is the whole object that came, ``type`` included; ``meta`` says if the JSON had to be mended or the
frame's Status was 1. Secrets in what a gateway tells about itself are masked, in answers too. Numbers in quotes are
taken for numbers, text that is none stays text.

`Session` is what a connection has of its gateway while that is admitted.
"""

from __future__ import annotations

import re
from typing import Any, Final

from twisted.logger import Logger

from broker.core import Core
from broker.devices.gateway88 import codec
from broker.devices.gateway88.conversation import Incoming
from broker.devices.gateway88.counters import Gateway88Counters
from broker.devices.gateway88.masking import masked
from broker.devices.gateway88.operations import Operations
from broker.model.messages import EVENT, STATUS, Uplink
from broker.model.weight import weight
from broker.routing.live import LiveDevice

#: Of hb: what is a number, and what it is multiplied with (document: RAM in bytes, disk in units of 1K).
UNITS: Final = {"totalram": 1, "freeram": 1, "totaldisk": 1024, "freedisk": 1024}
_NUMBER: Final = re.compile(r"\s*[+-]?\d{1,18}(?:\.\d{1,6})?\s*", re.ASCII)
#: What a gateway tells about itself may take so much memory; else only the document's keys are kept.
MAX_INFO: Final = 65_536
INFO_KEYS: Final = ("name", "type", "hwversion", "swversion", "manufacturer", "channel", "netid")
MAX_INFO_TEXT: Final = 256


def heartbeat_values(body: dict[str, Any]) -> dict[str, Any]:
    """The fields of hb as last values: the known ones in bytes, unknown ones as they came."""
    values = {}
    for key, value in codec.clean_keys(body).items():
        unit = UNITS.get(key)
        if unit is None:
            pass
        elif value.__class__ is int:
            value *= unit
        else:
            number = as_number(value)
            value = value if number is None else number * unit
        values[key] = value
    return values


def as_number(value: Any) -> int | float | None:
    """A number, also one in quotes; None for anything else."""
    if isinstance(value, str):
        if _NUMBER.fullmatch(value) is None:
            return None
        return float(value) if "." in value else int(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value


class Session:
    """A gateway that is admitted. ``now`` is in UNIX seconds: when the chunk came that is being read."""

    __slots__ = ("_core", "_counted", "_newdevices_cmd", "_operations", "live")
    log = Logger(namespace="broker.gateway88")

    def __init__(
        self,
        core: Core,
        live: LiveDevice,
        operations: Operations,
        counted: Gateway88Counters,
        newdevices_cmd: dict[str, Any],
    ) -> None:
        self.live = live
        self._core = core
        self._operations = operations
        self._counted = counted
        self._newdevices_cmd = newdevices_cmd

    def take(self, incoming: Incoming, now: float) -> None:
        """Something new from the gateway; it is answered already."""
        message = incoming.message
        # Whatever is not about the gateway itself is between it and applications.
        secretive = message is not None and message.type == codec.GATEWAY_INFO
        if incoming.kind == "answer":
            good, result = codec.outcome(incoming.frame, message)
            outgoing = incoming.outgoing
            assert outgoing is not None
            self._operations.answered(
                self.live.ref.id, outgoing.key, good, masked(result) if secretive else result, now
            )
            return
        if message is None:
            return
        value, body = message.value, message.body
        if message.type == codec.HB and body.__class__ is dict:
            self.live.last_heartbeat = now
            self.live.values.update(heartbeat_values(body), now)
            self._tell(STATUS, incoming, value, now)
            self._operations.alive(self.live.ref.id, now)
            return
        version = None
        if secretive:
            value = masked(value)
            body = value.get(codec.GATEWAY_INFO)
            if isinstance(body, dict):
                body = codec.clean_keys(body)
                version = body.get("swversion")
                self._note_info(body)
        elif not message.answers and message.type not in (codec.NEWDEVICES, codec.HB):
            self._counted.unknown_types += 1
        self._tell(EVENT, incoming, value, now)
        if message.answers:
            good, result = codec.outcome(incoming.frame, message)
            self._operations.reported(self.live.ref.id, message.type, good, result, now)
        elif secretive:
            self._operations.introduced(self.live.ref.id, self.live.info)
            self._operations.alive(self.live.ref.id, now, version)
        elif message.type == codec.NEWDEVICES and self._newdevices_cmd:
            self._operations.ask(self.live.ref.id, self._newdevices_cmd)

    def _tell(self, kind: str, incoming: Incoming, value: dict[str, Any], now: float) -> None:
        meta: dict[str, Any] | None = None
        if incoming.message is not None and incoming.message.repaired:
            self._counted.repaired += 1
            meta = {"repaired": True}
        if incoming.frame.status:
            meta = {**(meta or {}), "status": incoming.frame.status}
        self._core.router.uplink(Uplink(self.live.ref, kind, value, now, None, meta))

    def _note_info(self, body: dict[str, Any]) -> None:
        """What the gateway says about itself replaces what it said before."""
        if weight(body) > MAX_INFO:
            body = {key: body[key] for key in INFO_KEYS if key in body and weight(body[key]) <= MAX_INFO_TEXT}
        self.live.info.clear()
        self.live.info.update(body)
        self.live.info_changed = True
