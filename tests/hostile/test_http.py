"""HTTP ports under attack: requests. The stream has a file of its own."""

from __future__ import annotations

import json
import time
from random import Random
from typing import Any

from twisted.internet.defer import Deferred

from tests.hostile.crowds import attacks
from tests.hostile.siege import FLOOD, Attack, Client, Siege, SiegeCase
from tests.hostile.values import DEEP, VALUES

NAME = "http"
MB = 1 << 20
GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


def read_answer(client: Client) -> tuple[int, bytes]:
    """Status and body of the next answer."""
    head = client.until(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1])
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            while len(client.buffer) < int(value):
                data = client.some()
                assert data, (head, client.buffer)
                client.buffer += data
            body, client.buffer = client.buffer[: int(value)], client.buffer[int(value) :]
            return status, body
    return status, b""


def check_problem(status: int, body: bytes, asked: Any) -> None:
    assert 400 <= status < 500, (status, body, asked)
    assert json.loads(body)["status"] == status, (status, body, asked)


class Caller:
    """The administrator, on one connection."""

    def __init__(self, siege: Siege) -> None:
        self.client = siege.connect(NAME)
        self._token = siege.broker.admin_token.encode()

    def call(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        self.client.send(
            b"%b /api/v1%b HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b\r\nContent-Length: %d\r\n\r\n%b"
            % (method.encode(), path.encode(), self._token, len(body), body)
        )
        return read_answer(self.client)


def noise(siege: Siege) -> None:
    clients = []
    for seed in range(30):
        random = Random(seed)
        client = siege.connect(NAME, ("tcp", "tls")[seed % 2])
        if seed % 3 == 0:
            client.send(GET[:-2])
        for _ in range(random.randrange(1, 20)):
            client.send(random.randbytes(random.randrange(1, 5_000)))
        client.send(b"\r\n\r\n")
        clients.append(client)
    for client in clients:
        got = client.rest()
        assert got == b"" or got.startswith((b"HTTP/1.1 4", b"HTTP/1.1 200")), got
    siege.counted(NAME, "malformed", least=15)


def no_end(siege: Siege) -> None:
    """A line, a head, a body, a body in chunks and a chunk's size line, none of which ends."""
    head = b"POST /api/v1/devices HTTP/1.1\r\nHost: x\r\n"
    token = b"Authorization: Bearer " + siege.broker.admin_token.encode() + b"\r\n"
    chunked = head + token + b"Transfer-Encoding: chunked\r\n\r\n"
    chunk = b"100000\r\n" + b"x" * MB + b"\r\n"
    for start, piece in (
        (b"", b"x" * MB),
        (b"GET /", b"x" * MB),
        (head, b"X-Header: y\r\n" * 70_000),
        (head + b"X: ", b"y" * MB),
        (head + b"Content-Length: 999999999999\r\n\r\n", b"x" * MB),
        (chunked, chunk),
        (chunked, b"f" * MB),
        (chunked + b"1;", b"extension " * 100_000),
        (chunked + b"0\r\n", b"Trailer: x\r\n" * 80_000),
        (chunked.replace(b"devices", b"devices/import"), chunk),
    ):
        client = siege.plain(NAME)
        client.send(start)
        client.pour(piece, FLOOD)
        got = client.some()
        assert got == b"" or got.startswith(b"HTTP/1.1 4"), got
        client.close()
    siege.counted(NAME, "malformed", least=4)


def heads(siege: Siege) -> None:
    """Requests that are none, or mean two things."""
    body = b"POST /api/v1/devices HTTP/1.1\r\nHost: x\r\n"
    table = (
        b"GET\r\n\r\n",
        b"GET /\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x00\x01 / HTTP/1.1\r\n\r\n",
        b"G\xffT /\xff\xfe HTTP/1.1\r\nHost: \xff\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\n folded\r\n\r\n",
        b"GET / HTTP/1.1\r\n: no name\r\n\r\n",
        b"GET / HTTP/1.1\r\nX\x00Y: z\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 1_000 + b"\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"y" * 200_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n\r\n",
        body + b"Content-Length: -1\r\n\r\n",
        body + b"Content-Length: +1\r\n\r\n",
        body + b"Content-Length: 0x10\r\n\r\n",
        body + b"Content-Length: 1e3\r\n\r\n",
        body + b"Content-Length: " + b"9" * 5_000 + b"\r\n\r\n",
        body + b"Content-Length: 1, 2\r\n\r\n",
        body + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
        body + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        body + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
        body + b"Transfer-Encoding: chunked\r\n\r\n-1\r\nx\r\n",
        body + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nx\r\n",
        body + b"Transfer-Encoding: chunked\r\n\r\n1\r\nxyz\r\n",
        body + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffffff\r\n",
        b"CONNECT example.com:443 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET http://[::1 HTTP/1.1\r\nHost: x\r\n\r\n",
    )
    clients = [(request, siege.connect(NAME)) for request in table]
    for request, client in clients:
        client.send(request + b"\r\n" * 2)
    for request, client in clients:
        got = client.rest()
        assert got == b"" or got.startswith(b"HTTP/1.1 4"), (request[:80], got)
    siege.closed(NAME, "malformed", 15)


def paths(siege: Siege) -> None:
    """Every way up and out, and queries that are none: what there is not, is not found."""
    caller = Caller(siege)
    up = ("..", "%2e%2e", "..%2f", "%2e%2e%2f", "....//", "..%5c", "%252e%252e", "%c0%ae%c0%ae", "..;", "%00", "%ff")
    for dots in up:
        for where in ("", "/devices", "/devices/x/messages", "/products", "/commands", "/applications/x/devices"):
            for target in ("/etc/passwd", "/var/admin.token", ""):
                path = f"{where}/{dots}/{dots}/{dots}{target}"
                check_problem(*caller.call("GET", path, b""), path)
    for query in ("limit=x", "limit=-1", "limit=1e99", "limit=" + "9" * 5000, "cursor=%ff", "x=1", "limit=1&limit=2"):
        status, body = caller.call("GET", f"/devices?{query}", b"")
        check_problem(status, body, query)
    device = siege.peace.device
    for query in ("since=x", "since=nan", "since=-inf", "until=1e999", "kind=%00", "limit=0", "cursor=%00"):
        check_problem(*caller.call("GET", f"/devices/{device}/messages?{query}", b""), query)
    for query in ("wait=nan", "wait=-1", "wait=inf", "wait="):
        check_problem(*caller.call("POST", f"/devices/{device}/commands?{query}", b'{"payload":{}}'), query)
    caller.client.close()


#: What a body has, by call. The values are right.
BODIES: dict[str, dict[str, str]] = {
    "/products": {"key": '"k"', "name": '"n"', "protocol": '"novacloud"', "sensors": "[]", "actuators": "[]"},
    "/devices": {"protocol": '"novacloud"', "name": '"n"'}
    | dict.fromkeys(("id", "secret", "product", "dev_eui"), "null"),
    "/applications": {"kind": '"http"', "name": '"n"'} | dict.fromkeys(("id", "secret", "cs_eui", "app_key"), "null"),
    "/devices/DEVICE/commands": {
        "payload": "{}",
        "payload_base64": '""',
        "ref": '"r"',
        "timeout": "1",
        "expires": "0",
        **dict.fromkeys(("force", "ack", "confirm"), "true"),
        **dict.fromkeys(("port", "priority"), "1"),
    },
}


def bodies(siege: Siege) -> None:
    """Every value in every field of every body: taken or refused, and never a fault."""
    caller = Caller(siege)
    device, _ = siege.device()
    for path, fields in BODIES.items():
        path = path.replace("DEVICE", device)
        for value in VALUES:
            texts = [value, f'{{"unknown":{value}}}']
            for field in fields:
                others = {name: text for name, text in fields.items() if name != "payload_base64"}
                texts.append(
                    "{" + ",".join(f'"{name}":{text}' for name, text in {**others, field: value}.items()) + "}"
                )
            for text in texts:
                status, body = caller.call("POST", path, text.encode())
                assert status in (201, 202) or 400 <= status < 500, (path, text, status, body)
        for deep in DEEP:
            for text in (deep, '{"payload":' + deep, '{"payload":{"a":' + "[" * 90_000 + "]" * 90_000 + "}}"):
                check_problem(*caller.call("POST", path, text.encode()), (path, text[:20]))
        for raw in (b"", b"\xff\xfe", b'{"name":"\xff"}', b"{" * 1_000_000, "{}".encode("utf-16"), b"{}{}"):
            check_problem(*caller.call("POST", path, raw), (path, raw[:20]))
    lines = "\n".join(f'{{"protocol":"novacloud","name":{value}}}' for value in (*VALUES, *DEEP))
    status, body = caller.call("POST", "/devices/import", lines.encode())
    assert status == 200 and len(json.loads(body)["failed"]) > 10, (status, body)
    caller.client.close()


def loris(siege: Siege) -> None:
    """A head and a body that arrive byte by byte, and never quite."""
    head = b"POST /api/v1/devices HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n"
    clients = [siege.connect(NAME, ("tcp", "tls")[number % 2]) for number in range(50)]
    for client in clients[25:]:
        client.send(head + b"\r\n")
    for _ in range(25):
        for client in clients:
            client.send(b"x")
        time.sleep(0.1)  # the attacker's pace
    for client in clients:
        got = client.rest()  # nothing, where the broker gave up before the attacker did
        assert got == b"" or got.startswith(b"HTTP/1.1 408 "), got
    siege.closed(NAME, "idle", 50)


def pipeline(siege: Siege) -> None:
    """Far more requests than anybody waits for: all are answered, in their order."""
    client = siege.connect(NAME)
    ask = b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % (number % 10) for number in range(5_000))
    client.send(ask + GET)
    for _ in range(5_000):
        assert read_answer(client)[0] == 404
    assert read_answer(client) == (200, b'{"status":"ok"}')
    client.close()


