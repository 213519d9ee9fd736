"""Downlinks through the whole network: windows, retransmissions, class C, the queue, restarts, gateways that refuse."""

from __future__ import annotations

from base64 import b64decode
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from broker.devices.lorawan import keys
from broker.devices.lorawan.airtime import airtime
from broker.devices.lorawan.gateway import GatewayRecord
from broker.devices.lorawan.priority import Ceilings
from broker.devices.lorawan.regions import EU868
from tests.devices.lorawan.bed import GATEWAY, NOW, NWK_S_KEY, OTHER, THIRD, Bed, Forwarder, Mote, join


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.bed = Bed()
        self.gateway = self.bed.forwarder()

    def tearDown(self) -> None:
        self.assertEqual(self.bed.faults, [])

    def states(self) -> list[tuple[str, Any]]:
        return [(status, result) for _, status, result in self.bed.heard.commands]

    def keep_alive(self, seconds: float, *gateways: Forwarder) -> None:
        while seconds > 0:
            for gateway in gateways or (self.gateway,):
                gateway.pull()
            self.bed.advance(min(5.0, seconds))
            seconds -= 5.0


class ClassATests(Case):
    def test_unconfirmed(self) -> None:
        mote = self.bed.abp()
        command = self.bed.command(b"\x01\x02", mote, port=42)
        self.assertEqual((command.status, self.gateway.asked), ("queued", []))
        heard_at = self.gateway.tmst
        mote.says(b"x", self.gateway)
        self.bed.advance(0.4)
        ((at, packet),) = self.gateway.asked
        self.assertEqual(packet["tmst"], heard_at + 1_000_000)
        self.assertEqual(
            (packet["freq"], packet["datr"], packet["powe"], packet["ipol"]), (868.1, "SF7BW125", 16, True)
        )
        self.assertLessEqual(at - NOW, 0.7)
        (down,) = [mote.reads(frame) for frame in self.gateway.frames()]
        self.assertEqual(
            (down.fport, down.payload, down.confirmed, down.ack, down.fpending), (42, b"\x01\x02", False, False, False)
        )
        self.assertEqual(
            self.states(),
            [("queued", None), ("sent", None), ("succeeded", {"gateway": "AA555A0000000001", "fcnt": 0})],
        )

    def test_an_answer_to_the_uplink_catches_its_window(self) -> None:
        mote = self.bed.abp()
        mote.says(b"x", self.gateway)
        self.bed.advance(0.25)
        self.assertEqual(self.bed.heard.payloads(), [b"x"])
        self.bed.command(b"quick", mote)
        self.bed.advance(0.4)
        (down,) = [mote.reads(frame) for frame in self.gateway.frames()]
        self.assertEqual((down.payload, down.fport), (b"quick", 5))

    def test_json_is_sent_as_text(self) -> None:
        mote = self.bed.abp()
        self.bed.command({"on": True}, mote)
        mote.says(b"x", self.gateway)
        self.bed.advance(0.5)
        (down,) = [mote.reads(frame) for frame in self.gateway.frames()]
        self.assertEqual(down.payload, b'{"on":true}')

    def test_priority_then_arrival_and_pending_flag(self) -> None:
        mote = self.bed.abp()
        for name, priority in ((b"a", 10), (b"b", 64), (b"c", None), (b"d", 64), (b"e", 32)):
            self.bed.command(name, mote, **({} if priority is None else {"priority": priority}))
        got = []
        for _ in range(6):
            mote.says(b"x", self.gateway)
            self.bed.advance(3)
            got += [mote.reads(frame) for frame in self.gateway.frames()]
        self.assertEqual([down.payload for down in got], [b"b", b"d", b"c", b"e", b"a"])
        self.assertEqual([down.fpending for down in got], [True, True, True, True, False])
        self.assertEqual(mote.down, [0, 1, 2, 3, 4])

    def test_confirmed_uplink_is_acknowledged_once_on_disk(self) -> None:
        mote = self.bed.abp()
        self.bed.storage.held = True
        mote.says(b"x", self.gateway, confirmed=True)
        self.bed.advance(0.5)
        self.assertEqual((self.bed.heard.payloads(), self.gateway.sent()), ([b"x"], []))
        self.bed.storage.go_on()
        self.bed.storage.held = False
        self.bed.advance(0.1)
        (down,) = [mote.reads(frame) for frame in self.gateway.frames()]
        self.assertEqual((down.ack, down.fport), (True, None))

    def test_no_acknowledgement_without_disk(self) -> None:
        mote = self.bed.abp()
        self.bed.storage.away = True
        mote.says(b"x", self.gateway, confirmed=True)
        self.bed.advance(3)
        self.assertEqual(self.gateway.sent(), [])
        self.bed.storage.away = False
        self.bed.advance(2)
        self.gateway.hears(mote.last)
        self.bed.advance(1)
        (down,) = [mote.reads(frame) for frame in self.gateway.frames()]
        self.assertTrue(down.ack)
        self.assertEqual(self.bed.heard.payloads(), [b"x"])

    def test_repeated_confirmed_uplink_is_answered_and_not_passed_on(self) -> None:
        mote = self.bed.abp()
        mote.says(b"x", self.gateway, confirmed=True)
        for _ in range(20):
            self.bed.advance(3)
            self.gateway.pull()
            self.gateway.hears(mote.last)
        self.bed.advance(3)
        self.assertEqual(self.bed.heard.payloads(), [b"x"])
        downs = [mote.reads(frame) for frame in self.gateway.frames()]
        self.assertEqual([down.ack for down in downs], [True] * 16)

    def test_rx2_when_rx1_is_refused(self) -> None:
        for error in ("TOO_LATE", "TOO_EARLY", "COLLISION_PACKET", "TX_FREQ"):
            mote = self.bed.abp(f"AA0000000000{len(error):04X}", f"260100{len(error):02X}")
            command = self.bed.command(b"x", mote)
            heard_at = self.gateway.tmst
            self.gateway.answers = [error]
            mote.says(b"x", self.gateway)
            self.bed.advance(3)
            first, second = self.gateway.sent()
            self.assertEqual((first["tmst"] - heard_at, second["tmst"] - heard_at), (1_000_000, 2_000_000), error)
            self.assertEqual((second["freq"], second["datr"]), (869.525, "SF12BW125"))
            self.assertEqual(first["data"], second["data"])
            self.assertEqual(command.status, "succeeded")
            self.keep_alive(30)

    def test_refused_everywhere(self) -> None:
        mote = self.bed.abp()
        command = self.bed.command(b"x", mote)
        self.gateway.answers = ["TX_FREQ", "GPS_UNLOCKED"]
        mote.says(b"x", self.gateway)
        self.bed.advance(3)
        self.assertEqual(
            (command.status, command.result["error"], command.result["code"]), ("failed", "GPS_UNLOCKED", 7)
        )

    def test_another_gateway_when_one_refuses(self) -> None:
        other = self.bed.forwarder(OTHER, "192.0.2.2")
        mote = self.bed.abp()
        command = self.bed.command(b"x", mote)
        self.gateway.answers = ["COLLISION_PACKET"]
        frame = mote.says(b"x", self.gateway)
        other.hears(frame, lsnr=-3.0)
        self.bed.advance(3)
        self.assertEqual((len(self.gateway.sent()), len(other.sent())), (1, 1))
        self.assertEqual(command.result, {"gateway": OTHER, "fcnt": 0})

    def test_less_power_when_that_is_too_much(self) -> None:
        mote = self.bed.abp()
        command = self.bed.command(b"x", mote)
        self.gateway.answers = ["TX_POWER"]
        mote.says(b"x", self.gateway)
        self.bed.advance(3)
        first, second = self.gateway.sent()
        self.assertEqual((first["powe"], second["powe"], first["tmst"]), (16, 14, second["tmst"]))
        self.assertEqual(command.status, "succeeded")

    def test_silent_gateways(self) -> None:
        old = self.bed.forwarder(OTHER, "192.0.2.2", version=1)
        mute = self.bed.forwarder(THIRD, "192.0.2.3")
        mute.silent = True
        for forwarder, status in ((old, "succeeded"), (mute, "failed")):
            mote = self.bed.abp(f"AA0000000000000{forwarder.eui[-1]}", f"2601000{forwarder.eui[-1]}")
            command = self.bed.command(b"x", mote)
            mote.says(b"x", forwarder)
            self.bed.advance(1.2)
            self.assertEqual(command.status, "sent")
            self.bed.advance(3)
            self.assertEqual(command.status, status)
            self.assertEqual(len(forwarder.asked), 1)
        self.assertEqual((command.result["error"], command.result["code"]), ("SILENT", 1))

    def test_stray_acks_are_counted(self) -> None:
        self.gateway.send(5, b'{"txpk_ack":{"error":"NONE"}}', b"zz")
        self.gateway.send(5, b"{", b"zz")
        self.assertEqual((self.bed.counted.stray_acks, self.bed.counted.bad_datagrams), (2, 1))

    def test_too_long_for_the_data_rate(self) -> None:
        mote = self.bed.abp()
        long, short = self.bed.command(bytes(52), mote), self.bed.command(b"s", mote)
        mote.says(b"x", self.gateway, datr="SF12BW125")
        self.bed.advance(3)
        self.assertEqual((long.status, long.result["code"], short.status), ("failed", 9, "succeeded"))
        fits = self.bed.command(bytes(242), mote)
        mote.says(b"x", self.gateway, datr="SF7BW125")
        self.bed.advance(3)
        self.assertEqual(fits.status, "succeeded")

    def test_no_gateway_keeps_the_command(self) -> None:
        mote = self.bed.abp()
        command = self.bed.command(b"x", mote)
        frame = mote.says(b"x")
        self.bed.advance(60)
        self.assertEqual(self.bed.network.gateways.online, 0)
        self.gateway.hears(frame)
        self.bed.advance(3)
        self.assertEqual((command.status, self.gateway.sent()), ("queued", []))
        self.gateway.pull()
        mote.says(b"x", self.gateway)
        self.bed.advance(3)
        self.assertEqual(command.status, "succeeded")

    def test_adr_ack_request_gets_a_frame(self) -> None:
        mote = self.bed.abp()
        frame = bytearray(mote.says(b"x"))
        frame[5] |= 0x40
        mic = keys.data_mic(bytes.fromhex(NWK_S_KEY), 0, 0x26011BDA, 0, bytes(frame[:-4]))
        self.gateway.hears(bytes(frame[:-4]) + mic)
        self.bed.advance(1)
        (down,) = [mote.reads(frame) for frame in self.gateway.frames()]
        self.assertEqual((down.ack, down.payload), (False, b""))


