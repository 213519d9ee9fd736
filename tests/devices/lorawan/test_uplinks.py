"""Uplinks through the whole network: deduplication, counters, replays, joins, MAC commands, presence."""

from __future__ import annotations

import os

import msgspec
from pamoja import lorawan as pamoja
from twisted.trial.unittest import SynchronousTestCase

from tests.devices.lorawan.bed import APP_KEY, GATEWAY, JOIN_EUI, OTHER, THIRD, Bed, Mote, join

EUI = "AA00000000000001"


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.bed = Bed()
        self.gateway = self.bed.forwarder()

    def tearDown(self) -> None:
        self.assertEqual(self.bed.faults, [])


class DataTests(Case):
    def test_one_frame_through_three_gateways(self) -> None:
        others = [self.bed.forwarder(OTHER, "192.0.2.2"), self.bed.forwarder(THIRD, "192.0.2.3")]
        mote = self.bed.abp()
        frame = mote.says(b"hello", self.gateway, port=7)
        self.bed.advance(0.1)
        others[0].hears(frame, lsnr=9.0, rssi=-50)
        self.bed.advance(0.05)
        others[1].hears(frame, lsnr=-3.0, rssi=-100)
        self.assertEqual(self.bed.heard.uplinks, [])
        self.bed.advance(0.06)
        (message,) = self.bed.heard.uplinks
        self.assertEqual((message.device.id, message.kind, message.payload), (EUI, "raw", b"hello"))
        self.assertEqual(
            message.meta,
            {
                "port": 7,
                "fcnt": 0,
                "rssi": -50.0,
                "snr": 9.0,
                "gateways": [
                    {"eui": OTHER, "rssi": -50.0, "snr": 9.0},
                    {"eui": GATEWAY, "rssi": -60.0, "snr": 7.5},
                    {"eui": THIRD, "rssi": -100.0, "snr": -3.0},
                ],
                "data_rate": "SF7BW125",
                "frequency": 868_100_000,
                "confirmed": False,
            },
        )
        self.assertEqual(self.bed.heard.presences, [(EUI, True, "connected")])
        self.assertEqual(self.bed.counted.duplicates, 2)
        network = self.bed.network
        self.assertEqual(network.nearest_gateway(EUI), OTHER)
        self.assertEqual(set(network.gateways_of(EUI)), {GATEWAY, OTHER, THIRD})
        self.assertEqual((network.motes_behind(OTHER), network.gateways_of("0" * 16)), ([], ()))

    def test_replays_and_forgeries(self) -> None:
        mote = self.bed.abp()
        frames = [mote.says(bytes((n,)), self.gateway) for n in range(5)]
        self.bed.advance(0.3)
        self.assertEqual(self.bed.heard.payloads(), [bytes((n,)) for n in range(5)])
        for frame in frames[:4]:
            self.gateway.hears(frame)
        forged = bytearray(mote.says(b"new"))
        forged[-1] ^= 1
        self.gateway.hears(bytes(forged))
        self.bed.advance(0.3)
        self.assertEqual(len(self.bed.heard.uplinks), 5)
        self.assertEqual((self.bed.counted.replays, self.bed.counted.bad_mics), (4, 1))

    def test_counters_of_32_bits(self) -> None:
        mote = self.bed.abp()
        for fcnt in (65_000, 70_000, 130_000, 195_534):
            mote.fcnt = fcnt
            mote.says(b"x", self.gateway)
            self.bed.advance(0.3)
        self.assertEqual(
            [message.meta and message.meta["fcnt"] for message in self.bed.heard.uplinks],
            [65_000, 70_000, 130_000, 195_534],
        )

    def test_counters_survive_a_restart(self) -> None:
        mote = self.bed.abp()
        frame = mote.says(b"x", self.gateway)
        self.bed.advance(0.3)
        second = self.bed.again()
        gateway = second.forwarder()
        gateway.hears(frame)
        second.advance(1)
        self.assertEqual((second.heard.uplinks, second.counted.repetitions), ([], 1))
        gateway.hears(mote.says(b"y"))
        second.advance(0.3)
        self.assertEqual(second.heard.payloads(), [b"y"])
        self.assertEqual(second.heard.uplinks[0].meta and second.heard.uplinks[0].meta["fcnt"], 1)

    def test_two_motes_with_one_address(self) -> None:
        first = self.bed.abp()
        keys = {"nwk_s_key": "0" * 31 + "1", "app_s_key": "0" * 31 + "2"}
        self.bed.register("AA00000000000002", join_eui=None, app_key=None, dev_addr="26011BDA", **keys)
        session = pamoja.session(0x26011BDA, *(bytes.fromhex(key) for key in keys.values()))
        second = Mote(self.bed, "AA00000000000002", 0, session)
        first.says(b"1", self.gateway)
        second.says(b"2", self.gateway)
        self.bed.advance(0.3)
        self.assertEqual(
            [(message.device.id, message.payload) for message in self.bed.heard.uplinks],
            [(first.dev_eui, b"1"), (second.dev_eui, b"2")],
        )

    def test_ten_thousand_unknown_addresses(self) -> None:
        self.bed.abp()
        for number in range(10_000):
            frame = b"\x40" + number.to_bytes(4, "little") + bytes(4) + os.urandom(8)
            self.gateway.hears(frame)
        self.assertEqual(self.bed.counted.unknown_addresses, 10_000)
        self.assertEqual(len(self.bed.network.agenda), 0)

    def test_frames_at_once_are_bounded(self) -> None:
        self.bed = Bed(max_frames=10)
        gateway = self.bed.forwarder()
        mote = self.bed.abp()
        for _ in range(20):
            mote.says(b"x", gateway)
        self.bed.advance(0.3)
        self.assertEqual((len(self.bed.heard.uplinks), self.bed.counted.too_many_frames), (10, 10))

    def test_mac_commands_are_no_messages(self) -> None:
        mote = self.bed.abp()
        mote.says(b"\x02", self.gateway, port=0)
        self.bed.advance(1)
        self.assertEqual(self.bed.heard.uplinks, [])
        (down,) = [mote.reads(frame) for frame in self.gateway.frames()]
        # Margin 7.5 + 7.5 dB, one gateway.
        self.assertEqual((down.fopts, down.fport), (b"\x02\x0f\x01", None))

    def test_link_check_counts_gateways(self) -> None:
        mote = self.bed.abp()
        mote.says(b"x", self.gateway, self.bed.forwarder(OTHER, "192.0.2.2"), fopts=b"\x02\x0d", lsnr=-5.0)
        self.bed.advance(1)
        (down,) = [mote.reads(frame) for frame in self.gateway.frames()]
        self.assertEqual(down.fopts[:4], b"\x02\x02\x02\x0d")
        self.assertEqual(len(down.fopts), 9)

    def test_device_status(self) -> None:
        self.bed = Bed(status_interval=100.0)
        gateway = self.bed.forwarder()
        mote = self.bed.abp()
        mote.says(b"x", gateway)
        self.bed.advance(1)
        self.assertEqual(gateway.frames(), [])
        self.bed.advance(100)
        gateway.pull()
        mote.says(b"x", gateway)
        self.bed.advance(1)
        (down,) = [mote.reads(frame) for frame in gateway.frames()]
        self.assertEqual(down.fopts, b"\x06")
        mote.says(b"x", gateway, fopts=b"\x06\xfe\x14")
        self.bed.advance(1)
        self.assertEqual(gateway.frames(), [])
        status = [message for message in self.bed.heard.uplinks if message.kind == "status"]
        self.assertEqual([message.payload for message in status], [{"battery": 254, "margin": 20}])
        live = self.bed.core.devices.get(EUI)
        assert live is not None
        self.assertEqual((live.info["status"]["battery"], live.info_changed), (254, True))

    def test_presence_ends(self) -> None:
        self.bed = Bed(mote_offline_after=60.0)
        gateway = self.bed.forwarder()
        first, second = self.bed.abp(), self.bed.abp("AA00000000000002", "26011BDB")
        first.says(b"x", gateway)
        self.bed.advance(40)
        gateway.pull()
        second.says(b"x", gateway)
        self.bed.advance(30)
        self.assertEqual(
            self.bed.heard.presences,
            [(first.dev_eui, True, "connected"), (second.dev_eui, True, "connected"), (first.dev_eui, False, "idle")],
        )
        first.says(b"y", gateway)
        self.bed.advance(1)
        self.assertEqual(self.bed.heard.presences[-1], (first.dev_eui, True, "connected"))

    def test_presence_goes_on_after_a_restart(self) -> None:
        mote, other = self.bed.abp(), self.bed.abp("AA00000000000002", "26010002")
        now = self.bed.clock.seconds()
        for eui, seen in ((mote.dev_eui, now - 100.0), (other.dev_eui, now - 90_000.0)):
            self.bed.storage.devices[eui].presence_reason = "restart"
            self.bed.storage.devices[eui].last_seen = seen
        second = self.bed.again()
        self.assertEqual(second.heard.presences, [(mote.dev_eui, True, "connected")])
        live = second.core.devices.get(mote.dev_eui)
        assert live is not None
        self.assertEqual(live.last_seen, now - 100.0)
        second.advance(0.1)
        second.network.uplinks.tick(second.clock.seconds() + 86_400 - 101)
        self.assertTrue(live.online)
        second.network.uplinks.tick(second.clock.seconds() + 86_400 - 99)
        self.assertFalse(live.online)

    def test_new_settings_while_it_runs(self) -> None:
        settings = msgspec.structs.replace(self.bed.settings, deduplication=0.5, unknown="refuse")
        self.assertEqual(self.bed.listener.reload(settings), ("receive_buffer", "net_id", "chirpstack"))
        mote = self.bed.abp()
        mote.says(b"x", self.gateway)
        self.bed.advance(0.3)
        self.assertEqual(self.bed.heard.uplinks, [])
        self.bed.advance(0.3)
        self.assertEqual(len(self.bed.heard.uplinks), 1)
        self.bed.forwarder(OTHER, "192.0.2.2")
        self.assertEqual(self.bed.counted.unknown_gateways, 1)

    def test_what_no_packet_is(self) -> None:
        mote = self.bed.abp()
        frame = mote.says(b"x")
        self.gateway.hears(frame, stat=-1)
        self.gateway.hears(frame, size=3)
        self.gateway.hears(frame, freq=0)
        self.gateway.hears(frame, tmst=-1)
        self.gateway.hears(frame, tmst=1 << 32)
        self.gateway.hears(b"\xe0" + frame[1:])
        self.gateway.send(0, b"{")
        self.bed.advance(1)
        self.assertEqual(self.bed.heard.uplinks, [])
        counted = self.bed.counted
        self.assertEqual(
            (counted.bad_crc, counted.bad_packets, counted.bad_frames, counted.bad_datagrams), (1, 4, 1, 1)
        )


