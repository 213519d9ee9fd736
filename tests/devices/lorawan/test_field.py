"""What gateways and motes in the field do beside what they should: slow lines, lost joins, answers that do not fit."""

from __future__ import annotations

import errno
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from broker.devices.lorawan.counter import MAX_COUNTER
from broker.devices.lorawan.mac import codec
from tests.devices.lorawan.bed import OTHER, Bed, Forwarder, Mote, join

EUI = "AA00000000000001"
SLOW: dict[str, Any] = {"datr": "SF12BW125"}
#: FRMPayload that just fits at DR0 of EU868.
FULL = bytes(51)
LINK_CHECK = codec.encode(codec.LinkCheckReq())


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.bed = Bed()
        self.gateway = self.bed.forwarder()

    def tearDown(self) -> None:
        self.assertEqual(self.bed.faults, [])

    def read(self, mote: Mote, forwarder: Forwarder | None = None) -> list[Any]:
        return [mote.reads(frame) for frame in (forwarder or self.gateway).frames()]


class SlowLineTests(Case):
    def test_a_late_copy_is_not_answered_again(self) -> None:
        other = self.bed.forwarder(OTHER, "192.0.2.2")
        mote = self.bed.abp()
        self.bed.command(b"first", mote)
        self.bed.command(b"second", mote)
        frame = mote.says(b"x", self.gateway, confirmed=True)
        self.bed.advance(0.6)
        other.hears(frame)
        self.bed.advance(2.0)
        self.assertEqual([down.payload for down in self.read(mote)], [b"first"])
        self.assertEqual(other.frames(), [])
        self.assertEqual((self.bed.counted.late_copies, self.bed.counted.repetitions), (1, 0))
        # The mote heard nothing and says it again: that is answered.
        self.gateway.hears(frame)
        self.bed.advance(2.0)
        (again,) = self.read(mote)
        self.assertEqual((again.payload, again.ack), (b"second", True))
        self.assertEqual((self.bed.counted.late_copies, self.bed.counted.repetitions), (1, 1))
        self.assertEqual(self.bed.heard.payloads(), [b"x"])

    def test_class_c_behind_a_slow_line(self) -> None:
        """Its time has passed when the gateway reads it: then without one, once."""
        mote = self.bed.abp(**{"class": "C"})
        mote.says(b"x", self.gateway)
        self.bed.advance(5)
        self.gateway.answers = ["TOO_EARLY"]
        command = self.bed.command(b"do", mote)
        self.bed.advance(1)
        timed, untimed = self.gateway.sent()
        self.assertIn("tmst", timed)
        self.assertEqual((untimed.get("tmst"), untimed["imme"], timed["data"]), (None, True, untimed["data"]))
        self.assertEqual(command.status, "succeeded")

    def test_class_c_that_is_refused_in_every_way(self) -> None:
        mote = self.bed.abp(**{"class": "C"})
        mote.says(b"x", self.gateway)
        self.bed.advance(5)
        self.gateway.answers = ["TX_FREQ", "TX_FREQ", "", ""]
        command = self.bed.command(b"do", mote)
        self.bed.advance(1)
        self.assertEqual(len(self.gateway.sent()), 2)
        self.assertEqual((command.status, command.result["code"]), ("failed", 5))


class FullFrameTests(Case):
    """What the mote is owed leaves no room for the command."""

    def test_answers_go_first(self) -> None:
        mote = self.bed.abp()
        command = self.bed.command(FULL, mote)
        mote.says(b"x", self.gateway, fopts=LINK_CHECK, **SLOW)
        self.bed.advance(3)
        (down,) = self.read(mote)
        self.assertEqual((down.fopts[:1], down.fport, down.fpending), (LINK_CHECK, None, True))
        self.assertEqual(command.status, "queued")
        mote.says(b"y", self.gateway, **SLOW)
        self.bed.advance(3)
        (down,) = self.read(mote)
        self.assertEqual((down.payload, down.fopts), (FULL, b""))
        self.assertEqual(command.status, "succeeded")

    def test_one_byte_more_never_fits(self) -> None:
        mote = self.bed.abp()
        command = self.bed.command(FULL + b"x", mote)
        mote.says(b"x", self.gateway, fopts=LINK_CHECK, **SLOW)
        self.bed.advance(3)
        (down,) = self.read(mote)
        self.assertEqual(down.fopts[:1], LINK_CHECK)
        self.assertEqual((command.status, command.result["error"]), ("failed", "TOO_LONG"))

    def test_the_same_frame_again_goes_without(self) -> None:
        """Answers in a frame of their own would have a later counter than the frame that is sent again."""
        mote = self.bed.abp()
        command = self.bed.command(FULL, mote, confirm=True)
        mote.says(b"x", self.gateway, **SLOW)
        self.bed.advance(3)
        mote.says(b"y", self.gateway, fopts=LINK_CHECK, **SLOW)
        self.bed.advance(3)
        downs = self.read(mote)
        self.assertEqual([(down.payload, down.fcnt, down.fopts) for down in downs], [(FULL, 0, b"")] * 2)
        self.assertEqual(command.status, "pending")

    def test_our_own_question_waits(self) -> None:
        self.bed = Bed(status_interval=1.0)
        self.gateway = self.bed.forwarder()
        mote = self.bed.abp()
        self.bed.advance(2)
        self.bed.command(FULL, mote)
        for _ in range(2):
            mote.says(b"x", self.gateway, **SLOW)
            self.bed.advance(3)
        full, question = self.read(mote)
        self.assertEqual((full.payload, full.fopts), (FULL, b""))
        self.assertEqual((question.fport, question.fopts), (None, codec.encode(codec.DevStatusReq())))


