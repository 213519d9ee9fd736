"""A webhook's target that is down, and kill -9 of the broker: nothing is lost, and nothing comes twice after its 2xx.

The broker is a real process; the hour is shortened by the settings, which only shorten the pauses between attempts.
"""

from __future__ import annotations

import json
import socket
import time
from collections import Counter
from pathlib import Path
from typing import Any

from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.events.receiver import SECRET, Answer, Receiver, Request
from tests.real import RealBroker, eventually

DEVICES = 40
SETTINGS = {
    "events.offline_after": "0.2",
    "events.debounce": "0",
    "events.restart_grace": "0",
    "events.flap_count": "100",
    "events.retry_first": "0.05",
    "events.retry_longest": "0.3",
}


class Fleet:
    """NovaCloud devices that say who they are, and nothing more."""

    def __init__(self, broker: RealBroker, count: int) -> None:
        self._broker = broker
        self._sockets: dict[str, socket.socket] = {}
        lines = "\n".join(
            json.dumps({"protocol": "novacloud", "id": f"00000000-0000-0000-0000-{n:012d}", "secret": "key-of-it"})
            for n in range(count)
        )
        status, answer = broker.call("POST", "/devices/import", lines.encode())
        assert status == 200 and answer["created"] == count, answer
        self.ids = [f"00000000-0000-0000-0000-{n:012d}" for n in range(count)]

    def come(self) -> None:
        for id in self.ids:
            one = socket.create_connection(("127.0.0.1", self._broker.ports["novacloud"]), timeout=30)
            one.sendall(json.dumps({"type": "auth", "payload": {"device_id": id, "device_key": "key-of-it"}}).encode())
            one.sendall(b"\n")
            assert b"success" in one.recv(4096)
            self._sockets[id] = one

    def go(self, ids: list[str]) -> None:
        for id in ids:
            self._sockets.pop(id).close()

    def close(self) -> None:
        self.go(list(self._sockets))


class KillTests(TestCase):
    timeout = 180

    def test_a_target_that_is_down_and_a_broker_that_dies(self) -> Any:
        return deferToThread(self.story)

    def story(self) -> None:
        self.receiver = Receiver()
        self.broker = RealBroker(Path(self.mktemp()).absolute(), SETTINGS)
        self.broker.folder.mkdir()
        try:
            self.broker.start()
            self.fleet = Fleet(self.broker, DEVICES)
            self.sink = self.broker.made(
                "/sinks", {"kind": "webhook", "url": self.receiver.url, "secret": SECRET, "name": "the operator's"}
            )["id"]
            self.broker.made("/event-rules", {"sinks": [self.sink], "kinds": ["device_offline", "device_online"]})
            self.down_and_killed()
            self.killed_while_it_delivers()
            self.assertEqual(self.receiver.forged, 0)
            self.assertNotIn(SECRET, "\n".join(self.broker.output))
        finally:
            self.fleet.close()
            self.broker.kill()
            self.receiver.stop()

    def sink_now(self) -> Any:
        return self.broker.call("GET", f"/sinks/{self.sink}")[1]

    def restart(self) -> None:
        self.broker.kill()
        self.fleet.close()
        self.broker.start()

    def down_and_killed(self) -> None:
        self.receiver.stop()
        self.fleet.come()
        self.fleet.go(self.fleet.ids[: DEVICES // 2])
        eventually(lambda: self.sink_now()["queued"] == DEVICES // 2, "half of the fleet is missed")
        eventually(lambda: self.sink_now()["trouble"], "an attempt was made")
        self.restart()  # the other half goes with the broker, and does not come back
        eventually(lambda: self.sink_now()["queued"] == DEVICES, "the other half is missed, too")
        self.restart()
        self.assertEqual(self.sink_now()["queued"], DEVICES)
        self.receiver.start()
        eventually(lambda: self.sink_now()["queued"] == 0, "everything is delivered")
        events = [event for request in self.receiver.requests for event in request.body["events"]]
        self.assertEqual(sorted(event["device"] for event in events), self.fleet.ids)
        self.assertEqual({event["kind"] for event in events}, {"device_offline"})
        kept = self.broker.call("GET", "/events?kind=device_offline&limit=1000")[1]["items"]
        # In the order in which they happened, each once.
        self.assertEqual([event["id"] for event in events], [event["id"] for event in reversed(kept)])
        self.assertEqual(self.sink_now()["dead_letters"], 0)
        self.restart()
        self.assertEqual(self.sink_now()["queued"], 0)

    def killed_while_it_delivers(self) -> None:
        def slow(request: Request) -> Answer:
            time.sleep(0.02)
            return Answer()

        self.receiver.answer = slow
        self.receiver.requests.clear()
        self.fleet.come()
        kills = 0
        for so_far in (5, 20):
            eventually(lambda: len(self.receiver.accepted) >= so_far, "some are delivered")  # noqa: B023
            self.restart()
            kills += 1
        eventually(lambda: self.sink_now()["queued"] == 0, "everything is delivered")
        back = [
            event
            for request in self.receiver.requests
            for event in request.body["events"]
            if event["kind"] == "device_online"
        ]
        self.assertEqual({event["device"] for event in back}, set(self.fleet.ids))
        kept = self.broker.call("GET", "/events?kind=device_online&limit=1000")[1]["items"]
        self.assertEqual({event["id"] for event in back}, {event["id"] for event in kept})
        # Only what was being answered when the broker died may have come once more, under the same key.
        again = [id for id, count in Counter(event["id"] for event in back).items() if count > 1]
        self.assertLessEqual(len(again), kills)
        keys = Counter(request.headers["idempotency-key"] for request in self.receiver.requests)
        self.assertEqual(sum(count - 1 for count in keys.values()), len(again))
