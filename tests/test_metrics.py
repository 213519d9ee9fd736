"""The exposition: what is counted comes out under its name."""

from collections.abc import Iterator
from typing import Any

from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import SynchronousTestCase

from broker import __version__
from broker.listening.stats import Gauge, ListenerStats
from broker.metrics import Metrics, counters_of
from broker.routing.commands import Commands
from broker.routing.live import LiveDevices
from broker.routing.router import Router


class Site:
    """A listener that counts nothing."""

    name = "web"
    stats = None
    connection_count = 2


class Plain:
    name = "echo"
    connection_count = 3

    def __init__(self) -> None:
        self.stats = ListenerStats()


class MetricsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.router = Router(lambda what, error: None)
        self.devices = LiveDevices(self.router, lambda: 0.0)
        self.commands = Commands(None, self.devices, self.router, lambda: 0.0)  # type: ignore[arg-type]  # never asked
        self.listener = Plain()
        self.figures: dict[str, float] = {}
        self.metrics = Metrics(
            [self.listener, Site()], self.router, self.devices, self.commands, lambda: self.figures, 1234.5
        )

    def samples(self) -> dict[tuple[str, ...], float]:
        """(name, label values ...) -> value"""
        text = self.metrics.exposition().decode()
        found: dict[tuple[str, ...], float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                found[(sample.name, *sample.labels.values())] = sample.value
        return found

    def assertSamples(self, expected: dict[tuple[str, ...], float]) -> None:
        found = self.samples()
        self.assertEqual({name: found.get(name) for name in expected}, expected)

    def test_what_a_protocol_counts_of_its_own(self) -> None:
        own = {"echo_repeats_total": 7.0, "echo_waiting": 2.0}
        self.listener.counters = lambda: own  # type: ignore[attr-defined]  # some listeners have it
        self.assertSamples({("broker_echo_repeats_total",): 7, ("broker_echo_waiting",): 2})

    def test_what_has_labels(self) -> None:
        gauge = Gauge(
            "echo_size_bytes", "How large.", ("room", "wall"), [(("hall", "north"), 5.0), (("cave", "east"), 9.0)]
        )
        self.listener.gauges = lambda: [gauge]  # type: ignore[attr-defined]  # some listeners have it
        self.assertSamples(
            {("broker_echo_size_bytes", "hall", "north"): 5, ("broker_echo_size_bytes", "cave", "east"): 9}
        )

    def test_every_counter_of_a_listener(self) -> None:
        stats = self.listener.stats
        names = {
            "accepted": "broker_connections_accepted_total",
            "authenticated": "broker_logins_total",
            "logins_failed": "broker_logins_failed_total",
            "logins_delayed": "broker_logins_delayed_total",
            "logins_locked_out": "broker_logins_locked_out_total",
            "messages_in": "broker_messages_received_total",
            "messages_out": "broker_messages_sent_total",
            "bytes_in": "broker_received_bytes_total",
            "bytes_out": "broker_sent_bytes_total",
            "malformed": "broker_malformed_total",
            "throttled": "broker_throttled_total",
        }
        reasons = {
            "refused": "broker_connections_refused_total",
            "closed": "broker_connections_closed_total",
            "dropped": "broker_messages_dropped_total",
        }
        self.assertEqual({*names, *reasons, "recent"}, set(ListenerStats.__slots__))
        for number, attribute in enumerate(names, 1):
            setattr(stats, attribute, number)
        stats.refuse("too_many_connections")
        stats.close("idle")
        stats.drop("queue_full", 7)
        self.assertSamples(
            {
                **{(name, "echo"): number for number, name in enumerate(names.values(), 1)},
                ("broker_connections_refused_total", "echo", "too_many_connections"): 1,
                ("broker_connections_closed_total", "echo", "idle"): 1,
                ("broker_messages_dropped_total", "echo", "queue_full"): 7,
                ("broker_connections", "echo"): 3,
                ("broker_connections", "web"): 2,
            }
        )

    def test_routing(self) -> None:
        self.router.uplinks, self.router.faults = 5, 1
        self.devices.online_by_protocol = {"novacloud": 4}
        self.assertSamples(
            {
                ("broker_uplinks_total",): 5,
                ("broker_consumer_faults_total",): 1,
                ("broker_devices_online", "novacloud"): 4,
            }
        )

    def test_commands(self) -> None:
        counters: Any = self.commands.counters
        counters.submitted, counters.ended = 9, {"failed": 2, "succeeded": 3}
        counters.late_replies, counters.unmapped_replies, counters.failed_saves = 4, 5, 6
        self.assertSamples(
            {
                ("broker_commands_open",): 0,
                ("broker_commands_submitted_total",): 9,
                ("broker_commands_ended_total", "failed"): 2,
                ("broker_commands_ended_total", "succeeded"): 3,
                ("broker_command_replies_late_total",): 4,
                ("broker_command_replies_unmapped_total",): 5,
                ("broker_command_saves_failed_total",): 6,
            }
        )

    def test_storage(self) -> None:
        self.figures = {"pending": 3, "commits_total": 8}
        self.assertSamples({("broker_storage_pending",): 3, ("broker_storage_commits_total",): 8})

    def test_events(self) -> None:
        class Figures:
            def counters(self) -> dict[str, float]:
                return {"events_waiting": 2, "events_emitted_total": 7}

            def sink_figures(self) -> Iterator[tuple[str, dict[str, float]]]:
                yield "sink-1", {"sink_queued": 4, "sink_delivered_total": 5}
                yield "sink-2", {"sink_queued": 0, "sink_delivered_total": 1}

        self.metrics._events = Figures()
        self.assertSamples(
            {
                ("broker_events_waiting",): 2,
                ("broker_events_emitted_total",): 7,
                ("broker_event_sink_queued", "sink-1"): 4,
                ("broker_event_sink_queued", "sink-2"): 0,
                ("broker_event_sink_delivered_total", "sink-1"): 5,
            }
        )

    def test_the_process(self) -> None:
        self.metrics.reactor_lag = 0.25
        self.assertSamples(
            {
                ("broker_build_info", __version__): 1,
                ("broker_start_time_seconds",): 1234.5,
                ("broker_reactor_lag_seconds",): 0.25,
            }
        )
        self.assertNotIn(("broker_certificate_expiry_timestamp_seconds",), self.samples())
        self.metrics._certificate_ends = lambda: 99.0
        self.assertSamples({("broker_certificate_expiry_timestamp_seconds",): 99})
        found = self.samples()
        self.assertGreater(found[("process_cpu_seconds_total",)], 0)
        self.assertGreater(found[("process_resident_memory_bytes",)], 0)
        self.assertGreater(found[("process_open_fds",)], 0)

    def test_two_brokers_in_one_process(self) -> None:
        Metrics([], self.router, self.devices, self.commands, dict, 0.0).exposition()
        self.metrics.exposition()
        globally = [family.name for family in REGISTRY.collect()]
        self.assertEqual([name for name in globally if name.startswith("broker")], [])


class CountersOfTests(SynchronousTestCase):
    def test_parts_with_and_without(self) -> None:
        class Part:
            def counters(self) -> dict[str, float]:
                return {"pending": 1.0}

        self.assertEqual(counters_of(Part(), object(), None), {"pending": 1.0})
