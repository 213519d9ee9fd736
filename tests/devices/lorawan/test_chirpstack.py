"""ChirpStack as the network: its events, commands through its queue, gateways, restarts, and what must not hurt."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from pamoja import lorawan as pamoja
from twisted.trial.unittest import SynchronousTestCase

from broker.devices.lorawan.chirpstack.motes import REMEMBERED
from broker.model.errors import Invalid
from broker.model.messages import Command
from broker.mqtt import packets as p
from broker.mqtt import reasons as r
from broker.mqtt.encode import encode
from tests.devices.lorawan.bed import GATEWAY, OTHER, THIRD, Bed, Mote
from tests.devices.lorawan.chirpstack_bed import (
    APPLICATION,
    OTHER_APPLICATION,
    ChirpStack,
    MqttServer,
    endpoint_to,
    event_body,
    event_topic,
    payload_of,
    rx_info,
    settings_of,
)

EUI = "AA00000000000001"
SECOND = "AA00000000000002"


class Case(SynchronousTestCase):
    fields: dict[str, Any] = {}

    def setUp(self) -> None:
        self.server = MqttServer()
        self.bed = self.born()
        self.chirpstack = ChirpStack(self.bed, self.server)

    def born(self, bed: Bed | None = None, **fields: Any) -> Bed:
        """A broker; a later life of that one, which was killed."""
        chirpstack = settings_of(**{**self.fields, **fields})
        with endpoint_to(self.server):
            if bed is None:
                made = Bed(chirpstack=chirpstack)
                made.register(EUI, join_eui=None, app_key=None, network="chirpstack")
            else:
                made = Bed(bed.storage, bed.clock, chirpstack=chirpstack)
        self.server.clock = made.clock
        made.listener.begin()
        made.advance(0.01)
        return made

    def reborn(self) -> None:
        self.bed.network.agenda.stop()
        self.chirpstack.network.client._service.stopService()  # it comes to this server no more
        bed, self.server.connection = self.bed, None
        self.bed = self.born(bed)
        self.chirpstack.bed = self.bed

    def tearDown(self) -> None:
        self.assertEqual(self.bed.faults, [])

    def command(self, payload: Any, dev_eui: str = EUI, **options: Any) -> Command:
        return self.bed.command(payload, Mote(self.bed, dev_eui, 0), **options)

    def states(self) -> list[tuple[str, Any]]:
        return [(status, result) for _, status, result in self.bed.heard.commands]

    def told(self) -> list[bytes]:
        """Payloads of what ChirpStack was told since the last look."""
        return [payload_of(command) for command in self.server.told()]

    @property
    def counted(self) -> Any:
        return self.chirpstack.network.counted


class EventTests(Case):
    def test_an_uplink(self) -> None:
        worse, best = rx_info(OTHER, -100, -3.25), rx_info(GATEWAY, -60, 7.5)
        self.chirpstack.up(EUI, b"\x01\x02", 42, worse, best, fcnt=7)
        (uplink,) = self.bed.heard.uplinks
        self.assertEqual((uplink.kind, uplink.payload, uplink.sent_at), ("raw", b"\x01\x02", 1_700_000_000.123456))
        self.assertEqual(
            uplink.meta,
            {
                "port": 42,
                "fcnt": 7,
                "rssi": -60,
                "snr": 7.5,
                "gateways": [
                    {"eui": GATEWAY, "rssi": -60, "snr": 7.5},
                    {"eui": OTHER, "rssi": -100, "snr": -3.25},
                ],
                "data_rate": "SF7BW125",
                "frequency": 868_100_000,
                "confirmed": False,
            },
        )
        self.assertEqual(self.bed.heard.presences, [(EUI, True, "connected")])
        self.assertEqual(self.bed.core.lora.nearest_gateway(EUI), GATEWAY)
        self.assertEqual(self.bed.core.lora.class_of(EUI), "A")

    def test_an_snr_of_0_is_left_out_in_json_and_is_0(self) -> None:
        self.chirpstack.up(EUI, b"x", 5, rx_info(GATEWAY, -60, 0.0), rx_info(OTHER, -60, -1.0))
        meta = self.bed.heard.uplinks[0].meta
        assert meta is not None
        self.assertEqual((meta["snr"], meta["gateways"][0]["eui"]), (0.0, GATEWAY))

    def test_a_mote_that_was_not_heard_has_no_session(self) -> None:
        self.assertIsNone(self.bed.core.lora.class_of(EUI))
        self.assertIsNone(self.bed.core.lora.nearest_gateway(EUI))

    def test_mac_commands_alone_are_no_uplink(self) -> None:
        self.chirpstack.up(EUI, b"", 0)
        self.assertEqual(self.bed.heard.uplinks, [])
        self.assertEqual(self.bed.heard.presences, [(EUI, True, "connected")])

    def test_an_empty_payload_is_one(self) -> None:
        self.chirpstack.up(EUI, b"", 3)
        self.assertEqual(self.bed.heard.payloads(), [b""])

    def test_fsk(self) -> None:
        sent = {"frequency": 868_800_000, "modulation": {"fsk": {"datarate": 50_000, "frequencyDeviation": 25_000}}}
        self.chirpstack.event(EUI, "up", fPort=1, data="AQ==", rxInfo=[], txInfo=sent)
        meta = self.bed.heard.uplinks[0].meta
        assert meta is not None
        self.assertEqual((meta["data_rate"], meta["rssi"], meta["gateways"]), (50_000, None, []))

    def test_a_join(self) -> None:
        self.chirpstack.event(EUI, "join", devAddr="26011bda")
        (uplink,) = self.bed.heard.uplinks
        self.assertEqual((uplink.kind, uplink.payload), ("event", {"event": "join", "dev_addr": "26011BDA"}))

    def test_status(self) -> None:
        for said, battery in (
            ({"margin": 10, "batteryLevel": 75.59}, 192),
            ({"margin": -5, "externalPowerSource": True}, 0),
            ({"batteryLevelUnavailable": True}, 255),
            ({}, 1),
        ):
            self.chirpstack.event(EUI, "status", **said)
            status = self.bed.heard.payloads()[-1]
            self.assertEqual(status, {"battery": battery, "margin": said.get("margin", 0)})
        live = self.bed.core.devices.get(EUI)
        assert live is not None
        self.assertEqual(live.info["status"]["battery"], 1)

    def test_a_log_is_one(self) -> None:
        self.chirpstack.log(EUI, "UPLINK_CODEC", "it threw " + "x" * 5000)
        (uplink,) = self.bed.heard.uplinks
        assert isinstance(uplink.payload, dict)
        self.assertEqual(
            (uplink.kind, uplink.payload["code"], uplink.payload["level"]), ("log", "UPLINK_CODEC", "ERROR")
        )

    def test_enumerations_as_numbers(self) -> None:
        body = event_body(EUI, 1, level=2, code=8, description="TOO_LATE")
        self.server.publish(event_topic(EUI, "log"), json.dumps(body).encode())
        payload = self.bed.heard.payloads()[0]
        self.assertEqual((payload["level"], payload["code"]), ("ERROR", "DOWNLINK_GATEWAY"))

    def test_silence_makes_it_off_line(self) -> None:
        self.chirpstack.up(EUI)
        self.chirpstack.network.presences.offline_after = 10.0
        self.bed.advance(9)
        self.assertEqual(len(self.bed.heard.presences), 1)
        self.bed.advance(2)
        self.assertEqual(self.bed.heard.presences[-1], (EUI, False, "idle"))

    def test_a_mote_that_is_traced(self) -> None:
        self.chirpstack.up(EUI)
        told: list[tuple[str, bytes | None, Any]] = []
        live = self.bed.core.devices.get(EUI)
        assert live is not None
        live.link.trace(lambda *packet: told.append(packet))
        command = self.command(b"1")
        self.chirpstack.up(EUI, b"x")
        live.link.trace(None)
        self.chirpstack.up(EUI, b"y")
        (_, raw, event), (_, _, down) = told
        assert raw is not None
        self.assertEqual([direction for direction, _, _ in told], ["in", "out"])
        self.assertEqual((event["event"], event["data"], json.loads(raw)["data"]), ("up", "eA==", "eA=="))
        self.assertEqual((down["command"], down["id"]), ("down", command.id))


class AcknowledgementTests(Case):
    def test_only_what_is_on_disk_is_acknowledged(self) -> None:
        self.bed.storage.held = True
        first = self.chirpstack.up(EUI, b"1")
        self.bed.advance(1)
        self.assertEqual((self.bed.heard.payloads(), self.server.acknowledged), ([b"1"], []))
        second = self.chirpstack.up(EUI, b"2")
        self.bed.storage.go_on()
        self.assertEqual(self.server.acknowledged, [first])
        self.bed.storage.go_on()
        self.assertEqual(self.server.acknowledged, [first, second])

    def test_several_at_once_are_one_commit_in_their_order(self) -> None:
        before = self.bed.storage.writes
        ids = [self.chirpstack.up(EUI, b"1"), self.server.publish("other/topic", b"?"), self.chirpstack.up(EUI, b"2")]
        ids += [self.chirpstack.up(SECOND, b"3")]
        self.bed.advance(0.1)
        self.assertEqual(self.server.acknowledged, ids)
        self.assertEqual(self.bed.storage.writes - before, 1)
        self.assertEqual(self.bed.heard.payloads(), [b"1", b"2"])
        self.assertEqual((self.counted.unknown_motes, self.counted.other_topics), (1, 1))

    def test_a_disk_that_is_away_acknowledges_nothing_until_it_is_back(self) -> None:
        self.bed.storage.away = True
        packet_id = self.chirpstack.up(EUI, b"1")
        self.bed.advance(2)
        self.assertEqual(self.server.acknowledged, [])
        self.assertGreater(self.counted.events_unsaved, 0)
        self.bed.storage.away = False
        self.bed.advance(1.1)
        self.assertEqual(self.server.acknowledged, [packet_id])

    def test_what_comes_again_is_told_once(self) -> None:
        self.bed.storage.held = True
        packet_id = self.chirpstack.up(EUI, b"1")
        self.server.cut()
        self.bed.advance(0.1)
        self.bed.storage.go_on()
        self.assertEqual(self.server.acknowledged, [])
        self.bed.storage.held = False
        self.bed.advance(2)
        self.assertEqual((self.bed.heard.payloads(), self.server.acknowledged), ([b"1"], [packet_id]))
        self.assertEqual(self.counted.repeated_events, 1)

    def test_also_when_we_were_killed_before_it_was_acknowledged(self) -> None:
        acknowledge = self.chirpstack.network.store
        for number in range(REMEMBERED):
            self.chirpstack.up(EUI, b"%d" % number)
        self.patch(acknowledge, "_written", lambda *arguments: None)
        self.bed.advance(0.1)
        self.assertEqual(self.server.acknowledged, [])
        self.reborn()
        self.bed.advance(0.1)
        self.assertEqual(len(self.server.acknowledged), REMEMBERED)
        self.assertEqual(self.counted.repeated_events, REMEMBERED)
        self.assertEqual(self.bed.heard.uplinks, [])

    def test_qos_0_needs_none(self) -> None:
        body = json.dumps(event_body(EUI, 1, fPort=1, data="AQ==")).encode()
        self.server.publish(event_topic(EUI, "up"), body, qos=0)
        self.bed.advance(0.1)
        self.assertEqual((self.bed.heard.payloads(), self.server.acknowledged), ([b"\x01"], []))


class ConnectionTests(Case):
    def test_what_it_says_of_itself(self) -> None:
        (connect,) = self.server.connects
        self.assertEqual((connect.client_id, connect.clean, connect.keep_alive), ("broker-", False, 30))
        self.assertEqual(
            self.server.filters,
            ["application/+/device/+/event/+", "+/gateway/+/state/conn", "+/gateway/+/event/stats"],
        )
        self.assertEqual(self.bed.listener.troubles(), [])

    def test_it_comes_back_by_itself_and_says_that_it_is_gone(self) -> None:
        self.server.refusing = True
        self.server.cut()
        (trouble,) = self.bed.listener.troubles()
        self.assertEqual(trouble, "ChirpStack's MQTT broker cannot be reached: connection closed")
        self.bed.advance(10)
        self.assertEqual(len(self.server.connects), 1)
        self.assertEqual(self.bed.listener.counters()["lorawan_chirpstack_connected"], 0.0)
        self.server.refusing = False
        self.bed.advance(10)
        self.assertEqual(len(self.server.connects), 2)
        self.assertEqual(self.bed.listener.troubles(), [])
        self.assertEqual(self.bed.listener.counters()["lorawan_chirpstack_connections_total"], 2)

    def test_a_refused_login(self) -> None:
        self.server.connack = p.ConnAck(r.NOT_AUTHORIZED)
        self.server.cut()
        self.bed.advance(2)
        self.assertIn("refused: not authorized", self.bed.listener.troubles()[0])
        self.server.connack = p.ConnAck()
        self.bed.advance(5)
        self.assertEqual(self.bed.listener.troubles(), [])

    def test_a_refused_subscription_is_said_and_asked_for_again(self) -> None:
        self.server.suback = lambda topic_filter: r.NOT_AUTHORIZED if topic_filter.startswith("app") else 1
        self.reborn()
        (trouble,) = self.bed.listener.troubles()
        self.assertIn("refuses the subscription application/+/device/+/event/+", trouble)
        self.server.suback = lambda topic_filter: 1
        self.server.cut()
        self.bed.advance(2)
        self.assertEqual(self.bed.listener.troubles(), [])
        self.assertEqual(self.server.filters[-1], "application/+/device/+/event/+")

    def test_a_stop_writes_and_acknowledges_and_says_goodbye(self) -> None:
        self.bed.storage.held = True
        packet_id = self.chirpstack.up(EUI)
        stopped = self.chirpstack.network.stop()
        self.chirpstack.up(EUI, b"for the next life")
        self.bed.advance(0.1)
        self.assertNoResult(stopped)
        self.bed.storage.go_on()
        self.bed.advance(0.1)
        self.successResultOf(stopped)
        self.assertEqual(self.server.acknowledged, [packet_id])
        self.assertEqual(self.bed.heard.payloads(), [b"\x01"])
        self.assertIsNone(self.server.connection)
        self.assertEqual(self.bed.listener.connections, ())

    def test_it_is_not_heard_before_customer_servers_are_back(self) -> None:
        self.server.connection = None
        bed = self.born(self.bed, start_delay=3.0)
        bed.advance(2.5)
        self.assertEqual(len(self.server.connects), 1)
        bed.advance(1)
        self.assertEqual(len(self.server.connects), 2)

    def test_files_that_cannot_be_used(self) -> None:
        for fields in ({"ca": "/nowhere.pem"}, {"ca": __file__}):
            with self.assertRaises(Invalid) as caught:
                Bed(chirpstack=settings_of(**{**fields, "url": "mqtts://chirpstack.example"}))
            self.assertIn("listeners.lorawan.chirpstack", str(caught.exception))


class DownlinkTests(Case):
    def setUp(self) -> None:
        super().setUp()
        self.chirpstack.up(EUI, b"first", 9)
        self.bed.advance(1)

    def test_unconfirmed(self) -> None:
        command = self.command(b"\x01\x02", port=42)
        self.bed.advance(1)
        self.assertEqual((command.status, self.server.commands), ("queued", []))
        self.chirpstack.up(EUI)
        topic = self.server.commands[0][0]
        self.assertEqual(topic, f"application/{APPLICATION}/device/{EUI.lower()}/command/down")
        self.assertEqual(
            self.server.told(),
            [{"id": command.id, "devEui": EUI.lower(), "confirmed": False, "fPort": 42, "data": "AQI="}],
        )
        self.chirpstack.txack(EUI, command.id, 3, OTHER)
        self.assertEqual(
            self.states(), [("queued", None), ("sent", None), ("succeeded", {"gateway": OTHER, "fcnt": 3})]
        )

    def test_an_answer_to_the_uplink_catches_its_window(self) -> None:
        self.chirpstack.up(EUI)
        self.bed.advance(0.05)
        self.command(b"quick")
        self.bed.advance(0.01)
        self.assertEqual(self.told(), [b"quick"])

    def test_port_of_the_last_uplink_and_json_as_text(self) -> None:
        self.command({"on": True})
        self.chirpstack.up(EUI, b"x", 9)
        (command,) = self.server.told()
        self.assertEqual((command["fPort"], payload_of(command)), (9, b'{"on":true}'))

    def test_one_at_a_time_by_priority_then_arrival(self) -> None:
        made = {}
        for name, priority in ((b"a", 10), (b"b", 64), (b"c", None), (b"d", 64), (b"e", 32)):
            options: dict[str, Any] = {} if priority is None else {"priority": priority}
            made[name] = self.command(name, **options)
        got = []
        for _ in range(6):
            self.chirpstack.up(EUI)
            self.bed.advance(1)
            for name in self.told():
                got.append(name)
                self.chirpstack.txack(EUI, made[name].id)
                self.bed.advance(1)
        self.assertEqual(got, [b"b", b"d", b"c", b"e", b"a"])

    def test_what_waits_can_be_cancelled_and_what_was_handed_over_not(self) -> None:
        first, second = self.command(b"1"), self.command(b"2")
        self.chirpstack.up(EUI)
        self.assertEqual((first.status, second.status), ("sent", "queued"))
        self.assertEqual(self.bed.core.commands.queued(EUI), 1)
        self.bed.core.commands.cancel(second.id)
        self.chirpstack.txack(EUI, first.id)
        self.chirpstack.up(EUI)
        self.assertEqual(self.told(), [b"1"])

    def test_confirmed_and_acknowledged(self) -> None:
        command, after = self.command(b"1", confirm=True), self.command(b"2")
        self.chirpstack.up(EUI)
        self.assertIs(self.server.told()[0]["confirmed"], True)
        self.chirpstack.txack(EUI, command.id, 1)
        self.chirpstack.txack(EUI, command.id, 1)
        self.chirpstack.up(EUI)
        self.assertEqual(self.told(), [])
        self.chirpstack.ack(EUI, command.id)
        self.assertEqual(
            [state for state in self.states() if state[0] not in ("queued", "sent")],
            [("pending", {"gateway": GATEWAY, "transmission": 1}), ("succeeded", {"acknowledged": True})],
        )
        # The window of the frame that had the acknowledgement is still open.
        self.bed.advance(0.05)
        self.assertEqual((self.told(), after.status), ([b"2"], "sent"))

    def test_not_acknowledged(self) -> None:
        command = self.command(b"1", confirm=True)
        self.chirpstack.up(EUI)
        self.chirpstack.txack(EUI, command.id)
        self.chirpstack.ack(EUI, command.id, False)
        self.assertEqual((command.status, command.result), ("failed", {"error": "NOT_ACKNOWLEDGED", "code": 8}))

    def test_a_join_ends_what_waits_for_its_acknowledgement(self) -> None:
        command, queued = self.command(b"1", confirm=True), self.command(b"2")
        self.chirpstack.up(EUI)
        self.chirpstack.txack(EUI, command.id)
        self.chirpstack.event(EUI, "join", devAddr="01020304")
        self.assertEqual((command.status, queued.status), ("failed", "queued"))
        self.chirpstack.ack(EUI, command.id, False)
        self.assertEqual(command.late, [])

    def test_a_gateway_that_refuses(self) -> None:
        for status, code in (
            ("TOO_LATE", 2),
            ("TOO_EARLY", 3),
            ("COLLISION_PACKET", 4),
            ("COLLISION_BEACON", 4),
            ("QUEUE_FULL", 4),
            ("TX_FREQ", 5),
            ("TX_POWER", 6),
            ("GPS_UNLOCKED", 7),
            ("INTERNAL_ERROR", 1),
            ("DUTY_CYCLE_OVERFLOW", 1),
        ):
            command = self.command(b"1")
            self.chirpstack.up(EUI)
            self.chirpstack.log(EUI, "DOWNLINK_GATEWAY", status)
            self.assertEqual((command.status, command.result), ("failed", {"error": status, "code": code}))

    def test_what_ChirpStack_sends_later_all_the_same_is_late(self) -> None:
        command = self.command(b"1")
        self.chirpstack.up(EUI)
        self.chirpstack.log(EUI, "DOWNLINK_GATEWAY", "TOO_LATE")
        self.chirpstack.up(EUI)
        self.chirpstack.txack(EUI, command.id, 2)
        kept = self.bed.storage.commands[command.id]
        self.assertEqual((kept.status, [late["status"] for late in kept.late]), ("failed", ["succeeded"]))

    def test_confirmed_ones_have_three_refusals(self) -> None:
        command = self.command(b"1", confirm=True)
        for turn in range(3):
            self.assertEqual(command.status, "sent" if turn else "queued")
            self.chirpstack.up(EUI)
            self.chirpstack.log(EUI, "DOWNLINK_GATEWAY", "COLLISION_PACKET")
        self.assertEqual((command.status, command.result), ("failed", {"error": "COLLISION_PACKET", "code": 4}))
        self.assertEqual(len(self.server.commands), 1)

    def test_a_refusal_of_something_else_is_not_ours(self) -> None:
        self.chirpstack.log(EUI, "DOWNLINK_GATEWAY", "TOO_LATE")
        command = self.command(b"1", confirm=True)
        self.chirpstack.up(EUI)
        self.chirpstack.txack(EUI, command.id)
        for _ in range(3):
            self.chirpstack.log(EUI, "DOWNLINK_GATEWAY", "TOO_LATE")
        self.assertEqual(command.status, "pending")

    def test_what_ChirpStack_drops(self) -> None:
        for code, number in (("DOWNLINK_PAYLOAD_SIZE", 9), ("EXPIRED", 10), ("F_CNT_DOWN", 1), ("DOWNLINK_CODEC", 1)):
            command = self.command(b"1")
            self.chirpstack.up(EUI)
            self.chirpstack.log(EUI, code, "Device queue-item discarded", "00000000-0000-4000-8000-999999999999")
            self.assertEqual(command.status, "sent", "another item")
            self.chirpstack.log(EUI, code, "Device queue-item discarded", command.id)
            assert isinstance(command.result, dict)
            self.assertEqual((command.status, command.result["code"]), ("failed", number))

    def test_too_long_for_any_data_rate(self) -> None:
        command, next_one = self.command(bytes(243)), self.command(b"2")
        self.chirpstack.up(EUI)
        self.assertEqual((command.status, command.result), ("failed", {"error": "TOO_LONG", "code": 9}))
        self.assertEqual((self.told(), next_one.status), ([b"2"], "sent"))

    def test_windows_without_a_word(self) -> None:
        command, next_one = self.command(b"1"), self.command(b"2")
        for turn in range(3):
            self.chirpstack.up(EUI)
            self.assertEqual(command.status, "sent", turn)
        self.chirpstack.up(EUI)
        self.assertEqual((command.status, command.result), ("failed", {"error": "NO_GATEWAY", "code": 1}))
        self.assertEqual((self.told(), next_one.status), ([b"1", b"2"], "sent"))

    def test_time_without_a_word(self) -> None:
        command = self.command(b"1", expires=200_000.0)
        self.chirpstack.up(EUI)
        assert command.deadline is not None
        self.bed.clock.advance(86_401)
        self.bed.core.commands.tick()
        self.assertEqual(command.status, "timed_out")
        self.command(b"2")
        self.chirpstack.up(EUI)
        self.assertEqual(self.told(), [b"1", b"2"])

    def test_a_command_that_could_not_be_written_waits(self) -> None:
        command = self.command(b"1")
        self.bed.storage.away = True
        self.chirpstack.up(EUI)
        self.assertEqual((command.status, self.told()), ("queued", []))
        self.bed.storage.away = False
        self.chirpstack.up(EUI)
        self.assertEqual((command.status, self.told()), ("sent", [b"1"]))

    def test_nobody_there_to_take_it(self) -> None:
        """ChirpStack is being started again: the command is handed over in the next window, and fails nowhere."""
        self.server.answers = [r.NO_MATCHING_SUBSCRIBERS]
        command = self.command(b"1")
        self.chirpstack.up(EUI)
        self.assertEqual((command.status, self.told()), ("sent", [b"1"]))
        self.bed.advance(30)
        self.assertEqual(self.told(), [])
        self.chirpstack.up(EUI)
        self.assertEqual(self.told(), [b"1"])
        self.chirpstack.txack(EUI, command.id)
        self.assertEqual(command.status, "succeeded")
        self.assertEqual(self.counted.untaken, 1)

    def test_a_publish_that_is_refused(self) -> None:
        self.server.answers = [r.NOT_AUTHORIZED]
        command = self.command(b"1")
        self.chirpstack.up(EUI)
        assert isinstance(command.result, dict)
        self.assertEqual((command.status, command.result["code"]), ("failed", 1))
        self.assertIn("not authorized", command.result["error"])

    def test_lost_between_the_command_and_its_acknowledgement(self) -> None:
        self.server.answers = [None]
        command = self.command(b"1")
        self.chirpstack.up(EUI)
        self.server.cut()
        self.bed.advance(2)
        self.assertEqual([one["id"] for one in self.server.told()], [command.id, command.id])

    def test_it_goes_on_after_a_restart(self) -> None:
        sent, confirmed, queued = self.command(b"1"), self.command(b"2", confirm=True), self.command(b"3")
        self.chirpstack.up(EUI)
        self.reborn()
        self.assertEqual(self.told(), [b"1"])
        self.chirpstack.up(EUI)
        self.assertEqual(self.told(), [])
        self.chirpstack.txack(EUI, sent.id, 1)
        self.chirpstack.up(EUI)
        self.assertEqual(self.told(), [b"2"])
        self.chirpstack.txack(EUI, confirmed.id, 2)
        self.reborn()
        self.chirpstack.up(EUI)
        self.assertEqual(self.told(), [])
        self.chirpstack.ack(EUI, confirmed.id)
        self.bed.advance(0.05)
        self.assertEqual(self.told(), [b"3"])
        kept = self.bed.storage.commands
        self.assertEqual([kept[one.id].status for one in (sent, confirmed, queued)], ["succeeded", "succeeded", "sent"])

    def test_somebody_elses_downlinks(self) -> None:
        """Those that others have put into ChirpStack's queue are nothing of ours."""
        command = self.command(b"1")
        self.chirpstack.up(EUI)
        for item in ("", "no uuid", "11111111-2222-3333-4444-555555555555"):
            self.chirpstack.txack(EUI, item)
            self.chirpstack.ack(EUI, item)
        self.assertEqual(command.status, "sent")
        self.assertEqual(self.counted.stray_items, 6)

    def test_a_mote_cannot_answer_for_another(self) -> None:
        self.bed.register(SECOND, join_eui=None, app_key=None, network="chirpstack")
        command = self.command(b"1")
        self.chirpstack.up(EUI)
        self.chirpstack.txack(SECOND, command.id)
        self.chirpstack.ack(SECOND, command.id, False)
        self.chirpstack.log(SECOND, "EXPIRED", "", command.id)
        self.assertEqual(command.status, "sent")

    def test_a_removed_mote(self) -> None:
        command = self.command(b"1")
        self.chirpstack.up(EUI)
        self.bed.core.registry.delete_device(EUI)
        self.assertEqual(command.status, "failed")
        self.assertEqual(self.bed.heard.presences[-1], (EUI, False, "removed"))
        self.chirpstack.up(EUI, b"ghost")
        self.assertNotIn(b"ghost", self.bed.heard.payloads())
        self.bed.advance(0.1)
        self.assertEqual(self.bed.storage.tables.get("lorawan_chirpstack", {}), {})


