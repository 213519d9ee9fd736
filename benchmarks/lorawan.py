"""`python -m benchmarks.lorawan`: the LoRaWAN side of one broker process, over real sockets.

::

    uplinks      so many a second, each heard by three gateways, to an MQTT subscriber: how many arrive, and when
    uploads      the same to a customer server (LoRaCenter)
    downlinks    500 class A motes with a command each: how long before RX1 its PULL_RESP is at the gateway

Memory with 100,000 motes is in the table of growth (`python -m benchmarks --only growth-motes`).
Datagrams are made before the clock runs. The deduplication window (200 ms) is part of every latency.
"""

from __future__ import annotations

import argparse
import json
import re
import selectors
import socket
import struct
import sys
import threading
import time
from base64 import b64decode, b64encode
from collections.abc import Sequence

from benchmarks.children import USER, BenchmarkError, Broker
from benchmarks.pairs import Load, open_client
from benchmarks.sinks import open_customer
from broker.devices.lorawan import keys

COPIES = 3
MOTES = 500
#: As many as it takes for their transmitters to have room for every downlink.
GATEWAYS = 120
NWK_S_KEY = bytes(range(16))
APP_S_KEY = bytes(range(16, 32))
FIRST_ADDRESS = 0x26000000
#: Seconds without another arrival after which no more is expected.
PATIENCE = 5.0
#: Uplinks a second, a little over what the issue asks for; those that are answered with a downlink.
RATE = 2050.0
DOWNLINKS = 50.0
#: Of the uplinks, those that may find a full buffer where the machine does other things; they are told.
LOST = 0.01


def dev_eui(number: int) -> str:
    return f"AA000000{number:08X}"


def register(broker: Broker, count: int, done: int = 0) -> None:
    """Register ABP motes, of which so many are there. Raises BenchmarkError."""
    for first in range(done, count, 2_000):
        lines = [
            json.dumps(
                {
                    "protocol": "lorawan",
                    "id": dev_eui(number),
                    "dev_addr": f"{FIRST_ADDRESS + number:08X}",
                    "nwk_s_key": NWK_S_KEY.hex(),
                    "app_s_key": APP_S_KEY.hex(),
                }
            ).encode()
            for number in range(first, min(first + 2_000, count))
        ]
        status, answer = broker.request(
            "POST", "/api/v1/devices/import", b"\n".join(lines) + b"\n", "application/x-ndjson"
        )
        if status != 200 or json.loads(answer)["failed"]:
            raise BenchmarkError(f"the motes were not registered: {answer[:200]!r}")


def frame_up(number: int, fcnt: int, payload: bytes) -> bytes:
    """An unconfirmed uplink on port 5."""
    address = FIRST_ADDRESS + number
    head = struct.pack("<BIBHB", 0x40, address, 0, fcnt & 0xFFFF, 5)
    body = head + keys.crypt_payload(APP_S_KEY, keys.UP, address, fcnt, payload)
    return body + keys.data_mic(NWK_S_KEY, keys.UP, address, fcnt, body)


class Gateway:
    """A forwarder with two sockets."""

    def __init__(self, broker: Broker, number: int) -> None:
        self.eui = (0xAA555A0000000000 + number).to_bytes(8, "big")
        self.up, self.down = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        for one in (self.up, self.down):
            one.connect(("127.0.0.1", broker.lorawan_port))
            one.setblocking(False)

    def pull(self) -> None:
        self.down.send(b"\x02\x00\x01\x02" + self.eui)

    def datagram(self, frame: bytes, tmst: int, snr: float) -> bytes:
        packet = {
            "tmst": tmst % (1 << 32),
            "chan": 0,
            "rfch": 0,
            "freq": 868.1,
            "stat": 1,
            "modu": "LORA",
            "datr": "SF7BW125",
            "codr": "4/5",
            "rssi": -60,
            "lsnr": snr,
            "size": len(frame),
            "data": b64encode(frame).decode(),
        }
        return b"\x02\x00\x01\x00" + self.eui + json.dumps({"rxpk": [packet]}).encode()

    def drain(self) -> list[bytes]:
        """What came to the socket that pulls."""
        found = []
        while True:
            try:
                found.append(self.down.recv(2000))
            except BlockingIOError:
                return found

    def close(self) -> None:
        self.up.close()
        self.down.close()


