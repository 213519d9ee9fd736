"""ChirpStack over a real MQTT broker gives a customer server the same messages as our own network over UDP.

One scenario, played twice with the real broker and a customer server on a real socket: once with a packet forwarder and
motes of another make, once with a script that plays ChirpStack v4 (`played_chirpstack`) behind Mosquitto. What the
customer server reads is compared message by message. Then the breaks: our broker, the MQTT broker, ChirpStack.
"""

from __future__ import annotations

import http.client
import json
import time
from base64 import b64decode, b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from pamoja import lorawan as pamoja
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from broker.devices.lorawan.windows import RX2_AFTER_RX1
from tests.applications.loracenter.played_chirpstack import PlayedChirpStack
from tests.applications.loracenter.socket_customer import SocketCustomer, add_customer
from tests.devices.lorawan.bed import APP_KEY, APP_S_KEY, GATEWAY, JOIN_EUI, NWK_S_KEY
from tests.devices.lorawan.test_real import UdpForwarder
from tests.mosquitto import Mosquitto
from tests.real import PATIENCE, RealBroker, eventually

#: Of class A, over the air; of class C.
METER = "AA00000000000001"
VALVE = "AA00000000000002"
#: What the gateway says of itself.
STATISTICS = {"rxnb": 12, "rxok": 9, "rxfw": 9, "ackr": 0.0, "dwnb": 3, "txnb": 2}
PLACE = {"long": 121.5, "lati": 31.25, "alti": 10}


def encoded(payload: bytes) -> str:
    return b64encode(payload).decode("ascii")


class Radio(Protocol):
    """A network with one gateway and two motes."""

    def register(self) -> None: ...
    def gateway_comes(self) -> None: ...
    def gateway_tells(self) -> None: ...
    def gateway_goes(self) -> None: ...
    def joins(self, payload: bytes) -> None: ...
    def says(
        self,
        mote: str,
        payload: bytes,
        *,
        ack: bool = False,
        status: bool = False,
        slow: bool = False,
        expects: bool = False,
        refusal: str = "",
    ) -> None: ...
    def valve_hears(self) -> bytes: ...
    def close(self) -> None: ...


class Forwarder(UdpForwarder):
    """One whose packets can be slow, and that can refuse."""

    def packet(self, phy: bytes, datr: str = "SF7BW125") -> None:
        packet = {"tmst": self.tmst, "freq": 868.1, "stat": 1, "modu": "LORA", "datr": datr, "codr": "4/5"}
        said = {**packet, "rssi": -35, "lsnr": 9.0, "size": len(phy), "data": b64encode(phy).decode()}
        self.push({"rxpk": [said]})

    def push(self, body: Any) -> None:
        head = self._head(0)
        self.up.send(head + json.dumps(body).encode())
        assert self.up.recv(100) == head[:3] + b"\x01"

    def refuses(self, error: str) -> None:
        """Every window that is tried; there is another one at once, or none."""
        answer = b'{"txpk_ack":{"error":"%b"}}' % error.encode()
        try:
            while True:
                data = self.down.recv(2000)
                assert data[3] == 3, data
                self.down.send(b"\x02" + data[1:3] + b"\x05" + self.eui + answer)
                self.down.settimeout(2.5)
        except TimeoutError:
            self.down.settimeout(PATIENCE)