class ClassCTests(Case):
    def setUp(self) -> None:
        super().setUp()
        self.bed.register(SECOND, join_eui=None, app_key=None, network="chirpstack", **{"class": "C"})
        self.chirpstack.up(SECOND, b"here")
        self.bed.advance(1)

    def test_at_any_time_and_one_after_another(self) -> None:
        first, second = self.command(b"1", SECOND), self.command(b"2", SECOND)
        self.assertEqual(first.status, "queued")
        self.bed.advance(0.01)
        self.assertEqual((self.told(), first.status), ([b"1"], "sent"))
        self.bed.advance(30)
        self.assertEqual(self.told(), [])
        self.chirpstack.txack(SECOND, first.id)
        self.bed.advance(0.01)
        self.assertEqual((self.told(), second.status), ([b"2"], "sent"))

    def test_while_it_cannot_be_reached(self) -> None:
        self.server.refusing = True
        self.server.cut()
        command = self.command(b"1", SECOND)
        self.bed.advance(5)
        self.assertEqual(command.status, "queued")
        self.server.refusing = False
        self.bed.advance(15)
        self.assertEqual((command.status, self.told()), ("sent", [b"1"]))

    def test_nobody_there_to_take_it(self) -> None:
        self.server.answers = [r.NO_MATCHING_SUBSCRIBERS]
        self.command(b"1", SECOND)
        self.bed.advance(1)
        self.assertEqual(self.told(), [b"1"])
        self.assertEqual(self.bed.listener.troubles(), ["ChirpStack does not listen for commands on its MQTT broker"])
        self.bed.advance(6)
        self.assertEqual(self.told(), [b"1"])
        self.assertEqual(self.bed.listener.troubles(), [])
        self.bed.advance(30)
        self.assertEqual(self.told(), [])

    def test_a_disk_that_comes_back(self) -> None:
        command = self.command(b"1", SECOND)
        self.bed.storage.away = True
        self.bed.advance(2)
        self.assertEqual((command.status, self.told()), ("queued", []))
        self.bed.storage.away = False
        self.bed.advance(1.5)
        self.assertEqual(self.told(), [b"1"])

    def test_after_a_restart(self) -> None:
        self.server.refusing = True
        self.server.cut()
        self.command(b"1", SECOND)
        self.server.refusing = False
        self.reborn()
        self.bed.advance(1.5)
        self.assertEqual(self.told(), [b"1"])
        self.assertEqual(self.bed.core.lora.class_of(SECOND), "C")

    def test_the_class_is_learned_unless_it_was_registered(self) -> None:
        info = {"applicationId": APPLICATION, "devEui": EUI.lower(), "deviceClassEnabled": "CLASS_C"}
        self.chirpstack.event(EUI, "up", deviceInfo=info)
        self.chirpstack.event(SECOND, "up", deviceInfo={**info, "devEui": SECOND.lower(), "deviceClassEnabled": 0})
        lora = self.bed.core.lora
        self.assertEqual((lora.class_of(EUI), lora.class_of(SECOND)), ("C", "C"))
        self.bed.advance(0.1)
        self.reborn()
        self.assertEqual(self.bed.core.lora.class_of(EUI), "C")

    def test_time_without_a_word(self) -> None:
        command = self.command(b"1", SECOND, expires=200_000.0)
        self.bed.advance(0.1)
        self.bed.clock.advance(3_601)
        self.bed.core.commands.tick()
        self.assertEqual(command.status, "timed_out")
        self.command(b"2", SECOND)
        self.bed.advance(1.5)
        self.assertEqual(self.told(), [b"1", b"2"])


