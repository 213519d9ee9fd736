"""The table [listeners.gateway88], and the document's times."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

from msgspec import Meta

from broker.listening.settings import Limits, ListenerSettings, Seconds, Size
from broker.model.windows import Window, zone_of

WhenUnknown = Literal["quarantine", "accept", "refuse"]
Container = Literal[
    "zlib(base64)",
    "zlib",
    "base64(zlib)",
    "gzip(base64)",
    "gzip",
    "base64(gzip)",
    "deflate(base64)",
    "deflate",
    "base64(deflate)",
    "pkzip(base64)",
    "pkzip",
    "base64(pkzip)",
    "base64",
    "json",
]

#: From and to, by the clocks of a place.
_WINDOW: Final = re.compile(r"((?:[01]\d|2[0-3]):[0-5]\d)-((?:[01]\d|2[0-3]):[0-5]\d)", re.ASCII)


class Settings(ListenerSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """0x88 gateways. The limit on a whole frame is ``limits.max_message_size``."""

    bind: tuple[str, ...] = ("tls:30000",)
    limits: Limits = Limits(
        # A gateway that comes back may say nothing before its next heartbeat.
        auth_timeout=45.0,
        max_message_size=1_048_576,
        max_message_rate=100,
        message_burst=1_000,
    )
    #: What becomes of a gateway that is not registered.
    unknown: WhenUnknown = "quarantine"
    #: Connections of such gateways that are kept while they wait; more are refused.
    max_quarantined: Size = 1_000
    #: A gateway without a certificate of its own in the registry is bound to the first that it shows.
    pin_certificates: bool = False
    #: Seconds that the TLS handshake of a connection may take: the half-open ones hold memory.
    handshake_timeout: Seconds = 15.0
    #: Bytes of a frame before the gateway is known: nothing but news about itself is expected.
    max_first_frame: Annotated[int, Meta(ge=256)] = 65_536
    #: Bytes that the JSON in a frame may have: a frame of a megabyte can inflate to a gigabyte.
    max_plain_size: Annotated[int, Meta(ge=1_024)] = 4_194_304
    #: Bytes that are none of a frame after which a connection is closed, and frames that cannot be read.
    max_noise: Size = 65_536
    max_malformed: Size = 10
    #: Seconds that the rest of a frame may take; then the next one is looked for.
    frame_timeout: Seconds = 30.0
    #: How DATA is packed for a gateway that has not shown its own way yet.
    container: Container = "zlib(base64)"
    #: Gateways that leave PacketLen out of the checksum.
    checksum_without_length: bool = False
    #: Seconds without a valid frame after which a gateway counts as late, and after which it is closed as offline.
    late_after: Seconds = 45.0
    offline_after: Seconds = 90.0
    #: Commands that may be unanswered at once: the ids promise no order.
    command_window: Annotated[int, Meta(ge=1, le=64)] = 1
    #: Seconds from the ``ok`` to a firmware update, a backup, a recovery until it has to be done.
    firmware_timeout: Seconds = 1_800.0
    backup_timeout: Seconds = 600.0
    recovery_timeout: Seconds = 1_800.0
    #: A firmware update begins with a backup, and does not happen without it, unless the call says otherwise.
    backup_before_update: bool = False
    #: Seconds between two backups that the broker makes by itself of each gateway; 0: none. ``backup_every`` of a
    #: device counts before this.
    backup_every: Annotated[float, Meta(ge=0)] = 0.0
    #: When they may begin, such as "02:00-05:00" (empty: always), by the clocks of which time zone; how many at once.
    backup_window: str = ""
    backup_time_zone: str = "UTC"
    backups_at_once: Annotated[int, Meta(ge=1, le=1_000)] = 10
    #: Seconds after which the newest backup of a gateway that should have some is too old: an event. 0: never.
    backup_too_old: Annotated[float, Meta(ge=0)] = 604_800.0
    #: What a gateway that reports new devices is sent as remote_control; empty: nothing.
    newdevices_cmd: dict[str, Any] = {}

    def __post_init__(self) -> None:
        backup_windows(self)


def backup_windows(settings: Settings) -> tuple[Window, ...]:
    """When backups may begin; none stand for always. Raises ValueError."""
    text, zone = settings.backup_window, settings.backup_time_zone
    zone_of(zone)
    if not text:
        return ()
    found = _WINDOW.fullmatch(text)
    if found is None:
        raise ValueError(f"backup_window: {text!r} is no time of day such as 02:00-05:00")
    return (Window(begin=found[1], end=found[2], time_zone=zone),)