def open_gateways(broker: Broker, count: int) -> list[Gateway]:
    gateways = [Gateway(broker, number) for number in range(count)]
    for gateway in gateways:
        gateway.pull()
    time.sleep(0.2)
    for gateway in gateways:
        if not gateway.drain():
            raise BenchmarkError("a gateway got no PULL_ACK")
    return gateways


class Arrivals(threading.Thread):
    """An MQTT subscriber or a customer server: when each numbered payload came."""

    PAYLOAD = re.compile(rb'"payload(?:_base64)?":"([A-Za-z0-9+/]{8})"')

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(daemon=True)
        self.at: dict[int, float] = {}
        self._sock = sock

    def wait(self, count: int) -> None:
        """Until so many have come, or no more do."""
        came, until = 0, 0.0
        while len(self.at) < count:
            if len(self.at) > came or not until:
                came, until = len(self.at), time.perf_counter() + PATIENCE
            elif time.perf_counter() > until:
                return
            time.sleep(0.01)

    def run(self) -> None:
        held = b""
        while data := self._read():
            now = time.perf_counter()
            held += data
            end = 0
            for found in self.PAYLOAD.finditer(held):
                self.at[int.from_bytes(b64decode(found[1]), "big")] = now
                end = found.end()
            held = held[end:]

    def _read(self) -> bytes:
        try:
            return self._sock.recv(262_144)
        except OSError:  # closed by the load, which has what it needs
            return b""


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