class AtOnceTests(Case):
    fields = {"hand_over": "at_once"}

    def test_class_a_is_handed_over_before_it_is_heard(self) -> None:
        command = self.command(b"1")
        self.bed.advance(1.5)
        self.assertEqual(command.status, "queued", "nobody knows its application yet")
        self.chirpstack.up(EUI)
        self.assertEqual(self.told(), [b"1"])
        self.chirpstack.txack(EUI, command.id)
        self.bed.advance(1)
        second = self.command(b"2")
        self.bed.advance(0.01)
        self.assertEqual((self.told(), second.status), ([b"2"], "sent"))
        for _ in range(3):
            self.chirpstack.up(EUI)
            self.assertEqual(second.status, "sent")
        self.chirpstack.up(EUI)
        self.assertEqual(second.status, "failed")


class GatewayTests(Case):
    def setUp(self) -> None:
        super().setUp()
        self.seen: list[tuple[str, bool]] = []
        self.bed.core.lora.watch_gateways(lambda eui, online: self.seen.append((eui, online)))

    def test_states_in_json_and_protocol_buffers(self) -> None:
        self.chirpstack.gateway(GATEWAY, "ONLINE")
        self.chirpstack.gateway(GATEWAY, "ONLINE")
        for eui, state in ((OTHER, b"\x10\x01"), (GATEWAY, b"")):
            binary = state + b"\x1a\x10" + eui.lower().encode()
            self.server.publish(f"eu868/gateway/{eui.lower()}/state/conn", binary, retain=True)
        self.server.publish(f"eu868/gateway/{OTHER.lower()}/state/conn", b"")
        self.server.publish(f"gateway/{THIRD.lower()}/state/conn", b'{"state":1}')
        self.assertEqual(self.seen, [(GATEWAY, True), (OTHER, True), (GATEWAY, False), (THIRD, True)])
        self.assertEqual(self.bed.listener.counters()["lorawan_chirpstack_gateways_online"], 2)

    def test_statistics(self) -> None:
        said = {
            "gatewayId": GATEWAY.lower(),
            "rxPacketsReceived": 12,
            "rxPacketsReceivedOk": 9,
            "txPacketsReceived": 3,
            "txPacketsEmitted": 2,
            "location": {"latitude": 31.25, "longitude": 121.5, "altitude": 10.5},
        }
        self.server.publish(f"cn470_10/gateway/{GATEWAY.lower()}/event/stats", json.dumps(said).encode())
        place = b"\x09" + bytes.fromhex("0000000000403f40") + b"\x11" + bytes.fromhex("0000000000605e40")
        binary = b"\x28\x0c\x30\x09\x38\x03\x40\x02" + b"\x1a" + bytes((len(place),)) + place + b"\x8a\x01\x02ab"
        self.server.publish(f"cn470_10/gateway/{OTHER.lower()}/event/stats", binary)
        for eui, altitude in ((GATEWAY, 10.5), (OTHER, 0.0)):
            found = self.bed.core.lora.gateway(eui)
            assert found is not None
            self.assertEqual((found["family"], found["online"]), ("cn470", True))
            counts = {"rxnb": 12, "rxok": 9, "rxfw": 9, "dwnb": 3, "txnb": 2}
            self.assertEqual(found["stat"], {**counts, "lati": 31.25, "long": 121.5, "alti": altitude})
        # Without a state, it is on-line while they come.
        self.bed.advance(99)
        self.assertEqual(len(self.seen), 2)
        self.bed.advance(3)
        self.assertEqual(self.seen[2:], [(GATEWAY, False), (OTHER, False)])

    def test_one_that_a_mote_was_heard_by_is_known(self) -> None:
        self.assertIsNone(self.bed.core.lora.gateway(GATEWAY))
        self.chirpstack.up(EUI)
        found = self.bed.core.lora.gateway(GATEWAY)
        assert found is not None
        self.assertEqual((found["online"], found["stat"], found["address"]), (False, None, ""))

    def test_all_are_gone_when_nobody_can_tell(self) -> None:
        self.chirpstack.gateway(GATEWAY, "ONLINE")
        self.server.refusing = True
        self.server.cut()
        self.bed.advance(25)
        self.assertEqual(self.seen, [(GATEWAY, True)])
        self.bed.advance(10)
        self.assertEqual(self.seen[1:], [(GATEWAY, False)])
        self.server.refusing = False
        self.bed.advance(80)
        self.chirpstack.gateway(GATEWAY, "ONLINE")
        self.assertEqual(self.seen[2:], [(GATEWAY, True)])

    def test_a_break_that_is_short_is_none(self) -> None:
        self.chirpstack.gateway(GATEWAY, "ONLINE")
        self.server.cut()
        self.bed.advance(60)
        self.assertEqual(self.seen, [(GATEWAY, True)])

    def test_beside_our_own(self) -> None:
        self.bed.forwarder(OTHER)
        self.chirpstack.gateway(GATEWAY, "ONLINE")
        self.assertEqual(self.seen, [(OTHER, True), (GATEWAY, True)])
        own, there = (self.bed.core.lora.gateway(eui) for eui in (OTHER, GATEWAY))
        self.assertEqual((own["address"], own["family"]), ("192.0.2.1:50002", "eu868"))
        self.assertEqual((there["address"], there["family"]), ("", "eu868"))
        self.assertIsNone(self.bed.core.lora.gateway(THIRD))
        self.assertIsNone(self.bed.core.lora.gateway("nonsense"))

    def test_no_more_than_are_allowed(self) -> None:
        self.patch(self.chirpstack.network.gateways, "_most", 1)
        self.chirpstack.gateway(GATEWAY, "ONLINE")
        self.chirpstack.gateway(OTHER, "ONLINE")
        self.assertEqual((self.seen, self.counted.too_many_gateways), ([(GATEWAY, True)], 1))


