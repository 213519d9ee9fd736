"""MAC commands through the whole network, with motes that obey, refuse, fall silent or repeat themselves."""

from __future__ import annotations

import msgspec
from pamoja import lorawan as pamoja

from broker.devices.lorawan.mac.codec import (
    Command,
    DevStatusReq,
    LinkADRAns,
    LinkADRReq,
    NewChannelAns,
    NewChannelReq,
    RXParamSetupAns,
    RXParamSetupReq,
    TxParamSetupReq,
)
from broker.devices.lorawan.regions import REGIONS
from tests.devices.lorawan.bed import APP_KEY, JOIN_EUI, Mote, join
from tests.devices.lorawan.independent import lora_packet
from tests.devices.lorawan.mac_case import EUI, MacCase
from tests.devices.lorawan.obedient import ObedientMote


class RefusalTests(MacCase):
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

    def test_for_a_time(self) -> None:
        """What a mote refused it may take another day: it is asked once more, a restart or not."""
        self.start(mac_forgive=7_200.0, status_interval=0.0)
        mote = self.otaa(snr=12.0)
        self.refuse(mote, LinkADRReq, LinkADRAns(False, False, False))
        self.run_for(mote, 30)
        told = len(mote.told)
        self.assertGreater(told, 0)
        self.again(mote, mac_forgive=7_200.0)
        mote.contrary = lambda request: None
        self.run_for(mote, 10)
        self.assertEqual((len(mote.told), mote.rate), (told, 0))
        self.bed.clock.advance(7_200.0)
        self.gateway.pull()
        self.run_for(mote, 30)
        self.assertEqual(mote.rate, 5)

    def test_for_ever(self) -> None:
        self.start(mac_forgive=0.0)
        mote = self.otaa(snr=12.0)
        self.refuse(mote, LinkADRReq, LinkADRAns(False, False, False))
        self.run_for(mote, 30)
        told = len(mote.told)
        mote.contrary = lambda request: None
        self.bed.clock.advance(10 * 86_400.0)
        self.gateway.pull()
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
        self.assertEqual(self.mac().as_dict()["refused"], ["RXParamSetupReq 1 3 869525000"])
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


class ParameterTests(MacCase):
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

    def test_a_join_tells_masks_that_not_every_mote_takes(self) -> None:
        """CFList type 1 is younger than 1.0.2: whoever ignores it would be heard on eight channels of 72."""
        self.start(region="us915", channel_block=1)
        self.bed.register(region="us915")
        device = pamoja.device(bytes.fromhex(EUI), bytes.fromhex(JOIN_EUI), bytes.fromhex(APP_KEY))
        self.gateway.hears(device.join_request(1), freq=903.9, datr="SF10BW125")
        self.bed.advance(0.4)
        (accept,) = self.gateway.frames()
        told = device.accept_join(accept, 1)
        read = lora_packet(read=accept, app_key=APP_KEY)
        self.assertEqual((read["genuine"], read["cf_list"]), (True, "00ff" + "0000" * 3 + "0200" + "00" * 5 + "01"))
        mote = ObedientMote(self.bed, Mote(self.bed, EUI, told.dev_addr, told.session()), "us915")
        mote.mote.says(b"x", self.gateway, freq=903.9, datr="SF10BW125")
        mote._listen(self.gateway, self.gateway.tmst, 903_900_000)
        self.gateway.pull()
        self.assertEqual(mote.enabled, REGIONS["us915"].block(1))
        self.run_for(mote, 3)
        self.assertEqual(self.mac().has.enabled, mote.enabled)

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


class StickyTests(MacCase):
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


class SilenceTests(MacCase):
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
