"""What customer servers are told, and what they ask about gateways: UPLOAD, MOTEJOIN, UPLOADSQ, BROADCAST and so on."""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import Any

from broker.applications.loracenter import Settings
from broker.applications.loracenter.gateways import eui_of_mac, mac_of_eui
from broker.applications.loracenter.indications import MAX_WAITING
from broker.devices.lorawan.gateway import GatewayRecord
from broker.devices.lorawan.regions import REGIONS
from broker.model.messages import DATA, FAILED, STATUS, SUCCEEDED, DeviceRef, Reply, Uplink
from broker.model.records import DeviceRecord
from broker.routing.values import LastValues
from tests.applications.loracenter.bed import CS_EUI, MOTE, OTHER_EUI, Bed
from tests.applications.loracenter.test_deliveries import FOREIGN, SECOND, Link, Stage, said
from tests.devices.lorawan.bed import GATEWAY, JOIN_EUI, OTHER, join

MAC = "A0B1C2D3E4F5"
MAC_EUI = "A0B1C2FFFED3E4F5"


class UploadTests(Stage):
    def test_bytes(self) -> None:
        payload = bytes.fromhex("A8930F0C0002EEEEEEEEEEEED200071F04126216")
        self.mote.says(payload, self.gateway, port=231)
        self.bed.advance(0.25)
        self.assertEqual(
            self.peer.take(),
            b'{"CODE":1,"CsEUI":"AA555A0000000000","Token":1,"CMD":"UPLOAD","MSG":"UPLOAD",'
            b'"DevEUI":"AA00000000000001","payload":"qJMPDAAC7u7u7u7u0gAHHwQSYhY=","Port":231}\0',
        )

    def test_to_every_service_and_to_nobody_else(self) -> None:
        again, other = self.bed.customer(service=5), self.bed.customer(OTHER_EUI)
        self.uplink()
        (one,), (two,) = self.peer.got(), again.got()
        self.assertEqual((one, other.got()), (two, []))
        self.bed.bind(MOTE, "two")
        self.uplink()
        self.assertEqual([got["CsEUI"] for got in other.got()], [OTHER_EUI])
        self.bed.done(self.bed.core.registry.unbind("one", MOTE))
        self.peer.got()
        self.uplink()
        self.assertEqual((self.peer.got(), len(other.got())), ([], 1))

    def test_a_write_a_message(self) -> None:
        written: list[bytes] = []
        self.peer.connection.outbox.write = written.append
        second = self.bed.abp(SECOND, "26011BDB")
        for mote in (self.mote, second, self.mote):
            mote.says(b"x", self.gateway)
        self.bed.advance(0.3)
        self.assertEqual([one.count(b"\0") for one in written], [1, 1, 1])

    def test_join(self) -> None:
        self.bed.register(SECOND)
        join(self.bed, self.gateway, SECOND)
        self.bed.advance(1)
        self.assertEqual(
            self.peer.take(),
            b'{"CODE":1,"CsEUI":"AA555A0000000000","Token":1,"CMD":"MOTEJOIN","DevEUI":"AA00000000000002",'
            b'"MSG":"MOTEJOIN"}\0',
        )

    def test_signal_quality(self) -> None:
        self.bed.center.reload(Settings(signal_quality_upload=True))
        self.uplink(rssi=-108, lsnr=9.3)
        upload, quality = self.peer.got()
        self.assertEqual((upload["CMD"], quality["CMD"], quality["Dir"]), ("UPLOAD", "UPLOADSQ", "UP"))
        self.assertEqual((quality["GatewayEui"], quality["Rssi"], quality["Snr"]), (GATEWAY, -108, 9.3))
        self.uplink(fopts=b"\x06\xff\x0b")
        got = self.peer.got()
        (down,) = [one for one in got if one.get("Dir") == "DOWN"]
        self.assertEqual((down["GatewayEui"], down["Snr"]), (GATEWAY, 11))
        self.assertFalse({"Rssi", "Bgnoise"} & set(down))

    def test_tokens_start_anew_before_they_are_too_large(self) -> None:
        (customer,) = self.bed.center.customers.all()
        customer._token = 0x7FFF_FFFE
        self.assertEqual([customer.token() for _ in range(3)], [0x7FFF_FFFF, 1, 2])


