"""Motes on ChirpStack: all that are registered so, in memory, by DevEUI.

ChirpStack has their keys and counters; here is what commands and customer servers need: the application for the topic,
the gateways that heard a mote last, the one command that ChirpStack has, and which events came already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import blake2b
from typing import Any, Final

from zope.interface import implementer

from broker.devices.lorawan.identity import Identity
from broker.devices.lorawan.motes import PROTOCOL
from broker.model.errors import Invalid
from broker.model.interfaces import ITracedLink
from broker.model.messages import Command

#: Events of one mote that are known when they come again. MQTT brokers have 20 or 32 of ours on their way at a time.
REMEMBERED: Final = 32
#: Bytes by which one is known.
MARK: Final = 8


class Item:
    """The command that ChirpStack has, as an item of its queue."""

    __slots__ = ("again_at", "command", "confirmed", "refusals", "transmitted", "untaken", "windows")

    def __init__(self, command: Command, transmitted: bool = False) -> None:
        self.command = command
        self.confirmed = bool(command.options.get("confirm"))
        #: A gateway has it; an acknowledgement is waited for.
        self.transmitted = transmitted
        #: Nobody was there to take it: it is handed over again, monotonic seconds from which on.
        self.untaken = False
        self.again_at = 0.0
        #: Windows in which it could have left, and gateways that refused it.
        self.windows = 0
        self.refusals = 0


@implementer(ITracedLink)
class ChirpMote:
    """One mote, and the link that the broker knows it by while it is on-line.

    Commands are not given to it: they stay in the queue until ChirpStack can have them (``window`` 0).
    """

    protocol = PROTOCOL
    window = 0
    #: Seconds that a confirmed one may wait for its acknowledgement: a class A mote may speak once a day.
    pending_timeout = 7 * 86_400.0

    __slots__ = (
        "_answer_timeouts",
        "application",
        "class_c",
        "class_given",
        "dev_eui",
        "heard_at",
        "item",
        "live",
        "marks",
        "near",
        "open_until",
        "pinned",
        "port",
        "present",
        "taking",
        "tell",
    )

    def __init__(self, identity: Identity, answer_timeouts: tuple[float, float]) -> None:
        """``answer_timeouts``: of class A and of class C."""
        self.dev_eui = identity.dev_eui
        self._answer_timeouts = answer_timeouts
        #: The application's id; empty until it is known. Whether it was registered.
        self.application = identity.application
        self.pinned = bool(identity.application)
        self.class_c = identity.class_c
        self.class_given = identity.class_given
        #: EUIs of gateways that heard its last frame, the best first.
        self.near: tuple[str, ...] = ()
        #: Port of its last message.
        self.port = 0
        #: It was heard since it was registered: it has a session, as far as anybody can know.
        self.present = False
        self.marks = b""
        self.item: Item | None = None
        #: A command is on its way to the disk as sent.
        self.taking = False
        #: Monotonic: how long a command can still catch the window of its last frame.
        self.open_until = float("-inf")
        self.heard_at = float("-inf")
        self.live: Any = None
        #: Told of each of its messages while it is traced.
        self.tell: Callable[[str, bytes | None, Any], None] | None = None

    @property
    def answer_timeout(self) -> float:
        """Seconds from handing a command over to what ChirpStack says of it."""
        return self._answer_timeouts[self.class_c]

    def again(self, identity: Identity) -> None:
        """Its registration was changed."""
        if identity.application:
            self.application, self.pinned = identity.application, True
        elif self.pinned:
            self.application, self.pinned = "", False
        if identity.class_given:
            self.class_c = identity.class_c
        self.class_given = identity.class_given

    def new(self, what: bytes) -> bool:
        """Whether this is the first time; it is remembered. ``what``: bytes that no other event of it has."""
        mark = blake2b(what, digest_size=MARK).digest()
        marks = self.marks
        for at in range(0, len(marks), MARK):
            if marks.startswith(mark, at):
                return False
        self.marks = (marks + mark)[-REMEMBERED * MARK :]
        return True

    def send_command(self, command: Command) -> None:
        """Never called, as the window is 0."""
        raise Invalid("a mote's commands wait for ChirpStack")

    def close_link(self, reason: str) -> None:
        """There is no connection."""

    def trace(self, tell: Callable[[str, bytes | None, Any], None] | None) -> None:
        """See `ITracedLink`; what is told are its MQTT messages."""
        self.tell = tell

    def __repr__(self) -> str:
        return f"<ChirpMote {self.dev_eui}>"


class ChirpMotes:
    """All of them."""

    def __init__(self) -> None:
        self._by_eui: dict[str, ChirpMote] = {}

    def __len__(self) -> int:
        return len(self._by_eui)

    def __iter__(self) -> Iterator[ChirpMote]:
        return iter(list(self._by_eui.values()))

    def get(self, dev_eui: str) -> ChirpMote | None:
        return self._by_eui.get(dev_eui)

    def add(self, mote: ChirpMote) -> None:
        self._by_eui[mote.dev_eui] = mote

    def remove(self, dev_eui: str) -> ChirpMote | None:
        return self._by_eui.pop(dev_eui, None)
