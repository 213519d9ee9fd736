"""0x88 messages <-> frames, sans-IO: what a frame says, and the frames that we send.

========================  =====================================================  ==================================
from the gateway          {"type": t, t: {...}}                                  document
========================  =====================================================  ==================================
gateway_info              about itself; answered with an echo and ok             网关初始化连接信息
hb                        memory and disk                                        心跳
newdevices                without content                                        新设备通知
========================  =====================================================  ==================================

========================  =====================================================  ==================================
to the gateway            answered with
========================  =====================================================  ==================================
firmware_update           {"type": t, "status": "ok" or "error"}                 网关固件升级
datafile_backup           the same                                               网关数据文件备份
datafile_recovery         the same                                               数据文件备份恢复
remote_control            {"type": t, "ack": {...}}                              远程控制
========================  =====================================================  ==================================

The law of this file:

* `read` gives a `Message` or raises `container.Undecodable`; any other exception is a bug here.
* An answer is known by what is in it and never by its type, which may be wrong: the key ``ack``, or the key ``status``
  without a body of its own; a frame without DATA is a general acknowledgement. What is answered is known by the id.
* Names may have blanks around them (the document prints them so); what is sent has none.
* An answer fails if the frame's Status is 1, or its ``status`` is not ok, or ``ack.result`` is not 0.
"""

from __future__ import annotations

from typing import Any, Final

from broker.devices.gateway88 import container
from broker.devices.gateway88.container import Flavour
from broker.devices.gateway88.frames import OK, Frame, encode_frame

GATEWAY_INFO: Final = "gateway_info"
HB: Final = "hb"
NEWDEVICES: Final = "newdevices"
FIRMWARE_UPDATE: Final = "firmware_update"
DATAFILE_BACKUP: Final = "datafile_backup"
DATAFILE_RECOVERY: Final = "datafile_recovery"
REMOTE_CONTROL: Final = "remote_control"

#: What only the server sends; from a gateway only answers to it are expected.
OURS: Final = frozenset({FIRMWARE_UPDATE, DATAFILE_BACKUP, DATAFILE_RECOVERY, REMOTE_CONTROL})

#: ``ack.result`` of a command that worked; one that is missing says nothing.
_RESULTS_OK: Final = (None, 0, "0", "")
_TYPE: Final = "type"
_STATUS: Final = "status"
_ACK: Final = "ack"
#: A longer type is cut: it stands in counters' log lines and events.
MAX_TYPE: Final = 64


class Message:
    """A frame's DATA. ``value`` is the whole object with clean keys, ``body`` what stands under its type, if anything.

    ``answers``: it is an answer, by what is in it.
    """

    __slots__ = ("answers", "body", "flavour", "repaired", "size", "type", "value")

    def __init__(self, content: container.Content) -> None:
        value = clean_keys(content.value)
        kind = value.get(_TYPE)
        self.type: Final = kind.strip()[:MAX_TYPE] if isinstance(kind, str) else ""
        self.value: Final = value
        self.body: Final = value.get(self.type) if self.type != _TYPE else None
        self.answers: Final = _ACK in value or (_STATUS in value and self.type not in value)
        self.flavour: Final = content.flavour
        self.repaired: Final = content.repaired
        self.size: Final = content.size

    def __repr__(self) -> str:
        return f"<Message {self.type!r}>"


def clean_keys(value: dict[str, Any]) -> dict[str, Any]:
    """The same with keys that have no blanks around them; of two that become the same, the last stands."""
    for key in value:
        if key != key.strip():
            return {key.strip(): item for key, item in value.items()}
    return value


def read(frame: Frame, limit: int) -> Message:
    """The message in a frame that has DATA; ``limit`` is that of its JSON text. Raises `container.Undecodable`."""
    return Message(container.decode(frame.data, limit))


def outcome(frame: Frame, message: Message | None) -> tuple[bool, Any]:
    """What an answer says: whether it went well, and what there is to tell; None for a general acknowledgement."""
    good = frame.status == OK
    if message is None:
        return good, None
    value = message.value
    status = value.get(_STATUS, "ok")
    if not isinstance(status, str) or status.strip().lower() != "ok":
        good = False
    if _ACK not in value:
        return good, {key: item for key, item in value.items() if key != _TYPE}
    ack = value[_ACK]
    if isinstance(ack, dict) and ack.get("result") not in _RESULTS_OK:
        good = False
    return good, ack


# -- what we send ------------------------------------------------------------------------------------------------------


def gateway_info_answer(frame: Frame, message: Message, utc: int, checksum_without_length: bool = False) -> bytes:
    """What came, exactly, and that it is well; ``utc`` is in whole seconds. A gateway might take it for settings."""
    value = {_TYPE: GATEWAY_INFO, GATEWAY_INFO: message.body, _STATUS: "ok", "utc": utc}
    if GATEWAY_INFO not in message.value:
        del value[GATEWAY_INFO]
    data = container.encode(value, message.flavour)
    return encode_frame(frame.mac, frame.id, data, OK, checksum_without_length)


def remote_control(cmd: Any) -> dict[str, Any]:
    """The order to carry out ``cmd``, whose meaning is between applications and gateways."""
    return {_TYPE: REMOTE_CONTROL, "cmd": cmd}


def firmware_update(version: str, url: str, md5: str) -> dict[str, Any]:
    """The order to fetch and install a firmware image; ``md5`` in lower-case hex digits."""
    body = {"version": version, "firmware_url": url, "firmware_md5": md5}
    return {_TYPE: FIRMWARE_UPDATE, FIRMWARE_UPDATE: body}


def datafile_backup(url: str) -> dict[str, Any]:
    """The order to post the gateway's data to ``url``."""
    return {_TYPE: DATAFILE_BACKUP, DATAFILE_BACKUP: {"backup_url": url}}


def datafile_recovery(url: str, md5: str) -> dict[str, Any]:
    """The order to fetch data and go back to it; ``md5`` in lower-case hex digits."""
    return {_TYPE: DATAFILE_RECOVERY, DATAFILE_RECOVERY: {"recovery_url": url, "recovery_md5": md5}}


def request(mac: bytes, id: int, value: dict[str, Any], flavour: Flavour, checksum_without_length: bool) -> bytes:
    """The frame of an order. Raises ValueError for what JSON cannot hold."""
    return encode_frame(mac, id, container.encode(value, flavour), OK, checksum_without_length)
