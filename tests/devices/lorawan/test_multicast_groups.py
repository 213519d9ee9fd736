"""Groups: who may be in them, what their counters belong to, who may use them, and what a restart finds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from broker.devices.lorawan.multicast.records import MEMBERS, GroupRecord, MessageRecord, unpack_counter
from broker.devices.lorawan.multicast.shapes import NewGroup, NewMessage
from broker.model.errors import Conflict, Forbidden, Invalid, LimitExceeded, NotFound, Unavailable
from broker.storage.identity import Rights
from broker.web.callers import Caller
from tests.devices.lorawan.bed import Bed, join
from tests.devices.lorawan.crowd import KEYS, MC_APP_S_KEY, MC_NWK_S_KEY, Calls, Crowd

C1, C2, C3, A1 = "AA00000000000C01", "AA00000000000C02", "AA00000000000C03", "AA00000000000A01"


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.begin(Bed(max_groups=3, max_group_members=2))
        for number, eui in enumerate((C1, C2, C3)):
            self.bed.abp(eui, f"2601010{number}", **{"class": "C"})
        self.bed.abp(A1, "26010109")

    def begin(self, bed: Bed) -> None:
        self.bed = bed
        self.do = Calls(bed).do

    def refused(self, error: type[Exception], name: str, /, group: str = "", **fields: Any) -> str:
        return str(self.assertRaises(error, self.do, name, group, **fields))

    def members(self, group: str) -> list[str]:
        return [member.dev_eui for member in self.do("list_group_members", group).items]


class GroupTests(Case):
    def test_what_is_left_out_is_made(self) -> None:
        made = self.do("add_group")
        self.assertEqual((made.name, made.region, made.frequency, made.data_rate), ("", "eu868", 869_525_000, 0))
        self.assertEqual((made.gateways, made.application, made.counter, made.members), ([], None, 0, 0))
        self.assertEqual([len(bytes.fromhex(key)) for key in (made.mc_nwk_s_key, made.mc_app_s_key)], [16, 16])
        other = self.do("add_group")
        for name in ("id", "dev_addr", "mc_nwk_s_key", "mc_app_s_key"):
            self.assertNotEqual(getattr(made, name), getattr(other, name))
        self.assertNotEqual(made.mc_nwk_s_key, made.mc_app_s_key)

    def test_keys_are_shown_where_they_are_asked_for(self) -> None:
        self.do("add_group", id="hall", **{name: value.lower() for name, value in KEYS.items()})
        keys = self.do("get_group_keys", "hall")
        self.assertEqual(msgspec.to_builtins(keys), {"id": "hall", **KEYS})
        others = [self.do("get_group", "hall"), self.do("list_groups"), self.do("change_group", "hall", name="x")]
        group = self.bed.network.multicast.groups.get("hall")
        shown = repr([msgspec.to_builtins(one) for one in others]) + repr((group, group.record))
        for key in (MC_NWK_S_KEY, MC_APP_S_KEY):
            self.assertNotIn(key, shown.upper())
            self.assertNotIn(repr(bytes.fromhex(key)), shown)

    def test_there_and_back(self) -> None:
        self.do("add_group", id="hall", name="Hall", region="as923", devices=[C1], **KEYS)
        got = self.do("get_group", "hall")
        self.assertEqual((got.name, got.region, got.frequency, got.members), ("Hall", "as923", 923_200_000, 1))
        changed = self.do("change_group", "hall", name="", region="eu868", frequency=868_300_000, data_rate=5)
        self.assertEqual((changed.name, changed.frequency, changed.data_rate), ("", 868_300_000, 5))
        self.begin(self.bed.again())
        self.assertEqual(self.do("get_group", "hall"), changed)
        self.assertEqual(self.members("hall"), [C1])
        changed = self.do("change_group", "hall", frequency=None, data_rate=None)
        self.assertEqual((changed.frequency, changed.data_rate), (869_525_000, 0))
        self.do("delete_group", "hall")
        self.refused(NotFound, "get_group", "hall")
        self.begin(self.bed.again())
        self.refused(NotFound, "get_group", "hall")
        self.assertEqual(self.bed.storage.tables[MEMBERS], {})

    def test_refusals(self) -> None:
        self.bed.forwarder()
        self.do("add_group", id="hall", **KEYS)
        self.refused(Conflict, "add_group", id="hall")
        self.assertIn("hall", self.refused(Conflict, "add_group", dev_addr=KEYS["dev_addr"]))
        self.refused(Conflict, "add_group", dev_addr="26010100")
        self.refused(Invalid, "add_group", id="a/b")
        self.refused(Invalid, "add_group", data_rate=8)
        self.refused(Invalid, "add_group", gateways=["AA555A00000000FF"])
        self.refused(Invalid, "add_group", gateways=["roof"])
        self.refused(Invalid, "add_group", devices=["roof"])
        self.refused(Conflict, "change_group", "hall", dev_addr="26010100")
        self.refused(NotFound, "change_group", "other", name="x")
        self.refused(NotFound, "delete_group", "other")
        self.refused(Conflict, "send_to_group", "hall", payload_base64="AQ==", port=1)  # nobody is in it
        self.refused(NotFound, "send_to_group", "other", payload_base64="AQ==", port=1)
        self.refused(Invalid, "send_to_group", "hall", payload_base64="?", port=1)
        for _ in range(2):
            self.do("add_group")
        self.refused(LimitExceeded, "add_group")
        for wrong in ({"mc_nwk_s_key": "AB"}, {"dev_addr": "26"}, {"counter": 0xFFFF_FFFF}, {"x": 1}):
            self.assertRaises(msgspec.ValidationError, msgspec.convert, wrong, NewGroup)
        for change in ({"port": 0}, {"port": 256}, {"tries": 0}, {"tries": 101}, {"expires": 0}):
            fields = {"payload_base64": "AQ==", "port": 1, **change}
            self.assertRaises(msgspec.ValidationError, msgspec.convert, fields, NewMessage)

    def test_a_member_that_may_not_be_one_leaves_no_group_behind(self) -> None:
        self.refused(Invalid, "add_group", id="hall", devices=[C1, A1])
        self.refused(NotFound, "get_group", "hall")
        self.assertEqual(self.bed.storage.tables["lorawan_group"], {})
        self.assertEqual(self.bed.network.multicast.groups.of_mote(C1), [])

    def test_pages(self) -> None:
        for id in ("c", "a", "b"):
            self.do("add_group", id=id)
        page = self.do("list_groups", limit=2)
        self.assertEqual(([group.id for group in page.items], page.next), (["a", "b"], "b"))
        page = self.do("list_groups", limit=2, cursor="b")
        self.assertEqual(([group.id for group in page.items], page.next), (["c"], None))

    def test_no_mote_is_given_the_address_of_a_group(self) -> None:
        self.do("add_group", id="hall", **KEYS)
        bits = iter([bytes.fromhex(KEYS["dev_addr"]), bytes.fromhex("00000042")])
        self.bed.network.joins._random_bytes = lambda count: next(bits)
        self.bed.register("AA00000000000001")
        mote = join(self.bed, self.bed.forwarder())
        self.assertEqual(mote.session.dev_addr, 0x42)

    def test_records_tell_no_keys(self) -> None:
        record = GroupRecord(id="x", region="eu868", dev_addr=1, mc_nwk_s_key=b"n" * 16, mc_app_s_key=b"a" * 16)
        self.assertEqual(repr(record), "<GroupRecord x 00000001>")
        self.assertNotIn(b"a" * 16, record.session.encode())
        self.assertRaises(ValueError, unpack_counter, b"123")


class MemberTests(Case):
    def setUp(self) -> None:
        super().setUp()
        self.do("add_group", id="hall", devices=[C1])
        self.do("add_group", id="yard", devices=[C1, C2])

    def test_only_class_c_and_only_so_many(self) -> None:
        self.assertIn("class A", self.refused(Invalid, "add_group_member", "hall", dev_eui=A1))
        self.refused(NotFound, "add_group_member", "hall", dev_eui="AA0000000000FFFF")
        self.refused(Invalid, "add_group_member", "hall", dev_eui="roof")
        self.refused(NotFound, "add_group_member", "other", dev_eui=C1)
        self.do("add_group_member", "hall", dev_eui=C1.lower())  # twice is fine
        self.do("add_group_member", "hall", dev_eui=C2)
        self.refused(LimitExceeded, "add_group_member", "hall", dev_eui=C3)
        self.do("delete_group_member", "hall", dev_eui=C1)
        self.refused(NotFound, "delete_group_member", "hall", dev_eui=C1)
        self.do("add_group_member", "hall", dev_eui=C3)
        self.begin(self.bed.again())
        self.assertEqual((self.members("hall"), self.members("yard")), ([C2, C3], [C1, C2]))

    def test_one_that_has_not_joined_yet(self) -> None:
        self.bed.register("AA00000000000001", **{"class": "C"})
        self.do("add_group_member", "hall", dev_eui="AA00000000000001")
        self.begin(self.bed.again())
        self.assertEqual(self.members("hall"), ["AA00000000000001", C1])

    def test_where_they_are(self) -> None:
        crowd = Crowd([(0, 1), (1,)])
        crowd.bed.register("AA00000000000000", **{"class": "C"})
        crowd.calls.do("add_group_member", "all", dev_eui="AA00000000000000")
        crowd.bed.advance(40)
        crowd.forwarders[1].pull()
        items = crowd.calls.do("list_group_members", "all").items
        self.assertEqual([one.gateways for one in items], [[], [crowd.eui(0), crowd.eui(1)], [crowd.eui(1)]])
        self.assertEqual([one.reachable for one in items], [False, True, True])
        crowd.bed.advance(40)
        page = crowd.calls.do("list_group_members", "all", limit=1, cursor=items[0].dev_eui)
        self.assertEqual((page.items[0].reachable, page.next), (False, items[1].dev_eui))

    def test_who_changes_its_class_or_is_removed_leaves(self) -> None:
        registry = self.bed.core.registry
        changes: tuple[Callable[[], Deferred[Any]], ...]
        changes = (lambda: registry.update_device(C1, {"class": "A"}), lambda: registry.delete_device(C2))
        for change, left in zip(changes, ([C2], []), strict=True):
            self.successResultOf(change())
            self.assertEqual((self.members("hall"), self.members("yard")), ([], left))
            self.assertEqual(sorted(self.bed.storage.tables[MEMBERS]), [f"yard/{eui}" for eui in left])
        # To be a member again is a decision.
        self.successResultOf(registry.update_device(C1, {"class": "C"}))
        self.assertEqual(self.members("hall"), [])
        self.do("add_group_member", "hall", dev_eui=C1)

    def test_other_changes_of_a_mote_mean_nothing(self) -> None:
        self.successResultOf(self.bed.core.registry.update_device(C1, {"name": "lamp", "disabled": True}))
        self.assertEqual(self.members("hall"), [C1])

    def test_killed_before_it_has_left(self) -> None:
        del self.bed.storage.devices[C1]
        self.bed.storage.tables[MEMBERS]["gone/" + C2] = b""
        self.bed.storage.tables[MEMBERS]["yard/" + A1] = b""
        self.begin(self.bed.again())
        self.assertEqual((self.members("hall"), self.members("yard")), ([], [C2]))
        self.assertEqual(sorted(self.bed.storage.tables[MEMBERS]), ["yard/" + C2])

    def test_removed_while_it_becomes_a_member(self) -> None:
        storage = self.bed.storage
        storage.held = True
        done: list[Any] = []
        entering = Calls(self.bed).begin("add_group_member", {"id": "hall", "dev_eui": C3})
        entering.addCallback(lambda _: done.append("entered"))
        removing: Deferred[Any] = self.bed.core.registry.delete_device(C3)
        removing.addCallback(lambda _: done.append("removed"))
        for _ in range(10):
            storage.go_on()
        self.assertEqual(sorted(done), ["entered", "removed"])
        storage.held = False
        self.assertEqual(self.members("hall"), [C1])
        self.assertNotIn(f"hall/{C3}", storage.tables[MEMBERS])


class CounterTests(SynchronousTestCase):
    def test_they_belong_to_the_keys(self) -> None:
        crowd = Crowd([(0,)])
        for _ in range(3):
            crowd.send()
        crowd.advance(20)
        crowd.calls.do("delete_group", "all")
        self.assertEqual(crowd.calls.do("add_group", id="new", **KEYS).counter, 3)
        others = {"mc_nwk_s_key": "11" * 16, "mc_app_s_key": "22" * 16}
        self.assertEqual(crowd.calls.do("change_group", "new", **others).counter, 0)
        self.assertEqual(crowd.calls.do("change_group", "new", counter=9).counter, 9)
        own = {name: KEYS[name] for name in others}
        self.assertEqual(crowd.calls.do("change_group", "new", **own).counter, 3)
        self.assertRaises(Invalid, crowd.calls.do, "change_group", "new", counter=2)
        crowd.again()
        self.assertEqual(crowd.calls.do("get_group", "new").counter, 3)

    def test_another_address_is_another_session(self) -> None:
        crowd = Crowd([(0,)])
        crowd.send()
        crowd.advance(5)
        self.assertEqual(crowd.calls.do("change_group", "all", dev_addr="00ABCDEE").counter, 0)
        self.assertRaises(Conflict, crowd.calls.do, "add_group", dev_addr="00ABCDEE")
        crowd.calls.do("add_group", dev_addr="00ABCDEF")

    def test_another_mc_nwk_s_key_alone_goes_on(self) -> None:
        crowd = Crowd([(0,)])
        crowd.send()
        crowd.advance(5)
        self.assertEqual(crowd.calls.do("change_group", "all", mc_nwk_s_key="11" * 16).counter, 1)

    def test_not_while_a_message_is_being_sent(self) -> None:
        crowd = Crowd([(0,)])
        id = crowd.send(tries=3)
        self.assertEqual(crowd.calls.do("change_group", "all", counter=7).counter, 7)
        crowd.advance(3)
        self.assertRaises(Conflict, crowd.calls.do, "change_group", "all", mc_app_s_key="11" * 16)
        self.assertRaises(Conflict, crowd.calls.do, "change_group", "all", counter=99)
        crowd.calls.do("change_group", "all", name="all the same")
        crowd.calls.do("cancel_group_message", "all", message=id)
        crowd.calls.do("change_group", "all", counter=99)
        crowd.send()
        crowd.advance(5)
        self.assertEqual([fcnt for _, _, fcnt in self.heard(crowd)], [7, 99])

    def heard(self, crowd: Crowd) -> list[tuple[int, bytes, int]]:
        crowd.emissions()
        return crowd.ears[0].heard

    def test_a_message_that_waits_while_the_keys_change(self) -> None:
        """Nothing is sent while the new session is on its way to the disk, and then with the new keys."""
        crowd = Crowd([(0,)])
        crowd.bed.advance(60)
        crowd.send()
        storage = crowd.bed.storage
        storage.held = True
        changed: list[Any] = []
        keys = {"mc_nwk_s_key": "11" * 16, "mc_app_s_key": "22" * 16}
        crowd.calls.begin("change_group", {"id": "all"}, **keys).addCallback(changed.append)
        storage.go_on()  # the counter of these keys
        crowd.advance(5)
        self.assertEqual((crowd.emissions(), changed), ([], []))
        storage.go_on()
        storage.held = False
        crowd.advance(5)
        self.assertEqual(len(changed), 1)
        crowd.ears = [type(crowd.ears[0])({**KEYS, **keys})]
        crowd.emissions()
        self.assertEqual(crowd.ears[0].payloads(), [b"all"])


class RightsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.crowd = Crowd([(0,), (0,)])
        self.rights = Rights("app", "http", {mote.dev_eui for mote in self.crowd.motes})
        self.calls = Calls(self.crowd.bed, Caller("application:app", self.rights))

    def test_who_may_command_each_may_command_all(self) -> None:
        self.assertEqual([group.id for group in self.calls.do("list_groups").items], ["all"])
        id = self.calls.do("send_to_group", "all", payload_base64="AQ==", port=1, ref="mine").id
        shown = self.calls.do("get_group_message", "all", message=id)
        self.assertEqual((shown.ref, shown.payload_base64), ("mine", "AQ=="))
        self.assertEqual(len(self.calls.do("list_group_members", "all").items), 2)
        other = self.crowd.send()
        self.assertRaises(Forbidden, self.calls.do, "cancel_group_message", "all", message=other)
        self.assertEqual(self.calls.do("cancel_group_message", "all", message=id).status, "cancelled")

    def test_one_that_is_not_bound_is_enough(self) -> None:
        self.rights.devices.discard(self.crowd.motes[1].dev_eui)
        self.nothing()

    def test_another_applications_group(self) -> None:
        groups = self.crowd.bed.network.multicast.groups
        group = groups.get("all")
        group.record = msgspec.structs.replace(group.record, application="other")
        self.nothing()
        group.record = msgspec.structs.replace(group.record, application="app")
        self.assertEqual(self.calls.do("get_group", "all").application, "app")

    def test_an_empty_group(self) -> None:
        for mote in self.crowd.motes:
            self.crowd.calls.do("delete_group_member", "all", dev_eui=mote.dev_eui)
        self.nothing()

    def nothing(self) -> None:
        self.assertEqual(self.calls.do("list_groups").items, [])
        body = {"payload_base64": "AQ==", "port": 1}
        for name, fields in (
            ("get_group", {}),
            ("send_to_group", body),
            ("list_group_members", {}),
            ("list_group_messages", {}),
        ):
            self.assertRaises(NotFound, self.calls.do, name, "all", **fields)


class OrphanTests(SynchronousTestCase):
    def test_messages_of_no_group_go(self) -> None:
        crowd = Crowd([(0,)])
        record = MessageRecord(
            id="x",
            group="gone",
            payload=b"",
            port=1,
            priority=1,
            origin="admin",
            created_at=0.0,
            expires_at=9e9,
            updated_at=0.0,
        )
        crowd.bed.network.multicast.groups.messages.put(record.key, record)
        crowd.again()
        self.assertEqual(crowd.bed.storage.tables["lorawan_group_message"], {})

    def test_a_group_that_goes_while_a_message_comes(self) -> None:
        for first in ("send", "delete"):
            crowd = Crowd([(0,)])
            storage = crowd.bed.storage
            storage.held = True
            work = {
                "send": lambda crowd=crowd: crowd.calls.begin(
                    "send_to_group", {"id": "all"}, payload_base64="AQ==", port=1
                ),
                "delete": lambda crowd=crowd: crowd.calls.begin("delete_group", {"id": "all"}),
            }
            begun = {name: work[name]() for name in sorted(work, key=lambda name: name != first)}
            for _ in range(5):
                storage.go_on()
            self.successResultOf(begun["delete"])
            self.failureResultOf(begun["send"], NotFound)
            self.assertEqual(storage.tables["lorawan_group_message"], {}, first)

    def test_a_group_that_cannot_go(self) -> None:
        crowd = Crowd([(0,)])
        id = crowd.send()
        crowd.bed.storage.away = True
        self.assertRaises(Unavailable, crowd.calls.do, "delete_group", "all")
        crowd.bed.storage.away = False
        crowd.advance(10)
        self.assertEqual(crowd.look(id).status, "sent")
