"""Multicast groups in the simulator: what a member hears, and a simulated hour with the broker's own network."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from broker.devices.lorawan import frames
from broker.devices.lorawan.multicast.records import GroupRecord
from broker.simulate.lorawan.day import Day, Scenario
from broker.simulate.lorawan.session import GroupSession
from tests.devices.lorawan.independent import lora_packet

ADDRESS, NWK, APP = 0x00ABCDEF, bytes(range(16)), bytes(range(16, 32))


def frame(fcnt: int, payload: bytes = b"x", **more: Any) -> bytes:
    return frames.data_down(NWK, APP, ADDRESS, fcnt, **{"port": 7, "payload": payload, **more})


class SessionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.group = GroupSession(ADDRESS, NWK, APP)

    def test_each_counter_once_and_none_backwards(self) -> None:
        for fcnt, heard in ((0, True), (0, False), (5, True), (3, False), (6, True), (70_000, False), (60_000, True)):
            self.assertEqual(self.group.read(frame(fcnt)) is not None, heard, fcnt)
        self.assertEqual(self.group.read(frame(65_540, b"further")), (7, b"further"))

    def test_what_another_makes(self) -> None:
        fields = {
            "MType": "Unconfirmed Data Down",
            "DevAddr": f"{ADDRESS:08x}",
            "FCnt": 9,
            "FPort": 3,
            "payload": b"theirs",
        }
        made = lora_packet(write=fields, nwk_s_key=NWK, app_s_key=APP)["frame"]
        self.assertEqual(self.group.read(bytes.fromhex(made)), (3, b"theirs"))

    def test_what_is_no_frame_of_a_group(self) -> None:
        genuine = frame(0)
        for wrong in (
            b"",
            genuine[:12],
            genuine[:-1] + bytes((genuine[-1] ^ 1,)),
            frame(0, confirmed=True),
            frame(0, ack=True),
            frame(0, fopts=b"\x06"),
            frame(0, port=0),
            frames.data_down(NWK, APP, ADDRESS + 1, 0, port=7, payload=b"x"),
            frames.data_down(APP, APP, ADDRESS, 0, port=7, payload=b"x"),
        ):
            self.assertIsNone(self.group.read(wrong), wrong.hex())
        self.assertEqual(self.group.read(genuine), (7, b"x"))


class HourTests(SynchronousTestCase):
    def test_a_group_in_a_town(self) -> None:
        """Fifteen of thirty motes: all hear each message once, no window is missed, no two copies meet."""
        day = Day(Scenario(motes=30, gateways=3, hours=1.5, radius=1.0, every=300.0, class_c=0.5, commands=20.0))
        network = day.inside.network
        members = day.motes[:15]
        ids: list[str] = []

        def begin() -> None:
            record = GroupRecord(id="all", region="eu868", dev_addr=ADDRESS, mc_nwk_s_key=NWK, mc_app_s_key=APP)
            network.multicast.groups.add(record, None)
            network.multicast.groups.enter("all", [mote.name for mote in members])
            for mote in members:
                mote.hold(GroupSession(ADDRESS, NWK, APP))

        def send(number: int) -> None:
            sending = network.send_to_group(
                "all", bytes((number,)), port=99, tries=3, priority=40, expires=600.0, origin="admin"
            )
            sending.addCallback(ids.append)

        day.clock.callLater(2400.0, begin)
        for number in range(10):
            day.clock.callLater(2500.0 + number * 200.0, send, number)
        day.run()
        self.assertEqual((day.inside.faults, day.air.violated), ([], 0))
        for mote in members:
            heard = [payload[0] for port, payload in mote.tally.commands if port == 99]
            self.assertEqual(heard, list(range(10)), mote.name)
            self.assertGreater(mote.tally.shared_again, 0)
        self.assertEqual({mote.tally.shared for mote in day.motes[15:]}, {0})
        group = network.multicast.groups.get("all")
        ends = [self.successResultOf(network.multicast.messages.find(group, id)).record for id in ids]
        self.assertEqual([(end.status, end.missed) for end in ends], [("sent", ())] * 10)
        emissions = sum(share.sent for end in ends for share in end.shares.values())
        self.assertLessEqual(emissions, 10 * 3 * 3)
        self.assertEqual(emissions, network.counted.multicast_frames)
