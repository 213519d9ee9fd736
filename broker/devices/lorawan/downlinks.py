"""What a mote is sent, and when: commands from its queue, acknowledgements, answers to MAC commands.

The queue is the broker's own (`broker.routing.commands`): it is on disk, commands can be cancelled and expire there,
and they stay there until a window opens. Then the one of the highest priority, and of these the oldest, is taken:

::

    class A   uplink ──> downlink_wait ──> slot booked ──> command taken (on disk) ──> PULL_RESP
    class C   command queued ──────────────────^

    unconfirmed   TX_ACK: succeeded           confirmed   TX_ACK: pending ──> ACK: succeeded
                                                             ^  no ACK in the next uplink (A), or for
                                                             |  class_c_timeout (C): the same frame again
                                                             three times in all, then failed

* A command is taken only after a slot is booked for it: if all gateways are busy it stays in the queue. It is failed at
  once where waiting would not help: too long for the data rate, or over the duty cycle, with the time to wait.
* A frame acknowledges an uplink only after that uplink's counter is on disk.
* A downlink counter is used for one frame only; the reserved end of the counters is on disk before.
* What was taken when the broker died is not sent again; it is acknowledged late, or times out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from broker.core import Core
from broker.devices.lorawan import frames, mac
from broker.devices.lorawan.agenda import Agenda
from broker.devices.lorawan.counters import LorawanCounters
from broker.devices.lorawan.motes import Delivery, Mote, Motes
from broker.devices.lorawan.priority import ANSWER
from broker.devices.lorawan.reception import Heard
from broker.devices.lorawan.settings import Settings
from broker.devices.lorawan.store import Store
from broker.devices.lorawan.transmitter import CODES, RX2_AFTER_RX1, Transmission, Transmitter
from broker.devices.lorawan.windows import FRAME_OVER_PAYLOAD, Plan, Rx
from broker.model.messages import FAILED, PENDING, SUCCEEDED, Command, Reply, payload_bytes

#: Seconds until another look when counters are not on disk yet.
NOT_YET: Final = 0.02
#: Seconds after the start of RX2 in which a class C mote may still be busy with it.
RX2_LENGTH: Final = 1.0
#: How often a mote is told its channels if it does not say that it has them, and how many they are.
MAX_CHANNELS_TOLD: Final = 3
CHANNELS_OF_A_BLOCK: Final = 8
#: Class C motes whose gateways are away that are looked at in one tick.
MAX_STRANDED: Final = 200
#: The result of a command that no acknowledgement came for.
NOT_ACKNOWLEDGED: Final = {"error": "NOT_ACKNOWLEDGED", "code": CODES["NOT_ACKNOWLEDGED"]}
#: Numbers of customer servers' answers that are no TX_ACK errors.
CODE_DUTY: Final = -7

#: The windows for a frame of so many bytes.
Windows = Callable[[int], Plan]


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
    ) -> None:
        self._core = core
        self._commands = core.commands
        self._monotonic = core.monotonic
        self._counted = counted
        self._agenda = agenda
        self._motes = motes
        self._store = store
        self._transmitter = transmitter
        self.settings = settings
        #: Class C motes with commands and without a gateway.
        self._stranded: dict[Mote, None] = {}

    # -- occasions -------------------------------------------------------------------------------------------------

    def after(self, mote: Mote, heard: Heard) -> None:
        """An uplink came: its windows will open."""
        settings = self.settings
        mote.free_at = heard.arrived + mote.rx1_delay + RX2_AFTER_RX1 + RX2_LENGTH
        when = heard.arrived + settings.deduplication + settings.downlink_wait
        self._agenda.at(when, self._windows_open, (mote, heard))

    def _windows_open(self, occasion: tuple[Mote, Heard]) -> None:
        mote, heard = occasion
        if self._motes.get(mote.dev_eui) is not mote or mote.sending:
            return
        settings, now = self.settings, self._monotonic()
        if mote.saved < mote.up:
            if now < heard.arrived + mote.rx1_delay + RX2_AFTER_RX1 - settings.downlink_margin:
                self._agenda.at(now + NOT_YET, self._windows_open, occasion)
            return

        def windows(size: int) -> Plan:
            return self._transmitter.windows(heard.receptions, mote.region, size, _rx(mote))

        if not self._tell_channels(mote, heard, windows):
            self._answer(mote, windows)
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

        def windows(size: int) -> Plan:
            return self._transmitter.continuous(mote.near, mote.region, size, _rx(mote))

        # What is too long for RX2 may go out in RX1, after its next uplink.
        region = mote.region or mote.near[0].region
        limit = region.max_payload[region.rx2_rate] - frames.OVERHEAD + FRAME_OVER_PAYLOAD - len(mote.answers)
        waits = (
            len(mote.delivery.payload) <= limit if mote.delivery is not None else self._next(mote, limit) is not None
        )
        if waits:
            self._answer(mote, windows, limit)
            if not mote.sending:
                self._stranded[mote] = None

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

    # -- what goes out ---------------------------------------------------------------------------------------------

    def _answer(self, mote: Mote, windows: Windows, limit: int | None = None) -> None:
        """Send the next frame that is owed, if there is one and a window for it. ``limit``: bytes of a command."""
        if self._drop_done(mote):
            self._send_again(mote, windows)
            return
        while True:
            command = self._next(mote, limit)
            if command is None:
                self._send_alone(mote, windows)
                return
            if self._send_command(mote, command, windows):
                return

    def _drop_done(self, mote: Mote) -> bool:
        """Whether there is a delivery to be sent again; one that is over is ended."""
        delivery = mote.delivery
        if delivery is None:
            return False
        if not delivery.command.final and delivery.tries < self.settings.transmissions:
            return True
        mote.delivery = None
        self._end(mote, delivery, FAILED, NOT_ACKNOWLEDGED)
        return False

    def _next(self, mote: Mote, limit: int | None) -> Command | None:
        """The oldest of the highest priority, of those that are not longer than ``limit``."""
        waiting = self._commands.waiting(mote.dev_eui)
        if limit is not None:
            waiting = [command for command in waiting if len(payload_bytes(command.payload)) <= limit]
        return max(waiting, key=self._priority, default=None)

    def _priority(self, command: Command) -> int:
        return int(command.options.get("priority", self.settings.default_priority))

    def _send_command(self, mote: Mote, command: Command, windows: Windows) -> bool:
        """True: nothing else can be sent now. False: the command has failed for good."""
        payload = payload_bytes(command.payload)
        port = int(command.options.get("port") or mote.port or self.settings.default_port)
        size = frames.OVERHEAD + len(payload)
        fopts, plan = self._fitted(mote, size, windows)
        if plan.too_long and fopts and not windows(size).too_long:
            self._send_alone(mote, windows)  # the command has its turn in the next window
            return True
        if plan.too_long:
            self._commands.fail(command.id, {"error": "TOO_LONG", "code": CODES["TOO_LONG"]})
            return False
        if not plan.slots or not self._counter_left(mote):
            return True
        wait = self._transmitter.duty_wait(plan, size + len(fopts), self._priority(command))
        if wait > 0:
            self._counted.duty += 1
            result = {"error": "DUTY_CYCLE", "code": CODE_DUTY, "wait_ms": int(wait * 1000) + 1}
            self._commands.fail(command.id, result)
            return False
        delivery = Delivery(command, port, payload, bool(command.options.get("confirm")), mote.down)
        transmission = self._booked(mote, plan, fopts, delivery)
        if transmission is None:
            return True
        self._use_counter(mote)

        def taken(error: Exception | None) -> None:
            if error is not None or self._motes.get(mote.dev_eui) is not mote:
                mote.sending = False
                self._transmitter.release(transmission)
                return
            mote.delivery = delivery
            delivery.tries = 1
            self._transmitter.launch(transmission)

        self._commands.take(command.id, taken)
        return True

    def _send_again(self, mote: Mote, windows: Windows) -> None:
        delivery = mote.delivery
        assert delivery is not None
        size = frames.OVERHEAD + len(delivery.payload)
        fopts, plan = self._fitted(mote, size, windows)
        if plan.too_long and fopts:
            # Answers alone would have a later counter, after which this frame is an old one. The mote may ask again.
            fopts, plan = b"", windows(size)
        if plan.too_long:  # by now: the mote has become slower
            mote.delivery = None
            self._end(mote, delivery, FAILED, {"error": "TOO_LONG", "code": CODES["TOO_LONG"]})
            self._answer(mote, windows)
            return
        transmission = self._booked(mote, plan, fopts, delivery)
        if transmission is not None:
            delivery.tries += 1
            delivery.handed = False
            self._transmitter.launch(transmission)

    def _send_alone(self, mote: Mote, windows: Windows) -> None:
        """No command: only what the mote is owed."""
        fopts = self._owed(mote)
        if not (fopts or mote.ack or mote.prompt):
            return
        plan = windows(frames.MIN_DATA + len(fopts))
        if not plan.slots or not self._counter_left(mote):
            return
        transmission = self._booked(mote, plan, fopts, None)
        if transmission is not None:
            self._use_counter(mote)
            self._transmitter.launch(transmission)

    def _tell_channels(self, mote: Mote, heard: Heard, windows: Windows) -> bool:
        """Tell a CN470 mote its channels, before anything else: on the others nobody hears it."""
        block = self.settings.cn470_block
        if block < 0 or mote.channels_told >= MAX_CHANNELS_TOLD or mote.delivery is not None:
            return False
        best = heard.receptions[0]
        region = mote.region or best.gateway.region
        if region.name != "cn470":
            return False
        rate = region.rate_of(best.datr) or 0
        commands = mote.answers + mac.link_adr_channels(block * CHANNELS_OF_A_BLOCK, CHANNELS_OF_A_BLOCK, rate)
        plan = windows(frames.OVERHEAD + len(commands))
        if not plan.slots or not self._counter_left(mote):
            return False
        transmission = self._booked(mote, plan, b"", None, commands)
        if transmission is None:
            return False
        mote.channels_told += 1
        self._use_counter(mote)
        self._transmitter.launch(transmission)
        return True

    def _fitted(self, mote: Mote, size: int, windows: Windows) -> tuple[bytes, Plan]:
        """What goes along with a frame of ``size`` bytes: what is owed, without our own question if it is too long."""
        fopts = self._owed(mote)
        plan = windows(size + len(fopts))
        if plan.too_long and fopts != mote.answers:
            fopts = mote.answers
            plan = windows(size + len(fopts))
        return fopts, plan

    def _owed(self, mote: Mote) -> bytes:
        """MAC commands for the mote; they fit into FOpts."""
        interval = self.settings.status_interval
        if interval and self._monotonic() - mote.status_at >= interval:
            return mote.answers + mac.DEV_STATUS_REQ
        return mote.answers

    def _booked(
        self, mote: Mote, plan: Plan, fopts: bytes, delivery: Delivery | None, commands: bytes = b""
    ) -> Transmission | None:
        """The frame with a slot that is booked for it; the mote is owed nothing any more.

        ``commands``: MAC commands in place of a payload, where they are too many for FOpts.
        """
        more = self._commands.queued(mote.dev_eui) > (1 if delivery is not None and not delivery.tries else 0)
        frame = frames.data_down(
            mote.nwk_s_key,
            mote.app_s_key,
            mote.dev_addr,
            mote.down if delivery is None else delivery.fcnt,
            port=delivery.port if delivery is not None else 0 if commands else None,
            payload=commands if delivery is None else delivery.payload,
            confirmed=delivery is not None and delivery.confirmed,
            ack=mote.ack,
            pending=more and not mote.class_c,
            fopts=fopts,
        )
        priority = ANSWER if delivery is None else self._priority(delivery.command)
        transmission = Transmission(frame, plan.slots, self._sent, (mote, delivery), priority)
        if self._transmitter.book(transmission) is not None:
            return None
        if fopts.endswith(mac.DEV_STATUS_REQ) and fopts != mote.answers:
            mote.status_at = self._monotonic()
        mote.ack = mote.prompt = False
        mote.answers = b""
        mote.sending = True
        return transmission

    def _counter_left(self, mote: Mote) -> bool:
        """Whether a counter is reserved for the next frame; if not, one will be a moment later."""
        if mote.down < mote.reserved:
            return True
        self._store.changed(mote)
        if mote.class_c:
            self._stranded[mote] = None
        return False

    def _use_counter(self, mote: Mote) -> None:
        mote.down += 1
        if mote.reserved - mote.down < self.settings.counter_block // 2:
            self._store.changed(mote)

    # -- what became of it -----------------------------------------------------------------------------------------

    def _sent(self, transmission: Transmission, error: str | None) -> None:
        """A gateway has taken the frame, or none will."""
        mote, delivery = transmission.what
        mote.sending = False
        slot = transmission.slot
        gateway = "" if slot is None else slot.gateway.eui
        now = self._monotonic()
        if delivery is not None and mote.delivery is delivery:
            if error is not None:
                if not delivery.confirmed or delivery.tries >= self.settings.transmissions:
                    mote.delivery = None
                    code = CODES.get(error, CODES["NO_GATEWAY"])
                    self._end(mote, delivery, FAILED, {"error": error, "code": code, "gateway": gateway})
            elif delivery.confirmed:
                delivery.handed = True
                self._end(mote, delivery, PENDING, {"gateway": gateway, "transmission": delivery.tries})
                if mote.class_c:
                    when = now + transmission.seconds + self.settings.class_c_timeout
                    self._agenda.at(when, self._unanswered, (mote, delivery, delivery.tries))
            else:
                mote.delivery = None
                self._end(mote, delivery, SUCCEEDED, {"gateway": gateway, "fcnt": delivery.fcnt})
        if mote.class_c:
            gap = self.settings.class_c_gap
            if mote.delivery is not None and mote.delivery.handed:
                gap = self.settings.class_c_timeout
            mote.free_at = max(mote.free_at, now + transmission.seconds + gap)
            self.wake(mote)

    def _unanswered(self, waited: tuple[Mote, Delivery, int]) -> None:
        """A class C mote had its time to acknowledge."""
        mote, delivery, tries = waited
        if mote.delivery is delivery and delivery.tries == tries and delivery.handed:
            mote.free_at = self._monotonic()
            self.wake(mote)

    def acknowledged(self, mote: Mote, at: float) -> None:
        """An uplink had the ACK bit."""
        delivery = mote.delivery
        if delivery is not None and delivery.confirmed and delivery.tries:
            mote.delivery = None
            mote.free_at = self._monotonic()
            self._commands.reply(mote.dev_eui, Reply(delivery.command.id, SUCCEEDED, {"acknowledged": True}, at))
            return
        # Sent before the broker was started again.
        for command in self._commands.unanswered(mote.dev_eui):
            if command.options.get("confirm"):
                self._commands.reply(mote.dev_eui, Reply(command.id, SUCCEEDED, {"acknowledged": True}, at))
                return

    def session_over(self, mote: Mote) -> None:
        """The mote has joined anew, or has other keys: a frame of before will not be acknowledged any more."""
        delivery = mote.delivery
        if delivery is not None and delivery.confirmed:
            mote.delivery = None
            self._end(mote, delivery, FAILED, NOT_ACKNOWLEDGED)

    def _end(self, mote: Mote, delivery: Delivery, status: str, result: dict[str, Any]) -> None:
        if not delivery.command.final:
            self._commands.reply(mote.dev_eui, Reply(delivery.command.id, status, result, self._core.clock()))


def _rx(mote: Mote) -> Rx:
    return Rx(float(mote.rx1_delay), mote.rx1_offset)
