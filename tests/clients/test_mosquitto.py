"""mosquitto_pub and mosquitto_sub: a process for each publish, and one for each subscriber."""

from __future__ import annotations

import json
import re
import subprocess
import threading
from collections.abc import Sequence
from queue import Queue
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.clients.client import V5, V311, VERSIONS, Login, Message
from tests.clients.stage import fresh_topic, stage
from tests.real import PATIENCE

NAMES = {V311: "mqttv311", V5: "mqttv5"}
#: What the programs say to a refused login and to a refused subscription.
BAD_LOGIN = re.compile(r"^Connection error: .*bad user ?name or password", re.I | re.M)
BAD_TOPIC = "All subscription requests were denied."


def options(login: Login) -> list[str]:
    given = ["-h", "127.0.0.1", "-p", str(login.port), "-V", NAMES[login.version]]
    given += ["-u", login.user, "-P", login.password, "-i", login.client_id]
    if login.transport == "tls":
        given += ["--cafile", login.ca]
    if not login.clean:
        given += ["-c", *(["-x", str(login.expiry)] if login.version == V5 else [])]
    if login.will is not None:
        given += ["--will-topic", login.will.topic, "--will-payload", login.will.payload]
        given += ["--will-qos", str(login.will.qos)]
    return given


def run(*command: str, said: str = "") -> tuple[int, str]:
    """Exit status and output of a program that ends by itself."""
    done = subprocess.run(
        command, input=said, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=PATIENCE, check=False
    )
    return done.returncode, done.stdout


def publish(login: Login, message: Message) -> tuple[int, str]:
    kept = ["-r"] if message.retain else []
    what = ["-t", message.topic, "-m", message.payload, "-q", str(message.qos), *kept]
    return run("mosquitto_pub", *options(login), *what)


def message_of(line: str) -> Message:
    """A line of ``mosquitto_sub -F %j``."""
    found = json.loads(line)
    return Message(found["topic"], found.get("payload", ""), found["qos"], bool(found["retain"]))


