"""The ports of 0x88 gateways and of their files under attack."""

from __future__ import annotations

import time
import zlib
from functools import partial
from itertools import count
from random import Random
from typing import Final

from twisted.internet.defer import Deferred

from broker.devices.gateway88.container import AS_WRITTEN, encode
from broker.devices.gateway88.frames import MAGIC, Frame, FrameDecoder, encode_frame
from tests.behaviour import client_hello
from tests.hostile.crowds import half_open_tls, silent_crowd
from tests.hostile.siege import BOTH, Attack, Client, Siege, SiegeCase
from tests.hostile.test_http import check_problem, read_answer
from tests.hostile.values import DEEP, VALUES

NAME: Final = "gateway88"
FILES: Final = "files"
HB: Final = {"type": "hb", "hb": {"totalram": 1, "freeram": 1, "totaldisk": 1, "freedisk": 1}}
_MACS: Final = count(0x02AA00000001)
#: Of a gateway whose answers fill its socket: it does not get smaller by compression.
HEAVY: Final = {"type": "gateway_info", "gateway_info": {"name": Random(1).randbytes(20_000).hex()}}


class Gateway:
    """A registered gateway on one connection."""

    def __init__(self, siege: Siege, kind: str = "tcp", window: int = 0, known: bool = True) -> None:
        self.mac = next(_MACS).to_bytes(6, "big")
        if known:
            siege.broker.made("/devices", {"protocol": "gateway88", "id": self.mac.hex()})
        self.client = siege.plain(NAME, kind, window) if window else siege.connect(NAME, kind)
        self.decoder = FrameDecoder(1 << 20)
        self.seen: list[Frame] = []

    def frame(self, id: int, value: object = HB) -> bytes:
        assert isinstance(value, dict)
        return encode_frame(self.mac, id, encode(value, AS_WRITTEN))

    def answer(self, id: int) -> Frame:
        """The next answer under this id; whatever else comes is passed over."""
        while True:
            for number, frame in enumerate(self.seen):
                if frame.id == id:
                    del self.seen[: number + 1]
                    return frame
            data = self.client.some()
            assert data, f"closed before the answer to {id}"
            self.seen += [item for item in self.decoder.feed(data) if isinstance(item, Frame)]

    def beat(self, id: int) -> None:
        """A heartbeat, which has to be acknowledged."""
        self.client.send(self.frame(id))
        assert self.answer(id).status == 0


def noise(siege: Siege) -> None:
    """Bytes of all kinds, with the magic in them at times."""
    clients = []
    for seed in range(30):
        random = Random(seed)
        client = siege.connect(NAME, ("tcp", "tls")[seed % 2])
        for _ in range(random.randrange(1, 30)):
            client.send(random.randbytes(random.randrange(1, 5_000)) + MAGIC * (seed % 3))
        clients.append(client)
    for client in clients:
        client.rest()
    siege.counted(NAME, "malformed", least=15)


def cut_frames(siege: Siege) -> None:
    """A frame that is cut off anywhere is followed by whole ones, which are answered."""
    gateway = Gateway(siege)
    gateway.beat(1)
    whole = gateway.frame(2)
    for cut in range(1, len(whole)):
        first, second = 3 + cut % 60 * 2, 4 + cut % 60 * 2
        gateway.client.send(whole[:cut] + gateway.frame(first) + gateway.frame(second))
        gateway.beat(second)
    gateway.client.close()


def wrong_checksums(siege: Siege) -> None:
    gateway = Gateway(siege)
    gateway.beat(1)
    bad = bytearray(gateway.frame(2))
    bad[-1] ^= 1
    gateway.client.send(bytes(bad) * 5)
    gateway.beat(3)
    gateway.client.send(bytes(bad) * 50)
    gateway.client.rest()
    siege.closed(NAME, "malformed")


def foreign_macs(siege: Siege) -> None:
    gateway = Gateway(siege)
    gateway.beat(1)
    other = encode_frame(bytes(5) + b"\x01", 2, encode(HB, AS_WRITTEN))
    gateway.client.send(other * 2)
    gateway.beat(3)
    gateway.client.send(other)
    gateway.client.rest()
    siege.closed(NAME, "protocol_error")


def bombs(siege: Siege) -> None:
    """A megabyte that inflates to a gigabyte, in each compression, and base64 inside out."""
    zeros = bytes(1 << 20)
    for wbits in (15, 31, -15):
        stream = zlib.compressobj(9, wbits=wbits)
        bomb = b"".join(stream.compress(zeros) for _ in range(1_000)) + stream.flush()
        gateway = Gateway(siege)
        gateway.beat(1)
        for id in range(2, 12):
            gateway.client.send(encode_frame(gateway.mac, id, bomb))
        gateway.client.rest()
    siege.closed(NAME, "malformed", 3)


