"""The corpus: ``tests/corpus/<target>/``, one input a file. What was found once stays there for good.

`python -m tests.fuzz.corpus` writes the seeds, valid frames of each protocol, again (their names begin with ``seed-``).
Regressions have other names; whoever mends one puts its input here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, Final

from broker.cluster.wire import envelope, question
from broker.devices.gateway88.container import FLAVOURS, encode
from broker.devices.gateway88.frames import encode_frame
from broker.devices.gizwits import codec as gizwits
from broker.mqtt import packets as p
from broker.mqtt import properties as props
from broker.mqtt.encode import encode as packet
from tests.devices.gateway88.vectors import ACK_A, HB, HB_FRAME, INFO, INFO_PLAIN, INFO_WRITTEN, MAC, NEWDEVICES
from tests.fuzz import CORPUS
from tests.fuzz.api_seeds import api_seeds
from tests.fuzz.gizwits_seeds import gizwits_seeds
from tests.fuzz.listeners import CUT, WAIT
from tests.hostile.test_loracenter import COMMANDS
from tests.hostile.test_stream import masked
from tests.hostile.test_websocket import REQUEST
from tests.mqtt.samples import SAMPLES

NOBODY: Final = bytes.fromhex("4001020304000100") + b"\5payload" + bytes(4)

_CONNECT5: Final = p.Connect(
    "c", 5, False, 60, "u", b"p", p.Will("a/b", b"w", 1), {props.SESSION_EXPIRY_INTERVAL: 9, props.RECEIVE_MAXIMUM: 3}
)
_PUBLISH5: Final = p.Publish(
    "a/b", b"x", 1, 7, properties={props.TOPIC_ALIAS: 1, props.CONTENT_TYPE: "t", props.USER_PROPERTY: [("a", "b")]}
)
_RXPK: Final = {
    "rxpk": [
        {
            "tmst": 1,
            "freq": 868.1,
            "stat": 1,
            "modu": "LORA",
            "datr": "SF7BW125",
            "codr": "4/5",
            "rssi": -35,
            "lsnr": 9.0,
            "size": 20,
            "data": "QAECAwQAAQAFcGF5bG9hZAAAAAA=",
        }
    ],
    "stat": {"time": "2026-01-01 00:00:00 GMT", "rxnb": 1, "ackr": 100.0},
}


def seeds() -> dict[str, list[bytes]]:
    """Target -> valid inputs."""
    found: dict[str, list[bytes]] = {
        "websocket-handshake": [REQUEST],
        "proxy-header": [
            b"PROXY TCP4 192.0.2.1 198.51.100.2 40000 1883\r\n",
            b"PROXY TCP6 2001:db8::1 2001:db8::2 40000 1883\r\n",
            b"PROXY UNKNOWN\r\n",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\2\1\xc6\x33\x64\2\x9c\x40\7\x5b",
            b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
        ],
        "novacloud-lines": [_lines(*_NOVACLOUD)],
        "gateway88-frames": [INFO_PLAIN, INFO_WRITTEN + ACK_A, HB_FRAME + NEWDEVICES],
        "gateway88-container": [encode(INFO, flavour) for flavour in FLAVOURS.values()],
        "gizwits-business": [gizwits.encode(gizwits.Control(b"abc")), b"\0\0\0\3\6\0\0\x91abc", b"\0\0\0\3\4\0\0\x12x"],
        "gizwits-system": [b"\0\0\0\3\3\0\2\x0f", b"\0\0\0\3\4\0\2\x10\0"],
        "loracenter-frames": [b"".join(json.dumps(one).encode() + b"\0" for one in _loracenter())],
        "lorawan-datagrams": [
            _push(),
            b"\2ab\2" + bytes(8),
            b"\2ab\5" + bytes(8) + b'{"txpk_ack":{"error":"TOO_LATE"}}',
        ],
        "lorawan-frames": [NOBODY, b"\0" + bytes(22), b"\x80" + NOBODY[1:]],
        "lorawan-mac": [bytes.fromhex("0203070506ff20070304010a0d")],
        "chirpstack-events": [json.dumps(_UP).encode(), b'{"gatewayId":"aa","state":"ONLINE"}', bytes.fromhex("1001")],
        "json": [json.dumps(INFO).encode(), b"[" * 99 + b"]" * 99, b'{"a":1,"a":2}', b'[1e308,-0.0,"\\ud800"]'],
        "multipart": [
            b'--frontier\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--frontier\r\n'
            b'Content-Disposition: form-data; name="file"; filename="f.bin"\r\nContent-Type: x/y\r\n\r\ndata\r\n'
            b"--frontier--\r\n"
        ],
        "content-type": [
            b"multipart/form-data; boundary=frontier",
            b'multipart/form-data; boundary="a b"',
            b"text/plain",
        ],
        "cluster-envelope": [envelope("node-1.5", 7, [])],
        "cluster-question": [question(1, "kind", b"body")],
        "novacloud-listener": [b"\1" + _lines(*_NOVACLOUD), b"\0" + _lines(*_NOVACLOUD) + WAIT + CUT + b"x"],
        "gateway88-listener": [
            b"\1" + encode_frame(MAC, 2, encode(HB, FLAVOURS["json"])) + CUT + INFO_PLAIN + WAIT * 9 + HB_FRAME,
            b"\0" + INFO_WRITTEN[:40] + CUT + INFO_WRITTEN[40:] + NEWDEVICES,
        ],
        "loracenter-listener": [
            start + CUT.join(json.dumps(one).encode() + b"\0" for one in _loracenter()) + WAIT
            for start in (b"\0", b"\1")
        ],
        "http-listener": [
            b"GET /api/v1/devices?limit=2 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer t\r\n\r\n" + CUT,
            b"POST /api/v1/devices HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer t\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"5\r\nhello\r\n0\r\n\r\n",
        ],
        "http-stream-listener": [masked(0x89, b"ping") + CUT + masked(0x81, b"text") + WAIT + masked(0x88, b"\3\xe8")],
        "lorawan-listener": [_push() + CUT + b"\2ab\2" + bytes(8) + WAIT + b"\2ab\5" + bytes(8)],
    }
    for role, version, data, _ in SAMPLES:
        found.setdefault(f"mqtt-{role}-{version or 4}", []).append(data)
    found["mqtt-server-0"] = [packet(p.Connect("c", version), version) for version in (3, 4)] + [packet(_CONNECT5, 5)]
    found["mqtt-server-5"] = [packet(_PUBLISH5, 5), packet(p.Subscribe(1, [("a/+", 1)]), 5), packet(p.Disconnect(), 5)]
    found["mqtt-client-5"] = [packet(_PUBLISH5, 5), packet(p.ConnAck(0, True, {props.RECEIVE_MAXIMUM: 9}), 5)]
    talk = [packet(p.Subscribe(1, [("a/#", 2)])), packet(p.Publish("a/b", b"x", 2, 7)), packet(p.PubRel(7)), b"\xc0\0"]
    found["mqtt-listener"] = [
        b"\1" + CUT.join(talk) + WAIT * 3,
        b"\0" + packet(p.Connect("c", 5, False, 60, "u", b"secret"), 5) + CUT + packet(_PUBLISH5, 5),
    ]
    found["mqtt-websocket-listener"] = [
        b"\1" + masked(0x82, packet(p.Connect("c", user="u", password=b"secret"))) + CUT + masked(0x82, b"".join(talk)),
        b"\0" + REQUEST,
    ]
    found.update(gizwits_seeds())
    found.update(api_seeds())
    return {name: list(dict.fromkeys(inputs)) for name, inputs in found.items()}


_NOVACLOUD: Final = (
    {"type": "auth", "payload": {"device_id": "a", "device_key": "b"}},
    {"type": "data", "timestamp": 1678886400, "payload": {"temperature": 25.5}},
    {"type": "heartbeat"},
    {"type": "command_response", "command_id": "x", "status": "success", "payload": {}},
)
_UP: Final = {
    "deviceInfo": {"deviceName": "d", "devEui": "AA00000000000001", "deviceClassEnabled": "CLASS_C"},
    "fCnt": 1,
    "fPort": 5,
    "data": "AQ==",
    "rxInfo": [{"gatewayId": "aa", "rssi": -1, "snr": 2.0}],
    "txInfo": {"frequency": 868100000, "modulation": {"lora": {"bandwidth": 125000, "spreadingFactor": 7}}},
}


def _lines(*values: Any) -> bytes:
    return b"".join(json.dumps(value).encode() + b"\n" for value in values)


def _loracenter() -> Iterator[dict[str, Any]]:
    for number, command in enumerate(COMMANDS):
        yield {"CMD": command, "Token": number, "DevEUI": "AA00000000000001", "payload": "AQ==", "Port": 5}


def _push() -> bytes:
    return b"\2ab\0" + bytes.fromhex("AA555A0000000001") + json.dumps(_RXPK).encode()


def inputs(target: str) -> list[tuple[str, bytes]]:
    """(name, input) of everything that is kept for a target."""
    return [(path.name, path.read_bytes()) for path in sorted((CORPUS / target).iterdir())]


def write(targets: Iterable[str]) -> None:
    """Write the seeds anew."""
    known = seeds()
    for target in targets:
        folder = CORPUS / target
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("seed-*"):
            old.unlink()
        for number, data in enumerate(known[target]):
            (folder / f"seed-{number:02}").write_bytes(data)


if __name__ == "__main__":
    from tests.fuzz.targets import TARGETS

    write(TARGETS)