class OwnRadio:
    """Our own network: Semtech UDP, and motes of another make."""

    def __init__(self, broker: RealBroker) -> None:
        self.broker = broker
        self.forwarder = Forwarder(broker.ports["lorawan"])
        self.sessions: dict[str, Any] = {}
        self.counters = {METER: 0, VALVE: 0}
        self.down = {METER: 0, VALVE: 0}

    def register(self) -> None:
        otaa = {"protocol": "lorawan", "id": METER, "join_eui": JOIN_EUI, "app_key": APP_KEY}
        self.broker.made("/devices", otaa)
        abp = {"dev_addr": "26011BDA", "nwk_s_key": NWK_S_KEY, "app_s_key": APP_S_KEY}
        self.broker.made("/devices", {"protocol": "lorawan", "id": VALVE, "class": "C", **abp})
        self.sessions[VALVE] = pamoja.session(0x26011BDA, bytes.fromhex(NWK_S_KEY), bytes.fromhex(APP_S_KEY))
        self.broker.made("/lorawan/gateways", {"eui": GATEWAY})

    def gateway_comes(self) -> None:
        self.forwarder.pull()

    def gateway_tells(self) -> None:
        self.forwarder.push({"stat": {"time": "2026-11-29 12:00:00 GMT", **STATISTICS, **PLACE}})

    def gateway_goes(self) -> None:
        assert self.broker.call("DELETE", f"/lorawan/gateways/{GATEWAY}")[0] == 204

    def joins(self, payload: bytes) -> None:
        device = pamoja.device(bytes.fromhex(METER), bytes.fromhex(JOIN_EUI), bytes.fromhex(APP_KEY))
        self.forwarder.packet(device.join_request(1))
        self.sessions[METER] = device.accept_join(self.forwarder.told()[1], 1).session()
        self.says(METER, payload)

    def says(
        self,
        mote: str,
        payload: bytes,
        *,
        ack: bool = False,
        status: bool = False,
        slow: bool = False,
        expects: bool = False,
        refusal: str = "",
    ) -> None:
        if ack:
            time.sleep(RX2_AFTER_RX1)  # it listens to the end before it acknowledges
        fopts = b"\x06\xc0\x0a" if status else None
        frame = self.sessions[mote].encode_uplink(self.counters[mote], 5, payload, False, False, ack, fopts)
        self.counters[mote] += 1
        self.forwarder.packet(frame, "SF12BW125" if slow else "SF7BW125")
        if refusal:
            self.forwarder.refuses(refusal)
        elif expects and not slow:
            self.forwarder.told()

    def valve_hears(self) -> bytes:
        frame = self.forwarder.told()[1]
        fcnt = int.from_bytes(frame[6:8], "little")
        heard: bytes = self.sessions[VALVE].decode(frame, fcnt).payload
        return heard

    def close(self) -> None:
        self.forwarder.close()


class ChirpRadio:
    """ChirpStack behind Mosquitto."""

    def __init__(self, broker: RealBroker, port: int) -> None:
        self.broker = broker
        self.chirpstack = PlayedChirpStack(port)

    def register(self) -> None:
        here = {"protocol": "lorawan", "network": "chirpstack"}
        self.broker.made("/devices", {**here, "id": METER, "join_eui": JOIN_EUI})
        self.broker.made("/devices", {**here, "id": VALVE, "class": "C"})

    def gateway_comes(self) -> None:
        self.chirpstack.gateway("ONLINE")

    def gateway_tells(self) -> None:
        said = {
            "gatewayId": GATEWAY.lower(),
            "time": "2026-11-29T12:00:00Z",
            "location": {"latitude": 31.25, "longitude": 121.5, "altitude": 10.0, "source": "GPS"},
            "rxPacketsReceived": 12,
            "rxPacketsReceivedOk": 9,
            "txPacketsReceived": 3,
            "txPacketsEmitted": 2,
            "metadata": {"region_common_name": "EU868"},
        }
        self.chirpstack.publish(f"eu868/gateway/{GATEWAY.lower()}/event/stats", said)

    def gateway_goes(self) -> None:
        self.chirpstack.gateway("OFFLINE")

    def joins(self, payload: bytes) -> None:
        self.chirpstack.event(METER, "join", devAddr="00189440")
        self.says(METER, payload)

    def says(
        self,
        mote: str,
        payload: bytes,
        *,
        ack: bool = False,
        status: bool = False,
        slow: bool = False,
        expects: bool = False,
        refusal: str = "",
    ) -> None:
        if status:
            self.chirpstack.event(mote, "status", margin=10, batteryLevel=75.59055)
        rate = 12 if slow else 7
        self.chirpstack.heard(
            mote, payload, 5, ack=ack, spreading_factor=rate, expects=expects or slow or bool(refusal), refusal=refusal
        )

    def valve_hears(self) -> bytes:
        item = self.chirpstack.class_c(VALVE)
        assert item is not None
        return b64decode(item["data"])

    def close(self) -> None:
        self.chirpstack.close()