class RegionTests(SynchronousTestCase):
    def windows(self, region: str, **uplink: Any) -> list[tuple[float, str]]:
        """Frequency and data rate of RX1 and RX2."""
        bed = Bed(region=region)
        gateway = bed.forwarder()
        mote = bed.abp()
        bed.command(b"x", mote)
        gateway.answers = ["TOO_LATE"]
        mote.says(b"x", gateway, **uplink)
        bed.advance(3)
        return [(packet["freq"], packet["datr"]) for packet in gateway.sent()]

    def test_windows(self) -> None:
        for region, freq, datr, windows in (
            ("eu868", 867.9, "SF9BW125", [(867.9, "SF9BW125"), (869.525, "SF12BW125")]),
            ("cn470", 486.3, "SF7BW125", [(506.7, "SF7BW125"), (505.3, "SF12BW125")]),
            ("cn470", 470.3, "SF12BW125", [(500.3, "SF12BW125"), (505.3, "SF12BW125")]),
            ("as923", 923.4, "SF10BW125", [(923.4, "SF10BW125"), (923.2, "SF10BW125")]),
            ("as923-3", 916.8, "SF7BW125", [(916.8, "SF7BW125"), (916.6, "SF10BW125")]),
        ):
            self.assertEqual(self.windows(region, freq=freq, datr=datr), windows)

    def test_a_gateway_and_a_mote_of_their_own_region(self) -> None:
        for gateway_region, mote_region, freq, rx2 in (
            ("cn470", None, 486.3, 505.3),
            (None, "as923", 923.2, 923.2),
            ("cn470", "eu868", 868.1, 869.525),
        ):
            bed = Bed(unknown="refuse")
            bed.network.gateways.register(GatewayRecord(eui=GATEWAY, region=gateway_region))
            gateway = bed.forwarder()
            mote = bed.abp(region=mote_region)
            bed.command(b"x", mote)
            gateway.answers = ["TOO_LATE"]
            mote.says(b"x", gateway, freq=freq)
            bed.advance(3)
            self.assertEqual([packet["freq"] for packet in gateway.sent()][1], rx2)

    def test_a_cn470_mote_is_told_its_channels(self) -> None:
        """Channels 80 to 87 at data rate 5: the lower half of the sixth sixteen, and none of the others."""
        told = bytes.fromhex("".join(f"03500000{part}1" for part in range(5)) + "0350ff0051")
        for answer, again in ((b"\x03\x07" * 6, False), (b"\x03\x06" * 6, False), (b"", True)):
            bed = Bed(region="cn470", channel_block=10)
            gateway = bed.forwarder()
            mote = bed.abp()
            command = bed.command(b"x", mote)
            got = []
            for fopts in (b"", b"\x02" + answer, b"", b""):
                mote.says(b"x", gateway, freq=486.3, confirmed=True, fopts=fopts or None)
                bed.advance(3)
                got += [mote.reads(frame) for frame in gateway.frames()]
            # A command does not wait for longer than one frame.
            self.assertEqual([down.fport for down in got], [0, 5, 0 if again else None, 0 if again else None])
            self.assertEqual({bytes(down.payload) for down in got if down.fport == 0}, {told})
            self.assertEqual(bytes(got[1].fopts), b"\x02\x0f\x01")
            self.assertEqual([down.ack for down in got], [True] * 4)
            self.assertEqual(command.status, "succeeded")

    def test_one_that_does_not_say_yes_is_left_alone(self) -> None:
        bed = Bed(region="cn470", channel_block=10, mac_tries=3)
        gateway = bed.forwarder()
        mote = bed.abp()
        for _ in range(6):
            mote.says(b"x", gateway, freq=486.3)
            bed.advance(3)
        self.assertEqual([mote.reads(frame).fport for frame in gateway.frames()], [0, 0, 0])
        self.assertEqual(bed.counted.mac_unanswered, 1)
        other = bed.abp("AA00000000000002", "26010002", region="as923")
        other.says(b"x", gateway, freq=923.2)
        bed.advance(3)
        self.assertEqual(gateway.sent(), [])

    def test_windows_as_the_join_said(self) -> None:
        bed = Bed(rx1_delay=3, rx1_offset=2)
        gateway = bed.forwarder()
        bed.register()
        mote = join(bed, gateway)
        bed = bed.again()  # with other settings
        gateway = bed.forwarder()
        for _ in range(2):
            bed.command(b"x", mote)
            gateway.answers = ["TOO_LATE"]
            now = gateway.tmst
            mote.says(b"x", gateway)
            bed.advance(5)
            got = [(packet["tmst"] - now, packet["datr"]) for packet in gateway.sent()]
            self.assertEqual(got, [(3_000_000, "SF9BW125"), (4_000_000, "SF12BW125")])


