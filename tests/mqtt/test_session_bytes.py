"""Whole sessions, damaged: whatever comes, there is no traceback, nobody else suffers, and nothing is left behind.

A session that uses everything (will, retained, QoS 0 to 2, shared subscriptions, aliases) is recorded once for each
version. Then bytes of it are flipped, cut out and put in, packets change places, and it comes in chunks of any size,
while another client goes on living and the journal commits, or fails, when it likes.
"""

from __future__ import annotations

import os
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from broker.model.errors import Unavailable
from broker.mqtt import packets as p
from broker.mqtt import properties as props
from broker.mqtt.encode import encode
from broker.mqtt.packets import MQTT_3_1, MQTT_3_1_1, MQTT_5, Packet
from tests.mqtt.fakes import Bench, Client

#: Damaged sessions of each version; many more with BROKER_TEST_FUZZ=100000.
SESSIONS = int(os.environ.get("BROKER_TEST_FUZZ", "1500"))
VERSIONS = (MQTT_3_1, MQTT_3_1_1, MQTT_5)
#: Wide enough for the session, and narrow enough that damage comes upon the limits.
LIMITS = {
    "max_topic_length": 64,
    "max_topic_levels": 8,
    "max_subscriptions": 8,
    "max_inflight": 4,
    "max_queued_messages": 20,
    "max_unacknowledged": 10,
    "max_unreleased": 5,
    "max_retained_messages": 20,
    "max_sessions": 5,
    "anonymous_deny": (),
    "sys_interval": 0.0,
}


def recording(version: int, clean: bool) -> list[bytes]:
    """The packets of a whole session."""
    five = version == MQTT_5
    will = p.Will("will/c", b"gone", 2, True, {props.WILL_DELAY_INTERVAL: 0} if five else None)
    kept: p.Properties | None = None
    if five:
        kept = {props.SESSION_EXPIRY_INTERVAL: 0 if clean else 100, props.TOPIC_ALIAS_MAXIMUM: 3}
    packets: list[Packet] = [
        p.Connect("c", version, clean, 60, "u", b"secret", will, kept),
        p.Subscribe(1, [("a/+", 2), ("b/#", 1), ("c", 0)]),
        p.Publish("a/b", b"0"),
        p.Publish("a/b", b"1" * 100, 1, 1),
        p.Publish("a/b", b"2", 2, 2),
        p.PubRel(2),
        p.PubAck(1),
        p.PubRec(1),
        p.PubComp(1),
        p.Publish("b/kept", b"kept", 1, 3, retain=True),
        p.Publish("b/kept", b"", 1, 4, retain=True),
        *(p.Publish("b/many", b"x" * 20, 1 + number % 2, 10 + number) for number in range(8)),
        *(p.PubRel(10 + number) for number in range(8)),
        p.PingReq(),
        p.Unsubscribe(5, ["b/#", "nothing"]),
    ]
    if five:
        packets[3:3] = [
            p.Subscribe(2, [("$share/g/a/b", 1), ("a/#", 0x2E)], {props.SUBSCRIPTION_IDENTIFIER: 7}),
            p.Publish("a/alias", b"3", properties={props.TOPIC_ALIAS: 1, props.MESSAGE_EXPIRY_INTERVAL: 9}),
            p.Publish("", b"4", 1, 20, properties={props.TOPIC_ALIAS: 1, props.USER_PROPERTY: [("k", "v")]}),
            p.Publish("a/ask", b"5", 2, 21, properties={props.RESPONSE_TOPIC: "b/answer"}),
        ]
    packets.append(p.Disconnect())
    return [encode(one, version) for one in packets]


RECORDINGS = {(version, clean): recording(version, clean) for version in VERSIONS for clean in (True, False)}


def damaged(random: Random, packets: list[bytes]) -> bytes:
    """The session with a few things wrong. Half of the time it gets past its CONNECT in any case."""
    first = random.randrange(2)
    packets = packets.copy()
    for _ in range(random.randrange(1, 5)):
        at, other = (random.randrange(first, len(packets)) for _ in range(2))
        match random.randrange(5):
            case 0:
                packets[at], packets[other] = packets[other], packets[at]
            case 1:
                packets.insert(at, packets[other])
            case 2:
                del packets[at]
            case _:
                packets[at] = flipped(random, packets[at])
    return b"".join(packets)


def flipped(random: Random, packet: bytes) -> bytes:
    data = bytearray(packet)
    for _ in range(random.randrange(1, 4)):
        at = random.randrange(len(data)) if data else 0
        match random.randrange(4):
            case 0 if data:
                data[at] ^= 1 << random.randrange(8)
            case 1 if data:
                data[at] = random.choice((0, 1, 127, 128, 255, random.randrange(256)))
            case 2:
                del data[at : at + random.randrange(1, 6)]
            case _:
                data[at:at] = random.randbytes(random.randrange(1, 6))
    return bytes(data)


