"""The topic index: what matches, when an answer is worked out again, and what a message costs."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from twisted.trial.unittest import SynchronousTestCase

from broker.mqtt.topics import MATCHING, NOT_MATCHING, matches
from broker.routing.topic_index import Route, TopicIndex

#: filter, topics that it matches, topics that it does not match
TABLE: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("a/b", ("a/b",), ("a", "a/b/c", "a/b/", "/a/b", "A/b")),
    ("a/#", ("a", "a/", "a/b", "a/b/c", "a//"), ("b", "ab", "/a")),
    ("#", ("a", "/", "a/b", "//"), ("$SYS", "$SYS/a")),
    ("+", ("a",), ("/", "a/", "/a", "a/b", "$SYS")),
    ("+/+", ("/", "a/", "/a", "a/b"), ("a", "a/b/c", "$SYS/a")),
    ("/+", ("/", "/a"), ("a", "a/b")),
    ("+/", ("/", "a/"), ("a", "/a", "a/b")),
    ("+/#", ("a", "/", "a/b/c"), ("$SYS", "$SYS/a")),
    ("a/+/c", ("a/b/c", "a//c"), ("a/c", "a/b/b/c", "a/b/c/")),
    ("a/+/#", ("a/b", "a/", "a/b/c/d"), ("a", "b/a")),
    ("a/b/#", ("a/b", "a/b/"), ("a", "a/bb")),
    ("/#", ("/", "/a"), ("a",)),
    ("$SYS/#", ("$SYS", "$SYS/a", "$SYS/a/b"), ("SYS", "$SYSX")),
    ("$SYS/+/b", ("$SYS/a/b", "$SYS//b"), ("$SYS/a", "x/a/b")),
    ("a/$b/#", ("a/$b",), ("a/b",)),
    ("+/$b", ("a/$b",), ("$a/$b",)),
)


class Reader:
    """A subscriber that counts how often it is asked."""

    def __init__(self, name: str = "reader") -> None:
        self.name = name
        self.asked: list[str] = []
        self.hidden: set[str] = set()

    def may_receive(self, topic: str) -> bool:
        self.asked.append(topic)
        return topic not in self.hidden

    def __repr__(self) -> str:
        return self.name


Index = TopicIndex[Reader, Any]


class MatchTests(SynchronousTestCase):
    def test_table(self) -> None:
        for topic_filter, matching, others in TABLE:
            index, reader = Index(), Reader()
            index.subscribe(topic_filter, reader, 1)
            for topic in matching:
                self.assertEqual(index.match(topic), [(reader, 1)], (topic_filter, topic))
            for topic in others:
                self.assertEqual(index.match(topic), [], (topic_filter, topic))

    def test_agrees_with_the_rule(self) -> None:
        for pairs, wanted in ((MATCHING, True), (NOT_MATCHING, False)):
            for topic_filter, topic in pairs:
                index = Index()
                index.subscribe(topic_filter, Reader(), 0)
                self.assertEqual(bool(index.match(topic)), wanted, (topic_filter, topic))

    def test_overlapping_filters_each_count(self) -> None:
        index, reader = Index(), Reader()
        for options, topic_filter in enumerate(("a/b", "a/+", "a/#", "#", "+/b")):
            index.subscribe(topic_filter, reader, options)
        self.assertEqual(sorted(options for _, options in index.route("a/b").targets), [0, 1, 2, 3, 4])

    def test_thirty_thousand_levels(self) -> None:
        index, reader = Index(), Reader()
        topic = "/" * 30_000
        for topic_filter in (topic + "+", topic + "#", "+" + topic):
            index.subscribe(topic_filter, reader, 0)
        self.assertEqual(len(index.match(topic)), 3)
        for topic_filter in (topic + "+", topic + "#", "+" + topic):
            self.assertTrue(index.unsubscribe(topic_filter, reader))
        self.assertTrue(index._root.empty)


class SubscriptionTests(SynchronousTestCase):
    def test_new_or_replaced(self) -> None:
        for topic_filter in ("a/b", "a/+", "a/#", "#", "+"):
            index, reader = Index(), Reader()
            self.assertTrue(index.subscribe(topic_filter, reader, 0))
            self.assertFalse(index.subscribe(topic_filter, reader, 1))
            self.assertEqual(index.subscriptions, 1)

    def test_replaced_options_count_at_once(self) -> None:
        for topic_filter in ("a", "+", "#"):
            index, reader = Index(), Reader()
            index.subscribe(topic_filter, reader, 0)
            index.route("a")
            index.subscribe(topic_filter, reader, 1)
            self.assertEqual(index.route("a").targets, ((reader, 1),))

    def test_options_may_be_anything(self) -> None:
        for options in (None, 0, "", False):
            for topic_filter in ("a", "+", "#", "a/#"):
                index, reader = Index(), Reader()
                index.subscribe(topic_filter, reader, options)
                index.route("a")
                self.assertTrue(index.unsubscribe(topic_filter, reader), (topic_filter, options))
                self.assertEqual((index.subscriptions, index.route("a").targets), (0, ()))

    def test_what_is_not_there_cannot_be_removed(self) -> None:
        index, reader = Index(), Reader()
        for topic_filter in ("a/b", "a/+", "a/#"):
            index.subscribe(topic_filter, reader, 0)
        for topic_filter in ("a", "a/b", "x/+", "a/+/c", "a/+", "#", "a/b/#", "a/#"):
            self.assertFalse(index.unsubscribe(topic_filter, Reader("other")))
        self.assertEqual(index.subscriptions, 3)
        self.assertEqual(len(index.match("a/b")), 3)

    def test_nothing_stays_behind(self) -> None:
        index, reader = Index(), Reader()
        filters = ("a/b/+", "a/b/#", "a/#", "#", "+", "+/+/c", "x", "a/b")
        for topic_filter in filters:
            index.subscribe(topic_filter, reader, 0)
        for topic_filter in filters:
            self.assertTrue(index.unsubscribe(topic_filter, reader))
        self.assertTrue(index._root.empty)
        self.assertEqual(index._exact, {})
        self.assertEqual(index.subscriptions, 0)

    def test_neighbours_stay(self) -> None:
        index, one, two = Index(), Reader("one"), Reader("two")
        for topic_filter in ("a/+/c", "a/+", "a/#"):
            index.subscribe(topic_filter, one, 0)
        index.subscribe("a/+/c", two, 0)
        index.unsubscribe("a/+/c", one)
        self.assertEqual(index.match("a/b/c"), [(one, 0), (two, 0)])
        self.assertEqual(index.match("a/b"), [(one, 0), (one, 0)])


class RouteTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.index, self.reader = Index(), Reader()
        self.matched: list[str] = []
        match = self.index.match

        def counted(topic: str) -> list[tuple[Reader, Any]]:
            self.matched.append(topic)
            return match(topic)

        self.patch(self.index, "match", counted)

    def up_to_date(self, route: Route[Reader, Any]) -> bool:
        return route.generation == self.index.generation

    def test_the_same_route_while_nothing_changes(self) -> None:
        route = self.index.route("a")
        self.assertIs(self.index.route("a"), route)
        self.assertIs(self.index.current(route), route)
        self.assertEqual(self.matched, ["a"])

    def test_an_exact_subscription_touches_its_topic_only(self) -> None:
        one, two = self.index.route("one"), self.index.route("two")
        self.index.subscribe("one", self.reader, 0)
        self.assertFalse(self.up_to_date(one))
        self.assertTrue(self.up_to_date(two))
        self.assertEqual(self.index.current(one).targets, ((self.reader, 0),))
        self.index.unsubscribe("one", self.reader)
        self.assertEqual(self.index.current(one).targets, ())
        self.assertEqual(self.matched, ["one", "two", "one", "one"])

    def test_a_wildcard_subscription_touches_every_topic(self) -> None:
        one, two = self.index.route("one"), self.index.route("two")
        for change in (
            lambda: self.index.subscribe("+", self.reader, 0),
            lambda: self.index.subscribe("+", self.reader, 1),
            lambda: self.index.unsubscribe("+", self.reader),
            self.index.rights_changed,
        ):
            self.index.current(one), self.index.current(two)
            change()
            self.assertFalse(self.up_to_date(one))
            self.assertFalse(self.up_to_date(two))

    def test_removing_nothing_touches_nothing(self) -> None:
        self.index.subscribe("+", self.reader, 0)
        self.index.subscribe("a", self.reader, 0)
        route = self.index.route("a")
        for topic_filter in ("b", "b/+", "+", "a", "#"):
            self.index.unsubscribe(topic_filter, Reader("other"))
        self.assertTrue(self.up_to_date(route))

    def test_the_plan_goes_when_the_targets_change(self) -> None:
        route = self.index.route("a")
        route.plan = "planned"
        self.assertEqual(self.index.route("a").plan, "planned")
        self.index.subscribe("a", self.reader, 0)
        self.assertIsNone(self.index.route("a").plan)

    def test_rights_are_asked_once_a_route(self) -> None:
        self.index.subscribe("+", self.reader, 0)
        self.reader.hidden.add("b")
        for _ in range(3):
            self.assertEqual(self.index.route("a").targets, ((self.reader, 0),))
            self.assertEqual(self.index.route("b").targets, ())
        self.assertEqual(self.reader.asked, ["a", "b"])

    def test_rights_are_asked_again_when_they_change(self) -> None:
        self.index.subscribe("a", self.reader, 0)
        self.index.route("a")
        self.reader.hidden.add("a")
        self.index.rights_changed()
        self.assertEqual(self.index.route("a").targets, ())

    def test_the_oldest_route_goes_first(self) -> None:
        self.index.max_routes = 2
        first = self.index.route("1")
        second = self.index.route("2")
        self.index.route("3")
        self.assertFalse(self.up_to_date(first))
        self.assertTrue(self.up_to_date(second))
        self.assertLessEqual(len(self.index._routes), 2)

    def test_a_route_that_was_dropped_is_not_trusted(self) -> None:
        self.index.max_routes = 1
        held = self.index.route("a")
        self.index.route("b")
        self.index.subscribe("a", self.reader, 0)
        self.assertFalse(self.up_to_date(held))
        replacement = self.index.current(held)
        self.assertIsNot(replacement, held)
        self.assertEqual(replacement.targets, ((self.reader, 0),))

    def test_routes_are_bounded(self) -> None:
        self.index.max_routes = 10
        for number in range(100):
            self.index.route(f"t/{number}")
        self.assertEqual(len(self.index._routes), 10)


class CostTests(SynchronousTestCase):
    """Ten thousand exact and a thousand wildcard subscriptions cost a message no more than ten."""

    def setUp(self) -> None:
        self.index = Index()
        self.readers = [Reader(str(number)) for number in range(100)]
        for number in range(10_000):
            self.index.subscribe(f"devices/{number}/up/data", self.readers[number % 100], 0)
        for number in range(1_000):
            self.index.subscribe(f"sites/{number}/+/#", self.readers[number % 100], 0)
        self.walked = 0
        walk = self.index._walk

        def counted(*args: Any) -> None:
            self.walked += 1
            walk(*args)

        self.patch(self.index, "_walk", counted)

    def test_a_known_route_costs_one_comparison(self) -> None:
        route = self.index.route("devices/77/up/data")
        asked = sum(len(reader.asked) for reader in self.readers)
        walked = self.walked
        for _ in range(1_000):
            self.assertEqual(route.generation, self.index.generation)
            self.assertIs(self.index.route("devices/77/up/data"), route)
        self.assertEqual(self.walked, walked)
        self.assertEqual(sum(len(reader.asked) for reader in self.readers), asked)
        self.assertEqual(route.targets, ((self.readers[77], 0),))

    def test_a_new_route_asks_only_those_that_match(self) -> None:
        self.index.route("sites/5/gate/open")
        self.assertEqual([reader for reader in self.readers if reader.asked], [self.readers[5]])

    def test_a_walk_sees_no_unrelated_branches(self) -> None:
        visited: list[str] = []

        class Children(dict[str, Any]):
            def get(self, key: str, default: Any = None) -> Any:
                visited.append(key)
                return super().get(key, default)

        def watch(node: Any) -> None:
            node.children = Children(node.children)
            for child in node.children.values():
                watch(child)

        watch(self.index._root)
        self.index.match("sites/5/gate/open")
        self.assertLessEqual(len(visited), 10)

    def test_exact_subscriptions_leave_other_routes_alone(self) -> None:
        routes = [self.index.route(f"devices/{number}/up/data") for number in range(100)]
        self.index.subscribe("devices/7/up/data", Reader(), 0)
        stale = [route.topic for route in routes if route.generation != self.index.generation]
        self.assertEqual(stale, ["devices/7/up/data"])


levels = st.sampled_from(["a", "b", "", "$a"])
topics = st.lists(levels, min_size=1, max_size=4).map("/".join).filter(bool)
filters = st.tuples(st.lists(levels | st.just("+"), min_size=1, max_size=4), st.booleans()).map(
    lambda drawn: "/".join([*drawn[0], "#"] if drawn[1] else drawn[0])
).filter(bool) | st.just("#")


class AgainstTheRule(RuleBasedStateMachine):
    """Any sequence of subscriptions: what the index answers is what a look at every filter answers."""

    def __init__(self) -> None:
        super().__init__()
        self.index = Index(max_routes=3)
        self.readers = [Reader(name) for name in "xyz"]
        self.known: dict[tuple[str, Reader], int] = {}
        self.held: dict[str, Route[Reader, Any]] = {}

    @rule(topic_filter=filters, who=st.integers(0, 2), options=st.integers(0, 2))
    def subscribe(self, topic_filter: str, who: int, options: int) -> None:
        key = (topic_filter, self.readers[who])
        assert self.index.subscribe(*key, options) is (key not in self.known)
        self.known[key] = options

    @rule(topic_filter=filters, who=st.integers(0, 2))
    def unsubscribe(self, topic_filter: str, who: int) -> None:
        key = (topic_filter, self.readers[who])
        assert self.index.unsubscribe(*key) is (key in self.known)
        self.known.pop(key, None)

    @rule(who=st.integers(0, 2), topic=topics)
    def change_rights(self, who: int, topic: str) -> None:
        self.readers[who].hidden ^= {topic}
        self.index.rights_changed()

    @rule(topic=topics)
    def publish(self, topic: str) -> None:
        route = self.held.get(topic) or self.index.route(topic)
        if route.generation != self.index.generation:
            route = self.index.current(route)
        self.held[topic] = route
        wanted = [
            (reader.name, options)
            for (topic_filter, reader), options in self.known.items()
            if matches(topic_filter, topic) and topic not in reader.hidden
        ]
        assert sorted((reader.name, options) for reader, options in route.targets) == sorted(wanted)

    @invariant()
    def counted(self) -> None:
        assert self.index.subscriptions == len(self.known)


class AgainstTheRuleTests(SynchronousTestCase):
    @given(st.lists(filters, max_size=12), topics)
    def test_match(self, chosen: list[str], topic: str) -> None:
        index, reader = Index(), Reader()
        for topic_filter in chosen:
            index.subscribe(topic_filter, reader, topic_filter)
        wanted = sorted(topic_filter for topic_filter in set(chosen) if matches(topic_filter, topic))
        self.assertEqual(sorted(options for _, options in index.match(topic)), wanted)

    def test_any_sequence(self) -> None:
        run_state_machine_as_test(
            AgainstTheRule, settings=settings(max_examples=60, stateful_step_count=30, deadline=None)
        )
