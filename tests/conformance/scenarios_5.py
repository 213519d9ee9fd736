"""What only 5.0 has: what the server tells, properties on their way, reason codes, expiry, wills with a delay."""

from __future__ import annotations

from broker.mqtt import packets as p
from broker.mqtt import properties as props
from broker.mqtt.packets import Properties, PropertyValue
from tests.conformance.client import Client, Room, expect, property_of
from tests.conformance.scenarios import Scenarios

scenarios = Scenarios()


def _pairs(*pairs: tuple[str, str]) -> list[PropertyValue]:
    return list(pairs)


@scenarios(5)
def a_client_id_is_assigned(room: Room) -> None:
    names = set()
    for clean in (True, False, True):
        a = room.offer(p.Connect("", 5, clean, 60))
        expect(a.connack.code, 0, "code of CONNACK")
        names.add(property_of(a.connack, props.ASSIGNED_CLIENT_IDENTIFIER))
        a.ping()
    expect(len(names - {None, ""}), 3, "different names")


@scenarios(5)
def the_server_says_what_it_takes(room: Room) -> None:
    told = room.client(keep_alive=60).connack.properties or {}
    expect(told.get(props.RECEIVE_MAXIMUM), 20, "receive maximum")
    expect(told.get(props.TOPIC_ALIAS_MAXIMUM), 10, "topic alias maximum")
    expect(set(told), {props.RECEIVE_MAXIMUM, props.TOPIC_ALIAS_MAXIMUM}, "nothing that is the default")


@scenarios(5)
def the_server_shortens_the_keep_alive(room: Room) -> None:
    for asked, told in ((120, 60), (65535, 60), (61, 60), (60, None), (10, None)):
        expect(property_of(room.client(keep_alive=asked).connack, props.SERVER_KEEP_ALIVE), told, f"for {asked}")


@scenarios(5)
def properties_of_a_message_arrive(room: Room) -> None:
    a, topic = room.client(), room.topic("t")
    a.subscribe(topic)
    sent: Properties = {
        props.PAYLOAD_FORMAT_INDICATOR: 1,
        props.CONTENT_TYPE: "My name",
        props.RESPONSE_TOPIC: "answer/here",
        props.CORRELATION_DATA: b"\x00\xff334",
        props.USER_PROPERTY: _pairs(("c", "3"), ("a", "2"), ("a", "1"), ("", "")),
    }
    for qos in (0, 1, 2):
        a.publish(topic, b"p", qos, properties=sent)
        expect(a.message().properties, sent, f"properties at qos {qos}")
    a.publish(room.topic("kept"), b"p", 1, True, sent)
    a.subscribe(room.topic("kept"))
    expect(a.message().properties, sent, "properties of a retained message")
    b = Room(room.port, 4).client(f"{room.name}4")
    b.subscribe(topic)
    a.publish(topic, b"p", 2, properties=sent)
    expect(b.message().payload, b"p", "payload at 3.1.1")
    b.publish(topic, b"q", 1)
    a.message()
    expect(a.message().properties, None, "properties of a message of 3.1.1")
    b.disconnect()


@scenarios(5)
def properties_of_a_will_arrive(room: Room) -> None:
    b, topic = room.client("b"), room.topic("will")
    b.subscribe(topic)
    sent: Properties = {
        props.CONTENT_TYPE: "t",
        props.CORRELATION_DATA: b"1",
        props.USER_PROPERTY: _pairs(("k", "v"), ("k", "w")),
    }
    room.client(will=p.Will(topic, b"gone", 1, False, {**sent, props.WILL_DELAY_INTERVAL: 0})).abort()
    expect(b.message().properties, sent, "properties")


@scenarios(5)
def reasons_of_acknowledgements(room: Room) -> None:
    a, topic = room.client(), room.topic("t")
    # Scenarios that run beside this one may be subscribed to everything for a moment.
    answers = (a.publish(topic, b"p", 1) for _ in range(1_000))
    expect(next((one for one in answers if one), 0), 0x10, "PUBACK without a subscriber")
    a.subscribe(topic)
    expect(a.publish(topic, b"p", 1), 0, "PUBACK with one")
    expect(a.publish(topic, b"p", 2), 0, "PUBREC with one")
    expect(a.unsubscribe(topic, topic).codes, b"\x00\x11", "UNSUBACK")


@scenarios(5)
def a_refusal_of_the_receiver_ends_the_exchange(room: Room) -> None:
    a = room.client(properties={props.RECEIVE_MAXIMUM: 1})
    a.acknowledging = False
    a.subscribe(room.topic("#"))
    b = room.client("b")
    for n in range(3):
        b.publish(room.topic("t"), b"%d" % n, 2)
    a.send(p.PubRec(a.message().packet_id, 0x80))
    second = a.message()
    expect(second.payload, b"1", "the next one, and no PUBREL")
    a.send(p.PubRec(second.packet_id))
    expect(a.expect(p.PubRel).packet_id, second.packet_id, "packet id of PUBREL")
    a.nothing()
    a.send(p.PubComp(second.packet_id))
    expect(a.message().payload, b"2", "the third one")


# -- expiry --------------------------------------------------------------------------------------------------------


def _seated(room: Room, expiry: int | None, clean: bool, present: bool) -> Client:
    properties: Properties | None = None if expiry is None else {props.SESSION_EXPIRY_INTERVAL: expiry}
    return room.client(clean=clean, properties=properties, present=present)


