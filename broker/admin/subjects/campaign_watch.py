"""``campaigns watch``: how a campaign goes on, with a bar; elsewhere than on a terminal a line for every change."""

from __future__ import annotations

import time
from typing import Any, Final

from rich.text import Text

from broker.admin.cells import cell
from broker.admin.client import at
from broker.admin.failures import FAILED
from broker.admin.options import Subject, positive
from broker.admin.plain import safe
from broker.admin.session import Session

OVER: Final = ("confirmed", "failed", "no_answer", "skipped")
AT_WORK: Final = ("queued", "sent", "accepted", "rebooted")


def add(subject: Subject) -> None:
    parser = subject.verb(
        "watch",
        _watch,
        "how a campaign goes on, until it is over or has stopped",
        "CAMPAIGN",
        "CAMPAIGN --json --every 10",
        more="The exit status is 0 when it has finished and no device failed. Ctrl-C ends the watching only.",
    )
    parser.add_argument("id")
    parser.add_argument(
        "--every", type=positive, default=1.0, metavar="SECONDS", help="how often to look (default: %(default)s)"
    )


def settled(campaign: Any) -> bool:
    """Whether nothing goes on any more unless somebody does something."""
    counts = campaign.get("counts") or {}
    at_work = sum(counts.get(state, 0) for state in AT_WORK)
    return bool(campaign.get("closed")) or (campaign["state"] in ("finished", "stopped", "cancelled") and not at_work)


def summary(campaign: Any) -> str:
    """Its state and the lines by state, those that there are."""
    counts = campaign.get("counts") or {}
    told = ", ".join(f"{number} {state}" for state, number in counts.items() if number)
    return f"{campaign['state']}: {told or 'no devices yet'}"


def _watch(session: Session) -> int:
    arguments, output = session.arguments, session.output
    before: Any = None
    with output.progress("campaign") as bar:
        while True:
            campaign = session.client.get(at("campaigns", arguments.id))
            done = sum((campaign.get("counts") or {}).get(state, 0) for state in OVER)
            bar.show(done, campaign.get("total") or None, summary(campaign))
            told = (campaign["state"], campaign.get("counts"), campaign.get("closed"))
            if told != before and (output.as_json or not output.is_terminal):
                output.event(campaign, Text.assemble(cell("at", time.time()), "  ", safe(summary(campaign))))
            before = told
            if settled(campaign):
                break
            time.sleep(arguments.every)
    if output.is_terminal and not output.as_json:
        output.line(Text(safe(summary(campaign))))
    if campaign.get("reason"):
        output.note(f"{campaign['state']}: {campaign['reason']}", style="red")
    return 0 if campaign["state"] == "finished" and not campaign.get("failing") else FAILED
