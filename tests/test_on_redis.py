"""The real broker on a real Redis: what outlives either, what happens while Redis is away, and which Redis will not do.

TEST_STORAGE=redis://... lets every test with a real broker run on a Redis (`tests.real`); these are always run.
"""

from __future__ import annotations

import http.client
import json
import time
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.logger import Logger
from twisted.trial.unittest import TestCase

from broker.mqtt import packets as p
from tests import test_main_job
from tests.conformance.client import Room
from tests.conformance.runs import run
from tests.conformance.scenarios_restart import Halves
from tests.conformance.test_conformance import OPEN, settings_of
from tests.real import LOOPBACK, PATIENCE, RealBroker, eventually
from tests.redis_server import RedisServer
from tests.redis_storm import storm

KILLS = 4
#: Kept short, so that an absence is noticed soon.
IMPATIENT = {
    "redis.doubt_timeout": "0.2",
    "redis.reply_timeout": "0.5",
    "redis.retry_first": "0.02",
    "redis.retry_longest": "0.1",
}


class RedisCase(TestCase):
    timeout = 120

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir(parents=True)

    def redis(self, settings: Mapping[str, str] | None = None) -> RedisServer:
        server = RedisServer(self.folder / "redis", settings)
        self.addCleanup(server.remove)
        server.start()
        return server

    def broker(self, url: str, settings: Mapping[str, str] | None = None) -> RealBroker:
        broker = RealBroker(self.folder, {"storage.url": json.dumps(url), **(settings or {})})
        self.addCleanup(broker.kill)
        return broker

    def in_thread(self, call: Callable[[], None]) -> Deferred[None]:
        return deferToThread(call)


class OutlivingTests(RedisCase):
    log: ClassVar[Logger] = Logger(namespace="tests.test_on_redis")

    def test_a_storm(self) -> Deferred[None]:
        seed = int(time.time())

        def told(figures: str) -> None:
            self.log.info("seed {seed}: {figures}", seed=seed, figures=figures)

        return deferToThread(storm, self.folder, KILLS, seed).addCallback(told)

    def test_mqtt_sessions(self) -> Deferred[None]:
        """The conformance suite's own scenarios, with a kill in the middle of each."""
        redis = self.redis()
        settings = {**dict(settings_of(tomllib.loads(OPEN.read_text()))), "listeners.mqtt.bind": LOOPBACK}
        broker = self.broker(redis.url, settings)

        def both_halves() -> None:
            broker.start()
            halves = Halves(broker.ports["mqtt"])
            try:
                first = run(halves.cases(broker.ports["mqtt"]))
                self.assertEqual(first.failures, [])
                broker.kill()
                redis.kill()
                redis.start()
                broker.start()
                self.assertEqual(run(halves.cases(broker.ports["mqtt"])).failures, [])
            finally:
                halves.close()

        return self.in_thread(both_halves)


class _MainJob(test_main_job.MainJobCase):
    """Mixed in: their broker stores on Redis. Other tests run beside these."""

    prompt = 20 * test_main_job.PROMPT

    def setUp(self) -> None:
        super().setUp()
        self.redis = RedisServer(self.broker.folder / "redis")
        self.addCleanup(self.redis.remove)
        self.redis.start()
        self.broker.settings["storage.url"] = json.dumps(self.redis.url)


class MainJobOnRedis(_MainJob, test_main_job.MainJobTests):
    """Devices, applications, commands, history."""


class KillsOnRedis(_MainJob, test_main_job.KillTests):
    """Commands and reports while the broker is killed."""


class AwayTests(RedisCase):
    def readiness(self, broker: RealBroker) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", broker.ports["http"], timeout=PATIENCE)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status
        finally:
            connection.close()

    def test_redis_goes_and_comes(self) -> Deferred[None]:
        """Readiness goes red, durable work is refused with a reason, QoS 0 goes on, and all recovers by itself."""
        return self.in_thread(self.away)

    def away(self) -> None:
        redis = self.redis()
        broker = self.broker(redis.url, {**IMPATIENT, "listeners.mqtt.anonymous": "true"})
        broker.start()
        device = broker.made("/devices", {"protocol": "novacloud"})["id"]
        self.assertEqual(self.readiness(broker), 200)
        room = Room(broker.ports["mqtt"], p.MQTT_3_1_1)
        try:
            listener, speaker = room.client("a"), room.client("b")
            listener.subscribe((room.topic("t"), 0))
            redis.suspend()
            eventually(lambda: self.readiness(broker) == 503, "not ready")
            began = time.monotonic()
            status, answer = broker.call("POST", f"/devices/{device}/commands", {"payload": {"fan": 1}})
            self.assertEqual(status, 503)
            self.assertIn("no connection to Redis", answer["detail"])
            self.assertEqual(broker.call("GET", "/devices")[0], 503)
            self.assertLess(time.monotonic() - began, 15.0)
            speaker.publish(room.topic("t"), b"still", 0)
            self.assertEqual(listener.message().payload, b"still")
            redis.resume()
            eventually(lambda: self.readiness(broker) == 200, "ready again")
            redis.kill()
            eventually(lambda: self.readiness(broker) == 503, "not ready")
            redis.start()
            eventually(lambda: self.readiness(broker) == 200, "ready again")
            self.assertEqual(broker.call("POST", f"/devices/{device}/commands", {"payload": {"fan": 1}})[0], 202)
        finally:
            room.close()
        self.assertEqual(broker.stop(), 0)
        self.assertNotIn("Traceback", "\n".join(broker.output))


class StartTests(RedisCase):
    def fails(self, broker: RealBroker, why: str) -> None:
        """One line says why, and the exit status is 1."""
        with self.assertRaises(AssertionError):
            broker.start()
        lines = [line for line in broker.output if "cannot start" in line]
        self.assertEqual(len(lines), 1, broker.output)
        self.assertIn(why, lines[0])
        self.assertNotIn("Traceback", "\n".join(broker.output))
        process, broker._process = broker._process, None
        assert process is not None and process.stdout is not None
        self.assertEqual(process.wait(timeout=PATIENCE), 1)
        process.stdout.close()

    def test_nobody_there(self) -> Deferred[None]:
        broker = self.broker("redis://me:secret@127.0.0.1:1/0", {"redis.connect_timeout": "0.3"})

        def start() -> None:
            self.fails(broker, "cannot use the Redis at 127.0.0.1:1 (database 0): Connection was refused")
            self.assertNotIn("secret", "\n".join(broker.output))

        return self.in_thread(start)

    def test_one_that_keeps_nothing(self) -> Deferred[None]:
        redis = self.redis({"appendonly": "no"})

        def start() -> None:
            self.fails(self.broker(redis.url), "storage.allow_volatile = true")
            allowed = self.broker(redis.url, {"storage.allow_volatile": "true"})
            allowed.start()
            said = [line for line in allowed.output if "a crash of it loses what was acknowledged" in line]
            self.assertEqual(len(said), 1)

        return self.in_thread(start)

    def test_two_of_one_name(self) -> Deferred[None]:
        redis = self.redis()

        def start() -> None:
            first = self.broker(redis.url)
            first.start()
            second = self.broker(redis.url, {"broker.data_dir": json.dumps(str(self.folder / "second"))})
            self.fails(second, f"another broker named 'node-1' uses it (process {first.pid} on ")
            self.assertEqual(first.stop(), 0)
            second.start()

        return self.in_thread(start)
