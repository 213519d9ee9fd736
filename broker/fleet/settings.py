"""The table [campaigns]."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

Seconds = Annotated[float, Meta(gt=0)]


class CampaignSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Campaigns: bounds, and how long each step of a device may take."""

    #: Campaigns that are kept, open and ended ones.
    max_campaigns: Annotated[int, Meta(ge=1)] = 1_000
    #: Devices that one campaign may have at work at once.
    max_concurrency: Annotated[int, Meta(ge=1)] = 1_000
    #: Seconds until an order has left for its device; then the device waits for another turn.
    queue_timeout: Seconds = 120.0
    #: So much longer where a backup goes before.
    backup_timeout: Seconds = 900.0
    #: Seconds from there until the device has answered, or asked.
    answer_timeout: Seconds = 60.0
    #: And until it has fetched the image.
    fetch_timeout: Seconds = 1_800.0
    #: And until it reports the version.
    confirm_timeout: Seconds = 900.0
    #: Seconds that a device is given, once it is connected, to say which version it has, where that decides.
    version_grace: Seconds = 60.0
    #: Seconds for which the clock has to be steady after a jump, until an end date counts.
    clock_settle: Seconds = 600.0
