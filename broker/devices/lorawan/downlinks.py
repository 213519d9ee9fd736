"""When a mote is sent something, and what becomes of it; what it is sent is decided in `answering`.

The queue is the broker's own (`broker.routing.commands`): it is on disk, commands can be cancelled and expire there,
and they stay there until a window opens. Then the one of the highest priority, and of these the oldest, is taken:

::

    class A   uplink ──> downlink_wait ──> slot booked ──> command taken (on disk) ──> PULL_RESP
    class C   command queued ──────────────────^

    unconfirmed   TX_ACK: succeeded           confirmed   TX_ACK: pending ──> ACK: succeeded
                                                             ^  no ACK in the next uplink (A), or for
                                                             |  class_c_timeout (C): the same frame again
                                                             three times in all, then failed

* A frame acknowledges an uplink only after that uplink's counter is on disk.
* What was taken when the broker died is not sent again; it is acknowledged late, or times out.
"""

from __future__ import annotations

from typing import Final

from broker.core import Core
from broker.devices.lorawan import frames
from broker.devices.lorawan.agenda import Agenda
from broker.devices.lorawan.answering import NOT_ACKNOWLEDGED, TOO_LONG, Answering, Opening
from broker.devices.lorawan.counters import LorawanCounters
from broker.devices.lorawan.mac.dialogue import Dialogue
from broker.devices.lorawan.motes import Delivery, Mote, Motes
from broker.devices.lorawan.reception import Heard
from broker.devices.lorawan.regions import Region
from broker.devices.lorawan.settings import Settings
from broker.devices.lorawan.store import Store
from broker.devices.lorawan.transmitter import CODES, Transmission, Transmitter
from broker.devices.lorawan.windows import FRAME_OVER_PAYLOAD, RX2_AFTER_RX1, Plan, Rx, rx2
from broker.model.messages import FAILED, PENDING, SUCCEEDED, Command, Reply, payload_bytes

#: Seconds until another look when counters are not on disk yet.
NOT_YET: Final = 0.02
#: Seconds after the start of RX2 in which a class C mote may still be busy with it.
RX2_LENGTH: Final = 1.0
#: Class C motes whose gateways are away that are looked at in one tick.
MAX_STRANDED: Final = 200


