"""BROADCAST over multicast groups, and one by one where no group fits."""

from __future__ import annotations

from typing import Any

from tests.applications.loracenter.bed import CS_EUI, OTHER_EUI
from tests.applications.loracenter.test_deliveries import Stage, said
from tests.devices.lorawan.bed import JOIN_EUI, join
from tests.devices.lorawan.crowd import KEYS, Calls, Ear

MOTES = [f"CC0000000000000{n}" for n in range(4)]
BROADCAST = {"CsEUI": CS_EUI, "payload": "AQ==", "Port": 21}


class GroupBroadcastTests(Stage):
    def setUp(self) -> None:
        super().setUp()
        self.motes = [self.class_c(eui, f"260200{n:02X}") for n, eui in enumerate(MOTES)]
        self.ear = Ear()

    def class_c(self, eui: str, addr: str) -> Any:
        mote = self.bed.abp(eui, addr, **{"class": "C"})
        self.uplink(mote)
        self.bed.advance(3)
        return mote

    def group(self, *motes: str, id: str = "all", **fields: Any) -> None:
        Calls(self.bed).do("add_group", id=id, application="one", devices=list(motes), **{**KEYS, **fields})

    def broadcast(self, **fields: Any) -> list[tuple[Any, Any]]:
        self.peer.got()
        self.gateway.sent()
        return said(self.peer.ask("BROADCAST", **{**BROADCAST, **fields}))

    def out(self, seconds: float = 20) -> tuple[list[bytes], list[tuple[str, bytes]]]:
        """What the gateway was told to send meanwhile: frames of the group, and of motes as (DevEUI, payload)."""
        while seconds > 0:
            self.gateway.pull()
            self.bed.advance(min(10.0, seconds))
            seconds -= 10
        frames = self.gateway.frames()
        shared = [frame for frame in frames if frame[1:5] == bytes.fromhex(KEYS["dev_addr"])[::-1]]
        by_addr = {mote.session.dev_addr.to_bytes(4, "little"): mote for mote in self.motes}
        own = []
        for frame in frames:
            mote = by_addr.get(frame[1:5])
            if mote is not None:
                own.append((mote.dev_eui, mote.reads(frame).payload))
        self.assertEqual(len(shared) + len(own), len(frames))
        return shared, own

    def test_over_the_group(self) -> None:
        self.group(*MOTES)
        self.assertEqual(self.broadcast(TryCnt=3), [(1, "BROADCAST OK")])
        shared, own = self.out(60)
        self.assertEqual((len(shared), len(set(shared)), own), (3, 1, []))
        for frame in shared:
            self.ear.hears(frame)
        self.assertEqual((self.ear.heard, self.ear.dropped), ([(21, b"\x01", 0)], 2))
        self.assertEqual(self.peer.got(), [])  # nothing more is said of it

    def test_who_is_in_no_group_is_told_alone(self) -> None:
        self.group(*MOTES[:3])
        self.broadcast(TryCnt=2)
        shared, own = self.out(60)
        self.assertEqual((len(shared), own), (2, [(MOTES[3], b"\x01")] * 2))

    def test_two_groups(self) -> None:
        self.group(*MOTES[:2])
        other = {"dev_addr": "00ABCDE0", "mc_nwk_s_key": "11" * 16, "mc_app_s_key": "22" * 16}
        self.group(*MOTES[2:], id="others", **other)
        self.group(*MOTES[1:3], id="overlapping", dev_addr="00ABCDE1")
        self.broadcast()
        self.bed.advance(0.05)
        # The third would tell nobody anything new.
        self.assertEqual(sorted(self.waiting()), ["all", "others"])
        self.assertEqual(self.bed.center.counted.group_broadcasts, 2)

    def waiting(self) -> list[str]:
        return [group.id for group in self.bed.network.multicast.groups if group.messages]

    def test_a_group_with_somebody_elses_mote(self) -> None:
        """It would reach who is not to be reached, so it is not used."""
        self.group(*MOTES)
        self.bed.done(self.bed.core.registry.unbind("one", MOTES[0]))
        self.broadcast()
        shared, own = self.out()
        self.assertEqual((shared, sorted(own)), ([], [(eui, b"\x01") for eui in MOTES[1:]]))

    def test_another_customers_group(self) -> None:
        for eui in MOTES:
            self.bed.bind(eui, "two")
        self.group(*MOTES)
        other = self.bed.customer(OTHER_EUI)
        self.gateway.sent()
        self.assertEqual(said(other.ask("BROADCAST", **{**BROADCAST, "CsEUI": OTHER_EUI})), [(1, "BROADCAST OK")])
        shared, own = self.out()
        self.assertEqual((shared, len(own)), ([], 4))

    def test_of_one_app_eui(self) -> None:
        self.bed.register("CC00000000000010", **{"class": "C"})
        self.motes.append(join(self.bed, self.gateway, "CC00000000000010"))
        self.bed.advance(5)
        self.uplink(self.motes[-1])
        self.group("CC00000000000010", MOTES[0])
        self.broadcast(AppEUI=JOIN_EUI)
        self.assertEqual(self.out(), ([], [("CC00000000000010", b"\x01")]))
        Calls(self.bed).do("delete_group_member", "all", dev_eui=MOTES[0])
        self.bed.advance(900)
        self.gateway.pull()
        self.broadcast(AppEUI=JOIN_EUI)
        shared, own = self.out()
        self.assertEqual((len(shared), own), (1, []))

    def test_a_member_that_has_not_joined_yet(self) -> None:
        self.bed.register("CC00000000000010", **{"class": "C"})
        self.group("CC00000000000010", *MOTES)
        self.broadcast()
        shared, own = self.out()
        self.assertEqual((len(shared), own), (1, []))

    def test_what_the_group_cannot_take_goes_one_by_one(self) -> None:
        self.group(*MOTES)
        self.bed.network.multicast.groups.get("all").adding = 32  # its queue is full
        self.broadcast()
        shared, own = self.out()
        self.assertEqual((shared, len(own)), ([], 4))

    def test_no_disk(self) -> None:
        self.group(*MOTES)
        self.bed.storage.held = True
        self.assertEqual(self.broadcast(), [])
        for away in (False, False, False, True):
            self.bed.storage.away = away
            self.bed.storage.go_on()
        self.assertEqual(said(self.peer.got()), [(0, "TRY LATER")])

    def test_a_restart_between_acceptance_and_sending(self) -> None:
        self.group(*MOTES)
        self.bed.advance(60)
        self.assertEqual(self.broadcast(TryCnt=2), [(1, "BROADCAST OK")])
        self.bed = self.bed.reborn()
        self.gateway = self.bed.forwarder()
        self.uplink(self.motes[0])  # where they are: the gateway is not registered
        shared, _ = self.out(40)
        self.assertEqual((len(shared), len(set(shared))), (2, 1))

    def test_cleared(self) -> None:
        self.group(*MOTES)
        self.bed.advance(60)
        self.broadcast(TryCnt=3)
        self.assertEqual(said(self.peer.ask("CLEARAQ", CsEUI=CS_EUI)), [(1, "CLEAR CSEUI QUEUE OK")])
        self.assertEqual(self.out(), ([], []))

    def test_what_has_begun_is_not_cleared(self) -> None:
        self.group(*MOTES)
        self.broadcast(TryCnt=3)
        self.bed.advance(3)
        self.peer.ask("CLEARAQ", CsEUI=CS_EUI)
        self.assertEqual(len(self.out(60)[0]), 3)
