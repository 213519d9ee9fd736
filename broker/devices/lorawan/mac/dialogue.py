"""What motes are asked and what they answer: MAC commands of the network's own accord.

::

    uplink ──> answers taken ──> data rate judged ──> what is missing becomes requests ──┐
                                                                                         │ on disk with the counter
    downlink <── as many requests as it has room for <───────────────────────────────────┘

    unanswered   again with the next downlink, mac_tries times in all; then not for mac_pause seconds
    refused      remembered, and not asked for again for mac_forgive seconds, unless something else is wanted
    not asked    counted; the three answers that a mote repeats until it hears a downlink get one
    cut short    of several NewChannelReq the first ones are answered; the others are asked for again

A mote that has changed its windows says so in every frame until it hears something (1.0.4, 5.4, 5.7). So an answer
counts from the very frame that it came with: that frame's windows are the new ones. After a frame with such an answer
nothing of the kind is asked, as the next answer may be the same one again. Should a mote say it only once, and that
frame be lost, then it listens in windows that nobody here knows it has: the last try goes there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from broker.devices.lorawan.counters import LorawanCounters
from broker.devices.lorawan.mac import adr, answers, codec, requests
from broker.devices.lorawan.mac.adr import History, Limits, Sending
from broker.devices.lorawan.mac.codec import (
    Command,
    DevStatusAns,
    DevStatusReq,
    DlChannelAns,
    DutyCycleReq,
    LinkADRReq,
    NewChannelReq,
    RXParamSetupReq,
    RXTimingSetupReq,
    TxParamSetupReq,
)
from broker.devices.lorawan.mac.parameters import Parameters, Shared, begins, wanted
from broker.devices.lorawan.mac.state import NEVER, NO_CIDS, NOTHING, UNKNOWN, MacState, Request
from broker.devices.lorawan.motes import Mote
from broker.devices.lorawan.reception import Heard
from broker.devices.lorawan.regions import Region
from broker.devices.lorawan.settings import Settings
from broker.devices.lorawan.windows import Rx

#: The order in which requests go out: without channels nothing is heard, and windows come before comfort.
ORDER: Final = (
    LinkADRReq.cid,
    NewChannelReq.cid,
    RXParamSetupReq.cid,
    RXTimingSetupReq.cid,
    TxParamSetupReq.cid,
    DutyCycleReq.cid,
    DevStatusReq.cid,
)
#: Answers to what the network may ask.
ANSWERS: Final = frozenset((*ORDER, DlChannelAns.cid))
#: Those that a mote repeats until it hears a downlink.
STICKY: Final = frozenset((RXParamSetupReq.cid, RXTimingSetupReq.cid, DlChannelAns.cid))

#: Requests in a frame, and how many commands of each.
Asked = list[tuple[Request, int]]


class Dialogue:
    """With all motes. ``monotonic``: seconds."""

    def __init__(
        self, settings: Settings, counted: LorawanCounters, shared: Shared, monotonic: Callable[[], float]
    ) -> None:
        self._settings = settings
        self._counted = counted
        self._shared = shared
        self._monotonic = monotonic
        #: Of the settings: what was made from earlier ones is made anew.
        self._generation = 0
        #: Motes share them.
        self._limits: dict[Limits, Limits] = {}

    @property
    def settings(self) -> Settings:
        return self._settings

    @settings.setter
    def settings(self, settings: Settings) -> None:
        self._settings = settings
        self._generation += 1
        self._limits.clear()

    # -- an uplink -------------------------------------------------------------------------------------------------

    def heard(self, mote: Mote, heard: Heard, fcnt: int, adaptive: bool, commands: Sequence[Command]) -> bool:
        """A new frame of a mote; ``adaptive``: its ADR bit. True when there is news of it for people."""
        best = heard.receptions[0]
        region = mote.region or best.gateway.region
        state = mote.mac
        interval = self._settings.status_interval
        due = interval > 0 and heard.arrived - mote.status_at >= interval
        if state is None or state.region is not region:
            state = self._begun(mote, region, adaptive or due)
            if state is None:
                if commands:
                    self._strays(mote, commands)
                return False
        elif mote.checked != self._generation:
            self._resolve(mote, state)
        if state.forgiven_at is None:
            state.forgiven_at = self._forgiven(heard.arrived)
        elif heard.arrived >= state.forgiven_at:
            state.forgive()
            state.settled = False
            self._limit(mote, state)
        news = False
        if commands or state.said:
            state.said = STICKY.intersection(command.cid for command in commands) or NO_CIDS
            news = self._answered(mote, state, commands)
        rate = region.rate_of(best.datr)
        if rate is not None and rate != state.sending.rate:
            self._moved(state, rate)
            news = True
        if region.fixed and len(state.has.enabled) < len(region.channels_up):
            self._on_channel(state, best.frequency)
        wish = state.sending
        if adaptive and rate is not None and state.limits is not None:
            history = state.history
            if history is None:
                history = state.history = History()
            history.add(fcnt, best.snr + state.limits.gains[rate], self._settings.adr_history)
            wish = adr.decide(history, wish, state.limits)
        if due or state.pending or not state.settled or wish != state.sending:
            news = self._plan(mote, state, wish, due) or news
        return news

    def _begun(self, mote: Mote, region: Region, needed: bool) -> MacState | None:
        """A state for a mote that needs one."""
        if not needed and mote.checked == self._generation:
            return None
        start = self._start(mote, region)
        if not needed and wanted(start, region, mote.own, self._settings) == start:
            mote.checked = self._generation
            return None
        state = mote.mac = MacState(region, start)
        # One that was set up by hand may have more channels than it has to.
        state.any_channels = not mote.otaa
        state.dirty = True
        self._resolve(mote, state)
        return state

    @staticmethod
    def _start(mote: Mote, region: Region) -> Parameters:
        return mote.begins if mote.begins is not None and mote.home is region else begins(region)

    def _resolve(self, mote: Mote, state: MacState) -> None:
        """What it should have, by the settings as they are now."""
        before = state.target if state.resolved else None
        start = self._start(mote, state.region)
        state.target, _ = self._shared.of(wanted(start, state.region, mote.own, self._settings))
        if before is not None and before != state.target:
            state.forgive()
        state.resolved, state.settled = True, False
        mote.checked = self._generation
        state.has, mote.rx = self._shared.of(state.has)
        self._limit(mote, state)

    def _limit(self, mote: Mote, state: MacState) -> None:
        """What of data rates and powers there is to choose from."""
        settings, region = self._settings, state.region
        off = not settings.adr or (mote.own is not None and mote.own.adr is False)
        rates = () if off else _rates(state, settings.adr_min_rate, settings.adr_max_rate)
        if not rates:
            state.limits = None
            return
        last = len(region.powers) - 1
        limits = Limits(
            needs=tuple(None if rate is None else adr.need(rate) for rate in region.rates),
            gains=tuple(0.0 if rate is None else adr.gain(rate) for rate in region.rates),
            rates=rates,
            drops=adr.drops(region.powers),
            margin=settings.adr_margin,
            history=settings.adr_history,
            max_repetitions=settings.adr_max_transmissions,
            min_power=min(state.powers[0], last),
            max_power=min(settings.adr_max_power, state.powers[1], last),
        )
        state.limits = self._limits.setdefault(limits, limits)

    @staticmethod
    def _moved(state: MacState, rate: int) -> None:
        """It sends at another data rate than it was told to."""
        before = state.sending
        if before.rate == UNKNOWN or rate > before.rate:
            state.sending = before._replace(rate=rate)
        else:
            # It has heard nothing for long: full power, then slower, in the end each frame once (1.0.4, 4.3.1.1).
            once = rate == state.region.uplink_rates[0]
            state.sending = Sending(rate, state.powers[0], 1 if once else before.repetitions)
            state.dirty = True
        if state.history is not None:
            state.history.clear()

    def _on_channel(self, state: MacState, frequency: int) -> None:
        """A mote that should be on some channels of its plan: has it gone back to all of them?"""
        channel = state.region.channel_of(frequency)
        if channel is None or channel.index in state.has.enabled:
            return
        if state.relapses < self._settings.mac_tries:
            state.relapses += 1
            state.has = state.has._replace(enabled=begins(state.region).enabled)
            state.settled, state.dirty = False, True
        elif state.forgiven_at == NEVER:
            state.forgiven_at = self._forgiven(self._monotonic())

    def _forgiven(self, now: float) -> float:
        """When it may be asked again for what it refuses now."""
        return now + self._settings.mac_forgive if self._settings.mac_forgive else NEVER

    # -- answers ---------------------------------------------------------------------------------------------------

    def _answered(self, mote: Mote, state: MacState, commands: Sequence[Command]) -> bool:
        found: dict[int, list[Command]] = {}
        for command in commands:
            if command.cid in ANSWERS:
                found.setdefault(command.cid, []).append(command)
        news = False
        for cid, given in found.items():
            request = state.pending.get(cid)
            if cid in STICKY:
                mote.prompt = True
            if request is None or not request.sent:
                self._counted.stray_answers += cid != DevStatusReq.cid
                continue
            state.drop(cid)
            if answers.take(state, request, given):
                self._counted.mac_refused += 1
                state.forgiven_at = self._forgiven(self._monotonic())
            state.settled, state.dirty, news = False, True, True
        if news:
            state.has, mote.rx = self._shared.of(state.has)
            self._limit(mote, state)
        return news

    def _strays(self, mote: Mote, commands: Sequence[Command]) -> None:
        for command in commands:
            if command.cid in ANSWERS:
                self._counted.stray_answers += command.cid != DevStatusReq.cid
                mote.prompt = mote.prompt or command.cid in STICKY

    def status(self, mote: Mote, answer: DevStatusAns, at: float) -> None:
        """A mote has told its battery and margin, asked or not."""
        mote.status_at = self._monotonic()
        state = mote.mac
        if state is not None:
            state.status = (answer.battery, answer.margin, at)
            state.dirty = True

    # -- requests --------------------------------------------------------------------------------------------------

    def _plan(self, mote: Mote, state: MacState, wish: Sending, due: bool) -> bool:
        """Make requests of what is missing. True when they have changed."""
        changed = self._given_up(mote, state, self._monotonic())
        first = state.pending.get(LinkADRReq.cid)
        if first is not None and not first.tries:
            state.drop(LinkADRReq.cid)  # it may be another one by now
        missing = list(requests.missing(state))
        link = requests.link_adr(state, wish)
        state.settled = not missing and not (link and state.region.fixed)
        for commands in (link, *missing, (DevStatusReq(),) if due else ()):
            cid = commands[0].cid if commands else 0
            if commands and not (cid in state.pending or cid in state.paused or cid in state.said):
                state.ask(commands)
                changed = state.dirty = True
        return changed

    def _given_up(self, mote: Mote, state: MacState, now: float) -> bool:
        """What was asked in vain often enough is not asked for a while."""
        if state.paused:
            state.paused = {cid: until for cid, until in state.paused.items() if until > now} or NOTHING
        over = [cid for cid, request in state.pending.items() if request.tries >= self._settings.mac_tries]
        for cid in over:
            answers.doubt(state, state.drop(cid))
            self._counted.mac_unanswered += 1
            if cid == DevStatusReq.cid:
                mote.status_at = now
            else:
                state.paused = {**state.paused, cid: now + self._settings.mac_pause}
        state.dirty = state.dirty or bool(over)
        return bool(over)

    # -- a downlink ------------------------------------------------------------------------------------------------

    def due(self, mote: Mote, room: int) -> tuple[bytes, Asked]:
        """Requests for so many bytes."""
        state = mote.mac
        if state is None or not state.pending:
            return b"", []
        data, asked = b"", []
        for cid in ORDER:
            request = state.pending.get(cid)
            if request is None or request.tries >= self._settings.mac_tries:
                continue
            commands = request.commands
            if cid == NewChannelReq.cid:
                commands = commands[: (room - len(data)) // codec.length(commands[0])]
            if commands and len(data) + codec.length(*commands) <= room:
                data += codec.encode(*commands)
                asked.append((request, len(commands)))
        return data, asked

    def wants_frame(self, mote: Mote, room: int, at_leisure: bool) -> bool:
        """Whether a request does not fit into so many bytes of FOpts; ``at_leisure``: or all of them do not."""
        state = mote.mac
        if state is None:
            return False
        total = 0
        for cid, request in state.pending.items():
            if request.tries < self._settings.mac_tries:
                total += codec.length(*request.commands)
                if codec.length(*request.commands[: 1 if cid == NewChannelReq.cid else None]) > room:
                    return True
        return at_leisure and total > room

    @staticmethod
    def sent(asked: Asked) -> None:
        """They are on their way."""
        for request, count in asked:
            request.sent = count
            request.reached = max(request.reached, count)
            request.tries += 1

    @staticmethod
    def unsent(asked: Asked) -> None:
        """They have not gone out after all."""
        for request, _ in asked:
            request.tries -= 1
            if not request.tries:
                request.sent = 0

    def continuous(self, mote: Mote) -> Rx:
        """Where a mote of class C listens: if it was told of another RX2, most likely there."""
        state = mote.mac
        return mote.rx if state is None or not state.pending else self._shared.of(expected(state))[1]

    def windows(self, mote: Mote) -> Rx:
        """Where a frame without a command is sent: in the windows that the mote has, or at last may have."""
        state = mote.mac
        if state is not None and any(
            state.pending[cid].tries == self._settings.mac_tries - 1 > 0
            for cid in (RXParamSetupReq.cid, RXTimingSetupReq.cid)
            if cid in state.pending
        ):
            return self._shared.of(expected(state))[1]
        return mote.rx


def expected(state: MacState) -> Parameters:
    """What the mote has if it has heard what it was told."""
    has = state.has
    for cid in (RXParamSetupReq.cid, RXTimingSetupReq.cid):
        request = state.pending.get(cid)
        if request is None or not request.sent:
            continue
        asked = request.commands[0]
        if isinstance(asked, RXParamSetupReq):
            has = has._replace(offset=asked.offset, rx2_rate=asked.rate, rx2_frequency=asked.frequency)
        elif isinstance(asked, RXTimingSetupReq):
            has = has._replace(delay=asked.delay)
    return has


def _rates(state: MacState, slowest: int, fastest: int) -> tuple[int, ...]:
    """Data rates that the settings, the region and the mote allow, and most of its channels."""
    region, has = state.region, state.has
    channels = [channel for channel in (*region.channels_up, *has.extra) if channel.index in has.enabled]
    low, high = max(slowest, state.rates[0]), min(fastest, state.rates[1])
    return tuple(
        rate
        for rate in region.uplink_rates
        if low <= rate <= high
        and sum(channel.min_rate <= rate <= channel.max_rate for channel in channels) * 2 > len(channels)
    )