class ForeignUploadTests(Stage):
    def say(self, payload: Any, kind: str = DATA, device: str = "foreign") -> None:
        self.bed.core.router.uplink(Uplink(DeviceRef("other", device), kind, payload, self.bed.clock.seconds()))

    def test_its_payload_as_bytes(self) -> None:
        self.foreign()
        self.say({"t": 21.5})
        self.say(b"\x01\x02", STATUS)
        one, two = self.peer.got()
        self.assertEqual((one["DevEUI"], one["Port"], b64decode(one["payload"])), (FOREIGN, 1, b'{"t":21.5}'))
        self.assertEqual((two["payload"], two["CMD"]), ("AQI=", "UPLOAD"))

    def test_on_another_port(self) -> None:
        self.foreign()
        self.bed.center.reload(Settings(foreign_port=9))
        self.say(b"x")
        self.assertEqual(self.peer.got()[0]["Port"], 9)

    def test_none_without_an_alias(self) -> None:
        self.bed.rows.devices["nameless"] = DeviceRecord(id="nameless", protocol="other")
        self.bed.bind("nameless")
        self.say(b"x", device="nameless")
        self.assertEqual(self.peer.got(), [])
        self.bed.done(self.bed.core.registry.update_device("nameless", {"dev_eui": SECOND}))
        self.say(b"y", device="nameless")
        self.assertEqual([got["DevEUI"] for got in self.peer.got()], [SECOND])

    def test_what_comes_while_the_alias_is_looked_up(self) -> None:
        self.foreign()
        self.bed.storage.held = True
        for number in range(MAX_WAITING + 50):
            self.say(b"%d" % number)
        self.assertEqual(self.peer.got(), [])
        self.bed.storage.go_on()
        self.bed.storage.held = False
        got = self.peer.got()
        self.assertEqual({one["DevEUI"] for one in got}, {FOREIGN})
        self.assertEqual([b64decode(one["payload"]) for one in got], [b"%d" % number for number in range(MAX_WAITING)])
        self.bed.done(self.bed.core.registry.update_device("foreign", {"dev_eui": SECOND}))
        self.say(b"x")
        self.assertEqual([one["DevEUI"] for one in self.peer.got()], [SECOND])

    def test_an_id_that_is_an_eui(self) -> None:
        for device in (SECOND, MAC):
            self.bed.rows.devices[device] = DeviceRecord(id=device, protocol="other")
            self.bed.bind(device)
            self.say(b"x", device=device)
        self.assertEqual([got["DevEUI"] for got in self.peer.got()], [SECOND])

    def test_storage_is_away_for_a_moment(self) -> None:
        self.foreign()
        self.bed.storage.away = True
        self.say(b"lost")
        self.bed.storage.away = False
        self.say(b"found")
        self.assertEqual([b64decode(got["payload"]) for got in self.peer.got()], [b"found"])


