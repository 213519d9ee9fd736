"""Whatever a device sends: a frame, nothing yet, or Malformed; and never another exception, or a buffer without end."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from broker_modbus import codec
from broker_modbus.codec import FrameDecoder, Malformed
from broker_modbus.registers import Register, plan

BRIEFLY = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
BLOCKS = plan([Register(name="w", address=0, type="int32"), Register(name="b", address=0, table="coil", type="bool")])


class FuzzTests(SynchronousTestCase):
    @BRIEFLY
    @given(st.lists(st.binary(max_size=300), max_size=8))
    def test_chunks(self, chunks: list[bytes]) -> None:
        decoder = FrameDecoder()
        try:
            for chunk in chunks:
                for frame in decoder.feed(chunk):
                    self.assertLessEqual(len(frame.pdu), codec.MAX_LENGTH)
        except Malformed:
            return
        self.assertLessEqual(len(decoder._held), codec.MAX_LENGTH + 6)

    @BRIEFLY
    @given(st.sampled_from((1, 2, 3, 4, 5, 6, 16, 0x81, 0x83, 0x90, 43)), st.binary(max_size=260))
    def test_answers(self, function: int, data: bytes) -> None:
        try:
            answer = codec.answer(bytes((function,)) + data)
        except Malformed:
            return
        for block in BLOCKS:
            try:
                block.values(answer.bits if block.table == "coil" else answer.registers)
            except ValueError:
                continue
