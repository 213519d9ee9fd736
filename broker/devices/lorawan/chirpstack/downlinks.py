"""Commands for motes on ChirpStack: our queue, and one item at a time in ChirpStack's.

The queue is the broker's own (`broker.routing.commands`), as for motes of our own network; the command of the highest
priority, and of these the oldest, is handed over under its own id, so that whatever ChirpStack says of it finds it, in
this life of the broker or a later one:

::

    class A   up event ──> command taken (on disk) ──> command/down ──> in the queue of ChirpStack, which looks there
    class C   command queued ──────────^                                some 100 ms after the up event

    (a class A mote's command that comes within ``downlink_wait`` of its up event is handed over as well)

    unconfirmed   txack: succeeded          confirmed   txack: pending ──> ack: succeeded, or failed
    log with an error, or ``windows`` of a class A mote without a word: failed

* ChirpStack gives an item up only when it is too long, has expired, or was sent and not acknowledged. What a gateway
  refuses it tries again; what failed here for that (``refusals``) may still go out, and that is then in ``late`` of the
  command.
* A command that nobody was subscribed to take, as MQTT 5 tells, is handed over again. Everything else is handed over
  once, also across a restart.
"""

from __future__ import annotations

from typing import Any, Final

from broker.core import Core
from broker.devices.lorawan.chirpstack import events
from broker.devices.lorawan.chirpstack.counters import ChirpstackCounters
from broker.devices.lorawan.chirpstack.motes import ChirpMote, ChirpMotes, Item
from broker.devices.lorawan.settings import Settings
from broker.devices.lorawan.transmitter import CODES
from broker.model.jsontext import decode
from broker.model.messages import FAILED, PENDING, SUCCEEDED, Command, Reply, payload_bytes
from broker.mqtt.client import MqttClient
from broker.mqtt.reasons import NO_MATCHING_SUBSCRIBERS

#: Bytes of a payload in any region at any data rate (LoRaWAN Regional Parameters: M of 250 without the header's 8).
LONGEST: Final = 242
#: Motes that are looked at in one tick.
MAX_STRANDED: Final = 200
#: TxAckStatus of gw.proto beside the names that Semtech's protocol has.
_REFUSALS: Final = {**CODES, "QUEUE_FULL": CODES["COLLISION_PACKET"]}
NO_GATEWAY: Final = CODES["NO_GATEWAY"]
#: What becomes of an item that ChirpStack drops, by the LogCode.
_DROPPED: Final = {
    "DOWNLINK_PAYLOAD_SIZE": {"error": "TOO_LONG", "code": CODES["TOO_LONG"]},
    "EXPIRED": {"error": "EXPIRED", "code": CODES["EXPIRED"]},
    "F_CNT_DOWN": {"error": "F_CNT_DOWN", "code": NO_GATEWAY},
    "DOWNLINK_CODEC": {"error": "DOWNLINK_CODEC", "code": NO_GATEWAY},
}
NOT_ACKNOWLEDGED: Final = {"error": "NOT_ACKNOWLEDGED", "code": CODES["NOT_ACKNOWLEDGED"]}


