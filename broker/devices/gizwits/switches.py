"""What is particular to the agents of one product, set by an administrator.

``one_packet``: packets to the device are kept apart, for agents that lose the second of two that arrive in one ``recv``
(None: when it logs in as an MQTT 3.1 client, which those agents do). ``max_packet``: the longest MQTT packet that it
takes; the GAgent drops what is over 1,024 bytes. A longer command is refused instead of lost.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta


class Switches(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is particular to the agents of one product."""

    #: Whether packets to a device are kept apart; null: if it logs in as an MQTT 3.1 client.
    one_packet: bool | None = None
    #: Bytes of the longest packet that its devices take, a longer command is refused; 0: no limit.
    max_packet: Annotated[int, Meta(ge=0)] = 0


USUAL = Switches()
