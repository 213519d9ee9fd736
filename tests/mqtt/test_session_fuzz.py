"""Whole sessions of several clients in a random order, with a disk that is late, and fails: no fault of ours.

What every client gets must decode, nobody is closed for `internal_error`, and once all is over nothing is left but what
was meant to last.
"""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from broker.model.errors import Unavailable
from broker.mqtt import encode
from broker.mqtt import packets as p
from broker.mqtt import properties as props
from tests.mqtt.fakes import Bench, Client

TOPICS = ("a", "a/b", "$SYS/x", "b", "a/b/c")
FILTERS = ("a", "#", "a/+", "+/b", "$SYS/#", "$share/g/a")
STEPS = 1_500


class Play:
    """One random play. ``faults``: what must not be."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.bench = Bench(max_inflight=3, max_queued_messages=5, max_sessions=4)
        self.clients: list[Client] = []
        self.faults: list[str] = []

    def properties(self) -> p.Properties:
        choose = self.random.random
        chosen: p.Properties = {}
        if choose() < 0.4:
            chosen[props.TOPIC_ALIAS] = self.random.randint(1, 18)
        if choose() < 0.4:
            chosen[props.MESSAGE_EXPIRY_INTERVAL] = self.random.randint(0, 5)
        if choose() < 0.4:
            chosen[props.USER_PROPERTY] = [("k", "v")]
        return chosen

    def packet(self, version: int) -> p.Packet:
        random = self.random
        qos, packet_id = random.choice((0, 1, 2)), random.randint(1, 6)
        given = self.properties() if version == p.MQTT_5 else {}
        topic = "" if props.TOPIC_ALIAS in given and random.random() < 0.5 else random.choice(TOPICS)
        options = random.choice((0, 1, 2, 9, 18, 33) if version == p.MQTT_5 else (0, 1, 2))
        payload = b"x" * random.choice((0, 1, 50, 200))
        packets: list[p.Packet] = [
            p.Publish(topic, payload, qos, packet_id if qos else 0, random.random() < 0.3, False, given or None),
            p.PubAck(packet_id),
            p.PubRec(packet_id),
            p.PubRel(packet_id),
            p.PubComp(packet_id),
            p.Subscribe(packet_id, [(random.choice(FILTERS), options)]),
            p.Unsubscribe(packet_id, [random.choice(FILTERS)]),
            p.PingReq(),
            p.Disconnect(),
        ]
        return random.choices(packets, (12, 3, 3, 3, 3, 3, 1, 1, 0.2))[0]

    def connect(self) -> None:
        random = self.random
        version = random.choice((p.MQTT_3_1, p.MQTT_3_1_1, p.MQTT_5))
        given: p.Properties | None = None
        delay: p.Properties | None = None
        if version == p.MQTT_5:
            delay = {props.WILL_DELAY_INTERVAL: 3}
            given = {
                props.SESSION_EXPIRY_INTERVAL: random.choice((0, 3, 0xFFFFFFFF)),
                props.TOPIC_ALIAS_MAXIMUM: random.choice((0, 1, 5)),
                props.RECEIVE_MAXIMUM: random.choice((1, 2, 9)),
                props.MAXIMUM_PACKET_SIZE: random.choice((100, 9_999)),
            }
        will = p.Will("a", b"w", random.choice((0, 1, 2)), random.random() < 0.5, delay)
        connect = p.Connect(random.choice("pqrs"), version, random.random() < 0.5, 300, "u", b"secret", will, given)
        client = self.bench.open(version=version)
        client.send(connect)
        self.clients.append(client)

    def speak(self, client: Client) -> None:
        random = self.random
        packets = [self.packet(client.version) for _ in range(random.randint(1, 4))]
        wire = bytearray(b"".join(encode.encode(one, client.version) for one in packets))
        if random.random() < 0.03:
            wire[random.randrange(len(wire))] = random.randrange(256)
        client.send(bytes(wire))

    def disturb(self) -> None:
        bench = self.bench
        match self.random.randrange(7):
            case 0:
                bench.pass_time(2)
            case 1:
                bench.topics.rights_changed()
            case 2:
                bench.journal.held = True
            case 3:
                bench.journal.fail(Unavailable("full"))
            case 4 | 5:
                bench.journal.held = False
                bench.journal.commit()
            case _:
                if self.random.random() < 0.2:
                    self.stop()
                    bench.restart()
        bench.flush()

    def step(self) -> None:
        chance = self.random.random()
        if not self.clients or chance < 0.08:
            self.connect()
        elif chance < 0.12:
            self.leave(self.random.choice(self.clients))
        elif chance < 0.22:
            self.disturb()
        elif chance < 0.26:
            self.random.choice(self.clients).jam()
        elif chance < 0.32:
            self.random.choice(self.clients).unjam()
        else:
            self.speak(self.random.choice(self.clients))
        for client in [one for one in self.clients if one.connection.closing]:
            self.leave(client)
        for client in self.clients:
            client.got()

    def leave(self, client: Client) -> None:
        client.got()
        client.lose()
        self.clients.remove(client)
        if client.connection.reason == "internal_error":
            self.faults.append(str(client.received[-1:]))

    def stop(self) -> None:
        for client in list(self.clients):
            self.leave(client)
        self.bench.journal.held = False
        self.bench.journal.commit()
        self.bench.flush()


class Fuzz(SynchronousTestCase):
    def test_no_fault_and_nothing_left(self) -> None:
        for seed in range(6):
            play = Play(seed)
            for _ in range(STEPS):
                play.step()
            play.stop()
            play.bench.pass_time(2)
            self.assertEqual(play.faults, [], f"seed {seed}")
            sessions = play.bench.server.sessions
            self.assertEqual(len(sessions), len(play.bench.journal.sessions), f"seed {seed}")
            play.bench.server.topics.rights_changed()
            for name in "pqrs":
                play.bench.resume(name)[0].lose()
            self.assertEqual((len(sessions), play.bench.topics.subscriptions), (0, 0), f"seed {seed}")
            self.assertEqual((play.bench.journal.sessions, play.bench.journal.queues), ({}, {}))
