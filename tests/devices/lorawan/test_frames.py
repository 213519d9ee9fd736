"""LoRaWAN frames: the vectors that were checked before, two independent implementations, and what no frame may do."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from pamoja import lorawan as pamoja
from twisted.trial.unittest import SynchronousTestCase

from broker.devices.lorawan import frames, keys
from broker.devices.lorawan.frames import DataUp, FrameError, JoinRequest, parse_uplink
from tests.devices.lorawan.independent import lora_packet

APP_KEY = bytes.fromhex("8899AABBCCDDEEFF0011223344556677")
NWK_S_KEY = bytes.fromhex("44024241ed4ce9a68c6a8bc055233fd3")
APP_S_KEY = bytes.fromhex("ec925802ae430ca77fd3dd73cb2cc588")
JOIN_REQUEST = bytes.fromhex("00010000D07ED5B37001000000000000AA2B1A36C4B8F8")
DATA_UP = bytes.fromhex("40f17dbe49000200e749b5040e048a4eee")

payloads = st.binary(max_size=222)
counters = st.integers(0, 0xFFFF_FFFF)
addresses = st.integers(0, 0xFFFF_FFFF)


def high(fcnt: int) -> bytes:
    """The upper half of a counter as lora-packet wants it."""
    return (fcnt >> 16).to_bytes(2, "little")


class VectorTests(SynchronousTestCase):
    def test_cmac_of_rfc_4493(self) -> None:
        key = bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c")
        self.assertEqual(keys.cmac(key, b"").hex(), "bb1d6929e95937287fa37d129b756746")
        message = bytes.fromhex("6bc1bee22e409f96e93d7e117393172a")
        self.assertEqual(keys.cmac(key, message).hex(), "070a16b46b4d4144f79bdd9dd04a287c")

    def test_join_request(self) -> None:
        frame = parse_uplink(JOIN_REQUEST)
        assert isinstance(frame, JoinRequest)
        self.assertEqual((frame.join_eui, frame.dev_eui, frame.dev_nonce), (0x70B3D57ED0000001, 0xAA << 56 | 1, 0x1A2B))
        self.assertTrue(frame.verify(APP_KEY))
        self.assertFalse(frame.verify(NWK_S_KEY))

    def test_join_accept(self) -> None:
        accept = frames.join_accept(APP_KEY, 0x010203, 0x13, 0x49BE7DF1)
        self.assertEqual(accept.hex(), "20d64fe1d9ebde30cbee3c5e3cdd45b65f")

    def test_session_keys(self) -> None:
        made = keys.session_keys(APP_KEY, 0x010203, 0x13, 0x1A2B)
        self.assertEqual(
            [key.hex() for key in made], ["5f0c39fb236140b70bf380688d21fb4b", "2e03afc2d16cf372814446cde101eb14"]
        )

    def test_data_up(self) -> None:
        frame = parse_uplink(DATA_UP)
        assert isinstance(frame, DataUp)
        self.assertEqual((frame.dev_addr, frame.fcnt16, frame.port, frame.fopts), (0x49BE7DF1, 2, 231, b""))
        self.assertFalse(frame.confirmed or frame.ack or frame.adr or frame.adr_ack_req)
        self.assertTrue(frame.verify(NWK_S_KEY, 2))
        self.assertFalse(frame.verify(NWK_S_KEY, 65538))
        self.assertEqual(frame.decrypt(NWK_S_KEY, APP_S_KEY, 2).hex(), "a8930f0c")

    def test_counter_of_32_bits(self) -> None:
        frame = parse_uplink(bytes.fromhex("80da1b0126007011e73301470a566e627f"))
        assert isinstance(frame, DataUp)
        self.assertEqual((frame.fcnt16, frame.confirmed), (70000 & 0xFFFF, True))


class IndependentTests(SynchronousTestCase):
    """What we write others read, and what others write we read."""

    def test_join_with_pamoja(self) -> None:
        eui, join = bytes.fromhex("AA00000000000001"), bytes.fromhex("70B3D57ED0000001")
        mote = pamoja.device(eui, join, APP_KEY)
        request = parse_uplink(mote.join_request(0xBEEF))
        assert isinstance(request, JoinRequest)
        self.assertEqual(request.dev_nonce, 0xBEEF)
        self.assertTrue(request.verify(APP_KEY))
        for cf_list in (b"", bytes(range(15)) + b"\0"):
            accept = frames.join_accept(
                APP_KEY, 7, 0x13, 0x26012E43, rx1_offset=3, rx2_data_rate=2, rx_delay=5, cf_list=cf_list
            )
            joined = mote.accept_join(accept, 0xBEEF)
            self.assertEqual((joined.dev_addr, joined.net_id, joined.rx_delay), (0x26012E43, 0x13, 5))
            self.assertEqual(joined.dl_settings, 0x32)
            nwk_s_key, app_s_key = keys.session_keys(APP_KEY, 7, 0x13, 0xBEEF)
            said = parse_uplink(joined.session().encode_uplink(1, 9, b"hello"))
            assert isinstance(said, DataUp)
            self.assertTrue(said.verify(nwk_s_key, 1))
            self.assertEqual(said.decrypt(nwk_s_key, app_s_key, 1), b"hello")

    def test_join_with_lora_packet(self) -> None:
        fields = {
            "MType": "Join Request",
            "AppEUI": "70B3D57ED0000001",
            "DevEUI": "AA00000000000001",
            "DevNonce": "1A2B",
        }
        self.assertEqual(lora_packet(write=fields, app_key=APP_KEY)["frame"], JOIN_REQUEST.hex())
        cf_list = bytes.fromhex("184F84E85684B85E84886684586E8400")
        accept = frames.join_accept(
            APP_KEY, 0x010203, 0x13, 0x49BE7DF1, rx1_offset=2, rx2_data_rate=3, rx_delay=4, cf_list=cf_list
        )
        self.assertEqual(
            lora_packet(read=accept, app_key=APP_KEY),
            {
                "genuine": True,
                "app_nonce": "010203",
                "net_id": "000013",
                "dev_addr": "49be7df1",
                "rx_delay": 4,
                "rx2_rate": 3,
                "rx1_offset": 2,
                "cf_list": cf_list.hex(),
            },
        )

    @settings(max_examples=60, deadline=None)
    @given(addresses, counters, st.integers(0, 255), payloads, st.booleans(), st.booleans(), st.booleans())
    def test_up_from_pamoja(
        self, address: int, fcnt: int, port: int, payload: bytes, confirmed: bool, adr: bool, ack: bool
    ) -> None:
        mote = pamoja.session(address, NWK_S_KEY, APP_S_KEY)
        frame = parse_uplink(mote.encode_uplink(fcnt, port, payload, confirmed, adr, ack))
        assert isinstance(frame, DataUp)
        self.assertEqual(
            (frame.dev_addr, frame.fcnt16, frame.port, frame.confirmed, frame.adr, frame.ack),
            (address, fcnt & 0xFFFF, port, confirmed, adr, ack),
        )
        self.assertTrue(frame.verify(NWK_S_KEY, fcnt))
        self.assertEqual(frame.decrypt(NWK_S_KEY, APP_S_KEY, fcnt), payload)

    @settings(max_examples=60, deadline=None)
    @given(addresses, counters, st.integers(1, 255), st.binary(max_size=200), st.booleans(), st.booleans())
    def test_down_to_pamoja_and_lora_packet(
        self, address: int, fcnt: int, port: int, payload: bytes, confirmed: bool, flag: bool
    ) -> None:
        options = b"\x02\x05\x01" if flag else b""
        frame = frames.data_down(
            NWK_S_KEY,
            APP_S_KEY,
            address,
            fcnt,
            port=port,
            payload=payload,
            confirmed=confirmed,
            ack=flag,
            pending=not flag,
            fopts=options,
        )
        heard = pamoja.session(address, NWK_S_KEY, APP_S_KEY).decode(frame, fcnt)
        self.assertEqual(
            (heard.dev_addr, heard.fport, heard.payload, heard.confirmed, heard.ack, heard.fpending, heard.fopts),
            (address, port, payload, confirmed, flag, not flag, options),
        )
        read = lora_packet(read=frame, nwk_s_key=NWK_S_KEY, app_s_key=APP_S_KEY, high=high(fcnt))
        self.assertEqual(
            read,
            {
                "genuine": True,
                "type": "Confirmed Data Down" if confirmed else "Unconfirmed Data Down",
                "dev_addr": f"{address:08x}",
                "fcnt": fcnt & 0xFFFF,
                "port": port,
                "ack": flag,
                "pending": not flag,
                "fopts": options.hex(),
                "payload": payload.hex(),
            },
        )

    def test_up_from_lora_packet(self) -> None:
        for port, payload, confirmed in ((1, b"x", False), (0, b"\x02", True), (231, bytes(range(100)), True)):
            fields = {
                "MType": "Confirmed Data Up" if confirmed else "Unconfirmed Data Up",
                "DevAddr": "26011bda",
                "FCnt": 70000 & 0xFFFF,
                "FPort": port,
                "payload": payload,
                "FCtrl": {"ADRACKReq": True, "ACK": True},
            }
            made = lora_packet(write=fields, nwk_s_key=NWK_S_KEY, app_s_key=APP_S_KEY, high=high(70000))
            frame = parse_uplink(bytes.fromhex(made["frame"]))
            assert isinstance(frame, DataUp)
            self.assertEqual((frame.port, frame.confirmed, frame.adr_ack_req, frame.ack), (port, confirmed, True, True))
            self.assertTrue(frame.verify(NWK_S_KEY, 70000))
            self.assertEqual(frame.decrypt(NWK_S_KEY, APP_S_KEY, 70000), payload)

    def test_mac_commands_alone(self) -> None:
        """On port 0 they are encrypted with the network's key."""
        frame = frames.data_down(NWK_S_KEY, APP_S_KEY, 1, 5, port=0, payload=b"\x06\x0d")
        heard = pamoja.session(1, NWK_S_KEY, APP_S_KEY).decode(frame, 5)
        self.assertEqual((heard.fport, heard.payload), (0, b"\x06\x0d"))