def odd_values(siege: Siege) -> None:
    """Whatever JSON can say in the place of what is expected; deep nesting. All of it is answered."""
    gateway = Gateway(siege)
    gateway.beat(1)
    for number, value in enumerate((*VALUES, *DEEP)):
        for text in (value, f'{{"type":{value}}}', f'{{"type":"hb","hb":{value}}}', f'{{"type":"x","ack":{value}}}'):
            data = text.encode("utf-8", "surrogatepass")
            if data:
                gateway.client.send(encode_frame(gateway.mac, 2 + number, data))
                assert gateway.answer(2 + number).status in (0, 1)
                gateway.beat(1)
    gateway.client.close()


def absurd_lengths(siege: Siege) -> None:
    gateway = Gateway(siege)
    gateway.beat(1)
    for length in (b"\xff\xff\xff\xff", b"\x00\x10\x00\x01", b"\x00\x00\x00\x00", b"\x00\x00\x00\x09"):
        gateway.client.send(MAGIC + length)
        gateway.beat(2)
        gateway.beat(3)
    gateway.client.close()


def made_up_macs(siege: Siege) -> None:
    """More strangers than quarantine has room for: the last ones are turned away, nobody else notices."""
    strangers = []
    for _ in range(1_200):
        stranger = Gateway(siege, known=False)
        stranger.client.send(stranger.frame(1))
        strangers.append(stranger)
    siege.closed(NAME, "auth_failed", 100)
    for stranger in strangers:
        stranger.client.close()


def slow_reader(siege: Siege) -> None:
    """Has itself echoed and reads nothing."""
    gateway = Gateway(siege, window=2_048)
    id = 0
    until = time.monotonic() + 30
    while gateway.client.send(gateway.frame(1 + id % 127, {**HEAVY, "n": id})):
        id += 1
        assert time.monotonic() < until
    siege.closed(NAME, "slow_reader")


def no_tls(siege: Siege) -> None:
    """What is not TLS on a TLS port ends the connection at once."""
    for words in (b"\x00" * 100, b"GET / HTTP/1.1\r\n\r\n"):
        client = siege.plain(NAME, "tls")
        client.send(words)
        client.rest()
    siege.closed(NAME, "tls_failed", 2)


def tls_on_plain(siege: Siege) -> None:
    client: Client = siege.plain(NAME)
    client.send(client_hello())
    client.rest()
    siege.closed(NAME, "auth_timeout")


def guessed_urls(siege: Siege) -> None:
    """Tokens that are none, commands that are not there, ways that do not exist."""
    token = "ffffffffff." + "A" * 32
    for number, kind in enumerate(("tcp", "tls") * 30):
        client = siege.connect(FILES, kind)
        path = ("/firmware/a/", "/recovery/../", "/backups/%00/", "/x/", "/firmware/%ff/", "/")[number % 6] + token
        client.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        status, body = read_answer(client)
        check_problem(status, body, path)
        assert status in (404, 405), (status, path)
        client.close()


def upload_to_nowhere(siege: Siege) -> None:
    """For a token that is none, an upload is refused with its head, and the client is not listened to for long."""
    for kind in ("tcp", "tls"):
        client = siege.connect(FILES, kind)
        path = "/backups/a/ffffffffff." + "A" * 32
        client.send(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 67000000\r\n\r\n".encode())
        status, body = read_answer(client)
        check_problem(status, body, path)
        until = time.monotonic() + 30
        while client.send(bytes(1_000)):
            assert time.monotonic() < until
            time.sleep(0.05)
        client.close()
    siege.closed(FILES, "protocol_error", 2)


ATTACKS: tuple[Attack, ...] = (
    noise,
    cut_frames,
    wrong_checksums,
    foreign_macs,
    bombs,
    odd_values,
    absurd_lengths,
    made_up_macs,
    slow_reader,
    no_tls,
    tls_on_plain,
    guessed_urls,
    upload_to_nowhere,
)


def named(attack: partial[None], name: str) -> Attack:
    attack.__name__ = f"{attack.func.__name__} {name}"  # type: ignore[attr-defined]  # for the report
    return attack


CROWDS: tuple[Attack, ...] = tuple(
    named(partial(one, name), name) for name in (NAME, FILES) for one in (silent_crowd, half_open_tls)
)


class GatewayTests(SiegeCase):
    settings = {
        f"listeners.{NAME}.bind": BOTH,
        f"listeners.{NAME}.frame_timeout": "1.0",
        f"listeners.{NAME}.limits.max_message_rate": "100",
        f"listeners.{NAME}.limits.message_burst": "1000",
        f"listeners.{FILES}.bind": BOTH,
        f"listeners.{FILES}.request_timeout": "2.0",
        f"listeners.{FILES}.keep_alive_timeout": "3.0",
    }

    def test_gateways_ports(self) -> Deferred[None]:
        return self.besiege(*ATTACKS, *CROWDS)