class ConfirmedTests(Case):
    def test_acknowledged(self) -> None:
        mote = self.bed.abp()
        command = self.bed.command(b"do", mote, confirm=True)
        mote.says(b"x", self.gateway)
        self.bed.advance(3)
        (down,) = [mote.reads(frame) for frame in self.gateway.frames()]
        self.assertTrue(down.confirmed)
        self.assertEqual(command.status, "pending")
        mote.says(b"x", self.gateway, ack=True)
        self.bed.advance(3)
        self.assertEqual((command.status, self.gateway.frames()), ("succeeded", []))

    def test_three_transmissions_of_one_frame(self) -> None:
        mote = self.bed.abp()
        command, after = self.bed.command(b"do", mote, confirm=True), self.bed.command(b"after", mote)
        for _ in range(4):
            mote.says(b"x", self.gateway)
            self.bed.advance(3)
        downs = [mote.reads(frame) for frame in self.gateway.frames()]
        self.assertEqual([(down.payload, down.fcnt) for down in downs], [(b"do", 0)] * 3 + [(b"after", 1)])
        self.assertEqual((command.status, command.result["code"], after.status), ("failed", 8, "succeeded"))
        self.assertEqual(
            [(status, result) for _, status, result in self.bed.heard.commands if status == "pending"],
            [("pending", {"gateway": "AA555A0000000001", "transmission": n}) for n in (1, 2, 3)],
        )

    def test_too_long_for_the_second_time(self) -> None:
        """The mote has become slower, and what waits behind must not wait for ever."""
        mote = self.bed.abp()
        command, after = self.bed.command(bytes(100), mote, confirm=True), self.bed.command(b"after", mote)
        mote.says(b"x", self.gateway, datr="SF7BW125")
        self.bed.advance(3)
        self.assertEqual(command.status, "pending")
        mote.says(b"x", self.gateway, datr="SF12BW125")
        self.bed.advance(3)
        self.assertEqual((command.status, command.result["error"], after.status), ("failed", "TOO_LONG", "succeeded"))

    def test_acknowledged_after_a_restart(self) -> None:
        mote = self.bed.abp()
        command = self.bed.command(b"do", mote, confirm=True)
        mote.says(b"x", self.gateway)
        self.bed.advance(3)
        second = self.bed.again()
        gateway = second.forwarder()
        mote.says(b"x", gateway, ack=True)
        second.advance(3)
        self.assertEqual(gateway.sent(), [])
        self.assertEqual(second.storage.commands[command.id].status, "succeeded")


