"""What every backplane keeps: one suite for the local one and for the one over Redis."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.trial.unittest import TestCase

from broker.model.cluster import Taken
from broker.model.errors import LimitExceeded, Unavailable


class BackplaneContract(TestCase):
    """``make()`` gives a backplane that has been started, a new node each time."""

    def make(self, name: str = "a") -> Deferred[Any]:
        raise NotImplementedError

    @inlineCallbacks
    def test_what_is_taken_is_ours_with_its_note(self) -> Any:
        plane = yield self.make()
        self.assertEqual((yield plane.take("s", "k")), Taken(True, "", ""))
        self.assertEqual((yield plane.take("s", "k", "17")), Taken(True, plane.node, ""))
        self.assertEqual((yield plane.find("s", "k")), Taken(False, plane.node, "17"))
        self.assertEqual((yield plane.find("other", "k")), Taken(False, "", ""))

    @inlineCallbacks
    def test_what_is_left_is_nobodys(self) -> Any:
        plane = yield self.make()
        yield plane.take("s", "k", "17")
        plane.leave("s", "k", "18")
        self.assertEqual((yield plane.find("s", "k")), Taken(False, "", "18"))
        self.assertEqual((yield plane.take("s", "k")), Taken(True, "", "18"))
        plane.leave("s", "k")
        self.assertEqual((yield plane.find("s", "k")), Taken(False, "", ""))
        plane.leave("s", "never")
        self.assertEqual((yield plane.find("s", "never")), Taken(False, "", ""))

    @inlineCallbacks
    def test_what_is_told_comes_back_in_its_order(self) -> Any:
        plane = yield self.make()
        heard: list[Any] = []
        all_there: Deferred[None] = Deferred()

        def hear(node: str, body: bytes) -> None:
            heard.append((node, body))
            if len(heard) == 100:
                all_there.callback(None)

        plane.hear("k", hear)
        for number in range(100):
            plane.tell("k", b"%d" % number)
        yield all_there
        self.assertEqual(heard, [(plane.node, b"%d" % number) for number in range(100)])

    @inlineCallbacks
    def test_nobody_to_ask(self) -> Any:
        plane = yield self.make()
        with self.assertRaises(Unavailable):
            yield plane.ask("nobody.999", "k", b"")

    @inlineCallbacks
    def test_duties(self) -> Any:
        plane = yield self.make()
        self.assertTrue((yield plane.lead("broadcast")))
        self.assertTrue((yield plane.lead("broadcast")))

    @inlineCallbacks
    def test_state(self) -> Any:
        plane = yield self.make()
        self.assertEqual((plane.problem(), plane.held, plane.others()), ("", True, ()))


class CrowdContract(BackplaneContract):
    """And where there can be several."""

    @inlineCallbacks
    def test_one_has_it(self) -> Any:
        a, b = (yield self.make("a")), (yield self.make("b"))
        self.assertTrue((yield a.take("s", "k", "1")).mine)
        self.assertEqual((yield b.take("s", "k", "2")), Taken(False, a.node, "1"))
        b.leave("s", "k")
        self.assertEqual((yield b.find("s", "k")), Taken(False, a.node, "1"))
        a.leave("s", "k", "1")
        yield a.find("s", "k")
        self.assertEqual((yield b.take("s", "k")), Taken(True, "", "1"))

    @inlineCallbacks
    def test_a_crowd_takes_one_thing(self) -> Any:
        planes = []
        for name in "abc":
            planes.append((yield self.make(name)))
        keys = [str(number) for number in range(300)]
        asked = [(plane, plane.take("s", key)) for key in keys for plane in planes]
        owners = []
        for plane, answer in asked:
            taken = yield answer
            if taken.mine:
                owners.append(plane.node)
        self.assertEqual(len(owners), 300)

    @inlineCallbacks
    def test_casts(self) -> Any:
        a, b, c = (yield self.make("a")), (yield self.make("b")), (yield self.make("c"))
        heard: list[Any] = []
        both: Deferred[None] = Deferred()

        def hear(who: str, node: str, body: bytes) -> None:
            heard.append((who, node, body))
            if len(heard) == 3:
                both.callback(None)

        for name, plane in (("a", a), ("b", b), ("c", c)):
            plane.hear("k", lambda node, body, name=name: hear(name, node, body))
        a.cast("k", b"1", b.node)
        a.cast("k", b"2")
        yield both
        self.assertEqual(sorted(heard), [("b", a.node, b"1"), ("b", a.node, b"2"), ("c", a.node, b"2")])

    @inlineCallbacks
    def test_questions_and_errors(self) -> Any:
        a, b = (yield self.make("a")), (yield self.make("b"))

        def answer(node: str, body: bytes) -> bytes:
            if body == b"bad":
                raise LimitExceeded("full", limit="x")
            return node.encode() + body

        b.answer("k", answer)
        self.assertEqual((yield a.ask(b.node, "k", b"!")), a.node.encode() + b"!")
        with self.assertRaises(LimitExceeded) as caught:
            yield a.ask(b.node, "k", b"bad")
        self.assertEqual((caught.exception.message, caught.exception.details), ("full", {"limit": "x"}))
        with self.assertRaises(Unavailable):
            yield a.ask(b.node, "unknown", b"")

    @inlineCallbacks
    def test_one_leads(self) -> Any:
        a, b = (yield self.make("a")), (yield self.make("b"))
        self.assertTrue((yield a.lead("d")))
        self.assertFalse((yield b.lead("d")))
        yield a.stop()
        self.assertTrue((yield b.lead("d")))

    @inlineCallbacks
    def test_what_was_of_one_that_stopped(self) -> Any:
        a, b = (yield self.make("a")), (yield self.make("b"))
        yield a.take("s", "k", "note")
        gone: Deferred[str] = Deferred()
        left: Deferred[str] = Deferred()
        b.watch(gone=gone.callback, left=left.callback)
        a_node = a.node
        yield a.stop()
        self.assertEqual((yield b.take("s", "k")), Taken(True, a_node, "note"))
        self.assertEqual((yield gone), a_node)
        self.assertEqual((yield left), a_node)
