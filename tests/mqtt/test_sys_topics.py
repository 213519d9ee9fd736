"""The figures under $SYS: which there are, when they are sent, what a subscription finds."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from broker.listening.stats import ListenerStats
from broker.mqtt.sys_topics import PREFIX, SysTopics, usual_figures
from broker.routing.topic_index import TopicIndex


class SysTopicTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.stats = ListenerStats()
        self.index: TopicIndex[Any, Any] = TopicIndex()
        self.now = 5.9
        self.clients = 3
        self.sent: list[tuple[str, bytes]] = []
        figures = usual_figures(self.stats, self.index, {"clients/connected": lambda: self.clients}, lambda: self.now)
        self.topics = SysTopics(figures, lambda topic, payload: self.sent.append((topic, payload)))

    def test_all_at_first_then_what_changed(self) -> None:
        self.topics.publish()
        self.assertEqual(len(self.sent), 10)
        self.assertEqual(self.sent, self.topics.match("$SYS/#"))
        del self.sent[:]
        self.topics.publish()
        self.assertEqual(self.sent, [])
        self.now, self.clients = 15.9, 4
        self.stats.messages_in += 7
        self.stats.drop("queue_full", 2)
        self.topics.publish()
        self.assertEqual(
            {topic.removeprefix(PREFIX): payload for topic, payload in self.sent},
            {
                "uptime": b"15 seconds",
                "clients/connected": b"4",
                "messages/received": b"7",
                "publish/messages/dropped": b"2",
            },
        )

    def test_get(self) -> None:
        self.clients = 12
        self.assertEqual(self.topics.get("$SYS/broker/clients/connected"), b"12")
        self.assertIsNone(self.topics.get("$SYS/broker/clients/none"))
        self.assertIsNone(self.topics.get("clients/connected"))
        version = self.topics.get("$SYS/broker/version")
        assert version is not None
        self.assertTrue(version.startswith(b"broker version "))

    def test_match(self) -> None:
        for topic_filter, count in (
            ("#", 0),
            ("+/broker/uptime", 0),
            ("$SYS/broker/uptime", 1),
            ("$SYS/+/uptime", 1),
            ("$SYS/broker/bytes/+", 2),
            ("$SYS/broker/clients/#", 2),
            ("$SYS/broker/nothing", 0),
            ("$SYSTEM/#", 0),
        ):
            self.assertEqual(len(self.topics.match(topic_filter)), count, topic_filter)