class BroadcastTests(Stage):
    BROADCAST = {"CsEUI": CS_EUI, "payload": "AQ==", "Port": 21}

    def class_c(self, eui: str, addr: str) -> Any:
        mote = self.bed.abp(eui, addr, **{"class": "C"})
        self.uplink(mote)
        return mote

    def test_to_each_class_c_mote(self) -> None:
        motes = [self.class_c(f"CC0000000000000{n}", f"260200{n:02X}") for n in range(3)]
        self.bed.register(SECOND, **{"class": "C"})  # has not joined
        other = self.class_c("CC00000000000009", "26020009")
        self.bed.done(self.bed.core.registry.unbind("one", other.dev_eui))
        self.peer.got()
        self.gateway.sent()
        (answer,) = self.peer.ask(" BROADCAST ", **self.BROADCAST, TryCnt=2, AppEUI="0000000000000001")
        self.assertEqual((answer["CODE"], answer["CMD"], answer["MSG"]), (1, "BROADCAST", "BROADCAST OK"))
        self.assertEqual(answer["AppEUI"], "0000000000000001")
        self.bed.advance(1)
        self.assertEqual(self.gateway.sent(), [])  # none of them is of that AppEUI
        self.bed.advance(900)
        self.gateway.pull()
        self.assertEqual(said(self.peer.ask("BROADCAST", **self.BROADCAST, TryCnt=2))[-1], (1, "BROADCAST OK"))
        self.bed.advance(10)
        frames = self.gateway.frames()
        self.assertEqual(len(frames), 6)
        for mote in motes:
            own = [frame for frame in frames if frame[1:5] == int(mote.session.dev_addr).to_bytes(4, "little")]
            self.assertEqual([mote.reads(frame).payload for frame in own], [b"\x01"] * 2)
        self.assertEqual([got for got in self.peer.got() if got["CMD"] == "SENDTO"], [])

    def test_of_one_app_eui(self) -> None:
        self.bed.register(SECOND, **{"class": "C"})
        join(self.bed, self.gateway, SECOND)
        self.bed.advance(5)
        self.peer.got()
        self.peer.ask("BROADCAST", **self.BROADCAST, AppEUI=JOIN_EUI)
        self.assertEqual(self.peer.ask("QUERYLEN", DevEUI=SECOND)[0]["Qlen"], 1)

    def test_not_too_often(self) -> None:
        self.assertEqual(said(self.peer.ask("BROADCAST", **self.BROADCAST)), [(1, "BROADCAST OK")])
        self.bed = self.bed.reborn()
        self.peer = self.bed.customer()
        self.bed.advance(899)
        self.assertEqual(said(self.peer.ask("BROADCAST", **self.BROADCAST)), [(-101, "too frequently")])
        other = self.bed.customer(OTHER_EUI)
        self.assertEqual(said(other.ask("BROADCAST", **{**self.BROADCAST, "CsEUI": OTHER_EUI}))[0][0], 1)
        self.bed.advance(1.1)
        self.assertEqual(said(self.peer.ask("BROADCAST", **self.BROADCAST)), [(1, "BROADCAST OK")])

    def test_a_full_queue_and_no_disk(self) -> None:
        mote = self.class_c("CC00000000000001", "26020001")
        self.gateway.silent = True
        self.bed.core.commands.max_queued = 3
        self.peer.got()
        self.assertEqual(said(self.peer.ask("BROADCAST", **self.BROADCAST, TryCnt=5)), [(1, "BROADCAST OK")])
        self.assertEqual(self.bed.core.commands.queued(mote.dev_eui), 3)
        self.bed.advance(901)
        self.gateway.pull()
        self.peer.got()
        self.bed.storage.held = True
        self.assertEqual(self.peer.ask("BROADCAST", **self.BROADCAST), [])
        for away in (False, False, False, True):
            self.bed.storage.away = away
            self.bed.storage.go_on()
        self.assertEqual(said(self.peer.got()), [(0, "TRY LATER")])

    def test_two_at_once(self) -> None:
        second = self.bed.customer(service=1)
        self.bed.storage.held = True
        self.assertEqual(self.peer.ask("BROADCAST", **self.BROADCAST), [])
        self.assertEqual(said(second.ask("BROADCAST", **self.BROADCAST)), [(-101, "too frequently")])

    def test_wrong_parameters(self) -> None:
        cases: tuple[tuple[dict[str, Any], tuple[int, str]], ...] = (
            ({"Port": None}, (-1, "PORT PARAMETER ERROR")),
            ({"TryCnt": 0}, (-1, "TRYCNT PARAMETER ERROR")),
            ({"TryCnt": 11}, (-1, "TRYCNT PARAMETER ERROR")),
            ({"payload": "?"}, (-3, "PAYLOAD ERROR")),
        )
        for fields, answer in cases:
            self.assertEqual(said(self.peer.ask("BROADCAST", **{**self.BROADCAST, **fields})), [answer])
        self.assertEqual(said(self.peer.ask("BROADCAST", **self.BROADCAST)), [(1, "BROADCAST OK")])