class LoraUplinks:
    """Motes whose uplinks are heard by three gateways each, so many a second; a message is one of these.

    They go to an MQTT subscriber, or with ``customer`` to a customer server. The latency is that from the first
    datagram. ``sent``: the uplinks of the same motes so far; None: they have to be registered.
    """

    def __init__(self, broker: Broker, customer: bool = False, rate: float = RATE, sent: int | None = None) -> None:
        if sent is None:
            register(broker, MOTES)
        euis = [dev_eui(number) for number in range(MOTES)]
        if customer:
            self._sock = open_customer(broker, euis)
        else:
            for eui in euis:
                broker.call("PUT", f"/applications/{USER}/devices/{eui}")
            self._sock = open_client(broker, "subscriber", [("devices/+/up/raw", 0)])
        self._gateways = open_gateways(broker, COPIES)
        self._rate = rate
        self._sent = sent or 0
        self._arrivals = Arrivals(self._sock)
        self._arrivals.start()

    def run(self, messages: int) -> Load:
        """Raises BenchmarkError when more than a hundredth of them do not arrive."""
        sys.setswitchinterval(0.0001)  # or it would be the sender that the subscriber waits for
        first, self._sent = self._sent, self._sent + messages
        datagrams = [self._copies(index) for index in range(first, self._sent)]
        self._arrivals.at.clear()
        sent_at = [0.0] * messages
        started = time.perf_counter()
        for number, copies in enumerate(datagrams):
            ahead = started + number / self._rate - time.perf_counter()
            if ahead > 0:
                time.sleep(ahead)
            sent_at[number] = time.perf_counter()
            for gateway, datagram in zip(self._gateways, copies, strict=True):
                gateway.up.send(datagram)
                if number % 100 == 0:
                    swallow(gateway.up)
        took = time.perf_counter() - started
        self._arrivals.wait(messages)
        at = self._arrivals.at
        lost = messages - len(at)
        if lost > messages * LOST:
            raise BenchmarkError(f"{lost} of {messages} uplinks have not arrived")
        late = [at[first + number] - sent for number, sent in enumerate(sent_at) if first + number in at]
        return Load(len(at), took, late, lost)

    def _copies(self, index: int) -> list[bytes]:
        frame = frame_up(index % MOTES, index // MOTES, index.to_bytes(6, "big"))
        tmst = int(index / self._rate * 1e6)
        return [gateway.datagram(frame, tmst, 5.0 + copy) for copy, gateway in enumerate(self._gateways)]

    def close(self) -> None:
        self._sock.close()
        for gateway in self._gateways:
            gateway.close()


def swallow(sock: socket.socket) -> None:
    """Acknowledgements must not fill the socket up."""
    try:
        while sock.recv(100):
            pass
    except BlockingIOError:
        return


class LoraDownlinks:
    """Class A motes with a command each, which leaves after their uplink; a message is both.

    The latency is that from the uplink's first datagram until the PULL_RESP is at its gateway. RX1 opens after 1 s.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        register(broker, MOTES)
        self._gateways = open_gateways(broker, GATEWAYS)
        self._selector = selectors.DefaultSelector()
        for gateway in self._gateways:
            self._selector.register(gateway.down, selectors.EVENT_READ, gateway)
        self._fcnt = -1

    def prepare(self, messages: int) -> None:
        """Give so many motes a command."""
        for number in range(messages):
            self._broker.call("POST", f"/devices/{dev_eui(number)}/commands", {"payload_base64": "AQID"})
        for gateway in self._gateways:
            gateway.pull()
            gateway.drain()

    def run(self, messages: int) -> Load:
        """Raises BenchmarkError when a downlink does not come for RX1."""
        self._fcnt += 1
        frames = [frame_up(number, self._fcnt, b"x") for number in range(messages)]
        heard: dict[int, float] = {}
        took: dict[int, float] = {}
        started = time.perf_counter()
        while len(took) < messages:
            now = time.perf_counter()
            if now > started + messages / DOWNLINKS + PATIENCE:
                raise BenchmarkError(f"only {len(took)} of {messages} downlinks came for RX1")
            number = len(heard)
            if number < messages and now >= started + number / DOWNLINKS:
                for copy in range(COPIES):
                    gateway = self._gateways[(number * COPIES + copy) % GATEWAYS]
                    gateway.up.send(gateway.datagram(frames[number], int(now * 1e6), 9.0))
                heard[number] = now
            for key, _ in self._selector.select(0.002):
                self._answer(key.data, heard, took)
        return Load(messages, time.perf_counter() - started, list(took.values()))

    @staticmethod
    def _answer(gateway: Gateway, heard: dict[int, float], took: dict[int, float]) -> None:
        now = time.perf_counter()
        for data in gateway.drain():
            if data[3] == 3:
                packet = json.loads(data[4:])["txpk"]
                number = int.from_bytes(b64decode(packet["data"])[1:5], "little") - FIRST_ADDRESS
                if packet["datr"] == "SF7BW125":
                    took[number] = now - heard[number]
                gateway.down.send(b"\x02" + data[1:3] + b"\x05" + gateway.eui)

    def close(self) -> None:
        self._selector.close()
        for gateway in self._gateways:
            gateway.close()


def show(what: str, rate: float, seconds: float) -> None:
    """Run one load and print what it took."""
    with Broker() as broker:
        down = what == "downlinks"
        work = LoraDownlinks(broker) if down else LoraUplinks(broker, what == "uploads", rate)
        messages = MOTES if down else int(rate * seconds)
        if isinstance(work, LoraDownlinks):
            work.prepare(messages)
        cpu = broker.cpu()
        load = work.run(messages)
        cpu = broker.cpu() - cpu
        late = [1000 * one for one in load.latencies]
        print(
            f"{what:<12} {messages} in {load.seconds:.1f} s ({messages / load.seconds:.0f}/s), {COPIES} gateways each: "
            f"p50 {percentile(late, 0.5):.1f} ms, p99 {percentile(late, 0.99):.1f} ms, longest {max(late):.1f} ms, "
            f"{cpu / messages * 1e6:.0f} us CPU each ({cpu / load.seconds * 100:.0f} % of a core)"
        )
        work.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.lorawan", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = ["uplinks", "uploads", "downlinks"]
    parser.add_argument("what", nargs="*", default=kinds, metavar="WHAT", help=f"of {', '.join(kinds)} (default: all)")
    parser.add_argument("--rate", type=int, default=2000, help="uplinks a second (default: 2000)")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long (default: 10)")
    wanted = parser.parse_args()
    for what in wanted.what:
        if what not in kinds:
            raise BenchmarkError(f"there is no {what}; see --help")
        show(what, wanted.rate, wanted.seconds)


if __name__ == "__main__":
    try:
        main()
    except BenchmarkError as error:
        sys.exit(f"benchmarks: {error}")
