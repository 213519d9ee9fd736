"""Frames: whole, byte by byte, several at once, and what is none."""

from __future__ import annotations

from pymodbus.pdu.register_message import ReadHoldingRegistersResponse
from twisted.trial.unittest import SynchronousTestCase

from broker_modbus import codec
from broker_modbus.codec import Frame, FrameDecoder, Malformed
from broker_modbus.registers import Register, plan

#: The example of the Application Protocol, 6.3: registers 108 to 110, read and answered.
READ = bytes.fromhex("1501 0000 0006 11 03 006B 0003")
ANSWER = bytes.fromhex("1501 0000 0009 11 03 06 022B 0000 0064")
REFUSED = bytes.fromhex("0002 0000 0003 01 83 02")


class FrameTests(SynchronousTestCase):
    def test_a_request(self) -> None:
        (block,) = plan([Register(name=f"r{at}", address=at) for at in (107, 108, 109)])
        self.assertEqual(codec.frame(0x1501, 0x11, codec.read(block)), READ)

    def test_an_answer_whole_byte_by_byte_and_truncated(self) -> None:
        frame = Frame(0x1501, 0x11, ANSWER[7:])
        self.assertEqual(list(FrameDecoder().feed(ANSWER)), [frame])
        decoder = FrameDecoder()
        found = [one for byte in ANSWER for one in decoder.feed(bytes((byte,)))]
        self.assertEqual(found, [frame])
        for length in range(len(ANSWER)):
            self.assertEqual(list(FrameDecoder().feed(ANSWER[:length])), [])

    def test_two_and_a_half(self) -> None:
        decoder = FrameDecoder()
        found = list(decoder.feed(ANSWER + REFUSED + ANSWER[:9]))
        self.assertEqual([one.transaction for one in found], [0x1501, 2])
        self.assertEqual([one.transaction for one in decoder.feed(ANSWER[9:])], [0x1501])

    def test_what_is_said(self) -> None:
        answer = codec.answer(ANSWER[7:])
        assert isinstance(answer, ReadHoldingRegistersResponse)
        self.assertEqual(answer.registers, [555, 0, 100])
        refused = codec.answer(REFUSED[7:])
        self.assertTrue(refused.isError())
        self.assertEqual(refused.exception_code, 2)

    def test_no_modbus(self) -> None:
        for text in ("1501 0001 0006 11 03", "1501 0000 0001 11 03", "1501 0000 00FF 11 03", "1501 0000 0000 11"):
            self.assertRaises(Malformed, list, FrameDecoder().feed(bytes.fromhex(text)))
        self.assertRaises(Malformed, list, FrameDecoder().feed(b"HTTP/1.1 200 OK\r\n\r\n"))

    def test_answers_of_no_known_form(self) -> None:
        for text in ("03", "03 06 022B", "2B", "63 00", "83"):
            self.assertRaises(Malformed, codec.answer, bytes.fromhex(text))
