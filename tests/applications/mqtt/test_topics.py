"""The topics of plain MQTT clients."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from broker.applications.mqtt.topics import (
    command_topic,
    device_of,
    presence_topic,
    presence_wanted,
    reply_topic,
    uplink_topic,
)


class Topics(SynchronousTestCase):
    def test_names(self) -> None:
        self.assertEqual(uplink_topic("d", "data"), "devices/d/up/data")
        self.assertEqual(presence_topic("d"), "devices/d/presence")
        self.assertEqual(command_topic("d"), "devices/d/command")
        self.assertEqual(reply_topic("d"), "devices/d/reply")

    def test_whose_topic_it_is(self) -> None:
        for topic, device in (
            ("devices/d/up/data", "d"),
            ("devices/d", "d"),
            ("devices/+/reply", "+"),
            ("devices/#", "#"),
            ("devices/", ""),
            ("devices//command", ""),
            ("devices", ""),
            ("device/d", None),
            ("devicesx/d", None),
            ("/devices/d", None),
            ("+/d/reply", None),
            ("#", None),
            ("Devices/d", None),
        ):
            self.assertEqual(device_of(topic), device, topic)

    def test_whose_presence_is_wanted(self) -> None:
        for topic_filter, wanted in (
            ("devices/d/presence", "d"),
            ("devices/d/#", "d"),
            ("devices/d/+", "d"),
            ("devices/+/presence", ""),
            ("devices/+/+", ""),
            ("devices/+/#", ""),
            ("devices/#", ""),
            ("#", ""),
            ("+/#", ""),
            ("+/+/presence", ""),
            ("+/+/+", ""),
            ("+/d/presence", "d"),
            ("+/d/#", "d"),
            ("devices/d/reply", None),
            ("devices/d", None),
            ("devices", None),
            ("devices/+", None),
            ("devices/d/presence/x", None),
            ("devices/+/up/+", None),
            ("devices//presence", None),
            ("+//#", None),
            ("other/#", None),
            ("+", None),
        ):
            self.assertEqual(presence_wanted(topic_filter), wanted, topic_filter)