class HostileTests(Case):
    def test_garbage_is_counted_and_acknowledged(self) -> None:
        up, conn, stats = (
            event_topic(EUI, "up"),
            f"eu868/gateway/{GATEWAY}/state/conn",
            f"eu868/gateway/{GATEWAY}/event/stats",
        )
        good = event_body(EUI, 1, fPort=1, data="AQ==")
        bad: list[tuple[str, bytes]] = [
            (up, b""),
            (up, b"{"),
            (up, b"\xff\xfe"),
            (up, b"[]"),
            (up, b"null"),
            (up, b"{}"),
            (up, b'{"deviceInfo":null}'),
            (up, b'{"deviceInfo":' * 2_000),
            (up, b'{"x":' + b"[" * 100_000),
            (conn, b"{"),
            (conn, b"\xff"),
            (conn, b"\x10"),
            (conn, b"\x12\x01x"),
            (conn, b"\x00\x00"),
            (conn, b"\x1a\xff\xff\xff\xff\x0f"),
            (conn, b"\x17"),
            (stats, b"\x2a\x01x"),
            (stats, b"\x1a\x01\xff"),
            (stats, b'{"rxPacketsReceived":-1}'),
        ]
        for name, value in (
            ("fPort", "1"),
            ("fPort", 256),
            ("fPort", -1),
            ("fPort", 1.5),
            ("fCnt", 1 << 32),
            ("data", "no base64!"),
            ("data", 7),
            ("confirmed", "yes"),
            ("rxInfo", {}),
            ("rxInfo", [7]),
            ("rxInfo", [{"gatewayId": 7}]),
            ("txInfo", []),
            ("txInfo", {"modulation": {"lora": {"spreadingFactor": "7"}}}),
            ("deduplicationId", 7),
            ("deduplicationId", "x" * 2_000),
            ("deviceInfo", {"devEui": SECOND.lower(), "applicationId": APPLICATION}),
            ("deviceInfo", {"devEui": EUI.lower(), "applicationId": OTHER_APPLICATION}),
            ("deviceInfo", {"applicationId": APPLICATION}),
        ):
            bad.append((up, json.dumps({**good, name: value}).encode()))
        bad.append((event_topic(EUI, "join"), json.dumps({**good, "devAddr": "x"}).encode()))
        bad.append((event_topic(EUI, "status"), json.dumps({**good, "margin": 500}).encode()))
        ids = [self.server.publish(topic, payload) for topic, payload in bad]
        self.bed.advance(1)
        self.assertEqual(self.counted.bad_events, len(bad))
        self.assertEqual(self.server.acknowledged, ids)
        self.assertEqual(self.bed.heard.uplinks, [])
        self.assertEqual(self.bed.heard.presences, [])
        # And the mote is heard next to them as if nothing was.
        self.server.publish(up, json.dumps(good).encode())
        self.assertEqual(self.bed.heard.payloads(), [b"\x01"])

    def test_topics_that_are_not_for_us(self) -> None:
        body = json.dumps(event_body(EUI, 1, fPort=1, data="AQ==")).encode()
        for topic in (
            f"application/{APPLICATION}/device/{EUI}/event",
            f"application/{APPLICATION}/device/{EUI}/event/up/more",
            f"application/{APPLICATION}/device/nonsense/event/up",
            f"application/{APPLICATION}/gateway/{EUI}/event/up",
            f"application/{APPLICATION}/device/{EUI}/event/none_of_ours",
            f"x/application/{APPLICATION}/device/{EUI}/event/up",
            f"eu868/gateway/{GATEWAY}/event/up",
            f"eu868/gateway/{GATEWAY}00/state/conn",
            "gateway/state/conn",
            "a",
        ):
            self.server.publish(topic, body)
        self.assertEqual((self.counted.other_topics, self.counted.bad_events), (10, 0))
        self.assertEqual(self.bed.heard.uplinks, [])

    def test_another_application_cannot_speak_for_our_mote(self) -> None:
        self.chirpstack.up(EUI, b"ours")
        for what in ("up", "join", "status", "log", "txack", "ack"):
            self.chirpstack.event(EUI, what, OTHER_APPLICATION)
        self.assertEqual(self.bed.heard.payloads(), [b"ours"])
        self.assertEqual(self.counted.other_applications, 6)
        self.bed.advance(0.1)
        self.reborn()
        self.chirpstack.event(EUI, "up", OTHER_APPLICATION, fPort=1)
        self.assertEqual(self.counted.other_applications, 1)
        # It has moved there: the registration says so.
        self.bed.core.registry.update_device(EUI, {"application": OTHER_APPLICATION})
        self.chirpstack.event(EUI, "up", OTHER_APPLICATION, fPort=1, data="AQ==")
        self.assertEqual(self.bed.heard.payloads(), [b"\x01"])

    def test_motes_of_our_own_network_and_strangers_are_not_ChirpStacks(self) -> None:
        self.bed.abp(SECOND)
        self.chirpstack.up(SECOND)
        self.chirpstack.up("AA00000000000077")
        self.assertEqual((self.bed.heard.uplinks, self.counted.unknown_motes), ([], 2))

    def test_and_the_other_way_round(self) -> None:
        """A join-request for a mote of ChirpStack's is a stranger's to our own network."""
        self.bed.register(SECOND, network="chirpstack")
        device = pamoja.device(bytes.fromhex(SECOND), bytes.fromhex("70B3D57ED0000001"), bytes(16))
        forwarder = self.bed.forwarder()
        forwarder.hears(device.join_request(1))
        self.bed.advance(1)
        self.assertEqual((forwarder.sent(), self.bed.counted.unknown_motes), ([], 1))

    def test_two_events_in_one_chunk(self) -> None:
        self.bed.register(SECOND, join_eui=None, app_key=None, network="chirpstack")
        bodies = [(EUI, b"AQ=="), (SECOND, b"Ag==")]
        packets = [
            p.Publish(
                event_topic(eui, "up"),
                json.dumps(event_body(eui, number, fPort=1, data=data.decode())).encode(),
                1,
                100 + number,
            )
            for number, (eui, data) in enumerate(bodies)
        ]
        chunk = b"".join(encode(packet, p.MQTT_5) for packet in packets)
        self.server.connection.protocol.dataReceived(chunk[:-7])
        self.assertEqual(self.bed.heard.payloads(), [b"\x01"])
        self.server.connection.protocol.dataReceived(chunk[-7:])
        self.assertEqual(self.bed.heard.payloads(), [b"\x01", b"\x02"])
        self.bed.advance(0.1)
        self.assertEqual(self.server.acknowledged, [100, 101])


