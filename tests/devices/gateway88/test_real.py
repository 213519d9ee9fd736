"""The real broker: a gateway in another language, raw bytes over TLS sockets, the API's calls, kill -9."""

from __future__ import annotations

import http.client
import socket
import ssl
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from broker.devices.gateway88.frames import encode_frame
from tests.devices.gateway88.node import NodeGateway
from tests.devices.gateway88.tls_gateway import client_context
from tests.devices.gateway88.vectors import (
    ACK_A,
    ACKS,
    GATEWAY,
    HB,
    HB_FRAME,
    INFO,
    INFO_PLAIN,
    INFO_WRITTEN,
    NEWDEVICES,
)
from tests.real import PATIENCE, RealBroker, eventually

TLS = '["tls:0:interface=127.0.0.1"]'
OTHER = "0A0B0C0D0E0F"
CONTAINERS = ("zlib(base64)", "zlib", "gzip(base64)", "base64(deflate)", "json")


class RawGateway:
    """A TLS socket that sends and compares bytes."""

    def __init__(self, port: int, context: ssl.SSLContext | None = None) -> None:
        plain = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self.socket = (context or client_context()).wrap_socket(plain)

    def read(self, size: int) -> bytes:
        data = b""
        while len(data) < size and (got := self.socket.recv(size - len(data))):
            data += got
        return data

    def read_frame(self) -> bytes:
        head = self.read(8)
        return head + self.read(int.from_bytes(head[4:], "big"))

    def close(self) -> None:
        self.socket.close()


class RealTestCase(TestCase):
    """One broker for each class; a test is what `script` is given to, in a thread."""

    timeout = 120
    settings: dict[str, str] = {}

    async def setUp(self) -> None:  # type: ignore[override] # trial waits for it
        self.broker = RealBroker(
            Path(tempfile.mkdtemp(dir=Path.cwd())), {"listeners.gateway88.bind": TLS, **self.settings}
        )
        self.ends: list[Callable[[], None]] = []
        self.addCleanup(deferToThread, self._stop)
        await deferToThread(self.broker.start)

    def _stop(self) -> None:
        for end in self.ends:
            end()
        self.broker.stop()
        faults = [line for line in self.broker.output if "Traceback" in line or "fault" in line]
        assert not faults, faults

    @property
    def port(self) -> int:
        return self.broker.tls_ports["gateway88"]

    def register(self, *macs: str) -> None:
        for mac in macs:
            self.broker.made("/devices", {"protocol": "gateway88", "id": mac})

    def node(self, container: str = "zlib(base64)", mac: str = GATEWAY) -> NodeGateway:
        gateway = NodeGateway(self.port, mac, container)
        self.ends.append(gateway.end)
        return gateway

    def raw(self) -> RawGateway:
        gateway = RawGateway(self.port)
        self.ends.append(gateway.close)
        return gateway

    def device(self, mac: str = GATEWAY) -> Any:
        status, device = self.broker.call("GET", f"/devices/{mac}")
        assert status == 200, device
        return device

    def ordered(self, path: str, body: Any, token: str | None = None) -> str:
        status, answer = self.broker.call("POST", path, body, token)
        assert status == 202, (status, answer)
        return str(answer["id"])

    def command(self, command_id: str) -> Any:
        status, command = self.broker.call("GET", f"/commands/{command_id}")
        assert status == 200, command
        return command

    def state(self, command_id: str, wanted: str) -> Any:
        return eventually(
            lambda: (found := self.command(command_id))["status"] == wanted and found, f"{command_id} is {wanted}"
        )


class NodeTests(RealTestCase):
    def test_it_tells_and_is_told(self) -> Deferred[Any]:
        return deferToThread(self._every_container)

    def _every_container(self) -> None:
        for number, container in enumerate(CONTAINERS):
            mac = f"0200000000{number:02X}"
            self.register(mac)
            gateway = self.node(container, mac)
            answer = gateway.push(INFO)
            assert answer["answered"]["gateway_info"] == INFO["gateway_info"] and answer["status"] == 0, answer
            assert answer["answered"]["status"] == "ok", answer
            assert gateway.push(HB) == {"answered": None, "status": 0}
            assert gateway.push({"type": "newdevices"}) == {"answered": None, "status": 0}
            device = eventually(lambda mac=mac: (d := self.device(mac))["values"] and d, "values")  # type: ignore[misc]
            assert device["online"] and device["info"] == INFO["gateway_info"], device
            assert device["values"]["totaldisk"]["value"] == 16384 * 1024, device
            gateway.on("remote_control", {"type": "remote_control", "ack": {"result": 0, "seen": number}})
            asked = self.ordered(f"/devices/{mac}/commands", {"payload": {"n": number}})
            order = gateway.expect("order")
            assert order["order"] == {"type": "remote_control", "cmd": {"n": number}} and order["id"] >= 0x80, order
            assert self.state(asked, "succeeded")["result"] == {"result": 0, "seen": number}

    def test_it_comes_back(self) -> Deferred[Any]:
        def script() -> None:
            self.register(GATEWAY)
            gateway = self.node()
            gateway.push(INFO)
            assert gateway.reconnect() is True
            gateway.push(HB)
            assert self.device()["online"]
            self.broker.kill()
            gateway.expect("closed")

        return deferToThread(script)


