"""MQTT codec: any bytes give packets, need more, or ProtocolError, and the same ones whatever the chunking."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from broker.mqtt import packets as p
from broker.mqtt.codec import Decoder, Role
from broker.mqtt.encode import encode
from broker.mqtt.packets import Packet
from broker.mqtt.topics import decode_text, valid_topic_filter, valid_topic_name
from tests.mqtt.samples import CONNECT_3_1, CONNECT_3_1_1, SAMPLES, outcome, quick_outcome

LIMIT = 300

texts = st.text(max_size=10).filter(lambda s: _encodable(s) and decode_text(s.encode()) is not None)
names = st.text("ab/$ \u6e29", min_size=1, max_size=12).filter(lambda s: valid_topic_name(s.encode()) is not None)
filters = st.text("ab/$+#", min_size=1, max_size=12).filter(lambda s: valid_topic_filter(s.encode()) is not None)
ids = st.integers(1, 65535)
bodies = st.binary(max_size=150)
qos = st.integers(0, 2)

acks = st.one_of([st.builds(kind, ids) for kind in (p.PubAck, p.PubRec, p.PubRel, p.PubComp)])
publishes = st.builds(p.Publish, names, bodies, retain=st.booleans()) | st.builds(
    p.Publish, names, bodies, st.integers(1, 2), ids, st.booleans(), st.booleans()
)
wills = st.none() | st.builds(p.Will, names, st.binary(max_size=20), qos, st.booleans())
keep_alives = st.integers(0, 65535)
versions = st.sampled_from([3, 4])
users = st.tuples(texts, st.none() | st.binary(max_size=10))
connects = st.builds(p.Connect, texts, versions, st.booleans(), keep_alives, st.none(), st.none(), wills) | st.builds(
    lambda name, version, user, will: p.Connect(name, version, True, 60, user[0], user[1], will),
    texts,
    versions,
    users,
    wills,
)
to_server = (
    publishes
    | acks
    | st.builds(p.Subscribe, ids, st.lists(st.tuples(filters, qos), min_size=1, max_size=4))
    | st.builds(p.Unsubscribe, ids, st.lists(filters, min_size=1, max_size=4))
    | st.builds(p.PingReq)
    | st.builds(p.Disconnect)
)
to_client = (
    publishes
    | acks
    | st.builds(p.SubAck, ids, st.lists(st.sampled_from([0, 1, 2, 0x80]), min_size=1, max_size=4).map(bytes))
    | st.builds(p.UnsubAck, ids)
    | st.builds(p.PingResp)
    | st.builds(p.ConnAck, st.integers(0, 5))
)
roles: st.SearchStrategy[tuple[Role, int]] = st.sampled_from(
    [("server", 0), ("server", 3), ("server", 4), ("client", 3), ("client", 4)]
)
cuts = st.lists(st.integers(1, 40), max_size=30)

# Bytes near to MQTT: whole samples, headers with a length, damaged samples, noise.
short_samples = st.sampled_from([s[2] for s in SAMPLES if len(s[2]) < 200])
damaged = st.tuples(short_samples, st.integers(0, 199), st.integers(0, 255)).map(
    lambda t: t[0][: t[1] % len(t[0])] + bytes((t[2],)) + t[0][t[1] % len(t[0]) + 1 :]
)
framed = st.tuples(st.integers(0, 255), st.binary(max_size=30)).map(lambda t: bytes((t[0], len(t[1]))) + t[1])
streams = st.lists(st.sampled_from([s[2] for s in SAMPLES]) | damaged | framed | st.binary(max_size=8), max_size=8).map(
    b"".join
)


def _encodable(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def decoder_for(role: Role, version: int) -> Decoder:
    if role == "client":
        return Decoder(LIMIT, role, version)
    decoder = Decoder(LIMIT)
    if version:
        list(decoder.feed(CONNECT_3_1 if version == 3 else CONNECT_3_1_1))
    return decoder


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    chunks = []
    at = 0
    for size in sizes:
        chunks.append(data[at : at + size])
        at += size
    return [*chunks, data[at:]]


class FuzzTests(SynchronousTestCase):
    @settings(deadline=None)
    @given(connects, st.lists(to_server, max_size=5), cuts)
    def test_there_and_back_at_the_server(self, connect: p.Connect, packets: list[Packet], sizes: list[int]) -> None:
        wire = encode(connect) + b"".join(encode(packet, connect.version) for packet in packets)
        self.assertEqual(outcome(Decoder(LIMIT), cut(wire, sizes)), ([connect, *packets], None))

    @settings(deadline=None)
    @given(st.lists(to_client, max_size=5), versions, cuts)
    def test_there_and_back_at_the_client(self, packets: list[Packet], version: int, sizes: list[int]) -> None:
        wire = b"".join(encode(packet, version) for packet in packets)
        self.assertEqual(outcome(Decoder(LIMIT, "client", version), cut(wire, sizes)), (packets, None))

    @settings(deadline=None)
    @given(roles, streams, cuts)
    def test_any_bytes_any_chunking(self, side: tuple[Role, int], data: bytes, sizes: list[int]) -> None:
        whole = outcome(decoder_for(*side), [data])
        decoder = decoder_for(*side)
        self.assertEqual(outcome(decoder, cut(data, sizes)), whole)
        self.assertLessEqual(decoder.held, LIMIT)
        self.assertEqual(quick_outcome(decoder_for(*side), cut(data, sizes)), whole)

    @settings(deadline=None)
    @given(roles, st.binary(max_size=60), cuts)
    def test_noise(self, side: tuple[Role, int], data: bytes, sizes: list[int]) -> None:
        whole = outcome(decoder_for(*side), [data])
        self.assertEqual(outcome(decoder_for(*side), cut(data, sizes)), whole)
        self.assertEqual(quick_outcome(decoder_for(*side), cut(data, sizes)), whole)

    @settings(deadline=None)
    @given(roles, streams)
    def test_what_is_decoded_encodes_to_the_same_packets(self, side: tuple[Role, int], data: bytes) -> None:
        role, version = side
        packets, _ = outcome(decoder_for(role, version), [data])
        for packet in packets:
            if isinstance(packet, p.Connect):
                version = packet.version
            again = Decoder(LIMIT, role, version) if role == "client" else decoder_for(role, version)
            if isinstance(packet, p.Connect):
                again = Decoder(LIMIT)
            self.assertEqual(outcome(again, [encode(packet, version)]), ([packet], None))
