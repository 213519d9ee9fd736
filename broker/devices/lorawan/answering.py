"""What goes out in a window: a frame again, MAC commands by themselves, a command, or what the mote is owed.

::

    a delivery that was not acknowledged    the same frame again; MAC commands go along if they fit
    MAC commands that FOpts cannot hold     a frame of their own on port 0; not twice in a row before a command
    a command                               with what fits into FOpts: first answers, then requests in their order
    nothing of these                        answers and requests, an acknowledgement, an empty frame for ADRACKReq

* A command is taken only after a slot is booked for it: if all gateways are busy it stays in the queue. It is failed at
  once where waiting would not help: too long for the data rate, or over the duty cycle, with the time to wait; then the
  next one has its turn.
* Answers to the mote's own questions go before a command that they leave no room for, but once only: a mote that asks
  with every frame does not keep its commands away. Requests never do: they wait for a frame with more room.
* A downlink counter is used for one frame only; the reserved end of the counters is on disk before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from broker.core import Core
from broker.devices.lorawan import frames, tracing
from broker.devices.lorawan.counters import LorawanCounters
from broker.devices.lorawan.mac.dialogue import Asked, Dialogue
from broker.devices.lorawan.motes import Delivery, Mote, Motes
from broker.devices.lorawan.priority import ANSWER
from broker.devices.lorawan.settings import Settings
from broker.devices.lorawan.store import Store
from broker.devices.lorawan.transmitter import CODES, Transmission, Transmitter, milliseconds
from broker.devices.lorawan.windows import Plan, Rx
from broker.model.messages import FAILED, Command, Reply, payload_bytes
from broker.routing.traces import OUT

#: Numbers of customer servers' answers that are no TX_ACK errors.
CODE_DUTY: Final = -7
#: The results of commands that no acknowledgement came for, and that no window has room for.
NOT_ACKNOWLEDGED: Final = {"error": "NOT_ACKNOWLEDGED", "code": CODES["NOT_ACKNOWLEDGED"]}
TOO_LONG: Final = {"error": "TOO_LONG", "code": CODES["TOO_LONG"]}


class Opening(NamedTuple):
    """Windows that a mote has now. ``plan(size, rx)``: those that take a frame of so many bytes."""

    plan: Callable[[int, Rx], Plan]
    rx: Rx
    #: Where frames go that have no command: elsewhere if the mote may have changed its windows.
    spare: Rx
    #: Whether the mote may be asked something: after its uplinks, as its next one has the answer.
    asks: bool
    #: Bytes of a command; None: whatever the windows take.
    limit: int | None = None


class Answering:
    """``sent``: what a `Transmission` ends with; its ``what`` is (mote, delivery or None, requests in it)."""

    def __init__(
        self,
        core: Core,
        settings: Settings,
        counted: LorawanCounters,
        motes: Motes,
        store: Store,
        transmitter: Transmitter,
        dialogue: Dialogue,
        sent: Callable[[Transmission, str | None], None],
    ) -> None:
        self._clock = core.clock
        self._commands = core.commands
        self._counted = counted
        self._motes = motes
        self._store = store
        self._transmitter = transmitter
        self._dialogue = dialogue
        self._sent = sent
        self.settings = settings

    def answer(self, mote: Mote, opening: Opening) -> None:
        """Send the next frame that is owed, if there is one and a window for it."""
        if self._drop_done(mote):
            self._send_again(mote, opening)
            return
        if opening.asks and self._send_requests(mote, opening):
            return
        while True:
            command = self.next(mote, opening.limit)
            if command is None:
                self._send_alone(mote, opening)
                return
            if self._send_command(mote, command, opening):
                return

    def next(self, mote: Mote, limit: int | None) -> Command | None:
        """The oldest of the highest priority, of those that are not longer than ``limit``."""
        waiting = self._commands.waiting(mote.dev_eui)
        if limit is not None:
            waiting = [command for command in waiting if len(payload_bytes(command.payload)) <= limit]
        return max(waiting, key=self._priority, default=None)

    def _priority(self, command: Command) -> int:
        return int(command.options.get("priority", self.settings.default_priority))

    def _drop_done(self, mote: Mote) -> bool:
        """Whether there is a delivery to be sent again; one that is over is ended."""
        delivery = mote.delivery
        if delivery is None:
            return False
        if not delivery.command.final and delivery.tries < self.settings.transmissions:
            return True
        mote.delivery = None
        self.end(mote, delivery, FAILED, NOT_ACKNOWLEDGED)
        return False

    # -- the four kinds --------------------------------------------------------------------------------------------

    def _send_again(self, mote: Mote, opening: Opening) -> None:
        delivery = mote.delivery
        assert delivery is not None
        size = frames.OVERHEAD + len(delivery.payload)
        fopts, asked, plan = self._fitted(mote, size, opening)
        if plan.too_long and fopts:
            # Answers alone would have a later counter, after which this frame is an old one. The mote may ask again.
            fopts, asked, plan = b"", [], opening.plan(size, opening.rx)
        if plan.too_long:  # by now: the mote has become slower
            mote.delivery = None
            self.end(mote, delivery, FAILED, TOO_LONG)
            self.answer(mote, opening)
            return
        transmission = self._booked(mote, plan, fopts, asked, delivery)
        if transmission is not None:
            delivery.tries += 1
            delivery.handed = False
            self._transmitter.launch(transmission)

    def _send_requests(self, mote: Mote, opening: Opening) -> bool:
        """MAC commands on port 0, if FOpts are too small for them; answers go along. Whether they were sent."""
        waits = self._commands.queued(mote.dev_eui) > 0
        if mote.yielded and waits:
            return False
        if not self._dialogue.wants_frame(mote, frames.MAX_FOPTS - len(mote.answers), not waits):
            return False
        room = frames.MAX_FRAME - frames.OVERHEAD - len(mote.answers)
        while True:
            data, asked = self._dialogue.due(mote, room)
            data = mote.answers + data
            if len(data) <= frames.MAX_FOPTS:
                return False  # what is large has no room here
            plan = opening.plan(frames.OVERHEAD + len(data), opening.spare)
            if not plan.too_long:
                return self._send_without_command(mote, plan, b"", asked, data)
            room = len(data) - len(mote.answers) - 1

    def _send_command(self, mote: Mote, command: Command, opening: Opening) -> bool:
        """True: nothing else can be sent now. False: the command has failed for good."""
        payload = payload_bytes(command.payload)
        port = int(command.options.get("port") or mote.port or self.settings.default_port)
        size = frames.OVERHEAD + len(payload)
        fopts, asked, plan = self._fitted(mote, size, opening)
        if plan.too_long and fopts and not (bare := opening.plan(size, opening.rx)).too_long:
            if not mote.yielded:
                self._send_alone(mote, opening)  # the command has its turn in the next window
                return True
            fopts, asked, plan = b"", [], bare
        if plan.too_long:
            self._commands.fail(command.id, TOO_LONG)
            return False
        if not plan.slots or not self._counter_left(mote):
            return True
        wait = self._transmitter.duty_wait(plan, size + len(fopts), self._priority(command))
        if wait > 0:
            self._counted.duty += 1
            result = {"error": "DUTY_CYCLE", "code": CODE_DUTY, "wait_ms": milliseconds(wait)}
            self._commands.fail(command.id, result)
            return False
        delivery = Delivery(command, port, payload, bool(command.options.get("confirm")), mote.down)
        transmission = self._booked(mote, plan, fopts, asked, delivery)
        if transmission is None:
            return True
        self._use_counter(mote)
        mote.yielded = False

        def taken(error: Exception | None) -> None:
            if error is not None or self._motes.get(mote.dev_eui) is not mote:
                mote.sending = False
                self._dialogue.unsent(asked)
                self._transmitter.release(transmission)
                return
            mote.delivery = delivery
            delivery.tries = 1
            self._transmitter.launch(transmission)

        self._commands.take(command.id, taken)
        return True

    def _send_alone(self, mote: Mote, opening: Opening) -> None:
        """No command: only what the mote is owed, and asked."""
        data, asked = self._due(mote, frames.MAX_FOPTS, opening)
        if not (data or mote.ack or mote.prompt):
            return
        plan = opening.plan(frames.MIN_DATA + len(data), opening.spare)
        while plan.too_long and asked:
            data, asked = self._due(mote, len(data) - 1, opening)
            plan = opening.plan(frames.MIN_DATA + len(data), opening.spare)
        if plan.too_long and data:
            data, asked = b"", []
            plan = opening.plan(frames.MIN_DATA, opening.spare)
        self._send_without_command(mote, plan, data, asked)

    def _send_without_command(self, mote: Mote, plan: Plan, fopts: bytes, asked: Asked, commands: bytes = b"") -> bool:
        if not plan.slots or not self._counter_left(mote):
            return False
        transmission = self._booked(mote, plan, fopts, asked, None, commands)
        if transmission is None:
            return False
        mote.yielded = self._commands.queued(mote.dev_eui) > 0
        self._use_counter(mote)
        self._transmitter.launch(transmission)
        return True

    # -- frames ----------------------------------------------------------------------------------------------------

    def _fitted(self, mote: Mote, size: int, opening: Opening) -> tuple[bytes, Asked, Plan]:
        """What goes along with a frame of ``size`` bytes: answers, whether they fit or not, and requests that do."""
        fopts, asked = self._due(mote, frames.MAX_FOPTS, opening)
        plan = opening.plan(size + len(fopts), opening.rx)
        while plan.too_long and asked:
            fopts, asked = self._due(mote, len(fopts) - 1, opening)
            plan = opening.plan(size + len(fopts), opening.rx)
        return fopts, asked, plan

    def _due(self, mote: Mote, room: int, opening: Opening) -> tuple[bytes, Asked]:
        """Answers, and requests for what is left of so many bytes."""
        if not opening.asks:
            return mote.answers, []
        data, asked = self._dialogue.due(mote, room - len(mote.answers))
        return mote.answers + data, asked

    def _booked(
        self,
        mote: Mote,
        plan: Plan,
        fopts: bytes,
        asked: Asked,
        delivery: Delivery | None,
        commands: bytes = b"",
    ) -> Transmission | None:
        """The frame with a slot that is booked for it; the mote is owed nothing any more.

        ``commands``: MAC commands in place of a payload, where they are too many for FOpts.
        """
        more = self._commands.queued(mote.dev_eui) > (1 if delivery is not None and not delivery.tries else 0)
        fcnt = mote.down if delivery is None else delivery.fcnt
        port = delivery.port if delivery is not None else 0 if commands else None
        payload = commands if delivery is None else delivery.payload
        confirmed = delivery is not None and delivery.confirmed
        told = None if mote.tell is None else tracing.downlink(fcnt, port, payload, fopts, confirmed, mote.ack)
        frame = frames.data_down(
            mote.nwk_s_key,
            mote.app_s_key,
            mote.dev_addr,
            fcnt,
            port=port,
            payload=payload,
            confirmed=confirmed,
            ack=mote.ack,
            pending=more and not mote.class_c,
            adr=mote.mac is not None and mote.mac.limits is not None,
            fopts=fopts,
        )
        priority = ANSWER if delivery is None else self._priority(delivery.command)
        what: Any = (mote, delivery, asked)
        transmission = Transmission(frame, plan.slots, self._sent, what, priority)
        if self._transmitter.book(transmission) is not None:
            return None
        self._dialogue.sent(asked)
        if mote.tell is not None:
            mote.tell(OUT, frame, told)
        mote.ack = mote.prompt = False
        mote.answers = b""
        mote.sending = True
        return transmission

    def _counter_left(self, mote: Mote) -> bool:
        """Whether a counter is reserved for the next frame; if not, one will be a moment later."""
        if mote.down < mote.reserved:
            return True
        self._store.changed(mote)
        return False

    def _use_counter(self, mote: Mote) -> None:
        mote.down += 1
        if mote.reserved - mote.down < self.settings.counter_block // 2:
            self._store.changed(mote)

    def end(self, mote: Mote, delivery: Delivery, status: str, result: dict[str, Any]) -> None:
        """Tell what became of a delivery, unless that is known."""
        if not delivery.command.final:
            self._commands.reply(mote.dev_eui, Reply(delivery.command.id, status, result, self._clock()))
