"""Valid beginnings for the Gizwits listeners: registration, log-ins, reports, firmware, bindings, orders."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from typing import Any, Final

from broker.applications.gizwits.products import application_auth, bind_signature
from broker.applications.gizwits.vouching import signed
from broker.devices.gizwits import codec as g
from broker.devices.gizwits.firmware import FIRST_FID
from broker.devices.gizwits.topics import command_topic, commands_filter, notice_topic, report_topic, response_topic
from broker.devices.gizwits.updates import TOKEN_LENGTH
from broker.model.jsontext import encode as json
from broker.mqtt import packets as p
from broker.mqtt.encode import encode
from tests.applications.http.test_fuzz import masked
from tests.applications.mqtt.bed import NOW, SECRET
from tests.devices.gizwits.bed import DID, MAC, PASSCODE, PRODUCT
from tests.devices.gizwits.site import asking, checking, disabling, provision, registration
from tests.fuzz import clients as client
from tests.fuzz.listeners import CUT, WAIT
from tests.fuzz.world import (
    ANN,
    ANN_TOKEN,
    APP,
    HARD_VERSION,
    ORDER,
    PASSWORD,
    PLAIN,
    PRODUCT_SECRET,
    SOURCE,
    SOURCE_KEY,
    app_packets,
    device_packets,
)

#: Bits of the first byte.
THERE: Final = client.LOGGED_IN | client.COMPANY | client.RIGHT
_OTHERS: Final = (0, client.RIGHT, client.LOGGED_IN | client.RIGHT, THERE, THERE | client.SLOW, THERE | client.DEAF)


def gizwits_seeds() -> dict[str, list[bytes]]:
    """Target -> valid inputs."""
    return {
        "gizwits-device-listener": list(_device()),
        "gizwits-app-listener": list(_app()),
        "gservice-listener": [_first(THERE) + CUT.join(_agent()), *_calls()],
        "gizwits-websocket-listener": list(_socket()),
    }


def _first(flags: int) -> bytes:
    return bytes((flags,))


def _published(topic: str, payload: bytes, qos: int = 0, number: int = 0) -> bytes:
    return encode(p.Publish(topic, payload, qos, number), p.MQTT_3_1)


# -- devices over MQTT -------------------------------------------------------------------------------------------------


def _device() -> Iterator[bytes]:
    log_in = [encode(packet, p.MQTT_3_1) for packet in device_packets()]
    yield _first(client.COMPANY | client.RIGHT) + CUT.join(log_in)
    packets = (
        g.Report(b"\4" + bytes(13)),
        g.Request(7, b"\4\1"),
        g.Ack(7, b"\3"),
        g.LogSet(),
        g.Log(1, b"t", b"s", b"x"),
    )
    reports = [g.encode(packet) for packet in packets]
    yield _first(client.COMPANY | client.SLOW) + CUT.join((*log_in, _published(report_topic(DID), reports[0])))
    for topic in (report_topic(DID), report_topic(DID, "usrann"), report_topic(DID, "broker")):
        yield _first(THERE) + CUT.join(_published(topic, one) for one in reports) + WAIT + b"\xc0\0"
    yield _first(THERE) + _published("ser2cli_req", g.encode(g.AskApps())) + CUT + b"\xc0\0" + WAIT * 2
    yield _first(THERE | client.SLOW) + client.NEXT + CUT.join(log_in) + CUT + _published(report_topic(DID), reports[0])
    # One that keeps its session, at QoS 1 and 2, and leaves a will.
    lasting = p.Connect(DID, p.MQTT_3_1, False, 60, DID, PASSCODE.encode(), p.Will(report_topic(DID), reports[0], 1))
    kept = encode(p.Subscribe(1, [(notice_topic(PRODUCT), 1), (response_topic(DID), 1), (commands_filter(DID), 1)]))
    first, second = _published(report_topic(DID), reports[0], 1, 5), _published(report_topic(DID), reports[1], 2, 6)
    talk = (encode(lasting, p.MQTT_3_1), kept, first, second, encode(p.PubRel(6)))
    yield _first(client.COMPANY | client.RIGHT) + CUT.join(talk) + CUT + client.NEXT + talk[0]


# -- apps over MQTT ----------------------------------------------------------------------------------------------------


def _app() -> Iterator[bytes]:
    log_in = [encode(packet, p.MQTT_3_1) for packet in app_packets(ANN, ANN_TOKEN, "usrann", DID, PLAIN)]
    yield _first(client.COMPANY | client.RIGHT) + CUT.join(log_in)
    packets = (g.Control(b"\1\1\1" + bytes(6)), g.Request(9, b'{"a":1}'), g.Ack(3), g.SetLog(7))
    orders = [g.encode(packet) for packet in packets]
    for flags in (THERE, THERE | client.SLOW, client.LOGGED_IN | client.RIGHT, THERE | client.DEAF):
        for did in (DID, PLAIN):
            said = (_published(command_topic(did, "usrann"), one, 1, 1 + at) for at, one in enumerate(orders))
            yield _first(flags) + CUT.join(said) + WAIT + b"\xc0\0"
    # The application itself, with its secret: wildcards, and the topics of other protocols' devices.
    itself = encode(p.Connect("usrapp", p.MQTT_5, user=APP, password=SECRET.encode()), p.MQTT_5)
    wide = p.Subscribe(1, [("dev2app/#", 1), (f"devices/{DID}/up/raw", 0), ("devices/+/reply", 0), ("app2dev/#", 0)])
    ordered = p.Publish(f"devices/{PLAIN}/command", b'{"payload":{"a":1},"ref":"r","expires":9}', 1, 3)
    own = p.Publish(command_topic(DID, "usrapp"), orders[0], 1, 4)
    talk = (itself, *(encode(packet, p.MQTT_5) for packet in (wide, ordered, own)))
    yield _first(client.COMPANY | client.RIGHT) + CUT.join(talk) + WAIT
    yield _first(THERE | client.SLOW) + client.NEXT + CUT.join(log_in) + CUT + client.NEXT + talk[0]


# -- both over HTTP ----------------------------------------------------------------------------------------------------


def _agent() -> Iterator[bytes]:
    """What an agent asks in its life."""
    yield registration()
    yield registration(mac="0123456789AB")
    yield provision(DID)
    for kind, version in ((1, "04020006"), (2, "1")):
        yield checking(DID, version, kind)
        versions = f"type={kind}&hard_version={HARD_VERSION}&soft_version={version}&product_key={PRODUCT}"
        yield asking(f"/dev/ota/v4.1/latest?{versions}")
        yield asking(f"/dev/ota/target_fid?did={DID}&{versions}&current_fid=1")
    yield disabling(DID, "other")
    yield disabling(DID)


def _calls() -> Iterator[bytes]:
    for request in _agent():
        yield _first(client.RIGHT) + request
    for number in (FIRST_FID, FIRST_FID + 2):
        yield _first(client.RIGHT) + asking(f"/dev/ota/download/{number}/firmware.bin")
    token = sha256(f"download {ORDER}".encode()).hexdigest()[:TOKEN_LENGTH]
    part = asking(f"/dev/ota/v4.1/download/{FIRST_FID + 2}/{token}")
    yield _first(client.RIGHT) + part.replace(b"\r\n\r\n", b"\r\nRange: bytes=9-\r\n\r\n")
    yield _first(client.DEAF) + asking(f"/dev/ota/v4.1/download/{FIRST_FID}") + WAIT * 7
    for line, body in _open_api():
        yield _first(client.COMPANY | client.RIGHT) + _call(line, body)
    for flags in (client.RIGHT, client.COMPANY | client.SLOW):
        calls = [_call(*call) for call in _open_api() if DID in call[0]]
        yield _first(flags) + calls[0] + CUT + calls[1] + CUT + client.NEXT + calls[2] + WAIT
    sign = {"X-Gizwits-Timestamp": str(int(NOW)), "X-Gizwits-Signature": bind_signature(PRODUCT_SECRET, str(int(NOW)))}
    yield _first(client.RIGHT) + _call("POST /app/bind_mac", {"product_key": PRODUCT, "mac": MAC}, sign)
    proof = {"X-Gizwits-Application-Auth": application_auth(APP, SECRET)}
    yield _first(client.RIGHT) + _call("POST /app/request_token", {}, proof)


def _open_api() -> Iterator[tuple[str, Any]]:
    expiry = str(int(NOW) + 600)
    vouched = {"src": SOURCE, "uid": "1", "token": f"{expiry}.{signed(SOURCE_KEY, SOURCE, '1', expiry)}"}
    yield "POST /app/users", {"phone_id": "phone", "lang": "en"}
    yield "POST /app/users", {"username": "carol", "password": "p"}
    yield "POST /app/users", {"email": "carol@example.org", "password": "p"}
    yield "POST /app/users", {"phone": "+86 139 0013 9000", "password": "p", "code": "1"}
    yield "POST /app/users", {"authData": vouched}
    yield "PUT /app/users", {"old_pwd": PASSWORD, "new_pwd": "q", "name": "Ann", "birthday": "1990-01-01"}
    yield "PUT /app/users", {"email": "ann@example.org", "phone": "13900139000", "code": "1"}
    yield "GET /app/users", None
    yield "POST /app/login", {"username": "ann", "password": PASSWORD}
    yield "POST /app/provision", {"a": 1}
    yield "GET /app/bindings?limit=20&skip=0&show_disabled=1", None
    yield "POST /app/bindings", {"devices": [{"did": DID, "passcode": PASSCODE, "remark": "r", "dev_alias": "a"}]}
    yield "DELETE /app/bindings", {"devices": [{"did": DID}, {"did": PLAIN}]}
    yield f"GET /app/devices?product_key={PRODUCT}&mac={MAC}", None
    for did in (DID, PLAIN):
        yield f"GET /app/devices/{did}", None
        yield f"POST /app/control/{did}", {"raw": [1, 1, 1, 0, 0, 0, 0, 0, 0]}
        yield f"POST /app/control/{did}", {"attrs": {"power": True, "mode": "night", "level": 5, "scene": "0a0b0c"}}
        yield f"PUT /app/bindings/{did}", {"remark": "r", "dev_alias": "a"}
        yield f"GET /app/devdata/{did}/latest", None
        times = f"start_time={NOW - 99}&end_time={NOW}&skip=0&limit=20&sort=asc"
        for kind in ("cmd", "online"):
            yield f"GET /app/devices/{did}/raw_data?type={kind}&{times}", None
    yield "POST /app/codes", {}


def _call(line: str, body: Any, more: dict[str, str] | None = None) -> bytes:
    content = b"" if body is None else json(body)
    fields = {
        "Host": "iot.example.org:8081",
        "X-Gizwits-Application-Id": APP,
        "X-Gizwits-User-token": ANN_TOKEN,
        **({} if body is None else {"Content-Type": "application/json", "Content-Length": str(len(content))}),
        **(more or {}),
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{line} HTTP/1.1\r\n{head}\r\n".encode() + content


# -- apps over WebSocket -----------------------------------------------------------------------------------------------


def _socket() -> Iterator[bytes]:
    messages = [masked(0x81, json(one)) for one in _messages()]
    for flags in _OTHERS:
        yield _first(flags) + CUT.join(messages) + WAIT
    for message in messages:
        yield _first(THERE) + message
    custom = {"appid": APP, "uid": ANN, "token": ANN_TOKEN, "p0_type": "custom", "heartbeat_interval": 9}
    login = masked(0x81, json({"cmd": "login_req", "data": {**custom, "auto_subscribe": False}}))
    early = CUT.join((login, *messages))
    yield _first(client.COMPANY | client.SLOW) + early
    yield _first(client.COMPANY | client.RIGHT) + early + WAIT * 2 + client.NEXT + login + CUT + masked(0x88, b"\3\xe8")
    yield _first(THERE) + masked(0x01, b'{"cmd":') + CUT + masked(0x89, b"ping") + CUT + masked(0x80, b'"ping"}')


def _messages() -> Iterator[dict[str, Any]]:
    frame = list(g.encode(g.Control(b"\1\1\1" + bytes(6))))
    yield {"cmd": "subscribe_req", "data": [{"did": DID}, {"did": PLAIN}, {"did": "none"}]}
    for did in (DID, PLAIN):
        yield {"cmd": "c2s_raw", "data": {"did": did, "raw": frame}}
        yield {"cmd": "c2s_write", "data": {"did": did, "attrs": {"power": True, "heat": 21.5}, "req_sn": 5}}
        yield {"cmd": "c2s_write", "data": {"did": did, "raw": [1, 2, 3]}}
        yield {"cmd": "c2s_read", "data": {"did": did, "req_sn": 6}}
        yield {"cmd": "c2s_ack", "data": {"did": did, "req_sn": 7}}
    yield {"cmd": "ping"}
