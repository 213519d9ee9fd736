"""What is fuzzed: each target takes any bytes, and an exception that comes out of it is a finding.

Decoders of streams are fed the bytes whole and in two pieces, and must say the same both times. To listeners they are
what a client does:

::

    first byte   odd: the client has logged in before
    the rest     what it sends, in chunks, cut where `CUT` stands; where `WAIT` stands, ten seconds pass

What a listener keeps of unfinished input stays bounded, and it never closes for a fault of its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from broker.applications.loracenter import codec as loracenter
from broker.cluster.wire import open_envelope, open_question
from broker.devices.gateway88.container import Undecodable
from broker.devices.gateway88.container import decode as unpack
from broker.devices.gateway88.frames import FrameDecoder
from broker.devices.gizwits import codec as gizwits
from broker.devices.lorawan import codec as semtech
from broker.devices.lorawan.chirpstack import events as chirpstack
from broker.devices.lorawan.frames import FrameError, parse_uplink
from broker.devices.lorawan.mac import codec as mac
from broker.devices.novacloud.codec import LineDecoder
from broker.listening.handshake import Handshake
from broker.listening.handshake import Refused as NoHandshake
from broker.listening.proxy_header import ProxyHeaderError
from broker.listening.proxy_header import parse as parse_proxy
from broker.listening.settings import WebSocketSettings
from broker.model.errors import Invalid
from broker.model.jsontext import MAX_DEPTH, decode
from broker.mqtt import packets as p
from broker.mqtt.codec import Decoder, Role
from broker.mqtt.encode import encode
from broker.mqtt.packets import ProtocolError
from broker.web.multipart import FormReader, boundary_of
from tests.fuzz.listeners import LISTENERS, converse

LIMIT: Final = 4_096
BOUNDARY: Final = b"frontier"


@dataclass(frozen=True)
class Target:
    """``run`` raises for a finding alone."""

    name: str
    run: Callable[[bytes], None]


def _said(items: Callable[[], Iterable[Any]], expected: type[Exception]) -> list[str]:
    """What a decoder makes of its input, up to the first error that it may have."""
    found: list[str] = []
    try:
        found.extend(repr(item) for item in items())
    except expected as error:
        found.append(repr(error))
    return found


def _stream(make: Callable[[], Any], expected: type[Exception], data: bytes) -> None:
    """A decoder with ``feed``: the same outcome however the bytes come."""
    whole = make()
    told = _said(lambda: list(whole.feed(data)), expected)
    halves = make()
    cut = len(data) // 2

    def in_halves() -> Iterable[Any]:
        yield from halves.feed(data[:cut])
        yield from halves.feed(data[cut:])

    said = _said(lambda: _until_error(in_halves()), expected)
    assert told == said or told[-1:] == said[-1:], (told[-3:], said[-3:])


def _until_error(items: Iterable[Any]) -> Iterable[Any]:
    yield from items


def _one(call: Callable[[bytes], object], expected: tuple[type[Exception], ...], data: bytes) -> None:
    try:
        call(data)
    except expected:
        pass


def _mqtt(role: Role, version: int, data: bytes) -> None:
    def make() -> Decoder:
        decoder = Decoder(LIMIT, role, version) if role == "client" else Decoder(LIMIT, highest_level=p.MQTT_5)
        if role == "server" and version:
            list(decoder.feed(encode(p.Connect("c", version), version)))
        return decoder

    _stream(make, ProtocolError, data)


def _depth(data: bytes) -> None:
    value = decode(data)
    text = json.dumps(value)  # whatever was read can be written
    assert text.count("[") + text.count("{") >= 0
    level = value
    for _ in range(MAX_DEPTH + 1):
        if not isinstance(level, list | dict) or not level:
            return
        level = level[0] if isinstance(level, list) else next(iter(level.values()))
    raise AssertionError("deeper than MAX_DEPTH")


def _form(data: bytes) -> None:
    got: list[bytes] = []
    reader = FormReader(BOUNDARY, lambda name, file, kind: None, got.append)
    reader.feed(data)
    reader.end()
    assert sum(map(len, got)) <= len(data)


def _handshake(data: bytes) -> None:
    Handshake(["mqtt"], WebSocketSettings()).receive(data)


def _loracenter_frames(data: bytes) -> None:
    decoder = loracenter.FrameDecoder(LIMIT)
    for frame in decoder.feed(data):
        request = loracenter.parse(frame)
        if request is not None:
            repr(request)
            for name in ("cseui", "deveui", "payload", "port", "prior", "challenge", "confirm"):
                value = request.get(name)
                for read in (loracenter.eui, loracenter.payload, loracenter.challenge, loracenter.flag):
                    read(value)
                loracenter.integer(value, 0, 255)
    assert decoder.buffered <= LIMIT + 1


def _semtech(data: bytes) -> None:
    datagram = semtech.parse(data)
    repr(datagram)
    if datagram.kind == semtech.PUSH_DATA:
        for packet in semtech.push_body(datagram.body).rxpk or ():
            try:
                parse_uplink(semtech.packet_bytes(packet))
            except (semtech.DatagramError, FrameError):
                continue
    elif datagram.kind == semtech.TX_ACK:
        semtech.tx_error(datagram.body)


def _frames(data: bytes) -> None:
    repr(parse_uplink(data))


def _mac(data: bytes) -> None:
    for parse in (mac.parse_up, mac.parse_down):
        commands, _ = parse(data)
        again, complete = parse(mac.encode(*commands))
        assert complete and again == commands, (commands, again)


def _chirpstack(data: bytes) -> None:
    for what in ("up", "join", "txack", "ack", "log", "status"):
        try:
            chirpstack.parse_event(what, "app", "AA00000000000001", data)
        except chirpstack.EventError:
            continue
    for parse in (chirpstack.parse_conn, chirpstack.parse_stats):
        try:
            parse(data)
        except chirpstack.EventError:
            continue


def _boundary(data: bytes) -> None:
    boundary_of(data.decode("latin-1"))


DECODERS: Final = (
    *(Target(f"mqtt-server-{version}", partial(_mqtt, "server", version)) for version in (0, 3, 4, 5)),
    *(Target(f"mqtt-client-{version}", partial(_mqtt, "client", version)) for version in (4, 5)),
    Target("websocket-handshake", partial(_one, _handshake, (NoHandshake,))),
    Target("proxy-header", partial(_one, parse_proxy, (ProxyHeaderError,))),
    Target("novacloud-lines", partial(_stream, lambda: LineDecoder(LIMIT), ZeroDivisionError)),
    Target("gateway88-frames", partial(_stream, lambda: FrameDecoder(LIMIT), ZeroDivisionError)),
    Target("gateway88-container", partial(_one, lambda data: unpack(data, 65_536), (Undecodable,))),
    Target("gizwits-business", partial(_one, gizwits.decode_business, (gizwits.Malformed,))),
    Target("gizwits-system", partial(_one, gizwits.decode_system, (gizwits.Malformed,))),
    Target("loracenter-frames", partial(_one, _loracenter_frames, (loracenter.Malformed,))),
    Target("lorawan-datagrams", partial(_one, _semtech, (semtech.DatagramError,))),
    Target("lorawan-frames", partial(_one, _frames, (FrameError,))),
    Target("lorawan-mac", _mac),
    Target("chirpstack-events", _chirpstack),
    Target("json", partial(_one, _depth, (ValueError,))),
    Target("multipart", partial(_one, _form, (Invalid,))),
    Target("content-type", partial(_one, _boundary, (Invalid,))),
    Target("cluster-envelope", partial(_one, open_envelope, (ValueError,))),
    Target("cluster-question", partial(_one, open_question, (ValueError,))),
)
TARGETS: Final = {one.name: one for one in (*DECODERS, *(Target(name, partial(converse, name)) for name in LISTENERS))}
