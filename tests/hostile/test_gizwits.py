"""GService and Gizwits devices under attack: guesses, other devices' topics, wrong lengths, broken requests."""

from __future__ import annotations

import json
from random import Random
from typing import Final

from twisted.internet.defer import Deferred

from broker.devices.gizwits import codec as g
from broker.mqtt import packets as p
from broker.mqtt.encode import encode
from tests.devices.gizwits.site import asking, checking, disabling, provision, registration
from tests.hostile.crowds import attacks
from tests.hostile.siege import Attack, Client, Siege, SiegeCase
from tests.hostile.test_http import read_answer

NAME: Final = "gservice"
PRODUCT: Final = "6f3074fe43894547a4f1314bd7e3ae0b"
PASSCODE: Final = "CILECMOIWH"
GUESSES: Final = 1_000
PINGREQ: Final = b"\xc0\0"
PINGRESP: Final = b"\xd0\0"


def register(siege: Siege, mac: str) -> str:
    """A device of its own for each attack."""
    siege.broker.call("POST", "/products", {"key": PRODUCT, "name": "lamp", "protocol": "gizwits"})
    status, body = ask(siege, registration(PASSCODE, mac, PRODUCT))
    assert status == 201, body
    return body.decode().removeprefix("did=")


def ask(siege: Siege, request: bytes) -> tuple[int, bytes]:
    client = siege.connect(NAME)
    assert client.send(request)
    answer = read_answer(client)
    client.close()
    return answer


def come(siege: Siege, did: str, passcode: str = PASSCODE) -> Client:
    """A device that has sent its CONNECT."""
    client = siege.connect("mqtt")
    connect = p.Connect(did, p.MQTT_3_1, keep_alive=120, user=did, password=passcode.encode())
    client.send(encode(connect, p.MQTT_3_1))
    return client


def welcome(siege: Siege, did: str) -> Client:
    client = come(siege, did)
    client.until(b"\x20\x02\0\0")
    return client


def guesses(siege: Siege) -> None:
    """A passcode guessed a thousand times; the device that is there goes on."""
    did = register(siege, "000000000001")
    device = welcome(siege, did)
    guessers = [come(siege, did, f"{number:010}") for number in range(GUESSES)]
    for guesser in guessers:
        guesser.until(b"\x20\x02\0\4")
    assert device.send(PINGREQ)
    device.until(PINGRESP)
    for guesser in guessers:
        assert guesser.rest() == b""
    siege.counted("mqtt", "logins_failed", least=GUESSES)
    siege.closed("mqtt", "auth_failed", GUESSES)
    for request in (disabling(did, "WRONG"), checking(did, passcode="WRONG")):
        status, body = ask(siege, request)
        assert (status, json.loads(body)["error_code"]) == (400, 9016), body
    siege.counted(NAME, "logins_failed", least=2)
    assert device.send(PINGREQ)
    device.until(PINGRESP)
    device.close()


def other_topics(siege: Siege) -> None:
    """Publishes as another device, subscribes to another's: refused, and it stays."""
    did, other = register(siege, "000000000002"), register(siege, "000000000003")
    victim, client = welcome(siege, other), welcome(siege, did)
    victim.send(encode(p.Subscribe(1, [(f"app2dev/{other}/#", 0)]), p.MQTT_3_1))
    victim.until(b"\x90\x03\0\1\0")
    frame = g.encode(g.Control(b"x"))
    topics = [f"dev2app/{other}", f"app2dev/{other}/usr", f"ser2cli_res/{other}", f"devices/{other}/command"]
    for topic in topics * 25:
        client.send(encode(p.Publish(topic, frame), p.MQTT_3_1))
    filters = [f"app2dev/{other}/#", "app2dev/#", "#", f"dev2app/{other}", "$SYS/#"]
    client.send(encode(p.Subscribe(2, [(one, 0) for one in filters]), p.MQTT_3_1))
    client.until(b"\x90\x07\0\2" + b"\x80" * 5)
    siege.counted("mqtt", "messages_dropped", "not_allowed", 100)
    victim.send(PINGREQ)
    assert victim.until(PINGRESP) == PINGRESP  # and nothing before it
    for one in (victim, client):
        one.close()


def wrong_lengths(siege: Siege) -> None:
    """Three in a row end the connection, and nobody else's."""
    did = register(siege, "000000000004")
    bystander = welcome(siege, register(siege, "000000000005"))
    good = encode(p.Publish(f"dev2app/{did}", g.encode(g.Report(b"x"))), p.MQTT_3_1)
    whole = g.encode(g.Report(b"x" * 200))
    wrong = [whole[:-1], whole + b"x", b"\0\0\0\4" + whole[4:], b"", whole[:6], g.frame(g.REPORT, bytes(65_536))]
    for payload in wrong:
        client = welcome(siege, did)
        bad = encode(p.Publish(f"dev2app/{did}", payload), p.MQTT_3_1)
        client.send(bad + bad + good + bad + bad + PINGREQ)
        client.until(PINGRESP)
        client.send(bad)
        assert client.rest() == b""
    siege.counted("mqtt", "messages_dropped", "malformed", 5 * len(wrong))
    siege.closed("mqtt", "malformed", len(wrong))
    bystander.send(PINGREQ)
    bystander.until(PINGRESP)
    bystander.close()


def pings(siege: Siege) -> None:
    client = welcome(siege, register(siege, "000000000006"))
    for _ in range(60):
        client.send(PINGREQ)
        client.until(PINGRESP)
    client.send(PINGREQ)
    assert client.rest() == b""
    siege.closed("mqtt", "flood")


def broken_requests(siege: Siege) -> None:
    """Real requests with bytes of them changed: answered, or refused in the manner of GService."""
    did = register(siege, "000000000007")
    whole = [registration(), disabling(did, "x"), provision(did), checking(did), asking("/dev/ota/target_fid?did=x")]
    random = Random(7)
    for number in range(400):
        request = bytearray(whole[number % len(whole)])
        head = request.index(b"\r\n\r\n")
        for _ in range(random.randrange(1, 4)):
            place = random.randrange(head + 4, len(request)) if len(request) > head + 8 and random.random() < 0.5 else 0
            request[place or random.randrange(5, head)] = random.choice(b"\0\r\n&=%/?ABZ09\xff")
        client = siege.connect(NAME)
        client.send(bytes(request) + b"\r\n\r\n")
        answer = client.some()
        assert not answer or answer.startswith(b"HTTP/1.1 "), answer
        if answer and int(answer[9:12]) >= 400:
            body, _ = json.JSONDecoder().raw_decode(answer.partition(b"\r\n\r\n")[2].decode())
            assert set(body) == {"error_message", "error_code", "detail_message"}, answer
            assert int(answer[9:12]) < 500 or body["error_code"] == 9999, (request, answer)
        client.close()
    assert ask(siege, provision(did))[0] == 200


ATTACKS: tuple[Attack, ...] = (guesses, other_topics, wrong_lengths, pings, broken_requests)


class GizwitsTests(SiegeCase):
    def test_gizwits(self) -> Deferred[None]:
        return self.besiege(*ATTACKS, *attacks(NAME))
