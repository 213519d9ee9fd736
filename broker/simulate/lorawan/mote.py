"""A simulated LoRaWAN 1.0.x mote of class A or C: it joins, speaks at intervals, listens in its windows, repeats.

::

    join-request ──> RX1 at 5 s, RX2 at 6 s ──> again, ever more slowly and less often
    uplink ──> RX1 ──> RX2 ──┬──> nothing is owed: until the next message
                             ├──> NbTrans copies, on other channels, unless a downlink came
                             └──> confirmed: up to eight copies until the ACK, slower after each second (1.0.2, 18.4)

Its times are those of the documents to the microsecond: a window is where its last transmission ended, plus the delay.
What the network may change is in `mac`, frames are in `session`; nothing of the broker's decisions is known here.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from typing import Any, Final

from broker.simulate.lorawan import radio
from broker.simulate.lorawan.air import TOLERANCE, Air, Window
from broker.simulate.lorawan.ledger import Ledger
from broker.simulate.lorawan.mac import MAX_FOPTS, Mac
from broker.simulate.lorawan.plans import Channel, Plan
from broker.simulate.lorawan.radio import Modulation
from broker.simulate.lorawan.session import (
    ACK,
    ADR,
    ADR_ACK_REQ,
    DOWN_TYPES,
    JOIN_ACCEPT,
    GroupSession,
    MoteIdentity,
    Session,
)
from broker.simulate.lorawan.tally import Tally
from broker.simulate.lorawan.traits import Traits

JOIN_DELAY: Final = 5.0
RX2_AFTER_RX1: Final = 1.0
#: Seconds after the start of RX2 in which a downlink may still be coming in: the longest packet.
RX2_LENGTH: Final = 3.0
#: Seconds after RX2 until a frame is sent again (ACK_TIMEOUT of the regional parameters: 2 +/- 1 s).
ACK_TIMEOUT: Final = (1.0, 3.0)
#: How often a confirmed frame is sent, and after how many of them the data rate falls by one (1.0.2, 18.4).
CONFIRMED_TRIES: Final = 8
TRIES_PER_RATE: Final = 2
#: Shares of the time for join-requests: in the first hour, in the ten hours after it, then (1.0.2, chapter 7).
JOIN_DUTY: Final = ((3_600.0, 0.01), (39_600.0, 0.001), (float("inf"), 0.0001))
#: Seconds until a class C mote acknowledges.
ACK_AFTER: Final = 0.5
#: What a data frame has beside its MACPayload, and its MACPayload beside FRMPayload and FOpts.
FRAME_OVER_PAYLOAD: Final = 5
PAYLOAD_OVERHEAD: Final = 8

_FILLING: Final = bytes(range(256))

Told = Callable[["SimulatedMote", str], None]


def _silence(mote: SimulatedMote, what: str) -> None:
    """Nobody wants to know."""


class SimulatedMote:
    """``told(mote, what)`` is for people; ``nonce`` is the DevNonce before its first join.

    ``dice`` say when it speaks and what: of its own, so that it speaks alike whatever happens in the air. ``measures``
    gives what it says instead.
    """

    def __init__(
        self,
        air: Air,
        plan: Plan,
        identity: MoteIdentity,
        traits: Traits,
        paths: list[float],
        dice: random.Random,
        *,
        nonce: int = 0,
        measures: Callable[[], bytes] | None = None,
        told: Told = _silence,
    ) -> None:
        self.air = air
        self.plan = plan
        self.identity = identity
        self.name = identity.dev_eui
        self.traits = traits
        self.session = Session(identity, nonce)
        self._groups: dict[int, GroupSession] = {}
        self.mac = Mac(plan, traits, air.dice)
        self.ledger = Ledger(air.keep)
        self.tally = Tally(air.reactor.seconds())
        self._told = told
        self._measures = measures
        self._dice = dice
        self._seconds = air.reactor.seconds
        self._timer: Any = None
        #: It says nothing any more; it is switched off.
        self._hushed = self._off = False
        self._windows: tuple[Window, ...] = ()
        self._continuous: Window | None = None
        self._named: int | None = None
        #: When its transmitter was last on; when it is done with the windows after that.
        self._sends_from = self._sends_until = self._listens_until = 0.0
        #: A downlink of class A came after the last transmission: what follows is not listened for.
        self._served = False
        #: The frame in the air, and how often it went out and may go out.
        self._frame = b""
        self._confirmed = False
        self._tries = self._most = 0
        #: When the next message is due; messages that are due while a frame is still being repeated.
        self._due = 0.0
        self._ack = self._more = False
        #: The last frame carried nothing but answers to the network.
        self._alone = False
        self._band_free: dict[int, float] = {}
        self._free_at = 0.0
        self._join_tries = 0
        self._join_began = 0.0
        air.place(self, paths)

    # -- life ------------------------------------------------------------------------------------------------------

    @property
    def joined(self) -> bool:
        return self.session.joined

    def start(self, after: float = 0.0) -> None:
        self._join_began = self._seconds() + after
        self._timer = self.air.reactor.callLater(after, self._wake if self.joined else self._join)

    def personalise(self, address: int, nwk_s_key: bytes, app_s_key: bytes) -> None:
        """Before its start: it has a session and never joins (ABP)."""
        self.session.begin(address, nwk_s_key, app_s_key)
        self._rename()

    def _wake(self) -> None:
        self._tune_in()
        self._due = self._seconds()
        self._speak()

    def hush(self) -> None:
        """It says nothing any more, but still listens."""
        self._hushed = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def stop(self) -> None:
        """It is switched off."""
        self.hush()
        self._off = True
        self._tune(None)

    def hold(self, group: GroupSession) -> None:
        """It is in a multicast group from now on; a class C mote hears it where it listens all the time."""
        self._groups[group.address] = group
        self.air.named(self, None, group.address)

    def rejoin(self) -> None:
        """It is switched off and on: its session and all that it was told are gone."""
        self._tune(None)
        self._windows = ()
        self.session.leave()
        self.mac.reset()
        self._join_tries, self._join_began = 0, self._seconds()
        self._next(self._seconds(), self._join)

    def _next(self, when: float, call: Callable[[], None]) -> None:
        if self._hushed:
            return
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = self.air.later(when, call)

    # -- sending ---------------------------------------------------------------------------------------------------

    def _transmit(self, frame: bytes, channel: Channel, rate: int, delay: float, join_rx2: int | None = None) -> float:
        """Send, and plan to listen; when it ends. ``join_rx2``: where RX2 is, of a join on a channel of its own."""
        mac = self.mac
        modulation = self.plan.rates[rate]
        now = self._seconds()
        end = self.air.up(self, frame, channel.frequency, modulation, mac.dbm, now)
        self.tally.transmitted(now, end - now, rate, mac.dbm)
        self._sends_from, self._sends_until = now, end
        self._listens_until = end + delay + RX2_AFTER_RX1 + radio.WINDOW_SYMBOLS * mac.rx2[1].symbol
        self._served = False
        first_frequency, first = mac.rx1(channel, rate)
        second_frequency, second = mac.rx2
        self._windows = (
            Window(end + delay, first_frequency, first, 1),
            Window(end + delay + RX2_AFTER_RX1, join_rx2 or second_frequency, second, 2),
        )
        for window in self._windows:
            self.air.opens(self, window)
            self.tally.listened(radio.WINDOW_SYMBOLS * window.modulation.symbol)
        self._rest(channel.frequency, end, end - now)
        return end

    def _rest(self, frequency: int, end: float, seconds: float) -> None:
        """Keep to the duty cycles: a pause after each transmission, in its band and in all."""
        band = self.plan.band_of(frequency)
        if band is not None:
            self._band_free[band.low] = end + seconds * (1.0 / band.duty - 1.0)
        self._free_at = max(self._free_at, end + seconds * (1.0 / self.mac.duty - 1.0))

    def _choose(self, rate: int) -> tuple[Channel | None, float]:
        """A channel that is free now; if there is none, when one will be."""
        now = self._seconds()
        if self._free_at > now:
            return None, self._free_at
        free: list[Channel] = []
        soonest = float("inf")
        for number in self.mac.usable(rate):
            channel = self.mac.channels[number]
            band = self.plan.band_of(channel.frequency)
            when = 0.0 if band is None else self._band_free.get(band.low, 0.0)
            if when <= now:
                free.append(channel)
            soonest = min(soonest, when)
        return (self.air.dice.choice(free), now) if free else (None, soonest)

    # -- joining ---------------------------------------------------------------------------------------------------

    def _join(self) -> None:
        rates = self.plan.join_rates
        rate = rates[self._join_tries % len(rates)]
        channel, rx2 = self._join_channel(rate)
        if channel is None:
            self._next(self._seconds() + 1.0, self._join)
            return
        self._join_tries += 1
        self.tally.joins += 1
        frame = self.session.join_request()
        end = self._transmit(frame, channel, rate, JOIN_DELAY, rx2)
        passed = end - self._join_began
        duty = next(share for until, share in JOIN_DUTY if passed < until)
        pause = self.plan.rates[rate].airtime(len(frame), crc=True) / duty
        wait = max(JOIN_DELAY + RX2_AFTER_RX1 + RX2_LENGTH, pause) + self.air.dice.uniform(*ACK_TIMEOUT)
        self._next(end + wait, self._join)

    def _join_channel(self, rate: int) -> tuple[Channel | None, int | None]:
        if self.plan.join_channels:
            known = {channel.frequency: channel for channel in self.mac.channels.values()}
            choice = self.air.dice.choice(self.plan.join_channels)
            # In the windows of the join both are on the channel's own frequency; RX2 of the session follows from it.
            self.mac.rx2_frequency = choice.rx2
            return known[choice.frequency]._replace(down=choice.down), choice.down
        usable = self.mac.usable(rate)
        channels = [self.mac.channels[number] for number in usable if number < len(self.plan.channels)]
        return (self.air.dice.choice(channels) if channels else None), None

    def _accepted(self, frame: bytes) -> None:
        accepted = None if self.joined else self.session.accept(frame)
        if accepted is None:
            return
        rx2_frequency = self.mac.rx2_frequency
        self.mac.reset()
        self.mac.rx2_frequency = rx2_frequency
        self.mac.joined(accepted)
        self._rename()
        self._tune_in()
        self.tally.joined_at = self._seconds()
        self._told(self, f"joined as {self.session.address:08X}")
        self._due = self._seconds() + self._dice.random() * self.traits.every
        self._next(self._due, self._speak)

    def _rename(self) -> None:
        """The air is told by which address it is known; the one before is its own until then, as to the network."""
        self.air.named(self, self._named, self.session.address)
        self._named = self.session.address

    # -- speaking --------------------------------------------------------------------------------------------------

    def _speak(self) -> None:
        """A message is due."""
        if self._listens_until > self._seconds():
            self._next(self._listens_until, self._speak)
            return
        channel, when = self._choose(self.mac.rate)
        if channel is None:
            self.tally.delayed += 1
            self._next(max(when, self._seconds() + 1.0) if when < float("inf") else self._seconds() + 60.0, self._speak)
            return
        self._compose()
        self._go(channel)

    def _compose(self) -> None:
        """Make the next frame: a message with what is owed to the network, or that alone if both are too long."""
        mac, traits = self.mac, self.traits
        answers = mac.still_said() if self._alone else mac.answers()
        control = (ADR if traits.adr else 0) | (ACK if self._ack else 0)
        if mac.adr_ask():
            control |= ADR_ACK_REQ
            self.tally.adr_requests += 1
        room = self.plan.payload(mac.rate, mac.dwell_up) - PAYLOAD_OVERHEAD
        self._ack = self._more = False
        self._tries = 0
        # After a frame of answers alone comes a message, shortened if need be by what has to be said in every frame.
        crowded = len(answers) > MAX_FOPTS or len(answers) + traits.payload > room
        self._alone = bool(answers) and crowded and not self._alone
        self._confirmed = not self._alone and self._dice.random() < traits.confirmed
        if not self._alone:
            message = self._message(min(traits.payload, room - len(answers)))
            self._frame = self.session.uplink(control, self._confirmed, answers, traits.port, message)
        elif len(answers) > MAX_FOPTS:
            self._frame = self.session.uplink(control, False, b"", 0, answers[:room])
        else:
            self._frame = self.session.uplink(control, False, answers, None, b"")
        self._most = max(mac.repeats, CONFIRMED_TRIES) if self._confirmed else mac.repeats

    def _message(self, room: int) -> bytes:
        number = self.tally.message(self._seconds(), self._confirmed)
        if self._measures is not None:
            return self._measures()[:room]
        return (struct.pack(">Ih", number, self._dice.randrange(150, 300)) + _FILLING)[:room]

    def _go(self, channel: Channel) -> None:
        self._tries += 1
        end = self._transmit(self._frame, channel, self.mac.rate, float(self.mac.rx_delay))
        if self._tries < self._most:
            wait = self.mac.rx_delay + RX2_AFTER_RX1 + self.air.dice.uniform(*ACK_TIMEOUT)
            if not self._confirmed:
                wait = self.mac.rx_delay + RX2_AFTER_RX1 + RX2_LENGTH
            self._next(end + wait, self._again)
        else:
            self._wait()

    def _wait(self) -> None:
        """Nothing more to do until the next message."""
        now = max(self._seconds(), self._sends_until)
        if self._ack and self.traits.class_c:
            self._next(now + ACK_AFTER, self._speak)
            return
        if self._more or self._alone:
            self._next(now + self.mac.rx_delay + RX2_AFTER_RX1 + RX2_LENGTH, self._speak)
            return
        while self._due <= now:
            self._due += self.traits.every * self._dice.uniform(0.9, 1.1)
        self._next(self._due, self._speak)

    def _again(self) -> None:
        """Nothing came: the same frame, on another channel."""
        if self._served and not self._confirmed:
            self._wait()
            return
        mac = self.mac
        if self._confirmed and self._tries % TRIES_PER_RATE == 0 and mac.rate > self.plan.lowest(mac.dwell_up):
            slower = mac.rate - 1
            if len(self._frame) - FRAME_OVER_PAYLOAD <= self.plan.payload(slower, mac.dwell_up) and mac.usable(slower):
                mac.rate = slower
        self._go_again()

    def _go_again(self) -> None:
        channel, when = self._choose(self.mac.rate)
        if channel is None:
            self._next(max(when, self._seconds() + 0.1) if when < float("inf") else self._due, self._go_again)
            return
        self.tally.repeated += 1
        self._go(channel)

    # -- listening -------------------------------------------------------------------------------------------------

    def _tune_in(self) -> None:
        if self.traits.class_c:
            frequency, modulation = self.mac.rx2
            self._tune(Window(self._seconds(), frequency, modulation, 0))

    def _tune(self, window: Window | None) -> None:
        if self._continuous != window:
            self.air.tuned(self, self._continuous, window)
            self._continuous = window

    def windows_text(self) -> str:
        """For people."""
        told = [
            f"RX{window.number} at {window.start:.6f} s {window.frequency / 1e6:.4f} MHz {window.modulation.datr}"
            for window in (*self._windows, *((self._continuous,) if self._continuous else ()))
        ]
        return ("served; " if self._served else "") + ("; ".join(told) or "no windows")

    def listens(self, start: float, frequency: int, modulation: Modulation) -> Window | None:
        """The window that a packet which begins then falls into."""
        if self._sends_until > start or self._off:
            return None
        for window in self._windows:
            same = (window.frequency, window.modulation) == (frequency, modulation)
            if same and abs(window.start - start) <= TOLERANCE and not (self._served and window.number == 2):
                return window
        continuous = self._continuous
        if continuous is not None and (continuous.frequency, continuous.modulation) == (frequency, modulation):
            return continuous
        return None

    def deaf(self, start: float) -> bool:
        """Whether a data frame cannot reach it: it is sending itself, is switched off, or has no session any more."""
        return self._sends_until > start or self._off or not self.joined

    def hears(self, frame: bytes, window: Window, start: float, end: float, snr: float) -> None:
        """A packet ended that fell into one of its windows, and was not lost."""
        if self._sends_from > start or self._off:
            return
        if window.number:
            self.tally.listened(end - start)
        if frame[0] == JOIN_ACCEPT:
            self._accepted(frame)
        elif frame[0] in DOWN_TYPES and self.joined:
            group = self._groups.get(int.from_bytes(frame[1:5], "little"))
            if group is None:
                self._down(frame, window, snr)
            else:
                self._shared(group.read(frame))

    def _shared(self, heard: tuple[int, bytes] | None) -> None:
        """A frame of a group; nothing is answered."""
        if heard is None:
            self.tally.shared_again += 1
            return
        self.tally.shared += 1
        self.tally.command(*heard)
        self._told(self, f"from its group on port {heard[0]}: {heard[1].hex()}")

    def _down(self, frame: bytes, window: Window, snr: float) -> None:
        down = self.session.read(frame)
        if down is None:
            self.tally.unread += frame[1:5] == (self.session.address or 0).to_bytes(4, "little")
            return
        tally, mac = self.tally, self.mac
        tally.received(window.number)
        if window.number:
            # Only what answers an uplink shows that the network has heard it (1.0.3, 5.4).
            self._served = True
            self._listens_until = self._seconds()
            mac.heard()
        mac.take(down.commands, snr)
        self._tune_in()
        if down.ack and self._confirmed and self._tries:
            tally.acknowledged += 1
            self._most = self._tries
        if down.confirmed:
            self._ack = True
        self._more = down.pending
        if down.port:
            tally.command(down.port, down.payload)
            self._told(self, f"command on port {down.port}: {down.payload.hex()}")
        if self._tries >= self._most or not self._confirmed:
            self._wait()
