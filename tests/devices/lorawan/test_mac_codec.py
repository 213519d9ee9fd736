"""MAC commands and their bytes: vectors of others, both directions, whatever bytes come."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from pamoja import lorawan as pamoja
from twisted.trial.unittest import SynchronousTestCase

from broker.devices.lorawan import frames, gps
from broker.devices.lorawan.frames import DataUp, parse_uplink
from broker.devices.lorawan.mac import codec
from broker.devices.lorawan.mac.codec import (
    Command,
    DeviceTimeAns,
    DeviceTimeReq,
    DevStatusAns,
    DevStatusReq,
    DlChannelAns,
    DlChannelReq,
    DutyCycleAns,
    DutyCycleReq,
    LinkADRAns,
    LinkADRReq,
    LinkCheckAns,
    LinkCheckReq,
    NewChannelAns,
    NewChannelReq,
    RXParamSetupAns,
    RXParamSetupReq,
    RXTimingSetupAns,
    RXTimingSetupReq,
    TxParamSetupAns,
    TxParamSetupReq,
)
from tests.devices.lorawan.independent import lora_packet

NWK_S_KEY = bytes(range(16))
APP_S_KEY = bytes(range(16, 32))
ADDRESS = 0x26011BDA

#: What ChirpStack's codec (lrwn, maccommand.rs) makes of them, and LoRaWAN 1.0.4 chapter 5.
DOWN: list[tuple[str, Command]] = [
    ("020a0f", LinkCheckAns(10, 15)),
    ("0352ff0001", LinkADRReq(5, 2, 0x00FF)),
    ("035f030073", LinkADRReq(5, 15, 0x0003, 7, 3)),
    ("040d", DutyCycleReq(13)),
    ("053b010204", RXParamSetupReq(3, 11, 26_265_700)),
    ("06", DevStatusReq()),
    ("07030102045a", NewChannelReq(3, 26_265_700, 10, 5)),
    ("080f", RXTimingSetupReq(15)),
    ("090f", TxParamSetupReq(False, False, 15)),
    ("091f", TxParamSetupReq(False, True, 15)),
    ("092f", TxParamSetupReq(True, False, 15)),
    ("0a00287684", DlChannelReq(0, 868_100_000)),
    ("0a01107a84", DlChannelReq(1, 868_200_000)),
    ("0d0100000002", DeviceTimeAns(258)),
]
UP: list[tuple[str, Command]] = [
    ("02", LinkCheckReq()),
    ("0301", LinkADRAns(power=False, rate=False, mask=True)),
    ("0302", LinkADRAns(power=False, rate=True, mask=False)),
    ("0304", LinkADRAns(power=True, rate=False, mask=False)),
    ("0307", LinkADRAns()),
    ("04", DutyCycleAns()),
    ("0505", RXParamSetupAns(offset=True, rate=False, channel=True)),
    ("060022", DevStatusAns(0, -30)),
    ("06ff1e", DevStatusAns(255, 30)),
    ("067f3f", DevStatusAns(127, -1)),
    ("0701", NewChannelAns(rates=False, frequency=True)),
    ("0702", NewChannelAns(rates=True, frequency=False)),
    ("08", RXTimingSetupAns()),
    ("09", TxParamSetupAns()),
    ("0a01", DlChannelAns(uplink=False, frequency=True)),
    ("0a02", DlChannelAns(uplink=True, frequency=False)),
    ("0d", DeviceTimeReq()),
]

nibbles = st.integers(0, 15)
octets = st.integers(0, 255)
steps = st.integers(0, (1 << 24) - 1).map(lambda number: number * 100)
down = st.one_of(
    st.builds(LinkCheckAns, octets, octets),
    st.builds(LinkADRReq, nibbles, nibbles, st.integers(0, 0xFFFF), st.integers(0, 7), nibbles),
    st.builds(DutyCycleReq, nibbles),
    st.builds(RXParamSetupReq, st.integers(0, 7), nibbles, steps),
    st.just(DevStatusReq()),
    st.builds(NewChannelReq, octets, steps, nibbles, nibbles),
    st.builds(RXTimingSetupReq, st.integers(1, 15)),
    st.builds(TxParamSetupReq, st.booleans(), st.booleans(), nibbles),
    st.builds(DlChannelReq, octets, steps),
    st.builds(DeviceTimeAns, st.integers(0, (1 << 40) - 1)),
)
up = st.one_of(
    st.sampled_from((LinkCheckReq(), DutyCycleAns(), RXTimingSetupAns(), TxParamSetupAns(), DeviceTimeReq())),
    st.builds(LinkADRAns, st.booleans(), st.booleans(), st.booleans()),
    st.builds(RXParamSetupAns, st.booleans(), st.booleans(), st.booleans()),
    st.builds(DevStatusAns, octets, st.integers(-32, 31)),
    st.builds(NewChannelAns, st.booleans(), st.booleans()),
    st.builds(DlChannelAns, st.booleans(), st.booleans()),
)


class CodecTests(SynchronousTestCase):
    def test_vectors(self) -> None:
        for parse, rows in ((codec.parse_down, DOWN), (codec.parse_up, UP)):
            for text, command in rows:
                data = bytes.fromhex(text)
                self.assertEqual(parse(data), ([command], True), text)
                self.assertEqual(codec.encode(command), data, command)
                self.assertEqual(codec.length(command), len(data), command)

    def test_every_command_has_a_row(self) -> None:
        for kinds, rows in ((codec.DOWN, DOWN), (codec.UP, UP)):
            self.assertEqual({type(command) for _, command in rows}, set(kinds))
            self.assertEqual(sorted({kind.cid for kind in kinds}), sorted(kind.cid for kind in kinds))

    @given(st.lists(down, max_size=10))
    def test_there_and_back_down(self, commands: list[Command]) -> None:
        self.assertEqual(codec.parse_down(codec.encode(*commands)), (commands, True))

    @given(st.lists(up, max_size=10))
    def test_there_and_back_up(self, commands: list[Command]) -> None:
        data = codec.encode(*commands)
        self.assertEqual(codec.parse_up(data), (commands, True))
        # Cut short: what was whole is read, and nothing else.
        for end in range(len(data)):
            found, whole = codec.parse_up(data[:end])
            self.assertEqual(found, commands[: len(found)])
            self.assertEqual(whole, codec.length(*found) == end)

    @given(st.binary(max_size=250))
    def test_any_bytes(self, data: bytes) -> None:
        for parse in (codec.parse_up, codec.parse_down):
            found, _ = parse(data)
            # RFU bits are lost, so the same is read again of what it is written as.
            self.assertEqual(parse(codec.encode(*found)), (found, True))

    def test_what_follows_an_unknown_one_is_left(self) -> None:
        self.assertEqual(codec.parse_up(b"\x02\x80\x02"), ([LinkCheckReq()], False))
        self.assertEqual(codec.parse_up(b"\x06\x01"), ([], False))
        self.assertEqual(codec.parse_up(b""), ([], True))

    def test_class_b_is_passed_over(self) -> None:
        self.assertEqual(
            codec.parse_up(bytes.fromhex("1003" + "1103" + "12" + "1301" + "02")), ([LinkCheckReq()], True)
        )
        data = bytes.fromhex("10" + "1128768405" + "12010203" + "13010203" + "06")
        self.assertEqual(codec.parse_down(data), ([DevStatusReq()], True))

    def test_rfu_bits_are_not_looked_at(self) -> None:
        self.assertEqual(codec.parse_up(b"\x03\xff\x06\x01\xde"), ([LinkADRAns(), DevStatusAns(1, 30)], True))
        self.assertEqual(codec.parse_down(b"\x03\x52\xff\x00\x81"), ([LinkADRReq(5, 2, 0xFF)], True))
        self.assertEqual(codec.parse_down(b"\x08\xf0"), ([RXTimingSetupReq(1)], True))

    def test_what_a_field_has_no_place_for(self) -> None:
        for command in (LinkADRReq(16, 0, 0), LinkADRReq(0, 0, 0, 8), DutyCycleReq(16), RXParamSetupReq(8, 0, 0)):
            self.assertRaises(ValueError, codec.encode, command)
        self.assertRaises(OverflowError, codec.encode, RXParamSetupReq(0, 0, 1 << 31))
        self.assertRaises(OverflowError, codec.encode, LinkADRReq(0, 0, 1 << 16))

    def test_time(self) -> None:
        # 2020-01-01T00:00:00.5Z is GPS second 1261872018.
        answer = DeviceTimeAns.at(gps.gps_seconds(1577836800.5))
        self.assertEqual(codec.encode(answer), b"\x0d" + (1261872018).to_bytes(4, "little") + b"\x80")


class FrameTests(SynchronousTestCase):
    """Every command in FOpts and on port 0: others read what we write, and we what they write."""

    def test_down(self) -> None:
        session = pamoja.session(ADDRESS, NWK_S_KEY, APP_S_KEY)
        for number, (text, command) in enumerate(DOWN):
            data = codec.encode(command)
            for port, fopts, payload in ((None, data, b""), (0, b"", data)):
                frame = frames.data_down(
                    NWK_S_KEY, APP_S_KEY, ADDRESS, number, port=port, payload=payload, fopts=fopts, adr=True
                )
                read = session.decode(frame, number)
                self.assertEqual((bytes(read.fopts), bytes(read.payload), read.fport), (fopts, payload, port), text)
                told = lora_packet(read=frame, nwk_s_key=NWK_S_KEY, app_s_key=APP_S_KEY)
                self.assertTrue(told["genuine"], text)
                self.assertEqual((told["fopts"], told["payload"]), (fopts.hex(), payload.hex()), text)
                self.assertEqual(codec.parse_down(bytes(read.fopts) + bytes(read.payload)), ([command], True))

    def test_up(self) -> None:
        session = pamoja.session(ADDRESS, NWK_S_KEY, APP_S_KEY)
        for number, (text, command) in enumerate(UP):
            data = codec.encode(command)
            fields = {"MType": "Unconfirmed Data Up", "DevAddr": f"{ADDRESS:08x}", "FCnt": number}
            written = [
                session.encode_uplink(number, 7, b"x", False, True, False, data),
                session.encode_uplink(number, 0, data),
                bytes.fromhex(
                    lora_packet(
                        write={**fields, "FOpts": data, "FPort": 7, "payload": b"x"},
                        nwk_s_key=NWK_S_KEY,
                        app_s_key=APP_S_KEY,
                    )["frame"]
                ),
                bytes.fromhex(
                    lora_packet(
                        write={**fields, "FPort": 0, "payload": data}, nwk_s_key=NWK_S_KEY, app_s_key=APP_S_KEY
                    )["frame"]
                ),
            ]
            for phy in written:
                frame = parse_uplink(phy)
                assert isinstance(frame, DataUp)
                self.assertTrue(frame.verify(NWK_S_KEY, number), text)
                clear = frame.decrypt(NWK_S_KEY, APP_S_KEY, number)
                self.assertEqual(codec.parse_up(frame.fopts if frame.port else clear), ([command], True), text)