class StopTests(Case):
    def test_what_was_heard_is_passed_on(self) -> None:
        mote = self.bed.abp()
        mote.says(b"last", self.gateway)
        self.bed.storage.held = True
        self.bed.listener.shut_down()
        self.assertEqual(self.bed.heard.payloads(), [b"last"])
        self.assertEqual(len(self.bed.listener.connections), 1)
        self.bed.storage.held = False
        self.bed.storage.go_on()
        self.assertEqual(self.bed.listener.connections, ())
        self.assertEqual(self.bed.clock.getDelayedCalls(), [])
        second = self.bed.again()
        second.forwarder().hears(mote.last)
        second.advance(1)
        self.assertEqual((second.heard.uplinks, second.counted.repetitions), ([], 1))


class JoinTests(Case):
    def request(self, nonce: int, key: str = APP_KEY, eui: str = EUI, join_eui: str = JOIN_EUI) -> bytes:
        device = pamoja.device(bytes.fromhex(eui), bytes.fromhex(join_eui), bytes.fromhex(key))
        frame: bytes = device.join_request(nonce)
        return frame

    def test_join_and_speak(self) -> None:
        self.bed.register()
        device = pamoja.device(bytes.fromhex(EUI), bytes.fromhex(JOIN_EUI), bytes.fromhex(APP_KEY))
        heard_at = self.gateway.tmst
        self.gateway.hears(device.join_request(7))
        self.bed.advance(0.4)
        (packet,) = self.gateway.sent()
        self.assertEqual((packet["tmst"], packet["freq"], packet["datr"]), (heard_at + 5_000_000, 868.1, "SF7BW125"))
        (event,) = self.bed.heard.uplinks
        self.assertEqual(event.kind, "event")
        assert isinstance(event.payload, dict)
        self.assertEqual(event.payload["event"], "join")
        self.assertEqual(self.bed.heard.presences, [(EUI, True, "connected")])
        self.assertEqual(self.bed.counted.joins, 1)

    def test_the_session_is_on_disk_before_the_accept_leaves(self) -> None:
        self.bed.register()
        self.gateway.hears(self.request(7))
        self.bed.storage.held = True
        for _ in range(3):
            self.bed.advance(0.4)
            self.assertEqual(self.gateway.sent(), [])
            self.assertEqual(self.bed.storage.tables.get("lorawan_session"), None)
            self.bed.storage.go_on()
        self.bed.advance(0.1)
        self.assertEqual(len(self.gateway.sent()), 1)

    def test_both_sides_have_the_same_keys(self) -> None:
        self.bed.register()
        mote = join(self.bed, self.gateway)
        for text in (b"one", b"two"):
            mote.says(text, self.gateway)
            self.bed.advance(1)
        self.assertEqual(self.bed.heard.payloads()[1:], [b"one", b"two"])
        self.bed.command(b"down", mote, port=9)
        mote.says(b"three", self.gateway)
        self.bed.advance(1)
        (down,) = [mote.reads(frame) for frame in self.gateway.frames()]
        self.assertEqual((down.fport, down.payload), (9, b"down"))

    def test_the_session_survives_a_restart(self) -> None:
        self.bed.register()
        mote = join(self.bed, self.gateway)
        second = self.bed.again()
        gateway = second.forwarder()
        mote.bed = second
        mote.says(b"again", gateway)
        second.advance(0.3)
        self.assertEqual(second.heard.payloads(), [b"again"])

    def test_a_nonce_is_used_once(self) -> None:
        self.bed.register()
        self.gateway.hears(self.request(7))
        self.bed.advance(1)
        self.assertEqual(len(self.gateway.sent()), 1)
        second = self.bed.again()
        gateway = second.forwarder()
        gateway.hears(self.request(7))
        second.advance(1)
        self.assertEqual((gateway.sent(), second.counted.nonce_reuse), ([], 1))
        gateway.hears(self.request(6))
        second.advance(1)
        self.assertEqual((len(gateway.sent()), second.counted.joins), (1, 1))

    def test_who_is_not_let_in(self) -> None:
        self.bed.register()
        self.bed.abp("AA00000000000002")
        for frame in (
            self.request(1, key="0" * 32),
            self.request(2, join_eui="0" * 16),
            self.request(3, eui="AA00000000000009"),
            self.request(4, eui="AA00000000000002"),
        ):
            self.gateway.hears(frame)
        self.bed.advance(6)
        self.assertEqual(self.gateway.sent(), [])
        self.assertEqual((self.bed.counted.bad_mics, self.bed.counted.unknown_motes), (1, 3))
        self.assertEqual(self.bed.heard.uplinks, [])

    def test_joining_again_begins_anew(self) -> None:
        self.bed.register()
        old = join(self.bed, self.gateway)
        old.says(b"old", self.gateway)
        self.bed.advance(1)
        mote = join(self.bed, self.gateway, nonce=2)
        stale = old.says(b"stale")
        self.gateway.hears(stale)
        mote.says(b"new", self.gateway)
        self.bed.advance(1)
        self.assertEqual([p for p in self.bed.heard.payloads() if isinstance(p, bytes)], [b"old", b"new"])
        self.assertEqual(self.bed.heard.presences, [(EUI, True, "connected")])

    def test_storage_away(self) -> None:
        self.bed.register()
        self.gateway.hears(self.request(1))
        self.bed.storage.away = True
        self.bed.advance(1)
        self.assertEqual((self.gateway.sent(), self.bed.counted.joins_refused), ([], 1))
        self.bed.storage.away = False
        self.gateway.hears(self.request(1))
        self.bed.advance(1)
        self.assertEqual(len(self.gateway.sent()), 1)

    def test_requests_at_once_are_bounded(self) -> None:
        self.bed = Bed(max_joins=5)
        gateway = self.bed.forwarder()
        self.bed.storage.held = True
        for nonce in range(9):
            gateway.hears(self.request(1, eui=f"AA000000000000{nonce:02X}"))
        self.bed.advance(0.3)
        self.assertEqual(self.bed.counted.joins_refused, 4)
        self.bed.storage.go_on()
        self.assertEqual(self.bed.counted.unknown_motes, 5)

    def test_eu868_tells_its_channels(self) -> None:
        self.bed.register()
        self.gateway.hears(self.request(1))
        self.bed.advance(1)
        (accept,) = self.gateway.frames()
        self.assertEqual(len(accept), 33)


