"""Everything that crosses the broker, published to NATS.

::

    <subject>.<device>.up.<kind>     what a device says              the JSON of devices/<id>/up/<kind>
    <subject>.<device>.presence      it came or went                 {"device", "protocol", "online", "reason", "at"}
    <subject>.<device>.command       a command changed its state     the command as the API shows it

    sink        what is published: a consumer of the router          in the reactor's thread
    feed        what waits, and the connection (nats-py)             in a thread with an asyncio loop
    settings    the table [listeners.nats]
"""

from __future__ import annotations

from broker.extension import Core
from broker_nats.settings import Settings
from broker_nats.sink import NatsSink

__all__ = ["NatsSink", "Settings", "build"]


def build(core: Core, settings: Settings) -> NatsSink:
    """What the broker calls once, before anything listens."""
    return NatsSink(core, settings)
