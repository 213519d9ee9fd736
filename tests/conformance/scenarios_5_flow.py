"""What only 5.0 has: subscription options, identifiers and sharing; aliases, sizes, flow control."""

from __future__ import annotations

from collections.abc import Sequence

from broker.mqtt import packets as p
from broker.mqtt import properties as props
from broker.mqtt.packets import Properties
from tests.conformance.client import Client, Room, expect, expect_messages, property_of
from tests.conformance.scenarios import Scenarios

scenarios = Scenarios()


@scenarios(5)
def no_local(room: Room) -> None:
    a, b, topic = room.client(), room.client("b"), room.topic("t")
    a.subscribe((topic, 2 | 4))
    b.subscribe((topic, 2 | 4))
    a.publish(topic, b"mine", 1)
    expect(b.message().payload, b"mine", "at the other client")
    b.publish(topic, b"yours", 1)
    expect(a.message().payload, b"yours", "of the other client")
    a.nothing()
    b.nothing()


@scenarios(5)
def retain_as_published(room: Room) -> None:
    a, b, topic = room.client(), room.client("b"), room.topic("t")
    a.subscribe((topic, 2 | 8))
    b.subscribe((topic, 2))
    a.publish(topic, b"no", 1)
    a.publish(topic, b"yes", 1, retain=True)
    expect([one.retain for one in (a.message(), a.message())], [False, True], "as published")
    expect([one.retain for one in (b.message(), b.message())], [False, False], "without the option")


@scenarios(5)
def retain_handling(room: Room) -> None:
    a, one = room.client(), room.topic("k/+")
    for qos in (0, 1, 2):
        a.publish(room.topic(f"k/{qos}"), b"%d" % qos, qos, retain=True)
    a.subscribe((one, 2 | 0x10))
    expect(sorted(m.qos for m in (a.message(), a.message(), a.message())), [0, 1, 2], "for a new subscription")
    a.subscribe((one, 2 | 0x10))
    a.nothing()
    a.subscribe((one, 2))
    expect(sorted(a.payloads(3)), [b"0", b"1", b"2"], "at every SUBSCRIBE")
    a.subscribe((one, 2 | 0x20))
    a.nothing()
    a.unsubscribe(one)
    a.subscribe((one, 2 | 0x20))
    a.nothing()


@scenarios(5)
def subscription_identifiers(room: Room) -> None:
    a, b, topic = room.client(), room.client("b"), room.topic("t")
    a.publish(topic, b"kept", 1, True)
    a.subscribe(topic, properties={props.SUBSCRIPTION_IDENTIFIER: 456789})
    expect(property_of(a.message(), props.SUBSCRIPTION_IDENTIFIER), [456789], "of a retained message")
    b.subscribe((topic, 2 | 0x20), properties={props.SUBSCRIPTION_IDENTIFIER: 2})
    b.subscribe((topic + "/#", 1 | 0x20), properties={props.SUBSCRIPTION_IDENTIFIER: 3})
    b.publish(topic, b"p", 1)
    expect(property_of(a.message(), props.SUBSCRIPTION_IDENTIFIER), [456789], "of the one subscription")
    got = property_of(b.message(), props.SUBSCRIPTION_IDENTIFIER)
    expect(set(got) if isinstance(got, list) else got, {2, 3}, "of both subscriptions, in one copy")
    b.nothing()
    b.subscribe((topic, 2 | 0x20), properties={props.SUBSCRIPTION_IDENTIFIER: 268435455})
    b.subscribe((topic + "/#", 1 | 0x20))
    b.publish(topic, b"p", 1)
    expect(property_of(b.message(), props.SUBSCRIPTION_IDENTIFIER), [268435455], "once they were replaced")
    b.nothing()


@scenarios(5)
def a_shared_subscription(room: Room) -> None:
    a, b, c = room.client(), room.client("b"), room.client("c")
    shared, plain = f"$share/{room.name}/{room.topic('s')}", room.topic("p")
    for one in (a, b):
        expect(one.subscribe(shared, plain).codes, b"\x02\x02", "SUBACK")
    c.publish(plain, b"p", 1)
    expect((a.message().payload, b.message().payload), (b"p", b"p"), "the one that is not shared")
    for n in range(20):
        c.publish(room.topic("s"), b"%d" % n, n % 3)
    a.collect()
    b.collect()
    got = [one.payload for one in (*a.messages, *b.messages)]
    expect(sorted(map(int, got)), list(range(20)), "each to one of them")
    expect(bool(a.messages) and bool(b.messages), True, "both had some")
    a.messages.clear()
    b.messages.clear()
    a.unsubscribe(shared)
    b.unsubscribe(plain)
    for _ in range(3):
        c.publish(room.topic("s"), b"rest", 1)
    expect(b.payloads(3), [b"rest"] * 3, "at who is left")
    a.nothing()


@scenarios(5)
def a_shared_subscription_gets_nothing_retained(room: Room) -> None:
    a = room.client()
    a.publish(room.topic("s"), b"kept", 1, True)
    a.subscribe(f"$share/g/{room.topic('s')}")
    a.nothing()