class RegistrationTests(Case):
    def test_what_may_be_registered(self) -> None:
        registry = self.bed.core.registry
        base = {"protocol": "lorawan", "id": SECOND}
        keys = {"dev_addr": "26011BDA", "nwk_s_key": "0" * 32, "app_s_key": "0" * 32}
        for fields in (
            {**base, "network": "chirpstack", **keys},
            {**base, "network": "elsewhere"},
            {**base, "network": 7},
            {**base, "network": "chirpstack", "application": "a/b"},
            {**base, "network": "chirpstack", "application": 7},
            {**base, "application": APPLICATION, **keys},
            {**base, "network": "chirpstack", "class": "B"},
        ):
            self.failureResultOf(registry.add_device(fields), Invalid)
        good = {**base, "network": "chirpstack", "application": APPLICATION, "class": "C", "join_eui": "0" * 16}
        record, _ = self.successResultOf(registry.add_device(good))
        self.assertEqual(record.attributes["application"], APPLICATION)

    def test_a_mote_changes_its_network(self) -> None:
        self.chirpstack.up(EUI)
        registry = self.bed.core.registry
        keys = {"dev_addr": "26011BDA", "nwk_s_key": "0" * 32, "app_s_key": "0" * 32}
        self.successResultOf(registry.update_device(EUI, {"network": "own", **keys}))
        self.assertEqual(self.bed.heard.presences[-1], (EUI, False, "removed"))
        self.chirpstack.up(EUI, b"late")
        self.assertNotIn(b"late", self.bed.heard.payloads())
        self.assertIsNotNone(self.bed.network.motes.get(EUI))
        back = dict.fromkeys(keys)
        self.successResultOf(registry.update_device(EUI, {"network": "chirpstack", **back}))
        self.assertIsNone(self.bed.network.motes.get(EUI))
        self.chirpstack.up(EUI, b"back")
        self.assertEqual(self.bed.heard.payloads()[-1], b"back")

    def test_a_disabled_mote_is_not_heard(self) -> None:
        self.chirpstack.up(EUI)
        registry = self.bed.core.registry
        self.successResultOf(registry.update_device(EUI, {"disabled": True}))
        self.chirpstack.up(EUI, b"silenced")
        self.successResultOf(registry.update_device(EUI, {"disabled": False}))
        self.chirpstack.up(EUI, b"again")
        self.assertEqual(self.bed.heard.payloads(), [b"\x01", b"again"])