class ChirpDownlinks:
    """``client`` is set before anything is called."""

    client: MqttClient

    def __init__(self, core: Core, settings: Settings, counted: ChirpstackCounters, motes: ChirpMotes) -> None:
        self._core = core
        self._commands = core.commands
        self._counted = counted
        self._motes = motes
        self.settings = settings
        #: Motes that do not wait for a window, to be looked at soon or with the next tick.
        self._stranded: dict[ChirpMote, None] = {}
        self._soon = False
        #: Commands that are on their way to the disk as sent.
        self.taking = 0
        #: Nothing is handed over any more.
        self.stopping = False

    # -- occasions -------------------------------------------------------------------------------------------------

    def resume(self) -> None:
        """After a restart: what ChirpStack has, and who waits."""
        for mote in self._motes:
            for command in self._commands.unanswered(mote.dev_eui):
                mote.item = Item(command, transmitted=command.status == PENDING)
            self.queued(mote)

    def heard(self, mote: ChirpMote) -> None:
        """An uplink came: ChirpStack will look at its queue."""
        item = mote.item
        if item is not None and not item.transmitted and not mote.class_c:
            if item.untaken:
                self._publish(mote, item)
            elif item.windows >= self.settings.chirpstack.windows:
                self._fail(mote, item, {"error": "NO_GATEWAY", "code": NO_GATEWAY})
            else:
                item.windows += 1
        mote.open_until = self._core.monotonic() + self.settings.downlink_wait
        self._next(mote)

    def queued(self, mote: ChirpMote) -> None:
        """A command is waiting for it, or may be."""
        if self._at_any_time(mote) or self._open(mote):
            self._stranded[mote] = None
            # Not at once: whoever told us of it is telling others, too, and the command would change under them.
            if not self._soon and self.client.connected:
                self._soon = True
                self._core.reactor.callLater(0, self._look_now)

    def _at_any_time(self, mote: ChirpMote) -> bool:
        return mote.class_c or self.settings.chirpstack.hand_over == "at_once"

    def _open(self, mote: ChirpMote) -> bool:
        """Whether a command can still catch the window of the mote's last frame, which may have caused it."""
        return self._core.monotonic() < mote.open_until

    def _look_now(self) -> None:
        self._soon = False
        self.tick(self._core.monotonic())

    def tick(self, now: float) -> None:
        """Look at those that do not wait for a window."""
        if not self.client.connected:
            return
        for mote in list(self._stranded)[:MAX_STRANDED]:
            del self._stranded[mote]
            if self._motes.get(mote.dev_eui) is not mote:
                continue
            item = mote.item
            if item is not None and item.untaken and self._at_any_time(mote):
                self._stranded[mote] = None
                if now >= item.again_at:
                    self._publish(mote, item)
            elif self._at_any_time(mote) or self._open(mote):
                self._next(mote)

    # -- handing over ----------------------------------------------------------------------------------------------

    def _next(self, mote: ChirpMote) -> None:
        """Hand over the next command, if ChirpStack has none and can be given one."""
        if mote.item is not None and mote.item.command.final:
            mote.item = None
        while mote.item is None and not mote.taking and not self.stopping:
            command = self._chosen(mote)
            if command is None:
                self._stranded.pop(mote, None)
                return
            if not self.client.connected or not mote.application:
                return
            if len(payload_bytes(command.payload)) > LONGEST:
                self._commands.fail(command.id, _DROPPED["DOWNLINK_PAYLOAD_SIZE"])
                continue
            self._take(mote, command)
            return

    def _chosen(self, mote: ChirpMote) -> Command | None:
        """The oldest of the highest priority."""
        default = self.settings.default_priority
        return max(
            self._commands.waiting(mote.dev_eui),
            key=lambda command: int(command.options.get("priority", default)),
            default=None,
        )

    def _take(self, mote: ChirpMote, command: Command) -> None:
        mote.taking = True
        self.taking += 1
        # The window that is open now counts, and takes one command; at any other time there is none yet.
        windows = int(self._open(mote))
        mote.open_until = float("-inf")

        def taken(error: Exception | None) -> None:
            mote.taking = False
            self.taking -= 1
            if self._motes.get(mote.dev_eui) is not mote or command.final:
                return
            if error is not None:
                if self._at_any_time(mote):
                    self._stranded[mote] = None
                return
            item = mote.item = Item(command)
            item.windows = windows
            self._counted.handed_over += 1
            self._publish(mote, item)

        self._commands.take(command.id, taken)

    def _publish(self, mote: ChirpMote, item: Item) -> None:
        command = item.command
        item.untaken = False
        port = int(command.options.get("port") or mote.port or self.settings.default_port)
        topic, text = events.down(
            self.settings.chirpstack.prefix,
            mote.application,
            mote.dev_eui,
            command.id,
            port,
            payload_bytes(command.payload),
            item.confirmed,
        )
        if mote.tell is not None:
            mote.tell("out", text, {"command": "down", **decode(text)})
        publishing = self.client.publish(topic, text, 1)
        publishing.addCallbacks(self._published, self._refused, callbackArgs=(mote, item), errbackArgs=(mote, item))

    def _published(self, code: int, mote: ChirpMote, item: Item) -> None:
        """The MQTT broker has it. If nobody is subscribed there, nobody will ever have it: it is handed over again."""
        if code == NO_MATCHING_SUBSCRIBERS and mote.item is item:
            self._counted.untaken += 1
            item.untaken = True
            item.again_at = self._core.monotonic() + self.settings.chirpstack.retry
            if self._at_any_time(mote):
                self._stranded[mote] = None

    def _refused(self, failure: Any, mote: ChirpMote, item: Item) -> None:
        """The MQTT broker does not let us publish that, or we are stopping: then nothing is known of it."""
        if mote.item is item and not self.stopping:
            self._fail(mote, item, {"error": failure.getErrorMessage(), "code": NO_GATEWAY})
            self.queued(mote)

    @property
    def untaken(self) -> bool:
        """Whether there is a command that nobody was there to take."""
        return any(mote.item is not None and mote.item.untaken for mote in self._stranded)

    # -- what became of it -----------------------------------------------------------------------------------------

    def transmitted(self, mote: ChirpMote, event: events.TxAck, gateway: str) -> None:
        """A gateway has taken it."""
        command_id = events.item_of(event.queue_item_id)
        item = mote.item
        ours = item is not None and item.command.id == command_id
        command = item.command if item is not None and ours else self._commands.get(command_id)
        if command is None or command.device != mote.dev_eui:
            # Perhaps one that failed here and went out all the same.
            self._late(mote, command_id, SUCCEEDED, {"gateway": gateway, "fcnt": event.f_cnt_down})
            return
        if command.options.get("confirm"):
            if item is not None and ours:
                item.transmitted = True
            self._reply(mote, command_id, PENDING, {"gateway": gateway, "transmission": 1})
            return
        if ours:
            mote.item = None
        self._reply(mote, command_id, SUCCEEDED, {"gateway": gateway, "fcnt": event.f_cnt_down})
        self.queued(mote)

    def acknowledged(self, mote: ChirpMote, event: events.Ack) -> None:
        """The mote has acknowledged it, or ChirpStack waits no longer."""
        command_id = events.item_of(event.queue_item_id)
        status, result = (SUCCEEDED, {"acknowledged": True}) if event.acknowledged else (FAILED, NOT_ACKNOWLEDGED)
        if self._ends(mote, command_id):
            self._reply(mote, command_id, status, result)
            self.queued(mote)
        else:
            self._late(mote, command_id, status, result)

    def logged(self, mote: ChirpMote, event: events.Log) -> None:
        """An error that may be of a downlink."""
        code = event.code_name
        named = events.item_of(event.context.get("queue_item_id", ""))
        if code == "DOWNLINK_GATEWAY":
            self._gateway_refused(mote, named, event.description)
        elif code in _DROPPED and named:
            if self._ends(mote, named):
                self._reply(mote, named, FAILED, _DROPPED[code])
                self.queued(mote)
            else:
                self._late(mote, named, FAILED, _DROPPED[code])

    def _gateway_refused(self, mote: ChirpMote, named: str, status: str) -> None:
        """ChirpStack does not say of which downlink; if it has one of ours to send, of that."""
        self._counted.gateway_refusals += 1
        item = mote.item
        if item is None or item.transmitted or named not in ("", item.command.id):
            return
        item.refusals += 1
        settings = self.settings
        if item.refusals >= (settings.transmissions if item.confirmed else settings.chirpstack.refusals):
            self._fail(mote, item, {"error": status or "NO_GATEWAY", "code": _REFUSALS.get(status, NO_GATEWAY)})
            self.queued(mote)

    def session_over(self, mote: ChirpMote) -> None:
        """The mote has joined anew: a frame of before will not be acknowledged any more."""
        item = mote.item
        if item is not None and item.transmitted:
            self._fail(mote, item, NOT_ACKNOWLEDGED)

    def _ends(self, mote: ChirpMote, command_id: str) -> bool:
        """Whether it is an open command of the mote; ChirpStack does not have it any more then."""
        item = mote.item
        if item is not None and item.command.id == command_id:
            mote.item = None
            return True
        command = self._commands.get(command_id)
        return command is not None and command.device == mote.dev_eui

    def _fail(self, mote: ChirpMote, item: Item, result: dict[str, Any]) -> None:
        mote.item = None
        if not item.command.final:
            self._reply(mote, item.command.id, FAILED, result)

    def _late(self, mote: ChirpMote, command_id: str, status: str, result: dict[str, Any]) -> None:
        """Of no open command: one of before, or somebody else's downlink."""
        self._counted.stray_items += 1
        if command_id:
            self._reply(mote, command_id, status, result)

    def _reply(self, mote: ChirpMote, command_id: str, status: str, result: dict[str, Any]) -> None:
        self._commands.reply(mote.dev_eui, Reply(command_id, status, result, self._core.clock()))