class JoinTests(Case):
    def test_class_c_waits_for_a_first_frame(self) -> None:
        """Until then nobody knows whether it heard the join-accept, which is sent after five seconds."""
        self.bed.register(**{"class": "C"})
        mote = join(self.bed, self.gateway)
        command = self.bed.command(b"do", mote)
        self.bed.advance(10)
        self.assertEqual((self.gateway.frames(), command.status), ([], "queued"))
        mote.says(b"x", self.gateway)
        self.bed.advance(5)
        self.assertEqual([down.payload for down in self.read(mote)], [b"do"])

    def test_what_was_not_acknowledged_ends_with_the_session(self) -> None:
        self.bed.register()
        mote = join(self.bed, self.gateway)
        command, after = self.bed.command(b"do", mote, confirm=True), self.bed.command(b"after", mote)
        mote.says(b"x", self.gateway)
        self.bed.advance(3)
        self.assertEqual((command.status, len(self.gateway.frames())), ("pending", 1))
        mote = join(self.bed, self.gateway, nonce=2)
        self.assertEqual((command.status, command.result["code"], after.status), ("failed", 8, "queued"))
        mote.says(b"x", self.gateway, ack=True)
        self.bed.advance(3)
        self.assertEqual([(down.payload, down.fcnt) for down in self.read(mote)], [(b"after", 0)])

    def test_new_keys_end_it_too(self) -> None:
        mote = self.bed.abp()
        command = self.bed.command(b"do", mote, confirm=True)
        mote.says(b"x", self.gateway)
        self.bed.advance(3)
        self.successResultOf(self.bed.core.registry.update_device(EUI, {"nwk_s_key": "00" * 16}))
        self.assertEqual((command.status, command.result["error"]), ("failed", "NOT_ACKNOWLEDGED"))

    def test_a_mote_that_becomes_class_c_gets_what_waits(self) -> None:
        mote = self.bed.abp()
        mote.says(b"x", self.gateway)
        self.bed.advance(5)
        command = self.bed.command(b"do", mote)
        self.bed.advance(1)
        self.assertEqual(command.status, "queued")
        self.successResultOf(self.bed.core.registry.update_device(EUI, {"class": "C"}))
        self.bed.advance(1)
        self.assertEqual((command.status, len(self.gateway.frames())), ("succeeded", 1))


class EndOfCountersTests(Case):
    def test_none_is_used_twice(self) -> None:
        mote = self.bed.abp()
        known = self.bed.network.motes.get(EUI)
        assert known is not None
        known.down = known.reserved = MAX_COUNTER - 1
        commands = [self.bed.command(bytes((n,)), mote) for n in range(3)]
        for _ in range(4):
            mote.says(b"x", self.gateway)
            self.bed.advance(3)
        downs = [mote.session.decode(frame, MAX_COUNTER - 1) for frame in self.gateway.frames()]
        self.assertEqual([down.payload for down in downs], [b"\0"])
        self.assertEqual([command.status for command in commands], ["succeeded", "queued", "queued"])
        again = self.bed.again()
        gateway = again.forwarder()
        mote.says(b"x", gateway)
        again.advance(3)
        self.assertEqual(gateway.frames(), [])


class Refusing:
    """A socket that takes nothing."""

    def __init__(self) -> None:
        self.asked = 0

    def write(self, data: bytes, address: tuple[str, int]) -> None:
        self.asked += 1
        raise OSError(errno.EINVAL, "a datagram from port 0 cannot be answered")


class SocketTests(Case):
    def test_what_cannot_be_sent_is_lost_and_what_came_is_not(self) -> None:
        mote = self.bed.abp()
        refusing: Any = Refusing()
        self.bed.socket.transport = refusing
        mote.says(b"x", self.gateway, confirmed=True)
        self.bed.advance(3)
        self.assertEqual(self.bed.heard.payloads(), [b"x"])
        self.assertEqual((refusing.asked, self.bed.counted.unsent), (2, 2))
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_nor_when_the_socket_is_gone(self) -> None:
        mote = self.bed.abp()
        self.bed.socket.transport = None
        mote.says(b"x", self.gateway)
        self.bed.advance(1)
        self.assertEqual(self.bed.heard.payloads(), [b"x"])