class ClassCTests(Case):
    def mote(self) -> Mote:
        """A class C mote that has spoken, some time ago."""
        mote = self.bed.abp(**{"class": "C"})
        mote.says(b"x", self.gateway)
        self.keep_alive(5)
        return mote

    def test_at_once(self) -> None:
        mote = self.mote()
        now = self.gateway.tmst
        command = self.bed.command(b"now", mote)
        self.bed.advance(0.2)
        (packet,) = self.gateway.sent()
        self.assertEqual((packet["freq"], packet["datr"]), (869.525, "SF12BW125"))
        self.assertTrue(300_000 <= packet["tmst"] - now <= 450_000, packet["tmst"] - now)
        self.assertEqual(command.status, "succeeded")

    def test_one_after_the_other(self) -> None:
        mote = self.mote()
        commands = [self.bed.command(bytes((n,)), mote) for n in range(3)]
        self.bed.advance(0.2)
        self.assertEqual([command.status for command in commands], ["succeeded", "queued", "queued"])
        self.keep_alive(20)
        self.assertEqual([command.status for command in commands], ["succeeded"] * 3)
        self.assertEqual([mote.reads(frame).payload for frame in self.gateway.frames()], [b"\0", b"\1", b"\2"])

    def test_confirmed_three_times(self) -> None:
        mote = self.mote()
        command = self.bed.command(b"do", mote, confirm=True)
        self.keep_alive(40)
        downs = [mote.reads(frame) for frame in self.gateway.frames()]
        self.assertEqual([(down.payload, down.fcnt) for down in downs], [(b"do", 0)] * 3)
        self.assertEqual((command.status, command.result["code"]), ("failed", 8))

    def test_confirmed_and_acknowledged(self) -> None:
        mote = self.mote()
        command = self.bed.command(b"do", mote, confirm=True)
        self.keep_alive(5)
        mote.says(b"ok", self.gateway, ack=True)
        self.keep_alive(40)
        self.assertEqual((command.status, len(self.gateway.sent())), ("succeeded", 1))

    def test_an_acknowledgement_that_was_on_its_way_is_of_another_one(self) -> None:
        """Such as the frame of the process that had the network before."""
        mote = self.mote()
        command = self.bed.command(b"do", mote, confirm=True)
        self.bed.advance(0.2)
        self.assertEqual(command.status, "pending")
        mote.says(b"ok", self.gateway, ack=True)
        self.bed.advance(0.2)
        self.assertEqual(command.status, "pending")
        self.keep_alive(5)
        mote.says(b"ok", self.gateway, ack=True)
        self.bed.advance(0.5)
        self.assertEqual(command.status, "succeeded")

    def test_a_window_after_its_own_uplink(self) -> None:
        mote = self.mote()
        heard_at = self.gateway.tmst
        mote.says(b"y", self.gateway)
        self.bed.advance(0.25)
        self.bed.command(b"do", mote)
        self.bed.advance(0.35)
        (packet,) = self.gateway.sent()
        self.assertEqual(packet["tmst"], heard_at + 1_000_000)

    def test_what_is_too_long_for_rx2_waits_for_rx1(self) -> None:
        mote = self.mote()
        long, short = self.bed.command(bytes(52), mote, priority=64), self.bed.command(bytes(51), mote)
        self.keep_alive(5)
        self.assertEqual((long.status, short.status), ("queued", "succeeded"))
        self.gateway.sent()
        mote.says(b"x", self.gateway)
        self.keep_alive(5)
        self.assertEqual((long.status, [packet["datr"] for packet in self.gateway.sent()]), ("succeeded", ["SF7BW125"]))

    def test_a_long_confirmed_one_is_sent_again_in_rx1(self) -> None:
        mote = self.mote()
        command = self.bed.command(bytes(100), mote, confirm=True)
        for _ in range(4):
            mote.says(b"x", self.gateway)
            self.keep_alive(15)
        self.assertEqual([packet["datr"] for packet in self.gateway.sent()], ["SF7BW125"] * 3)
        self.assertEqual((command.status, command.result["error"]), ("failed", "NOT_ACKNOWLEDGED"))

    def test_no_clock_known(self) -> None:
        mote = self.mote()
        self.keep_alive(700)
        self.bed.command(b"do", mote)
        self.bed.advance(0.5)
        (packet,) = self.gateway.sent()
        self.assertIs(packet["imme"], True)

    def test_the_gateway_is_remembered_through_a_restart(self) -> None:
        mote = self.mote()
        self.bed = self.bed.again()
        gateway = self.bed.forwarder()
        # It was let in, not registered, so it is new to the broker after the restart.
        command = self.bed.command(b"do", mote)
        self.bed.advance(3)
        self.assertEqual(command.status, "queued")
        mote.says(b"x", gateway)
        self.keep_alive(5, gateway)
        self.assertEqual(command.status, "succeeded")

    def test_what_was_queued_goes_on_after_a_restart(self) -> None:
        record = GatewayRecord(eui=GATEWAY)
        self.successResultOf(self.bed.network.store.gateways.add(GATEWAY, record))
        mote = self.mote()
        self.bed.advance(60)
        command = self.bed.command(b"do", mote)
        self.bed = self.bed.again()
        self.bed.advance(2)
        gateway = self.bed.forwarder()
        self.bed.advance(2)
        self.assertEqual([mote.reads(frame).payload for frame in gateway.frames()], [b"do"])
        self.assertEqual(self.bed.storage.commands[command.id].status, "succeeded")

    def test_a_gateway_that_comes_back(self) -> None:
        mote = self.mote()
        self.bed.advance(60)
        command = self.bed.command(b"do", mote)
        self.bed.advance(5)
        self.assertEqual((command.status, self.gateway.sent()), ("queued", []))
        self.keep_alive(5)
        self.assertEqual(command.status, "succeeded")


