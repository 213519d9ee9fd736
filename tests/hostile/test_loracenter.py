"""LoRaCenter ports under attack."""

from __future__ import annotations

import json
from random import Random

from twisted.internet.defer import Deferred

from broker.applications.loracenter.challenge import tag
from tests.hostile.crowds import attacks
from tests.hostile.siege import CS_KEY, FLOOD, Attack, Client, Siege, SiegeCase
from tests.hostile.values import DEEP, VALUES

NAME = "loracenter"
MB = 1 << 20
#: A request that is right, and what begins the answer to it.
ASK = b'{"CMD":"QUERYLEN","Token":77,"DevEUI":"1"}\0'
COMMANDS = (
    *("SENDTO", "QUERYLEN", "QUERYQLEN", "CLEARQ", "CLEARAQ", "CANCELCMD", "GETPRIORGW", "BROADCAST", "GETGWINFO"),
    *("GWCOMSEND", "UPLOAD", "MOTEJOIN", "GWSTATEUPLOAD", "NOSUCH", "CSREG", ""),
)


def registration(cs_eui: str) -> dict[str, str]:
    """The fields of CSREG as JSON texts."""
    challenge = tag(bytes.fromhex(CS_KEY), cs_eui, 5).hex()
    fields = {"CMD": "CSREG", "Token": 1, "CsEUI": cs_eui, "AppNonce": 5, "Challenge": challenge, "ServiceId": 0}
    return {name: json.dumps(value) for name, value in fields.items()}


def text(fields: dict[str, str]) -> bytes:
    return b"{" + ",".join(f'"{name}":{value}' for name, value in fields.items()).encode() + b"}\0"


def registered(siege: Siege, *devices: str, kind: str = "tcp", window: int = 0) -> Client:
    client = siege.plain(NAME, window=window) if window else siege.connect(NAME, kind)
    client.send(text(registration(siege.customer(*devices))))
    assert b"CSREG ACCEPT" in client.until(b"\0")
    return client


def mote(siege: Siege) -> tuple[str, str, str]:
    """A NovaCloud device with an alias: id, key, DevEUI."""
    device, key = siege.device()
    eui = device.replace("-", "")[:16].upper()
    assert siege.broker.call("PATCH", f"/devices/{device}", {"dev_eui": eui})[0] == 200
    return device, key, eui


def still_works(client: Client) -> None:
    """The next request is answered, whatever answers come before."""
    assert client.send(ASK)
    while b'"Token":77,' not in client.until(b"\0"):
        continue


def noise(siege: Siege) -> None:
    """Random bytes: as the first ones, behind a registration, and through TLS."""
    for seed in range(30):
        random = Random(seed)
        kind = ("tcp", "tls")[seed % 2]
        client = siege.connect(NAME, kind) if seed % 3 else registered(siege, kind=kind)
        for _ in range(random.randrange(1, 20)):
            client.send(random.randbytes(random.randrange(1, 5_000)))
        client.send(b"\0{\0" * 200)
        assert client.rest() == b"", "noise is answered with nothing"
    siege.closed(NAME, "malformed", 30 - 10)
    siege.counted(NAME, "malformed", least=30)


def no_end(siege: Siege) -> None:
    """A message without its NUL."""
    for client in (siege.plain(NAME), registered(siege), registered(siege, kind="tls")):
        assert client.pour(b'{"payload":"' + b"x" * MB, FLOOD) < FLOOD
        client.close()
    siege.closed(NAME, "too_long", 3)


def keep_alives(siege: Siege) -> None:
    """Nothing but NULs."""
    client = registered(siege)
    for _ in range(40):
        client.send(b"\0" * 1_000)
    still_works(client)
    client.close()


def deep(siege: Siege) -> None:
    """As many brackets as a message can hold; texts without an end; commas without one."""
    client = registered(siege)
    for start in (*DEEP, '"' + '\\"' * 40_000, "," * 65_000, '"a":"' * 9_000, "[" * 30_000 + "]" * 30_000):
        for line in (start, '{"CMD":"SENDTO","payload":' + start):
            client.send(line.encode()[:65_000] + b"\0")
    still_works(client)
    client.send(text({"CMD": '"GETGWINFO"', "Token": "5", "MSG": "[" * 30_000 + "]" * 30_000}))
    still_works(client)
    client.close()


