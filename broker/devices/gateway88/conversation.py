"""Who answers what: one gateway's connection as a conversation, sans-IO and without a clock of its own.

::

    a request            answered at once: gateway_info with its echo, everything else with the general acknowledgement
    the same once more   within 20 s, by id and content: answered with the same bytes, not carried out again
    an answer            to what we sent, found by its id: not answered
    an answer to nothing a report: answered like a request
    an acknowledgement   to nothing: never answered
    cannot be decoded    answered with Status 1, so that it is not sent again

    what we send         id 0x80..0xFF; the same bytes at 0, 6 and 12 s unless an answer has come

The gateway's ids and ours are apart (gateways use 1..127, and take an answer to their own question for ours if the ids
are the same). An id of ours is free again when what was sent under it is over, and nothing was sent or heard under it
for 20 s. As many answers as sends, of the same bytes, are one answer; any other second answer is news.

`Sent` outlives the connection: a takeover does not make what was sent through the old one unknown. Answers that are to
be given again are not kept but made again, from the frame that asks and the second in which it was answered first.

The document: "网关与服务器交互规则". What it does not do: look at the meaning (`mapping`), write, close (`protocol`).
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from math import inf
from typing import Any, Final, Literal, TypeAlias

from broker.devices.gateway88 import codec
from broker.devices.gateway88.codec import Message
from broker.devices.gateway88.container import AS_WRITTEN, Flavour, Undecodable
from broker.devices.gateway88.frames import FAILED, OK, VERSION, Acknowledger, Frame

#: Seconds until what is not answered is sent again, and how often it is sent in all (document).
SEND_AGAIN: Final = 6.0
SENDS: Final = 3
#: Seconds after which the last send counts as unanswered: 0, 6, 12, and over at 18.
GIVE_UP: Final = SEND_AGAIN * SENDS
#: Seconds in which the same id with the same content is a repetition; three sends and some delay.
REMEMBER: Final = 20.0
#: Ours are from here to 0xFF.
FIRST_ID: Final = 0x80
IDS: Final = 0x80
#: Seconds for which an answer is still one to what was sent under its id: the longest operation, and a while.
ANSWERABLE: Final = 3_600.0

#: Bytes of a frame that is kept as it is.
SHORT: Final = 256

NOBODY: Final = frozenset({bytes(6), b"\xff" * 6})

Kind: TypeAlias = Literal["request", "repeat", "answer", "report", "stray", "undecodable"]


class Outgoing:
    """Something that we sent. ``key`` is its sender's; ``next_at`` is when it is sent again, as long as it waits."""

    __slots__ = ("answer", "answers", "id", "key", "last_at", "next_at", "raw", "sends", "waits")

    def __init__(self, id: int, key: str, raw: bytes, now: float) -> None:
        self.id = id
        self.key = key
        self.raw = raw
        self.sends = 1
        self.last_at = now
        self.next_at = now + SEND_AGAIN
        self.waits = True
        #: The digest of the first answer, and how many were the same.
        self.answer = b""
        self.answers = 0

    def done(self) -> None:
        """It is not sent again."""
        self.waits = False
        self.raw = b""


class Sent:
    """What was sent to one gateway, by id."""

    __slots__ = ("_next", "by_id")

    def __init__(self) -> None:
        self.by_id: dict[int, Outgoing] = {}
        self._next = 0

    def give_up(self) -> None:
        """Nothing of it is sent again; it may still be answered."""
        for one in self.by_id.values():
            one.done()

    def free_id(self, heard: dict[int, Heard], now: float, is_open: Callable[[str], bool]) -> int | None:
        """An id that means nothing else at the moment; None when there is none."""
        for step in range(IDS):
            id = FIRST_ID + (self._next + step) % IDS
            used, seen = self.by_id.get(id), heard.get(id)
            if used is not None and (used.waits or now - used.last_at < REMEMBER or is_open(used.key)):
                continue
            if seen is not None and now - seen.at < REMEMBER:
                continue
            self._next = (self._next + step + 1) % IDS
            return id
        return None


class Heard:
    """A request that was answered: what it was, and when."""

    __slots__ = ("at", "digest", "utc")

    def __init__(self, digest: bytes, at: float, utc: int) -> None:
        self.digest = digest
        self.at = at
        self.utc = utc


class Incoming:
    """What a frame turned out to be. ``answer`` are the bytes to be sent at once, None for nothing.

    ``message`` is None for a general acknowledgement and for what cannot be decoded; ``outgoing`` is what is answered.
    ``work``: bytes of text that were made of the frame.
    """

    __slots__ = ("answer", "frame", "kind", "message", "outgoing", "work")

    def __init__(
        self,
        kind: Kind,
        frame: Frame,
        message: Message | None = None,
        answer: bytes | None = None,
        outgoing: Outgoing | None = None,
        work: int = 0,
    ) -> None:
        self.kind: Final = kind
        self.frame: Final = frame
        self.message: Final = message
        self.answer: Final = answer
        self.outgoing: Final = outgoing
        self.work: Final = work

    def __repr__(self) -> str:
        return f"<Incoming {self.kind} {self.message!r}>"