class ConflictTests(Case):
    def test_one_transmitter_sends_one_frame_at_a_time(self) -> None:
        motes = [self.bed.abp(f"AA000000000001{n:02X}", f"260101{n:02X}") for n in range(10)]
        for mote in motes:
            self.bed.command(b"x" * 20, mote)
        for mote in motes:
            mote.says(b"x", self.gateway)
        self.bed.advance(3)
        spans = sorted((packet["tmst"], packet["size"]) for packet in self.gateway.sent())
        self.assertEqual(len(spans), 2)  # RX1 of one, RX2 of another
        waiting = [mote for mote in motes if self.bed.core.commands.queued(mote.dev_eui)]
        self.assertEqual(len(waiting), 8)
        self.assertGreater(self.bed.counted.busy, 0)
        for _ in range(8):
            self.keep_alive(5)
            for mote in waiting:
                mote.says(b"x", self.gateway)
        self.keep_alive(5)
        done = [command for command in self.bed.storage.commands.values() if command.status == "succeeded"]
        self.assertEqual(len(done), 10)

    def test_of_good_gateways_the_one_with_less_to_do(self) -> None:
        other = self.bed.forwarder(OTHER, "192.0.2.2")
        for number in range(10):
            mote = self.bed.abp(f"AA000000000001{number:02X}", f"260101{number:02X}")
            self.bed.command(b"x", mote)
            frame = mote.says(b"x", self.gateway, lsnr=9.0)
            other.hears(frame, lsnr=8.0)
            self.bed.advance(0.11)
        self.bed.advance(3)
        self.assertEqual((len(self.gateway.sent()), len(other.sent())), (5, 5))

    def test_duty_cycle(self) -> None:
        """10 % of an hour in the band of RX2, 1 % in that of RX1, of each what is open to the command, then none."""
        mote = self.bed.abp()
        results = []
        for _ in range(200):
            command = self.bed.command(bytes(51), mote)
            mote.says(b"x", self.gateway, datr="SF12BW125")
            self.keep_alive(5)
            results.append(command)
            if command.status == "failed":
                break
        used = {868.1: 0, 869.525: 0}
        for packet in self.gateway.sent():
            used[packet["freq"]] += 1
        seconds = airtime(EU868.rate(0), 51 + 13)
        share = Ceilings().normal
        self.assertEqual(used[868.1], int(36 * share / seconds))
        self.assertEqual(used[869.525], int(360 * share / seconds))
        self.assertEqual(results[-1].result["code"], -7)
        wait = results[-1].result["wait_ms"]
        self.assertTrue(0 < wait < 3_600_000, wait)
        self.assertEqual(self.bed.core.commands.queued(mote.dev_eui), 0)