class Siege:
    """One server for many sessions, with a client of good behaviour."""

    def __init__(self, case: SynchronousTestCase) -> None:
        self.case = case
        self.bench = Bench({"max_message_size": 300, "max_outbox": 4096}, **LIMITS)
        self.good = self.bench.connect("good", "good")
        self.good.subscribe("good/#", qos=1)
        self.count = 0
        #: Sessions that got as far as a log-in, and of those that went on to their end.
        self.welcomed = self.whole = 0

    def attack(self, data: bytes, random: Random) -> None:
        """One session from its first byte to the end of its connection."""
        bench = self.bench
        client = bench.open()
        bench.journal.held = random.random() < 0.3
        at = 0
        while at < len(data) and not client.transport.disconnecting:
            step = random.choice((1, 7, 100, len(data)))
            client.send(data[at : at + step])
            at += step
            if not client.transport.value():  # nothing but a CONNECT: its answer may have to wait for the will
                bench.journal.commit()
            if random.random() < 0.05:
                bench.clock.advance(0.1)
            if bench.journal.held and random.random() < 0.2:
                self.settle(random)
        self.welcomed += client.transport.value()[:1] == b"\x20"
        self.whole += client.connection.reason == "client_closed"
        self.case.assertNotEqual(client.connection.reason, "internal_error")
        client.lose()
        bench.journal.held = False
        bench.journal.commit()
        bench.clock.advance(0.1)
        bench.flush()
        self.check(client)

    def settle(self, random: Random) -> None:
        if random.random() < 0.2:
            self.bench.journal.fail(Unavailable("the disk is full"))
        else:
            self.bench.journal.commit()
        self.bench.flush()

    def check(self, client: Client) -> None:
        """The good client is served as before; only what must be kept is."""
        case, server = self.case, self.bench.server
        case.assertEqual(case.flushLoggedErrors(), [])
        case.assertNotIn(client.connection, server.connections)
        case.assertEqual(len(server.connections), 1)
        self.count += 1
        body = b"%d" % self.count
        self.good.got()
        answer = self.good.ask(p.Publish("good/x", body, 1, 7))
        case.assertEqual([one.payload for one in answer if isinstance(one, p.Publish)], [body])
        case.assertIn(p.PubAck(7), answer)
        for one in answer:
            if isinstance(one, p.Publish):
                self.good.send(p.PubAck(one.packet_id))

    def nothing_left(self) -> None:
        """Bounds of what all of them together may have left, and nothing once the sessions are over."""
        bench = self.bench
        settings = bench.settings
        sessions = bench.server.sessions
        self.case.assertLessEqual(sessions.persistent, settings.max_sessions)
        self.case.assertLessEqual(len(sessions), settings.max_sessions + 1)
        self.case.assertLessEqual(len(bench.server.retained), settings.max_retained_messages)
        self.case.assertLessEqual(sum(map(len, bench.journal.queues.values())), 5 * (20 + 4))
        self.case.assertLessEqual(len(bench.journal.retained), settings.max_retained_messages)
        # Everybody comes once more with a clean session.
        for owner, client_id in list(sessions._sessions):
            if client_id != "good":
                bench.connect(client_id, owner).lose(clean=True)
        self.case.assertEqual(len(sessions), 1)
        self.case.assertEqual((sessions.persistent, bench.journal.sessions, bench.journal.queues), (0, {}, {}))
        self.case.assertEqual((bench.journal.incoming, bench.journal.subscriptions), ({}, {}))
        self.case.assertEqual((bench.journal.wills, len(sessions.wills)), ({}, 0))
        self.case.assertEqual(len(sessions.groups._groups), 0)


class SessionFuzzTests(SynchronousTestCase):
    def _fuzz(self, version: int) -> None:
        random = Random(version)
        siege = Siege(self)
        for number in range(SESSIONS):
            if number % 100 == 99:
                siege.nothing_left()
            packets = RECORDINGS[version, random.random() < 0.5]
            data = damaged(random, packets)
            try:
                siege.attack(data, random)
            except BaseException as error:
                error.add_note(f"session {number}: {data.hex(' ')}")
                raise
        siege.nothing_left()
        # The damage is neither so great that nothing gets through, nor so small that nothing is damaged.
        self.assertGreater(siege.welcomed, SESSIONS // 2)
        self.assertGreater(siege.whole, SESSIONS // 50)
        self.assertLess(siege.whole, SESSIONS * 3 // 4)

    def test_damaged_sessions_of_3_1(self) -> None:
        self._fuzz(MQTT_3_1)

    def test_damaged_sessions_of_3_1_1(self) -> None:
        self._fuzz(MQTT_3_1_1)

    def test_damaged_sessions_of_5_0(self) -> None:
        self._fuzz(MQTT_5)

    def test_the_sessions_are_whole(self) -> None:
        """Undamaged, each is served to its DISCONNECT."""
        for key, packets in RECORDINGS.items():
            siege = Siege(self)
            siege.attack(b"".join(packets), Random(1))
            self.assertEqual((siege.welcomed, siege.whole), (1, 1), key)
            siege.nothing_left()

    @settings(max_examples=150, deadline=None)
    @given(
        st.sampled_from(VERSIONS),
        st.booleans(),
        st.lists(st.tuples(st.integers(0, 40), st.binary(max_size=8), st.integers(0, 8)), max_size=6),
        st.randoms(use_true_random=False),
    )
    def test_any_change(self, version: int, clean: bool, changes: list[tuple[int, bytes, int]], random: Random) -> None:
        """Any bytes in place of any others, anywhere in any packet."""
        packets = RECORDINGS[version, clean].copy()
        for at, data, cut in changes:
            packet = packets[at % len(packets)]
            start = at % (len(packet) + 1)
            packets[at % len(packets)] = packet[:start] + data + packet[start + cut :]
        siege = Siege(self)
        siege.attack(b"".join(packets), random)
        siege.nothing_left()
