"""MAC commands through the whole network, with motes that obey, refuse, fall silent or answer nonsense."""

from __future__ import annotations

import random
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from broker.devices.lorawan.mac.codec import (
    Command,
    DevStatusReq,
    DutyCycleReq,
    LinkADRAns,
    LinkADRReq,
    NewChannelAns,
    NewChannelReq,
    RXParamSetupAns,
    RXParamSetupReq,
    TxParamSetupReq,
)
from broker.devices.lorawan.regions import REGIONS
from tests.devices.lorawan.bed import Bed, Forwarder, join
from tests.devices.lorawan.obedient import ObedientMote

EUI = "AA00000000000001"


class Case(SynchronousTestCase):
    bed: Bed
    gateway: Forwarder

    def start(self, **settings: Any) -> None:
        self.bed = Bed(**settings)
        self.gateway = self.bed.forwarder()
        self.addCleanup(lambda: self.assertEqual(self.bed.faults, []))

    def again(self, mote: ObedientMote, **settings: Any) -> None:
        """The broker is killed and started again."""
        self.bed = self.bed.again(**settings)
        self.gateway = self.bed.forwarder()
        mote.bed = mote.mote.bed = self.bed

    def abp(self, region: str = "eu868", **options: Any) -> ObedientMote:
        fields = options.pop("fields", {})
        return ObedientMote(self.bed, self.bed.abp(region=region, **fields), region, **options)

    def otaa(self, region: str = "eu868", **options: Any) -> ObedientMote:
        """A mote that has joined, and knows what it was told."""
        self.bed.register(region=region, **options.pop("fields", {}))
        made = ObedientMote(self.bed, join(self.bed, self.gateway), region, **options)
        begins = self.mac(made.mote.dev_eui, begun=True)
        made.delay, made.offset = begins.delay, begins.offset
        made.rx2 = begins.rx2_frequency, begins.rx2_rate
        made.channels |= {channel.index: channel.frequency for channel in begins.extra}
        made.enabled = frozenset(made.channels)
        return made

    def mac(self, eui: str = EUI, begun: bool = False) -> Any:
        mote = self.bed.network.motes.get(eui)
        assert mote is not None
        return mote.begins if begun else mote.mac

    def run_for(self, mote: ObedientMote, frames: int, **options: Any) -> None:
        for _ in range(frames):
            mote.says(self.gateway, **options)

    def kinds(self, mote: ObedientMote) -> list[str]:
        return [type(command).__name__ for command in mote.told]


