"""What a mote does with MAC commands (LoRaWAN 1.0.2 to 1.0.4, chapter 5), and the parameters that they change.

Written from the documents and not from the broker's side, which it is to judge:

* LinkADRReq that follow one another are one block: all of it is carried out or nothing, and each request is answered
  with the same bits (5.2).
* What is answered to RXParamSetupReq, RXTimingSetupReq and DlChannelReq is said in each uplink until a downlink comes
  (5.4, 5.7), as the new windows hold from then on.
* TxParamSetupReq, NewChannelReq and DlChannelReq are passed over in regions that do not have them (5.6, 5.8).
* After a command that is not known the rest is left.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from broker.simulate.lorawan.plans import Channel, Plan
from broker.simulate.lorawan.radio import Modulation
from broker.simulate.lorawan.session import Accepted
from broker.simulate.lorawan.traits import Misbehaviour, Traits

#: Command from the network -> bytes that follow it.
SIZES: Final = {0x02: 2, 0x03: 4, 0x04: 1, 0x05: 4, 0x06: 0, 0x07: 5, 0x08: 1, 0x09: 1, 0x0A: 4, 0x0D: 5}
#: Answers that are said until they were heard.
STICKY: Final = (0x05, 0x08, 0x0A)
LINK_ADR: Final = 0x03
DEV_STATUS: Final = 0x06
MAX_CHANNELS: Final = 16
MAX_FOPTS: Final = 15
#: Uplinks without a downlink after which a mote asks for one, and further ones after which it falls back (4.3.1.1).
ADR_ACK_LIMIT: Final = 64
ADR_ACK_DELAY: Final = 32
#: dBm EIRP that TxParamSetupReq can name (5.9).
EIRPS: Final = (8, 10, 12, 13, 14, 16, 18, 20, 21, 24, 26, 27, 29, 30, 33, 36)


class Mac:
    """One mote's parameters. ``asked`` and ``refused`` count commands and answers that say no."""

    def __init__(self, plan: Plan, traits: Traits, dice: random.Random) -> None:
        self.plan = plan
        self.traits = traits
        self.misbehaviour = traits.misbehaviour
        self._dice = dice
        self._once = b""
        self._sticky: dict[int, bytes] = {}
        self._stale = b""
        self.asked = self.answered = self.refused = 0
        self.link_check: tuple[int, int] | None = None
        self.network_time: float | None = None
        self.reset()
        #: What each command does: (bytes after the CID, SNR of the frame) -> answer, None for none.
        self._commands: dict[int, Callable[[bytes, float], bytes | None]] = {
            0x02: self._link_check,
            0x04: self._duty_cycle,
            0x05: self._rx_params,
            0x06: self._status,
            0x07: self._new_channel,
            0x08: self._rx_timing,
            0x09: self._tx_params,
            0x0A: self._down_channel,
            0x0D: self._time,
        }

    def reset(self) -> None:
        """As it was made; also before each join."""
        plan = self.plan
        self.channels: dict[int, Channel] = dict(enumerate(plan.channels))
        self.enabled = self.traits.channels or frozenset(self.channels)
        self.dwell_up = plan.dwell_at_first
        self.dwell_down = False
        self.rate = plan.lowest(self.dwell_up) if self.traits.rate is None else self.traits.rate
        self.power = 0
        self.repeats = 1
        self.eirp = plan.eirp
        self.rx_delay, self.rx1_offset = 1, 0
        self.rx2_frequency, self.rx2_rate = plan.rx2_frequency, plan.rx2_rate
        #: The largest share of the time that it may send, on all channels together.
        self.duty = 1.0
        self.adr_count = 0
        self._once, self._sticky = b"", {}

    def joined(self, accepted: Accepted) -> None:
        """The parameters of a join-accept."""
        self.rx1_offset, self.rx_delay = accepted.rx1_offset, accepted.rx_delay
        if accepted.rx2_rate in self.plan.rates:
            self.rx2_rate = accepted.rx2_rate
        cf_list = accepted.cf_list
        if len(cf_list) != 16:
            return
        if cf_list[15] == 0 and self.plan.dynamic:
            for number in range(5):
                frequency = int.from_bytes(cf_list[3 * number : 3 * number + 3], "little") * 100
                index = len(self.plan.channels) + number
                if frequency:
                    self.channels[index] = Channel(frequency, 0, 5)
                    self.enabled |= {index}
        elif cf_list[15] == 1 and not self.plan.dynamic:
            mask = int.from_bytes(cf_list[:14], "little")
            given = frozenset(number for number in self.channels if mask >> number & 1)
            self.enabled = given or self.enabled

    # -- the radio -------------------------------------------------------------------------------------------------

    @property
    def modulation(self) -> Modulation:
        return self.plan.rates[self.rate]

    @property
    def dbm(self) -> float:
        """EIRP that it sends with."""
        return self.eirp - 2.0 * self.power

    def usable(self, rate: int) -> list[int]:
        """Numbers of the channels that it may send on at this data rate."""
        return [
            number
            for number in sorted(self.enabled)
            if number in self.channels and self.channels[number].low <= rate <= self.channels[number].high
        ]

    def rx1(self, channel: Channel, rate: int) -> tuple[int, Modulation]:
        """Frequency and data rate of RX1 after an uplink."""
        number = self.plan.rx1_rate(rate, self.rx1_offset, self.dwell_down)
        return channel.down or channel.frequency, self.plan.rates[number]

    @property
    def rx2(self) -> tuple[int, Modulation]:
        return self.rx2_frequency, self.plan.rates[self.rx2_rate]

    # -- ADR back-off ----------------------------------------------------------------------------------------------

    def adr_ask(self) -> bool:
        """A new uplink is to be sent; whether it asks the network to say something."""
        if not self.traits.adr:
            return False
        self.adr_count += 1
        over = self.adr_count - ADR_ACK_LIMIT
        if over > 0 and over % ADR_ACK_DELAY == 0:
            self._fall_back()
        lowest = self.plan.lowest(self.dwell_up)
        return over >= 0 and not (self.rate == lowest and self.power == 0 and self._all_on())

    def _all_on(self) -> bool:
        return set(range(len(self.plan.channels))) <= self.enabled or bool(self.traits.channels)

    def _fall_back(self) -> None:
        """Back to full power, then slower and slower, then on all of its first channels."""
        if self.power:
            self.power = 0
        elif self.rate > self.plan.lowest(self.dwell_up):
            self.rate -= 1
        else:
            self.repeats = 1
            self.enabled = self.traits.channels or self.enabled | frozenset(range(len(self.plan.channels)))

    # -- commands --------------------------------------------------------------------------------------------------

    def heard(self) -> None:
        """A downlink of class A came: the network has heard what was said before."""
        self._sticky.clear()
        self.adr_count = 0

    def take(self, data: bytes, snr: float) -> None:
        """Carry out what a downlink commands."""
        at = 0
        block: list[bytes] = []
        while at < len(data):
            size = SIZES.get(data[at])
            if size is None or at + 1 + size > len(data):
                break
            number, body = data[at], data[at + 1 : at + 1 + size]
            at += 1 + size
            if number == LINK_ADR:
                block.append(body)
                continue
            self._take_block(block)
            block = []
            self.asked += number not in (0x02, 0x0D)
            self._answer(number, self._commands[number](body, snr))
        self._take_block(block)

    def _answer(self, number: int, body: bytes | None) -> None:
        if body is None:
            return
        if self.misbehaviour is Misbehaviour.REFUSES and number != DEV_STATUS:
            body = bytes(len(body))
        elif self.misbehaviour is Misbehaviour.LIES and number != DEV_STATUS:
            body = bytes(0xFF for _ in body)
        full = {LINK_ADR: 7, 0x05: 7, 0x07: 3, 0x0A: 3}.get(number)
        self.answered += 1
        self.refused += full is not None and body[0] & full != full
        if number in STICKY:
            self._sticky[number] = body
        else:
            self._once += bytes((number,)) + body

    def _obeys(self) -> bool:
        return self.misbehaviour not in (Misbehaviour.REFUSES, Misbehaviour.LIES)

    def _take_block(self, block: list[bytes]) -> None:
        if not block:
            return
        self.asked += len(block)
        status = self._carry_out(block)
        times = len(block)
        if self.misbehaviour is Misbehaviour.MISCOUNTS:
            times = 1 if times > 1 else 3
        for _ in range(times):
            self._answer(LINK_ADR, bytes((status,)))

    def _carry_out(self, block: list[bytes]) -> int:
        """The bits of LinkADRAns: power 4, data rate 2, channel mask 1."""
        plan, on = self.plan, self.enabled
        mask_ok = True
        for body in block:
            changed = plan.mask(plan, on, body[3] >> 4 & 7, int.from_bytes(body[1:3], "little"))
            if changed is None:
                mask_ok = False
                break
            on = frozenset(self.channels) if -1 in changed else changed
        mask_ok = mask_ok and bool(on) and on <= set(self.channels)
        rate, power, repeats = block[-1][0] >> 4, block[-1][0] & 15, block[-1][3] & 15
        rate = self.rate if rate == 15 else rate
        rate_ok = bool(plan.payload(rate, self.dwell_up)) and any(
            self.channels[number].low <= rate <= self.channels[number].high for number in on if number in self.channels
        )
        power_ok = power == 15 or power < plan.powers
        misbehaviour = self.misbehaviour
        if misbehaviour is Misbehaviour.REFUSES_MASKS:
            return 6
        if misbehaviour is Misbehaviour.REFUSES_RATES:
            return 1
        if not (mask_ok and rate_ok and power_ok) or not self._obeys():
            return power_ok << 2 | rate_ok << 1 | mask_ok
        if misbehaviour is Misbehaviour.WRONG_CHANNELS:
            usable = [number for number in sorted(self.channels) if self.channels[number].low <= rate]
            on = frozenset(self._dice.sample(usable, max(1, len(on) // 2))) if len(usable) > len(on) // 2 else on
        self.enabled, self.rate = on, rate
        self.power = self.power if power == 15 else power
        self.repeats = repeats or 1
        return 7

    def _link_check(self, body: bytes, snr: float) -> None:
        self.link_check = (body[0], body[1])

    def _time(self, body: bytes, snr: float) -> None:
        self.network_time = int.from_bytes(body[:4], "little") + body[4] / 256

    def _duty_cycle(self, body: bytes, snr: float) -> bytes:
        if self._obeys():
            self.duty = 1.0 / (1 << (body[0] & 15))
        return b""

    def _frequency_ok(self, frequency: int) -> bool:
        low, high = self.plan.range
        return low <= frequency <= high

    def _rx_params(self, body: bytes, snr: float) -> bytes:
        offset, rate = body[0] >> 4 & 7, body[0] & 15
        frequency = int.from_bytes(body[1:4], "little") * 100
        bits = (offset < self.plan.offsets) << 2 | (rate in self.plan.rates) << 1 | self._frequency_ok(frequency)
        if bits == 7 and self._obeys():
            self.rx1_offset, self.rx2_rate, self.rx2_frequency = offset, rate, frequency
        return bytes((bits,))

    def _status(self, body: bytes, snr: float) -> bytes:
        margin = max(-32, min(31, round(snr)))
        if self.misbehaviour is Misbehaviour.BAD_STATUS:
            return bytes((255, self._dice.choice((0xC0, 0xE0, 0xFF))))
        return bytes((self.traits.battery, margin & 0x3F))

    def _new_channel(self, body: bytes, snr: float) -> bytes | None:
        if not self.plan.dynamic:
            return None
        index, frequency = body[0], int.from_bytes(body[1:4], "little") * 100
        high, low = body[4] >> 4, body[4] & 15
        fixed = index < len(self.plan.channels) or index >= MAX_CHANNELS
        frequency_ok = not fixed and (frequency == 0 or self._frequency_ok(frequency))
        rates_ok = not fixed and (
            frequency == 0 or (low <= high and low in self.plan.rates and high in self.plan.rates)
        )
        if frequency_ok and rates_ok and self._obeys():
            self.channels.pop(index, None)
            self.enabled -= {index}
            if frequency:
                self.channels[index] = Channel(frequency, low, high)
                self.enabled |= {index}
        return bytes((rates_ok << 1 | frequency_ok,))

    def _rx_timing(self, body: bytes, snr: float) -> bytes:
        if self._obeys():
            self.rx_delay = body[0] & 15 or 1
        return b""

    def _tx_params(self, body: bytes, snr: float) -> bytes | None:
        if self.plan.payloads_dwell is None:
            return None
        if self._obeys():
            self.dwell_down, self.dwell_up = bool(body[0] & 0x20), bool(body[0] & 0x10)
            self.eirp = min(self.plan.eirp, float(EIRPS[body[0] & 15]))
            self.rate = max(self.rate, self.plan.lowest(self.dwell_up))
        return b""

    def _down_channel(self, body: bytes, snr: float) -> bytes | None:
        if not self.plan.dynamic:
            return None
        index, frequency = body[0], int.from_bytes(body[1:4], "little") * 100
        known, good = index in self.channels, self._frequency_ok(frequency)
        if known and good and self._obeys():
            self.channels[index] = self.channels[index]._replace(down=frequency)
        return bytes((known << 1 | good,))

    # -- answers ---------------------------------------------------------------------------------------------------

    def still_said(self) -> bytes:
        """What has to be said in each uplink."""
        return b"".join(bytes((number,)) + body for number, body in self._sticky.items())

    def answers(self) -> bytes:
        """What the next uplink says to the network; that is then said, but for what sticks."""
        said = self.still_said() + self._once
        self._once = b""
        misbehaviour = self.misbehaviour
        if misbehaviour is None:
            return said
        if misbehaviour is Misbehaviour.SILENT:
            return b""
        if misbehaviour is Misbehaviour.GARBAGE:
            return self._dice.randbytes(self._dice.randrange(1, MAX_FOPTS + 1))
        if misbehaviour is Misbehaviour.REPEATS:
            self._stale = said or self._stale
            return self._stale
        if misbehaviour is Misbehaviour.UNASKED:
            return said + self._dice.choice((b"\x03\x07", b"\x03\x00", b"\x05\x07", b"\x07\x03", b"\x08", b"\x04"))
        return said