class GatewayTests(Stage):
    def test_best_gateway(self) -> None:
        other = self.bed.forwarder(OTHER)
        self.peer.got()
        self.assertEqual(said(self.peer.ask("GETPRIORGW", DevEUI=MOTE)), [(-2, "GATEWAY NOT FOUND")])
        frame = self.mote.says(b"x")
        self.gateway.hears(frame, lsnr=2.0)
        other.hears(frame, lsnr=5.0)
        self.bed.advance(0.3)
        self.peer.got()
        self.assertEqual(said(self.peer.ask("GETPRIORGW", DevEUI=MOTE)), [(1, OTHER)])
        self.assertEqual(said(self.peer.ask("GETPRIORGW", DevEUI=SECOND)), [(-5, "DEVEUI ERROR")])
        self.bed.register(SECOND)
        self.assertEqual(self.peer.ask("GETPRIORGW", DevEUI=SECOND)[0]["AppEUI"], JOIN_EUI)

    def test_information(self) -> None:
        (answer,) = self.peer.ask("GETGWINFO", AppEUI="0000000000000001", DevEUI=GATEWAY)
        nothing = dict.fromkeys(("rxnb", "rxok", "rxfw", "ackr", "dwnb", "txnb"), 0)
        self.assertEqual(
            answer,
            {
                "CODE": 0,
                "CsEUI": CS_EUI,
                "AppEUI": "0000000000000001",
                "DevEUI": GATEWAY,
                "CMD": "GETGWINFO",
                "Token": 102,
                "MSG": {
                    "loraregion": "unknownRegion",
                    "address": "192.0.2.1:50001",
                    "protocol": "UDP",
                    "fcstat": nothing,
                    "posn": {"gps": False},
                },
            },
        )
        stat = {"lati": 30.1, "long": 103.5, "alti": 500, "rxnb": 2, "rxok": 2, "ackr": 100.0, "dwnb": 1}
        self.gateway.push(stat={"time": "2026-01-01 00:00:00 GMT", **stat})
        found = self.peer.ask("GETGWINFO", DevEUI=GATEWAY)[0]["MSG"]
        self.assertEqual(found["posn"], {"gps": True, "long": 103.5, "lati": 30.1, "alti": 500})
        self.assertEqual(found["fcstat"], {**nothing, "rxnb": 2, "rxok": 2, "ackr": 100, "dwnb": 1})
        self.bed.center.reload(Settings(gateway_info_code=1))
        self.assertEqual(self.peer.ask("GETGWINFO", DevEUI=GATEWAY)[0]["CODE"], 1)

    def test_region_of_a_gateway(self) -> None:
        """The document knows two words, for all plans of CN470 and all groups of AS923."""
        for name in REGIONS:
            self.bed.network.gateways.register(GatewayRecord(eui=GATEWAY, region=name))
            told = self.peer.ask("GETGWINFO", DevEUI=GATEWAY)[0]["MSG"]["loraregion"]
            family = name[:5]
            self.assertEqual(told, family if family in ("cn470", "as923") else "unknownRegion", name)

    def test_no_information(self) -> None:
        for eui, answer in (
            (OTHER, (-2, "GATEWAY NOT FOUND")),
            (MOTE, (-2, "GATEWAY NOT FOUND")),
            ("x", (-5, "DEVEUI ERROR")),
            (None, (-5, "DEVEUI ERROR")),
        ):
            self.assertEqual(said(self.peer.ask("GETGWINFO", DevEUI=eui)), [answer])
        self.bed.center.reload(Settings(gateways="none"))
        self.assertEqual(said(self.peer.ask("GETGWINFO", DevEUI=GATEWAY)), [(-2, "GATEWAY NOT FOUND")])

    def test_state(self) -> None:
        other = self.bed.customer(OTHER_EUI)
        self.bed.advance(31)
        self.assertEqual(
            self.peer.take(),
            b'{"CODE":1,"Token":1,"CMD":"GWSTATEUPLOAD","GWEUI":"AA555A0000000001","STATE":"OFFLIN",'
            b'"MSG":"GWSTATEUPLOAD"}\0',
        )
        self.bed.center.reload(Settings(offline_word="OFFLINE"))
        self.gateway.pull()
        self.bed.advance(31)
        self.assertEqual([got["STATE"] for got in self.peer.got()], ["ONLINE", "OFFLINE"])
        self.bed.center.reload(Settings(gateways="none"))
        self.gateway.pull()
        self.assertEqual((self.peer.got(), len(other.got())), ([], 3))