class Subscriber:
    """A mosquitto_sub; made once the broker has granted the subscription."""

    def __init__(self, login: Login, topic_filter: str, qos: int) -> None:
        what = ["-d", "-F", "%j", "-t", topic_filter, "-q", str(qos)]
        self._process = subprocess.Popen(
            # stdbuf: into a pipe, "Subscribed" would wait for the first message.
            ["stdbuf", "-oL", "mosquitto_sub", *options(login), *what],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._messages: Queue[Message] = Queue()
        self._granted: Queue[int] = Queue()
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()
        self.granted = self._granted.get(timeout=PATIENCE)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                self._messages.put(message_of(line))
            elif found := re.match(r"Subscribed \(mid: \d+\): (\d+)", line):
                self._granted.put(int(found[1]))

    def next(self) -> Message:
        return self._messages.get(timeout=PATIENCE)

    def stop(self) -> None:
        """With a DISCONNECT."""
        self._process.terminate()
        self._wait()

    def kill(self) -> None:
        """Without."""
        self._process.kill()
        self._wait()

    def _wait(self) -> None:
        self._process.wait(PATIENCE)
        self._reading.join(PATIENCE)
        assert self._process.stdout is not None
        self._process.stdout.close()


class MosquittoTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.stage = stage()
        self.application = self.stage.application()
        self._said_before = len(self.stage.broker.output)

    def tearDown(self) -> None:
        self.assertNotIn("Traceback", "\n".join(self.stage.broker.output[self._said_before :]))

    def login(self, version: int, **more: Any) -> Login:
        return self.application.login(version, **more)

    def subscriber(self, login: Login, topic_filter: str, qos: int) -> Subscriber:
        one = Subscriber(login, topic_filter, qos)
        self.addCleanup(one.kill)
        self.assertEqual(one.granted, qos)
        return one

    def published(self, login: Login, *messages: Message) -> None:
        for message in messages:
            self.assertEqual(publish(login, message), (0, ""))

    def test_every_transport(self) -> None:
        for version in VERSIONS:
            for transport in ("tcp", "tls"):
                for granted in (0, 1, 2):
                    topic = fresh_topic()
                    subscriber = self.subscriber(self.login(version, transport=transport), topic, granted)
                    sent = [Message(topic, f"{qos} to {granted}", qos) for qos in (0, 1, 2)]
                    self.published(self.login(version, transport=transport), *sent)
                    expected = [message._replace(qos=min(message.qos, granted)) for message in sent]
                    self.assertEqual([subscriber.next() for _ in sent], expected)
                    subscriber.stop()

    def test_many_at_once(self) -> None:
        """A line, a message: all of them before the first is acknowledged."""
        for version in VERSIONS:
            for qos in (0, 1, 2):
                topic = fresh_topic()
                subscriber = self.subscriber(self.login(version), topic, qos)
                lines = [f"line {number}" for number in range(500)]
                command = ["mosquitto_pub", *options(self.login(version)), "-t", topic, "-q", str(qos), "-l"]
                self.assertEqual(run(*command, said="\n".join([*lines, ""])), (0, ""))
                self.assertEqual([subscriber.next() for _ in lines], [Message(topic, line, qos) for line in lines])
                subscriber.stop()

    def test_retained(self) -> None:
        for version in VERSIONS:
            kept = fresh_topic()
            self.published(self.login(version), Message(f"{kept}/a", "a", 1, True), Message(f"{kept}/b", "b", 1, True))
            self.published(self.login(version), Message(f"{kept}/a", "", 1, True))
            late = self.subscriber(self.login(version), f"{kept}/#", 1)
            self.assertEqual(late.next(), Message(f"{kept}/b", "b", 1, True))
            self.published(self.login(version), Message(f"{kept}/a", "live", 1, True))
            self.assertEqual(late.next(), Message(f"{kept}/a", "live", 1, False))
            late.stop()

    def test_will(self) -> None:
        for version in VERSIONS:
            will = Message(fresh_topic(), "gone", 1)
            watcher = self.subscriber(self.login(version), will.topic, 2)
            polite = self.login(version, will=will._replace(payload="not said"))
            self.assertEqual(run("mosquitto_sub", *options(polite), "-t", fresh_topic(), "-E"), (0, ""))
            self.subscriber(self.login(version, will=will), fresh_topic(), 0).kill()
            self.assertEqual(watcher.next(), will)
            if version == V5:  # at a SIGTERM it disconnects with 0x04, "with will message"
                asked = will._replace(payload="asked for")
                self.subscriber(self.login(version, will=asked), fresh_topic(), 0).stop()
                self.assertEqual(watcher.next(), asked)
            watcher.stop()

    def test_what_came_while_offline(self) -> None:
        for version in VERSIONS:
            for qos in (1, 2):
                topic, client_id = fresh_topic(), fresh_topic()
                lasting = self.login(version, client_id=client_id, clean=False)
                what = ["-t", topic, "-q", str(qos)]
                self.assertEqual(run("mosquitto_sub", *options(lasting), *what, "-E"), (0, ""))
                sent = [Message(topic, str(number), qos) for number in range(10)]
                self.published(self.login(version), *sent)
                took = run("mosquitto_sub", *options(lasting), *what, "-F", "%j", "-C", str(len(sent)))
                self.assertEqual((took[0], [message_of(line) for line in took[1].splitlines()]), (0, sent))
                clean = self.login(version, client_id=client_id)
                self.assertEqual(run("mosquitto_sub", *options(clean), *what, "-E"), (0, ""))

    def test_a_refused_login(self) -> None:
        for version in VERSIONS:
            login = self.login(version, password="wrong")
            for program in (["mosquitto_pub", "-m", "m"], ["mosquitto_sub"]):
                status, said = run(*program, *options(login), "-t", "t")
                self.assertNotEqual(status, 0)
                self.assertRegex(said, BAD_LOGIN)

    def test_a_refused_subscription(self) -> None:
        foreign, _ = self.stage.device()
        for version in VERSIONS:
            command = ["mosquitto_sub", *options(self.login(version)), "-t", f"devices/{foreign}/up/#"]
            self.assertIn(BAD_TOPIC, run(*command)[1])

    def test_a_command(self) -> None:
        device = self.stage.obedient_device()
        self.addCleanup(device.leave)
        application = self.stage.application(device.name)
        for version in VERSIONS:
            replies = self.subscriber(application.login(version), f"devices/{device.name}/reply", 1)
            order = Message(f"devices/{device.name}/command", json.dumps({"payload": {"light_switch": "ON"}}), 1)
            self.published(application.login(version), order)
            self.assertEqual(self.statuses(replies), ["queued", "sent", "succeeded"])
            replies.stop()

    def statuses(self, replies: Subscriber) -> Sequence[str]:
        return [json.loads(replies.next().payload)["status"] for _ in range(3)]
