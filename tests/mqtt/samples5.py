"""Packets of MQTT 5.0 with their bytes, written out by hand from the standard's tables, for the codec's tests."""

from __future__ import annotations

from broker.mqtt import packets as p
from broker.mqtt import properties as props
from broker.mqtt.answers import last_words
from broker.mqtt.codec import Decoder, Role, split_publish
from broker.mqtt.packets import Packet, ProtocolError
from broker.mqtt.properties import CLIENT_PUBLISH, decode_properties
from broker.mqtt.topics import valid_topic_name

LIMIT = 100_000

CONNECT_5 = bytes.fromhex("10 0e 0004 4d515454 05 02 000a 00 0001 70")

# (bytes, packet): each exactly as `encode` writes it.
TO_SERVER: tuple[tuple[bytes, Packet], ...] = (
    (CONNECT_5, p.Connect("p", 5, True, 10)),
    (bytes.fromhex("10 0d 0004 4d515454 05 00 ffff 00 0000"), p.Connect("", 5, False, 65535)),
    (bytes.fromhex("10 11 0004 4d515454 05 42 0000 00 0001 70 0001 ff"), p.Connect("p", 5, password=b"\xff")),
    (
        bytes.fromhex(
            "10 32 0004 4d515454 05 f6 003c 0d 11 00000078 21 0014 27 00100000"
            " 0001 63 07 18 00000005 01 01 0001 74 0002 00ff 0001 75 0003 ff0070"
        ),
        p.Connect(
            "c",
            5,
            True,
            60,
            "u",
            b"\xff\x00p",
            p.Will("t", b"\x00\xff", 2, True, {props.WILL_DELAY_INTERVAL: 5, props.PAYLOAD_FORMAT_INDICATOR: 1}),
            {props.SESSION_EXPIRY_INTERVAL: 120, props.RECEIVE_MAXIMUM: 20, props.MAXIMUM_PACKET_SIZE: 1 << 20},
        ),
    ),
    (
        bytes.fromhex("10 16 0004 4d515454 05 02 0000 08 15 0001 6d 16 0001 00 0001 63"),
        p.Connect("c", 5, properties={props.AUTHENTICATION_METHOD: "m", props.AUTHENTICATION_DATA: b"\x00"}),
    ),
    (bytes.fromhex("82 07 1234 00 0001 70 00"), p.Subscribe(0x1234, [("p", 0)])),
    (
        bytes.fromhex("82 12 ffff 03 0b ff7f 0003 612f23 2e 0003 2b2f62 11"),
        p.Subscribe(0xFFFF, [("a/#", 0x2E), ("+/b", 0x11)], {props.SUBSCRIPTION_IDENTIFIER: 16383}),
    ),
    (bytes.fromhex("82 10 0001 00 000a 24736861 72652f67 2f61 01"), p.Subscribe(1, [("$share/g/a", 1)])),
    (bytes.fromhex("a2 09 0001 00 0001 70 0001 23"), p.Unsubscribe(1, ["p", "#"])),
    (
        bytes.fromhex("a2 0d 0001 07 26 0001 6b 0001 76 0001 70"),
        p.Unsubscribe(1, ["p"], {props.USER_PROPERTY: [("k", "v")]}),
    ),
    (bytes.fromhex("c0 00"), p.PingReq()),
    (bytes.fromhex("e0 00"), p.Disconnect()),
    (bytes.fromhex("e0 01 04"), p.Disconnect(4)),
    (bytes.fromhex("e0 07 00 05 11 00000000"), p.Disconnect(0, {props.SESSION_EXPIRY_INTERVAL: 0})),
    (bytes.fromhex("f0 06 18 04 15 0001 6d"), p.Auth(0x18, {props.AUTHENTICATION_METHOD: "m"})),
)
TO_CLIENT: tuple[tuple[bytes, Packet], ...] = (
    (bytes.fromhex("20 03 00 00 00"), p.ConnAck()),
    (bytes.fromhex("20 03 01 00 00"), p.ConnAck(0, True)),
    (bytes.fromhex("20 03 00 87 00"), p.ConnAck(0x87)),
    (
        bytes.fromhex("20 0d 00 00 0a 22 000a 21 0014 12 0001 78"),
        p.ConnAck(
            0,
            False,
            {props.TOPIC_ALIAS_MAXIMUM: 10, props.RECEIVE_MAXIMUM: 20, props.ASSIGNED_CLIENT_IDENTIFIER: "x"},
        ),
    ),
    (bytes.fromhex("90 07 1234 00 00 01 02 80"), p.SubAck(0x1234, b"\x00\x01\x02\x80")),
    (bytes.fromhex("90 08 0001 04 1f 0001 6e 87"), p.SubAck(1, b"\x87", {props.REASON_STRING: "n"})),
    (bytes.fromhex("b0 05 1234 00 00 11"), p.UnsubAck(0x1234, b"\x00\x11")),
    (bytes.fromhex("d0 00"), p.PingResp()),
    (bytes.fromhex("e0 00"), p.Disconnect()),
    (bytes.fromhex("e0 01 8e"), p.Disconnect(0x8E)),
    (bytes.fromhex("e0 06 9c 04 1c 0001 73"), p.Disconnect(0x9C, {props.SERVER_REFERENCE: "s"})),
    (bytes.fromhex("f0 00"), p.Auth()),
    (bytes.fromhex("f0 06 18 04 15 0001 6d"), p.Auth(0x18, {props.AUTHENTICATION_METHOD: "m"})),
    (
        bytes.fromhex("30 0d 0003 612f62 05 0b 01 0b 8001 78 79"),
        p.Publish("a/b", b"xy", properties={props.SUBSCRIPTION_IDENTIFIER: [1, 128]}),
    ),
)
TO_BOTH: tuple[tuple[bytes, Packet], ...] = (
    (bytes.fromhex("30 06 0003 612f62 00"), p.Publish("a/b", b"")),
    (bytes.fromhex("31 08 0003 612f62 00 00ff"), p.Publish("a/b", b"\x00\xff", retain=True)),
    (bytes.fromhex("32 09 0003 612f62 000a 00 78"), p.Publish("a/b", b"x", 1, 10)),
    (bytes.fromhex("3d 0e 0003 612f62 ffff 05 02 00000001 78"), p.Publish("a/b", b"x", 2, 65535, True, True, {2: 1})),
    (bytes.fromhex("30 07 0000 03 23 0001 78"), p.Publish("", b"x", properties={props.TOPIC_ALIAS: 1})),
    (
        bytes.fromhex("30 1a 0001 74 16 08 0001 72 09 0000 03 0000 26 0000 0001 61 26 0001 62 0000"),
        p.Publish(
            "t",
            b"",
            properties={
                props.RESPONSE_TOPIC: "r",
                props.CORRELATION_DATA: b"",
                props.CONTENT_TYPE: "",
                props.USER_PROPERTY: [("", "a"), ("b", "")],
            },
        ),
    ),
    (
        b"\x30\x89\x01\x00\x01t\x83\x01\x09\x00\x80" + b"x" * 128 + b"y",
        p.Publish("t", b"y", properties={props.CORRELATION_DATA: b"x" * 128}),
    ),
    (bytes.fromhex("40 02 0001"), p.PubAck(1)),
    (bytes.fromhex("40 03 0001 10"), p.PubAck(1, 0x10)),
    (bytes.fromhex("50 02 0001"), p.PubRec(1)),
    (bytes.fromhex("50 08 0001 97 04 1f 0001 71"), p.PubRec(1, 0x97, {props.REASON_STRING: "q"})),
    (bytes.fromhex("62 02 0001"), p.PubRel(1)),
    (bytes.fromhex("62 08 0001 00 04 1f 0001 71"), p.PubRel(1, 0, {props.REASON_STRING: "q"})),
    (bytes.fromhex("70 02 ffff"), p.PubComp(65535)),
    (bytes.fromhex("70 03 ffff 92"), p.PubComp(65535, 0x92)),
)

