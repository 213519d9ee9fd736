"""The table [listeners.novacloud] and the guide's times."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from broker.listening.settings import ListenerSettings, Seconds

Window = Annotated[int, Meta(ge=1, le=1000)]


class Settings(ListenerSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """NovaCloud devices. The limit on a line is ``limits.max_message_size``."""

    bind: tuple[str, ...] = ("tcp:8100",)
    #: Also take ``{"type": "auth", "device_id": .., "device_key": ..}`` and acknowledge every line of such devices.
    flat_auth: bool = True
    #: Bytes of a line before the device has proven who it is: nothing but an auth message is expected.
    max_auth_size: Annotated[int, Meta(ge=256)] = 4_096
    #: Malformed lines in a row after which a connection is closed.
    max_malformed: Annotated[int, Meta(ge=1)] = 10
    #: Seconds between heartbeats that the guide calls the least (5.2); faster ones are counted, nothing more.
    heartbeat_fastest: Seconds = 30.0
    #: Seconds without a valid message after which a device counts as late.
    late_after: Seconds = 90.0
    #: Seconds after which it is closed as offline: the guide's 180 and a little grace.
    offline_after: Seconds = 195.0
    #: Seconds after the login at which waiting commands leave if the device has said nothing more.
    ready_after: Seconds = 1.0
    #: Commands that may be unanswered on one connection at once.
    command_window: Window = 32
    #: Seconds from sending a command to its first answer.
    answer_timeout: Seconds = 30.0
    #: Seconds that each "pending" adds.
    pending_timeout: Seconds = 300.0
