"""One device: its polls, its presence, its commands.

::

    poll ──> all blocks of its map ──> an uplink of kind data: {name: value}
      ↑            └─ a block that it refuses is left out; no answer: the poll is over
      └── poll_every after the end, at once after a write

It is on-line from its first answer until ``offline_after`` polls in a row had none. (A lost connection alone is no
absence: some devices close what is idle.) A command names registers and values; they are written in that order, and the
first refusal ends it. One that is not answered is left to its time-out, as it may have been carried out.
"""

from __future__ import annotations

from typing import Any, Protocol

from pymodbus.pdu import ModbusPDU
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from broker.extension import (
    DATA,
    FAILED,
    SUCCEEDED,
    BrokerError,
    Command,
    Core,
    DeviceRecord,
    DeviceRef,
    IDeviceLink,
    Invalid,
    LastValues,
    LiveDevice,
    Reply,
    Uplink,
    decode_json_object,
)
from broker_modbus import codec
from broker_modbus.bus import Bus, Counts, NoAnswer, Refused
from broker_modbus.identity import PROTOCOL
from broker_modbus.registers import BITS, Register, plan
from broker_modbus.settings import Settings


class Home(Protocol):
    """What a device needs of its listener."""

    core: Core
    settings: Settings
    counts: Counts


@implementer(IDeviceLink)
class Slave:
    """``first``: seconds until its first poll."""

    log = Logger(namespace="broker.modbus")
    protocol = PROTOCOL
    window = 1

    def __init__(
        self,
        home: Home,
        record: DeviceRecord,
        bus: Bus,
        unit: int,
        registers: tuple[Register, ...],
        first: float,
    ) -> None:
        self.bus = bus
        #: As it was registered when it was taken up.
        self.attributes = dict(record.attributes)
        self.answer_timeout = self.pending_timeout = home.settings.command_timeout
        self._home = home
        self._core = home.core
        self._id = record.id
        self._unit = unit
        self._registers = {register.name: register for register in registers}
        self._blocks = plan(registers)
        self._live: LiveDevice | None = None
        self._missed = 0
        self._before: dict[str, Any] | None = None
        self._polling = self._again = self._stopped = False
        self._timer: Any = home.core.reactor.callLater(first, self._begin)

    def stop(self, reason: str) -> None:
        """Poll no more, and be off-line. Harmless twice."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._go(reason)

    # -- polling ---------------------------------------------------------------------------------------------------

    def poll_now(self) -> None:
        """Without waiting for its time."""
        if self._polling:
            self._again = True
        elif self._timer is not None:
            self._timer.reset(0)

    def _begin(self) -> None:
        self._timer = None
        self._polling, self._again = True, False
        Deferred.fromCoroutine(self._poll()).addErrback(self._fault).addCallback(self._ended)

    def _ended(self, _: object) -> None:
        self._polling = False
        if not self._stopped:
            pause = 0 if self._again else self._home.settings.poll_every
            self._timer = self._core.reactor.callLater(pause, self._begin)

    async def _poll(self) -> None:
        self._home.counts.polls += 1
        values: dict[str, Any] = {}
        for block in self._blocks:
            try:
                answer = await self.bus.ask(self._unit, codec.read(block))
                values |= block.values(answer.bits if block.table in BITS else answer.registers)
            except Refused:
                self._home.counts.refused += 1
            except (NoAnswer, ValueError):  # ValueError: an answer that is too short
                self._not_heard()
                return
        if not self._stopped:
            await self._heard(values)

    def _not_heard(self) -> None:
        self._home.counts.unanswered += 1
        self._missed += 1
        if self._missed >= self._home.settings.offline_after:
            self._go("idle" if self.bus.connected else "connection_lost")

    async def _heard(self, values: dict[str, Any]) -> None:
        self._missed = 0
        live = self._live or await self._come()
        if live is None or self._stopped:
            return
        now = self._core.clock()
        live.last_seen = now
        if values and (values != self._before or self._home.settings.report == "every"):
            self._before = values
            live.values.update(values, now)
            self._core.router.uplink(Uplink(live.ref, DATA, values, now))

    # -- presence --------------------------------------------------------------------------------------------------

    async def _come(self) -> LiveDevice | None:
        """On-line from now on; None if the registry does not have it, or cannot say so now."""
        try:
            login = await self._core.registry.identify_device(PROTOCOL, self._id)
        except BrokerError:
            return None
        if self._stopped:
            return None

        def known() -> tuple[LastValues, dict[str, Any]]:
            return LastValues(login.values, login.unmapped, login.sensors), dict(login.record.info)

        ref = DeviceRef(PROTOCOL, self._id)
        live = self._live = self._core.devices.attach(ref, self, known)
        self._core.commands.ready(live)
        return live

    def _go(self, reason: str) -> None:
        live, self._live = self._live, None
        self._before = None
        if live is not None:
            self._core.devices.detach(live, self, reason)

    # -- IDeviceLink -----------------------------------------------------------------------------------------------

    def send_command(self, command: Command) -> None:
        payload = command.payload
        try:
            asked = decode_json_object(payload) if isinstance(payload, bytes) else payload
        except ValueError as error:
            raise Invalid(f"a modbus command is a JSON object of registers and values: {error}") from None
        if not asked:
            raise Invalid("a modbus command names at least one register")
        writes = [(name, value, self._write(name, value)) for name, value in asked.items()]
        Deferred.fromCoroutine(self._carry_out(command.id, writes)).addErrback(self._fault)

    def close_link(self, reason: str) -> None:
        self.stop(reason)

    def _write(self, name: str, value: Any) -> ModbusPDU:
        register = self._registers.get(name)
        if register is None:
            raise Invalid(f"the device has no register {name}")
        if not register.writable:
            raise Invalid(f"{name} cannot be written")
        return codec.write(register, value)

    async def _carry_out(self, command_id: str, writes: list[tuple[str, Any, ModbusPDU]]) -> None:
        written: dict[str, Any] = {}
        for name, value, request in writes:
            try:
                await self.bus.ask(self._unit, request)
            except Refused as error:
                result = {"error": str(error), "exception": error.code, "register": name, "written": written}
                self._answer(command_id, FAILED, result)
                return
            except NoAnswer:
                return
            self._home.counts.writes += 1
            written[name] = value
        self._answer(command_id, SUCCEEDED, {"written": written})
        self.poll_now()

    def _answer(self, command_id: str, status: str, result: dict[str, Any]) -> None:
        self._core.commands.reply(self._id, Reply(command_id, status, result, self._core.clock()))

    def _fault(self, failure: Failure) -> None:
        self.log.failure("fault with the modbus device {id}", failure, id=self._id)
