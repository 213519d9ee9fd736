"""The command line: all sub-commands, and what becomes of one."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from broker.admin.failures import BROKEN_PIPE, INTERRUPTED, Failure
from broker.admin.options import EXIT_STATUS, Formatter, common, defaults
from broker.admin.output import Output
from broker.admin.plain import safe
from broker.admin.session import Session
from broker.admin.subjects import (
    applications,
    campaigns,
    commands,
    devices,
    events,
    files,
    gateways,
    gizwits_firmware,
    lorawan,
    lorawan_groups,
    messages,
    products,
    quarantine,
    sinks,
    status,
    stream,
    traces,
)

PROGRAM = "broker-admin"
SUBJECTS = (
    status,
    devices,
    products,
    applications,
    commands,
    messages,
    stream,
    quarantine,
    files,
    gateways,
    gizwits_firmware,
    lorawan,
    lorawan_groups,
    campaigns,
    events,
    sinks,
    traces,
)


def parser() -> argparse.ArgumentParser:
    """All sub-commands with their options."""
    made = argparse.ArgumentParser(
        prog=PROGRAM,
        description="The administrator's command line of the broker, over its HTTP API.",
        epilog=f"broker-admin SUBJECT --help and broker-admin SUBJECT VERB --help say more.\n{EXIT_STATUS}",
        formatter_class=Formatter,
        parents=[common()],
        allow_abbrev=False,
    )
    several = made.add_subparsers(dest="subject", required=True, metavar="SUBJECT")
    for subject in SUBJECTS:
        subject.add(several)
    return made


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Ends the process with a message and exit status 2 for what cannot be understood."""
    words = sys.argv[1:] if arguments is None else arguments
    for word in words:
        if any("\ud800" <= one <= "\udfff" for one in word):
            parser().error(f"{safe(word)}: that is no UTF-8")
    # Not as defaults of the parser: those of a sub-command would cover what stands before it.
    return parser().parse_args(words, argparse.Namespace(**defaults()))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit status. Whatever goes wrong is one line on stderr."""
    parsed = parse(arguments)
    session = Session(parsed, Output(parsed.json))
    try:
        status = parsed.run(session) or 0
        sys.stdout.flush()
    except Failure as error:
        _complain(str(error))
        return error.status
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read has gone. What Python would still write at its end goes nowhere, too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except OSError as error:
        _complain(f"stdout: {error.strerror or error}")
        return 1
    return int(status)


def _complain(text: str) -> None:
    print(f"{PROGRAM}: {safe(text)}", file=sys.stderr)
