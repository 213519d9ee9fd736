"""Packets of every type with their bytes, written out by hand from the standard's tables, for the codec's tests."""

from __future__ import annotations

from broker.mqtt import packets as p
from broker.mqtt.codec import Decoder, Role, split_publish
from broker.mqtt.packets import Packet, ProtocolError
from broker.mqtt.topics import valid_topic_name

LIMIT = 100_000

CONNECT_3_1 = bytes.fromhex("10 0f 0006 4d5149736470 03 02 000a 0001 70")
CONNECT_3_1_1 = bytes.fromhex("10 0d 0004 4d515454 04 02 000a 0001 70")

# (version, bytes, packet): each exactly as `encode` writes it.
TO_SERVER: tuple[tuple[int, bytes, Packet], ...] = (
    (3, CONNECT_3_1, p.Connect("p", 3, True, 10)),
    (4, CONNECT_3_1_1, p.Connect("p", 4, True, 10)),
    (4, bytes.fromhex("10 0c 0004 4d515454 04 00 ffff 0000"), p.Connect("", 4, False, 65535)),
    (4, bytes.fromhex("10 0f 0004 4d515454 04 82 0000 0001 70 0000"), p.Connect("p", 4, True, 0, "")),
    (
        4,
        bytes.fromhex("10 1c 0004 4d515454 04 f6 003c 0001 63 0001 74 0002 00ff 0001 75 0003 ff0070"),
        p.Connect("c", 4, True, 60, "u", b"\xff\x00p", p.Will("t", b"\x00\xff", 2, True)),
    ),
    (
        3,
        bytes.fromhex("10 14 0006 4d5149736470 03 0c 0000 0001 63 0001 74 0000"),
        p.Connect("c", 3, False, 0, None, None, p.Will("t", b"", 1, False)),
    ),
    (4, bytes.fromhex("82 06 1234 0001 70 00"), p.Subscribe(0x1234, [("p", 0)])),
    (
        4,
        bytes.fromhex("82 0e ffff 0003 612f23 01 0003 2b2f62 02"),
        p.Subscribe(0xFFFF, [("a/#", 1), ("+/b", 2)]),
    ),
    (4, bytes.fromhex("a2 05 0001 0001 70"), p.Unsubscribe(1, ["p"])),
    (4, bytes.fromhex("a2 08 0001 0001 70 0001 23"), p.Unsubscribe(1, ["p", "#"])),
    (4, bytes.fromhex("c0 00"), p.PingReq()),
    (4, bytes.fromhex("e0 00"), p.Disconnect()),
)
TO_CLIENT: tuple[tuple[int, bytes, Packet], ...] = (
    (4, bytes.fromhex("20 02 00 00"), p.ConnAck()),
    (4, bytes.fromhex("20 02 01 00"), p.ConnAck(0, True)),
    (4, bytes.fromhex("20 02 00 05"), p.ConnAck(p.REFUSED_RIGHTS)),
    (4, bytes.fromhex("90 06 1234 00 01 02 80"), p.SubAck(0x1234, b"\x00\x01\x02\x80")),
    (4, bytes.fromhex("b0 02 1234"), p.UnsubAck(0x1234)),
    (4, bytes.fromhex("d0 00"), p.PingResp()),
)
TO_BOTH: tuple[tuple[int, bytes, Packet], ...] = (
    (4, bytes.fromhex("30 05 0003 612f62"), p.Publish("a/b", b"")),
    (4, bytes.fromhex("31 07 0003 612f62 00ff"), p.Publish("a/b", b"\x00\xff", retain=True)),
    (4, bytes.fromhex("32 08 0003 612f62 000a 78"), p.Publish("a/b", b"x", 1, 10)),
    (4, bytes.fromhex("3d 08 0003 612f62 ffff 78"), p.Publish("a/b", b"x", 2, 65535, True, True)),
    (4, b"\x30\x7f\x00\x01t" + b"x" * 124, p.Publish("t", b"x" * 124)),
    (4, b"\x30\x80\x01\x00\x01t" + b"x" * 125, p.Publish("t", b"x" * 125)),
    (4, b"\x30\x80\x80\x01\x00\x01t" + b"x" * 16381, p.Publish("t", b"x" * 16381)),
    (4, bytes.fromhex("40 02 0001"), p.PubAck(1)),
    (4, bytes.fromhex("50 02 0001"), p.PubRec(1)),
    (4, bytes.fromhex("62 02 0001"), p.PubRel(1)),
    (4, bytes.fromhex("70 02 ffff"), p.PubComp(65535)),
)

# (role, version, bytes, packet)
SAMPLES: tuple[tuple[Role, int, bytes, Packet], ...] = (
    *(("server", *sample) for sample in (*TO_SERVER, *TO_BOTH)),
    *(("client", *sample) for sample in (*TO_CLIENT, *TO_BOTH)),
)


def fresh(role: Role, version: int, packet: Packet | None = None) -> Decoder:
    """A decoder as it stands before `packet`: a server's has had its CONNECT, unless the packet is one."""
    if role == "client":
        return Decoder(LIMIT, role, version)
    decoder = Decoder(LIMIT)
    if not isinstance(packet, p.Connect) and version:
        list(decoder.feed(CONNECT_3_1 if version == 3 else CONNECT_3_1_1))
    return decoder


def outcome(decoder: Decoder, chunks: list[bytes]) -> tuple[list[Packet], str | None]:
    """What comes out of the decoder, and the reason of the error that ends it."""
    out: list[Packet] = []
    try:
        for chunk in chunks:
            for packet in decoder.feed(chunk):  # one by one: those before an error must have come out
                out.append(packet)
    except ProtocolError as error:
        return out, error.reason
    return out, None


def quick_outcome(decoder: Decoder, chunks: list[bytes]) -> tuple[list[Packet], str | None]:
    """`outcome` by a loop as a server writes it: PUBLISH split where it stands, the rest decoded."""
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
                if first >> 4 == p.PUBLISH and decoder.version:
                    topic, packet_id, rest = split_publish(data, first, body, end)
                    name = valid_topic_name(topic)
                    if name is None:
                        raise ProtocolError("topic_name")
                    payload = data[rest:end]
                    out.append(p.Publish(name, payload, first >> 1 & 3, packet_id, first & 1 == 1, first & 8 == 8))
                else:
                    out.append(decoder.decode(data, offset, body, end))
                offset = end
            decoder.keep(data, offset)
    except ProtocolError as error:
        return out, error.reason
    return out, None
