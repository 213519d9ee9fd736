"""A network in each region: where and how its downlinks go out, and which channels motes are told."""

from __future__ import annotations

from typing import Any

from msgspec import ValidationError, convert
from pamoja import lorawan as pamoja
from twisted.trial.unittest import SynchronousTestCase

from broker.devices.lorawan import Settings
from broker.devices.lorawan.gateway import GatewayRecord
from broker.devices.lorawan.regions import REGIONS
from tests.devices.lorawan.bed import APP_KEY, GATEWAY, JOIN_EUI, OTHER, Bed, Mote

#: Region, uplink (MHz, data rate), then RX1 and RX2 (MHz, data rate) as the documents have them.
WINDOWS = (
    ("eu868", 868.3, "SF9BW125", (868.3, "SF9BW125"), (869.525, "SF12BW125")),
    ("eu868", 868.3, "SF7BW250", (868.3, "SF7BW250"), (869.525, "SF12BW125")),
    ("cn470", 489.3, "SF8BW125", (509.7, "SF8BW125"), (505.3, "SF12BW125")),
    ("cn470-a20", 476.5, "SF7BW125", (490.1, "SF7BW125"), (486.9, "SF11BW125")),
    ("cn470-a20", 509.7, "SF11BW125", (496.5, "SF11BW125"), (486.9, "SF11BW125")),
    ("cn470-b20", 496.9, "SF10BW125", (496.9, "SF10BW125"), (498.3, "SF11BW125")),
    ("cn470-a26", 475.1, "SF7BW125", (490.1, "SF7BW125"), (492.5, "SF11BW125")),
    ("cn470-b26", 489.7, "SF7BW125", (504.7, "SF7BW125"), (502.5, "SF11BW125")),
    ("as923", 923.4, "SF7BW125", (923.4, "SF7BW125"), (923.2, "SF10BW125")),
    ("as923-2", 921.6, "SF9BW125", (921.6, "SF9BW125"), (921.4, "SF10BW125")),
    ("as923-3", 916.6, "SF7BW125", (916.6, "SF7BW125"), (916.6, "SF10BW125")),
    ("as923-4", 917.5, "SF7BW125", (917.5, "SF7BW125"), (917.3, "SF10BW125")),
    ("in865", 865.0625, "SF12BW125", (865.0625, "SF12BW125"), (866.55, "SF10BW125")),
    ("kr920", 923.3, "SF7BW125", (923.3, "SF7BW125"), (921.9, "SF12BW125")),
    ("us915", 902.3, "SF10BW125", (923.3, "SF10BW500"), (923.3, "SF12BW500")),
    ("us915", 914.9, "SF7BW125", (927.5, "SF7BW500"), (923.3, "SF12BW500")),
    ("us915", 904.6, "SF8BW500", (923.9, "SF7BW500"), (923.3, "SF12BW500")),
    ("au915", 915.2, "SF12BW125", (923.3, "SF12BW500"), (923.3, "SF12BW500")),
    ("au915", 927.1, "SF8BW500", (927.5, "SF7BW500"), (923.3, "SF12BW500")),
)
LINK_ADR = 3


def told(mote: Mote, frame: bytes) -> list[tuple[int, int]]:
    """(ChMaskCntl, ChMask) of the LinkADRReq in a frame."""
    down = mote.reads(frame)
    commands = down.payload if down.fport == 0 else frame[8 : 8 + (frame[5] & 15)]
    found = []
    while commands[:1] == bytes((LINK_ADR,)):
        found.append((commands[4] >> 4 & 7, int.from_bytes(commands[2:4], "little")))
        commands = commands[5:]
    return found


