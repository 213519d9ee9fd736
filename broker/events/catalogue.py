"""The kinds of events. Names are seen from outside, in rules, in webhooks and in ``GET /events``: never rename one.

A test keeps what is emitted and this catalogue equal.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

Severity = Literal["info", "warning", "critical"]


class Kind(msgspec.Struct, frozen=True):
    """``text``: what an operator should read. ``clears``: the kind whose end this one is."""

    severity: Severity
    text: str
    clears: str | None = None


KINDS: Final[dict[str, Kind]] = {
    "device_offline": Kind("warning", "a device is away for longer than its rule allows"),
    "device_online": Kind("info", "a device that was reported offline is back", "device_offline"),
    "gateway_offline": Kind("critical", "a gateway is away for longer than its rule allows, with what is behind it"),
    "gateway_online": Kind("info", "a gateway that was reported offline is back", "gateway_offline"),
    "device_flapping": Kind("warning", "a device comes and goes too often to say whether it is there"),
    "device_steady": Kind("info", "a device that came and went has stopped doing so", "device_flapping"),
    "command_failed": Kind("warning", "a command was refused, timed out or expired; only while a rule names this kind"),
    "quarantine_new": Kind("info", "a device or gateway that nobody has registered was seen for the first time"),
    "certificate_ends": Kind("warning", "the broker's TLS certificate has to be renewed"),
    "storage_problem": Kind("critical", "storage takes no work"),
    "storage_recovered": Kind("info", "storage takes work again", "storage_problem"),
    "campaign_finished": Kind("info", "a campaign has come to its end"),
    "campaign_stopped": Kind("critical", "a campaign has stopped by itself, as too many of its devices failed"),
    "backup_failed": Kind("warning", "a gateway's backup did not come about"),
    "backup_too_old": Kind("warning", "a gateway's newest backup is older than it should be"),
    "gateway_replaced": Kind("info", "a gateway has taken the place of another one"),
    "events_folded": Kind("warning", "more events than a rate limit lets through, told as one; each is in the list"),
    "sink_test": Kind("info", "somebody tries a sink out; this one is in no list"),
}
