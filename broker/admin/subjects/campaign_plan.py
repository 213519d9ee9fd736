"""What a campaign is to do, as options: whom, when, how many at a time."""

from __future__ import annotations

import argparse
import re
from typing import Any, Final

from broker.admin.failures import Misuse
from broker.admin.options import checked, count, deadline, duration, given, json_file, positive, read_file, yes_no

_WINDOW: Final = re.compile(
    r"(?:(?P<days>[a-z]{3}(?:,[a-z]{3})*)\s+)?(?P<begin>\d\d:\d\d)-(?P<end>\d\d:\d\d)(?:\s+(?P<zone>\S+))?"
)


def add_plan(parser: Any) -> None:
    """Whom a campaign is for, and what they get."""
    parser.add_argument("protocol", nargs="?", help="gateway88 or gizwits")
    parser.add_argument("image", nargs="?", help="name of a file, or number of a firmware image")
    parser.add_argument("--body", metavar="FILE", help="the whole plan as JSON (- for stdin); other options go on top")
    parser.add_argument("--name")
    parser.add_argument("--version", help="what a device reports that runs it")
    group = parser.add_argument_group("devices")
    group.add_argument("--device", action="append", metavar="ID", help="may be repeated")
    group.add_argument("--devices-file", metavar="FILE", help="an id a line; - for stdin")
    group.add_argument("--all-devices", action="store_true", help="all of the protocol")
    group.add_argument("--query", metavar="TEXT", help="looked for in id and name")
    group.add_argument("--product", metavar="KEY")
    group.add_argument("--application", metavar="ID", help="devices that are bound to it")
    group.add_argument("--tag")
    group.add_argument("--online", type=yes_no, metavar="yes|no", help="as it is when the campaign is started")
    group.add_argument("--percentage", type=positive, help="so many percent of them, always the same of a version")
    group.add_argument("--from-version", action="append", metavar="VERSION", help="only devices of it; may be repeated")
    group.add_argument("--lower-than", metavar="VERSION", help="only devices of a lower one")
    group.add_argument("--backup", action="store_true", help="make a backup of each device before")
    group.add_argument(
        "--no-require-fetch",
        action="store_true",
        help="believe devices that report the version without having fetched it",
    )


def add_pace(parser: Any) -> None:
    """What may be changed while a campaign runs."""
    group = parser.add_argument_group("pace")
    group.add_argument("--concurrency", type=count, metavar="N", help="devices at work at once")
    group.add_argument("--rate", type=count, metavar="N", help="devices that are begun in any minute")
    group.add_argument("--spread", type=duration, metavar="DURATION", help="each begins at a random moment of so long")
    group.add_argument(
        "--window",
        action="append",
        type=window,
        metavar="WINDOW",
        help="work only then: '[mon,tue] 01:00-05:00 [Europe/Berlin]'; may be repeated (zone left out: UTC)",
    )
    group.add_argument("--stop-at", type=positive, metavar="PERCENT", help="stop when so many have failed")
    group.add_argument("--stop-minimum", type=count, metavar="N", help="fewer that have ended count as so many")
    group.add_argument(
        "--until", type=deadline, metavar="TIME", help="leave out devices that have not come by then, such as 14d"
    )
    group.add_argument("--retries", type=int, metavar="N", help="try devices that have failed so many times more")
    group.add_argument("--retry-after", type=duration, metavar="DURATION", help="after so long")


def _window(text: str) -> dict[str, Any]:
    found = _WINDOW.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no window, such as 'mon,tue 01:00-05:00 Europe/Berlin'")
    made: dict[str, Any] = {"from": found["begin"], "to": found["end"]}
    if found["days"]:
        made["days"] = found["days"].split(",")
    if found["zone"]:
        made["time_zone"] = found["zone"]
    return made


window = checked(_window)


def plan_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """The plan that `add_plan` and `add_pace` describe, as the API takes it. Raises Misuse."""
    plan: dict[str, Any] = {} if arguments.body is None else json_file(arguments.body)
    plan |= given(
        protocol=arguments.protocol,
        image=arguments.image,
        name=arguments.name,
        version=arguments.version,
        backup=arguments.backup or None,
        require_fetch=False if arguments.no_require_fetch else None,
    )
    if "protocol" not in plan or "image" not in plan:
        raise Misuse("a protocol and an image are needed")
    versions = given(any_of=arguments.from_version, lower_than=arguments.lower_than)
    if versions:
        plan["from_versions"] = plan.get("from_versions", {}) | versions
    targets = _targets(arguments, plan.get("targets"))
    if targets is None:
        raise Misuse("devices are needed: --device, --devices-file, a filter such as --query, or --all-devices")
    plan["targets"] = targets
    pace = pace_of(arguments, plan.get("pace", {}))
    return plan | ({"pace": pace} if pace else {})


def _targets(arguments: argparse.Namespace, before: Any) -> dict[str, Any] | None:
    devices = list(arguments.device or ())
    if arguments.devices_file is not None:
        devices += _ids(arguments.devices_file)
    wish = given(
        q=arguments.query,
        product=arguments.product,
        application=arguments.application,
        tag=arguments.tag,
        online=arguments.online,
    )
    if devices and (wish or arguments.all_devices):
        raise Misuse("either a list of devices, or a filter")
    targets: dict[str, Any] | None = before
    if devices:
        targets = {"devices": devices}
    elif wish or arguments.all_devices:
        targets = {"filter": wish}
    if targets is not None and arguments.percentage is not None:
        targets = {**targets, "percentage": arguments.percentage}
    return targets


def _ids(name: str) -> list[str]:
    """Raises Misuse."""
    try:
        text = read_file(name).decode("utf-8")
    except (OSError, ValueError) as error:
        raise Misuse(f"{name}: {getattr(error, 'strerror', None) or error}") from None
    ids = [line.strip() for line in text.splitlines() if line.strip()]
    if not ids:
        raise Misuse(f"{name} names no device")
    return ids


def pace_of(arguments: argparse.Namespace, before: dict[str, Any]) -> dict[str, Any]:
    """``before`` with what was given."""
    pace = before | given(
        concurrency=arguments.concurrency,
        rate=arguments.rate,
        spread=arguments.spread,
        windows=arguments.window,
        ends_at=arguments.until,
    )
    stop = given(percent=arguments.stop_at, minimum=arguments.stop_minimum)
    if stop:
        pace["stop"] = (before.get("stop") or {}) | stop
        if "percent" not in pace["stop"]:
            raise Misuse("--stop-minimum needs --stop-at")
    retries = given(count=arguments.retries, after=arguments.retry_after)
    if retries:
        pace["retries"] = (before.get("retries") or {}) | retries
    return pace