class AdrTests(Case):
    def test_a_slow_mote_with_good_reception_becomes_fast(self) -> None:
        self.start()
        mote = self.otaa(snr=12.0)
        self.run_for(mote, 8)
        self.assertEqual((mote.rate, mote.power, mote.repetitions), (5, 4, 1))
        self.assertEqual(mote.told, [LinkADRReq(5, 4, 0x00FF, 0, 1)])
        self.run_for(mote, 40)
        self.assertEqual(len(mote.told), 1, "once is enough")
        live = self.bed.core.devices.get(EUI)
        assert live is not None
        shown = live.info["mac"]
        self.assertEqual((shown["data_rate"], shown["power"], shown["nb_trans"]), (5, 4, 1))
        self.assertEqual((shown["pending"], shown["refused"], live.info_changed), ([], [], True))

    def test_a_mote_at_the_edge_stays_slow(self) -> None:
        self.start()
        mote = self.otaa(snr=-12.0)
        self.run_for(mote, 50)
        self.assertEqual((mote.rate, mote.power, mote.told), (0, 0, []))

    def test_an_abp_mote_keeps_the_channels_that_nobody_knows_of(self) -> None:
        self.start()
        mote = self.abp(snr=12.0)
        mote.channels[3] = 867_100_000
        mote.enabled |= {3}
        self.run_for(mote, 8)
        self.assertEqual((mote.rate, mote.enabled), (5, {0, 1, 2, 3}))

    def test_without_its_bit_or_against_the_settings(self) -> None:
        for adr, set_to, fields in (
            (False, {}, {}),
            (True, {"adr": False}, {}),
            (True, {}, {"adr": False}),
        ):
            self.start(**set_to)
            mote = self.otaa(snr=12.0, fields=fields)
            mote.adr = adr
            self.run_for(mote, 30)
            self.assertEqual((mote.rate, mote.told), (0, []))

    def test_within_the_settings(self) -> None:
        self.start(adr_max_rate=3, adr_max_power=1, adr_margin=5.0, adr_history=8)
        mote = self.otaa(snr=12.0)
        self.run_for(mote, 5)
        self.assertEqual((mote.rate, mote.power), (3, 1))

    def test_new_settings_while_it_runs(self) -> None:
        self.start(adr_max_rate=3)
        mote = self.otaa(snr=3.0)
        self.run_for(mote, 8)
        self.assertEqual(mote.rate, 3)
        self.bed.network.configure(msgspec.structs.replace(self.bed.settings, adr_max_rate=15))
        self.run_for(mote, 8)
        self.assertEqual(mote.rate, 5)

    def test_worse_reception_makes_it_louder(self) -> None:
        self.start()
        mote = self.otaa(snr=12.0)
        self.run_for(mote, 8)
        mote.snr = 4.0
        self.run_for(mote, 25)
        self.assertEqual((mote.rate, mote.power), (5, 0))

    def test_lost_frames_are_repeated(self) -> None:
        self.start()
        mote = self.otaa(snr=3.0)
        self.run_for(mote, 8)
        for _ in range(25):
            mote.mote.fcnt += 1
            self.run_for(mote, 1)
        self.assertEqual((mote.rate, mote.repetitions), (5, 3))

    def test_a_mote_that_helped_itself_is_seen(self) -> None:
        """It heard nothing for long, so it has full power again and is slower (1.0.4, 4.3.1.1)."""
        self.start()
        mote = self.otaa(snr=12.0)
        self.run_for(mote, 8)
        mote.rate, mote.power = 3, 0
        self.run_for(mote, 1)
        self.assertEqual(self.mac().sending, (3, 0, 1))
        self.run_for(mote, 8)
        self.assertEqual((mote.rate, mote.power), (5, 4))

    def test_adr_ack_req_is_answered(self) -> None:
        self.start()
        mote = self.otaa(snr=-10.0)
        self.run_for(mote, 1)
        frame = bytearray(mote.mote.session.encode_uplink(mote.mote.fcnt, 5, b"x", False, True, False, None))
        self.assertEqual(mote.frames, [])
        del frame
        self.run_for(mote, 1, confirmed=True)
        self.assertEqual(len(mote.frames), 1)

    def test_in_every_region(self) -> None:
        for name, region in REGIONS.items():
            self.start(region=name)
            mote = self.abp(name, snr=12.0, rate=region.uplink_rates[0])
            self.run_for(mote, 8)
            self.assertEqual(mote.rate, region.uplink_rates[-1], name)
            self.assertGreater(mote.power, 0, name)
            self.assertEqual(mote.missed, 0, name)

    def test_after_a_restart(self) -> None:
        self.start()
        mote = self.otaa(snr=12.0)
        self.run_for(mote, 8)
        told = len(mote.told)
        self.again(mote)
        self.assertEqual(self.mac().sending[1:], (4, 1))
        self.run_for(mote, 30)
        self.assertEqual((mote.rate, mote.power, len(mote.told)), (5, 4, told))


