"""Every packet of one device, of each protocol: what is told, what is not, and that nothing else changes."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from broker.devices.gateway88.masking import MASK
from broker.devices.gizwits import codec as g
from broker.devices.gizwits.topics import report_topic
from broker.model.errors import Invalid, LimitExceeded, NotFound
from broker.mqtt import encode
from broker.mqtt import packets as p
from broker.routing.traces import TracedPacket
from tests.devices.gateway88.bed import Bed as GatewayBed
from tests.devices.gateway88.vectors import GATEWAY, INFO
from tests.devices.gizwits.bed import DID
from tests.devices.gizwits.bed import Bed as GizwitsBed
from tests.devices.lorawan.bed import Bed as LorawanBed
from tests.devices.novacloud.bed import DEVICE, OTHER
from tests.devices.novacloud.bed import Bed as NovaCloudBed
from tests.real import RealBroker
from tests.websocket import WebSocketClient


def watched(core: Any) -> list[TracedPacket]:
    seen: list[TracedPacket] = []
    core.traces.watchers.append(seen.append)
    return seen


class NovaCloudTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.bed = NovaCloudBed()
        self.seen = watched(self.bed.core)
        self.traces = self.bed.core.traces

    def test_both_directions_and_nobody_else(self) -> None:
        device, other = self.bed.login(), self.bed.login(OTHER)
        self.traces.begin(DEVICE, 60)
        device.send({"type": "data", "payload": {"t": 1}}, {"type": "heartbeat"})
        other.send({"type": "data", "payload": {"t": 2}})
        self.bed.command({"light": "ON"})
        self.bed.tick()
        told = [(packet.direction, packet.decoded["type"]) for packet in self.seen]
        self.assertEqual(told, [("in", "data"), ("in", "heartbeat"), ("out", "command")])
        self.assertEqual(self.seen[0].raw, b'{"type": "data", "payload": {"t": 1}}\n')
        self.assertEqual([line["type"] for line in device.lines()], ["command"])
        self.assertEqual(len(self.bed.heard.uplinks), 2)

    def test_half_a_line_and_what_is_none(self) -> None:
        device = self.bed.login()
        device.raw(b'{"type":"heart')
        self.traces.begin(DEVICE, 60)
        device.raw(b'beat"}\nrubbish\n')
        incoming = [packet for packet in self.seen if packet.direction == "in"]
        self.assertEqual(incoming[0].raw, b'beat"}\n')  # what came before was not looked at
        self.assertEqual((incoming[1].raw, incoming[1].decoded), (b"rubbish\n", None))
        live = self.bed.core.devices.get(DEVICE)
        assert live is not None
        self.assertEqual(live.last_seen, self.bed.clock.seconds())

    def test_one_that_is_away_is_traced_when_it_comes_and_its_key_is_not_told(self) -> None:
        self.traces.begin(DEVICE, 60)
        device = self.bed.login()
        device.auth()
        device.send({"type": "heartbeat"})
        self.assertNotIn(b"device_key", b"".join(packet.raw or b"" for packet in self.seen))
        self.assertEqual(self.seen[-1].decoded, {"type": "heartbeat"})

    def test_the_end(self) -> None:
        device = self.bed.login()
        received = device.connection.dataReceived
        self.traces.begin(DEVICE, 5)
        self.assertNotEqual(device.connection.dataReceived, received)
        self.bed.clock.advance(6)
        self.traces.tick()
        self.assertEqual(device.connection.dataReceived, received)
        self.assertEqual(device.connection.outbox.write, device.transport.write)
        device.send({"type": "heartbeat"})
        self.assertEqual((self.seen, self.traces.every()), ([], []))
        self.assertRaises(NotFound, self.traces.end, DEVICE)

    def test_a_second_call_counts_anew_and_a_second_connection_is_traced_too(self) -> None:
        self.bed.login()
        self.traces.begin(DEVICE, 5)
        self.bed.clock.advance(4)
        self.traces.begin(DEVICE, 5)
        self.bed.clock.advance(4)
        self.traces.tick()
        again = self.bed.login()
        self.seen.clear()
        again.send({"type": "heartbeat"})
        self.assertEqual([packet.decoded for packet in self.seen], [{"type": "heartbeat"}])

    def test_limits(self) -> None:
        self.traces.max_devices = 1
        self.traces.begin(DEVICE, 5)
        self.assertRaises(LimitExceeded, self.traces.begin, OTHER, 5)
        self.assertRaises(Invalid, self.traces.begin, DEVICE, 1e9)

    def test_a_fault_ends_the_trace_and_not_the_connection(self) -> None:
        device = self.bed.login()
        self.traces.begin(DEVICE, 60)

        def fails(packet: TracedPacket) -> None:
            raise RuntimeError("of a watcher")

        self.traces.watchers.append(fails)
        device.send({"type": "data", "payload": {"t": 1}})
        device.send({"type": "data", "payload": {"t": 2}})
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertEqual(len(self.bed.heard.uplinks), 2)
        self.assertFalse(device.connection.closing)


class GatewayTests(SynchronousTestCase):
    def test_frames_with_secrets_masked(self) -> None:
        bed = GatewayBed()
        seen = watched(bed.core)
        gateway = bed.admitted()
        bed.core.traces.begin(GATEWAY, 60)
        info = {**INFO, "gateway_info": {**INFO["gateway_info"], "wifipwd": "hidden"}}
        gateway.say(info, 5)
        gateway.say({"type": "hb", "hb": {"freeram": 7}}, 6)
        bed.operation("firmware_update", {"file_id": "file-1", "md5": "00", "version": "2"})
        bed.tick()
        first, _, heartbeat, acknowledged, update = seen
        self.assertEqual((first.raw, first.decoded["message"]["gateway_info"]["wifipwd"]), (None, MASK))
        self.assertEqual(heartbeat.decoded["message"]["hb"], {"freeram": 7})
        self.assertEqual((acknowledged.direction, acknowledged.decoded["acknowledgement"]), ("out", True))
        self.assertEqual((update.raw, update.decoded["message"]["firmware_update"]["firmware_url"]), (None, MASK))
        self.assertNotIn("https://", json.dumps([packet.decoded for packet in seen]))


class GizwitsTests(TestCase):
    async def test_packets_with_what_they_say(self) -> None:
        bed = await GizwitsBed(self.mktemp()).open(DID)
        self.addCleanup(bed.storage.close)
        seen = watched(bed.core)
        client = await bed.device()
        whole = encode.encode(p.Publish(report_topic(DID), b"\0" * 8), p.MQTT_3_1)
        client.send(whole[:3])
        bed.core.traces.begin(DID, 60)
        client.send(whole[3:])
        bed.say(client, report_topic(DID), g.Report(b"\x01\x02"))
        await bed.settle()
        told = [packet.decoded for packet in seen if packet.decoded["packet"] == "PUBLISH"]
        self.assertEqual(told[-1]["topic"], report_topic(DID))
        self.assertEqual(told[-1]["payload"], {"command": "0x0091", "data": "0102"})
        self.assertIn("malformed", told[0]["payload"])


class LorawanTests(SynchronousTestCase):
    def test_frames_with_mac_commands_by_name(self) -> None:
        bed = LorawanBed()
        seen = watched(bed.core)
        forwarder = bed.forwarder()
        mote = bed.abp()
        mote.says(b"hello", forwarder)
        bed.advance(2)
        bed.core.traces.begin("AA00000000000001", 60)
        frame = mote.says(b"\x03", forwarder, port=7, confirmed=True)
        bed.advance(2)
        up, down = seen
        self.assertEqual((up.raw, up.decoded["port"], up.decoded["payload"]), (frame, 7, "03"))
        self.assertEqual((down.direction, down.decoded["ack"], down.decoded["frame"]), ("out", True, "data_down"))
        self.assertEqual(down.raw, forwarder.frames()[-1])


class RealTests(TestCase):
    """Through the process: call, log, stream."""

    timeout = 120

    def test_by_call_log_and_stream(self) -> Deferred[None]:
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        self.broker = RealBroker(folder)
        self.addCleanup(deferToThread, self.broker.kill)
        return deferToThread(self.scenario)

    def scenario(self) -> None:
        self.broker.start()
        made = self.broker.made("/devices", {"protocol": "novacloud"})
        application = self.broker.made("/applications", {"kind": "http"})
        token = f"{application['id']}:{application['secret']}"
        status, answer = self.broker.call("PUT", f"/devices/{made['id']}/trace", {"seconds": 60}, token)
        self.assertEqual(status, 403, answer)
        status, answer = self.broker.call("PUT", f"/devices/{made['id']}/trace")
        self.assertEqual(status, 200, answer)
        stream = WebSocketClient(self.broker.ports["http"], "/api/v1/stream?kind=trace", self.broker.admin_token)
        self.addCleanup(stream.close)
        device = socket.create_connection(("127.0.0.1", self.broker.ports["novacloud"]), timeout=30)
        self.addCleanup(device.close)
        names = {"device_id": made["id"], "device_key": made["secret"]}
        device.sendall(json.dumps({"type": "auth", "payload": names}).encode() + b"\n")
        device.recv(4096)
        device.sendall(b'{"type":"data","payload":{"t":21.5}}\n')
        packet = stream.next(lambda message: message.get("direction") == "in")
        self.assertEqual(packet["decoded"], {"type": "data", "payload": {"t": 21.5}})
        self.assertEqual(bytes.fromhex(packet["raw"]), b'{"type":"data","payload":{"t":21.5}}\n')
        self.assertEqual(self.broker.call("GET", "/traces")[1]["items"][0]["device"], made["id"])
        self.assertEqual(self.broker.call("DELETE", f"/devices/{made['id']}/trace")[0], 204)
        self.assertEqual(self.broker.call("DELETE", f"/devices/{made['id']}/trace")[0], 404)
        self.assertEqual(self.broker.stop(), 0)
        lines = [line for line in self.broker.output if "broker.trace" in line]
        self.assertIn("21.5", "".join(lines))
        self.assertNotIn(made["secret"], "\n".join(self.broker.output))
