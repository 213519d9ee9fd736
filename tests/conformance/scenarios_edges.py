"""Where two rules meet: wrong acknowledgements, a session between versions, what is in flight when something ends."""

from __future__ import annotations

from broker.mqtt import packets as p
from broker.mqtt import properties as props
from tests.conformance.client import Room, expect, expect_messages, property_of
from tests.conformance.scenarios import Scenarios

scenarios = Scenarios()


@scenarios()
def an_acknowledgement_of_the_other_kind_ends_it(room: Room) -> None:
    b = room.client("b")
    wrong = ((1, p.PubRec), (1, p.PubComp), (2, p.PubAck), (2, p.PubComp))
    for qos, kind in wrong:
        a = room.client()
        a.acknowledging = False
        a.subscribe(room.topic("t"))
        b.publish(room.topic("t"), b"p", qos)
        a.send(kind(a.message().packet_id))
        a.is_over()


@scenarios()
def an_acknowledgement_twice_is_nothing(room: Room) -> None:
    a, b = room.client(), room.client("b")
    a.acknowledging = False
    a.subscribe(room.topic("t"))
    b.publish(room.topic("t"), b"p", 1)
    ack = p.PubAck(a.message().packet_id)
    a.send(ack, ack)
    a.ping()
    b.publish(room.topic("t"), b"p", 2)
    packet_id = a.message().packet_id
    for _ in range(2):
        a.send(p.PubRec(packet_id))
        expect(a.expect(p.PubRel).packet_id, packet_id, "packet id of PUBREL")
    a.send(p.PubComp(packet_id), p.PubComp(packet_id))
    a.ping()


@scenarios()
def in_flight_when_another_takes_over(room: Room) -> None:
    a, b = room.lasting(), room.client("b")
    a.acknowledging = False
    a.subscribe(room.topic("t"))
    for n in range(3):
        b.publish(room.topic("t"), b"%d" % n, 1)
    first = [a.message() for _ in range(3)]
    again = room.lasting(present=True)
    got = [again.message() for _ in range(3)]
    expect([(one.payload, one.dup) for one in got], [(one.payload, True) for one in first], "messages again")
    a.dismissed(0x8E)
    again.nothing()


@scenarios()
def more_than_the_window_waits_its_turn(room: Room) -> None:
    a, b = room.lasting(), room.client("b")
    a.subscribe((room.topic("t"), 1))
    a.disconnect()
    count = 700
    for n in range(count):
        b.publish(room.topic("t"), b"%d" % n, 1)
    a = room.lasting(present=True)
    expect(a.payloads(count, 10), [b"%d" % n for n in range(count)], "all, in order")
    a.nothing()


@scenarios()
def more_than_the_window_while_nobody_acknowledges(room: Room) -> None:
    a, b = room.client(), room.client("b")
    a.acknowledging = False
    a.subscribe((room.topic("t"), 1))
    count = 400
    for n in range(count):
        b.publish(room.topic("t"), b"%d" % n, 1)
    got: list[bytes] = []
    while len(got) < count:
        one = a.message()
        got.append(one.payload)
        a.send(p.PubAck(one.packet_id))
    expect(got, [b"%d" % n for n in range(count)], "all, in order")


@scenarios(5)
def a_session_of_the_older_version_goes_on(room: Room) -> None:
    old = Room(room.port, 4)
    old.name = room.name
    a = old.lasting()
    a.subscribe(room.topic("t"))
    a.disconnect()
    b = room.client("b")
    b.publish(room.topic("t"), b"1", 1, properties={props.CONTENT_TYPE: "t"})
    new = room.lasting(present=True)
    one = new.message()
    expect((one.payload, property_of(one, props.CONTENT_TYPE)), (b"1", "t"), "message at 5.0")
    new.disconnect()
    b.publish(room.topic("t"), b"2", 2, properties={props.CONTENT_TYPE: "t"})
    a = old.lasting(present=True)
    expect_messages([a.message()], [(room.topic("t"), b"2", 2, False)])
    a.disconnect()


@scenarios()
def a_keep_alive_of_none(room: Room) -> None:
    a = room.client(keep_alive=0)
    a.nothing(3)
    a.ping()


@scenarios()
def messages_count_for_the_keep_alive(room: Room) -> None:
    a = room.client(keep_alive=1)
    for _ in range(5):
        a.nothing(0.6)
        a.publish(room.topic("t"), b"p")
    a.ping()