class RefusalTests(Case):
    """Whatever a mote says no to, it is asked once, and everything else goes on."""

    def refuse(self, mote: ObedientMote, kind: type[Command], answer: Command) -> None:
        mote.contrary = lambda request: answer if isinstance(request, kind) else None

    def test_a_data_rate(self) -> None:
        self.start()
        mote = self.otaa(snr=12.0)
        mote.contrary = lambda request: (
            LinkADRAns(rate=False) if isinstance(request, LinkADRReq) and request.rate > 3 else None
        )
        self.run_for(mote, 30)
        self.assertEqual([one.rate for one in mote.told if isinstance(one, LinkADRReq)][:3], [5, 4, 3])
        self.assertEqual(mote.rate, 3)
        told = len(mote.told)
        self.again(mote)
        self.run_for(mote, 30)
        self.assertEqual(len(mote.told), told)

    def test_a_power(self) -> None:
        self.start()
        mote = self.otaa(snr=12.0)
        mote.contrary = lambda request: (
            LinkADRAns(power=False) if isinstance(request, LinkADRReq) and request.power > 2 else None
        )
        self.run_for(mote, 30)
        self.assertEqual((mote.rate, mote.power), (5, 2))
        told = len(mote.told)
        self.run_for(mote, 30)
        self.assertEqual(len(mote.told), told)

    def test_channels(self) -> None:
        """One that did not take the CFList is spoken to in another way."""
        self.start()
        mote = self.otaa(snr=12.0)
        mote.channels = {index: mote.channels[index] for index in range(3)}
        mote.enabled = frozenset(mote.channels)
        self.run_for(mote, 12)
        self.assertEqual([one.mask_control for one in mote.told if isinstance(one, LinkADRReq)], [0, 6])
        self.assertEqual((mote.rate, mote.enabled), (5, {0, 1, 2}))

    def test_everything(self) -> None:
        for answer in (
            LinkADRAns(False, False, False),
            LinkADRAns(mask=False),
            LinkADRAns(rate=False),
            LinkADRAns(power=False),
        ):
            for name in ("eu868", "cn470", "us915"):
                self.start(region=name, channel_block=1)
                mote = self.abp(name, snr=12.0, rate=REGIONS[name].uplink_rates[0])
                mote.enabled = frozenset(range(8, 16)) if name != "eu868" else mote.enabled
                self.refuse(mote, LinkADRReq, answer)
                self.run_for(mote, 60)
                frames = len([down for down in mote.frames if down.fopts or down.payload])
                self.assertLess(frames, 20, (answer, name))
                self.run_for(mote, 60)
                self.assertEqual(len([down for down in mote.frames if down.fopts or down.payload]), frames)
                # Commands still reach it.
                command = self.bed.command(b"go", mote.mote)
                self.run_for(mote, 1)
                self.assertEqual(command.status, "succeeded")

    def test_windows(self) -> None:
        self.start(rx1_delay=3, rx2_rate=3, rx1_offset=1)
        mote = self.abp()
        for answer in (RXParamSetupAns(offset=False), RXParamSetupAns(rate=False), RXParamSetupAns(channel=False)):
            self.refuse(mote, RXParamSetupReq, answer)
            self.run_for(mote, 12, confirmed=True)
            self.assertEqual(mote.missed, 0)
            self.assertEqual((mote.delay, mote.offset, mote.rx2), (3, 0, (869_525_000, 0)))
            self.assertEqual(self.kinds(mote).count("RXParamSetupReq"), 1)
        self.assertEqual(self.bed.counted.mac_refused, 1)
        live = self.bed.core.devices.get(EUI)
        assert live is not None
        self.assertEqual(live.info["mac"]["refused"], ["RXParamSetupReq 1 3 869525000"])
        # Something else is wanted: that is asked for.
        mote.contrary = lambda request: None
        self.bed.network.configure(msgspec.structs.replace(self.bed.settings, rx2_rate=2))
        self.run_for(mote, 3)
        self.assertEqual((mote.offset, mote.rx2), (1, (869_525_000, 2)))

    def test_a_new_session_is_asked_again(self) -> None:
        self.start(channels=(867_100_000, 867_300_000), max_duty_cycle=5)
        mote = self.otaa()
        self.run_for(mote, 3)
        self.assertEqual(mote.duty, 5)
        again = ObedientMote(self.bed, join(self.bed, self.gateway, nonce=2))
        self.assertIsNone(self.mac())
        self.assertNotIn(EUI, self.bed.storage.tables["lorawan_mac"])
        self.run_for(again, 3)
        self.assertEqual(again.duty, 5)