def wrong_values(siege: Siege) -> None:
    """Every value in every field of every request: answered or passed over, and the next one is taken."""
    device, _, eui = mote(siege)
    client = registered(siege, device)
    good = {"Token": "7", "DevEUI": f'"{eui}"', "payload": '"AQ=="', "Port": "5"}
    fields = ("CsEUI", "AppEUI", "PRIOR", "Confirm", "TryCnt", "CancelToken", "BrandRate", "ParityCheck")
    for cmd in COMMANDS:
        for field in ("CMD", *good, *fields):
            requests = [text({"CMD": f'"{cmd}"', **good, field: value}) for value in VALUES]
            if cmd == "CSREG":
                continue  # `wrong_registrations`
            assert client.send(b"".join(requests))
            still_works(client)
    client.close()


def wrong_registrations(siege: Siege) -> None:
    cs_eui = siege.customer()
    for field in ("CMD", "CsEUI", "AppNonce", "Challenge", "ServiceId"):
        for value in VALUES:
            client = siege.connect(NAME)
            client.send(text({**registration(cs_eui), field: value}))
            client.send(text({"CMD": '"QUERYLEN"', "Token": "7"}) * 4 + text({"CMD": '"CSQUIT"'}))
            told = [json.loads(answer) for answer in client.rest().split(b"\0")[:-1]]
            if (field, value) not in (("ServiceId", "null"), ("ServiceId", "0")):
                assert {answer["CODE"] for answer in told} <= {0}, (field, value, told)
    siege.closed(NAME, "auth_failed")
    siege.closed(NAME, "protocol_error")


def flood(siege: Siege) -> None:
    """Far more SENDTOs than a queue holds: each is answered, once."""
    device, _, eui = mote(siege)
    client = registered(siege, device)
    for number in range(20):
        requests = [
            text({"CMD": '"SENDTO"', "Token": str(number * 100 + n), "DevEUI": f'"{eui}"', "payload": '"AQ=="'})
            for n in range(100)
        ]
        client.send(b"".join(requests))
        answers = [json.loads(client.until(b"\0")[:-1]) for _ in requests]
        assert sorted(answer["Token"] for answer in answers) == list(range(number * 100, number * 100 + 100))
        taken = [answer for answer in answers if answer["CODE"] == 1]
        assert len(taken) == (32 if number == 0 else 0)
        assert {answer["CODE"] for answer in answers} <= {1, -4}
    client.close()


def takeovers(siege: Siege) -> None:
    """Two that throw one another out, many times."""
    cs_eui = siege.customer()
    before: Client | None = None
    for _ in range(100):
        client = siege.connect(NAME)
        client.send(text(registration(cs_eui)))
        client.until(b"\0")
        if before is not None:
            before.rest()
        before = client
    still_works(client)
    client.close()
    siege.closed(NAME, "takeover", 99)


def does_not_read_answers(siege: Siege) -> None:
    client = registered(siege, window=2048)
    while client.send(ASK * 500):
        continue
    siege.closed(NAME, "slow_reader")
    client.close()


def does_not_read_uploads(siege: Siege) -> None:
    """A device says more than its customer server takes; another customer server of the same device hears all of it."""
    device, key, _ = mote(siege)
    slow, fast = registered(siege, device, window=2048), registered(siege, device)
    sender = siege.connect("novacloud")
    sender.send(json.dumps({"type": "auth", "payload": {"device_id": device, "device_key": key}}).encode() + b"\n")
    sender.until(b"\n")
    line = json.dumps({"type": "data", "payload": {"t": "x" * 3_000}}).encode() + b"\n"
    heard = 0
    for _ in range(80):
        assert sender.send(line * 50)
        while heard % 50 < 49:
            heard += b'"UPLOAD"' in fast.until(b"\0")
        heard += b'"UPLOAD"' in fast.until(b"\0")
    assert heard == 4_000
    siege.closed(NAME, "slow_reader", 1)
    for client in (slow, fast, sender):
        client.close()


ATTACKS: tuple[Attack, ...] = (
    noise,
    no_end,
    keep_alives,
    deep,
    wrong_values,
    wrong_registrations,
    flood,
    takeovers,
    does_not_read_answers,
    does_not_read_uploads,
)


class LoraCenterTests(SiegeCase):
    def test_loracenter_ports(self) -> Deferred[None]:
        return self.besiege(*ATTACKS, *attacks(NAME))
