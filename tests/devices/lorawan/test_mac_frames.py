"""MAC commands beside commands in one frame, on disk, in the API; the time."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import msgspec
from twisted.internet.defer import Deferred

from broker.devices.lorawan import gps
from broker.devices.lorawan.mac.codec import (
    DeviceTimeAns,
    DutyCycleReq,
)
from broker.devices.lorawan.mote_api import MoteCalls, MoteChanges
from broker.model.errors import Invalid, NotFound
from broker.web.routes import Call
from tests.devices.lorawan.mac_case import EUI, MacCase
from tests.devices.lorawan.obedient import ObedientMote


class DiskTests(MacCase):
    def test_nothing_is_asked_before_that_is_on_disk(self) -> None:
        self.start(max_duty_cycle=3)
        mote = self.abp()
        self.bed.storage.held = True
        at = self.gateway.tmst
        mote.mote.says(b"x", self.gateway, datr="SF12BW125", freq=868.1)
        self.bed.advance(0.5)
        self.assertEqual((self.gateway.sent(), "lorawan_mac" in self.bed.storage.tables), ([], False))
        self.bed.storage.go_on()
        self.bed.storage.held = False
        self.bed.advance(0.3)
        (packet,) = self.gateway.sent()
        self.assertGreater(packet["tmst"], at)
        self.assertIn(EUI, self.bed.storage.tables["lorawan_mac"])

    def test_a_full_disk(self) -> None:
        """Nothing is asked, and nothing that was answered is taken for known, until it can be written."""
        self.start(rx1_delay=3)
        mote = self.abp()
        self.bed.storage.away = True
        self.run_for(mote, 3)
        self.assertEqual((mote.frames, mote.missed), ([], 0))
        self.bed.storage.away = False
        self.run_for(mote, 1)
        self.assertEqual(mote.delay, 3)
        self.bed.storage.away = True
        self.run_for(mote, 1)
        self.bed.storage.away = False
        self.again(mote, rx1_delay=3)
        self.run_for(mote, 2, confirmed=True)
        self.assertEqual((mote.missed, self.mac().has.delay), (0, 3))

    def test_a_record_that_cannot_be_read(self) -> None:
        self.start(max_duty_cycle=3)
        mote = self.abp()
        self.run_for(mote, 2)
        for raw in (b"", b"nonsense", msgspec.msgpack.encode(["mars"]), b"\xc0"):
            self.bed.storage.tables["lorawan_mac"] = {EUI: raw}
            self.again(mote, max_duty_cycle=3)
            self.assertIsNone(self.mac())
            self.run_for(mote, 2)
            self.assertEqual(self.mac().has.duty, 3)

    def test_nothing_is_left_of_a_mote_that_is_removed(self) -> None:
        self.start(max_duty_cycle=3)
        mote = self.abp()
        self.run_for(mote, 2)
        self.assertIn(EUI, self.bed.storage.tables["lorawan_mac"])
        removing = self.bed.core.registry.delete_device(EUI)
        removing.addErrback(lambda failure: failure.raiseException())
        self.bed.advance(1)
        self.assertEqual(self.bed.storage.tables["lorawan_mac"], {})


class ApiTests(MacCase):
    def call(self, name: str, eui: str = EUI, **fields: Any) -> Any:
        unused: Any = SimpleNamespace()
        body = msgspec.convert(fields, MoteChanges) if name == "change_mote" else None
        call = Call(self.bed.core, unused, {"eui": eui}, None, body, None)
        return Deferred.fromCoroutine(getattr(MoteCalls(self.bed.network), name)(call))

    def test_there_and_back(self) -> None:
        self.start(status_interval=10.0)
        mote = self.abp()
        made = self.successResultOf(self.call("get_mote"))
        self.assertEqual((made.dev_addr, made.mac, made.status), ("26011BDA", None, None))
        changed = self.successResultOf(self.call("change_mote", max_duty_cycle=4, channels=[867_100_000]))
        self.assertEqual((changed.set.max_duty_cycle, changed.set.channels), (4, [867_100_000]))
        self.run_for(mote, 1)
        self.assertEqual(self.successResultOf(self.call("get_mote")).mac.pending, ["NewChannelReq", "DutyCycleReq"])
        self.bed.advance(20)
        self.gateway.pull()
        self.run_for(mote, 3)
        shown = self.successResultOf(self.call("get_mote", "aa-00-00-00-00-00-00-01"))
        self.assertEqual((shown.mac.max_duty_cycle, shown.mac.channels, shown.mac.pending), (4, [867_100_000], []))
        self.assertEqual((shown.status.battery, shown.status.margin), (200, 7))
        live = self.bed.core.devices.get(EUI)
        assert live is not None
        self.assertEqual(live.info["mac"], {"data_rate": 0, "power": 0, "nb_trans": 1, "pending": ()})
        self.assertEqual(live.info["status"]["battery"], 200)

    def test_who_is_no_mote(self) -> None:
        self.start()
        for eui in ("AA00000000000009", "x", ""):
            self.failureResultOf(self.call("get_mote", eui), NotFound)

    def test_what_no_mote_can_be_set_to(self) -> None:
        self.start()
        self.abp()
        for fields in (
            {"rx1_delay": 0},
            {"rx1_delay": 16},
            {"rx1_offset": 8},
            {"rx2_rate": True},
            {"rx2_frequency": 868_100_050},
            {"rx2_frequency": 1},
            {"max_duty_cycle": "4"},
            {"channels": "867100000"},
            {"channels": [867_100_000.0]},
            {"channels": [867_100_001]},
            {"channels": [867_100_000] * 17},
            {"adr": 1},
        ):
            with self.assertRaises(msgspec.ValidationError, msg=str(fields)):
                msgspec.convert(fields, MoteChanges)
            self.failureResultOf(self.bed.core.registry.update_device(EUI, fields), Invalid)

    def test_what_its_region_does_not_have(self) -> None:
        """Known when it names one, or was heard in one."""
        self.start(region="us915", max_duty_cycle=4)
        self.run_for(ObedientMote(self.bed, self.bed.abp(), "us915"), 1)
        for fields in ({"rx2_rate": 0}, {"rx2_rate": 3}, {"channels": [867_100_000]}):
            fault = self.failureResultOf(self.call("change_mote", **fields), Invalid).value
            self.assertIn("us915", fault.message)
        self.assertEqual(self.successResultOf(self.call("change_mote", rx2_rate=10)).set.rx2_rate, 10)
        registry = self.bed.core.registry
        self.failureResultOf(registry.update_device(EUI, {"region": "eu868", "rx2_rate": 12}), Invalid)
        self.failureResultOf(registry.update_device(EUI, {"region": "au915", "channels": [915_900_000]}), Invalid)
        self.successResultOf(registry.update_device(EUI, {"region": "eu868", "rx2_rate": 0, "channels": [867_100_000]}))


class TimeTests(MacCase):
    def told(self, mote: ObedientMote, **fields: Any) -> float:
        """UNIX seconds that the mote is told, less those that it was when the frame came."""
        now = self.bed.clock.seconds()
        mote.says(self.gateway, fopts=b"\x0d", **fields)
        (command,) = [one for one in mote.told if isinstance(one, DeviceTimeAns)]
        mote.told.clear()
        return gps.unix_time(command.ticks / 256) - now

    def by_gps(self, astray: float) -> dict[str, Any]:
        return {"tmms": int((gps.gps_seconds(self.bed.clock.seconds()) + astray) * 1000)}

    def test_as_the_gateway_has_it(self) -> None:
        self.start()
        mote = self.abp()
        mote.hearing = dict
        self.assertEqual(self.told(mote), 0.0)
        for astray, told in ((-0.25, -0.25), (-59.0, -59.0), (-61.0, 0.0), (1e9, 0.0)):
            mote.hearing = partial(self.by_gps, astray)
            self.assertAlmostEqual(self.told(mote), told, places=2)
        for text, told in (
            ("2023-11-14T22:13:19.500000Z", -0.5),
            ("2023-11-14T22:13:19.5", -0.5),
            ("2013-11-14T22:13:19.500000Z", 0.0),
            ("yesterday", 0.0),
            ("0001-01-01T00:00:00+23:59", 0.0),
        ):
            self.start()
            mote = self.abp()
            mote.hearing = partial(dict, time=text)
            self.assertAlmostEqual(self.told(mote), told, places=2, msg=text)


class SharedFrameTests(MacCase):
    def test_a_command_does_not_wait_for_requests(self) -> None:
        self.start(region="cn470", channel_block=10, max_duty_cycle=1, rx2_rate=2)
        mote = self.abp("cn470")
        mote.deaf = True
        commands = [self.bed.command(bytes((number,)) * 51, mote.mote) for number in range(5)]
        for _ in range(10):
            self.run_for(mote, 1)
        mote.deaf = False
        self.assertEqual({command.status for command in commands}, {"succeeded"})

    def test_one_that_asks_with_every_frame_gets_its_commands(self) -> None:
        self.start()
        mote = self.abp()
        full = self.bed.command(bytes(51), mote.mote)
        for _ in range(2):
            self.run_for(mote, 1, fopts=b"\x02")
        self.assertEqual(full.status, "succeeded")
        self.assertEqual(
            [(len(down.payload), bytes(down.fopts[:1])) for down in mote.frames], [(0, b"\x02"), (51, b"")]
        )

    def test_too_long_ones_are_failed_and_the_next_is_sent(self) -> None:
        self.start(status_interval=1.0)
        mote = self.abp()
        self.bed.advance(2)
        long = [self.bed.command(bytes(52), mote.mote, priority=64) for _ in range(3)]
        short = self.bed.command(b"s", mote.mote, priority=1)
        self.run_for(mote, 1)
        self.assertEqual([(one.status, one.result["code"]) for one in long], [("failed", 9)] * 3)
        self.assertEqual(short.status, "succeeded")
        (down,) = mote.frames
        self.assertEqual((down.payload, bytes(down.fopts)), (b"s", b"\x06"))

    def test_class_c_and_what_no_window_has_room_for(self) -> None:
        self.start()
        mote = self.abp(fields={"class": "C"}, rate=5)
        self.run_for(mote, 1)
        never = self.bed.command(bytes(243), mote.mote, priority=64)
        later = self.bed.command(bytes(52), mote.mote, priority=64)
        now = self.bed.command(b"s", mote.mote)
        self.bed.advance(3)
        self.assertEqual((never.status, never.result["code"]), ("failed", 9))
        self.assertEqual((later.status, now.status), ("queued", "succeeded"))
        self.gateway.sent()
        self.run_for(mote, 1)
        self.assertEqual(later.status, "succeeded")

    def test_the_same_frame_again_takes_requests_along_only_if_they_fit(self) -> None:
        self.start(max_duty_cycle=1)
        mote = self.abp()
        command = self.bed.command(bytes(51), mote.mote, confirm=True)
        self.run_for(mote, 3)
        self.assertEqual([(down.fcnt, bytes(down.fopts)) for down in mote.frames[:3]], [(0, b"")] * 3)
        self.run_for(mote, 1)
        self.assertEqual((command.status, mote.told), ("failed", [DutyCycleReq(1)]))

    def test_a_gateway_that_refuses_costs_no_try(self) -> None:
        self.start(max_duty_cycle=1, mac_tries=1)
        mote = self.abp()
        self.gateway.answers = ["TX_FREQ", "TX_FREQ"]
        self.run_for(mote, 1)
        mote.told.clear()
        self.assertEqual([(one.tries, one.sent) for one in self.mac().pending.values()], [(0, 0)])
        self.run_for(mote, 2)
        self.assertEqual(self.mac().has.duty, 1)