class Play:
    """The scenario, with all that the customer server reads."""

    def __init__(self, radio: Radio, customer: SocketCustomer) -> None:
        self.radio = radio
        self.customer = customer
        self.read: list[dict[str, Any]] = []

    def reads(self, count: int = 1) -> dict[str, Any]:
        """The next messages; the last of them."""
        for _ in range(count):
            message = self.customer.next()
            if isinstance(message.get("MSG"), dict):
                message["MSG"].pop("address")  # of a UDP socket, and nothing
            self.read.append(message)
        return self.read[-1]

    def asks(self, cmd: str, **fields: Any) -> dict[str, Any]:
        """A request and its answer."""
        self.customer.ask(cmd, **fields)
        return self.reads()

    def window_closes(self) -> None:
        """Until then a command would still catch the last uplink's window, as it may: after downlink_wait and a commit.

        That is a time of the radio's, and nobody tells when it is over.
        """
        time.sleep(0.5)

    def sends(self, payload: bytes, mote: str = METER, **fields: Any) -> dict[str, Any]:
        return self.asks("SENDTO", DevEUI=mote, payload=encoded(payload), Port=21, **fields)

    def run(self) -> None:
        for act in (self.arrival, self.queue, self.confirmed, self.failures, self.class_c, self.departure):
            act()

    def arrival(self) -> None:
        self.radio.gateway_comes()
        self.reads()
        self.radio.joins(b"hello")
        self.reads(3)
        self.radio.gateway_tells()
        self.radio.says(METER, b"counted", status=True)
        self.reads(3)
        self.asks("GETPRIORGW", DevEUI=METER)
        self.asks("GETGWINFO", DevEUI=GATEWAY)
        self.asks("GETGWINFO", DevEUI="0000000000000009")

    def queue(self) -> None:
        self.window_closes()
        self.sends(b"later", PRIOR=10)
        self.sends(b"first", PRIOR=60)
        self.sends(b"never")
        self.sends(b"gone", PRIOR=60)
        self.asks("QUERYQLEN", DevEUI=METER)
        token = self.customer._token
        self.asks("CANCELCMD", DevEUI=METER, CancelToken=token - 2)
        self.asks("CANCELCMD", DevEUI=METER, CancelToken=token - 2)
        for _ in range(2):
            self.radio.says(METER, b"x", expects=True)
            self.reads(3)
        self.asks("QUERYQLEN", DevEUI=METER)
        self.asks("CLEARQ", DevEUI=METER)
        self.asks("QUERYQLEN", DevEUI=METER)
        self.window_closes()
        self.sends(b"nor this")
        self.asks("CLEARAQ")

    def confirmed(self) -> None:
        self.sends(b"please", Confirm=True)
        self.radio.says(METER, b"x", expects=True)
        self.reads(3)
        self.radio.says(METER, b"yes", ack=True)
        self.reads(2)
        self.window_closes()
        self.sends(b"please", Confirm=True)
        self.radio.says(METER, b"x", expects=True)
        self.reads(3)
        self.radio.says(METER, b"no")
        self.reads(3)

    def failures(self) -> None:
        self.window_closes()
        self.sends(b"wrong frequency")
        self.radio.says(METER, b"x", refusal="TX_FREQ")
        self.reads(3)
        # ChirpStack keeps what was refused, and sends it now; the customer server has been told that it failed.
        self.radio.says(METER, b"x")
        self.reads(2)
        self.window_closes()
        self.sends(bytes(60))
        self.radio.says(METER, b"x", slow=True)
        self.reads(3)
        self.asks("SENDTO", DevEUI=METER, payload="!", Port=21)
        self.asks("SENDTO", DevEUI="AA00000000000099", payload="AQ==", Port=21)

    def class_c(self) -> None:
        self.radio.says(VALVE, b"open")
        self.reads(2)
        self.sends(b"now", VALVE)
        assert self.radio.valve_hears() == b"now"
        self.reads()
        self.asks("BROADCAST", payload=encoded(b"all"), Port=9)
        assert self.radio.valve_hears() == b"all"

    def departure(self) -> None:
        self.radio.gateway_goes()
        self.reads()


