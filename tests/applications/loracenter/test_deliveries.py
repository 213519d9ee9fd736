"""SENDTO through its whole life with real LoRaWAN under it, and what is asked about queues."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from broker.applications.loracenter import Settings
from broker.devices.lorawan.air import Emission
from broker.devices.lorawan.regions import REGIONS
from broker.model.messages import FAILED, PENDING, SUCCEEDED, DeviceRef, Reply
from broker.model.records import Actuator, DeviceRecord, Product
from broker.routing.values import LastValues
from tests.applications.loracenter.bed import CS_EUI, MOTE, OTHER_EUI, Bed, Customer, frame
from tests.devices.lorawan.bed import GATEWAY, Forwarder, Mote

SENDTO = {"CsEUI": CS_EUI, "DevEUI": MOTE, "Port": 231}
SECOND = "AA00000000000002"
FOREIGN = "FF00000000000001"


def text(payload: bytes) -> str:
    return b64encode(payload).decode()


def said(answers: list[dict[str, Any]]) -> list[tuple[int, str]]:
    return [(answer["CODE"], answer["MSG"]) for answer in answers]


class Link:
    """A device of another protocol."""

    protocol = "other"
    window = 10
    answer_timeout = 30.0
    pending_timeout = 300.0

    def __init__(self) -> None:
        self.got: list[Any] = []

    def send_command(self, command: Any) -> None:
        self.got.append(command)

    def close_link(self, reason: str) -> None:
        """Nothing to close."""


class Stage(SynchronousTestCase):
    settings = Settings()

    def setUp(self) -> None:
        self.bed = Bed(self.settings)
        self.gateway = self.bed.forwarder()
        self.mote = self.bed.abp()
        self.peer = self.bed.customer()

    def tearDown(self) -> None:
        self.assertEqual(self.bed.faults, [])
        self.assertEqual(self.flushLoggedErrors(), [])

    def send(self, data: bytes = b"\x01", /, **fields: Any) -> list[dict[str, Any]]:
        given = {**SENDTO, "payload": text(data), **fields}
        return self.peer.ask("SENDTO", **{name: value for name, value in given.items() if value is not None})

    def uplink(self, mote: Mote | None = None, *through: Forwarder, **fields: Any) -> None:
        (mote or self.mote).says(b"up", *(through or (self.gateway,)), **fields)
        self.bed.advance(3)

    def foreign(self, **fields: Any) -> Link:
        """A device of another protocol, connected, with an alias."""
        record = DeviceRecord(id="foreign", protocol="other", dev_eui=FOREIGN, **fields)
        self.bed.rows.devices["foreign"] = record
        self.bed.bind("foreign")
        link = Link()
        live = self.bed.core.devices.attach(DeviceRef("other", "foreign"), link, lambda: (LastValues(), {}))  # type: ignore[arg-type]  # all of it that is used
        self.bed.core.commands.ready(live)
        return link

    def answered(self, link: Link, status: str, result: Any) -> None:
        command = link.got[-1]
        self.bed.core.commands.reply("foreign", Reply(command.id, status, result, self.bed.clock.seconds()))


class SendToTests(Stage):
    def test_unconfirmed(self) -> None:
        self.peer.send(
            b'{"CMD":"SENDTO","CsEUI":"AA555A0000000000","Token":2,"DevEUI":"AA00000000000001",'
            b'"payload":"qBMDDAACzBY=","Port":231}\0'
        )
        self.assertEqual(
            self.peer.take(),
            b'{"CODE":1,"CsEUI":"AA555A0000000000","DevEUI":"AA00000000000001","CMD":"SENDTO","Token":2,"Qlen":1,'
            b'"MSG":"READY SEND"}\0',
        )
        self.mote.says(b"up", self.gateway)
        self.bed.advance(0.25)
        self.assertEqual(self.peer.got()[0]["CMD"], "UPLOAD")
        self.bed.advance(0.4)
        self.assertEqual(
            self.peer.take(),
            b'{"CODE":2,"CsEUI":"AA555A0000000000","DevEUI":"AA00000000000001","CMD":"SENDTO","Token":2,'
            b'"TXGW":"AA555A0000000001","MSG":"SENDED TO GW"}\0',
        )
        (down,) = [self.mote.reads(frame) for frame in self.gateway.frames()]
        self.assertEqual((down.fport, down.payload.hex(), down.confirmed), (231, "a813030c0002cc16", False))

    def test_priority_and_qlen(self) -> None:
        for number, priority in enumerate((None, 64, 0, 33)):
            (answer,) = self.send(bytes((number,)), PRIOR=priority)
            self.assertEqual(answer["Qlen"], number + 1)
        got = []
        for _ in range(4):
            self.uplink()
            got += [self.mote.reads(frame).payload[0] for frame in self.gateway.frames()]
        self.assertEqual(got, [1, 3, 0, 2])

    def test_confirmed_is_sent_three_times(self) -> None:
        self.send(Confirm=True)
        self.peer.got()
        for _ in range(3):
            self.uplink()
        self.uplink()
        answers = [answer for answer in self.peer.got() if answer["CMD"] == "SENDTO"]
        self.assertEqual(said(answers), [(2, "SENDED TO GW")] * 3 + [(-6, "SEND FAIL 8")])
        self.assertEqual(len({bytes(frame) for frame in self.gateway.frames()}), 1)

    def test_confirmed_and_acknowledged(self) -> None:
        self.send(Confirm="true")
        self.uplink()
        self.uplink(ack=True)
        answers = [answer for answer in self.peer.got() if answer["CMD"] == "SENDTO"]
        self.assertEqual(said(answers), [(2, "SENDED TO GW")])

    def test_acknowledged_though_no_gateway_answered(self) -> None:
        self.gateway.silent = True
        self.send(Confirm=True)
        self.mote.says(b"up", self.gateway)
        self.bed.advance(1)
        self.uplink(ack=True)
        answers = [answer for answer in self.peer.got() if answer["CMD"] == "SENDTO"]
        self.assertEqual(said(answers), [(2, "SENDED TO GW")])

    def test_what_gateways_refuse(self) -> None:
        for error, number in (("TOO_LATE", 2), ("TX_FREQ", 5), ("GPS_UNLOCKED", 7)):
            self.gateway.answers = [error] * 8
            self.send()
            self.peer.got()
            self.uplink()
            self.assertEqual(said(self.peer.got())[-1], (-6, f"SEND FAIL {number}"))
            self.gateway.answers = []

    def test_too_long(self) -> None:
        self.send(b"x" * 243)
        self.peer.got()
        self.uplink()
        self.assertEqual(said(self.peer.got())[-1], (-6, "SEND FAIL 9"))

    def test_duty_cycle(self) -> None:
        band = REGIONS["eu868"].band_of(868_100_000)
        rx2 = REGIONS["eu868"].band_of(869_525_000)
        assert band is not None and rx2 is not None
        gateway = self.bed.network.gateways.get(GATEWAY)
        assert gateway is not None
        for each in (band, rx2):
            local = gateway.clock.reading(self.bed.clock.seconds())
            length = int(each.duty * 3_600_000_000)
            gateway.air.add(Emission(local - length, local, length, each.low, each))
        self.send()
        self.peer.got()
        self.uplink()
        code, milliseconds = said(self.peer.got())[-1]
        self.assertEqual(code, -7)
        # 360 s in the band of RX2 begin to leave the hour after 3,240 s; 72 of them have to: 80 % are open to it.
        # RX2 is two seconds from now, and RX1, with 36 s in its band, would be later.
        self.assertEqual(milliseconds, "3310000")
        self.assertEqual(self.peer.ask("QUERYLEN", DevEUI=MOTE)[0]["Qlen"], 0)

    def test_it_waited_too_long(self) -> None:
        self.bed = Bed(Settings(queue_time=100.0))
        self.bed.abp()
        self.peer = self.bed.customer()
        self.send()
        self.bed.advance(101)
        self.assertEqual(said(self.peer.got()), [(-6, "SEND FAIL 10")])

    def test_wrong_parameters(self) -> None:
        port, payload, eui = (-1, "PORT PARAMETER ERROR"), (-2, "PAYLOAD ERROR"), (-5, "DEVEUI ERROR")
        cases: tuple[tuple[dict[str, Any], tuple[int, str]], ...] = (
            ({"Port": 0}, port),
            ({"Port": 256}, port),
            ({"Port": "x"}, port),
            ({"Port": 1.5}, port),
            ({"Port": True}, port),
            ({"PRIOR": 65}, (-1, "PRIOR PARAMETER ERROR")),
            ({"PRIOR": -1}, (-1, "PRIOR PARAMETER ERROR")),
            ({"payload": "qBMD.AAC"}, payload),
            ({"payload": None}, payload),
            ({"payload": 5}, payload),
            ({"DevEUI": "AA00000000000009"}, eui),
            ({"DevEUI": SECOND}, eui),  # somebody else's
            ({"DevEUI": "nonsense"}, eui),
            ({"DevEUI": None}, eui),
            ({"CsEUI": OTHER_EUI}, (0, "CSEUI ERROR")),
        )
        self.bed.register(SECOND)
        self.bed.done(self.bed.core.registry.unbind("one", SECOND))
        for fields, answer in cases:
            self.assertEqual(said(self.send(**fields)), [answer], fields)
        self.assertEqual(self.bed.storage.commands, {})

    def test_an_old_client(self) -> None:
        """No Port, no padding, no CsEUI, fourteen digits of EUI, a trailing comma, names with blanks."""
        self.bed.abp("0042475800000001", "26011BDB")
        self.peer.send(
            b'{ "CMD": " SENDTO ", "Token ": 5,\r\n" DevEUI": "42475800000001", "payload": "qBMDDAACzBY", }\0'
        )
        (answer,) = self.peer.got()
        self.assertEqual((answer["CODE"], answer["Token"], answer["DevEUI"]), (1, 5, "0042475800000001"))

    def test_strict_ports(self) -> None:
        self.bed = Bed(Settings(strict_ports=True))
        self.bed.abp()
        self.peer = self.bed.customer()
        answers = [said(self.send(bytes((port,)), Port=port))[0][0] for port in (19, 20, 223, 224)]
        self.assertEqual(answers, [-1, 1, 1, -1])

    def test_missing_port_is_the_motes_last(self) -> None:
        self.uplink(port=77)
        self.send(Port=None)
        self.uplink(port=78)
        self.assertEqual([self.mote.reads(frame).fport for frame in self.gateway.frames()], [78])

    def test_repeated_and_full(self) -> None:
        request = {"CMD": "SENDTO", "Token": 7, **SENDTO, "payload": "AQ=="}
        self.peer.send(frame(request) + frame(request))
        self.assertEqual(said(self.peer.got()), [(1, "READY SEND"), (-100, "REPEATED FRAME")])
        self.peer.send(frame({**request, "payload": "Ag=="}))
        self.assertEqual(said(self.peer.got()), [(1, "READY SEND")])
        for number in range(30):
            self.assertEqual(said(self.send(bytes((number,)))), [(1, "READY SEND")])
        self.assertEqual(said(self.send(b"one more")), [(-4, "SEND BUFF FULL")])

    def test_repeated_while_the_first_is_being_written(self) -> None:
        request = frame({"CMD": "SENDTO", "Token": 7, **SENDTO, "payload": "AQ=="})
        self.bed.storage.held = True
        self.peer.send(request + request + request)
        for _ in range(10):
            self.bed.storage.go_on()
        self.assertEqual([code for code, _ in said(self.peer.got())].count(1), 1)

    def test_nothing_is_promised_without_a_disk(self) -> None:
        self.bed.storage.away = True
        self.assertEqual(said(self.send()), [(0, "TRY LATER")])
        self.bed.storage.away = False
        self.bed.storage.held = True
        self.assertEqual(self.send(), [])
        self.bed.storage.go_on()
        self.bed.storage.away = True
        self.bed.storage.go_on()
        self.assertEqual(said(self.peer.got()), [(0, "TRY LATER")])
        self.assertEqual(self.bed.core.commands.open, 0)

    def test_many_at_once_in_order(self) -> None:
        self.bed = Bed(Settings(max_queued=100, max_pending=8))
        self.bed.abp()
        self.peer = self.bed.customer()
        self.bed.storage.held = True
        requests = [frame({"CMD": "SENDTO", "Token": n, **SENDTO, "payload": text(bytes((n,)))}) for n in range(50)]
        self.peer.send(b"".join(requests) + frame({"CMD": "QUERYQLEN", "Token": 99, "DevEUI": MOTE}))
        for _ in range(200):
            self.bed.storage.go_on()
        answers = self.peer.got()
        self.assertEqual([answer["Token"] for answer in answers], [*range(50), 99])
        self.assertEqual((answers[-1]["CMD"], answers[-1]["Qlen"]), ("QUERYQLEN", 50))


class LaterAnswerTests(Stage):
    """Answers after the connection, or the broker, was another one."""

    def test_to_the_same_service_else_to_any(self) -> None:
        first = self.bed.customer(service=1)
        second = self.bed.customer(service=2)
        first.ask("SENDTO", **SENDTO, payload="AQ==")
        first.ask("SENDTO", **SENDTO, payload="Ag==")
        first.hang_up()
        first = self.bed.customer(service=1)
        self.peer.hang_up()
        self.uplink()
        self.assertEqual([answer["CODE"] for answer in first.got()], [1, 2])
        self.assertEqual([answer["CMD"] for answer in second.got()], ["UPLOAD"])
        first.hang_up()
        self.uplink()
        self.assertEqual([(answer["CMD"], answer["CODE"]) for answer in second.got()], [("UPLOAD", 1), ("SENDTO", 2)])

    def test_nobody_there(self) -> None:
        self.send()
        self.peer.hang_up()
        self.uplink()
        self.assertEqual(self.bed.center.counted.undelivered, 1)

    def test_after_a_restart(self) -> None:
        (answer,) = self.send()
        self.bed = self.bed.reborn()
        self.gateway = self.bed.forwarder()
        self.mote.bed = self.bed
        self.peer = self.bed.customer()
        self.assertEqual(self.peer.ask("QUERYLEN", DevEUI=MOTE)[0]["Qlen"], 1)
        self.uplink()
        self.assertEqual(
            [(got["CODE"], got["Token"], got["TXGW"]) for got in self.peer.got() if got["CMD"] == "SENDTO"],
            [(2, answer["Token"], GATEWAY)],
        )

    def test_a_late_answer_is_no_second_one(self) -> None:
        link = self.foreign()
        self.send(b"{}", DevEUI=FOREIGN)
        self.bed.advance(31)
        self.assertEqual(said(self.peer.got())[0], (-6, "SEND FAIL 8"))
        self.answered(link, SUCCEEDED, None)
        self.assertEqual(self.peer.got(), [])


class QueueTests(Stage):
    def test_lengths(self) -> None:
        self.bed.register(SECOND)
        self.bed.done(self.bed.core.registry.unbind("one", SECOND))
        self.assertEqual(self.peer.ask("QUERYLEN", DevEUI=MOTE)[0]["Qlen"], 0)
        self.send()
        self.bed.command(b"of the administrator", self.mote)
        for cmd in ("QUERYLEN", " queryqlen "):
            (answer,) = self.peer.ask(cmd, CsEUI=CS_EUI, DevEUI=MOTE)
            self.assertEqual(
                (answer["CODE"], answer["CMD"], answer["MSG"], answer["Qlen"]),
                (1, cmd.strip().upper(), "QUEUE LEN", 2),
            )
        for eui in (SECOND, "x", None):
            self.assertEqual(said(self.peer.ask("QUERYLEN", DevEUI=eui)), [(-1, "DEVEUI ERROR")])

    def test_length_as_text(self) -> None:
        self.bed.center.reload(Settings(queue_length_in_msg=True))
        self.send()
        self.assertEqual(said(self.peer.ask("QUERYLEN", DevEUI=MOTE)), [(1, "1")])

    def test_clear(self) -> None:
        self.bed.abp(SECOND, "26011BDB")
        self.bed.command(b"of the administrator", self.mote)
        for eui in (MOTE, MOTE, SECOND):
            self.send(eui.encode(), DevEUI=eui)
        self.assertEqual(said(self.peer.ask("CLEARQ", DevEUI=MOTE)), [(1, "CLEAR QUEUE OK")])
        lengths = [self.peer.ask("QUERYLEN", DevEUI=eui)[0]["Qlen"] for eui in (MOTE, SECOND)]
        self.assertEqual(lengths, [1, 1])
        self.assertEqual(said(self.peer.ask("CLEARQ", DevEUI="05")), [(-1, "DEVEUI ERROR")])
        self.bed.advance(1)
        self.assertEqual(self.peer.got(), [])

    def test_clear_leaves_what_was_handed_over(self) -> None:
        self.send(Confirm=True)
        self.uplink()
        self.peer.got()
        self.peer.ask("CLEARQ", DevEUI=MOTE)
        self.uplink()
        self.assertEqual([answer["CODE"] for answer in self.peer.got() if answer["CMD"] == "SENDTO"], [2])

    def test_clear_all(self) -> None:
        self.bed.abp(SECOND, "26011BDB")
        other = self.bed.customer(OTHER_EUI)
        self.bed.bind(MOTE, "two")
        other.ask("SENDTO", DevEUI=MOTE, payload="BQ==")
        for eui in (MOTE, SECOND):
            self.send(DevEUI=eui)
        self.assertEqual(self.peer.ask("CLEARAQ", CsEUI=OTHER_EUI), [])
        self.assertEqual(said(self.peer.ask("CLEARAQ", CsEUI=CS_EUI)), [(1, "CLEAR CSEUI QUEUE OK")])
        lengths = [self.peer.ask("QUERYLEN", DevEUI=eui)[0]["Qlen"] for eui in (MOTE, SECOND)]
        self.assertEqual(lengths, [1, 0])

    def test_cancel(self) -> None:
        other = self.bed.customer(OTHER_EUI)
        self.bed.bind(MOTE, "two")
        (answer,) = self.send()
        token = answer["Token"]
        failed = [(-1, "Cancel Failed")]
        self.assertEqual(said(other.ask("CANCELCMD", DevEUI=MOTE, CancelToken=token)), failed)
        for fields in ({"CancelToken": 4}, {"CancelToken": "x"}, {"CancelToken": token, "DevEUI": "05"}, {}):
            self.assertEqual(said(self.peer.ask("CANCELCMD", **{"DevEUI": MOTE, **fields})), failed)
        cancel = {"DevEUI": MOTE, "CancelToken": token}
        self.assertEqual(said(self.peer.ask("CANCELCMD", **cancel)), [(1, "Canceled CMD ,OK")])
        self.assertEqual(said(self.peer.ask("CANCELCMD", **cancel)), failed)
        self.uplink()
        self.assertEqual([got["CMD"] for got in self.peer.got()], ["UPLOAD"])

    def test_cancel_behind_a_sendto_that_is_being_written(self) -> None:
        self.bed.storage.held = True
        self.peer.send(
            frame({"CMD": "SENDTO", "Token": 4, **SENDTO, "payload": "AQ=="})
            + frame({"CMD": "CANCELCMD", "Token": 5, "DevEUI": MOTE, "CancelToken": 4})
        )
        for _ in range(10):
            self.bed.storage.go_on()
        self.assertEqual(said(self.peer.got()), [(1, "READY SEND"), (1, "Canceled CMD ,OK")])

    def test_a_mote_that_is_removed(self) -> None:
        self.send()
        self.bed.done(self.bed.core.registry.delete_device(MOTE))
        self.assertEqual(said(self.peer.got()), [(-5, "DEVEUI ERROR")])


class ForeignTests(Stage):
    """A device that is no mote, with an alias."""

    def test_sent_and_answered(self) -> None:
        link = self.foreign()
        (answer,) = self.send(b'{"on":true}', DevEUI=FOREIGN, Port=1)
        self.assertEqual((answer["CODE"], answer["Qlen"]), (1, 1))
        self.assertEqual([command.payload for command in link.got], [b'{"on":true}'])
        self.answered(link, PENDING, {"working": True})
        self.assertEqual(self.peer.got(), [])
        self.answered(link, SUCCEEDED, {"on": True})
        (answer,) = self.peer.got()
        self.assertEqual((answer["CODE"], answer["MSG"], answer["DevEUI"]), (2, "SENDED TO GW", FOREIGN))
        self.assertNotIn("TXGW", answer)
        self.send(b"x", DevEUI=FOREIGN)
        self.answered(link, FAILED, {"error": "no"})
        self.assertEqual(said(self.peer.got()), [(-6, "SEND FAIL 11")])

    def test_keys_that_its_product_does_not_know(self) -> None:
        self.bed.rows.products["lamp"] = Product(
            key="lamp", name="", protocol="other", actuators=(Actuator(command_key="on"),)
        )
        self.foreign(product="lamp")
        self.assertEqual(said(self.send(b'{"off":1}', DevEUI=FOREIGN)), [(-2, "PAYLOAD ERROR")])
        for payload in (b'{"on":1}', b"bytes"):
            self.assertEqual(said(self.send(payload, DevEUI=FOREIGN)), [(1, "READY SEND")])

    def test_it_is_away(self) -> None:
        self.bed.rows.devices["foreign"] = DeviceRecord(id="foreign", protocol="other", dev_eui=FOREIGN)
        self.bed.bind("foreign")
        self.assertEqual(said(self.send(b"{}", DevEUI=FOREIGN)), [(1, "READY SEND")])
        self.assertEqual(self.peer.ask("QUERYLEN", DevEUI=FOREIGN)[0]["Qlen"], 1)

    def test_by_its_own_id_only_where_that_is_an_eui(self) -> None:
        self.foreign()
        self.assertEqual(said(self.send(DevEUI="foreign")), [(-5, "DEVEUI ERROR")])

    def test_the_customer_is_another_one(self) -> None:
        self.foreign()
        other: Customer = self.bed.customer(OTHER_EUI)
        self.assertEqual(said(other.ask("SENDTO", DevEUI=FOREIGN, payload="AQ==")), [(-5, "DEVEUI ERROR")])
