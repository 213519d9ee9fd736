"""The table ``[listeners.gservice]``: what is about devices is `broker.devices.gizwits.settings`."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from broker.devices.gizwits.settings import DeviceSettings
from broker.listening.settings import Limits, Seconds, Size


class UserLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bounds on what apps can make the broker keep."""

    #: Users of one application: anybody who knows its id may make some.
    max_users: Size = 100_000
    #: New users an hour that one address may make; loopback is spared as for other limits.
    max_new_users_per_address: Size = 1_000
    #: Devices that one user may bind.
    max_bindings: Size = 200
    #: Log-ins of one user that are good at once; the oldest ends when there is one more.
    max_tokens: Size = 10
    #: Seconds that a token is good for.
    token_lifetime: Seconds = 604_800.0
    #: Seconds that the clock of a signed request may be off.
    max_clock_skew: Seconds = 300.0
    #: Whether an application's id alone opens what the Open API says it does: id and passcode of a device by product
    #: key and MAC, and a device's last values. Ids are no secret; where this is off, the application has to prove
    #: itself first, with `POST /app/request_token`.
    open_to_ids: bool = True
    #: App WebSockets that one user may have open at once.
    max_sockets: Annotated[int, Meta(ge=1)] = 10
    #: Seconds between two signs of life on the app WebSocket, at most.
    max_heartbeat_interval: Annotated[float, Meta(gt=0, le=180)] = 180.0
    #: Messages that an app's WebSocket may send wrongly in a row before it is closed.
    max_invalid_messages: Size = 20


class Settings(DeviceSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole table."""

    users: UserLimits = UserLimits()
    #: A control message of 65,535 bytes is a list of so many numbers in JSON.
    limits: Limits = Limits(max_message_size=524_288)