class Case(TestCase):
    timeout = 180

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).resolve()
        self.folder.mkdir()
        self.mosquitto = Mosquitto(self.folder / "mqtt")

    def broker(self, name: str, **settings: str) -> RealBroker:
        folder = self.folder / name
        folder.mkdir()
        common = {
            "listeners.lorawan.region": "eu868",
            "listeners.lorawan.transmissions": "1",
            "listeners.lorawan.status_interval": "0.0",
            "listeners.loracenter.signal_quality_upload": "true",
        }
        return RealBroker(folder, {**common, **settings})

    def with_chirpstack(self, **more: str) -> RealBroker:
        table = {"url": f"mqtt://127.0.0.1:{self.mosquitto.port}", "start_delay": "0.0", **more}
        return self.broker(
            "chirpstack", **{f"listeners.lorawan.chirpstack.{key}": value for key, value in table.items()}
        )

    def customer(self, broker: RealBroker, **named: Any) -> SocketCustomer:
        made = SocketCustomer(broker.ports["loracenter"], **named)
        self.addCleanup(made.close)
        return made

    def health(self, broker: RealBroker, path: str = "/healthz") -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", broker.ports["http"], timeout=PATIENCE)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def healthy(self, broker: RealBroker) -> None:
        eventually(lambda: self.health(broker)[1] == {"status": "ok"}, "ChirpStack is there")

    def blocking(self, work: Callable[[], None], *brokers: RealBroker) -> Deferred[None]:
        def run() -> None:
            try:
                work()
            finally:
                self.mosquitto.kill()
                for broker in brokers:
                    broker.kill()

        return deferToThread(run)


class SameTrafficTests(Case):
    def test_both_networks(self) -> Deferred[None]:
        own, other = self.broker("own"), self.with_chirpstack()
        return self.blocking(lambda: self.both(own, other), own, other)

    def both(self, own: RealBroker, other: RealBroker) -> None:
        self.mosquitto.start()
        own.start()
        other.start()
        self.healthy(other)
        read = []
        for broker, radio in ((own, OwnRadio(own)), (other, ChirpRadio(other, self.mosquitto.port))):
            made: Radio = radio
            self.addCleanup(made.close)
            made.register()
            add_customer(broker, METER, VALVE)
            play = Play(made, self.customer(broker))
            play.run()
            read.append(play.read)
        self.assertEqual(len(read[0]), 59)
        for number, (ours, chirpstacks) in enumerate(zip(*read, strict=True)):
            self.assertEqual(ours, chirpstacks, number)


