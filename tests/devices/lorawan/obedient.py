"""A mote that does what MAC commands tell it, and hears what is sent in its windows and nothing else.

Frames are pamoja's, commands the broker's codec (which other tests hold against vectors of others); what a mote does
with them is written here, from LoRaWAN 1.0.4 chapter 5.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable
from typing import Any

from broker.devices.lorawan.mac import codec
from broker.devices.lorawan.mac.codec import (
    Command,
    DevStatusAns,
    DevStatusReq,
    DutyCycleAns,
    DutyCycleReq,
    LinkADRAns,
    LinkADRReq,
    NewChannelAns,
    NewChannelReq,
    RXParamSetupAns,
    RXParamSetupReq,
    RXTimingSetupAns,
    RXTimingSetupReq,
    TxParamSetupAns,
    TxParamSetupReq,
)
from broker.devices.lorawan.regions import REGIONS
from tests.devices.lorawan.bed import Bed, Forwarder, Mote

#: dBm at TXPower 0 that ``snr`` of an `ObedientMote` is meant for.
STICKY = (RXParamSetupAns, RXTimingSetupAns)


class ObedientMote:
    """``snr``: dB at which ``gateway`` hears it at full power."""

    def __init__(self, bed: Bed, mote: Mote, region: str = "eu868", snr: float = 5.0, rate: int = 0) -> None:
        self.bed = bed
        self.mote = mote
        self.region = REGIONS[region]
        self.snr = snr
        self.adr = True
        self.rate, self.power, self.repetitions = rate, 0, 1
        self.channels = {channel.index: channel.frequency for channel in self.region.channels_up}
        self.enabled = frozenset(self.channels)
        self.delay, self.offset = 1, 0
        self.rx2 = (self.region.rx2_frequency, self.region.rx2_rate)
        self.duty = 0
        self.dwell = (self.region.dwell_time_up, self.region.dwell_time_down)
        #: Answers for the next frame, and those that are said until a downlink comes.
        self.answers: list[Command] = []
        self.sticky: list[Command] = []
        #: Its own way of answering a request; None: as a good mote does.
        self.contrary: Callable[[Command], Command | None] = lambda request: None
        #: All commands that it heard, and the frames.
        self.told: list[Command] = []
        self.frames: list[Any] = []
        #: Frames that were in none of its windows.
        self.missed = 0
        self.deaf = False
        #: What the gateway says of a frame beside what it always does.
        self.hearing: Callable[[], dict[str, Any]] = dict

    def says(self, gateway: Forwarder, payload: bytes = b"x", fopts: bytes = b"", **options: Any) -> None:
        """One frame and its windows, or, if it answers nothing else, as many as fit into a quiet moment."""
        datr = self.region.rate(self.rate).datr
        usable = sorted(self.channels[index] for index in self.enabled)
        frequency = usable[self.mote.fcnt % len(usable)]
        said = codec.encode(*self.sticky, *self.answers)[:15] + fopts
        self.answers = []
        options.setdefault("adr", self.adr)
        frame = self.mote.says(payload, fopts=said or None, **options)
        snr = self.snr - 2 * self.power
        if snr >= self.region.rate(self.rate).required_snr:
            at = gateway.tmst
            gateway.hears(frame, **{"datr": datr, "freq": frequency / 1e6, "lsnr": snr, **self.hearing()})
            self._listen(gateway, at, frequency)
        else:
            self.bed.advance(self.delay + 2)
        gateway.pull()

    def _listen(self, gateway: Forwarder, at: int, frequency: int) -> None:
        region = self.region
        first = (
            self.delay * 1_000_000,
            region.rx1_frequency(frequency),
            region.rate(region.rx1_rate(self.rate, self.offset, dwell=self.dwell[1])).datr,
        )
        second = (first[0] + 1_000_000, self.rx2[0], region.rate(self.rx2[1]).datr)
        self.bed.advance(self.delay + 3)
        for packet in gateway.sent():
            if packet.get("tmst") is None:
                self.missed += 1
                continue
            window = (packet["tmst"] - at) % (1 << 32), round(packet["freq"] * 1e6), packet["datr"]
            if self.deaf or window not in (first, second):
                self.missed += 1
                continue
            self._take(b64decode(packet["data"]))

    def _take(self, frame: bytes) -> None:
        down = self.mote.reads(frame)
        self.frames.append(down)
        self.sticky = []
        data = bytes(down.payload) if down.fport == 0 else bytes(down.fopts)
        commands, whole = codec.parse_down(data)
        assert whole, data.hex()
        self.told += commands
        block = [command for command in commands if isinstance(command, LinkADRReq)]
        verdict = self._adapt(block) if block else None
        for command in commands:
            answer = self.contrary(command)
            if answer is None:
                answer = verdict if isinstance(command, LinkADRReq) else self._obey(command)
            if answer is not None:
                (self.sticky if isinstance(answer, STICKY) else self.answers).append(answer)

    def _adapt(self, block: list[LinkADRReq]) -> LinkADRAns:
        if self.contrary(block[0]) is not None:
            return LinkADRAns()
        enabled: frozenset[int] | None = self.enabled
        for one in block:
            if enabled is not None:
                everything = not self.region.fixed and one.mask_control == self.region.mask_rules.all_on
                enabled = (
                    frozenset(self.channels)
                    if everything
                    else self.region.apply_mask(enabled, one.mask_control, one.mask)
                )
        last = block[-1]
        answer = LinkADRAns(
            power=last.power < len(self.region.powers),
            rate=last.rate in self.region.uplink_rates,
            mask=bool(enabled) and set(enabled or ()) <= set(self.channels),
        )
        if answer == LinkADRAns():
            assert enabled
            self.enabled, self.rate, self.power = enabled, last.rate, last.power
            self.repetitions = last.repetitions or self.repetitions
        return answer

    def _obey(self, command: Command) -> Command | None:
        if isinstance(command, RXParamSetupReq):
            self.offset, self.rx2 = command.offset, (command.frequency, command.rate)
            return RXParamSetupAns()
        if isinstance(command, RXTimingSetupReq):
            self.delay = command.delay
            return RXTimingSetupAns()
        if isinstance(command, NewChannelReq):
            if command.index < len(self.region.channels_up):
                return NewChannelAns(frequency=False)
            self.channels.pop(command.index, None)
            self.enabled -= {command.index}
            if command.frequency:
                self.channels[command.index] = command.frequency
                self.enabled |= {command.index}
            return NewChannelAns()
        if isinstance(command, DutyCycleReq):
            self.duty = command.exponent
            return DutyCycleAns()
        if isinstance(command, TxParamSetupReq):
            self.dwell = command.up_dwell, command.down_dwell
            return TxParamSetupAns()
        return DevStatusAns(200, 7) if isinstance(command, DevStatusReq) else None
