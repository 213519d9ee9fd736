"""Motes that have a session, in memory: by DevEUI and by DevAddr.

A mote that has not joined yet costs nothing here; its join-request is looked up in storage. One that has costs some
hundred bytes: keys and counters, no cipher contexts, no timers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from zope.interface import implementer

from broker.devices.lorawan.gateway import Gateway
from broker.devices.lorawan.mac.parameters import Own, Parameters
from broker.devices.lorawan.mac.state import MacState
from broker.devices.lorawan.regions import Region
from broker.devices.lorawan.windows import Rx
from broker.model.errors import Invalid
from broker.model.interfaces import ITracedLink
from broker.model.messages import Command

PROTOCOL: Final = "lorawan"
#: The windows of a mote that was told of none.
FIRST_RX: Final = Rx(1.0, 0)


class Delivery:
    """The command that is on its way to a mote, from being taken off the queue to its final state."""

    __slots__ = ("command", "confirmed", "ends", "fcnt", "handed", "payload", "port", "tries")

    def __init__(self, command: Command, port: int, payload: bytes, confirmed: bool, fcnt: int) -> None:
        self.command = command
        self.port = port
        self.payload = payload
        self.confirmed = confirmed
        #: The same for all transmissions: it is the same frame.
        self.fcnt = fcnt
        self.tries = 0
        #: A gateway has taken the last transmission, which ends then (monotonic seconds).
        self.handed = False
        self.ends = 0.0


@implementer(ITracedLink)
class Mote:
    """A mote with a session, and the link that the broker knows it by while it is on-line.

    Commands are not given to it: they stay in the queue until a window opens (``window`` 0).
    """

    protocol = PROTOCOL
    window = 0
    #: Seconds from taking a command to what its gateway says.
    answer_timeout = 60.0
    #: Seconds that a confirmed one may wait for its acknowledgement: a class A mote may speak once a day.
    pending_timeout = 7 * 86_400.0

    __slots__ = (
        "ack",
        "answers",
        "app_s_key",
        "begins",
        "checked",
        "class_c",
        "delivery",
        "dev_addr",
        "dev_eui",
        "down",
        "free_at",
        "heard_at",
        "home",
        "live",
        "mac",
        "near",
        "nwk_s_key",
        "otaa",
        "own",
        "port",
        "prompt",
        "region",
        "repeats",
        "reserved",
        "rx",
        "saved",
        "sending",
        "status_at",
        "tell",
        "up",
        "waking",
        "yielded",
    )

    def __init__(
        self, dev_eui: str, dev_addr: int, nwk_s_key: bytes, app_s_key: bytes, region: Region | None, class_c: bool
    ) -> None:
        self.dev_eui = dev_eui
        self.dev_addr = dev_addr
        self.nwk_s_key = nwk_s_key
        self.app_s_key = app_s_key
        #: None: that of the gateway.
        self.region = region
        self.class_c = class_c
        #: A join made this session; else it is as the registration says (ABP).
        self.otaa = False
        #: Its windows as they are now.
        self.rx = FIRST_RX
        #: What a join told it, and the region of that join; what its registration says; shared by many.
        self.begins: Parameters | None = None
        self.home: Region | None = None
        self.own: Own | None = None
        #: What it was asked and has said yes to, if it was asked anything; the settings that this was last seen under.
        self.mac: MacState | None = None
        self.checked = -1
        #: The next counter expected, and the one that is on disk.
        self.up = 0
        self.saved = 0
        #: The next counter of a downlink, and the end of those that are reserved on disk.
        self.down = 0
        self.reserved = 0
        #: Port of its last message.
        self.port = 0
        #: Gateways that heard its last frame, the best first.
        self.near: tuple[Gateway, ...] = ()
        #: How often its last frame came again.
        self.repeats = 0
        #: What the next downlink owes it: an acknowledgement, any frame at all (ADRACKReq), answers to MAC commands.
        self.ack = False
        self.prompt = False
        self.answers = b""
        #: MAC commands had the last frame to themselves while a command was waiting.
        self.yielded = False
        self.delivery: Delivery | None = None
        #: A downlink is being written, or is at a gateway that has not answered.
        self.sending = False
        #: Class C: when its receiver is ours again; whether a look at its queue is planned.
        self.free_at = 0.0
        self.waking = False
        #: Monotonic seconds of its last frame, and of the last question for its status.
        self.heard_at = float("-inf")
        self.status_at = float("-inf")
        self.live: Any = None
        #: Told of each of its frames while it is traced.
        self.tell: Callable[[str, bytes | None, Any], None] | None = None

    def send_command(self, command: Command) -> None:
        """Never called, as the window is 0."""
        raise Invalid("a mote's commands wait for its windows")

    def close_link(self, reason: str) -> None:
        """There is no connection."""

    def trace(self, tell: Callable[[str, bytes | None, Any], None] | None) -> None:
        """See `ITracedLink`."""
        self.tell = tell

    @property
    def peer(self) -> str:
        """The gateway that heard it best."""
        return self.near[0].eui if self.near else ""

    def __repr__(self) -> str:
        return f"<Mote {self.dev_eui} {self.dev_addr:08X}>"


class Motes:
    """All of them. Several may have the same address: the MIC tells whose frame it is."""

    def __init__(self) -> None:
        self._by_eui: dict[str, Mote] = {}
        #: One mote, or a tuple where an address is shared.
        self._by_addr: dict[int, Mote | tuple[Mote, ...]] = {}
        #: Addresses of multicast groups, which no mote is given.
        self.reserved: set[int] = set()

    def __len__(self) -> int:
        return len(self._by_eui)

    def __iter__(self) -> Iterator[Mote]:
        return iter(list(self._by_eui.values()))

    def clear(self) -> None:
        """None of them is known any more."""
        self._by_eui.clear()
        self._by_addr.clear()
        self.reserved.clear()

    def get(self, dev_eui: str) -> Mote | None:
        return self._by_eui.get(dev_eui)

    def at(self, dev_addr: int) -> tuple[Mote, ...]:
        """Those that have this address."""
        found = self._by_addr.get(dev_addr)
        if found is None:
            return ()
        return (found,) if isinstance(found, Mote) else found

    def taken(self, dev_addr: int) -> bool:
        return dev_addr in self._by_addr

    def add(self, mote: Mote) -> None:
        """In the place of an earlier session of the same mote."""
        self.remove(mote.dev_eui)
        self._by_eui[mote.dev_eui] = mote
        others = self.at(mote.dev_addr)
        self._by_addr[mote.dev_addr] = (*others, mote) if others else mote

    def remove(self, dev_eui: str) -> Mote | None:
        mote = self._by_eui.pop(dev_eui, None)
        if mote is not None:
            left = tuple(other for other in self.at(mote.dev_addr) if other is not mote)
            if left:
                self._by_addr[mote.dev_addr] = left[0] if len(left) == 1 else left
            else:
                del self._by_addr[mote.dev_addr]
        return mote
