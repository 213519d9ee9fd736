"""``python -m broker.simulate``: devices and applications that are not there, from the command line."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from typing import Final

#: Command -> the module that has it, in the order of the help.
COMMANDS: Final = {
    "demo": "demo",
    "novacloud": "novacloud",
    "gateway88": "gateway88",
    "gizwits": "gizwits",
    "gizwits-app": "gizwits",
    "lorawan": "lorawan",
    "lorawan-day": "lorawan_day",
    "mqtt": "mqtt",
    "customer": "customer",
}


def parser(wanted: str = "") -> argparse.ArgumentParser:
    """All sub-commands with their options, or only the one: loading the others takes longer than a small fleet does."""
    made = argparse.ArgumentParser(
        prog="python -m broker.simulate",
        description="Devices and applications for demos, tests and load.",
        epilog="python -m broker.simulate COMMAND --help says more.",
    )
    several = made.add_subparsers(dest="command", required=True, metavar="COMMAND")
    modules = [COMMANDS[wanted]] if wanted in COMMANDS else COMMANDS.values()
    for module in dict.fromkeys(modules):
        import_module(f"broker.simulate.commands.{module}").add(several)
    return made


def main() -> int:
    arguments = parser(sys.argv[1] if len(sys.argv) > 1 else "").parse_args()
    from twisted.internet import reactor

    status: int = arguments.run(reactor, arguments)
    return status


if __name__ == "__main__":
    sys.exit(main())
