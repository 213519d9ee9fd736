"""Channel masks: what LinkADRReq and CFLists tell, and what a mote makes of it."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given, settings
from hypothesis import strategies as st
from pamoja import lorawan as pamoja
from twisted.trial.unittest import SynchronousTestCase

from broker.devices.lorawan import frames
from broker.devices.lorawan.regions import EU868, REGIONS, US915, Region
from tests.devices.lorawan.independent import lora_packet

APP_KEY = bytes.fromhex("8899AABBCCDDEEFF0011223344556677")
#: Channels of a mask by region, as LinkADRReq of that region counts them.
CHANNELS = {
    "eu868": 16,
    "as923": 16,
    "as923-2": 16,
    "as923-3": 16,
    "as923-4": 16,
    "in865": 16,
    "kr920": 16,
    "cn470": 96,
    "cn470-a20": 64,
    "cn470-b20": 64,
    "cn470-a26": 48,
    "cn470-b26": 48,
    "us915": 72,
    "au915": 72,
}


def listens(total: int, requests: Iterable[tuple[int, int]], enabled: set[int]) -> set[int] | None:
    """A mote's own reading, written from the tables of ChMaskCntl: its channels afterwards, None if it refuses."""
    every = set(range(total))
    for control, mask in requests:
        bits = {bit for bit in range(16) if mask >> bit & 1}
        match total, control:
            case (72, 5):
                if not bits <= set(range(8)):
                    return None
                enabled = {8 * bit + step for bit in bits for step in range(8)} | {64 + bit for bit in bits}
            case (72, 6 | 7):
                if not bits <= set(range(8)):
                    return None
                enabled = (set(range(64)) if control == 6 else set()) | {64 + bit for bit in bits}
            case (48, 3) | (16 | 64 | 96, 6):
                enabled = every
            case (48, 4) | (64, 7):
                enabled = set()
            case _:
                meant = {16 * control + bit for bit in bits}
                if 16 * control >= total or not meant <= every:
                    return None
                enabled = {number for number in enabled if number // 16 != control} | meant
    return enabled


regions = st.sampled_from(sorted(CHANNELS))


@st.composite
def choices(draw: st.DrawFn) -> tuple[str, frozenset[int], frozenset[int]]:
    """A region, channels that a mote has, and those that it should have: few, blocks, all but few, any."""
    name = draw(regions)
    total = CHANNELS[name]
    one = st.integers(0, total - 1)

    def several() -> st.SearchStrategy[frozenset[int]]:
        groups = st.frozensets(st.integers(0, -(-total // 8) - 1), min_size=1).map(
            lambda eights: frozenset(number for number in range(total) if number // 8 in eights)
        )
        few = st.frozensets(one, min_size=1, max_size=12)
        most = few.map(lambda left_out: frozenset(range(total)) - left_out)
        return few | groups | most | st.frozensets(one, min_size=1)

    return name, draw(several()), draw(several())


class MaskTests(SynchronousTestCase):
    def test_rows(self) -> None:
        self.assertEqual({name: region.mask_rules.channels for name, region in REGIONS.items()}, CHANNELS)

    @settings(max_examples=400, deadline=None)
    @given(choices())
    def test_there_and_back(self, choice: tuple[str, frozenset[int], frozenset[int]]) -> None:
        name, before, wanted = choice
        region = REGIONS[name]
        requests = region.masks(wanted)
        has: frozenset[int] | None = before
        for control, mask in requests:
            assert has is not None
            has = region.apply_mask(has, control, mask)
        self.assertEqual(has, wanted)
        self.assertEqual(listens(CHANNELS[name], requests, set(before)), set(wanted))
        # Never more than one for each sixteen channels.
        self.assertLessEqual(len(requests), -(-CHANNELS[name] // 16))

    @settings(max_examples=600, deadline=None)
    @given(regions, st.integers(0, 7), st.integers(0, 0xFFFF), st.frozensets(st.integers(0, 47), max_size=20))
    def test_any_request(self, name: str, control: int, mask: int, before: frozenset[int]) -> None:
        before = frozenset(number for number in before if number < CHANNELS[name])
        found = REGIONS[name].apply_mask(before, control, mask)
        self.assertEqual(found, listens(CHANNELS[name], [(control, mask)], set(before)))

    def test_shortest(self) -> None:
        all_but_nine = frozenset(range(96)) - {9}
        for name, wanted, requests in (
            ("eu868", {0, 1, 2}, ((0, 0x0007),)),
            ("cn470", set(range(80, 88)), (*((group, 0) for group in range(5)), (5, 0x00FF))),
            ("cn470", set(range(96)), ((6, 0xFFFF),)),
            ("cn470", all_but_nine, ((6, 0xFFFF), (0, 0xFDFF))),
            ("cn470-a20", set(range(8)), ((7, 0), (0, 0x00FF))),
            ("cn470-a20", set(range(64)), ((6, 0xFFFF),)),
            ("cn470-b26", set(range(8, 16)), ((4, 0), (0, 0xFF00))),
            ("cn470-b26", set(range(48)) - {47}, ((3, 0xFFFF), (2, 0x7FFF))),
            ("us915", {*range(8, 16), 65}, ((7, 0x0002), (0, 0xFF00))),
            ("us915", set(range(72)), ((6, 0x00FF),)),
            ("us915", set(range(64, 72)), ((7, 0x00FF),)),
            ("au915", {*range(48, 56), 70}, ((7, 0x0040), (3, 0x00FF))),
            ("au915", {0, 16, 32, 48, 64}, ((0, 1), (1, 1), (2, 1), (3, 1), (4, 1))),
        ):
            self.assertEqual(REGIONS[name].masks(wanted), requests, (name, wanted))

    def test_what_is_no_choice(self) -> None:
        for name, total in CHANNELS.items():
            for wanted in ((), (total,), (-1, 0)):
                self.assertRaises(ValueError, REGIONS[name].masks, wanted)

    def test_reserved_is_refused(self) -> None:
        for name, reserved in {
            "eu868": (1, 2, 3, 4, 5, 7),
            "cn470": (7,),
            "cn470-a20": (4, 5),
            "cn470-b26": (5, 6, 7),
            "us915": (),
        }.items():
            region = REGIONS[name]
            refused = tuple(control for control in range(8) if region.apply_mask(frozenset({0}), control, 1) is None)
            self.assertEqual(refused, reserved, name)
        self.assertIsNone(US915.apply_mask(frozenset(), 4, 0x0100))
        self.assertIsNone(US915.apply_mask(frozenset(), 7, 0x0100))

    def test_blocks(self) -> None:
        for name, blocks in {"cn470": 12, "cn470-a20": 8, "cn470-a26": 6, "us915": 8, "au915": 8, "eu868": 0}.items():
            region = REGIONS[name]
            self.assertEqual(region.blocks, blocks, name)
            for number in (-1, blocks, 99):
                self.assertRaises(ValueError, region.block, number)
            found = [region.block(number) for number in range(blocks)]
            for number, block in enumerate(found):
                eight = set(range(8 * number, 8 * number + 8))
                self.assertEqual(block, eight | {64 + number} if name.endswith("915") else eight)
            if blocks:
                self.assertEqual(frozenset[int]().union(*found), frozenset(range(len(region.channels_up))))


class ChannelListTests(SynchronousTestCase):
    def lists(self) -> Iterable[tuple[Region, bytes, str]]:
        """(region, our CFList, as it has to be)."""
        for name, enabled, wanted in (
            ("eu868", None, "184f84 e85684 b85e84 886684 586e84 00"),
            ("eu868", {0, 1, 2, 3, 7}, "184f84 000000 000000 000000 586e84 00"),
            ("eu868", {0, 1}, ""),
            ("kr920", None, "f8ca8c c8d28c 98da8c 68e28c 000000 00"),
            ("as923", None, ""),
            ("in865", None, ""),
            ("cn470", None, ""),
            ("cn470", range(8), ""),
            ("us915", None, ""),
            ("us915", US915.block(1), "00ff 0000 0000 0000 0200 0000 0000 00 01"),
            ("au915", {0, 63, 71}, "0100 0000 0000 0080 8000 0000 0000 00 01"),
            ("cn470-a20", range(56, 64), "0000 0000 0000 00ff 0000 0000 0000 00 01"),
            ("cn470-a26", {47}, "0000 0000 0080 0000 0000 0000 0000 00 01"),
        ):
            yield REGIONS[name], REGIONS[name].cf_list_bytes(enabled), wanted.replace(" ", "")

    def test_rows(self) -> None:
        for region, found, wanted in self.lists():
            self.assertEqual(found.hex(), wanted, region.name)

    def test_independent_motes_read_them(self) -> None:
        """lora-packet gives back the bytes of the list; pamoja joins with it."""
        mote = pamoja.device(bytes(8), bytes.fromhex("70B3D57ED0000001"), APP_KEY)
        for region, found, wanted in self.lists():
            accept = frames.join_accept(APP_KEY, 7, 0x13, 0x26012E43, rx2_data_rate=region.rx2_rate, cf_list=found)
            read = lora_packet(read=accept, app_key=APP_KEY)
            self.assertEqual((read["genuine"], read["cf_list"]), (True, wanted), region.name)
            self.assertEqual(read["rx2_rate"], region.rx2_rate)
            joined = mote.accept_join(accept, 5)
            self.assertEqual((joined.dev_addr, joined.dl_settings & 15), (0x26012E43, region.rx2_rate))

    def test_frequencies_are_those_told(self) -> None:
        """What a mote reads from a list of type 0 are the frequencies that it gets."""
        told = EU868.cf_list_bytes()
        found = [int.from_bytes(told[at : at + 3], "little") * 100 for at in range(0, 15, 3)]
        self.assertEqual(found, [867_100_000, 867_300_000, 867_500_000, 867_700_000, 867_900_000])
