"""Retained messages: matching against the rule itself, limits, expiry, reading while the store changes."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from broker.mqtt.topics import MATCHING, NOT_MATCHING, matches
from broker.routing.retained import RetainedStore

NOW = 1000.0
LEVELS = st.sampled_from(["", "a", "b", "$S", "long"])
TOPICS = st.lists(LEVELS, min_size=1, max_size=4).map("/".join).filter(bool)
FILTERS = st.tuples(
    st.lists(st.sampled_from(["", "a", "b", "$S", "+", "+"]), min_size=0, max_size=4), st.sampled_from(["", "#"])
).map(lambda parts: "/".join([*parts[0], *filter(None, [parts[1]])]))


@dataclass(frozen=True)
class Message:
    text: str = "m"
    size: int = 1
    expires_at: float | None = None


Store = RetainedStore[Message]


def everything(store: Store, topic_filter: str, limit: int = 3, now: float = NOW) -> list[tuple[str, Message]]:
    cursor = store.match(topic_filter)
    found = []
    while not cursor.finished:
        page = cursor.page(limit, now)
        assert len(page) <= limit
        found += page
    return found


def topics(store: Store, topic_filter: str, limit: int = 3) -> list[str]:
    return sorted(topic for topic, _ in everything(store, topic_filter, limit))


def nodes(store: Store) -> int:
    count, left = 0, [store._root]
    while left:
        children = list((left.pop().children or {}).values())
        count += len(children)
        left += children
    return count


class MatchingTests(SynchronousTestCase):
    def test_the_standards_examples(self) -> None:
        for expected, examples in ((True, MATCHING), (False, NOT_MATCHING)):
            for topic_filter, topic in examples:
                store = Store()
                store.put(topic, Message())
                self.assertEqual(topics(store, topic_filter), [topic] * expected, (topic_filter, topic))

    @settings(max_examples=300, deadline=None)
    @given(st.sets(TOPICS), st.sets(TOPICS), FILTERS.filter(bool), st.integers(1, 5))
    def test_like_the_rule(self, put: set[str], removed: set[str], topic_filter: str, limit: int) -> None:
        store = Store()
        for topic in put:
            self.assertTrue(store.put(topic, Message(topic)))
        for topic in removed:
            self.assertEqual(store.remove(topic), topic in put)
        kept = put - removed
        found = everything(store, topic_filter, limit)
        self.assertEqual(sorted(topic for topic, _ in found), sorted(one for one in kept if matches(topic_filter, one)))
        self.assertTrue(all(message.text == topic for topic, message in found))
        self.assertEqual((len(store), store.bytes), (len(kept), len(kept)))
        for topic in kept:
            store.remove(topic)
        self.assertEqual((len(store), store.bytes, nodes(store)), (0, 0, 0))

    def test_many_levels(self) -> None:
        store = Store()
        deep = "/" * 5000
        store.put(deep, Message())
        self.assertEqual(topics(store, "#"), [deep])
        self.assertEqual(topics(store, "+/#"), [deep])
        store.remove(deep)
        self.assertEqual(nodes(store), 0)


class KeepingTests(SynchronousTestCase):
    def test_the_last_one_stays(self) -> None:
        store = Store()
        store.put("a", Message("one", size=10))
        store.put("a", Message("two", size=3))
        self.assertEqual((len(store), store.bytes), (1, 3))
        self.assertEqual(store.get("a", NOW), Message("two", size=3))
        self.assertEqual(everything(store, "+"), [("a", Message("two", size=3))])
        self.assertIsNone(store.get("b", NOW))

    def test_most_messages(self) -> None:
        store = Store(max_messages=2)
        self.assertTrue(store.put("a", Message()))
        self.assertTrue(store.put("b", Message()))
        self.assertFalse(store.put("c", Message()))
        self.assertTrue(store.put("a", Message("new")))
        self.assertEqual((topics(store, "#"), store.bytes), (["a", "b"], 2))
        store.remove("b")
        self.assertTrue(store.put("c", Message()))

    def test_most_bytes(self) -> None:
        store = Store(max_bytes=10)
        self.assertTrue(store.put("a", Message("old", size=6)))
        self.assertFalse(store.put("b", Message(size=5)))
        self.assertTrue(store.put("b", Message(size=4)))
        self.assertFalse(store.put("a", Message(size=7)))
        self.assertEqual(store.get("a", NOW), Message("old", size=6))
        self.assertTrue(store.put("a", Message(size=5)))
        self.assertEqual(store.bytes, 9)

    def test_expiry(self) -> None:
        gone: list[str] = []
        store = Store(expired=gone.append)
        for topic, at in (("a", NOW), ("b", NOW + 1), ("c", None), ("d", NOW - 5), ("e", NOW)):
            store.put(topic, Message(expires_at=at))
        self.assertIsNone(store.get("a", NOW))
        self.assertEqual(topics(store, "+"), ["b", "c"])
        self.assertEqual((gone, len(store), store.bytes), (["a", "d", "e"], 2, 2))
        store.put("b", Message("for ever"))
        self.assertEqual(store.sweep(NOW + 100), 0)
        store.put("c", Message(expires_at=NOW + 100))
        self.assertEqual(store.sweep(NOW + 99), 0)
        self.assertEqual(store.sweep(NOW + 100), 1)
        self.assertEqual((gone[3:], topics(store, "#")), (["c"], ["b"]))


class ReadingTests(SynchronousTestCase):
    def test_while_the_store_changes(self) -> None:
        chance = random.Random(5)
        store = Store()
        lasting = {f"s/{n % 7}/{n}" for n in range(200)}
        for topic in sorted(lasting):
            store.put(topic, Message("old"))
        cursor = store.match("s/#")
        found: list[tuple[str, Message]] = []
        others: set[str] = set()
        while not cursor.finished:
            found += cursor.page(3, NOW, max_steps=5)
            for _ in range(5):
                topic = f"s/{chance.randrange(9)}/{chance.choice('xyz')}{chance.randrange(50)}"
                if topic in others and chance.random() < 0.5:
                    others.discard(topic)
                    store.remove(topic)
                else:
                    others.add(topic)
                    store.put(topic, Message("new"))
            store.put(chance.choice(sorted(lasting)), Message("renewed"))
        given = [topic for topic, _ in found]
        self.assertEqual(len(given), len(set(given)))
        self.assertEqual(lasting - set(given), set())
        self.assertIn("renewed", {message.text for _, message in found})

    def test_what_went_before_its_turn_is_not_given(self) -> None:
        store = Store()
        for n in range(9):
            store.put(f"a/{n}", Message())
        cursor = store.match("+/+")
        first = cursor.page(4, NOW)
        for n in range(9):
            store.remove(f"a/{n}")
        store.put("a/8", Message())
        self.assertEqual(len(first), 4)
        rest = cursor.page(9, NOW)
        self.assertTrue(cursor.finished)
        self.assertLessEqual({topic for topic, _ in rest}, {"a/8"})

    def test_a_long_way_to_nothing_comes_in_pieces(self) -> None:
        store = Store()
        for n in range(500):
            store.put(f"{n}/a", Message())
        cursor = store.match("+/b")
        pages = 0
        while not cursor.finished:
            self.assertEqual(cursor.page(10, NOW, max_steps=100), [])
            pages += 1
        self.assertGreaterEqual(pages, 5)

    def test_readers_share_the_names(self) -> None:
        store = Store()
        for n in range(100):
            store.put(f"{n}", Message())
        cursors = [store.match("+") for _ in range(10)]
        for cursor in cursors:
            cursor.page(1, NOW)
        self.assertIs(store._root.names(), store._root.names())

    def test_no_page_takes_long(self) -> None:
        """A hundred thousand messages: hardly a page takes as long as anybody would notice."""
        store = Store()
        for n in range(100_000):
            store.put(f"d/{n}/s", Message())
        for topic_filter in ("#", "d/+/s", "d/+/none"):
            cursor, count = store.match(topic_filter), 0
            times = []
            while not cursor.finished:
                begun = time.thread_time()
                count += len(cursor.page(1000, NOW))
                times.append(time.thread_time() - begun)
            self.assertEqual(count, 0 if "none" in topic_filter else 100_000)
            # A page or two may have had to collect the garbage of everything that ran before.
            self.assertGreater(len(times), 10)
            self.assertLess(sorted(times)[-3], 0.1)