class ParameterTests(Case):
    def test_everything_that_can_be_set(self) -> None:
        self.start(
            rx1_delay=5,
            rx1_offset=2,
            rx2_frequency=869_000_000,
            rx2_rate=3,
            max_duty_cycle=7,
            channels=tuple(867_100_000 + 200_000 * number for number in range(5)),
        )
        mote = self.abp(snr=12.0)
        command = self.bed.command(b"go", mote.mote)
        self.run_for(mote, 12, confirmed=True)
        self.assertEqual((mote.delay, mote.offset, mote.rx2, mote.duty), (5, 2, (869_000_000, 3), 7))
        self.assertEqual(sorted(mote.channels.values())[:5], list(self.bed.settings.channels))
        self.assertEqual((mote.rate, len(mote.enabled), mote.missed, mote.sticky), (5, 8, 0, []))
        self.assertEqual(command.status, "succeeded")
        told = len(mote.told)
        self.again(mote, **msgspec.structs.asdict(self.bed.settings))
        self.run_for(mote, 5, confirmed=True)
        self.assertEqual((len(mote.told), mote.missed), (told, 0))

    def test_a_join_tells_most_of_it(self) -> None:
        frequencies = tuple(866_100_000 + 200_000 * number for number in range(7))
        self.start(rx1_delay=5, rx1_offset=2, rx2_rate=3, channels=frequencies)
        mote = self.otaa()
        self.assertEqual((mote.delay, mote.offset, mote.rx2, len(mote.channels)), (5, 2, (869_525_000, 3), 8))
        self.run_for(mote, 4)
        # The CFList has room for five.
        self.assertEqual(self.kinds(mote), ["NewChannelReq", "NewChannelReq"])
        self.assertEqual((sorted(mote.channels), mote.missed), (list(range(10)), 0))

    def test_a_mote_of_its_own(self) -> None:
        self.start()
        mote = self.abp(fields={"rx1_delay": 2, "max_duty_cycle": 3})
        self.run_for(mote, 3, confirmed=True)
        self.assertEqual((mote.delay, mote.duty, mote.missed), (2, 3, 0))
        changing = self.bed.core.registry.update_device(EUI, {"rx1_delay": None, "channels": [867_100_000]})
        changing.addErrback(lambda failure: failure.raiseException())
        self.run_for(mote, 4, confirmed=True)
        self.assertEqual((mote.delay, mote.duty, mote.missed, mote.channels[3]), (1, 3, 0, 867_100_000))
        changing = self.bed.core.registry.update_device(EUI, {"channels": []})
        changing.addErrback(lambda failure: failure.raiseException())
        self.run_for(mote, 3)
        self.assertNotIn(3, mote.channels)

    def test_dwell_time(self) -> None:
        self.start(region="as923", dwell_time="both")
        mote = self.abp("as923", rate=3)
        mote.dwell = (True, False)
        self.run_for(mote, 3, confirmed=True)
        self.assertEqual(
            [one for one in mote.told if isinstance(one, TxParamSetupReq)], [TxParamSetupReq(True, True, 5)]
        )
        self.assertEqual((mote.dwell, mote.missed), ((True, True), 0))

    def test_channels_of_a_fixed_plan(self) -> None:
        for name, block in (("us915", 1), ("au915", 7), ("cn470", 10)):
            self.start(region=name, channel_block=block)
            mote = self.abp(name, snr=12.0, rate=0)
            everything = mote.enabled
            # Gateways hear those of the block alone.
            index = min(REGIONS[name].block(block))
            mote.mote.says(b"x", self.gateway, freq=mote.channels[index] / 1e6, datr=REGIONS[name].rate(0).datr)
            mote._listen(self.gateway, self.gateway.tmst, mote.channels[index])
            self.gateway.pull()
            self.assertEqual(mote.enabled, REGIONS[name].block(block), name)
            self.run_for(mote, 8)
            self.assertEqual((mote.enabled, mote.rate), (REGIONS[name].block(block), REGIONS[name].uplink_rates[-1]))
            # It fell back to all of them, and is told again.
            mote.enabled = everything
            while mote.enabled == everything:
                self.run_for(mote, 1)
            self.assertEqual(mote.enabled, REGIONS[name].block(block), name)

    def test_status_by_interval(self) -> None:
        self.start(status_interval=100.0, adr=False)
        mote = self.otaa()
        self.bed.advance(90)
        self.gateway.pull()
        self.run_for(mote, 2)
        self.assertEqual(mote.told, [])
        self.bed.advance(20)
        self.gateway.pull()
        self.run_for(mote, 3)
        self.assertEqual(mote.told, [DevStatusReq()])
        status = [one.payload for one in self.bed.heard.uplinks if one.kind == "status"]
        self.assertEqual(status, [{"battery": 200, "margin": 7}])
        live = self.bed.core.devices.get(EUI)
        assert live is not None
        before = live.info["status"]
        self.again(mote)
        self.run_for(mote, 1)
        live = self.bed.core.devices.get(EUI)
        assert live is not None
        self.assertEqual(live.info["status"], before)

    def test_a_question_that_was_lost_is_asked_again(self) -> None:
        self.start(status_interval=100.0, mac_tries=3)
        mote = self.otaa()
        self.bed.advance(101)
        self.gateway.pull()
        mote.deaf = True
        self.run_for(mote, 2)
        mote.deaf = False
        self.run_for(mote, 2)
        self.assertEqual((mote.told, mote.missed), ([DevStatusReq()], 2))
        self.assertEqual(self.mac().pending, {})


