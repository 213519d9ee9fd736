"""However a stream of packets is cut into chunks, the same comes of it; and any bytes at all are survived."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from broker.mqtt import encode
from broker.mqtt import packets as p
from broker.mqtt.codec import LARGEST_PACKET, frame
from broker.mqtt.packets import Packet
from tests.mqtt.fakes import Bench

_topics = st.sampled_from(["a", "b", "a/b", "taken", "no", "$x"])
_payloads = st.sampled_from([b"", b"x", b"y", b"\x30\x03\0\1a", bytes(125), bytes(200)])
_ids = st.integers(1, 3)

_packets: st.SearchStrategy[Packet] = st.one_of(
    st.builds(p.Publish, _topics, _payloads),
    st.builds(p.Publish, _topics, _payloads, st.sampled_from([1, 2]), _ids, st.booleans(), st.booleans()),
    st.builds(p.Publish, _topics, _payloads, retain=st.booleans()),
    st.builds(p.PubRel, _ids),
    st.builds(p.PubAck, _ids),
    st.just(p.PingReq()),
    st.builds(lambda topic, qos: p.Subscribe(1, [(topic, qos)]), st.sampled_from(["a", "+", "#"]), st.integers(0, 2)),
    st.builds(lambda topic: p.Unsubscribe(1, [topic]), st.sampled_from(["a", "+", "#"])),
)
# Runs of equal packets are what senders of one topic and size make.
_streams = st.lists(st.tuples(_packets, st.integers(1, 5)), max_size=12).map(
    lambda runs: b"".join(encode.encode(packet) * count for packet, count in runs)
)
_WORST = [b"\x30\x02\0\0", b"\xe0\x00", b"\x32\x05\0\1a\0\0", b"\x40\x02\0\0", b"\xf0\x00", b"\x30\x84\x80\x00"]


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(stream) + 1) for place in places} | {0, len(stream)})
    return [stream[one:other] for one, other in pairwise(ends)]


def play(chunks: list[bytes], lasting: bool = False) -> tuple[object, ...]:
    """What everybody gets and what is counted when a client sends this; ``lasting``: some have sessions on disk."""
    bench = Bench(max_inflight=100)
    principal = bench.identities.principal("u")
    principal.forbidden.add("no")
    taken: list[tuple[bytes, int]] = []

    def take(payload: bytes, qos: int, properties: object, done: object) -> None:
        taken.append((payload, qos))

    principal.takers["taken"] = take
    watchers = [bench.connect("0", "w"), bench.connect("1", "w"), bench.connect("2", "w")]
    watchers[0].subscribe("#")
    watchers[1].subscribe("#", "a", qos=1)
    watchers[2].subscribe("a")
    if lasting:
        watchers += [bench.connect(name, "w", clean=False) for name in ("3", "4")]
        watchers[3].subscribe("#", qos=1)
        watchers[4].subscribe("a")
    client = bench.connect()
    for chunk in chunks:
        client.send(chunk)
    everybody = [*watchers, client]
    for one in everybody:
        one.got()
    stats = bench.stats
    return (
        # A client may get its own messages before or after their acknowledgement.
        [sorted(one.received, key=lambda packet: isinstance(packet, p.Publish)) for one in everybody],
        [one.closed for one in everybody],
        taken,
        (stats.messages_out, stats.dropped, stats.malformed),
        client.connection.messages_in if client.closed is None else None,
    )


class Chunks(SynchronousTestCase):
    maxDiff = None

    @given(_streams, st.lists(st.integers(0, 100_000), max_size=20), st.sampled_from([b"", *_WORST]), st.booleans())
    @settings(max_examples=150, deadline=None)
    def test_the_same_however_it_is_cut(self, stream: bytes, places: list[int], end: bytes, lasting: bool) -> None:
        whole = play([stream + end], lasting)
        self.assertEqual(play(cut(stream + end, places), lasting), whole)

    @given(_streams, st.booleans())
    @settings(max_examples=50, deadline=None)
    def test_the_same_packet_by_packet(self, stream: bytes, lasting: bool) -> None:
        places = []
        at = 0
        while at < len(stream):
            at = frame(stream, at, LARGEST_PACKET)[1]
            places.append(at)
        self.assertEqual(play(cut(stream, places), lasting), play([stream], lasting))

    @given(_streams)
    @settings(max_examples=30, deadline=None)
    def test_the_same_byte_by_byte(self, stream: bytes) -> None:
        stream = stream[:400]
        self.assertEqual(play([bytes((byte,)) for byte in stream]), play([stream]))

    def test_a_run_at_qos_1_is_every_one_of_it(self) -> None:
        packets = [encode.encode(p.Publish("a", b"x", 1, number)) for number in range(1, 91)]
        stream = b"".join(packets)
        whole = play([stream], True)
        received = whole[0]
        assert isinstance(received, list)
        self.assertEqual(received[5][1:], [p.PubAck(number) for number in range(1, 91)])
        for number, qos in ((1, 1), (3, 1), (0, 0), (4, 0)):
            got = [one for one in received[number] if isinstance(one, p.Publish)]
            self.assertEqual([(one.payload, one.qos) for one in got], [(b"x", qos)] * 90, number)
            self.assertEqual(len({one.packet_id for one in got}), 90 if qos else 1)
        for step in (1, 7, 3 * len(packets[0]), len(packets[0])):
            self.assertEqual(play([stream[at : at + step] for at in range(0, len(stream), step)], True), whole)

    def test_an_id_of_0_in_a_run(self) -> None:
        packet = encode.encode(p.Publish("a", b"x", 1, 1))
        bad = packet[:5] + b"\0\0" + packet[7:]
        received, closed, *_ = play([packet * 3 + bad + packet])
        assert isinstance(received, list)
        assert isinstance(closed, list)
        self.assertEqual((received[3][1:], closed[3]), ([p.PubAck(1)] * 3, "malformed"))

    def test_a_topic_that_is_longer_than_its_packet(self) -> None:
        """Alone in its chunk, and cut where a known topic ends."""
        for good, bad in (
            (encode.publish(b"a", b""), b"\x30\x03\0\2a"),
            (encode.encode(p.Publish("abc", b"", 1, 1)), b"\x32\x05\0\4abc"),
            (encode.encode(p.Publish("abc", b"", 1, 1)), b"\x32\x06\0\3abc\0"),
        ):
            _, closed, *_ = play([good, good, bad])
            assert isinstance(closed, list)
            self.assertEqual(closed[3], "malformed", bad)

    def test_a_run_is_every_one_of_it(self) -> None:
        stream = encode.publish(b"a", b"x") * 1000
        for step in (1000, 7, 5, 6 * len(encode.publish(b"a", b"x")), len(stream)):
            received = play([stream[at : at + step] for at in range(0, len(stream), step)])[0]
            assert isinstance(received, list)
            self.assertEqual([len(packets) - 2 for packets in received], [1000, 1000, 1000, -1])


class AnyBytes(SynchronousTestCase):
    @given(st.binary(max_size=200), st.lists(st.integers(0, 1000), max_size=3))
    @settings(max_examples=200, deadline=None)
    def test_behind_a_login(self, noise: bytes, places: list[int]) -> None:
        bench = Bench()
        client = bench.connect()
        for chunk in cut(noise, places):
            client.send(chunk)
        self.assertEqual(self.flushLoggedErrors(), [])
        self.assertIn(client.closed, (None, "malformed", "protocol_error", "too_long", "client_closed"))
        client.lose()
        self.assertEqual(bench.topics.subscriptions, 0)

    @given(_streams, st.integers(0, 10_000), st.integers(0, 255))
    @settings(max_examples=200, deadline=None)
    def test_one_byte_is_wrong(self, stream: bytes, place: int, byte: int) -> None:
        bench = Bench()
        client = bench.connect()
        spoilt = bytearray(stream or b"\0")
        spoilt[place % len(spoilt)] = byte
        client.send(bytes(spoilt))
        self.assertEqual(self.flushLoggedErrors(), [])
        self.assertNotEqual(client.closed, "internal_error")

    @given(st.binary(max_size=200))
    @settings(max_examples=200, deadline=None)
    def test_instead_of_a_login(self, noise: bytes) -> None:
        client = Bench().open()
        client.send(noise)
        self.assertEqual(self.flushLoggedErrors(), [])
        self.assertIn(client.closed, (None, "malformed", "protocol_error", "too_long"))