class RegistryTests(Case):
    def done(self, deferred: object) -> None:
        self.successResultOf(deferred)  # type: ignore[arg-type]

    def test_a_removed_mote_leaves_nothing(self) -> None:
        self.bed.register()
        mote = join(self.bed, self.gateway)
        self.done(self.bed.core.registry.delete_device(EUI))
        self.assertEqual(
            {name: rows for name, rows in self.bed.storage.tables.items() if rows and name.startswith("lorawan")}, {}
        )
        mote.says(b"x", self.gateway)
        self.bed.advance(1)
        self.assertEqual(self.bed.counted.unknown_addresses, 1)
        self.assertEqual(self.bed.heard.presences[-1], (EUI, False, "removed"))

    def test_a_disabled_mote_is_not_heard(self) -> None:
        mote = self.bed.abp()
        mote.says(b"1", self.gateway)
        self.bed.advance(0.3)
        self.done(self.bed.core.registry.update_device(EUI, {"disabled": True}))
        mote.says(b"2", self.gateway)
        self.bed.advance(0.3)
        self.done(self.bed.core.registry.update_device(EUI, {"disabled": False}))
        mote.says(b"3", self.gateway)
        self.bed.advance(0.3)
        self.assertEqual(self.bed.heard.payloads(), [b"1", b"3"])

    def test_new_keys_begin_anew(self) -> None:
        mote = self.bed.abp()
        mote.fcnt = 100
        mote.says(b"1", self.gateway)
        self.bed.advance(0.3)
        self.done(self.bed.core.registry.update_device(EUI, {"nwk_s_key": "0" * 32}))
        again = pamoja.session(0x26011BDA, bytes(16), bytes.fromhex("EC925802AE430CA77FD3DD73CB2CC588"))
        Mote(self.bed, EUI, 0, again).says(b"2", self.gateway)
        self.bed.advance(0.3)
        self.assertEqual(self.bed.heard.payloads(), [b"1", b"2"])

    def test_a_change_of_class_keeps_the_session(self) -> None:
        mote = self.bed.abp()
        mote.fcnt = 100
        mote.says(b"1", self.gateway)
        self.bed.advance(0.3)
        self.done(self.bed.core.registry.update_device(EUI, {"class": "C", "name": "pump"}))
        self.assertEqual(self.bed.network.class_of(EUI), "C")
        mote.fcnt = 50
        mote.says(b"replay", self.gateway)
        self.bed.advance(0.3)
        self.assertEqual(self.bed.heard.payloads(), [b"1"])
