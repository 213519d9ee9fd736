"""The stories that interoperability suites tell with two clients, and statements that no other file asks about."""

from __future__ import annotations

from broker.mqtt import packets as p
from broker.mqtt import properties as props
from broker.mqtt.packets import Properties
from tests.conformance.client import Room, expect, expect_messages, property_of
from tests.conformance.scenarios import Scenarios

scenarios = Scenarios()

NO_LOCAL = 4


@scenarios()
def three_retained_messages_are_found_and_cleared(room: Room) -> None:
    a = room.client()
    topics = [room.topic(name) for name in ("A/B", "T/C", "A/C")]
    for qos, topic in enumerate(topics):
        a.publish(topic, b"qos %d" % qos, qos, True)
    a.subscribe((room.topic("+/+"), 2))
    got = sorted((a.message() for _ in topics), key=lambda one: one.qos)
    expect_messages(got, [(topic, b"qos %d" % qos, qos, True) for qos, topic in enumerate(topics)])
    a.disconnect()
    b = room.client("b")
    for topic in topics:
        b.publish(topic, b"", 0, True)
    b.ping()
    b.subscribe((room.topic("#"), 2))
    b.nothing()


@scenarios()
def offline_messages_of_each_qos(room: Room) -> None:
    a = room.lasting()
    a.subscribe((room.topic("+/+"), 2))
    a.disconnect()
    b = room.client("b")
    for qos in range(3):
        b.publish(room.topic(f"T/{qos}"), b"qos %d" % qos, qos)
    b.disconnect()
    a = room.lasting(present=True)
    expect(a.payloads(2), [b"qos 1", b"qos 2"], "what was kept")
    a.nothing()


@scenarios()
def a_reader_that_pauses(room: Room) -> None:
    """Its own publishes come back to it at QoS 1 and 2, are not answered, and come again."""
    a = room.lasting()
    a.subscribe((room.topic("A/#"), 2))
    a.acknowledging = False
    a.publish(room.topic("A/B"), b"1", 1)
    a.publish(room.topic("A/C"), b"2", 2)
    first = [a.message(), a.message()]
    a.abort()
    a = room.lasting(present=True)
    again = [a.message(), a.message()]
    wanted = [(one.topic, one.packet_id, True) for one in first]
    expect([(one.topic, one.packet_id, one.dup) for one in again], wanted, "the same again")
    a.nothing()
    a.disconnect()


@scenarios()
def a_message_without_retain_leaves_the_retained_one(room: Room) -> None:
    """[MQTT-3.3.1-8]"""
    a, topic = room.client(), room.topic("t")
    a.publish(topic, b"kept", 1, True)
    a.publish(topic, b"passing", 1)
    a.publish(topic, b"", 1)
    a.subscribe(topic)
    expect(a.message().payload, b"kept", "the retained message")
    a.nothing()


@scenarios()
def what_was_begun_is_completed_after_unsubscribe(room: Room) -> None:
    """[MQTT-3.10.4-2] [MQTT-3.10.4-3]"""
    a = room.client()
    a.acknowledging = False
    a.subscribe((room.topic("t"), 2))
    b = room.client("b")
    b.publish(room.topic("t"), b"1", 2)
    one = a.message()
    a.unsubscribe(room.topic("t"))
    b.publish(room.topic("t"), b"2", 2)
    a.send(p.PubRec(one.packet_id))
    expect(a.expect(p.PubRel).packet_id, one.packet_id, "packet id of PUBREL")
    a.send(p.PubComp(one.packet_id))
    a.nothing()


@scenarios()
def nothing_behind_a_refused_connect_counts(room: Room) -> None:
    """[MQTT-3.1.4-6]: what is sent along with it is not processed."""
    b = room.client("b")
    b.subscribe(room.topic("#"))
    a = room.socket()
    refused = p.Connect("", room.version, False, 60) if room.version < 5 else _with_a_method(room)
    a.send(refused, p.Publish(room.topic("t"), b"p", 1, 1))
    a.expect(p.ConnAck)
    a.ends()
    b.nothing()


def _with_a_method(room: Room) -> p.Connect:
    method: Properties = {props.AUTHENTICATION_METHOD: "none"}
    return p.Connect(f"{room.name}x", 5, True, 60, properties=method)


@scenarios(5)
def a_request_and_its_response(room: Room) -> None:
    a, b, topic = room.client(), room.client("b"), room.topic("t")
    for one in (a, b):
        one.subscribe((topic, 2 | NO_LOCAL))
    asked: Properties = {props.RESPONSE_TOPIC: topic, props.CORRELATION_DATA: b"334"}
    a.publish(topic, b"request", 1, properties=asked)
    request = b.message()
    expect((request.payload, request.properties), (b"request", asked), "the request")
    b.publish(str(property_of(request, props.RESPONSE_TOPIC)), b"response", 1, properties=request.properties)
    expect(a.message().payload, b"response", "the response")
    for one in (a, b):
        one.nothing()


@scenarios(5)
def one_copy_with_both_identifiers(room: Room) -> None:
    a = room.client()
    for identifier, topic_filter in ((2, "A"), (3, "A/#")):
        a.subscribe((room.topic(topic_filter), 2), properties={props.SUBSCRIPTION_IDENTIFIER: identifier})
    a.publish(room.topic("A"), b"p", 1)
    found = property_of(a.message(), props.SUBSCRIPTION_IDENTIFIER)
    expect(sorted(found) if isinstance(found, list) else found, [2, 3], "identifiers")
    a.nothing()


