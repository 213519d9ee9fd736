"""CSREG: right and wrong challenges, old clients byte by byte, sessions and takeover, and who comes without it."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from broker.applications.loracenter import Settings
from broker.listening.listener import Listener
from broker.listening.settings import Limits
from tests.applications.loracenter.bed import CS_EUI, KEY, OTHER_EUI, Bed, Customer, frame, registration
from tests.behaviour import StreamBehaviour

RIGHT = (
    (CS_EUI, 1234, "C3E8BB4BD4F3EFC00F18D9786663A63C"),
    (CS_EUI, 1234, "3CA6636678D9180FC0EFF3D44BBBE8C3"),
    (CS_EUI.lower(), "1234", " 0xc3e8bb4bd4f3efc00f18d9786663a63c "),
    ("0x" + CS_EUI, 4294967295, "F3F9765F30C3BD97A14290406B6CC050"),
    (CS_EUI, 6, "E465473EC79D9209EB8CC75DB972E68"),
    (CS_EUI, 371, "5A3B0532BC6BDE5153FBFD4A3FE02C"),
    (CS_EUI, 497, "FBA16F2825FC2FF92C033FBC260784"),
)
WRONG: tuple[tuple[Any, Any, Any], ...] = (
    (CS_EUI, 1234, "6B97AA5602674BD6E6C5F76DB2C3F51F"),
    (CS_EUI, 1234, "6F1E545B6E89E386006EA1DEBFBFF3D4"),
    (CS_EUI, 1234, "91C88290C7595B06265C060C2E3138F6"),
    (CS_EUI, 1234, "28B34EAC0B43FC280E20F65698A3DC6C"),
    (CS_EUI, 1235, "C3E8BB4BD4F3EFC00F18D9786663A63C"),
    (CS_EUI, 1234, "ABCDEF1234567890ABCDEF1234567890"),
    (CS_EUI, 1234, ""),
    (CS_EUI, 1234, None),
    (CS_EUI, 1234, "C3E8BB4BD4F3EFC00F18D9786663A63C00"),
    (CS_EUI, None, "C3E8BB4BD4F3EFC00F18D9786663A63C"),
    (CS_EUI, -1, "C3E8BB4BD4F3EFC00F18D9786663A63C"),
    ("CC555A0000000000", 1234, "C3E8BB4BD4F3EFC00F18D9786663A63C"),
    ("nonsense", 1234, "C3E8BB4BD4F3EFC00F18D9786663A63C"),
    (None, 1234, "C3E8BB4BD4F3EFC00F18D9786663A63C"),
    (5, 1234, "C3E8BB4BD4F3EFC00F18D9786663A63C"),
)


class RegistrationTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.bed = Bed()

    def tearDown(self) -> None:
        self.assertEqual(self.bed.faults, [])
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_the_documents_bytes(self) -> None:
        peer = Customer(self.bed)
        peer.send(
            b'{"CMD":"CSREG","Token":1,"CsEUI":"AA555A0000000000","AppNonce":1234,'
            b'"Challenge":"C3E8BB4BD4F3EFC00F18D9786663A63C","ServiceId":0}\0'
        )
        self.assertEqual(
            peer.take(),
            b'{"CODE":1,"CsEUI":"AA555A0000000000","CMD":"CSREG","Token":1,"ServiceId":0,"MSG":"CSREG ACCEPT"}\0',
        )
        self.assertEqual(peer.connection.identity, "AA555A0000000000/0")

    def test_right(self) -> None:
        for eui, nonce, challenge in RIGHT:
            peer = Customer(self.bed)
            (answer,) = peer.ask("CSREG", CsEUI=eui, AppNonce=nonce, Challenge=challenge)
            self.assertEqual((answer["CODE"], answer["CsEUI"]), (1, CS_EUI), challenge)
            self.assertNotIn("ServiceId", answer)

    def test_wrong(self) -> None:
        for eui, nonce, challenge in WRONG:
            fields = {"CsEUI": eui, "AppNonce": nonce, "Challenge": challenge}
            peer = Customer(self.bed)
            (answer,) = peer.ask("CSREG", **{name: value for name, value in fields.items() if value is not None})
            self.assertEqual((answer["CODE"], answer["MSG"], peer.reason), (0, "CSREG Refused", ""), fields)
            peer.send(frame({"CMD": "CSREG", "Token": 9, **registration()}))
            self.bed.advance(1.1)
            self.assertEqual((peer.got(), peer.reason), ([], "auth_failed"))
            self.bed.advance(70)  # failures of another minute

    def test_an_address_that_guesses_is_answered_late(self) -> None:
        for number in range(14):
            peer = Customer(self.bed)
            answers = peer.ask("CSREG", CsEUI=CS_EUI, AppNonce=1, Challenge="00")
            self.assertEqual(len(answers), 1 if number < 10 else 0, number)
        self.assertEqual((peer.got(), peer.reason), ([], ""))
        self.bed.advance(8.1)
        self.assertEqual(peer.got()[0]["CODE"], 0)
        self.bed.advance(1.1)
        self.assertEqual(peer.reason, "auth_failed")

    def test_an_application_without_a_key(self) -> None:
        for unproven, code in ((False, 0), (True, 1)):
            bed = Bed(Settings(unproven=unproven))
            keyless = {"id": "open", "kind": "loracenter", "cs_eui": "42475858FFFFFF"}
            bed.done(bed.core.registry.add_application(keyless))
            # What an old client sends: AppEUI, a dummy challenge, no ServiceId.
            peer = Customer(bed)
            dummy = {"AppEUI": "42475858FFFFFF", "AppNonce": 1234, "Challenge": "ABCDEF1234567890ABCDEF1234567890"}
            (answer,) = peer.ask("CSREG", **dummy)
            self.assertEqual((answer["CODE"], answer["CsEUI"]), (code, "0042475858FFFFFF"))
            # Who has a key needs it in any case.
            (answer,) = Customer(bed).ask("CSREG", **{**dummy, "AppEUI": CS_EUI})
            self.assertEqual(answer["CODE"], 0)

    def test_other_kinds_and_disabled_ones(self) -> None:
        registry = self.bed.core.registry
        self.bed.done(registry.add_application({"id": "m", "kind": "mqtt", "cs_eui": "05", "app_key": KEY}))
        self.bed.done(registry.update_application("two", {"disabled": True}))
        for eui in ("0000000000000005", OTHER_EUI):
            self.assertEqual(Customer(self.bed).register(eui)[0]["CODE"], 0)

    def test_storage_is_away(self) -> None:
        self.bed.storage.away = True
        peer = Customer(self.bed)
        self.assertEqual(peer.register()[0]["MSG"], "CSREG Refused")
        self.bed.advance(1.1)
        self.assertEqual(peer.reason, "unavailable")

    def test_commands_before_it(self) -> None:
        peer = Customer(self.bed)
        for _ in range(3):
            (answer,) = peer.ask("SENDTO", CsEUI=CS_EUI, DevEUI="01")
            self.assertEqual((answer["CODE"], answer["CMD"], answer["MSG"]), (0, "SENDTO", "CSREG Refused"))
        peer.register()
        self.bed.advance(1.1)
        self.assertEqual((peer.got(), peer.reason), ([], "protocol_error"))
        other = Customer(self.bed)
        other.ask("UPLOAD")
        self.assertEqual(other.register()[0]["CODE"], 1)

    def test_takeover_by_the_same_service_alone(self) -> None:
        first, second = self.bed.customer(), self.bed.customer(service=1)
        again = self.bed.customer(service=0)
        self.assertEqual((first.reason, second.reason, again.reason), ("takeover", "", ""))
        self.assertEqual([len(one.sessions) for one in self.bed.center.customers.all()], [2])
        second.hang_up()
        again.hang_up()
        self.assertEqual(self.bed.center.customers.all(), [])

    def test_too_many_services(self) -> None:
        bed = Bed(Settings(max_services=2))
        for service in (1, 2):
            bed.customer(service=service)
        self.assertEqual(Customer(bed).register(service=3)[0]["CODE"], 0)
        bed.customer(service=2)

    def test_again_on_the_same_connection(self) -> None:
        peer = self.bed.customer()
        self.assertEqual(peer.register(service=7)[0]["CODE"], 1)
        self.assertEqual(peer.connection.identity, f"{CS_EUI}/7")
        self.assertEqual([list(one.sessions) for one in self.bed.center.customers.all()], [[7]])
        self.assertEqual(peer.register(OTHER_EUI, key=CS_EUI * 2)[0]["CODE"], 0)
        self.bed.advance(1.1)
        self.assertEqual(peer.reason, "auth_failed")

    def test_what_ends_it(self) -> None:
        registry = self.bed.core.registry
        for end in (
            lambda: registry.update_application("one", {"app_key": OTHER_EUI * 2}),
            lambda: registry.update_application("one", {"app_key": KEY, "disabled": True}),
            lambda: registry.delete_application("one"),
        ):
            peer = Customer(self.bed)
            key = self.bed.rows.applications["one"].app_key
            self.assertEqual(peer.register(key=key)[0]["CODE"], 1)
            self.bed.done(end())
            self.assertEqual(peer.reason, "removed")
            if "one" in self.bed.rows.applications:
                self.bed.done(registry.update_application("one", {"disabled": False}))

    def test_a_key_that_changes_meanwhile(self) -> None:
        self.bed.storage.held = True
        changing = self.bed.core.registry.update_application("one", {"app_key": OTHER_EUI * 2})
        peer = Customer(self.bed)
        peer.register()
        for _ in range(10):  # the old key is read, then it changes, then the bindings are read
            self.bed.storage.go_on()
        self.assertTrue(changing.called)
        self.assertEqual([answer["CODE"] for answer in peer.got()], [0])

    def test_csquit_when_all_is_answered(self) -> None:
        peer = self.bed.customer()
        self.bed.storage.held = True
        peer.send(frame({"CMD": "QUERYLEN", "Token": 1, "DevEUI": "01"}) + frame({"CMD": "CSQUIT", "Token": 2}))
        self.assertEqual(peer.reason, "")
        self.bed.storage.go_on()
        self.assertEqual([answer["MSG"] for answer in peer.got()], ["DEVEUI ERROR"])
        self.assertEqual(peer.reason, "client_closed")

    def test_keep_alives(self) -> None:
        peer = self.bed.customer()
        peer.send(b"\0\0" + b"1\0" + b" \r\n\0" + b"\0")
        self.assertEqual((peer.take(), peer.reason, self.bed.center.counted.keep_alives), (b"", "", 5))

    def test_idleness_only_where_it_is_set(self) -> None:
        for timeout, reason in ((0.0, ""), (60.0, "idle")):
            bed = Bed(Settings(idle_timeout=timeout))
            peer = bed.customer()
            for _ in range(3):
                bed.advance(50)
                peer.send(b"\0")
            self.assertEqual(peer.reason, "")
            bed.advance(62)
            self.assertEqual(peer.reason, reason)

    def test_what_is_no_message(self) -> None:
        bed = Bed(Settings(max_malformed=5))
        peer = bed.customer()
        for _ in range(3):
            for junk in (b"[]\0", b"nonsense\0", b'{"a":\0', b"\xff\xfe\0"):
                peer.send(junk)
            self.assertEqual((peer.take(), peer.reason), (b"", ""))
            self.assertEqual(peer.ask("NOSUCH")[0]["MSG"], "UNKNOWN CMD")
        self.assertEqual(bed.center.stats.malformed, 12)
        peer.send(b"[]\0" * 5)
        self.assertEqual(peer.reason, "malformed")

    def test_a_spoilt_message_is_read_in_time(self) -> None:
        """Texts without an end, one after the other: no square of the time."""
        peer = self.bed.customer()
        peer.send(b'{"a":"' + b'\\"' * 32_000 + b"\0")
        peer.send(b"{" + b"," * 65_000 + b"\0")
        self.assertEqual(self.bed.center.stats.malformed, 2)

    def test_who_stops_reading(self) -> None:
        bed = Bed(Settings(limits=Limits(max_outbox=100_000)))
        mote = bed.abp()
        gateway = bed.forwarder()
        slow, fast = bed.customer(service=1), bed.customer(service=2)
        slow.transport.stop_reading()
        for number in range(700):
            for peer in bed.center.customers.all():
                peer.tell(b"x" * 499 + b"\0")
            if number % 100 == 0:
                mote.says(b"x", gateway)
                bed.advance(0.3)
        self.assertEqual(slow.reason, "")
        self.assertGreater(bed.center.stats.dropped["queue_full"], 100)
        self.assertLess(slow.connection.outbox.size, 101_000)
        bed.advance(5.1)
        bed.advance(0.1)
        self.assertEqual((slow.reason, fast.reason), ("slow_reader", ""))
        self.assertEqual(len(fast.take().split(b"\0")) - 1, 707)


class BehaviourTests(StreamBehaviour, SynchronousTestCase):
    garbage_reasons = StreamBehaviour.garbage_reasons | {"flood", "client_closed"}

    def make_listener(self, clock: Clock, limits: Limits) -> Listener:
        self.bed = Bed(Settings(limits=limits), clock=clock)
        return self.bed.center

    def login_bytes(self, number: int = 0) -> bytes:
        return frame({"CMD": "CSREG", "Token": 1, **registration((CS_EUI, OTHER_EUI)[number])})

    def one_valid_message(self) -> bytes:
        return b'{"CMD":"QUERYLEN","Token":5,"DevEUI":"01"}\0'

    def half_message(self) -> bytes:
        return b'{"CMD":"QUERYLEN","Tok'

    def buffered(self, connection: Any) -> int:
        return int(connection.decoder.buffered)
