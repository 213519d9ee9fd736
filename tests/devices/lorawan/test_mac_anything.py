"""Whatever motes answer, and whatever happens in whatever order, nothing is stuck."""

from __future__ import annotations

import random
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from broker.devices.lorawan.regions import REGIONS
from tests.devices.lorawan.bed import Bed
from tests.devices.lorawan.mac_case import EUI
from tests.devices.lorawan.obedient import ObedientMote

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