# (role, bytes, packet)
SAMPLES: tuple[tuple[Role, bytes, Packet], ...] = (
    *(("server", *sample) for sample in (*TO_SERVER, *TO_BOTH)),
    *(("client", *sample) for sample in (*TO_CLIENT, *TO_BOTH)),
)


def unconnected() -> Decoder:
    """A server's decoder before the CONNECT, which may be one of 5.0."""
    return Decoder(LIMIT, highest_level=p.MQTT_5)


def connected() -> Decoder:
    """A server's decoder after the CONNECT of 5.0."""
    decoder = unconnected()
    list(decoder.feed(CONNECT_5))
    return decoder


def fresh(role: Role, packet: Packet | None = None) -> Decoder:
    """A decoder as it stands before `packet`."""
    if role == "client":
        return Decoder(LIMIT, role, p.MQTT_5)
    return unconnected() if isinstance(packet, p.Connect) else connected()


def answer(decoder: Decoder, wire: bytes) -> str | None:
    """What a server says, in hexadecimal, before it closes; None when `wire` is all right or not complete."""
    accepted = decoder.version != 0
    try:
        for _ in decoder.feed(wire):
            pass
    except ProtocolError as error:
        return last_words(error, decoder.version, accepted).hex()
    return None


def quick_outcome(decoder: Decoder, chunks: list[bytes]) -> tuple[list[Packet], str | None]:
    """All the packets and the reason of the error, by a server's own loop: an empty property block is stepped over."""
    out: list[Packet] = []
    try:
        for chunk in chunks:
            data = decoder.receive(chunk)
            offset, size = 0, len(data)
            while offset + 2 <= size:
                first = data[offset]
                length = data[offset + 1]
                body, end = (offset + 2, offset + 2 + length) if length < 128 else decoder.frame(data, offset)
                if end == 0 or end > size:
                    break
                if first >> 4 == p.PUBLISH and decoder.version == p.MQTT_5:
                    topic, packet_id, at = split_publish(data, first, body, end)
                    properties = None
                    if at < end and not data[at]:
                        at += 1
                    else:
                        properties, at = decode_properties(data, at, end, CLIENT_PUBLISH)
                    name = valid_topic_name(topic)
                    if not topic and properties and props.TOPIC_ALIAS in properties:
                        name = ""
                    if name is None:
                        raise ProtocolError("topic_name")
                    flags = first >> 1 & 3, packet_id, first & 1 == 1, first & 8 == 8
                    out.append(p.Publish(name, data[at:end], *flags, properties))
                else:
                    out.append(decoder.decode(data, offset, body, end))
                offset = end
            decoder.keep(data, offset)
    except ProtocolError as error:
        return out, error.reason
    return out, None