def slow_reader(siege: Siege) -> None:
    """Some who ask for much (50 kB of questions, 70 MB of answers) and read nothing."""
    clients = [siege.plain(NAME, window=2048) for _ in range(8)]
    ask = b"GET /api/v1/openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
    for client in clients:
        client.send(ask * 1_000)
    while clients[0].send(ask * 100):
        continue
    siege.closed(NAME, "slow_reader", len(clients))
    for client in clients:
        client.close()


def guesses(siege: Siege) -> None:
    """Wrong tokens of every kind."""
    for token in (b"", b"Bearer", b"Bearer ", b"Bearer x", b"Bearer x:y", b"Basic eDp5", b"Bearer \xff", b"B" * 10_000):
        client = siege.connect(NAME)
        client.send(b"GET /api/v1/devices HTTP/1.1\r\nHost: x\r\nAuthorization: %b\r\n\r\n" % token)
        assert read_answer(client)[0] == 401, token
        client.close()
    siege.counted(NAME, "logins_failed")


ATTACKS: tuple[Attack, ...] = (noise, no_end, heads, paths, bodies, loris, pipeline, slow_reader, guesses)


class HttpTests(SiegeCase):
    def test_http_ports(self) -> Deferred[None]:
        return self.besiege(*ATTACKS, *attacks(NAME))
