"""MQTT 5.0 codec: any bytes give packets, need more, or ProtocolError, and the same ones whatever the chunking."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from broker.mqtt import packets as p
from broker.mqtt import properties as props
from broker.mqtt import reasons as r
from broker.mqtt.answers import last_words
from broker.mqtt.codec import Decoder, Role
from broker.mqtt.encode import encode
from broker.mqtt.packets import Packet, Properties, PropertyValue, ProtocolError
from tests.mqtt.samples import outcome
from tests.mqtt.samples5 import CONNECT_5, SAMPLES, quick_outcome
from tests.mqtt.test_codec_fuzz import bodies, cut, cuts, filters, framed, ids, keep_alives, names, qos, texts

LIMIT = 2000
_LARGEST = {props.BYTE: 0xFF, props.TWO_BYTES: 0xFFFF, props.FOUR_BYTES: 0xFFFFFFFF, props.VARIABLE: 0xFFFFFFF}


def values(row: props.Property) -> st.SearchStrategy[PropertyValue]:
    match row.form:
        case props.TEXT:
            return texts
        case props.TOPIC:
            return names
        case props.BINARY:
            return st.binary(max_size=20)
        case props.PAIR:
            return st.tuples(texts, texts)
    return st.integers(row.lowest, min(row.highest, _LARGEST[row.form]))


def properties(carrier: int, *without: int) -> st.SearchStrategy[Properties | None]:
    """What decodes to itself: None instead of an empty dict."""
    rows = [row for row in props.TABLE if carrier in row.carriers and row.identifier not in without]
    each = {
        row.identifier: st.lists(values(row), min_size=1, max_size=3) if carrier in row.repeated_in else values(row)
        for row in rows
    }
    return st.fixed_dictionaries({}, optional=each).map(lambda given: given or None)


def acks(
    kind: type[p.PubAck] | type[p.PubRec] | type[p.PubRel] | type[p.PubComp], carrier: int, codes: frozenset[int]
) -> st.SearchStrategy[Packet]:
    return st.builds(kind, ids, st.sampled_from(sorted(codes)), properties(carrier))


def publishes(carrier: int) -> st.SearchStrategy[Packet]:
    # What a client may not send can be read, but is not written.
    given = properties(carrier, *([props.SUBSCRIPTION_IDENTIFIER] if carrier == props.CLIENT_PUBLISH else []))
    aliased = given.map(lambda some: {**(some or {}), props.TOPIC_ALIAS: 5})
    once = st.integers(1, 2)
    return (
        st.builds(p.Publish, names, bodies, retain=st.booleans(), properties=given)
        | st.builds(p.Publish, names, bodies, once, ids, st.booleans(), st.booleans(), given)
        | st.builds(p.Publish, st.just(""), bodies, once, ids, properties=aliased)
    )


def codes(allowed: frozenset[int]) -> st.SearchStrategy[bytes]:
    return st.lists(st.sampled_from(sorted(allowed)), min_size=1, max_size=4).map(bytes)


def auths(allowed: list[int]) -> st.SearchStrategy[Packet]:
    given = properties(p.AUTH).map(lambda some: {**(some or {}), props.AUTHENTICATION_METHOD: "m"})
    return st.builds(p.Auth, st.sampled_from(allowed), given)


options = st.builds(lambda q, bits, handling: q | bits << 2 | handling << 4, qos, st.integers(0, 3), qos)
plain_filters = filters.filter(lambda text: not text.startswith("$share/"))
both_ways = (
    acks(p.PubAck, p.PUBACK, r.IN_PUBACK)
    | acks(p.PubRec, p.PUBREC, r.IN_PUBACK)
    | acks(p.PubRel, p.PUBREL, r.IN_PUBREL)
    | acks(p.PubComp, p.PUBCOMP, r.IN_PUBREL)
)
to_server = (
    publishes(props.CLIENT_PUBLISH)
    | both_ways
    | st.builds(
        p.Subscribe,
        ids,
        st.lists(st.tuples(plain_filters, options), min_size=1, max_size=4),
        properties(p.SUBSCRIBE),
    )
    | st.builds(p.Unsubscribe, ids, st.lists(filters, min_size=1, max_size=4), properties(p.UNSUBSCRIBE))
    | st.builds(p.PingReq)
    | st.builds(p.Disconnect, st.sampled_from(sorted(r.IN_CLIENT_DISCONNECT)), properties(p.DISCONNECT))
    | auths([0x18, 0x19])
)
to_client = (
    publishes(p.PUBLISH)
    | both_ways
    | st.builds(p.ConnAck, st.sampled_from(sorted(r.IN_CONNACK)), properties=properties(p.CONNACK))
    | st.builds(p.SubAck, ids, codes(r.IN_SUBACK), properties(p.SUBACK))
    | st.builds(p.UnsubAck, ids, codes(r.IN_UNSUBACK), properties(p.UNSUBACK))
    | st.builds(p.PingResp)
    | st.builds(p.Disconnect, st.sampled_from(sorted(r.IN_SERVER_DISCONNECT)), properties(props.SERVER_DISCONNECT))
    | auths([0x00, 0x18])
)
wills = st.none() | st.builds(p.Will, names, st.binary(max_size=20), qos, st.booleans(), properties(props.WILL))
connects = st.builds(
    p.Connect,
    texts,
    st.just(5),
    st.booleans(),
    keep_alives,
    st.none() | texts,
    st.none() | st.binary(max_size=10),
    wills,
    properties(p.CONNECT, props.AUTHENTICATION_DATA),
)

roles: st.SearchStrategy[tuple[Role, int]] = st.sampled_from([("server", 0), ("server", 5), ("client", 5)])
short_samples = st.sampled_from([wire for _, wire, _ in SAMPLES if len(wire) < 120])
damaged = st.tuples(short_samples, st.integers(0, 199), st.integers(0, 255)).map(
    lambda t: t[0][: t[1] % len(t[0])] + bytes((t[2],)) + t[0][t[1] % len(t[0]) + 1 :]
)
streams = st.lists(short_samples | damaged | framed | st.binary(max_size=8), max_size=8).map(b"".join)


def decoder_for(role: Role, version: int) -> Decoder:
    if role == "client":
        return Decoder(LIMIT, role, version)
    decoder = Decoder(LIMIT, highest_level=5)
    if version:
        list(decoder.feed(CONNECT_5))
    return decoder


class FuzzTests(SynchronousTestCase):
    @settings(deadline=None)
    @given(connects, st.lists(to_server, max_size=5), cuts)
    def test_there_and_back_at_the_server(self, connect: p.Connect, packets: list[Packet], sizes: list[int]) -> None:
        wire = encode(connect) + b"".join(encode(packet, 5) for packet in packets)
        self.assertEqual(outcome(decoder_for("server", 0), cut(wire, sizes)), ([connect, *packets], None))

    @settings(deadline=None)
    @given(st.lists(to_client, max_size=5), cuts)
    def test_there_and_back_at_the_client(self, packets: list[Packet], sizes: list[int]) -> None:
        wire = b"".join(encode(packet, 5) for packet in packets)
        self.assertEqual(outcome(decoder_for("client", 5), cut(wire, sizes)), (packets, None))

    @settings(deadline=None)
    @given(roles, streams | st.binary(max_size=60), cuts)
    def test_any_bytes_any_chunking(self, side: tuple[Role, int], data: bytes, sizes: list[int]) -> None:
        whole = outcome(decoder_for(*side), [data])
        decoder = decoder_for(*side)
        self.assertEqual(outcome(decoder, cut(data, sizes)), whole)
        self.assertLessEqual(decoder.held, LIMIT)
        if side[0] == "server":
            self.assertEqual(quick_outcome(decoder_for(*side), cut(data, sizes)), whole)

    @settings(deadline=None)
    @given(roles, streams)
    def test_what_is_decoded_encodes_to_the_same_packets(self, side: tuple[Role, int], data: bytes) -> None:
        role, version = side
        packets, _ = outcome(decoder_for(role, version), [data])
        for packet in packets:
            if isinstance(packet, p.Connect):
                version = packet.version
            again = decoder_for(role, 0 if isinstance(packet, p.Connect) else version)
            self.assertEqual(outcome(again, [encode(packet, version)]), ([packet], None))

    @settings(deadline=None)
    @given(roles, streams)
    def test_the_last_words_are_a_packet(self, side: tuple[Role, int], data: bytes) -> None:
        decoder = decoder_for(*side)
        accepted = decoder.version != 0
        try:
            list(decoder.feed(data))
        except ProtocolError as error:
            said = last_words(error, decoder.version, accepted)
            if not said or said == b"\x20\x02\x00\x01":
                return
            packets, reason = outcome(Decoder(LIMIT, "client", 5), [said])
            self.assertIsNone(reason)
            self.assertEqual(packets, [p.Disconnect(error.code) if accepted else p.ConnAck(error.code)])

    @settings(deadline=None)
    @given(st.binary(max_size=40), st.integers(0, 40), st.sampled_from(range(1, props.SERVER_DISCONNECT + 1)))
    def test_a_property_block_stays_inside_its_packet(self, raw: bytes, end: int, carrier: int) -> None:
        end = min(end, len(raw))
        results = []
        for data in (raw[:end], raw, raw[:end] + b"\xff" * 8):
            try:
                results.append(repr(props.decode_properties(data, 0, end, carrier)))
            except ProtocolError as error:
                results.append(error.reason)
        self.assertEqual(len(set(results)), 1, results)
