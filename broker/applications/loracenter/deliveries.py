"""SENDTO, from the request to its last answer (document 4.3).

The queue is the broker's own (`broker.routing.commands`): a SENDTO becomes a command, whose options hold what is needed
to answer later, so that answers go on after a restart of the broker. The Token is the command's ``ref``.

::

    SENDTO ──> looked at ──> on disk ──> 1 READY SEND ──> what `outcomes` makes of each further state
                  └─ -1, -2, -5, -4, -100

Answers go to the connection with the ServiceId that sent the request, else to another one of the same customer server;
when there is none at that time, they are lost, counted.
"""

from __future__ import annotations

from base64 import b64encode
from typing import Any, Final

from broker.applications.loracenter import codec, outcomes
from broker.applications.loracenter.answers import TRY_LATER, WRONG_PAYLOAD, WRONG_PORT, Asked, Refusal
from broker.applications.loracenter.counters import LoraCenterCounters
from broker.applications.loracenter.customers import ORIGIN, Customers
from broker.applications.loracenter.outcomes import MOTE, SENT, Outcome
from broker.applications.loracenter.settings import Settings
from broker.applications.ordering import check_content, new_command
from broker.core import Core
from broker.model.errors import Invalid, LimitExceeded
from broker.model.jsontext import decode
from broker.model.messages import PENDING, SUCCEEDED, Command
from broker.model.messages import SENT as TAKEN
from broker.model.records import DeviceRecord

#: The option of a command that holds what its later answers need: cmd, token, service, dev_eui, app_eui.
NOTE: Final = "loracenter"
#: Ports of LoRaWAN; 224 is for tests, and those above it are used all the same.
PORTS: Final = (1, 255)
STRICT_PORTS: Final = (20, 223)
MAX_PRIORITY: Final = 64
DEFAULT_PRIORITY: Final = 32


class Deliveries:
    """``send_to`` takes a SENDTO, `changed` is told of the states of all commands."""

    def __init__(self, core: Core, settings: Settings, counted: LoraCenterCounters, customers: Customers) -> None:
        self._core = core
        self._counted = counted
        self._customers = customers
        self.settings = settings
        #: Ids of confirmed ones that were taken off their queue and of which no gateway has said that it has them.
        self._unseen: set[str] = set()

    # -- the request -----------------------------------------------------------------------------------------------

    async def send_to(self, asked: Asked) -> None:
        """Answers to it are said when it is on disk; this returns before that."""
        least, most = STRICT_PORTS if self.settings.strict_ports else PORTS
        port = None
        if asked.get("port") is not None:
            port = asked.number("port", least, most, None, WRONG_PORT)
        priority = asked.number("prior", 0, MAX_PRIORITY, DEFAULT_PRIORITY, "PRIOR PARAMETER ERROR")
        content = asked.payload(-2)
        record = await asked.mote(self._core)
        if record.protocol != MOTE:
            await self._check(record, content)
        options: dict[str, Any] = {"priority": priority}
        if port is not None:
            options["port"] = port
        if codec.flag(asked.get("confirm")):
            options["confirm"] = True
        self._refuse_if_full(asked, record, content, port)
        self._submit(asked, record, content, options)

    async def _check(self, record: DeviceRecord, content: bytes) -> None:
        """What is JSON may have only the keys that the device's product knows."""
        try:
            value = decode(content)
        except ValueError:
            return  # the device's protocol will say whether it can carry it
        if isinstance(value, dict):
            try:
                await check_content(self._core, record, content)
            except Invalid:
                raise Refusal(-2, WRONG_PAYLOAD) from None

    def _refuse_if_full(self, asked: Asked, record: DeviceRecord, content: bytes, port: int | None) -> None:
        commands = self._core.commands
        token = str(asked.request.token)
        for waiting in commands.waiting(record.id):
            same = waiting.options.get("port") == port and waiting.payload == content
            if same and of_sendto(waiting, asked.customer.origin, token):
                raise Refusal(-100, "REPEATED FRAME")
        if commands.queued(record.id) >= self.settings.max_queued:
            raise Refusal(-4, "SEND BUFF FULL")

    def _submit(self, asked: Asked, record: DeviceRecord, content: bytes, options: dict[str, Any]) -> None:
        command = noted_command(self._core, asked, record, content, self.settings.queue_time, options)

        def kept(error: Exception | None) -> None:
            if error is None:
                self._counted.sendtos += 1
                asked.say(1, "READY SEND", Qlen=self._core.commands.queued(record.id))
            elif isinstance(error, LimitExceeded):
                asked.say(-4, "SEND BUFF FULL")
            else:
                asked.say(0, TRY_LATER)
            asked.session.kept()

        asked.session.keeping()
        self._core.commands.submit(command, kept)

    # -- what became of it -----------------------------------------------------------------------------------------

    def changed(self, command: Command) -> None:
        """A command has another state."""
        note = command.options.get(NOTE)
        if note is None or command.late:
            return
        self._watch(command)
        if note["cmd"] == "GWCOMSEND":
            answered = outcomes.passed_through(command)
            if answered is not None:
                self._answer(command, note, *answered)
            return
        found = outcomes.outcome(command)
        if command.status == SUCCEEDED and command.id in self._unseen:
            found = Outcome(2, SENT)  # acknowledged, though no gateway said that it had it
        if command.final:
            self._unseen.discard(command.id)
        if found is not None:
            self._answer(command, note, found, None)

    def _watch(self, command: Command) -> None:
        if command.protocol == MOTE and command.options.get("confirm"):
            if command.status == TAKEN:
                self._unseen.add(command.id)
            elif command.status == PENDING:
                self._unseen.discard(command.id)

    def _answer(self, command: Command, note: dict[str, Any], found: Outcome, payload: str | None) -> None:
        customer = self._customers.get(command.origin.removeprefix(ORIGIN))
        if customer is None:
            self._counted.undelivered += 1
            return
        customer.session_for(note["service"]).say(
            codec.answer(
                found.code,
                note["cmd"],
                note["token"],
                found.text,
                customer.cs_eui,
                note["dev_eui"],
                note.get("app_eui"),
                TXGW=found.gateway,
                payload=payload,
            )
        )


def noted_command(
    core: Core, asked: Asked, record: DeviceRecord, content: Any, expires: float, options: dict[str, Any]
) -> Command:
    """A command whose states are answers to this request."""
    token = asked.request.token
    note = {
        "cmd": asked.request.cmd,
        "token": token,
        "service": asked.session.service,
        "dev_eui": asked.dev_eui,
    }
    if asked.app_eui is not None:
        note["app_eui"] = asked.app_eui
    return new_command(
        core,
        record,
        content,
        asked.customer.origin,
        expires,
        ref=str(token),
        options={**options, NOTE: note},
    )


def of_sendto(command: Command, origin: str, token: str) -> bool:
    """Whether it is the SENDTO of that origin with that Token."""
    return command.ref == token and command.origin == origin and NOTE in command.options


def as_text(data: bytes) -> str:
    """Base64."""
    return b64encode(data).decode("ascii")