class BreakTests(Case):
    """Each break is in the middle of a conversation; nothing that was acknowledged may be missing after it."""

    def setUp(self) -> None:
        super().setUp()
        self.real = self.with_chirpstack()

    def begin(self) -> PlayedChirpStack:
        self.mosquitto.start()
        self.real.start()
        self.healthy(self.real)
        chirpstack = PlayedChirpStack(self.mosquitto.port)
        self.addCleanup(chirpstack.close)
        self.real.made("/devices", {"protocol": "lorawan", "id": METER, "network": "chirpstack"})
        add_customer(self.real, METER)
        return chirpstack

    def payloads(self, customer: SocketCustomer, count: int) -> list[str]:
        return [customer.until("UPLOAD")["payload"] for _ in range(count)]

    def test_our_broker_is_killed(self) -> Deferred[None]:
        return self.blocking(self.killed, self.real)

    def killed(self) -> None:
        """What ChirpStack says meanwhile is kept by the MQTT broker; commands go on where they were."""
        chirpstack = self.begin()
        customer = self.customer(self.real)
        chirpstack.up(METER, b"0", 5)
        self.payloads(customer, 1)
        tokens = [customer.ask("SENDTO", DevEUI=METER, payload="AQ==", Port=21) for _ in range(2)]
        for _ in tokens:
            customer.until("SENDTO", 1)
        chirpstack.up(METER, b"1", 5)
        eventually(lambda: chirpstack.queues.get(METER), "the first command")
        self.real.kill()
        self.real.settings["listeners.lorawan.chirpstack.start_delay"] = "1.0"
        chirpstack.up(METER, b"while you were away", 5)
        chirpstack._downlink(METER, 242, "")
        self.real.start()
        customer = self.customer(self.real)
        # Uplinks that were told when we were killed and not yet acknowledged may come again, in their order.
        may_repeat = [b"0", b"1"]
        while (told := b64decode(self.payloads(customer, 1)[0])) in may_repeat:
            del may_repeat[: may_repeat.index(told) + 1]
        self.assertEqual(told, b"while you were away")
        sent = customer.until("SENDTO", 2)
        self.assertEqual((sent["Token"], sent["TXGW"]), (tokens[0], GATEWAY))
        chirpstack.heard(METER, b"2", 5, expects=True)
        # CODE 2 of the second one comes after the UPLOAD of the frame in whose window it left.
        self.assertEqual(self.payloads(customer, 1), [encoded(b"2")])
        self.assertEqual(customer.until("SENDTO", 2)["Token"], tokens[1])
        self.assertEqual(len(chirpstack.commands), 2)
        chirpstack.up(METER, b"last", 5)
        self.assertEqual(self.payloads(customer, 1), [encoded(b"last")])
        self.assertEqual(self.history()[-3:], [b"while you were away", b"2", b"last"])

    def history(self) -> list[bytes]:
        """Payloads of the mote's uplinks, the oldest first; they are on disk within a second."""

        def kept() -> list[bytes]:
            items = self.real.call("GET", f"/devices/{METER}/messages?kind=raw")[1]["items"]
            found = [b64decode(one["payload_base64"]) for one in reversed(items)]
            return found if found and found[-1] == b"last" else []

        found: list[bytes] = eventually(kept, "the last uplink is on disk")
        return found

    def test_the_mqtt_broker_is_killed(self) -> Deferred[None]:
        return self.blocking(self.mqtt_killed, self.real)

    def mqtt_killed(self) -> None:
        chirpstack = self.begin()
        customer = self.customer(self.real)
        chirpstack.up(METER, b"before", 5)
        self.payloads(customer, 1)
        self.mosquitto.kill()

        def degraded() -> Any:
            status, answer = self.health(self.real)
            return answer if (status, answer["status"]) == (200, "degraded") else None

        (problem,) = eventually(degraded, "the health page says so")["problems"]
        self.assertIn("lorawan: ChirpStack's MQTT broker cannot be reached: ", problem)
        self.assertEqual(self.health(self.real, "/readyz")[0], 200)
        customer.ask("SENDTO", DevEUI=METER, payload="AQ==", Port=21)
        self.assertEqual(customer.until("SENDTO")["CODE"], 1)
        self.mosquitto.start()
        self.healthy(self.real)
        eventually(chirpstack.client.is_connected, "ChirpStack is back, too")
        chirpstack.heard(METER, b"after", 5, expects=True)
        self.assertEqual(self.payloads(customer, 1), [encoded(b"after")])
        self.assertEqual(customer.until("SENDTO")["CODE"], 2)

    def test_chirpstack_is_away(self) -> Deferred[None]:
        return self.blocking(self.chirpstack_away, self.real)

    def chirpstack_away(self) -> None:
        """A command that is handed over to nobody is handed over again."""
        chirpstack = self.begin()
        customer = self.customer(self.real)
        customer.ask("SENDTO", DevEUI=METER, payload="AQ==", Port=21)
        customer.until("SENDTO", 1)
        chirpstack.client.unsubscribe("application/+/device/+/command/+")
        chirpstack.up(METER, b"1", 5)
        self.payloads(customer, 1)
        metrics = "broker_lorawan_chirpstack_untaken_total 1.0"
        eventually(lambda: metrics in self.metrics(), "nobody was there to take it")
        chirpstack._subscribed.clear()
        chirpstack.client.subscribe("application/+/device/+/command/+", 1)
        self.assertTrue(chirpstack._subscribed.wait(PATIENCE))
        chirpstack.heard(METER, b"2", 5, expects=True)
        self.assertEqual(customer.until("SENDTO", 2)["TXGW"], GATEWAY)
        self.assertEqual(len(chirpstack.commands), 1)

    def metrics(self) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.real.ports["http"], timeout=PATIENCE)
        try:
            connection.request("GET", "/metrics")
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def test_hostile_neighbours_on_the_mqtt_broker(self) -> Deferred[None]:
        return self.blocking(self.hostile, self.real)

    def hostile(self) -> None:
        """Garbage, megabytes and lies by the thousand; the mote is heard next to them, and we stop in order."""
        chirpstack = self.begin()
        customer = self.customer(self.real)
        chirpstack.up(METER, b"first", 5)
        self.payloads(customer, 1)
        topic = f"application/{'x' * 36}/device/{METER.lower()}/event/up"
        ours = f"application/17c82e96-be03-4f38-aef3-f83d48582d97/device/{METER.lower()}/event/up"
        for number in range(500):
            chirpstack.client.publish(topic, b'{"deviceInfo":{"devEui":"%b"}}' % METER.lower().encode(), 1)
            chirpstack.client.publish(ours, b'{"deviceInfo":' + b"[" * (number % 500), 1)
        for _ in range(3):
            chirpstack.publish(ours, bytes(4 << 20))
        chirpstack.up(METER, b"last", 5)
        self.assertEqual(self.payloads(customer, 1), [encoded(b"last")])
        self.healthy(self.real)
        self.assertEqual([line for line in self.real.output if "Traceback" in line], [])
        self.assertEqual(self.real.stop(), 0)