@scenarios(5)
def a_shared_subscription_of_a_whole_tree(room: Room) -> None:
    members = [room.client(name) for name in "ab"]
    for one in members:
        one.subscribe(f"$share/g/{room.topic('#')}")
    c = room.client("c")
    for n in range(10):
        c.publish(room.topic("t"), b"%d" % n, 1)
    for one in members:
        one.collect()
    got = [one.payload for member in members for one in member.messages]
    expect(sorted(map(int, got)), list(range(10)), "each to one of them")


@scenarios()
def the_server_publishes_its_figures(room: Room) -> None:
    a = room.client()
    a.subscribe(("$SYS/#", 0))
    expect(a.message(15).topic.startswith("$SYS/broker/"), True, "topic of a figure")


@scenarios()
def nobody_else_publishes_figures(room: Room) -> None:
    a, topic = room.client(), f"$SYS/broker/{room.name}"
    a.subscribe((topic, 1))
    a.publish(topic, b"forged", 1)
    a.publish(topic, b"forged", 0, retain=True)
    a.nothing()


@scenarios()
def a_will_where_the_client_may_not_publish(room: Room) -> None:
    b = room.client("b")
    b.subscribe(room.topic("#"))
    a = room.socket()
    a.send(p.Connect(f"{room.name}a", room.version, True, 60, None, None, p.Will("test/nosubscribe", b"gone")))
    a.expect(p.ConnAck)
    a.abort()
    b.ping()


@scenarios(5)
def an_expired_message_in_flight_comes_again(room: Room) -> None:
    a, b = room.lasting(), room.client("b")
    a.acknowledging = False
    a.subscribe((room.topic("t"), 1))
    b.publish(room.topic("t"), b"p", 1, properties={props.MESSAGE_EXPIRY_INTERVAL: 60})
    left = property_of(a.message(), props.MESSAGE_EXPIRY_INTERVAL)
    expect(isinstance(left, int) and 58 <= left <= 60, True, f"expiry at once: {left!r}")


@scenarios(5)
def a_will_with_an_expiry(room: Room) -> None:
    b = room.lasting("b")
    b.subscribe(room.topic("will"))
    b.disconnect()
    will = p.Will(room.topic("will"), b"gone", 1, False, {props.MESSAGE_EXPIRY_INTERVAL: 1})
    room.client(will=will).abort()
    room.client("c").nothing(2.2)
    room.lasting("b", present=True).nothing()


@scenarios(5)
def the_window_over_two_connections(room: Room) -> None:
    limited = {props.RECEIVE_MAXIMUM: 2, props.SESSION_EXPIRY_INTERVAL: 60}
    a, b = room.client(clean=False, properties=dict(limited)), room.client("b")
    a.acknowledging = False
    a.subscribe((room.topic("t"), 2))
    for n in range(5):
        b.publish(room.topic("t"), b"%d" % n, 1 + n % 2)
    expect(a.payloads(2), [b"0", b"1"], "the first two")
    a.abort()
    a = room.client(clean=False, properties=dict(limited), present=True)
    a.acknowledging = False
    got = [a.message(), a.message()]
    expect([(one.payload, one.dup) for one in got], [(b"0", True), (b"1", True)], "the first two again")
    a.nothing()
    a.send(p.PubAck(got[0].packet_id), p.PubRec(got[1].packet_id))
    a.expect(p.PubRel)
    expect(a.message().payload, b"2", "the third")
    a.nothing()
    a.send(p.PubComp(got[1].packet_id))
    expect(a.message().payload, b"3", "the fourth")


@scenarios(5)
def aliases_of_the_server_and_more_topics_than_aliases(room: Room) -> None:
    a = room.client(properties={props.TOPIC_ALIAS_MAXIMUM: 2})
    a.subscribe(room.topic("#"))
    known: dict[object, str] = {}
    for n in range(30):
        a.publish(room.topic(f"{n % 5}"), b"%d" % n, n % 3)
        one = a.message()
        alias = property_of(one, props.TOPIC_ALIAS)
        if alias is not None:
            expect(alias in (1, 2), True, f"alias {alias!r}")
            known[alias] = one.topic or known[alias]
        expect(one.topic or known[alias], room.topic(f"{n % 5}"), "topic")
        expect(one.payload, b"%d" % n, "payload")