class Downlinks:
    """All that goes to motes with a session."""

    def __init__(
        self,
        core: Core,
        settings: Settings,
        counted: LorawanCounters,
        agenda: Agenda,
        motes: Motes,
        store: Store,
        transmitter: Transmitter,
        dialogue: Dialogue,
    ) -> None:
        self._commands = core.commands
        self._monotonic = core.monotonic
        self._agenda = agenda
        self._motes = motes
        self._transmitter = transmitter
        self._dialogue = dialogue
        self._answering = Answering(core, settings, counted, motes, store, transmitter, dialogue, self._sent)
        self._settings = settings
        #: Class C motes with commands and without a gateway.
        self._stranded: dict[Mote, None] = {}

    @property
    def settings(self) -> Settings:
        return self._settings

    @settings.setter
    def settings(self, settings: Settings) -> None:
        self._settings = self._answering.settings = settings

    def clear(self) -> None:
        """Nobody waits for a gateway any more."""
        self._stranded.clear()

    # -- occasions -------------------------------------------------------------------------------------------------

    def after(self, mote: Mote, heard: Heard) -> None:
        """An uplink came: its windows will open."""
        settings = self.settings
        mote.free_at = heard.arrived + mote.rx.delay + RX2_AFTER_RX1 + RX2_LENGTH
        when = heard.arrived + settings.deduplication + settings.downlink_wait
        self._agenda.at(when, self._windows_open, (mote, heard))

    def _windows_open(self, occasion: tuple[Mote, Heard]) -> None:
        mote, heard = occasion
        if self._motes.get(mote.dev_eui) is not mote or mote.sending:
            return
        settings, now = self.settings, self._monotonic()
        if mote.saved < mote.up:
            if now < heard.arrived + mote.rx.delay + RX2_AFTER_RX1 - settings.downlink_margin:
                self._agenda.at(now + NOT_YET, self._windows_open, occasion)
            return

        def plan(size: int, rx: Rx) -> Plan:
            return self._transmitter.windows(heard.receptions, mote.region, size, rx)

        self._answering.answer(mote, Opening(plan, mote.rx, self._dialogue.windows(mote), True))
        if mote.class_c and not mote.sending:
            self.wake(mote)

    def wake(self, mote: Mote) -> None:
        """A class C mote has a command waiting: send it when its receiver is free."""
        if not mote.waking:
            mote.waking = True
            self._agenda.at(max(self._monotonic(), mote.free_at), self._awake, mote)

    def _awake(self, mote: Mote) -> None:
        mote.waking = False
        if self._motes.get(mote.dev_eui) is not mote or mote.sending or not self._has_more(mote):
            return
        if self._monotonic() < mote.free_at:
            self.wake(mote)
            return

        if not mote.near or not mote.up:
            return  # nobody knows where it is, or whether it has heard that it joined; its next frame will tell

        def plan(size: int, rx: Rx) -> Plan:
            return self._transmitter.continuous(mote.near, mote.region, size, rx)

        # What is too long for RX2 may go out in RX1, after its next uplink; what is too long for that, too, may not.
        rx, region = self._dialogue.continuous(mote), mote.region or mote.near[0].region
        self._fail_too_long(mote, _room(region, rx, region.rates_down))
        limit = _room(region, rx, (rx2(region, rx)[1],)) - len(mote.answers)
        if mote.delivery is not None:
            waits = len(mote.delivery.payload) <= limit
        else:
            waits = self._answering.next(mote, limit) is not None
        if waits:
            self._answering.answer(mote, Opening(plan, rx, rx, False, limit))
            if not mote.sending:
                self._stranded[mote] = None

    def _fail_too_long(self, mote: Mote, most: int) -> None:
        for command in self._commands.waiting(mote.dev_eui):
            if len(payload_bytes(command.payload)) > most:
                self._commands.fail(command.id, TOO_LONG)

    def resume(self) -> None:
        """After a restart: class C motes whose commands were waiting."""
        for mote in self._motes:
            if mote.class_c and self._has_more(mote):
                self._stranded[mote] = None

    def tick(self) -> None:
        """Look after those that had no gateway."""
        for mote in list(self._stranded)[:MAX_STRANDED]:
            del self._stranded[mote]
            self.wake(mote)

    def _has_more(self, mote: Mote) -> bool:
        return mote.delivery is not None or self._commands.queued(mote.dev_eui) > 0

    # -- what became of it -----------------------------------------------------------------------------------------

    def _sent(self, transmission: Transmission, error: str | None) -> None:
        """A gateway has taken the frame, or none will."""
        mote, delivery, asked = transmission.what
        mote.sending = False
        if error is not None:
            self._dialogue.unsent(asked)
        slot = transmission.slot
        gateway = "" if slot is None else slot.gateway.eui
        now = self._monotonic()
        if delivery is not None and mote.delivery is delivery:
            if error is not None:
                if not delivery.confirmed or delivery.tries >= self.settings.transmissions:
                    mote.delivery = None
                    code = CODES.get(error, CODES["NO_GATEWAY"])
                    self._answering.end(mote, delivery, FAILED, {"error": error, "code": code, "gateway": gateway})
            elif delivery.confirmed:
                delivery.handed = True
                delivery.ends = transmission.ends
                self._answering.end(mote, delivery, PENDING, {"gateway": gateway, "transmission": delivery.tries})
                if mote.class_c:
                    when = max(now, transmission.ends) + self.settings.class_c_timeout
                    self._agenda.at(when, self._unanswered, (mote, delivery, delivery.tries))
            else:
                mote.delivery = None
                self._answering.end(mote, delivery, SUCCEEDED, {"gateway": gateway, "fcnt": delivery.fcnt})
        if mote.class_c:
            gap = self.settings.class_c_gap
            if mote.delivery is not None and mote.delivery.handed:
                gap = self.settings.class_c_timeout
            mote.free_at = max(mote.free_at, max(now, transmission.ends) + gap)
            self.wake(mote)

    def _unanswered(self, waited: tuple[Mote, Delivery, int]) -> None:
        """A class C mote had its time to acknowledge."""
        mote, delivery, tries = waited
        if mote.delivery is delivery and delivery.tries == tries and delivery.handed:
            mote.free_at = self._monotonic()
            self.wake(mote)

    def acknowledged(self, mote: Mote, heard: Heard) -> None:
        """An uplink had the ACK bit. What was on the air while the mote spoke it cannot have heard."""
        delivery = mote.delivery
        if delivery is not None and delivery.confirmed and delivery.tries and heard.arrived >= delivery.ends:
            mote.delivery = None
            mote.free_at = self._monotonic()
            self._acknowledged(mote, delivery.command, heard)
            return
        # Sent before the broker was started again, or by another process.
        for command in self._commands.unanswered(mote.dev_eui):
            if command.options.get("confirm") and (delivery is None or command.id != delivery.command.id):
                self._acknowledged(mote, command, heard)
                return

    def _acknowledged(self, mote: Mote, command: Command, heard: Heard) -> None:
        self._commands.reply(mote.dev_eui, Reply(command.id, SUCCEEDED, {"acknowledged": True}, heard.at))

    def session_over(self, mote: Mote) -> None:
        """The mote has joined anew, or has other keys: a frame of before will not be acknowledged any more."""
        delivery = mote.delivery
        if delivery is not None and delivery.confirmed:
            mote.delivery = None
            self._answering.end(mote, delivery, FAILED, NOT_ACKNOWLEDGED)


def _room(region: Region, rx: Rx, rates: tuple[int, ...]) -> int:
    """Bytes of a payload for which one of these data rates has room."""
    most = max(region.payload_limit(rate, dwell=rx.dwell) for rate in rates)
    return most - frames.OVERHEAD + FRAME_OVER_PAYLOAD