class OperationTests(RealTestCase):
    def test_firmware_of_a_file_that_is_not_there(self) -> Deferred[Any]:

        def script() -> None:
            self.register(GATEWAY)
            status, answer = self.broker.call("POST", f"/gateways/{GATEWAY}/firmware", {"file": "x", "version": "2"})
            assert status == 404 and "file" in answer["detail"], answer

        return deferToThread(script)

    def test_rights(self) -> Deferred[Any]:
        def script() -> None:
            self.register(GATEWAY, OTHER)
            made = self.broker.made("/applications", {"kind": "http"})
            token = f"{made['id']}:{made['secret']}"
            status, _ = self.broker.call("PUT", f"/applications/{made['id']}/devices/{GATEWAY}")
            assert status < 300
            calls: tuple[tuple[str, dict[str, Any], int, int], ...] = (
                ("firmware", {"file": "x", "version": "1"}, 403, 403),
                ("backup", {}, 202, 404),
                ("remote_control", {"cmd": {}}, 202, 404),
                ("recovery", {"backup": "file-0"}, 404, 404),
            )
            for name, body, own, foreign in calls:
                for mac, wanted in ((GATEWAY, own), (OTHER, foreign)):
                    status, answer = self.broker.call("POST", f"/gateways/{mac}/{name}", body, token)
                    assert status == wanted, (name, mac, status, answer)
            assert self.broker.call("GET", f"/gateways/{GATEWAY}/backups", None, token)[0] == 200
            assert self.broker.call("GET", f"/gateways/{OTHER}/backups", None, token)[0] == 404
            for path in (f"{GATEWAY.lower()}/remote_control", "02:12:34:56:78:9a/remote_control"):
                assert self.broker.call("POST", f"/gateways/{path}", {"cmd": {}}, token)[0] == 202
            status, answer = self.broker.call("POST", f"/gateways/{GATEWAY}/remote_control", {"cmd": 5}, token)
            assert status == 400, answer
            made = self.broker.made("/devices", {"protocol": "novacloud"})
            assert self.broker.call("POST", f"/gateways/{made['id']}/backup", {})[0] == 404
            status, document = self.broker.call("GET", "/openapi.json")
            assert "/api/v1/gateways/{mac}/recovery" in document["paths"]

        return deferToThread(script)

    def test_remote_control_through_a_kill(self) -> Deferred[Any]:
        """What waits for its gateway outlives the broker; what was sent and not answered ends as it has to."""

        def script() -> None:
            self.register(GATEWAY)
            waiting = self.ordered(f"/gateways/{GATEWAY}/remote_control", {"cmd": {"a": 1}, "ref": "mine"})
            self.broker.kill()
            self.broker.start()
            gateway = self.node("zlib")
            gateway.on("remote_control", {"type": "gateway_info", "ack": {"result": 0}})
            gateway.push(HB)
            assert gateway.expect("order")["order"]["cmd"] == {"a": 1}
            done = self.state(waiting, "succeeded")
            assert done["ref"] == "mine", done
            gateway.on("remote_control", None)
            sent = self.ordered(f"/gateways/{GATEWAY}/remote_control", {"cmd": {"a": 2}, "timeout": 3})
            gateway.expect("order")
            self.state(sent, "sent")
            self.broker.kill()
            self.broker.start()
            assert self.state(sent, "timed_out")["result"] is None

        return deferToThread(script)


