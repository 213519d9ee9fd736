"""NovaCloud ports under attack."""

from __future__ import annotations

import json
import time
from random import Random
from typing import Any

from twisted.internet.defer import Deferred

from tests.hostile.crowds import attacks
from tests.hostile.siege import FLOOD, Attack, Client, Siege, SiegeCase
from tests.hostile.values import DEEP, VALUES

NAME = "novacloud"
MB = 1 << 20
#: A line that is right, and what a flat session is answered to it.
GOOD = b'{"type":"data","payload":{"t":1}}\n'


def logged_in(siege: Siege, flat: bool = True, kind: str = "tcp", window: int = 0) -> Client:
    """A device of the flat dialect is answered to each line."""
    device, key = siege.device()
    client = siege.plain(NAME, window=window) if window else siege.connect(NAME, kind)
    names = {"device_id": device, "device_key": key}
    client.send(json.dumps({"type": "auth", **names} if flat else {"type": "auth", "payload": names}).encode() + b"\n")
    assert b'"success"' in client.until(b"\n")
    return client


def answer(client: Client, line: bytes) -> Any:
    client.send(line)
    return json.loads(client.until(b"\n"))


def noise(siege: Siege) -> None:
    """Random bytes: as the first ones, behind a login, and through TLS."""
    for seed in range(30):
        random = Random(seed)
        kind = ("tcp", "tls")[seed % 2]
        client = siege.connect(NAME, kind) if seed % 3 else logged_in(siege, kind=kind)
        for _ in range(random.randrange(1, 20)):
            client.send(random.randbytes(random.randrange(1, 5_000)))
        client.send(b"\n{\n" * 20)
        got = client.rest()
        assert all(json.loads(line)["status"] == "error" for line in got.splitlines()), got
    siege.closed(NAME, "malformed", 30 - 10)
    siege.counted(NAME, "malformed", least=30)


def no_newline(siege: Siege) -> None:
    """Who is not logged in is turned away at once; a device is told once, and read on for what may come."""
    stranger = siege.plain(NAME)
    assert stranger.pour(b"x" * MB, FLOOD) < FLOOD
    stranger.close()
    siege.closed(NAME, "too_long")
    client = logged_in(siege)
    assert client.pour(b"x" * MB, FLOOD) >= FLOOD
    assert "131072" in json.loads(client.until(b"\n"))["message"]
    assert answer(client, b"\n" + GOOD)["status"] == "ok"
    assert client.pour(b'{"type":"data","payload":{"text":"' + b"y" * MB, FLOOD) < FLOOD
    client.close()
    siege.closed(NAME, "too_long", 2)


