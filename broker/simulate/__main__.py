"""``python -m broker.simulate``: devices and applications that are not there, from the command line."""

from __future__ import annotations

import argparse
import sys

from broker.simulate.commands import customer, demo, gateway88, gizwits, lorawan, lorawan_day, mqtt, novacloud


def parser() -> argparse.ArgumentParser:
    """All sub-commands with their options."""
    made = argparse.ArgumentParser(
        prog="python -m broker.simulate",
        description="Devices and applications for demos, tests and load.",
        epilog="python -m broker.simulate COMMAND --help says more.",
    )
    several = made.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in (demo, novacloud, gateway88, gizwits, lorawan, lorawan_day, mqtt, customer):
        command.add(several)
    return made


def main() -> int:
    arguments = parser().parse_args()
    from twisted.internet import reactor

    status: int = arguments.run(reactor, arguments)
    return status


if __name__ == "__main__":
    sys.exit(main())
