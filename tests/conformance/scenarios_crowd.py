"""Many at once: publishers and subscribers of every version, bursts of all QoS, cut anywhere. Nobody misses any."""

from __future__ import annotations

from random import Random

from broker.mqtt import packets as p
from broker.mqtt.encode import encode
from tests.conformance.client import Client, Room, expect
from tests.conformance.scenarios import EVERY, Scenarios

scenarios = Scenarios()

_ROUNDS = 25


class _Publisher:
    """Numbers its messages per QoS: a topic for each, payloads that are often alike in length."""

    def __init__(self, name: str, room: Room, topic: str, chance: Random) -> None:
        self._client = room.client(f"p{name}")
        self._chance = chance
        self._ids = 0
        self._topic = f"{topic}/{name}"
        self.sent: dict[str, list[bytes]] = {f"{self._topic}/{qos}": [] for qos in (0, 1, 2)}

    def burst(self) -> None:
        packets: list[p.Publish] = []
        for _ in range(self._chance.randrange(1, 12)):
            qos = self._chance.choice((0, 0, 1, 2))
            for _ in range(self._chance.choice((1, 1, 1, 8)) if qos == 0 else 1):
                self._ids += qos > 0
                topic = f"{self._topic}/{qos}"
                payload = b"%06d" % len(self.sent[topic])
                self.sent[topic].append(payload)
                packets.append(p.Publish(topic, payload, qos, self._ids if qos else 0))
        self._send(b"".join([encode(one, self._client.version) for one in packets]))
        for one in packets:
            if one.qos:
                answer = self._client.expect(p.PubAck) if one.qos == 1 else self._client.expect(p.PubRec)
                expect(answer.packet_id, one.packet_id, "packet id, in order")
        released = [one.packet_id for one in packets if one.qos == 2]
        self._send(b"".join([encode(p.PubRel(one), self._client.version) for one in released]))
        for packet_id in released:
            expect(self._client.expect(p.PubComp).packet_id, packet_id, "packet id of PUBCOMP, in order")

    def _send(self, data: bytes) -> None:
        while data:
            size = self._chance.choice((1, 7, 64, 4096))
            self._client.send_bytes(data[:size])
            data = data[size:]


@scenarios(3, 4, 5)
def a_crowd(room: Room) -> None:
    chance = Random(room.version)
    rooms = [Room(room.port, version) for version in EVERY]
    topic = room.topic("crowd")
    subscribers: list[Client] = []
    for one in rooms:
        subscribers += one.client("plain"), one.lasting("lasting")
    for number, client in enumerate(subscribers):
        client.subscribe(f"{topic}/#", *([f"{topic}/+/+", f"{topic}/+/1"] if number % 3 == 0 else []))
    publishers = [_Publisher(f"{one.version}", one, topic, chance) for one in rooms]
    for _ in range(_ROUNDS):
        for publisher in publishers:
            publisher.burst()
        for client in subscribers:
            client.ping()
    sent = {name: payloads for publisher in publishers for name, payloads in publisher.sent.items()}
    for client in subscribers:
        got: dict[str, list[bytes]] = {name: [] for name in sent}
        for _ in range(sum(map(len, sent.values()))):
            message = client.message()
            got[message.topic].append(message.payload)
        for name, payloads in sent.items():
            expect(got[name], payloads, f"{name} at {client.version}")
        client.nothing(0.1)
    for one in rooms:
        one.close()