@scenarios(5)
def a_full_window_holds_up_nothing_else(room: Room) -> None:
    """[MQTT-3.3.4-10] [MQTT-4.9.0-3]: only PUBLISH at QoS 1 and 2 waits."""
    a = room.client(properties={props.RECEIVE_MAXIMUM: 2})
    a.acknowledging = False
    a.subscribe((room.topic("t"), 2))
    for n in range(3):
        a.publish(room.topic("t"), b"%d" % n, 1)
    got = [a.message(), a.message()]
    a.nothing()
    a.ping()
    expect(a.subscribe(room.topic("u")).codes, b"\2", "SUBACK")
    a.publish(room.topic("u"), b"at most once", 0)
    expect(a.message().payload, b"at most once", "a message at QoS 0")
    a.send(p.PubAck(got[0].packet_id))
    expect(a.message().payload, b"2", "the third")
    a.nothing()


@scenarios(5)
def what_was_sent_does_not_expire(room: Room) -> None:
    """[MQTT-4.3.3-7]: once it was sent, it comes again however late."""
    a, b = room.lasting(), room.client("b")
    a.acknowledging = False
    a.subscribe((room.topic("t"), 2))
    for qos in (1, 2):
        b.publish(room.topic("t"), b"%d" % qos, qos, properties={props.MESSAGE_EXPIRY_INTERVAL: 1})
    first = [a.message(), a.message()]
    a.abort()
    b.nothing(2.2)
    a = room.lasting(present=True)
    again = [a.message(), a.message()]
    wanted = [(one.payload, one.packet_id, True) for one in first]
    expect([(one.payload, one.packet_id, one.dup) for one in again], wanted, "the same again")


@scenarios(4, 5)
def a_member_that_goes_leaves_its_messages_to_the_group(room: Room) -> None:
    """5.0 §4.8.2: at QoS 1; at QoS 2 only those whose sending has not begun [MQTT-4.8.2-5]."""
    shared = f"$share/g/{room.topic('#')}"
    a = room.client()
    a.acknowledging = False
    a.subscribe((shared, 2))
    sender = room.client("sender")
    for n in range(2):
        sender.publish(room.topic("t"), b"%d" % n, 1 + n)
    for _ in range(2):
        a.message()
    b = room.client("b")
    b.subscribe((shared, 2))
    a.abort()
    expect(b.message().payload, b"0", "what was not acknowledged")
    b.nothing()


@scenarios(5)
def a_refused_message_of_a_group_is_nobody_elses(room: Room) -> None:
    """[MQTT-4.8.2-6] [MQTT-4.4.0-2]"""
    shared = f"$share/g/{room.topic('#')}"
    a = room.client()
    a.acknowledging = False
    a.subscribe((shared, 2))
    sender = room.client("sender")
    sender.publish(room.topic("t"), b"1", 1)
    sender.publish(room.topic("t"), b"2", 2)
    b = room.client("b")
    b.subscribe((shared, 2))
    a.send(p.PubAck(a.message().packet_id, 0x80), p.PubRec(a.message().packet_id, 0x80))
    a.ping()
    a.abort()
    b.nothing()


@scenarios(5)
def a_shared_subscription_beside_ordinary_ones(room: Room) -> None:
    members = [room.client(name) for name in ("a", "b")]
    shared = f"$share/sharename/{room.topic('x')}"
    for one in members:
        one.subscribe((shared, 2), (room.topic("own"), 2))
    members[1].publish(room.topic("own"), b"everybody's", 0)
    for one in members:
        expect(one.message().payload, b"everybody's", "to each")
    for n in range(10):
        members[1].publish(room.topic("x"), b"%d" % n, n % 3)
    for one in members:
        one.collect()
    got = sorted(message.payload for one in members for message in one.messages)
    expect(got, [b"%d" % n for n in range(10)], "each once")


@scenarios(5)
def a_will_is_due_with_the_shorter_of_delay_and_session(room: Room) -> None:
    b = room.client("b")
    b.subscribe(room.topic("will"))
    for delay, expiry, quiet in ((2, 5, 1.6), (5, 2, 1.6), (5, 0, 0.0)):
        will = p.Will(room.topic("will"), b"gone", 1, False, {props.WILL_DELAY_INTERVAL: delay})
        room.client(will=will, properties={props.SESSION_EXPIRY_INTERVAL: expiry}).abort()
        if quiet:
            b.nothing(quiet)
        expect(b.message(2.0).payload, b"gone", f"will with delay {delay}, expiry {expiry}")


@scenarios(5)
def a_text_that_is_none(room: Room) -> None:
    """5.0 §3.3.2.3.2: the indicator goes on as it came, and a payload that belies it is refused."""
    a, topic = room.client(), room.topic("t")
    a.subscribe((topic, 2))
    text: Properties = {props.PAYLOAD_FORMAT_INDICATOR: 1}
    a.publish(topic, "温度".encode(), 1, properties=text)
    expect(a.message().properties, text, "properties")
    for qos in (1, 2):
        expect(a.publish(topic, b"\xff", qos, properties=text), 0x99, f"reason at QoS {qos}")
    a.nothing()
