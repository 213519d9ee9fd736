"""Shared subscriptions: who is picked, whose rights count, when a group comes and goes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from broker.mqtt.shared import SharedGroup, SharedGroups, SharedTurn
from broker.routing.topic_index import TopicIndex


class Session:
    def __init__(self, name: str, room: int = 1000, connected: bool = True, deny: str = "") -> None:
        self.name = name
        self.room = room
        self.connected = connected
        self.deny = deny

    def may_receive(self, topic: str) -> bool:
        return topic != self.deny

    def __repr__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Granted:
    qos: int = 1


class SharedCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.index: TopicIndex[Any, Any] = TopicIndex()
        self.groups: SharedGroups[Session, Granted] = SharedGroups(self.index)

    def join(self, *sessions: Session, qos: int = 1, group: str = "g", topic_filter: str = "a/+") -> None:
        for session in sessions:
            self.groups.join(group, topic_filter, session, Granted(qos))

    def turns(self, topic: str = "a/b") -> list[SharedTurn[Session, Granted]]:
        targets = self.index.route(topic).targets
        return [target.turn(topic) for target, _ in targets if isinstance(target, SharedGroup)]

    def picks(self, count: int, qos: int = 1, topic: str = "a/b") -> str:
        (turn,) = self.turns(topic)
        picked = [turn.pick(qos) for _ in range(count)]
        return "".join("-" if pair is None else pair[0].name for pair in picked)


class PickTests(SharedCase):
    def test_in_turn(self) -> None:
        self.join(Session("a"), Session("b"), Session("c"))
        self.assertEqual(self.picks(7), "abcabca")
        self.assertEqual(self.picks(2, qos=0), "bc")

    def test_in_turn_across_topics(self) -> None:
        self.join(Session("a"), Session("b"))
        self.assertEqual("".join(self.picks(1, topic=f"a/{n}") for n in range(6)), "ababab")

    def test_even_while_rooms_shrink_alike(self) -> None:
        sessions = [Session(name, room=100) for name in "abcd"]
        self.join(*sessions)
        (turn,) = self.turns()
        got: Counter[str] = Counter()
        for _ in range(40):
            pair = turn.pick(1)
            assert pair is not None
            pair[0].room -= 1
            got[pair[0].name] += 1
        self.assertEqual(set(got.values()), {10})

    def test_the_slow_one_gets_less(self) -> None:
        self.join(Session("a"), Session("s", room=1), Session("b"))
        got = Counter(self.picks(30))
        self.assertEqual((got["s"], got["a"] + got["b"]), (0, 30))
        self.assertGreaterEqual(min(got["a"], got["b"]), 10)

    def test_the_full_one_is_passed_over(self) -> None:
        self.join(Session("f", room=0), Session("a"), Session("n", room=-1))
        self.assertEqual(self.picks(5), "aaaaa")

    def test_all_full(self) -> None:
        self.join(Session("a", room=0), Session("b", room=0))
        self.assertEqual(self.picks(4), "abab")

    def test_a_full_one_before_one_that_is_away(self) -> None:
        self.join(Session("w", connected=False), Session("f", room=0))
        self.assertEqual(self.picks(3), "fff")

    def test_who_is_away_only_if_nobody_is_there(self) -> None:
        gone = Session("g", connected=False)
        here = Session("h")
        self.join(gone, here)
        self.assertEqual(self.picks(3), "hhh")
        self.assertEqual(self.picks(3, qos=0), "hhh")
        here.connected = False
        self.assertEqual(Counter(self.picks(4)), {"g": 2, "h": 2})
        self.assertEqual(self.picks(2, qos=0), "--")
        gone.room = 0
        self.assertEqual(self.picks(3), "hhh")
        here.room = 0
        self.assertEqual(len(self.picks(1).strip("-")), 1)

    def test_away_and_granted_qos_0(self) -> None:
        self.join(Session("a", connected=False), Session("b", connected=False), qos=0)
        self.assertEqual(self.picks(2, qos=2), "--")

    def test_alone(self) -> None:
        alone = Session("a")
        self.join(alone)
        self.assertEqual(self.picks(2, qos=0), "aa")
        alone.connected = False
        self.assertEqual(self.picks(1, qos=0), "-")
        self.assertEqual(self.picks(1, qos=1), "a")

    def test_each_with_its_own_options(self) -> None:
        self.join(Session("a"), qos=0)
        self.join(Session("b"), qos=2)
        (turn,) = self.turns()
        self.assertEqual([pair[1].qos for pair in (turn.pick(2), turn.pick(2)) if pair], [0, 2])


class GroupTests(SharedCase):
    def test_rights_are_each_members_own(self) -> None:
        self.join(Session("a", deny="a/b"), Session("b"), Session("c"))
        self.assertEqual(self.picks(4), "bcbc")
        self.assertEqual(set(self.picks(6, topic="a/x")), set("abc"))

    def test_nobody_may(self) -> None:
        self.join(Session("a", deny="a/b"))
        self.assertEqual(self.turns(), [])

    def test_rights_that_change(self) -> None:
        session = Session("a")
        self.join(session, Session("b"))
        session.deny = "a/b"
        self.index.rights_changed()
        self.assertEqual(self.picks(3), "bbb")

    def test_each_group_gets_its_copy(self) -> None:
        self.join(Session("a"), group="one")
        self.join(Session("b"), group="two")
        self.join(Session("c"), group="two", topic_filter="#")
        self.assertEqual(sorted(str(pair[0]) for turn in self.turns() if (pair := turn.pick(1))), ["a", "b", "c"])
        self.assertEqual((len(self.groups), self.index.subscriptions), (3, 3))

    def test_coming_and_going(self) -> None:
        a, b = Session("a"), Session("b")
        for topic_filter in ("a/+", "a/b"):
            self.assertTrue(self.groups.join("g", topic_filter, a, Granted(0)))
            route = self.index.route("a/b")
            self.assertTrue(self.groups.join("g", topic_filter, b, Granted(1)))
            self.assertNotEqual(route.generation, self.index.generation)
            self.assertFalse(self.groups.join("g", topic_filter, a, Granted(2)))
            self.assertEqual(self.index.subscriptions, 1)
            self.assertEqual(Counter(self.picks(4)), {"a": 2, "b": 2})
            self.assertTrue(self.groups.leave("g", topic_filter, a))
            self.assertFalse(self.groups.leave("g", topic_filter, a))
            self.assertEqual(self.picks(2), "bb")
            self.assertIsNotNone(self.groups.get("g", topic_filter))
            self.assertTrue(self.groups.leave("g", topic_filter, b))
            self.assertFalse(self.groups.leave("g", topic_filter, b))
            self.assertIsNone(self.groups.get("g", topic_filter))
            self.assertEqual((self.turns(), len(self.groups), self.index.subscriptions), ([], 0, 0))
