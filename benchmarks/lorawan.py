"""`python -m benchmarks.lorawan`: the LoRaWAN side of one broker process, over real sockets.

::

    uplinks      so many a second, each heard by three gateways, to an MQTT subscriber: how many arrive, and when
    uploads      the same to a customer server (LoRaCenter)
    downlinks    500 class A motes with a command each: how long before RX1 its PULL_RESP is at the gateway
    memory       100,000 motes registered, the broker started again: how much memory it has

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
from benchmarks.pairs import open_client
from broker.applications.loracenter.challenge import tag
from broker.devices.lorawan import keys

COPIES = 3
MOTES = 500
#: As many as it takes for their transmitters to have room for every downlink.
GATEWAYS = 120
NWK_S_KEY = bytes(range(16))
APP_S_KEY = bytes(range(16, 32))
CS_EUI = "AA555A0000000000"
CS_KEY = bytes(range(32, 48))
FIRST_ADDRESS = 0x26000000
#: Seconds after the last uplink in which all have to have arrived.
PATIENCE = 5.0


def dev_eui(number: int) -> str:
    return f"AA000000{number:08X}"


def register(broker: Broker, count: int) -> float:
    """Register ABP motes; seconds that it took. Raises BenchmarkError."""
    started = time.perf_counter()
    for first in range(0, count, 10_000):
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
            for number in range(first, min(first + 10_000, count))
        ]
        status, answer = broker.request(
            "POST", "/api/v1/devices/import", b"\n".join(lines) + b"\n", "application/x-ndjson"
        )
        if status != 200 or json.loads(answer)["failed"]:
            raise BenchmarkError(f"the motes were not registered: {answer[:200]!r}")
    return time.perf_counter() - started


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

    def run(self) -> None:
        held = b""
        while data := self._sock.recv(262_144):
            now = time.perf_counter()
            held += data
            end = 0
            for found in self.PAYLOAD.finditer(held):
                self.at[int.from_bytes(b64decode(found[1]), "big")] = now
                end = found.end()
            held = held[end:]


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def open_customer(broker: Broker) -> socket.socket:
    """A customer server that is registered."""
    broker.call(
        "POST", "/applications", {"id": "customer", "kind": "loracenter", "cs_eui": CS_EUI, "app_key": CS_KEY.hex()}
    )
    for number in range(MOTES):
        broker.call("PUT", f"/applications/customer/devices/{dev_eui(number)}")
    sock = socket.create_connection(("127.0.0.1", broker.loracenter_port))
    challenge = tag(CS_KEY, CS_EUI, 1).hex()
    request = {"CMD": "CSREG", "Token": 1, "CsEUI": CS_EUI, "AppNonce": 1, "Challenge": challenge}
    sock.sendall(json.dumps(request).encode() + b"\0")
    if b"ACCEPT" not in sock.recv(1000):
        raise BenchmarkError("the customer server was refused")
    return sock


def uplinks(what: str, rate: int, seconds: float) -> None:
    with Broker() as broker:
        register(broker, MOTES)
        if what == "uploads":
            sock = open_customer(broker)
        else:
            for number in range(MOTES):
                broker.call("PUT", f"/applications/{USER}/devices/{dev_eui(number)}")
            sock = open_client(broker, "subscriber", [("devices/+/up/raw", 0)])
        gateways = open_gateways(broker, COPIES)
        sys.setswitchinterval(0.0001)  # or it would be the sender that the subscriber waits for
        arrivals = Arrivals(sock)
        arrivals.start()
        total = int(rate * seconds)
        datagrams = []
        for index in range(total):
            frame = frame_up(index % MOTES, index // MOTES, index.to_bytes(6, "big"))
            tmst = int(index / rate * 1e6)
            datagrams.append([gateway.datagram(frame, tmst, 5.0 + copy) for copy, gateway in enumerate(gateways)])
        sent_at = [0.0] * total
        cpu, started = broker.cpu(), time.perf_counter()
        for index, copies in enumerate(datagrams):
            due = started + index / rate
            ahead = due - time.perf_counter()
            if ahead > 0:
                time.sleep(ahead)
            sent_at[index] = time.perf_counter()
            for gateway, datagram in zip(gateways, copies, strict=True):
                gateway.up.send(datagram)
                if index % 100 == 0:
                    swallow(gateway.up)
        took = time.perf_counter() - started
        until = time.perf_counter() + PATIENCE
        while len(arrivals.at) < total and time.perf_counter() < until:
            time.sleep(0.05)
        cpu = broker.cpu() - cpu
        late = [(arrivals.at[index] - sent_at[index]) * 1000 for index in range(total) if index in arrivals.at]
        print(
            f"{what:<12} {total} in {took:.1f} s ({total / took:.0f}/s), {COPIES} gateways each: "
            f"{len(late)} arrived, p50 {percentile(late, 0.5):.1f} ms, p99 {percentile(late, 0.99):.1f} ms, "
            f"{cpu / total * 1e6:.0f} us CPU each ({cpu / took * 100:.0f} % of a core)"
        )
        sock.close()
        for gateway in gateways:
            gateway.close()


def swallow(sock: socket.socket) -> None:
    """Acknowledgements must not fill the socket up."""
    try:
        while sock.recv(100):
            pass
    except BlockingIOError:
        return


def downlinks(seconds: float) -> None:
    with Broker() as broker:
        register(broker, MOTES)
        gateways = open_gateways(broker, GATEWAYS)
        for number in range(MOTES):
            broker.call("POST", f"/devices/{dev_eui(number)}/commands", {"payload_base64": "AQID"})
        for gateway in gateways:
            gateway.pull()
        selector = selectors.DefaultSelector()
        for gateway in gateways:
            gateway.drain()
            selector.register(gateway.down, selectors.EVENT_READ, gateway)
        heard: dict[int, float] = {}
        ahead: dict[int, float] = {}
        started = time.perf_counter()
        number = 0
        while time.perf_counter() < started + seconds + 2.0:
            while number < MOTES and time.perf_counter() >= started + number * seconds / MOTES:
                frame = frame_up(number, 0, b"x")
                now = time.perf_counter()
                for copy in range(COPIES):
                    gateway = gateways[(number * COPIES + copy) % GATEWAYS]
                    gateway.up.send(gateway.datagram(frame, int(now * 1e6), 9.0))
                heard[number] = now
                number += 1
            for key, _ in selector.select(0.002):
                gateway = key.data
                now = time.perf_counter()
                for data in gateway.drain():
                    if data[3] == 3:
                        packet = json.loads(data[4:])["txpk"]
                        address = int.from_bytes(b64decode(packet["data"])[1:5], "little")
                        if packet["datr"] == "SF7BW125":
                            ahead[address - FIRST_ADDRESS] = heard[address - FIRST_ADDRESS] + 1.0 - now
                        gateway.down.send(b"\x02" + data[1:3] + b"\x05" + gateway.eui)
        if len(ahead) < MOTES:
            raise BenchmarkError(f"only {len(ahead)} of {MOTES} downlinks came for RX1")
        least, middle = min(ahead.values()), percentile(list(ahead.values()), 0.5)
        print(
            f"downlinks    {MOTES} motes within {seconds:.0f} s, {GATEWAYS} gateways: all for RX1, "
            f"{least * 1000:.0f} ms before it at least, {middle * 1000:.0f} ms in the middle"
        )
        for gateway in gateways:
            gateway.close()


def memory(count: int) -> None:
    with Broker() as broker:
        before = broker.resident()
        took = register(broker, count)
        started = time.perf_counter()
        broker.restart()
        ready = time.perf_counter() - started
        after = broker.resident()
        print(
            f"memory       {count} motes: registered in {took:.1f} s, "
            f"{after / 1024:.0f} MiB after a restart of {ready:.1f} s ({before / 1024:.0f} MiB without motes)"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.lorawan", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="*", default=["uplinks", "uploads", "downlinks", "memory"], metavar="WHAT")
    parser.add_argument("--rate", type=int, default=2000, help="uplinks a second (default: 2000)")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long (default: 10)")
    parser.add_argument("--motes", type=int, default=100_000, help="for memory (default: 100000)")
    wanted = parser.parse_args()
    for what in wanted.what:
        if what in ("uplinks", "uploads"):
            uplinks(what, wanted.rate, wanted.seconds)
        elif what == "downlinks":
            downlinks(wanted.seconds)
        elif what == "memory":
            memory(wanted.motes)
        else:
            raise BenchmarkError(f"there is no {what}; see --help")


if __name__ == "__main__":
    try:
        main()
    except BenchmarkError as error:
        sys.exit(f"benchmarks: {error}")
