"""Messages on their way, in every version: QoS, order, wildcards, retained ones, wills, what no connection survives."""

from __future__ import annotations

from broker.mqtt import packets as p
from broker.mqtt.encode import encode
from tests.conformance.client import Room, expect, expect_messages
from tests.conformance.scenarios import EVERY, Scenarios
from tests.conformance.wire import whole

scenarios = Scenarios()


@scenarios()
def each_qos_arrives(room: Room) -> None:
    a, topic = room.client(), room.topic("t")
    expect(a.subscribe(topic).codes, b"\x02", "SUBACK")
    for qos in (0, 1, 2):
        a.publish(topic, b"%d" % qos, qos)
    got = sorted((a.message() for _ in range(3)), key=lambda one: one.payload)
    expect_messages(got, [(topic, b"0", 0, False), (topic, b"1", 1, False), (topic, b"2", 2, False)])
    a.nothing()
    a.disconnect()


@scenarios()
def qos_is_the_lower_one(room: Room) -> None:
    a = room.client()
    for granted in (0, 1, 2):
        expect(a.subscribe((room.topic(f"{granted}"), granted)).codes, bytes((granted,)), "SUBACK")
    for granted in (0, 1, 2):
        for sent in (0, 1, 2):
            a.publish(room.topic(f"{granted}"), b"x", sent)
            expect(a.message().qos, min(granted, sent), f"qos of {sent} at {granted}")


@scenarios()
def codes_in_the_order_of_the_filters(room: Room) -> None:
    a = room.client()
    filters = [(room.topic(f"{n}"), n % 3) for n in range(7)]
    expect(a.subscribe(*filters).codes, bytes(n % 3 for n in range(7)), "SUBACK")


@scenarios()
def messages_keep_their_order(room: Room) -> None:
    a, b, topic = room.client(), room.client("b"), room.topic("t")
    a.subscribe(topic)
    for qos in (0, 1, 2):
        wanted = [b"%d" % n for n in range(100)]
        for payload in wanted:
            b.publish(topic, payload, qos)
        expect(a.payloads(100), wanted, f"order at qos {qos}")


@scenarios()
def payloads_of_any_kind(room: Room) -> None:
    a, topic = room.client(), room.topic("t")
    a.subscribe(topic)
    for payload in (b"", b"\x00", bytes(range(256)), b"x" * 127, b"x" * 128, b"x" * 16384, b"x" * 300_000):
        a.publish(topic, payload, 1)
        expect(a.message().payload == payload, True, f"payload of {len(payload)} bytes came back")


@scenarios()
def topics_of_any_kind(room: Room) -> None:
    a = room.client()
    for name in ("x", "/x", "x/", "//", "a b", "主题", "A\U0002a6d4", "x" * 1000, "$x"):
        topic = room.topic(name)
        a.subscribe(topic)
        a.publish(topic, b"p", 1)
        expect(a.message().topic, topic, "topic")
        a.nothing(0.02)


@scenarios()
def wildcards(room: Room) -> None:
    a = room.client()
    table = (
        ("+", ("x",), ("x/y", "/x")),
        ("#", ("x", "x/y", "x/y/z"), ()),
        ("x/+", ("x/y", "x/"), ("x", "x/y/z")),
        ("x/#", ("x", "x/y", "x/y/z", "x/"), ("y", "xx")),
        ("+/y", ("x/y", "/y"), ("y", "x/y/z")),
        ("+/+", ("x/y", "/", "/x"), ("x", "x/y/z")),
        ("x/+/z", ("x/y/z", "x//z"), ("x/z", "x/y/y/z")),
        ("+/y/#", ("x/y", "x/y/z"), ("x", "x/z")),
    )
    for one, matching, other in table:
        a.subscribe((room.topic(one), 1))
        for name in (*matching, *other):
            a.publish(room.topic(name), name.encode(), 1)
        a.publish(room.topic(matching[0]), b"the end", 1)
        got = a.payloads(len(matching) + 1)
        expect(got, [*(name.encode() for name in matching), b"the end"], f"matches of {one}")
        a.unsubscribe(room.topic(one))


