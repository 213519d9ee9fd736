"""What crosses the app WebSocket: JSON objects ``{"cmd", "data"}``, as types and as frames.

======================  ===================================  ==========================================
from the app            answer                               from the broker
======================  ===================================  ==========================================
login_req               login_res                            s2c_raw, s2c_noti    a device said
subscribe_req           subscribe_res                        s2c_ack              it has acknowledged
c2s_raw, c2s_write,                                          s2c_online_status    it came or went
c2s_read, c2s_ack                                            s2c_binding_changed  bound or unbound
ping                    pong                                 s2c_invalid_msg      that was wrong
======================  ===================================  ==========================================
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from broker.applications.gizwits.forms import Byte, Did
from broker.devices.gizwits.codec import MAX_DATA
from broker.listening.frames import text_frame
from broker.model.discreet import Discreet
from broker.model.jsontext import encode

#: Numbers of s2c_invalid_msg besides those of the Open API. Apps know 1009 and 1011; the others are the broker's own.
NOT_A_MESSAGE: Final = (1000, "Invalid message!")
UNKNOWN_COMMAND: Final = (1001, "Unknown command!")
NOT_LOGGED_IN: Final = (1002, "Please login first!")
TOO_MANY: Final = (1003, "Too many connections!")
LOGGED_OUT: Final = (1009, "M2M socket has closed, please login again!")
NO_HEARTBEAT: Final = (1011, "No heartbeat!")

Part = Annotated[str, Meta(min_length=1, max_length=64)]
Sn = Annotated[int, Meta(ge=0, le=0xFFFFFFFF)]
#: A frame: the data, its number, and what stands before it.
Frame = Annotated[list[Byte], Meta(max_length=MAX_DATA + 16)]

ATTRS: Final = "attrs_v4"


class LoginRequest(Discreet, msgspec.Struct, kw_only=True):
    """login_req. ``heartbeat_interval``: seconds."""

    appid: Part
    uid: Part
    token: Part
    p0_type: Literal["attrs_v4", "custom"] = "attrs_v4"
    heartbeat_interval: Annotated[float, Meta(gt=0)] = 180.0
    auto_subscribe: bool = True


class Subscribed(msgspec.Struct, kw_only=True):
    """One of subscribe_req."""

    did: Did


class RawMessage(msgspec.Struct, kw_only=True):
    """c2s_raw: a whole frame."""

    did: Did
    raw: Frame


class WriteRequest(msgspec.Struct, kw_only=True):
    """c2s_write: one of ``attrs`` and ``raw`` (P0 bytes); with ``req_sn`` it wants to be acknowledged."""

    did: Did
    attrs: dict[str, Any] | None = None
    raw: Frame | None = None
    req_sn: Sn | None = None


class ReadRequest(msgspec.Struct, kw_only=True):
    """c2s_read."""

    did: Did
    req_sn: Sn | None = None


class AckMessage(msgspec.Struct, kw_only=True):
    """c2s_ack: the app has got the device's message of this number."""

    did: Did
    req_sn: Sn


def message(cmd: str, data: Any = None) -> bytes:
    """The text of a message."""
    return encode({"cmd": cmd} if data is None else {"cmd": cmd, "data": data})


def framed(cmd: str, data: Any) -> bytes:
    """The whole WebSocket frame."""
    return text_frame(message(cmd, data))
