"""What a mote lacks, as the commands that would give it to it. Nothing is asked here; refusals are left out."""

from __future__ import annotations

from collections.abc import Iterator

from broker.devices.lorawan.mac.adr import Sending
from broker.devices.lorawan.mac.codec import (
    Command,
    DutyCycleReq,
    LinkADRReq,
    NewChannelReq,
    RXParamSetupReq,
    RXTimingSetupReq,
    TxParamSetupReq,
    encode,
)
from broker.devices.lorawan.mac.parameters import Parameters
from broker.devices.lorawan.mac.state import UNKNOWN, MacState, mask_key


def missing(state: MacState) -> Iterator[tuple[Command, ...]]:
    """Requests for what the mote has otherwise than it should, but for its channel mask: all of a kind together."""
    channels = tuple(one for one in _channels(state.has, state.target) if encode(one) not in state.refused)
    if channels:
        yield channels
    for one in _settings(state):
        if encode(one) not in state.refused:
            yield (one,)


def _channels(has: Parameters, target: Parameters) -> Iterator[NewChannelReq]:
    had = {channel.index: channel for channel in has.extra}
    wanted = {channel.index: channel for channel in target.extra}
    for index, channel in wanted.items():
        if had.get(index) != channel:
            yield NewChannelReq(index, channel.frequency, channel.min_rate, channel.max_rate)
    for index, channel in had.items():
        if index not in wanted:
            yield NewChannelReq(index, 0, channel.min_rate, channel.max_rate)


def _settings(state: MacState) -> Iterator[Command]:
    has, target = state.has, state.target
    if (has.offset, has.rx2_rate, has.rx2_frequency) != (target.offset, target.rx2_rate, target.rx2_frequency):
        yield RXParamSetupReq(target.offset, target.rx2_rate, target.rx2_frequency)
    if has.delay != target.delay:
        yield RXTimingSetupReq(target.delay)
    if (has.down_dwell, has.up_dwell, has.eirp) != (target.down_dwell, target.up_dwell, target.eirp):
        yield TxParamSetupReq(target.down_dwell, target.up_dwell, target.eirp)
    if has.duty != target.duty:
        yield DutyCycleReq(target.duty)


def link_adr(state: MacState, wish: Sending) -> tuple[Command, ...]:
    """The block of LinkADRReq after which the mote sends so, and on the channels that it should; empty: it does."""
    if bytes((LinkADRReq.cid,)) in state.refused or wish.rate == UNKNOWN:
        return ()
    has, region = state.has, state.region
    if region.fixed and has.enabled != state.target.enabled:
        block = _block(region.masks(state.target.enabled), wish)
        if mask_key(block) not in state.refused:
            return block
    if wish == state.sending:
        return ()
    everything = region.mask_rules.all_on
    if state.any_channels and everything is not None and not region.fixed:
        # The mask is not looked at, but by motes that take this for channels 0 to 15: it has those that all have.
        bits = sum(1 << index for index in has.enabled)
        return _block(((everything, bits & 0xFFFF),), wish)
    return _block(region.masks(has.enabled), wish)


def _block(masks: tuple[tuple[int, int], ...], wish: Sending) -> tuple[Command, ...]:
    return tuple(LinkADRReq(wish.rate, wish.power, mask, control, wish.repetitions) for control, mask in masks)
