"""Topic names, filters and matching: the examples of `broker.mqtt.topics`."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from broker.mqtt import topics as t

levels = st.lists(st.sampled_from(["", "a", "b", "$x", "+", "#"]), min_size=1, max_size=4).map("/".join)


class GrammarTests(SynchronousTestCase):
    def test_names(self) -> None:
        for raw in t.VALID_NAMES:
            self.assertEqual(t.valid_topic_name(raw), raw.decode())
            self.assertEqual(t.valid_topic_filter(raw), raw.decode())
        for raw in t.INVALID_NAMES:
            self.assertIsNone(t.valid_topic_name(raw), raw)

    def test_filters(self) -> None:
        for raw in t.VALID_FILTERS:
            self.assertEqual(t.valid_topic_filter(raw), raw.decode())
        for raw in t.INVALID_FILTERS:
            self.assertIsNone(t.valid_topic_filter(raw), raw)

    def test_text(self) -> None:
        for raw in (b"", b"a+#/", b"\xef\xbb\xbfa", "\u6e29".encode(), b"a\xc2\xa0b", b"\xef\xbf\xbd"):
            self.assertEqual(t.decode_text(raw), raw.decode())
        for raw in (b"\x00", b"\n", b"\x7f", b"\xc2\x85", b"\xff", b"\xed\xa0\x80", b"\xc0\x80", b"\xef\xbf\xbe"):
            self.assertIsNone(t.decode_text(raw), raw)

    def test_shares(self) -> None:
        for text, expected in t.SHARES:
            self.assertIsNotNone(t.valid_topic_filter(text.encode()), text)
            self.assertEqual(t.split_share(text), expected)

    @settings(deadline=None)
    @given(levels)
    def test_a_filter_is_valid_when_each_level_is(self, text: str) -> None:
        parts = text.split("/")
        well_formed = text != "" and "#" not in parts[:-1]
        self.assertEqual(t.valid_topic_filter(text.encode()) is not None, well_formed)


class MatchingTests(SynchronousTestCase):
    def test_examples(self) -> None:
        for topic_filter, topic in t.MATCHING:
            self.assertTrue(t.matches(topic_filter, topic), (topic_filter, topic))
        for topic_filter, topic in t.NOT_MATCHING:
            self.assertFalse(t.matches(topic_filter, topic), (topic_filter, topic))

    def test_the_examples_are_valid(self) -> None:
        for topic_filter, topic in t.MATCHING + t.NOT_MATCHING:
            self.assertEqual(t.valid_topic_filter(topic_filter.encode()), topic_filter)
            self.assertEqual(t.valid_topic_name(topic.encode()), topic)

    @settings(deadline=None)
    @given(levels.filter(lambda s: bool(t.valid_topic_filter(s.encode()))), levels.map(lambda s: s.strip("+#") or "a"))
    def test_like_the_definition_level_by_level(self, topic_filter: str, topic: str) -> None:
        if t.valid_topic_name(topic.encode()) is None:
            return
        self.assertEqual(t.matches(topic_filter, topic), by_recursion(topic_filter, topic))


def by_recursion(topic_filter: str, topic: str) -> bool:
    if topic.startswith("$") and topic_filter[0] in "+#":
        return False

    def step(wanted: list[str], given: list[str]) -> bool:
        if wanted == ["#"]:
            return True
        if not wanted or not given:
            return wanted == given
        return wanted[0] in ("+", given[0]) and step(wanted[1:], given[1:])

    return step(topic_filter.split("/"), topic.split("/"))