class RestartTests(Case):
    def test_a_thousand_queued_downlinks(self) -> None:
        motes = [self.bed.abp(f"AA00000000000{n:03X}", f"26010{n:03X}") for n in range(100)]
        for number in range(10):
            for mote in motes:
                self.bed.command(bytes((number,)), mote)
        got: dict[str, list[int]] = {mote.dev_eui: [] for mote in motes}

        def round_of(bed: Bed, gateway: Forwarder, some: list[Mote]) -> None:
            gateway.pull()
            for mote in some:
                mote.says(b"x", gateway)
                bed.advance(0.15)
            bed.advance(4)
            for frame in gateway.frames():
                address = int.from_bytes(frame[1:5], "little")
                mote = next(one for one in motes if one.session.dev_addr == address)
                got[mote.dev_eui].append(mote.reads(frame).payload[0])

        bed = Bed(self.bed.storage, self.bed.clock, duty_cycle=False)
        for turn in range(10):
            round_of(bed, bed.forwarder(), motes[:50] if turn % 2 else motes)
            if turn in (2, 5, 7):
                bed.network.agenda.stop()
                bed = Bed(self.bed.storage, self.bed.clock, duty_cycle=False)
        for _ in range(5):
            round_of(bed, bed.forwarder(), motes)
        self.assertEqual({tuple(payloads) for payloads in got.values()}, {tuple(range(10))})
        for mote in motes:
            self.assertEqual(len(set(mote.down)), 10, "a counter was used twice")

    def test_no_counter_is_used_again_whenever_the_broker_dies(self) -> None:
        mote = self.bed.abp()
        bed, used = self.bed, []
        for turn in range(30):
            gateway = bed.forwarder()
            mote.bed = bed
            bed.command(bytes((turn,)), mote)
            mote.says(b"x", gateway)
            bed.advance(0.2 + turn * 0.01)
            used += [int.from_bytes(frame[6:8], "little") for frame in gateway.frames()]
            bed = bed.again()
        self.assertGreater(len(used), 5)
        self.assertEqual(len(set(used)), len(used))
        self.assertEqual(used, sorted(used))

    def test_counters_are_reserved_before_they_are_used(self) -> None:
        mote = self.bed.abp()
        for _ in range(200):
            self.bed.command(b"x", mote)
            mote.says(b"x", self.gateway, datr="SF7BW125")
            self.keep_alive(5)
            used = [mote.reads(frame).fcnt for frame in self.gateway.frames()]
            reserved = int.from_bytes(self.bed.storage.tables["lorawan_counter"][mote.dev_eui][4:8], "big")
            self.assertTrue(all(fcnt < reserved for fcnt in used))
        self.assertEqual(mote.down[-1], 199)
        # Hardly more writes than one a frame and one a command's state, and the air time every ten seconds.
        self.assertLess(self.bed.storage.writes, 200 + 20 + 100)


class BudgetTests(Case):
    def test_500_motes_and_their_windows(self) -> None:
        """Everything that was queued before its uplink leaves 300 ms or more before RX1."""
        gateways = [self.bed.forwarder(f"AA555A00000001{n:02X}", f"192.0.3.{n}") for n in range(100)]
        motes = [self.bed.abp(f"AA0000000001{n:04X}", f"2602{n:04X}") for n in range(500)]
        for mote in motes:
            self.bed.command(b"x", mote)
        heard: dict[int, float] = {}
        for number, mote in enumerate(motes):
            frame = mote.says(b"x")
            heard[mote.session.dev_addr] = self.bed.clock.seconds()
            for step in range(3):
                gateways[(number * 3 + step) % 100].hears(frame)
            self.bed.clock.advance(0.003)
        self.bed.advance(3)
        late = []
        asked = [(at, packet) for gateway in gateways for at, packet in gateway.asked]
        for at, packet in asked:
            address = int.from_bytes(b64decode(packet["data"])[1:5], "little")
            ahead = heard[address] + 1.0 - at
            if ahead < 0.3 or packet["datr"] != "SF7BW125":
                late.append((address, ahead, packet["datr"]))
        self.assertEqual((len(asked), late), (500, []))