@scenarios()
def dollar_topics_match_no_leading_wildcard(room: Room) -> None:
    a, name, last = room.client(), f"$test-{room.name}", room.topic("x")
    a.subscribe(("#", 0), ("+/x", 0))
    a.publish(f"{name}/x", b"hidden", 1)
    a.publish(last, b"shown", 1)
    topics = [a.message().topic]
    while topics[-1] != last:  # others use the server, too
        topics.append(a.message().topic)
    expect([one for one in topics if one.startswith("$")], [], "topics")


@scenarios()
def dollar_topics_match_their_own_filters(room: Room) -> None:
    a, name = room.client(), f"$test-{room.name}"
    expect(a.subscribe(f"{name}/#").codes, b"\x02", "SUBACK")
    a.publish(f"{name}/x", b"shown", 1)
    expect(a.message().topic, f"{name}/x", "topic")


@scenarios()
def overlapping_subscriptions_give_one_copy(room: Room) -> None:
    a = room.client()
    a.subscribe((room.topic("#"), 2), (room.topic("+/x"), 1), (room.topic("y/x"), 0))
    a.publish(room.topic("y/x"), b"p", 2)
    expect(a.message().qos, 2, "the highest qos")
    a.nothing()


@scenarios()
def subscribing_again_replaces(room: Room) -> None:
    a, topic = room.client(), room.topic("t")
    a.publish(topic, b"kept", 1, retain=True)
    for qos in (0, 2, 1):
        expect(a.subscribe((topic, qos)).codes, bytes((qos,)), "SUBACK")
        expect(a.message().retain, True, "the retained message again [MQTT-3.8.4-3]")
        a.publish(topic, b"live", 2)
        expect(a.message().qos, qos, "qos")
    a.nothing()


@scenarios()
def unsubscribing(room: Room) -> None:
    a, b = room.client(), room.client("b")
    a.subscribe(room.topic("1"), room.topic("2"), room.topic("3"))
    codes = a.unsubscribe(room.topic("1"), room.topic("other")).codes
    expect(codes, b"\x00\x11" if room.version == 5 else b"", "UNSUBACK")
    for name in "123":
        b.publish(room.topic(name), name.encode(), 1)
    expect(a.payloads(2), [b"2", b"3"], "payloads")
    a.nothing()


@scenarios()
def dup_is_not_passed_on(room: Room) -> None:
    a, b, topic = room.client(), room.client("b"), room.topic("t")
    a.subscribe(topic)
    b.send(p.Publish(topic, b"p", 1, 7, dup=True))
    b.expect(p.PubAck)
    expect(a.message().dup, False, "dup [MQTT-3.3.1-3]")


@scenarios()
def qos_2_again_before_its_release_is_one_message(room: Room) -> None:
    a, b, topic = room.client(), room.client("b"), room.topic("t")
    a.subscribe(topic)
    b.send(p.Publish(topic, b"1", 2, 7))
    b.expect(p.PubRec)
    b.send(p.Publish(topic, b"1", 2, 7, dup=True))
    b.expect(p.PubRec)
    b.send(p.PubRel(7))
    b.expect(p.PubComp)
    expect(a.message().payload, b"1", "payload")
    b.send(p.Publish(topic, b"2", 2, 7))
    b.expect(p.PubRec)
    b.send(p.PubRel(7))
    b.expect(p.PubComp)
    expect(a.message().payload, b"2", "payload once the id was released")
    a.nothing()


@scenarios()
def retained_messages(room: Room) -> None:
    a = room.client()
    for qos in (0, 1, 2):
        a.publish(room.topic(f"k/{qos}"), b"old", qos, retain=True)
        a.publish(room.topic(f"k/{qos}"), b"%d" % qos, qos, retain=True)
    a.subscribe(room.topic("k/+"))
    got = sorted((a.message() for _ in range(3)), key=lambda one: one.topic)
    expect_messages(got, [(room.topic(f"k/{qos}"), b"%d" % qos, qos, True) for qos in (0, 1, 2)])
    a.publish(room.topic("k/1"), b"live", 1, retain=True)
    expect(a.message().retain, False, "retain of a live message [MQTT-3.3.1-9]")
    b = room.client("b")
    b.subscribe((room.topic("k/#"), 1))
    expect(sorted(b.message().qos for _ in range(3)), [0, 1, 1], "qos of retained messages")
    for qos in (0, 1, 2):
        a.publish(room.topic(f"k/{qos}"), b"", qos, retain=True)
    expect([a.message().payload for _ in range(3)], [b""] * 3, "the empty messages themselves")
    c = room.client("c")
    c.subscribe(room.topic("k/#"))
    c.nothing()