@scenarios(5)
def a_session_without_an_expiry_ends_with_its_connection(room: Room) -> None:
    for expiry in (None, 0):
        a = _seated(room, expiry, True, False)
        a.subscribe(room.topic("t"))
        a.disconnect()
        _seated(room, expiry, False, False).disconnect()


@scenarios(5)
def a_session_expires(room: Room) -> None:
    a = _seated(room, 1, True, False)
    a.subscribe(room.topic("t"))
    a.disconnect()
    b = room.client("b")
    b.nothing(0.2)
    _seated(room, 1, False, True).disconnect()
    b.nothing(3.2)
    _seated(room, 1, False, False)


@scenarios(5)
def a_disconnect_changes_the_expiry(room: Room) -> None:
    a = _seated(room, 1, True, False)
    a.subscribe(room.topic("t"))
    a.disconnect(0, {props.SESSION_EXPIRY_INTERVAL: 30})
    room.client("b").nothing(3.2)
    a = _seated(room, 30, False, True)
    a.disconnect(0, {props.SESSION_EXPIRY_INTERVAL: 0})
    _seated(room, 1, False, False)


@scenarios(5)
def a_session_that_never_expires(room: Room) -> None:
    _seated(room, 0xFFFFFFFF, True, False).disconnect()
    _seated(room, 0xFFFFFFFF, False, True).disconnect(0, {props.SESSION_EXPIRY_INTERVAL: 0})
    _seated(room, None, False, False)


@scenarios(5)
def a_message_expires_in_the_queue(room: Room) -> None:
    a = room.lasting()
    a.subscribe(room.topic("t"))
    a.disconnect()
    b = room.client("b")
    for seconds, payload in ((1, b"short"), (60, b"long")):
        for qos in (1, 2):
            b.publish(room.topic("t"), payload, qos, properties={props.MESSAGE_EXPIRY_INTERVAL: seconds})
    b.publish(room.topic("t"), b"ever", 1)
    b.nothing(2.2)
    a = room.lasting(present=True)
    got = [a.message() for _ in range(3)]
    expect([one.payload for one in got], [b"long", b"long", b"ever"], "what is left")
    for one in got[:2]:
        left = property_of(one, props.MESSAGE_EXPIRY_INTERVAL)
        expect(isinstance(left, int) and 50 <= left <= 58, True, f"expiry counted down from 60 to {left!r}")
    expect(property_of(got[2], props.MESSAGE_EXPIRY_INTERVAL), None, "expiry of what has none")
    a.nothing()


@scenarios(5)
def a_retained_message_expires(room: Room) -> None:
    a = room.client()
    a.publish(room.topic("1"), b"short", 1, True, {props.MESSAGE_EXPIRY_INTERVAL: 1})
    a.publish(room.topic("2"), b"long", 1, True, {props.MESSAGE_EXPIRY_INTERVAL: 60})
    a.nothing(2.2)
    a.subscribe(room.topic("#"))
    one = a.message()
    expect(one.payload, b"long", "what is left")
    left = property_of(one, props.MESSAGE_EXPIRY_INTERVAL)
    expect(isinstance(left, int) and 50 <= left <= 58, True, f"expiry counted down from 60 to {left!r}")
    a.nothing()


# -- wills ---------------------------------------------------------------------------------------------------------


def _willing(room: Room, delay: int, expiry: int, clean: bool = True) -> Client:
    will = p.Will(room.topic("will"), b"gone", 1, False, {props.WILL_DELAY_INTERVAL: delay})
    return room.client(clean=clean, will=will, properties={props.SESSION_EXPIRY_INTERVAL: expiry})


def _watching(room: Room) -> Client:
    b = room.client("b")
    b.subscribe(room.topic("will"))
    return b


@scenarios(5)
def a_will_is_delayed(room: Room) -> None:
    b = _watching(room)
    _willing(room, 2, 30).abort()
    b.nothing(1.5)
    expect(b.message(2.5).payload, b"gone", "will")


@scenarios(5)
def a_will_is_not_delayed_past_its_session(room: Room) -> None:
    b = _watching(room)
    _willing(room, 30, 0).abort()
    expect(b.message(1.0).payload, b"gone", "will of a session that ended at once")
    _willing(room, 30, 1).abort()
    b.nothing(0.7)
    expect(b.message(3.0).payload, b"gone", "will of a session that expired")


@scenarios(5)
def who_comes_back_in_time_takes_the_will_back(room: Room) -> None:
    b = _watching(room)
    _willing(room, 1, 30).abort()
    a = room.client(clean=False, properties={props.SESSION_EXPIRY_INTERVAL: 30}, present=True)
    b.nothing(2.5)
    a.disconnect()


@scenarios(5)
def a_clean_start_ends_the_session_of_a_delayed_will(room: Room) -> None:
    b = _watching(room)
    _willing(room, 30, 30).abort()
    b.nothing(0.3)
    room.client(present=False)
    expect(b.message(1.5).payload, b"gone", "will")


@scenarios(5)
def a_disconnect_with_will(room: Room) -> None:
    b = _watching(room)
    _willing(room, 0, 0).disconnect(4)
    expect(b.message().payload, b"gone", "will")