class StickyTests(Case):
    def test_the_windows_of_the_frame_with_the_answer_are_the_new_ones(self) -> None:
        self.start(rx1_delay=4)
        mote = self.abp()
        self.run_for(mote, 1)
        self.assertEqual((mote.delay, len(mote.sticky)), (4, 1))
        command = self.bed.command(b"go", mote.mote)
        self.run_for(mote, 1)
        self.assertEqual((mote.missed, mote.sticky, command.status), (0, [], "succeeded"))

    def test_an_answer_that_was_lost_is_repeated(self) -> None:
        self.start(rx1_delay=4)
        mote = self.abp()
        self.run_for(mote, 1)
        snr, mote.snr = mote.snr, -99.0
        self.run_for(mote, 3)
        mote.snr = snr
        self.run_for(mote, 1)
        self.assertEqual((mote.missed, mote.sticky), (0, []))

    def test_the_broker_dies_between_question_and_answer(self) -> None:
        self.start(rx1_delay=4, rx2_rate=3)
        mote = self.abp()
        self.run_for(mote, 1)
        self.again(mote, rx1_delay=4, rx2_rate=3)
        self.run_for(mote, 1, confirmed=True)
        self.assertEqual((mote.missed, mote.sticky, mote.delay), (0, [], 4))
        self.assertEqual((self.mac().has.delay, self.mac().has.rx2_rate), (4, 3))

    def test_a_mote_that_says_it_only_once(self) -> None:
        """As LoRaWAN 1.0.0 had it. That frame is lost: the last try finds the mote where it is."""
        self.start(rx1_delay=4, mac_tries=3)
        mote = self.abp()
        self.run_for(mote, 1)
        mote.sticky = []
        self.run_for(mote, 2)
        self.assertEqual((mote.delay, len(mote.frames), mote.missed), (4, 2, 1))
        self.run_for(mote, 1, confirmed=True)
        self.assertEqual((self.mac().has.delay, mote.missed), (4, 1))

    def test_it_stops_when_it_has_heard_anything(self) -> None:
        self.start()
        mote = self.abp()
        self.run_for(mote, 1, fopts=bytes.fromhex("08"))
        self.assertEqual((len(mote.frames), self.bed.counted.stray_answers), (1, 1))

    def test_class_c_is_spoken_to_in_its_new_window(self) -> None:
        self.start(rx2_rate=3)
        mote = self.abp(fields={"class": "C"})
        self.run_for(mote, 1)
        self.bed.command(b"go", mote.mote)
        self.bed.advance(3)
        (packet,) = self.gateway.sent()
        self.assertEqual(packet["datr"], "SF9BW125")


class SharedFrameTests(Case):
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


class SilenceTests(Case):
    def test_given_up_and_tried_again_later(self) -> None:
        self.start(max_duty_cycle=4, rx1_delay=2, mac_tries=3, mac_pause=3600.0, adr=False)
        mote = self.abp()
        mote.deaf = True
        self.run_for(mote, 10)
        self.assertEqual((mote.missed, self.bed.counted.mac_unanswered), (3, 2))
        mote.deaf = False
        self.bed.advance(3600)
        self.gateway.pull()
        self.run_for(mote, 3)
        self.assertEqual((mote.duty, mote.delay), (4, 2))

    def test_some_of_several_channels_are_answered(self) -> None:
        self.start(channels=(867_100_000, 867_300_000, 867_500_000), adr=False)
        mote = self.abp()
        self.run_for(mote, 1)
        self.assertEqual(len(mote.answers), 3)
        mote.answers = mote.answers[:1]
        self.run_for(mote, 1)
        self.assertEqual([one.index for one in mote.told if isinstance(one, NewChannelReq)], [3, 4, 5, 4, 5])
        mote.answers[0] = NewChannelAns(frequency=False)
        self.run_for(mote, 3)
        self.assertEqual([channel.index for channel in self.mac().has.extra], [3, 5])
        self.assertEqual(len(mote.told), 5)


NONSENSE = st.one_of(
    st.binary(max_size=15),
    st.lists(
        st.sampled_from(["0300", "0307", "0306", "0500", "0507", "0700", "0703", "08", "04", "09", "0a03", "06ff3f"])
    ).map(lambda texts: bytes.fromhex("".join(texts))[:15]),
)