class RegionTests(SynchronousTestCase):
    def test_windows(self) -> None:
        self.assertEqual({row[0] for row in WINDOWS}, set(REGIONS))
        for region, freq, datr, *windows in WINDOWS:
            bed = Bed(region=region)
            gateway = bed.forwarder()
            mote = bed.abp()
            bed.command(b"x", mote)
            gateway.answers = ["TOO_LATE"]
            mote.says(b"x", gateway, freq=freq, datr=datr)
            bed.advance(3)
            sent = gateway.sent()
            # Which of them is first is not the region's to say.
            self.assertCountEqual([(packet["freq"], packet["datr"]) for packet in sent], windows, (region, freq))
            # 869.4 to 869.65 MHz may have more; 20 dBm is in the gain table of every gateway.
            powers = [20 if packet["freq"] == 869.525 else REGIONS[region].power for packet in sent]
            self.assertEqual([packet["powe"] for packet in sent], powers)
            self.assertEqual([packet["ipol"] for packet in sent], [True] * 2)

    def test_join_accepts_where_motes_do_not_listen_alike(self) -> None:
        """CN470 with 20 MHz: what RX2 of a join is, is read in two ways; in RX1 all agree. With 26 MHz both are one."""
        for region, freq, windows in (
            ("cn470-a20", 470.9, [484.5]),
            ("cn470-b20", 479.9, [479.9]),
            ("cn470-a26", 470.3, [492.5, 492.5]),
            ("eu868", 868.1, [868.1, 869.525]),
        ):
            bed = Bed(region=region)
            gateway = bed.forwarder()
            bed.register()
            gateway.answers = ["TOO_LATE"]
            device = pamoja.device(*map(bytes.fromhex, ("AA00000000000001", JOIN_EUI, APP_KEY)))
            gateway.hears(device.join_request(1), freq=freq)
            bed.advance(7)
            self.assertEqual([packet["freq"] for packet in gateway.sent()], windows, region)

    def test_an_rx2_that_takes_nothing(self) -> None:
        """DR0 of the newer plans of CN470 has no payload: it is no data rate for RX2."""
        bed = Bed(region="cn470-a26")
        gateway = bed.forwarder()
        bed.register(rx2_rate=0)  # it names no region, so nobody knows at this moment
        device = pamoja.device(*map(bytes.fromhex, ("AA00000000000001", JOIN_EUI, APP_KEY)))
        gateway.hears(device.join_request(1), freq=470.3)
        bed.advance(1)
        (accept,) = gateway.frames()
        self.assertEqual(device.accept_join(accept, 1).dl_settings & 15, 1)

    def test_of_one_network(self) -> None:
        """Gateways and motes of other regions than the network's are served as theirs has it, side by side."""
        bed = Bed(region="eu868", unknown="refuse")
        bed.network.gateways.register(GatewayRecord(eui=GATEWAY, region="us915"))
        bed.network.gateways.register(GatewayRecord(eui=OTHER))
        american, european = bed.forwarder(), bed.forwarder(OTHER)
        for gateway, freq, mote in (
            (american, 903.9, bed.abp("AA00000000000001", "26010001")),
            (european, 868.1, bed.abp("AA00000000000002", "26010002")),
            (european, 865.985, bed.abp("AA00000000000003", "26010003", region="in865")),
        ):
            bed.command(b"x", mote)
            gateway.answers = ["TOO_LATE"]
            mote.says(b"x", gateway, freq=freq)
            bed.advance(3)
        self.assertEqual([packet["freq"] for packet in american.sent()], [923.3, 923.3])
        self.assertEqual([packet["freq"] for packet in european.sent()], [868.1, 869.525, 865.985, 866.55])

    def test_no_channel_of_the_plan(self) -> None:
        """RX1 follows from the channel; of a frame that was heard beside all of them there is RX2 alone."""
        bed = Bed(region="us915")
        gateway = bed.forwarder()
        mote = bed.abp()
        command = bed.command(b"x", mote)
        mote.says(b"x", gateway, freq=902.4)
        bed.advance(3)
        self.assertEqual([packet["freq"] for packet in gateway.sent()], [923.3])
        self.assertEqual(command.status, "succeeded")

    def test_a_mote_is_told_the_channels_that_gateways_hear(self) -> None:
        for region, block, freq in (
            ("us915", 1, 903.9),
            ("au915", 7, 926.4),
            ("cn470-a20", 7, 508.3),
            ("cn470-b26", 5, 488.3),
        ):
            bed = Bed(region=region, channel_block=block)
            gateway = bed.forwarder()
            mote = bed.abp()
            mote.says(b"x", gateway, freq=freq)
            bed.advance(3)
            (frame,) = gateway.frames()
            plan = REGIONS[region]
            has: frozenset[int] | None = frozenset(range(len(plan.channels_up)))
            requests = told(mote, frame)
            self.assertEqual(len(requests), 2, region)
            for control, mask in requests:
                assert has is not None
                has = plan.apply_mask(has, control, mask)
            self.assertEqual(has, plan.block(block), region)

    def test_motes_without_a_choice_are_told_nothing(self) -> None:
        for region, block, freq in (("us915", -1, 903.9), ("eu868", 3, 868.1), ("cn470-a26", -1, 470.3)):
            bed = Bed(region=region, channel_block=block)
            gateway = bed.forwarder()
            mote = bed.abp()
            mote.says(b"x", gateway, freq=freq)
            bed.advance(3)
            self.assertEqual(gateway.sent(), [], region)


class SettingsTests(SynchronousTestCase):
    def test_every_region(self) -> None:
        for name, region in REGIONS.items():
            for block in range(-1, 12):
                given: dict[str, Any] = {"region": name, "channel_block": block}
                if region.fixed and block >= region.blocks:
                    error = self.assertRaises(ValidationError, convert, given, Settings)
                    self.assertIn(f"channel_block of {name} is 0 to {region.blocks - 1}, or -1", str(error))
                else:
                    self.assertEqual(convert(given, Settings).channel_block, block)

    def test_refused(self) -> None:
        for given in ({"region": "mars"}, {"channel_block": 12}, {"channel_block": -2}, {"cn470_block": 1}):
            self.assertRaises(ValidationError, convert, given, Settings)

    def test_what_the_region_does_not_have(self) -> None:
        """It would be without effect, which an operator would look for in vain."""
        for region, given, told in (
            ("eu868", {"rx2_rate": 8}, "rx2_rate of eu868 is one of: 0, 1, 2, 3, 4, 5, 6, 7"),
            ("us915", {"rx2_rate": 3}, "rx2_rate of us915 is one of: 8, 9, 10, 11, 12, 13"),
            ("cn470-a26", {"rx2_rate": 0}, "rx2_rate of cn470-a26 is one of: 1, 2, 3, 4, 5"),
            ("us915", {"channels": [867_100_000]}, "us915 has all its channels from the start"),
            ("eu868", {"channels": [865_000_000 + 100_000 * n for n in range(14)]}, "eu868 has room for 13 channels"),
            ("eu868", {"dwell_time": "both"}, "eu868 has no dwell times"),
        ):
            error = self.assertRaises(ValidationError, convert, {"region": region, **given}, Settings)
            self.assertIn(told, str(error))
        settings = convert({"region": "us915", "rx2_rate": 8}, Settings)
        self.assertEqual(settings.rx2_rate, 8)
        own = [865_000_000 + 100_000 * n for n in range(13)] + [868_100_000]
        self.assertEqual(len(convert({"region": "eu868", "channels": own}, Settings).channels), 14)
