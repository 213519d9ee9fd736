"""``campaigns``: firmware for a fleet, some devices at a time."""

from __future__ import annotations

from typing import Any

from broker.admin.cells import Column, Columns
from broker.admin.client import at
from broker.admin.options import Subject, add_paging, given
from broker.admin.session import Session
from broker.admin.subjects import campaign_watch
from broker.admin.subjects.campaign_plan import add_pace, add_plan, pace_of, plan_of

COLUMNS: Columns = (
    "id",
    "name",
    "state",
    "protocol",
    "version",
    Column("counts", "DONE", show=lambda item: f"{over(item)}/{item.get('total')}", right=True),
    Column("counts.confirmed", "CONFIRMED", right=True),
    Column("failing", right=True),
    "created_at",
    "reason",
)
LINES: Columns = ("device", "state", "since", Column("attempt", right=True), "version", "reported", "reason")
STEPS: Columns = ("at", "state", "note")
CANDIDATES: Columns = ("device", "touched", "online", "version", "reason")
NOTES = """\
A campaign is made as a draft; nothing happens before it is started.

examples:
  broker-admin campaigns create gateway88 relay-2.4.bin --version 2.4 --all-devices --dry-run
  broker-admin campaigns create gateway88 relay-2.4.bin --version 2.4 --query hall --percentage 10 \\
      --concurrency 5 --window '01:00-05:00 Europe/Berlin' --stop-at 5 --until 14d --retries 1 --start
  broker-admin campaigns watch CAMPAIGN
"""


def over(campaign: Any) -> int:
    """Lines that have come to an end."""
    counts = campaign.get("counts") or {}
    return sum(counts.get(state, 0) for state in campaign_watch.OVER)


def add(several: Any) -> None:
    subject = Subject(several, "campaigns", "campaigns: firmware for a fleet, some devices at a time", NOTES)
    parser = subject.verb("list", _list, "campaigns, the newest first", "--state running")
    parser.add_argument("--state", help="draft, running, paused, stopped, finished, cancelled")
    add_paging(parser)
    parser = subject.verb("show", _show, "a campaign and how it stands", "CAMPAIGN")
    parser.add_argument("id")
    parser = subject.verb(
        "create",
        _create,
        "make a campaign, as a draft",
        "gateway88 relay-2.4.bin --version 2.4 --device 02123456789A --device 02123456789B",
        "gizwits 7 --product lamp --percentage 10 --lower-than 2.0 --stop-at 5 --dry-run",
    )
    add_plan(parser)
    add_pace(parser)
    parser.add_argument(
        "--dry-run", action="store_true", help="make none: show whom it would touch, and whom not and why"
    )
    parser.add_argument("--start", action="store_true", help="start it at once")
    add_paging(parser)
    parser = subject.verb("dry-run", _dry_run, "whom a campaign would touch if it were started now", "CAMPAIGN")
    parser.add_argument("id")
    add_paging(parser)
    parser = subject.verb(
        "change",
        _change,
        "change a campaign's pace, name or percentage, also while it runs",
        "CAMPAIGN --concurrency 50",
    )
    parser.add_argument("id")
    parser.add_argument("--name")
    parser.add_argument("--percentage", type=float, help="upwards, once it has begun")
    add_pace(parser)
    parser = subject.verb("lines", _lines, "the devices of a campaign and what has become of each", "CAMPAIGN")
    parser.add_argument("id")
    parser.add_argument(
        "--state", help="waiting, queued, sent, accepted, rebooted, confirmed, failed, no_answer, skipped"
    )
    add_paging(parser)
    parser = subject.verb("line", _line, "what has become of one device, step by step", "CAMPAIGN 02123456789A")
    parser.add_argument("id")
    parser.add_argument("device")
    for name, about, question in (
        ("start", "start a draft", "Start the campaign {}?"),
        ("pause", "begin no more devices for now; those at work go on", ""),
        ("resume", "go on with a campaign that was paused or has stopped", "Go on with the campaign {}?"),
        ("cancel", "begin no more devices, ever; those at work go on to their end", "Cancel the campaign {} for good?"),
    ):
        parser = subject.verb(name, _act, about, "CAMPAIGN")
        parser.add_argument("id")
        parser.set_defaults(action=name, question=question)
    parser = subject.verb("retry", _retry, "try again the devices that have failed or did not answer", "CAMPAIGN")
    parser.add_argument("id")
    parser = subject.verb("remove", _remove, "delete a draft, or a campaign that is over, with its lines", "CAMPAIGN")
    parser.add_argument("id")
    campaign_watch.add(subject)


