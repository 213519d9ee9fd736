"""ADR through the whole network, with motes that do as they are told."""

from __future__ import annotations

import msgspec

from broker.devices.lorawan import keys
from broker.devices.lorawan.mac import codec
from broker.devices.lorawan.mac.codec import (
    LinkADRReq,
)
from broker.devices.lorawan.regions import REGIONS
from tests.devices.lorawan.mac_case import EUI, MacCase


class AdrTests(MacCase):
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
        self.assertEqual((shown["pending"], live.info_changed), ((), True))

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

    def test_adr_ack_req_is_answered_with_what_there_is_to_say(self) -> None:
        self.start()
        mote = self.otaa(snr=12.0)
        for fopts in (b"", codec.encode(LinkADRReq(5, 4, 0x00FF))):
            frame = bytearray(mote.mote.says(b"x", adr=True))
            frame[5] |= 0x40
            session = self.bed.network.motes.get(EUI)
            assert session is not None
            mic = keys.data_mic(session.nwk_s_key, keys.UP, session.dev_addr, mote.mote.fcnt - 1, bytes(frame[:-4]))
            self.gateway.hears(bytes(frame[:-4]) + mic, datr="SF12BW125", lsnr=12.0)
            self.bed.advance(3)
            (down,) = [mote.mote.reads(one) for one in self.gateway.frames()]
            self.assertEqual((down.fport, down.adr, bytes(down.fopts)), (None, True, fopts))
            self.run_for(mote, 3)

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