class Gateway88Tests(Stage):
    """Gateways of the 0x88 protocol: devices with a MAC, that take a remote_control."""

    GWCOMSEND = {"CsEUI": CS_EUI, "DevEUI": MAC_EUI, "payload": "AQI=", "BrandRate": 9600, "ParityCheck": 2}

    def connect(self, dev_eui: str | None = None) -> Link:
        self.bed.rows.devices[MAC] = DeviceRecord(id=MAC, protocol="gateway88", dev_eui=dev_eui)
        self.bed.bind(MAC)
        link = Link()
        self.bed.core.devices.attach(DeviceRef("gateway88", MAC), link, lambda: (LastValues(), {}))  # type: ignore[arg-type]  # all of it that is used
        live = self.bed.core.devices.get(MAC)
        assert live is not None
        self.bed.core.commands.ready(live)
        self.live = live
        return link

    def reply(self, link: Link, status: str, result: Any) -> None:
        self.bed.core.commands.reply(MAC, Reply(link.got[-1].id, status, result, self.bed.clock.seconds()))

    def test_euis(self) -> None:
        self.assertEqual((eui_of_mac(MAC), mac_of_eui(MAC_EUI), mac_of_eui(MOTE)), (MAC_EUI, MAC, None))
        self.assertIsNone(eui_of_mac("something"))

    def test_passed_through(self) -> None:
        link = self.connect()
        self.peer.got()
        self.assertEqual(self.peer.ask(" GWCOMSEND", **self.GWCOMSEND, AppEUI="0000000000000001"), [])
        order = {"rs485": {"payload": "AQI=", "baud_rate": 9600, "parity": 2}}
        self.assertEqual([command.payload for command in link.got], [order])
        self.reply(link, SUCCEEDED, {"ack": {"payload": "AwQ="}})
        (answer,) = self.peer.got()
        self.assertEqual(
            (answer["CODE"], answer["CMD"], answer["MSG"], answer["payload"], answer["AppEUI"], answer["DevEUI"]),
            (1, "GWCOMSEND", "GWCOMUPLOAD", "AwQ=", "0000000000000001", MAC_EUI),
        )
        self.assertNotIn("TXGW", answer)

    def test_an_answer_in_words_of_its_own(self) -> None:
        for result in ({"result": 0, "cmd": "x"}, {"ack": {"payload": 'a"}'}}, "text", None):
            bed_link = self.connect(FOREIGN)
            self.peer.got()
            self.peer.ask("GWCOMSEND", **{**self.GWCOMSEND, "DevEUI": FOREIGN})
            self.reply(bed_link, SUCCEEDED, result)
            (answer,) = self.peer.got()
            self.assertEqual(answer["MSG"], "GWCOMUPLOAD")
            self.assertEqual(answer["payload"], b64encode(b64decode(answer["payload"], validate=True)).decode())

    def test_refused_or_silent(self) -> None:
        link = self.connect()
        self.peer.got()
        self.peer.ask("GWCOMSEND", **self.GWCOMSEND)
        self.reply(link, FAILED, {"error": "no"})
        self.assertEqual(said(self.peer.got()), [(-6, "SEND FAIL 11")])
        self.peer.ask("GWCOMSEND", **self.GWCOMSEND)
        self.bed.core.devices.detach(self.live, link, "idle")  # type: ignore[arg-type]  # all of it that is used
        self.bed.advance(29)
        self.gateway.pull()
        self.bed.advance(2)
        self.assertEqual([got["MSG"] for got in self.peer.got() if got["CMD"] == "GWCOMSEND"], ["SEND FAIL 8"])
        self.assertEqual(said(self.peer.ask("GWCOMSEND", **self.GWCOMSEND)), [(-6, "SEND FAIL 1")])

    def test_a_packet_forwarder_or_nothing(self) -> None:
        for fields, answer in (
            ({"DevEUI": GATEWAY}, (-6, "SEND FAIL 1")),
            ({"DevEUI": MAC_EUI}, (-2, "GATEWAY NOT FOUND")),
            ({"DevEUI": "x"}, (-5, "DEVEUI ERROR")),
            ({"BrandRate": "x"}, (-1, "BRANDRATE PARAMETER ERROR")),
            ({"ParityCheck": 3}, (-1, "PARITYCHECK PARAMETER ERROR")),
            ({"payload": "?"}, (-3, "PAYLOAD ERROR")),
        ):
            self.assertEqual(said(self.peer.ask("GWCOMSEND", **{**self.GWCOMSEND, **fields})), [answer])

    def test_somebody_elses(self) -> None:
        self.connect()
        other = self.bed.customer(OTHER_EUI)
        fields = {**self.GWCOMSEND, "CsEUI": OTHER_EUI}
        self.assertEqual(said(other.ask("GWCOMSEND", **fields)), [(-2, "GATEWAY NOT FOUND")])

    def test_presence(self) -> None:
        other = self.bed.customer(OTHER_EUI)
        link = self.connect()
        self.bed.core.devices.detach(self.live, link, "idle")  # type: ignore[arg-type]  # all of it that is used
        states = [(got["GWEUI"], got["STATE"]) for got in self.peer.got()]
        self.assertEqual(states, [(MAC_EUI, "ONLINE"), (MAC_EUI, "OFFLIN")])
        self.assertEqual(other.got(), [])

    def test_presence_under_its_alias(self) -> None:
        self.connect(FOREIGN)
        self.assertEqual([got["GWEUI"] for got in self.peer.got()], [FOREIGN])

    def test_one_that_is_a_packet_forwarder_as_well_is_told_of_once(self) -> None:
        self.connect(GATEWAY)
        self.assertEqual(self.peer.got(), [])


class WithoutLoraTests(Stage):
    def test_everything_is_answered(self) -> None:
        bed: Bed = self.bed
        bed.core.lora = None
        for cmd, code in (("GETPRIORGW", -2), ("GETGWINFO", -2), ("BROADCAST", 1), ("SENDTO", 1), ("QUERYLEN", 1)):
            fields = {"DevEUI": MOTE, "payload": "AQ==", "Port": 5}
            self.assertEqual(self.peer.ask(cmd, **fields)[0]["CODE"], code, cmd)