def _list(session: Session) -> None:
    session.list(at("campaigns"), COLUMNS, given(state=session.arguments.state), empty="no campaigns")


def _show(session: Session) -> None:
    session.output.item(session.client.get(at("campaigns", session.arguments.id)))


def _create(session: Session) -> None:
    arguments = session.arguments
    plan = plan_of(arguments)
    if arguments.dry_run:
        _preview(session, "POST", at("campaigns", "preview"), plan)
        return
    campaign = session.client.call("POST", at("campaigns"), plan)
    if arguments.start:
        session.confirm(f"The campaign {campaign['id']} is made. Start it?")
        campaign = session.client.call("POST", at("campaigns", campaign["id"], "start"))
    session.output.item(campaign)
    if not arguments.start:
        session.output.note(f"it is a draft: broker-admin campaigns start {campaign['id']}")


def _dry_run(session: Session) -> None:
    _preview(session, "GET", at("campaigns", session.arguments.id, "preview"), None)


def _preview(session: Session, method: str, path: str, plan: Any) -> None:
    arguments = session.arguments
    pages = session.client.pages(path, limit=None if arguments.all else arguments.limit, method=method, body=plan)
    count = session.output.table(pages, CANDIDATES, "it is aimed at no device")
    touched, skipped = pages.head.get("touched"), pages.head.get("skipped")
    session.output.note(f"{touched} devices would be touched, {skipped} would not")
    if pages.more:
        session.output.note(f"the first {count}; there are more: --limit N or --all")


def _change(session: Session) -> None:
    arguments = session.arguments
    path = at("campaigns", arguments.id)
    campaign = session.client.get(path)
    body = given(name=arguments.name)
    pace = pace_of(arguments, campaign["pace"])
    if pace != campaign["pace"]:
        body["pace"] = pace
    if arguments.percentage is not None:
        body["targets"] = given(**campaign["targets"]) | {"percentage": arguments.percentage}
    session.output.item(session.client.call("PATCH", path, body))


def _lines(session: Session) -> None:
    arguments = session.arguments
    session.list(at("campaigns", arguments.id, "lines"), LINES, given(state=arguments.state), empty="no such lines")


def _line(session: Session) -> None:
    arguments, output = session.arguments, session.output
    line = session.client.get(at("campaigns", arguments.id, "lines", arguments.device))
    if output.as_json:
        output.json(line)
        return
    output.item({name: value for name, value in line.items() if name != "history"})
    output.heading("history")
    output.table(line.get("history") or (), STEPS)


def _act(session: Session) -> None:
    arguments = session.arguments
    if arguments.question:
        session.confirm(arguments.question.format(arguments.id))
    campaign = session.client.call("POST", at("campaigns", arguments.id, arguments.action))
    session.output.done(campaign, f"{arguments.id} is {campaign['state']}")


def _retry(session: Session) -> None:
    id = session.arguments.id
    answer = session.client.call("POST", at("campaigns", id, "retry"))
    session.output.done(answer, f"{answer['retried']} devices wait for another turn")


def _remove(session: Session) -> None:
    id = session.arguments.id
    session.confirm(f"Delete the campaign {id} with its lines?")
    session.output.done(session.client.call("DELETE", at("campaigns", id)), f"deleted {id}")
