"""Sessions in every version: what outlives a connection, who takes over from whom, what comes again."""

from __future__ import annotations

from broker.mqtt import packets as p
from tests.conformance.client import Client, Room, expect
from tests.conformance.scenarios import Scenarios

scenarios = Scenarios()


def _deaf(client: Client) -> Client:
    client.acknowledging = False
    return client


@scenarios()
def messages_wait_for_a_lasting_session(room: Room) -> None:
    a = room.lasting(present=False)
    a.subscribe(room.topic("#"))
    a.disconnect()
    b = room.client("b")
    for qos in (1, 2, 1, 2):
        b.publish(room.topic("t"), b"%d" % qos, qos)
    a = room.lasting(present=True)
    expect([(one.payload, one.qos) for one in (a.message() for _ in range(4))], [(b"1", 1), (b"2", 2)] * 2, "queue")
    a.nothing()
    b.publish(room.topic("t"), b"live", 1)
    expect(a.message().payload, b"live", "a message after the queue: the subscription is there still")


@scenarios()
def qos_0_subscriptions_queue_nothing_at_qos_1(room: Room) -> None:
    a = room.lasting()
    a.subscribe((room.topic("t"), 1))
    a.disconnect()
    b = room.client("b")
    for n in range(50):
        b.publish(room.topic("t"), b"%d" % n, 2)
    a = room.lasting(present=True)
    expect([one.qos for one in (a.message() for _ in range(50))], [1] * 50, "qos")
    a.nothing()


@scenarios()
def a_clean_start_ends_the_old_session(room: Room) -> None:
    a = room.lasting()
    a.subscribe(room.topic("#"))
    a.disconnect()
    b = room.client("b")
    b.publish(room.topic("t"), b"1", 1)
    a = room.client(present=False)
    a.nothing()
    b.publish(room.topic("t"), b"2", 1)
    a.nothing()
    a.disconnect()
    room.client(clean=False, present=False)


@scenarios()
def unacknowledged_messages_come_again(room: Room) -> None:
    a = _deaf(room.lasting())
    a.subscribe(room.topic("#"))
    b = room.client("b")
    b.publish(room.topic("1"), b"1", 1)
    b.publish(room.topic("2"), b"2", 2)
    first = [a.message(), a.message()]
    expect([one.dup for one in first], [False, False], "dup at first")
    a.disconnect()
    a = room.lasting(present=True)
    again = [a.message(), a.message()]
    expect([one.dup for one in again], [True, True], "dup [MQTT-3.3.1-1]")
    expect([one.packet_id for one in again], [one.packet_id for one in first], "packet ids [MQTT-4.4.0-1]")
    expect([one.payload for one in again], [b"1", b"2"], "order [MQTT-4.6.0-1]")
    a.ping()
    a.disconnect()
    room.lasting(present=True).nothing()


@scenarios()
def a_release_comes_again(room: Room) -> None:
    a = _deaf(room.lasting())
    a.subscribe(room.topic("#"))
    room.client("b").publish(room.topic("t"), b"2", 2)
    packet_id = a.message().packet_id
    a.send(p.PubRec(packet_id))
    expect(a.expect(p.PubRel).packet_id, packet_id, "packet id of PUBREL")
    a.abort()
    room.acknowledging = False  # the PUBREL may come together with the CONNACK
    a = room.lasting(present=True)
    expect(a.expect(p.PubRel).packet_id, packet_id, "packet id of PUBREL again")
    a.nothing()
    a.send(p.PubComp(packet_id))
    a.ping()
    a.abort()
    a = room.lasting(present=True)
    a.nothing()


@scenarios()
def a_qos_2_message_is_one_over_two_connections(room: Room) -> None:
    a, b = room.client("r"), room.lasting()
    a.subscribe(room.topic("t"))
    b.send(p.Publish(room.topic("t"), b"p", 2, 9))
    b.expect(p.PubRec)
    b.abort()
    b = room.lasting(present=True)
    b.send(p.Publish(room.topic("t"), b"p", 2, 9, dup=True))
    b.expect(p.PubRec)
    b.send(p.PubRel(9))
    b.expect(p.PubComp)
    expect(a.message().payload, b"p", "payload")
    a.nothing()


@scenarios()
def acknowledged_out_of_order(room: Room) -> None:
    a = _deaf(room.lasting())
    a.subscribe((room.topic("#"), 1))
    b = room.client("b")
    for n in range(4):
        b.publish(room.topic("t"), b"%d" % n, 1)
    got = [a.message() for _ in range(4)]
    a.send(p.PubAck(got[2].packet_id), p.PubAck(got[0].packet_id))
    a.ping()
    a.abort()
    a = room.lasting(present=True)
    expect(a.payloads(2), [b"1", b"3"], "what was not acknowledged")
    a.nothing()


@scenarios()
def a_second_client_of_the_id_takes_over(room: Room) -> None:
    a = room.lasting(present=False)
    a.subscribe(room.topic("#"))
    again = room.lasting(present=True)
    a.dismissed(0x8E)
    room.client("b").publish(room.topic("t"), b"p", 1)
    expect(again.message().payload, b"p", "payload at the new connection")


@scenarios()
def a_second_clean_client_of_the_id_takes_over(room: Room) -> None:
    a = room.client()
    a.subscribe(room.topic("#"))
    again = room.client(present=False)
    a.dismissed(0x8E)
    room.client("b").publish(room.topic("t"), b"p", 1)
    again.nothing()


@scenarios()
def a_will_of_who_was_taken_over(room: Room) -> None:
    b = room.client("b")
    b.subscribe(room.topic("will"))
    room.client(will=p.Will(room.topic("will"), b"gone", 1))
    room.client()
    expect(b.message().payload, b"gone", "will")


@scenarios(3, 4)
def an_empty_client_id(room: Room) -> None:
    refused = room.offer(p.Connect("", room.version, False, 60))
    expect(refused.connack.code, 2, "code of CONNACK")
    refused.ends()
    clean = room.offer(p.Connect("", room.version, True, 60))
    expect(clean.connack.code, 2 if room.version == 3 else 0, "code of CONNACK")
    if room.version == 4:
        clean.ping()


@scenarios(4, 5)
def a_subscription_that_is_refused(room: Room) -> None:
    a = room.client()
    answer = a.subscribe("test/nosubscribe", room.topic("t"), "test/nosubscribe")
    expect(answer.codes, b"\x80\x02\x80", "SUBACK")
    a.ping()


@scenarios()
def a_topic_that_may_not_be_published(room: Room) -> None:
    a = room.client()
    for qos, code in ((1, 0x87), (2, 0x87)):
        expect(a.publish("test/nosubscribe", b"p", qos), code if room.version == 5 else 0, f"reason at qos {qos}")
    a.publish("test/nosubscribe", b"p")
    a.ping()


@scenarios()
def a_new_subscription_of_a_lasting_session_stays(room: Room) -> None:
    a = room.lasting()
    a.subscribe(room.topic("1"), room.topic("2"))
    a.unsubscribe(room.topic("1"))
    a.subscribe((room.topic("2"), 1))
    a.abort()
    b = room.client("b")
    b.publish(room.topic("1"), b"1", 2)
    b.publish(room.topic("2"), b"2", 2)
    a = room.lasting(present=True)
    expect(a.message().qos, 1, "qos of the later subscription")
    a.nothing()
