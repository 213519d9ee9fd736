"""Which motes on ChirpStack are on-line: those that were heard within ``mote_offline_after``."""

from __future__ import annotations

from typing import Any, Final

from broker.core import Core
from broker.devices.lorawan.chirpstack.motes import ChirpMote
from broker.devices.lorawan.motes import PROTOCOL
from broker.model.messages import DeviceRef
from broker.routing.values import LastValues

#: Of motes that may have gone, so many are looked at in one tick.
MAX_GONE: Final = 1_000


class Presences:
    """``offline_after`` in seconds."""

    def __init__(self, core: Core, offline_after: float) -> None:
        self._core = core
        self.offline_after = offline_after
        #: Motes that are on-line, the longest silent first.
        self._present: dict[ChirpMote, None] = {}

    def resume(self, motes: list[tuple[float, ChirpMote]]) -> None:
        """After a restart: those that were on-line before, and when each was heard last (UNIX seconds)."""
        now, clock = self._core.monotonic(), self._core.clock()
        for last_seen, mote in sorted(motes, key=lambda one: one[0]):
            if last_seen > clock - self.offline_after:
                self._heard(mote, now - (clock - last_seen), last_seen)

    def heard(self, mote: ChirpMote) -> None:
        """Now."""
        self._heard(mote, self._core.monotonic(), self._core.clock())

    def _heard(self, mote: ChirpMote, heard_at: float, at: float) -> None:
        mote.heard_at = heard_at
        live = mote.live
        if live is None or live.link is not mote:
            live = mote.live = self._core.devices.attach(DeviceRef(PROTOCOL, mote.dev_eui), mote, _nothing_known)
            live.ready = True
        live.last_seen = at
        self._present.pop(mote, None)
        self._present[mote] = None

    def leave(self, mote: ChirpMote, reason: str) -> None:
        """It is off-line, or no mote of ChirpStack's any more."""
        self._present.pop(mote, None)
        live, mote.live = mote.live, None
        if live is not None:
            self._core.devices.detach(live, mote, reason)

    def tick(self, now: float) -> None:
        """Notice those that were silent for long."""
        before = now - self.offline_after
        for _ in range(MAX_GONE):
            mote = next(iter(self._present), None)
            if mote is None or mote.heard_at > before:
                return
            self.leave(mote, "idle")


def _nothing_known() -> tuple[LastValues, dict[str, Any]]:
    """Payloads of motes are bytes: there are no last values."""
    return LastValues(), {}
