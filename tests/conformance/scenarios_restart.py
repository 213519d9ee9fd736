"""What outlives the server: each scenario stops at its `yield`, where the server is killed (-9) and started again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from broker.mqtt import packets as p
from broker.mqtt import properties as props
from tests.conformance.client import Room, expect
from tests.conformance.runs import Case
from tests.conformance.scenarios import EVERY

Restarted = Callable[[Room], Iterator[None]]


def queued_messages(room: Room) -> Iterator[None]:
    a = room.lasting()
    a.subscribe((room.topic("t"), 2))
    a.disconnect()
    b = room.client("b")
    for n in range(20):
        b.publish(room.topic("t"), b"%d" % n, 1 + n % 2)
    yield
    a = room.lasting(present=True)
    got = [a.message() for _ in range(20)]
    expect([(one.payload, one.qos) for one in got], [(b"%d" % n, 1 + n % 2) for n in range(20)], "queue")
    a.nothing()
    room.client("b").publish(room.topic("t"), b"live", 2)
    expect(a.message().payload, b"live", "a message to the old subscription")


def messages_in_flight(room: Room) -> Iterator[None]:
    room.acknowledging = False  # all that is owed may come together with the CONNACK
    a = room.lasting()
    a.subscribe(room.topic("t"))
    b = room.client("b")
    b.publish(room.topic("t"), b"1", 1)
    b.publish(room.topic("t"), b"2", 2)
    b.publish(room.topic("t"), b"3", 2)
    first = [a.message() for _ in range(3)]
    a.send(p.PubRec(first[1].packet_id))
    a.expect(p.PubRel)
    yield
    a = room.lasting(present=True)
    expect(a.expect(p.PubRel).packet_id, first[1].packet_id, "packet id of PUBREL")
    again = [a.message(), a.message()]
    wanted = [(one.payload, one.packet_id, True) for one in (first[0], first[2])]
    expect([(one.payload, one.packet_id, one.dup) for one in again], wanted, "messages again")
    a.send(p.PubComp(first[1].packet_id))
    a.nothing()


def acknowledged_messages(room: Room) -> Iterator[None]:
    a = room.lasting()
    a.subscribe(room.topic("t"))
    b = room.client("b")
    for n in range(5):
        b.publish(room.topic("t"), b"%d" % n, 2)
    expect(a.payloads(5), [b"%d" % n for n in range(5)], "messages")
    a.released(5)
    a.ping()
    a.disconnect()
    yield
    room.lasting(present=True).nothing()


def a_received_id(room: Room) -> Iterator[None]:
    a, r = room.lasting(), room.lasting("r")
    r.subscribe(room.topic("t"))
    a.send(p.Publish(room.topic("t"), b"p", 2, 9))
    a.expect(p.PubRec)
    expect(r.message().payload, b"p", "payload")
    r.ping()
    yield
    a, r = room.lasting(present=True), room.lasting("r", present=True)
    r.messages.clear()  # its PUBREC may not have been in time
    a.send(p.Publish(room.topic("t"), b"p", 2, 9, dup=True))
    a.expect(p.PubRec)
    a.send(p.PubRel(9))
    a.expect(p.PubComp)
    expect([one for one in r.messages if not one.dup], [], "copies")


def retained_messages(room: Room) -> Iterator[None]:
    a = room.client()
    for qos in (0, 1, 2):
        a.publish(room.topic(f"{qos}"), b"%d" % qos, qos, retain=True)
    a.publish(room.topic("gone"), b"p", 1, retain=True)
    a.publish(room.topic("gone"), b"", 1, retain=True)
    yield
    a = room.client()
    a.subscribe(room.topic("#"))
    got = sorted((a.message() for _ in range(3)), key=lambda one: one.topic)
    expect([(one.payload, one.qos, one.retain) for one in got], [(b"%d" % n, n, True) for n in (0, 1, 2)], "retained")
    a.nothing()


def clean_sessions(room: Room) -> Iterator[None]:
    a = room.lasting()
    a.subscribe(room.topic("t"))
    a.disconnect()
    room.client().disconnect()
    yield
    a = room.lasting(present=False)
    room.client("b").publish(room.topic("t"), b"p", 1)
    a.nothing()


def properties_and_options(room: Room) -> Iterator[None]:
    if room.version < p.MQTT_5:
        yield
        return
    a = room.lasting()
    a.subscribe((room.topic("t"), 2 | 8), properties={props.SUBSCRIPTION_IDENTIFIER: 7})
    a.disconnect()
    sent: p.Properties = {props.CONTENT_TYPE: "t", props.USER_PROPERTY: [("k", "v")]}
    room.client("b").publish(room.topic("t"), b"p", 1, True, sent)
    yield
    a = room.lasting(present=True)
    for when in ("queued", "live"):
        one = a.message()
        wanted = {**sent, props.SUBSCRIPTION_IDENTIFIER: [7]}
        expect((one.retain, one.properties), (True, wanted), f"the {when} message")
        if when == "queued":
            room.client("b").publish(room.topic("t"), b"p", 1, True, sent)


def wills(room: Room) -> Iterator[None]:
    """Also of clean sessions: the server is killed with a connection that had one."""
    watcher = room.lasting("watcher")
    watcher.subscribe((room.topic("will/#"), 2))

    def will(name: str, delay: int = 0) -> p.Will:
        properties: p.Properties | None = {props.WILL_DELAY_INTERVAL: delay} if delay else None
        return p.Will(room.topic(f"will/{name}"), b"gone", 2, name == "clean", properties)

    five = room.version == p.MQTT_5
    room.client("clean", will=will("clean"))
    room.client("lasting", False, will=will("lasting"), properties={0x11: 600} if five else None)
    room.client("goodbye", will=will("goodbye")).disconnect()
    if five:
        room.client("patient", will=will("patient", 600), properties={0x11: 900})
        room.client("lost", will=will("lost", 2), properties={0x11: 900}).abort()
    yield
    watcher = room.lasting("watcher", present=True)
    wanted = ["clean", "lasting", "lost"] if five else ["clean", "lasting"]
    got = sorted(watcher.message(10.0).topic for _ in wanted)
    expect(got, [room.topic(f"will/{name}") for name in wanted], "wills")
    watcher.nothing(1.0)
    late = room.client("late")
    late.subscribe(room.topic("will/#"))
    expect(late.message().topic, room.topic("will/clean"), "the retained one")
    if five:
        room.client("patient", False, properties={0x11: 0}, present=True).disconnect()
        watcher.nothing()


def wills_are_published_once(room: Room) -> Iterator[None]:
    watcher = room.lasting("watcher")
    watcher.subscribe((room.topic("will"), 2))
    room.client(will=p.Will(room.topic("will"), b"gone", 2)).abort()
    expect(watcher.message().payload, b"gone", "will")
    watcher.ping()
    watcher.disconnect()
    yield
    room.lasting("watcher", present=True).nothing(4.0)


ALL: Final[tuple[Restarted, ...]] = (
    queued_messages,
    messages_in_flight,
    acknowledged_messages,
    a_received_id,
    retained_messages,
    clean_sessions,
    properties_and_options,
    wills,
    wills_are_published_once,
)


class Halves:
    """All of these in every version, first up to the restart and then the rest."""

    def __init__(self, port: int) -> None:
        self._rooms = [(Room(port, version), scenario) for scenario in ALL for version in EVERY]
        self._begun = [(room, scenario(room), scenario.__name__) for room, scenario in self._rooms]

    def cases(self, port: int) -> list[Case]:
        """The half that is next, against the server on this port."""
        return [(f"{room.version} {name}", partial(_half, room, steps, port)) for room, steps, name in self._begun]

    def close(self) -> None:
        for room, _ in self._rooms:
            room.close()


def _half(room: Room, steps: Iterator[None], port: int) -> None:
    room.port = port
    next(steps, None)
