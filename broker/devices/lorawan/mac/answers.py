"""What an answer makes of a mote's state: the parameter is confirmed, or the refusal remembered.

Answers are lost, too. What was asked in vain may have been done all the same: then nobody knows what the mote has
(`UNSURE`), and it is told again, whatever it is to have by then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from broker.devices.lorawan.mac.adr import Sending
from broker.devices.lorawan.mac.codec import (
    Command,
    DutyCycleReq,
    LinkADRAns,
    LinkADRReq,
    NewChannelAns,
    NewChannelReq,
    RXParamSetupAns,
    RXParamSetupReq,
    RXTimingSetupReq,
    TxParamSetupReq,
    encode,
)
from broker.devices.lorawan.mac.parameters import Parameters
from broker.devices.lorawan.mac.state import UNSURE, MacState, Request, mask_key
from broker.devices.lorawan.regions import Channel


def take(state: MacState, request: Request, answers: Sequence[Command]) -> bool:
    """The answers to a request of which ``request.sent`` commands were sent. True when the mote has refused it."""
    taken: Callable[[MacState, Request, Any], bool] = _TAKEN.get(request.commands[0].cid, _done)
    return taken(state, request, answers)


def link_adr(state: MacState, request: Request, answers: Sequence[LinkADRAns]) -> bool:
    """The mote follows the block as a whole or not at all; one answer may stand for all (1.0.4, 5.3)."""
    last = request.commands[-1]
    assert isinstance(last, LinkADRReq)
    if all(answer.power and answer.rate and answer.mask for answer in answers):
        state.sending = Sending(last.rate, last.power, last.repetitions or state.sending.repetitions)
        state.has = state.has._replace(enabled=_left(state, request))
        if state.history is not None:
            state.history.clear()
        return False
    if not all(answer.mask for answer in answers):
        # What it says of the rest is of no account: that depends on the channels.
        if state.region.fixed or state.any_channels:
            state.refuse(mask_key(request.commands))
            state.refuse_kind(LinkADRReq.cid, _left(state, request) == state.has.enabled)
        state.any_channels = True
        return True
    now = state.sending
    if not all(answer.rate for answer in answers):
        state.rates = _without(state.rates, last.rate, now.rate)
        state.refuse_kind(LinkADRReq.cid, last.rate == now.rate)
    if not all(answer.power for answer in answers):
        state.powers = _without(state.powers, last.power, now.power)
        state.refuse_kind(LinkADRReq.cid, last.power == now.power)
    return True


def _left(state: MacState, request: Request) -> frozenset[int]:
    """The channels that a block leaves."""
    if not state.region.fixed:
        return state.has.enabled
    enabled = state.has.enabled
    for command in request.commands:
        assert isinstance(command, LinkADRReq)
        left = state.region.apply_mask(enabled, command.mask_control, command.mask)
        # None at all is what some blocks begin with: it is no reason to keep those that there were.
        enabled = enabled if left is None else left
    return enabled


def _without(allowed: tuple[int, int], refused: int, now: int) -> tuple[int, int]:
    """The range that is left when this is not taken, as seen from what the mote has."""
    low, high = allowed
    if refused > now:
        return low, max(low, min(high, refused - 1))
    if refused < now:
        return min(high, max(low, refused + 1)), high
    return allowed


def rx_param(state: MacState, request: Request, answers: Sequence[RXParamSetupAns]) -> bool:
    asked, answer = request.commands[0], answers[-1]
    assert isinstance(asked, RXParamSetupReq)
    if not (answer.offset and answer.rate and answer.channel):
        state.refuse(encode(asked))
        return True
    state.has = state.has._replace(offset=asked.offset, rx2_rate=asked.rate, rx2_frequency=asked.frequency)
    return False


def new_channel(state: MacState, request: Request, answers: Sequence[NewChannelAns]) -> bool:
    """One by one; what was not answered stays asked."""
    refused = False
    number = 0
    for asked, answer in zip(request.commands[: request.sent], answers, strict=False):
        assert isinstance(asked, NewChannelReq)
        number += 1
        if not (answer.rates and answer.frequency):
            refused = True
            state.refuse(encode(asked))
            continue
        added = Channel(asked.index, asked.frequency, asked.min_rate, asked.max_rate) if asked.frequency else None
        state.has = _with_channel(state.has, asked.index, added, added is not None)
    if number < len(request.commands):
        state.ask(request.commands[number:], request.reached - number)
    return refused


def _with_channel(has: Parameters, index: int, channel: Channel | None, enabled: bool) -> Parameters:
    extra = {other.index: other for other in has.extra}
    extra.pop(index, None)
    if channel is not None:
        extra[index] = channel
    return has._replace(
        extra=tuple(extra[number] for number in sorted(extra)),
        enabled=has.enabled | {index} if enabled else has.enabled - {index},
    )


def rx_timing(state: MacState, request: Request, answers: Sequence[Command]) -> bool:
    asked = request.commands[0]
    assert isinstance(asked, RXTimingSetupReq)
    state.has = state.has._replace(delay=asked.delay)
    return False


def tx_param(state: MacState, request: Request, answers: Sequence[Command]) -> bool:
    asked = request.commands[0]
    assert isinstance(asked, TxParamSetupReq)
    state.has = state.has._replace(down_dwell=asked.down_dwell, up_dwell=asked.up_dwell, eirp=asked.eirp)
    return False


def duty_cycle(state: MacState, request: Request, answers: Sequence[Command]) -> bool:
    asked = request.commands[0]
    assert isinstance(asked, DutyCycleReq)
    state.has = state.has._replace(duty=asked.exponent)
    return False


def doubt(state: MacState, request: Request) -> None:
    """A request was sent, and is given up. Of windows it is known: with those the mote would still be saying so."""
    for asked in request.commands[: request.reached]:
        if isinstance(asked, NewChannelReq):
            unsure = Channel(asked.index, UNSURE, asked.min_rate, asked.max_rate)
            state.has = _with_channel(state.has, asked.index, unsure, False)
        elif isinstance(asked, DutyCycleReq):
            state.has = state.has._replace(duty=UNSURE)
        elif isinstance(asked, TxParamSetupReq):
            state.has = state.has._replace(eirp=UNSURE)


def _done(state: MacState, request: Request, answers: Sequence[Command]) -> bool:
    return False


_TAKEN: Final[dict[int, Callable[[MacState, Request, Any], bool]]] = {
    LinkADRReq.cid: link_adr,
    RXParamSetupReq.cid: rx_param,
    NewChannelReq.cid: new_channel,
    RXTimingSetupReq.cid: rx_timing,
    TxParamSetupReq.cid: tx_param,
    DutyCycleReq.cid: duty_cycle,
}
