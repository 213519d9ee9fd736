"""What the MQTT codec costs a packet, without sockets: `python -m benchmarks.mqtt_codec`. The best of several runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from broker.mqtt import encode5
from broker.mqtt.codec import Decoder, frame, publish_run, split_publish
from broker.mqtt.encode import packet_id_bytes, puback, publish, publish_head
from broker.mqtt.packets import PUBLISH, Properties
from broker.mqtt.properties import (
    CONTENT_TYPE,
    MESSAGE_EXPIRY_INTERVAL,
    USER_PROPERTY,
    encode_properties,
    publish_property_bytes,
    received_properties,
    shared_bytes,
)
from broker.mqtt.topics import matches, valid_topic_name

PACKETS = 50
ROUNDS = 7
CHUNKS = 400
TOPIC = b"devices/0123456789ab/up/data"
PAYLOAD = b"x" * 64
LIMIT = 1 << 20


def whole_packets(data: bytes) -> int:
    """The loop of a server at QoS 0: topic and whole packet as bytes, for its look-up and its forwarding."""
    offset, size, total = 0, len(data), 0
    while offset + 2 <= size:
        first = data[offset]
        length = data[offset + 1]
        body, end = (offset + 2, offset + 2 + length) if length < 128 else frame(data, offset, LIMIT)
        if end == 0 or end > size:
            break
        if first == 0x30 and length > 2:
            rest = body + 2 + (data[body] << 8 | data[body + 1])
            if rest > end:
                break
            topic = data[body + 2 : rest]
            packet = data[offset:end]
            total += len(topic) + len(packet)
        offset = end
    return total


def payloads(data: bytes) -> int:
    """The same with the payload instead of the packet."""
    offset, size, total = 0, len(data), 0
    while offset + 2 <= size:
        first = data[offset]
        length = data[offset + 1]
        body, end = (offset + 2, offset + 2 + length) if length < 128 else frame(data, offset, LIMIT)
        if end == 0 or end > size:
            break
        if first == 0x30 and length > 2:
            rest = body + 2 + (data[body] << 8 | data[body + 1])
            if rest > end:
                break
            topic = data[body + 2 : rest]
            payload = data[rest:end]
            total += len(topic) + len(payload)
        offset = end
    return total


def runs(data: bytes) -> int:
    """Packets with the same head as the one before are taken as one run: one topic, one slice for all of them."""
    offset, size, total = 0, len(data), 0
    while offset + 2 <= size:
        first = data[offset]
        length = data[offset + 1]
        body, end = (offset + 2, offset + 2 + length) if length < 128 else frame(data, offset, LIMIT)
        if end == 0 or end > size:
            break
        if first == 0x30 and length > 2:
            rest = body + 2 + (data[body] << 8 | data[body + 1])
            if rest > end:
                break
            topic = data[body + 2 : rest]
            count = 1
            if end + 1 < size and data[end + 1] == length and data.startswith(data[offset:rest], end):
                step = end - offset
                end = publish_run(data, offset, rest, end)
                count = (end - offset) // step
            packets = data[offset:end]
            total += len(topic) * count + len(packets)
        offset = end
    return total


def payloads_5(data: bytes) -> int:
    """The loop of a server for 5.0: an empty property block is one byte to look at."""
    offset, size, total = 0, len(data), 0
    while offset + 2 <= size:
        first = data[offset]
        length = data[offset + 1]
        body, end = (offset + 2, offset + 2 + length) if length < 128 else frame(data, offset, LIMIT)
        if end == 0 or end > size:
            break
        if first == 0x30 and length > 2:
            rest = body + 2 + (data[body] << 8 | data[body + 1])
            if rest >= end:
                break
            topic = data[body + 2 : rest]
            if data[rest]:
                _, _, rest = received_properties(data, rest, end)
            else:
                rest += 1
            payload = data[rest:end]
            total += len(topic) + len(payload)
        offset = end
    return total


def objects_5(data: bytes) -> int:
    """`Decoder.feed` for 5.0."""
    decoder = Decoder(LIMIT, role="client", version=5)
    return sum(1 for _ in decoder.feed(data))


def split(data: bytes) -> int:
    """`frame` and `split_publish`, a call each: the readable loop."""
    offset, size, total = 0, len(data), 0
    while offset < size:
        body, end = frame(data, offset, LIMIT)
        if end == 0 or end > size:
            break
        topic, packet_id, rest = split_publish(data, data[offset], body, end)
        payload = data[rest:end]
        total += len(topic) + len(payload) + packet_id
        offset = end
    return total


def objects(data: bytes) -> int:
    """`Decoder.feed`: a Publish object a packet."""
    decoder = Decoder(LIMIT, role="client", version=4)
    return sum(1 for _ in decoder.feed(data))


def best(work: Callable[[], object], packets: int) -> float:
    """Microseconds of CPU a packet."""
    figures = []
    for _ in range(ROUNDS):
        start = time.process_time()
        for _ in range(CHUNKS):
            work()
        figures.append((time.process_time() - start) / (CHUNKS * packets) * 1e6)
    return min(figures)


def main() -> None:
    """Print a line for each kind of work."""
    chunks = {
        "64 B QoS 0": publish(TOPIC, PAYLOAD) * PACKETS,
        "200 B QoS 0": publish(TOPIC, b"x" * 200) * PACKETS,
        "two topics in turn": (publish(TOPIC, PAYLOAD) + publish(TOPIC + b"2", PAYLOAD)) * (PACKETS // 2),
    }
    print(f"{PACKETS} packets a chunk, us CPU a packet")
    for name, loop in (
        ("inlined, whole packet", whole_packets),
        ("inlined, payload", payloads),
        ("inlined, runs", runs),
        ("frame + split_publish", split),
        ("Decoder.feed", objects),
    ):
        figures = [f"{kind} {best(partial(loop, data), PACKETS):.3f}" for kind, data in chunks.items()]
        print(f"  {name:24}", "  ".join(figures))
    given: Properties = {MESSAGE_EXPIRY_INTERVAL: 60, CONTENT_TYPE: "text/plain", USER_PROPERTY: [("k", "v")]}
    block = encode_properties(given, PUBLISH)
    chunks_5 = {
        "no properties": encode5.publish(TOPIC, PAYLOAD) * PACKETS,
        "three properties": encode5.publish(TOPIC, PAYLOAD, block=block) * PACKETS,
    }
    for name, loop in (("5.0 inlined, payload", payloads_5), ("5.0 Decoder.feed", objects_5)):
        figures = [f"{kind} {best(partial(loop, data), PACKETS):.3f}" for kind, data in chunks_5.items()]
        print(f"  {name:24}", "  ".join(figures))
    head = publish_head(TOPIC, len(PAYLOAD), 1)
    shared = shared_bytes(given)
    head_5 = encode5.publish_head(TOPIC, len(PAYLOAD) + 1, 1)
    for name, work in (
        ("publish QoS 0", lambda: publish(TOPIC, PAYLOAD)),
        ("publish_head + id + payload", lambda: head + packet_id_bytes(7) + PAYLOAD),
        ("puback", lambda: puback(7)),
        ("5.0 puback", lambda: encode5.puback(7)),
        ("5.0 puback 0x10", lambda: encode5.puback(7, 0x10)),
        ("5.0 head + id + 0 + payload", lambda: head_5 + packet_id_bytes(7) + b"\x00" + PAYLOAD),
        ("5.0 encode_properties", lambda: encode_properties(given, PUBLISH)),
        ("5.0 block with alias and id", lambda: publish_property_bytes(3, (7,), shared)),
        ("valid_topic_name", lambda: valid_topic_name(TOPIC)),
        ("matches", lambda: matches("devices/+/up/#", "devices/0123456789ab/up/data")),
    ):
        print(f"  {name:28} {best(work, 1):.3f}")


if __name__ == "__main__":
    main()
