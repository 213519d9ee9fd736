"""MAC commands of LoRaWAN 1.0.2 to 1.0.4 (chapter 5), sans-IO.

==========  =====================  ==============  =====================================
CID         from the mote          bytes after it  what the network does
==========  =====================  ==============  =====================================
02          LinkCheckReq           0               answers margin and number of gateways
03          LinkADRAns             1               notes that the mote has its channels
04          DutyCycleAns           0               nothing
05          RXParamSetupAns        1               nothing
06          DevStatusAns           2               a status message: battery and margin
07          NewChannelAns          1               nothing
08          RXTimingSetupAns       0               nothing
09          TxParamSetupAns        0               nothing
0A          DlChannelAns           1               nothing
0D          DeviceTimeReq (1.0.3)  0               answers GPS time
==========  =====================  ==============  =====================================

What follows an unknown command cannot be read, as its length is unknown (5): it is left, and counted by the caller.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

LINK_CHECK: Final = 0x02
LINK_ADR: Final = 0x03
DEV_STATUS: Final = 0x06
DEVICE_TIME: Final = 0x0D

#: Command from a mote -> bytes that follow it.
UPLINK_SIZES: Final = {
    0x02: 0,
    0x03: 1,
    0x04: 0,
    0x05: 1,
    0x06: 2,
    0x07: 1,
    0x08: 0,
    0x09: 0,
    0x0A: 1,
    0x0D: 0,
}
DEV_STATUS_REQ: Final = bytes((DEV_STATUS,))

#: UNIX time of 1980-01-06, and the leap seconds since then, of which GPS time knows nothing.
GPS_EPOCH: Final = 315_964_800
LEAP_SECONDS: Final = 18


def parse_commands(data: bytes) -> tuple[list[tuple[int, bytes]], bool]:
    """The commands as (CID, what follows), and whether all could be read."""
    found: list[tuple[int, bytes]] = []
    at = 0
    while at < len(data):
        size = UPLINK_SIZES.get(data[at])
        end = at + 1 + (size or 0)
        if size is None or end > len(data):
            return found, False
        found.append((data[at], data[at + 1 : end]))
        at = end
    return found, True


def link_check_ans(margin: float, gateways: int) -> bytes:
    """``margin``: dB above what demodulation needs (0..254); ``gateways``: how many heard the request."""
    return bytes((LINK_CHECK, max(0, min(254, int(margin))), max(1, min(255, gateways))))


def link_adr_channels(masks: Iterable[tuple[int, int]], rate: int) -> bytes:
    """LinkADRReq that leave a mote the channels of these (ChMaskCntl, ChMask), in a row (`Region.masks`).

    ``rate``: the data rate that it has; power is the largest, each frame is sent once.
    """
    return b"".join(
        bytes((LINK_ADR, rate << 4)) + mask.to_bytes(2, "little") + bytes((control << 4 | 1,))
        for control, mask in masks
    )


def channels_taken(body: bytes) -> bool:
    """Whether a LinkADRAns says that the channels are right."""
    return bool(body[0] & 1)


def device_time_ans(at: float) -> bytes:
    """``at``: UNIX time of the end of the uplink that asked. GPS seconds (4, LE) and 1/256 seconds (1)."""
    ticks = round((at - GPS_EPOCH + LEAP_SECONDS) * 256)
    return bytes((DEVICE_TIME,)) + (ticks >> 8 & 0xFFFF_FFFF).to_bytes(4, "little") + bytes((ticks & 0xFF,))


def dev_status(body: bytes) -> tuple[int, int]:
    """(battery, margin): 0 mains, 1..254 of full, 255 unknown; margin in dB, -32..31."""
    margin = body[1] & 0x3F
    return body[0], margin - 64 if margin & 0x20 else margin