class ReloadTests(Case):
    def test_new_settings_while_it_runs(self) -> None:
        fresh = msgspec.structs.replace(
            self.bed.settings, default_port=77, mote_offline_after=5.0, chirpstack=settings_of(prefix="new/")
        )
        self.assertIn("chirpstack", self.bed.listener.reload(fresh))
        command = self.command(b"1")
        self.chirpstack.up(EUI, b"", 0)
        ((topic, body),) = self.server.commands
        self.assertEqual((topic[:12], body["fPort"], body["id"]), ("application/", 77, command.id))
        self.bed.advance(7)
        self.assertEqual(self.bed.heard.presences[-1], (EUI, False, "idle"))


class OneApplicationTests(Case):
    fields = {"application": APPLICATION, "prefix": "v4/", "regions": ("", "cn470_10")}

    def test_what_is_subscribed_to(self) -> None:
        self.assertEqual(
            self.server.filters,
            [
                f"v4/application/{APPLICATION}/device/+/event/+",
                "gateway/+/state/conn",
                "gateway/+/event/stats",
                "cn470_10/gateway/+/state/conn",
                "cn470_10/gateway/+/event/stats",
            ],
        )
        body = json.dumps(event_body(EUI, 1, fPort=1, data="AQ==")).encode()
        self.server.publish(event_topic(EUI, "up", prefix="v4/"), body)
        self.command(b"1")
        self.bed.advance(0.01)
        self.assertEqual(self.bed.heard.payloads(), [b"\x01"])
        self.assertEqual(self.server.commands[0][0], f"v4/application/{APPLICATION}/device/{EUI.lower()}/command/down")
