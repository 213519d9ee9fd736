"""A device and an application that behave well while others do not: nothing of theirs may be lost or come late.

::

    device ──data n──> broker ──devices/<id>/up/data──> application        every `DATA_EVERY`
    device <──command─ broker <──devices/<id>/command── application        every `COMMAND_EVERY`
    device ──answer──> broker ──devices/<id>/reply────> application

A thread and two plain sockets; the application speaks MQTT with QoS 1.
"""

from __future__ import annotations

import json
import selectors
import socket
import threading
import time
from statistics import median

from broker.mqtt import packets as p
from broker.mqtt.codec import Decoder
from broker.mqtt.encode import PINGREQ, encode
from tests.real import PATIENCE, RealBroker

#: Seconds.
DATA_EVERY = 0.01
COMMAND_EVERY = 0.1


class Peace:
    """The pair. It is at work when it is made; `finish` says how it went."""

    def __init__(self, broker: RealBroker) -> None:
        made = broker.made("/devices", {"protocol": "novacloud", "name": "peaceful"})
        self.device = made["id"]
        application = broker.made("/applications", {"kind": "mqtt"})
        assert broker.call("PUT", f"/applications/{application['id']}/devices/{self.device}")[0] in (200, 201, 204)
        self.sent: dict[int, float] = {}
        self.got: list[int] = []
        #: Seconds from the device to the application, and from an order to its final state.
        self.delays: list[float] = []
        self.turns: list[float] = []
        self.fault = ""
        self._orders: dict[str, float] = {}
        self._ordered = 0
        self._ending = False
        self._lines = b""
        self._decoder = Decoder(1 << 20, "client", p.MQTT_3_1_1)
        self._socket = self._log_in(broker.ports["novacloud"], made["secret"])
        self._mqtt = self._subscribe(broker.ports["mqtt"], application["id"], application["secret"])
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _log_in(self, port: int, secret: str) -> socket.socket:
        opened = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        auth = {"type": "auth", "payload": {"device_id": self.device, "device_key": secret}}
        opened.sendall(json.dumps(auth).encode() + b"\n")
        assert b'"success"' in opened.recv(1024)
        return opened

    def _subscribe(self, port: int, name: str, secret: str) -> socket.socket:
        opened = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        opened.sendall(
            encode(p.Connect(client_id="peaceful", user=name, password=secret.encode(), keep_alive=600))
            + encode(p.Subscribe(1, [(f"devices/{self.device}/up/#", 1), (f"devices/{self.device}/reply", 1)]))
        )
        got = b""
        while len(got) < 10:  # CONNACK and SUBACK with two codes
            got += opened.recv(1024)
        assert got == b"\x20\x02\x00\x00\x90\x04\x00\x01\x01\x01", got
        return opened

    # -- the thread ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(self._socket, selectors.EVENT_READ, self._from_device_side)
                selector.register(self._mqtt, selectors.EVENT_READ, self._from_mqtt)
                self._work(selector)
        except (AssertionError, OSError, ValueError) as error:
            self.fault = f"{type(error).__name__}: {error}"

    def _work(self, selector: selectors.BaseSelector) -> None:
        report_at = order_at = time.monotonic()
        while not (self._ending and len(self.got) == len(self.sent) and not self._orders):
            now = time.monotonic()
            if not self._ending and now >= report_at:
                report_at = now + DATA_EVERY
                self._report(now)
            if not self._ending and now >= order_at:
                order_at = now + COMMAND_EVERY
                self._order(now)
            for key, _ in selector.select(DATA_EVERY):
                data = key.fileobj.recv(65_536)  # type: ignore[union-attr]  # a socket
                assert data, "the broker closed a peaceful connection"
                key.data(data)

    def _report(self, now: float) -> None:
        number = len(self.sent)
        self.sent[number] = now
        line = {"type": "data", "payload": {"number": number}}
        self._socket.sendall(json.dumps(line).encode() + b"\n")

    def _order(self, now: float) -> None:
        self._ordered += 1
        ref = str(self._ordered)
        self._orders[ref] = now
        body = json.dumps({"payload": {"number": self._ordered}, "ref": ref}).encode()
        topic = f"devices/{self.device}/command"
        self._mqtt.sendall(encode(p.Publish(topic, body, qos=1, packet_id=self._ordered % 60_000 + 1)) + PINGREQ)

    def _from_device_side(self, data: bytes) -> None:
        *lines, self._lines = (self._lines + data).split(b"\n")
        for line in lines:
            message = json.loads(line)
            assert message["type"] == "command", message
            answer = {"type": "command_response", "command_id": message["command_id"], "status": "success"}
            self._socket.sendall(json.dumps(answer).encode() + b"\n")

    def _from_mqtt(self, data: bytes) -> None:
        now = time.monotonic()
        for packet in self._decoder.feed(data):
            if not isinstance(packet, p.Publish):
                continue
            if packet.qos:
                self._mqtt.sendall(encode(p.PubAck(packet.packet_id)))
            message = json.loads(packet.payload)
            if packet.topic.endswith("/reply"):
                assert message["status"] in ("queued", "sent", "succeeded"), message
                if message["status"] == "succeeded":
                    self.turns.append(now - self._orders.pop(message["ref"]))
            else:
                number = message["payload"]["number"]
                self.got.append(number)
                self.delays.append(now - self.sent[number])

    # -- from outside ----------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Stop reporting and wait for what is under way. Raises AssertionError for whatever was lost."""
        self._ending = True
        self._thread.join(PATIENCE)
        assert not self.fault, self.fault
        assert self.got == list(range(len(self.sent))), (len(self.got), len(self.sent))
        assert not self._orders, self._orders
        assert len(self.turns) == self._ordered
        self._socket.close()
        self._mqtt.close()

    def figures(self) -> str:
        return "; ".join(
            f"{len(times)} {what}: median {median(times) * 1e3:.1f} ms, worst {max(times) * 1e3:.0f} ms"
            for what, times in (("messages", self.delays), ("commands", self.turns))
        )