class RawTests(RealTestCase):
    def test_settled_bytes(self) -> Deferred[Any]:
        def script() -> None:
            self.register(GATEWAY)
            gateway = self.raw()
            for raw in (INFO_WRITTEN, INFO_PLAIN):
                gateway.socket.sendall(raw)
                answer = gateway.read_frame()
                assert answer[:16] == raw[:4] + answer[4:8] + raw[8:16], answer.hex()
            gateway.socket.sendall(HB_FRAME)
            assert gateway.read(len(ACK_A)) == ACK_A
            gateway.socket.sendall(b"".join(ACKS) + HB_FRAME)
            assert gateway.read(len(ACK_A)) == ACK_A, "the same again is answered the same, acknowledgements are not"
            for at in range(len(NEWDEVICES)):
                gateway.socket.sendall(NEWDEVICES[at : at + 1])
            assert gateway.read(18) == encode_frame(bytes.fromhex(GATEWAY), 3)
            kinds = eventually(
                lambda: (
                    len(found := self.broker.call("GET", f"/devices/{GATEWAY}/messages")[1]["items"]) == 4 and found
                ),
                "history",
            )
            assert [one["kind"] for one in kinds] == ["event", "status", "event", "event"], kinds

        return deferToThread(script)

    def test_quarantine(self) -> Deferred[Any]:
        def script() -> None:
            gateway = self.raw()
            gateway.socket.sendall(INFO_PLAIN + HB_FRAME)
            gateway.read_frame()
            assert gateway.read(len(ACK_A)) == ACK_A
            entries = eventually(lambda: self.broker.call("GET", "/quarantine")[1]["items"], "an entry")
            assert [(one["id"], one["protocol"]) for one in entries] == [(GATEWAY, "gateway88")], entries
            assert entries[0]["info"]["name"] == "GW-Demo", entries
            assert self.broker.call("GET", f"/devices/{GATEWAY}")[0] == 404
            status, answer = self.broker.call("POST", f"/quarantine/{GATEWAY}/approve", {"name": "hall"})
            assert status == 200, answer
            device = eventually(lambda: (d := self.device())["online"] and d, "online")
            assert (device["name"], device["info"]["swversion"]) == ("hall", "2.3.1"), device
            assert self.broker.call("GET", "/quarantine")[1]["items"] == []
            second = self.raw()
            second.socket.sendall(encode_frame(bytes.fromhex(OTHER), 1, HB_FRAME[16:-2]))
            second.read(len(ACK_A))
            eventually(lambda: self.broker.call("GET", "/quarantine")[1]["items"], "another entry")
            status, answer = self.broker.call("POST", "/quarantine/0a:0b:0c:0d:0e:0f/approve")
            assert (status, answer["id"]) == (200, OTHER), "without a body"
            status, answer = self.broker.call("POST", "/gateways/0a0b0c0d0e0f/backup")
            assert status == 202 and answer.keys() == {"id", "status"}, answer
            status, answer = self.broker.call("POST", f"/gateways/{OTHER}/remote_control")
            assert status == 400, answer

        return deferToThread(script)


class HostileTests(RealTestCase):
    settings = {
        "listeners.gateway88.handshake_timeout": "2.0",
        "listeners.gateway88.limits.exempt_loopback": "true",
        "limits.close_timeout": "1.0",
    }

    def figures(self) -> dict[str, float]:
        text = self.exposition()
        lines = (line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, value in lines}

    def exposition(self) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.broker.ports["http"], timeout=PATIENCE)
        try:
            connection.request("GET", "/metrics", headers={"Authorization": f"Bearer {self.broker.admin_token}"})
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def test_half_open_handshakes(self) -> Deferred[Any]:
        """Many of them at once are closed in time, each with its reason, and a gateway is served meanwhile."""

        def script() -> None:
            self.register(GATEWAY)
            crowd = [socket.create_connection(("127.0.0.1", self.port), PATIENCE) for _ in range(1_000)]
            for one in crowd[::2]:
                one.sendall(b"\x16\x03\x01\x02\x00\x01")
            gateway = self.raw()
            gateway.socket.sendall(HB_FRAME)
            assert gateway.read(len(ACK_A)) == ACK_A
            key = 'broker_connections_closed_total{listener="gateway88",reason="handshake_timeout"}'
            eventually(lambda: self.figures().get(key) == 1_000, "a thousand closed")
            for one in crowd:
                one.close()
            gateway.socket.sendall(NEWDEVICES)
            assert len(gateway.read(18)) == 18

        return deferToThread(script)

    def test_bombs_and_absurd_lengths(self) -> Deferred[Any]:
        def script() -> None:
            self.register(GATEWAY)
            gateway = self.raw()
            gateway.socket.sendall(HB_FRAME)
            gateway.read(18)
            before = self.figures()["process_resident_memory_bytes"]
            stream = zlib.compressobj(9)
            zeros = bytes(1 << 20)
            bomb = b"".join(stream.compress(zeros) for _ in range(1_000)) + stream.flush()
            assert len(bomb) > 1_000_000
            for number in range(5):
                gateway.socket.sendall(encode_frame(bytes.fromhex(GATEWAY), 20 + number, bomb))
                assert gateway.read(18)[16] == 1, "it is answered as failed"
            gateway.socket.sendall(b"\x88\x88\x88\x88\xff\xff\xff\xff" + HB_FRAME)
            assert gateway.read(18) == ACK_A
            figures = self.figures()
            assert figures["process_resident_memory_bytes"] - before < 64 << 20, (before, figures)
            assert figures["broker_gateway88_undecodable_total"] == 5
            for number in range(20):
                gateway.socket.sendall(encode_frame(bytes.fromhex(GATEWAY), 40 + number, b"nonsense"))
            assert len(gateway.read(18 * 21)) <= 18 * 20
            eventually(
                lambda: self.figures().get('broker_connections_closed_total{listener="gateway88",reason="malformed"}'),
                "closed as malformed",
            )

        return deferToThread(script)