@scenarios()
def a_will_is_published_when_the_connection_breaks(room: Room) -> None:
    b = room.client("b")
    b.subscribe(room.topic("will/#"))
    for qos in (0, 1, 2):
        topic = room.topic(f"will/{qos}")
        room.client(will=p.Will(topic, b"gone", qos, retain=qos == 1)).abort()
        expect_messages([b.message()], [(topic, b"gone", qos, False)])
    c = room.client("c")
    c.subscribe(room.topic("will/#"))
    expect(c.message().retain, True, "the retained will")
    c.nothing()


@scenarios()
def a_will_is_not_published_after_a_disconnect(room: Room) -> None:
    b, topic = room.client("b"), room.topic("will")
    b.subscribe(topic)
    room.client(will=p.Will(topic, b"gone", 1)).disconnect()
    b.nothing()


@scenarios()
def a_will_is_published_after_a_violation(room: Room) -> None:
    b, topic = room.client("b"), room.topic("will")
    b.subscribe(topic)
    a = room.client(will=p.Will(topic, b"gone", 1))
    a.send_bytes(whole(0x00))
    a.dismissed(0x82)
    expect(b.message().payload, b"gone", "will")


@scenarios()
def a_client_that_says_nothing_is_closed(room: Room) -> None:
    b, topic = room.client("b"), room.topic("will")
    b.subscribe(topic)
    a = room.client(keep_alive=1, will=p.Will(topic, b"gone", 2))
    a.nothing(1.1)
    a.dismissed(0x8D, 8)
    expect(b.message().payload, b"gone", "will")


@scenarios()
def pings_keep_a_connection(room: Room) -> None:
    a = room.client(keep_alive=1)
    for _ in range(5):
        a.nothing(0.6)
        a.ping()


@scenarios()
def packets_sent_before_connack(room: Room) -> None:
    a, topic = room.socket(), room.topic("t")
    a.send(
        p.Connect(f"{room.name}a", room.version, True, 60),
        p.Subscribe(1, [(topic, 1)]),
        p.Publish(topic, b"p", 1, 2),
        p.PingReq(),
    )
    a.expect(p.ConnAck)
    expect(a.expect(p.SubAck).codes, b"\x01", "SUBACK")
    expect(a.message().payload, b"p", "payload")


@scenarios()
def packets_byte_by_byte(room: Room) -> None:
    a, topic = room.socket(), room.topic("t")
    packets: tuple[p.Packet, ...] = (
        p.Connect(f"{room.name}a", room.version, True, 60),
        p.Subscribe(1, [(topic, 2)]),
        p.Publish(topic, b"payload", 2, 2),
        p.PubRel(2),
    )
    for packet in packets:
        for byte in encode(packet, room.version):
            a.send_bytes(bytes((byte,)))
    a.expect(p.ConnAck)
    a.expect(p.SubAck)
    expect(a.message().payload, b"payload", "payload")


@scenarios()
def many_packets_in_one_write(room: Room) -> None:
    a, topic = room.client(), room.topic("t")
    others = [Room(room.port, version) for version in EVERY]
    clients = [a, *(one.lasting() for one in others)]
    for client in clients:
        client.subscribe((topic, 0))
    a.publish(topic, b"first", 1)
    a.send(*(p.Publish(topic, b"%03d" % n) for n in range(500)))
    for client in clients:
        expect(client.payloads(501), [b"first", *(b"%03d" % n for n in range(500))], f"payloads at {client.version}")
    for one in others:
        one.close()


@scenarios()
def a_wrong_protocol_name_gets_no_answer(room: Room) -> None:
    a = room.socket()
    a.send_bytes(bytes.fromhex("10 0c 0002 686a 04 02 003c 0002 6162"))
    a.ends()
