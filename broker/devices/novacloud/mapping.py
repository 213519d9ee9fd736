"""NovaCloud messages -> what the broker speaks: uplinks, last values, status, answers to commands.

================  ===================================================================  ========
type              becomes                                                              guide
================  ===================================================================  ========
data              Uplink "data"; last values under the device's own time               4
status            Uplink "status"; merged into ``info["status"]``, ``"status_at"``     6
heartbeat         presence only                                                        5
command_response  Reply; ``current_state`` into the last values                        7.2, 7.3
================  ===================================================================  ========

`Session` is what a connection has of its device while it is logged in. Its methods by type take a `Message` and return
None, or what is wrong with it in words for the device; they raise nothing for any message.

What is not done here: authentication, closing, acknowledgements (`protocol`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from twisted.logger import Logger

from broker.core import Core
from broker.devices.novacloud import codec
from broker.devices.novacloud.codec import Message
from broker.devices.novacloud.counters import NovaCloudCounters
from broker.devices.novacloud.settings import Settings
from broker.devices.novacloud.timestamps import device_time
from broker.listening.stats import ListenerStats
from broker.model.messages import DATA, FAILED, PENDING, STATUS, SUCCEEDED, Payload, Reply, Uplink, payload_object
from broker.model.weight import weight
from broker.routing.live import LiveDevice
from broker.routing.values import MAX_VALUE

#: Keys of a device's status that are kept; a device can invent keys without end.
MAX_STATUS_KEYS: Final = 128
#: Longer keys are not kept as status.
MAX_STATUS_KEY: Final = 128
#: Our command ids are UUIDs in text; an answer to anything else needs no look into storage.
COMMAND_ID_LENGTH: Final = 36
#: Of a status word that we do not know, this much is kept.
MAX_STATUS_TEXT: Final = 200
#: Heartbeats of a device that means the fastest interval come a little early now and then.
JITTER: Final = 0.9

#: What the words of a command_response mean; any other word is a failure with the word kept.
OUTCOMES: Final = {
    "success": SUCCEEDED,
    "ok": SUCCEEDED,
    "error": FAILED,
    "pending": PENDING,
}

Take = Callable[[Message], str | None]


class Session:
    """A device that is logged in. ``now`` (UNIX seconds) is when the chunk came that is being read."""

    __slots__ = (
        "_commands",
        "_fastest",
        "_heartbeat_at",
        "_stats",
        "_uplink",
        "_warned",
        "counted",
        "live",
        "now",
        "takes",
    )
    log = Logger(namespace="broker.novacloud")

    def __init__(
        self, core: Core, live: LiveDevice, settings: Settings, counted: NovaCloudCounters, stats: ListenerStats
    ) -> None:
        self.live = live
        self.now = 0.0
        self.counted = counted
        self._commands = core.commands
        self._stats = stats
        self._uplink = core.router.uplink
        self._fastest = settings.heartbeat_fastest * JITTER
        self._heartbeat_at: float | None = None
        self._warned = False
        self.takes: Final[dict[str, Take]] = {
            codec.DATA: self.data,
            codec.STATUS: self.status,
            codec.HEARTBEAT: self.heartbeat,
            codec.COMMAND_RESPONSE: self.command_response,
        }

    def data(self, message: Message) -> str | None:
        payload = message.payload
        if type(payload) is not dict:
            if payload is not None:
                return "payload must be an object"
            payload = {}
        now = self.now
        given = message.timestamp
        meta = None
        if given is None:
            sent_at, measured_at = None, now
        else:
            # The usual case first: whole seconds that are not in the future.
            if type(given) is int and 0 <= given <= now:
                sent_at = float(given)
            else:
                sent_at, meta = device_time(given, now)
            # A clock that is ahead must not keep out what comes after it was set right.
            measured_at = sent_at if sent_at is not None and sent_at < now else now
        values = self.live.values
        values.update(payload, measured_at)
        if values.unmapped:
            self.counted.unmapped_values += len(payload.keys() & values.unmapped.keys())
        if meta is not None:
            self.counted.odd_timestamps += 1
        self._uplink(Uplink(self.live.ref, DATA, payload, now, sent_at, meta))
        return None

    def status(self, message: Message) -> str | None:
        payload = message.payload
        if payload is None:
            payload = {}
        elif not isinstance(payload, dict):
            return "payload must be an object"
        sent_at, meta = device_time(message.timestamp, self.now)
        if meta is not None:
            self.counted.odd_timestamps += 1
        measured_at = self.now if sent_at is None else min(sent_at, self.now)
        self._merge_status(payload, measured_at)
        self._uplink(Uplink(self.live.ref, STATUS, payload, self.now, sent_at, meta))
        return None

    def _merge_status(self, news: dict[str, Any], at: float) -> None:
        """Keep the latest of each key, unless the message is older than what is known."""
        info = self.live.info
        if at < info.get("status_at", 0.0):
            return
        known = info.get("status")
        merged = dict(known) if isinstance(known, dict) else {}
        for key, value in news.items():
            if weight(value) > MAX_VALUE:
                continue
            if key in merged or (len(merged) < MAX_STATUS_KEYS and len(key) <= MAX_STATUS_KEY):
                merged[key] = value
        info["status"] = merged
        info["status_at"] = at
        self.live.info_changed = True

    def heartbeat(self, message: Message) -> str | None:
        before, self._heartbeat_at = self._heartbeat_at, self.now
        self.live.last_heartbeat = self.now
        if before is not None and self.now - before < self._fastest:
            self.counted.early_heartbeats += 1
            if not self._warned:
                self._warned = True
                self.log.warn("{device} sends heartbeats too often", device=self.live.ref)
        return None

    def command_response(self, message: Message) -> str | None:
        command_id, word, payload = message.command_id, message.status, message.payload
        if not isinstance(command_id, str):
            return "command_id must be text"
        if not isinstance(word, str):
            return "status must be text"
        if payload is None:
            payload = {}
        elif not isinstance(payload, dict):
            return "payload must be an object"
        if len(command_id) != COMMAND_ID_LENGTH:
            self._stats.drop("unmapped_reply")
            return None
        outcome = OUTCOMES.get(word.strip().lower())
        result = payload
        if outcome is None:
            outcome = FAILED
            result = {**payload, "status_text": word[:MAX_STATUS_TEXT]}
        command = self._commands.get(command_id)
        if command is not None and command.device == self.live.ref.id:
            self._note_state(payload.get("current_state"), command.payload)
        self._commands.reply(self.live.ref.id, Reply(command_id, outcome, result, self.now))
        return None

    def _note_state(self, state: Any, asked: Payload) -> None:
        """``current_state`` is an object, or a single value where one key was asked for (guide 7.2, 7.3)."""
        if not isinstance(state, dict):
            keys = payload_object(asked)
            if state is None or len(keys) != 1:
                return
            state = dict.fromkeys(keys, state)
        values = self.live.values
        known = values.sensors
        if known is not None:
            state = {key: value for key, value in state.items() if key in known}
        values.update(state, self.now)