class AnythingTests(SynchronousTestCase):
    @settings(max_examples=60, deadline=None)
    @given(st.lists(NONSENSE, min_size=1, max_size=12), st.sampled_from(("eu868", "us915", "cn470", "as923")))
    def test_any_bytes_as_answers(self, answers: list[bytes], region: str) -> None:
        """Nothing is raised, nothing is stuck: afterwards a command goes through, and the state is as a good one's."""
        wishes: dict[str, Any] = {
            "region": region,
            "rx1_delay": 2,
            "max_duty_cycle": 3,
            "channel_block": 1,
            "status_interval": 30.0,
            "mac_tries": 2,
            "dwell_time": "none",
        }
        bed = Bed(**wishes)
        gateway = bed.forwarder()
        mote = bed.abp(region=region)
        frequency = REGIONS[region].channels_up[8 if REGIONS[region].fixed else 0].frequency / 1e6
        datr = REGIONS[region].rate(REGIONS[region].uplink_rates[-1]).datr
        for number, answer in enumerate(answers):
            if number % 4 == 3:
                bed = bed.again(**wishes)
                gateway = bed.forwarder()
                mote.bed = bed
            where: dict[str, Any] = {"freq": frequency, "datr": datr, "lsnr": 9.0, "adr": True}
            if number % 2:
                mote.says(answer or b"\x02", gateway, port=0, **where)
            else:
                mote.says(b"x", gateway, fopts=answer or None, **where)
            bed.advance(5)
            gateway.pull()
            self.assertEqual(bed.faults, [])
        gateway.sent()
        command = bed.command(b"go", mote)
        for _ in range(3):
            mote.says(b"x", gateway, **where)
            bed.advance(6)
            gateway.pull()
        self.assertEqual((command.status, bed.faults), ("succeeded", []))
        state = bed.network.motes.get(EUI)
        assert state is not None and state.mac is not None
        self.assertEqual(type(state.mac).of(state.mac.record()).record(), state.mac.record())
        self.assertLessEqual(len(state.mac.refused), 64)

    @settings(max_examples=30, deadline=None)
    @given(st.integers(0, 2**32))
    def test_any_order(self, seed: int) -> None:
        """Frames lost both ways, deaths, other settings: in the end the mote has what it should, and hears us."""
        dice = random.Random(seed)
        wishes: dict[str, Any] = {"mac_tries": 3, "mac_pause": 60.0, "status_interval": 200.0}
        bed = Bed(**wishes)
        gateway = bed.forwarder()
        mote = ObedientMote(bed, bed.abp(region="eu868"), snr=dice.uniform(-5.0, 15.0))
        good = mote.snr
        for _ in range(40):
            mote.deaf = dice.random() < 0.3
            mote.snr = good if dice.random() < 0.8 else -99.0
            mote.says(gateway, confirmed=dice.random() < 0.2)
            step = dice.random()
            if step < 0.1:
                wishes |= {
                    "rx1_delay": dice.randint(1, 4),
                    "rx2_rate": dice.randint(0, 5),
                    "channels": tuple(867_100_000 + 200_000 * number for number in range(dice.randint(0, 5))),
                }
                bed.network.configure(msgspec.structs.replace(bed.settings, **wishes))
            elif step < 0.2:
                bed = bed.again(**wishes)
                gateway = bed.forwarder()
                mote.bed = mote.mote.bed = bed
            elif step < 0.3:
                bed.command(b"x", mote.mote, confirm=dice.random() < 0.5)
        mote.deaf, mote.snr = False, good
        for _ in range(30):
            mote.says(gateway)
            bed.advance(20)
            gateway.pull()
        self.assertEqual(bed.faults, [])
        missed = mote.missed
        mote.says(gateway, confirmed=True)
        known = bed.network.motes.get(EUI)
        assert known is not None and known.mac is not None
        has = known.mac.has
        self.assertEqual(mote.missed, missed, "it is spoken to where it listens")
        self.assertEqual((has.delay, has.rx2_frequency, has.rx2_rate), (mote.delay, *mote.rx2))
        self.assertEqual(has.delay, wishes.get("rx1_delay", 1))
        self.assertEqual({one.index for one in has.extra} | {0, 1, 2}, set(mote.channels))
        self.assertEqual(known.mac.sending.rate, mote.rate)