def no_newline_through_tls(siege: Siege) -> None:
    client = logged_in(siege, kind="tls")
    assert client.pour(b"x" * MB, FLOOD // 8) >= FLOOD // 8
    assert json.loads(client.until(b"\n"))["status"] == "error"
    assert answer(client, b"\n" + GOOD)["status"] == "ok"
    client.close()


def deep(siege: Siege) -> None:
    """A hundred thousand brackets on one line."""
    client = logged_in(siege)
    for text in DEEP:
        for line in (text, f'{{"type":"data","payload":{text}', f'{{"type":"data","x":{text}'):
            assert answer(client, line.encode() + b"\n")["status"] == "error"
            assert answer(client, GOOD)["status"] == "ok"
    text = "[" * 60_000 + "]" * 60_000  # as deep as a line can be and whole
    for line in (f'{{"type":"data","payload":{{"t":{text}}}}}', f'{{"type":"status","payload":{{"t":{text}}}}}'):
        assert "nested too deeply" in answer(client, line.encode() + b"\n")["message"]
        assert answer(client, GOOD)["status"] == "ok"
    assert answer(client, b'{"type":"data","payload":{"t":' + b"[" * 90 + b"]" * 90 + b"}}\n")["status"] == "ok"
    client.close()


def wrong_values(siege: Siege) -> None:
    """Every value in every field of every type: an answer, and the next line is taken as if nothing had been."""
    client = logged_in(siege)
    fields = ("type", "payload", "timestamp", "status", "command_id", "device_id", "device_key")
    for kind in ("data", "status", "heartbeat", "command_response", "auth", "command", "error"):
        for field in fields:
            for value in VALUES:
                message = {"type": f'"{kind}"', "payload": "{}", field: value}
                line = "{" + ",".join(f'"{name}":{text}' for name, text in message.items()) + "}\n"
                client.send(line.encode() + GOOD)
                while (told := json.loads(client.until(b"\n"))).get("message") != "数据已接收":
                    assert told["status"] in ("ok", "error"), (line, told)
    for value in VALUES:
        for line in (f'{{"type":"data","payload":{{"t":{value}}}}}', f'{{"type":"status","payload":{{"t":{value}}}}}'):
            client.send(line.encode() + b"\n" + GOOD)
            while json.loads(client.until(b"\n"))["status"] != "ok":
                continue
    client.close()


def wrong_logins(siege: Siege) -> None:
    for field in ("type", "payload", "device_id", "device_key", "payload.device_id", "payload.device_key"):
        for value in VALUES:
            device, key = '"00000000-0000-0000-0000-000000000000"', '"k"'
            inner = {"device_id": device, "device_key": key}
            outer = {"type": '"auth"', **inner} if field.startswith("device") else {"type": '"auth"'}
            (inner if "." in field else outer)[field.rpartition(".")[2]] = value
            if not field.startswith("device") and field != "payload":
                outer["payload"] = "{" + ",".join(f'"{name}":{text}' for name, text in inner.items()) + "}"
            line = "{" + ",".join(f'"{name}":{text}' for name, text in outer.items()) + "}\n"
            client = siege.connect(NAME)
            client.send(line.encode())
            told = json.loads(client.rest())
            assert (told["type"], told["status"]) == ("auth_response", "error"), (line, told)
    siege.closed(NAME, "auth_failed")
    siege.closed(NAME, "malformed")


def odd_json(siege: Siege) -> None:
    """NaN, duplicate keys, more than one value, other encodings."""
    client = logged_in(siege)
    for line in (
        b'{"type":"data","payload":{"t":NaN}}',
        b'{"type":"data","payload":{"t":Infinity}}',
        b'{"type":"data","payload":{"t":1}}{"type":"data"}',
        b'{"type":"data","payload":{"t":"\xff\xfe"}}',
        b'{"type":"data","payload":{"\xc0\x80":1}}',
        b'{"type":"data","payload":{"t":"\\ud800"}}',
        '{"type":"data"}'.encode("utf-16"),
        b'{"payload":{}}',
        b"\x00" * 100,
        b"[]",
        b"7",
        b"{" * 100,
    ):
        assert answer(client, line + b"\n")["status"] == "error", line
        assert answer(client, GOOD)["status"] == "ok"
    for line in (
        b'{"type":"status","type":"data","payload":{"t":1},"payload":{"t":2}}',
        b'\xef\xbb\xbf{"type":"data"}\r',
        b' \t\r\n\n{"type" : "data"}',
    ):
        assert answer(client, line + b"\n")["message"] == "数据已接收", line
    client.close()


def halves(siege: Siege) -> None:
    """The beginning of a line and then nothing."""
    half = b'{"type":"auth","payload":{"dev'
    strangers = [siege.connect(NAME, kind) for kind in ("tcp", "tls") * 10]
    for stranger in strangers:
        stranger.send(half)
    device = logged_in(siege)
    device.send(GOOD[:-5])
    device.close()
    assert all("error" in json.loads(stranger.rest())["status"] for stranger in strangers)
    siege.closed(NAME, "auth_timeout", 20)


def flood(siege: Siege) -> None:
    """Far over the rate: slowed down, nothing lost."""
    client = logged_in(siege, flat=False)
    began = time.monotonic()
    for _ in range(150):
        assert client.send(GOOD * 100)
    client.send(b"nonsense\n")
    assert json.loads(client.until(b"\n"))["type"] == "error"
    # 5,000 at once, and as many for the second before, in which the log-in may have taken its time; a chunk is not cut.
    assert time.monotonic() - began > 0.7
    siege.counted(NAME, "throttled")
    client.close()


def heavy(siege: Siege) -> None:
    """Whole lines of the largest size, each forty times as large in memory, faster than a disk takes them."""
    client = logged_in(siege)
    line = b'{"type":"data","payload":{"t":[' + b"{}," * 43_000 + b"{}]}}\n"
    other = b'{"type":"status","payload":{"%d":[' + b"{}," * 43_000 + b"{}]}}\n"
    for number in range(100):
        assert client.send(line + other % number)
        client.until(b"\n")
        client.until(b"\n")
    client.close()


def slow_reader(siege: Siege) -> None:
    """Sends, and does not read what it is answered."""
    client = logged_in(siege, window=2048)
    while client.send((b"nonsense\n" * 9 + GOOD) * 100):
        continue
    siege.closed(NAME, "slow_reader")
    client.close()


ATTACKS: tuple[Attack, ...] = (
    noise,
    no_newline,
    no_newline_through_tls,
    deep,
    wrong_values,
    wrong_logins,
    odd_json,
    halves,
    flood,
    heavy,
    slow_reader,
)


class NovaCloudTests(SiegeCase):
    def test_novacloud_ports(self) -> Deferred[None]:
        return self.besiege(*ATTACKS, *attacks(NAME))