class FaultTests(SynchronousTestCase):
    def fault(self, data: bytes) -> str:
        return str(self.assertRaises(FrameError, parse_uplink, data).fault)

    def test_faults(self) -> None:
        rows: list[tuple[str, bytes]] = [
            ("size", b""),
            ("size", JOIN_REQUEST + b"\0"),
            ("size", DATA_UP[:11]),
            ("size", DATA_UP + bytes(250)),
            ("version", b"\x41" + DATA_UP[1:]),
            ("type", b"\x60" + DATA_UP[1:]),
            ("type", b"\xe0" + DATA_UP[1:]),
            ("type", b"\x20" + DATA_UP[1:]),
            ("options", DATA_UP[:5] + b"\x0f" + DATA_UP[6:]),
            ("options", bytes.fromhex("40010203040100000200") + b"\x00\x02" + bytes(4)),
        ]
        for fault, data in rows:
            self.assertEqual(self.fault(data), fault, data.hex())
        self.assertEqual({fault for fault, _ in rows}, set(frames.FAULTS))

    def test_every_piece_of_a_frame(self) -> None:
        """Cut anywhere, it is refused or its MIC is wrong."""
        for data in (JOIN_REQUEST, DATA_UP):
            for size in range(len(data)):
                try:
                    frame: Any = parse_uplink(data[:size])
                except FrameError:
                    continue
                self.assertFalse(frame.verify(NWK_S_KEY, 2))

    @settings(max_examples=300, deadline=None)
    @given(st.binary(max_size=300))
    def test_any_bytes(self, data: bytes) -> None:
        try:
            frame = parse_uplink(data)
        except FrameError as error:
            self.assertIn(error.fault, frames.FAULTS)
        else:
            args = (NWK_S_KEY,) if isinstance(frame, JoinRequest) else (NWK_S_KEY, 0)
            self.assertFalse(frame.verify(*args))

    @settings(max_examples=100, deadline=None)
    @given(st.integers(0, len(DATA_UP) * 8 - 1))
    def test_any_bit_that_turned(self, bit: int) -> None:
        turned = (int.from_bytes(DATA_UP, "big") ^ 1 << bit).to_bytes(len(DATA_UP), "big")
        try:
            frame: Any = parse_uplink(turned)
        except FrameError:
            return
        self.assertFalse(frame.verify(NWK_S_KEY, 2))

    def test_what_has_no_place(self) -> None:
        for more in (
            {"fopts": bytes(16)},
            {"payload": b"x"},
            {"port": 0, "fopts": b"\x02"},
            {"port": 1, "payload": bytes(250)},
        ):
            self.assertRaises(ValueError, frames.data_down, NWK_S_KEY, APP_S_KEY, 1, 1, **more)
        self.assertRaises(ValueError, frames.join_accept, APP_KEY, 1, 1, 1, cf_list=b"x")