@scenarios(5)
def aliases_of_the_client(room: Room) -> None:
    a = room.lasting()
    a.subscribe(room.topic("#"))
    alias: Properties = {props.TOPIC_ALIAS: 1}
    a.publish(room.topic("1"), b"1", 1, properties=alias)
    a.publish("", b"2", 1, properties=alias)
    a.publish(room.topic("2"), b"3", 1, properties=alias)
    a.publish("", b"4", 2, properties=alias)
    got = [a.message() for _ in range(4)]
    wanted = [("1", b"1", 1), ("1", b"2", 1), ("2", b"3", 1), ("2", b"4", 2)]
    expect_messages(got, [(room.topic(name), payload, qos, False) for name, payload, qos in wanted])
    expect([property_of(one, props.TOPIC_ALIAS) for one in got], [None] * 4, "aliases at a client that takes none")
    a.disconnect()
    a = room.lasting(present=True)
    a.send(p.Publish("", b"5", 1, 1, properties=alias))
    expect(a.expect(p.Disconnect).reason in (0x82, 0x94), True, "a reason for an alias of the last connection")
    a.ends()


@scenarios(5)
def aliases_of_the_server(room: Room) -> None:
    for allowed in (1, 0):
        a = room.client(properties={props.TOPIC_ALIAS_MAXIMUM: allowed})
        topic = room.topic(f"t{allowed}")
        a.subscribe(topic)
        for qos in (0, 1, 2):
            a.publish(topic, b"p", qos)
        got = [a.message() for _ in range(3)]
        expect([property_of(one, props.TOPIC_ALIAS) for one in got], [allowed or None] * 3, "aliases")
        expect([one.topic for one in got], [topic, "", ""] if allowed else [topic] * 3, "topics")
        a.disconnect()


@scenarios(5)
def nothing_larger_than_the_client_takes(room: Room) -> None:
    a, topic = room.client(properties={props.MAXIMUM_PACKET_SIZE: 64}), room.topic("t")
    a.subscribe(topic)
    a.publish(topic, b"." * 32)
    expect(len(a.message().payload), 32, "payload")
    for qos in (0, 1, 2):
        a.publish(topic, b"." * 64, qos)
    a.nothing()
    a.publish(topic, b"small", 1)
    expect(a.message().payload, b"small", "what comes behind")


@scenarios(5)
def no_more_in_flight_than_the_client_takes(room: Room) -> None:
    a, topic = room.client(properties={props.RECEIVE_MAXIMUM: 2}), room.topic("t")
    a.acknowledging = False
    a.subscribe(topic)
    b = room.client("b")
    for n in range(4):
        b.publish(topic, b"%d" % n, 1)
    first, second = a.message(), a.message()
    expect([first.payload, second.payload], [b"0", b"1"], "the first two")
    a.nothing()
    b.publish(topic, b"at once", 0)
    expect(a.message().payload, b"at once", "qos 0 is not counted")
    a.send(p.PubAck(first.packet_id))
    expect(a.message().payload, b"2", "one for one")
    a.nothing()
    a.send(p.PubAck(second.packet_id))
    expect(a.message().payload, b"3", "one for one")


@scenarios(5)
def no_more_in_flight_than_the_server_takes(room: Room) -> None:
    a = room.client()
    most = property_of(a.connack, props.RECEIVE_MAXIMUM)
    expect(most, 20, "receive maximum")
    for packet_id in range(1, 21):
        a.send(p.Publish(room.topic("t"), b"p", 2, packet_id))
    for _ in range(20):
        a.expect(p.PubRec)
    a.send(p.PubRel(1))
    a.expect(p.PubComp)
    a.send(p.Publish(room.topic("t"), b"p", 2, 21))
    a.expect(p.PubRec)
    a.send(p.Publish(room.topic("t"), b"p", 2, 22))
    a.dismissed(0x93)


@scenarios(5)
def who_answers_what_is_behind_hears_why(room: Room) -> None:
    """All at once, and an answer to each PUBREC before the DISCONNECT: no write of the client fails."""
    a = room.client()
    a.send(*[p.Publish(room.topic("t"), b"p", 2, packet_id) for packet_id in range(1, 22)])
    for packet_id in range(1, 21):
        expect(a.expect(p.PubRec).packet_id, packet_id, "packet id")
        a.send(p.PubRel(packet_id))
    a.dismissed(0x93)


@scenarios(5)
def its_answer_comes_before_its_own_copy(room: Room) -> None:
    a = room.client()
    a.subscribe(room.topic("t"))
    a.send(p.Publish(room.topic("t"), b"p", 2, 77))
    expect(a.expect(p.PubRec).packet_id, 77, "packet id")
    a.send(p.PubRel(77))
    expect(a.message().packet_id, 1, "first packet id")
    a.expect(p.PubComp)


@scenarios(5)
def a_subscriber_of_each_version_gets_it(room: Room) -> None:
    topic = room.topic("t")
    rooms = [Room(room.port, version) for version in (3, 4, 5)]
    clients: Sequence[Client] = [one.client() for one in rooms]
    for one in clients:
        one.subscribe(topic)
    for sender in clients:
        for qos in (0, 1, 2):
            sender.publish(topic, b"p", qos)
            for one in clients:
                expect_messages([one.message()], [(topic, b"p", qos, False)])
    for each in rooms:
        each.close()