def digest_of(raw: bytes) -> bytes:
    """What a frame is known by: itself, or a digest of a long one."""
    return raw if len(raw) <= SHORT else blake2b(raw, digest_size=32).digest()


class Conversation:
    """One connection. ``now`` is monotonic, in seconds; ``limit`` is that of a JSON text."""

    __slots__ = ("_acknowledge", "_checksum_without_length", "_heard", "_limit", "flavour", "mac", "sent")

    def __init__(self, limit: int, flavour: Flavour = AS_WRITTEN, checksum_without_length: bool = False) -> None:
        #: Whose connection it is, from the first valid frame on.
        self.mac = b""
        #: How we write: as the gateway did last.
        self.flavour = flavour
        self.sent = Sent()
        self._heard: dict[int, Heard] = {}
        self._limit = limit
        self._checksum_without_length = checksum_without_length

    def knows(self, frame: Frame) -> bool:
        """Whether this is a frame like those before it; what it is otherwise, `stranger` tells."""
        return frame.mac == self.mac and frame.version == VERSION

    def stranger(self, frame: Frame) -> Literal["version", "mac"] | None:
        """Whether a frame is none of this conversation; the first that is one binds it to its MAC."""
        if frame.version != VERSION:
            return "version"
        if frame.mac != self.mac:
            if self.mac or frame.mac in NOBODY:
                return "mac"
            self.mac = frame.mac
            self._acknowledge = Acknowledger(frame.mac, self._checksum_without_length)
        return None

    def take(self, frame: Frame, now: float, utc: int) -> Incoming:
        """What a frame of this gateway is, and what it is to be answered with; ``utc`` in whole seconds."""
        if not frame.data:
            outgoing = self._asked(frame, now)
            return Incoming("stray" if outgoing is None else "answer", frame, outgoing=outgoing)
        digest = digest_of(frame.raw)
        heard = self._heard.get(frame.id)
        again = heard is not None and heard.digest == digest and now - heard.at < REMEMBER
        if heard is not None and again:
            utc = heard.utc
        try:
            message = codec.read(frame, self._limit)
        except Undecodable as error:
            self._remember(again, frame.id, digest, now, utc)
            answer = self._acknowledge(frame.id, FAILED)
            return Incoming("repeat" if again else "undecodable", frame, None, answer, work=error.work)
        self.flavour = message.flavour
        if message.answers:
            outgoing = None if again else self._asked(frame, now)
            if outgoing is not None:
                return Incoming("answer", frame, message, None, outgoing, message.size)
        self._remember(again, frame.id, digest, now, utc)
        if message.type == codec.GATEWAY_INFO and not message.answers:
            answer = codec.gateway_info_answer(frame, message, utc, self._checksum_without_length)
        else:
            answer = self._acknowledge(frame.id, OK)
        kind: Kind = "repeat" if again else "report" if message.answers else "request"
        return Incoming(kind, frame, message, answer, work=message.size)

    def _asked(self, frame: Frame, now: float) -> Outgoing | None:
        outgoing = self.sent.by_id.get(frame.id)
        return outgoing if outgoing is not None and now - outgoing.last_at < ANSWERABLE else None

    def _remember(self, again: bool, id: int, digest: bytes, now: float, utc: int) -> None:
        if again:
            return
        heard = self._heard
        heard.pop(id, None)
        heard[id] = Heard(digest, now, utc)
        # In the order of their arrival: what is too old goes from the front.
        while now - heard[oldest := next(iter(heard))].at >= REMEMBER:
            del heard[oldest]

    # -- what we send ----------------------------------------------------------------------------------------------

    def order(self, key: str, value: dict[str, Any], now: float, is_open: Callable[[str], bool]) -> Outgoing | None:
        """Something to be sent now; None when every id is in use. Raises ValueError for what JSON cannot hold.

        ``is_open``: whether what was sent with that key may still be answered anew.
        """
        id = self.sent.free_id(self._heard, now, is_open)
        if id is None:
            return None
        raw = codec.request(self.mac, id, value, self.flavour, self._checksum_without_length)
        outgoing = self.sent.by_id[id] = Outgoing(id, key, raw, now)
        return outgoing

    def is_news(self, incoming: Incoming) -> bool:
        """Whether an answer says something that was not said before; from now on nothing is sent again for it."""
        outgoing = incoming.outgoing
        assert outgoing is not None
        digest = digest_of(incoming.frame.raw)
        outgoing.done()
        if not outgoing.answer:
            outgoing.answer = digest
        if outgoing.answer == digest:
            outgoing.answers += 1
            return outgoing.answers == 1 or outgoing.answers > outgoing.sends
        return True

    def due(self, now: float, is_open: Callable[[str], bool]) -> list[Outgoing]:
        """What has to be sent again now; it counts as sent. What is no longer open is done."""
        for one in self.sent.by_id.values():
            if one.waits and not is_open(one.key):
                one.done()
        found = [one for one in self.sent.by_id.values() if one.waits and one.next_at <= now and one.sends < SENDS]
        for one in found:
            one.sends += 1
            one.last_at = now
            one.next_at += SEND_AGAIN
        return found

    def next_due(self) -> float:
        """When `due` gives something next."""
        return min((one.next_at for one in self.sent.by_id.values() if one.waits and one.sends < SENDS), default=inf)
