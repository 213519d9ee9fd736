"""What all gateway connections share, and what becomes of them when the registry changes."""

from __future__ import annotations

from typing import Final

from broker.core import Core
from broker.devices.gateway88.admission import Admission
from broker.devices.gateway88.backup_care import BackupCare
from broker.devices.gateway88.counters import Gateway88Counters
from broker.devices.gateway88.exchange import Exchange
from broker.devices.gateway88.identity import PROTOCOL
from broker.devices.gateway88.operations import Operations
from broker.devices.gateway88.settings import Settings
from broker.devices.gateway88.succession import Succession
from broker.devices.gateway88.updates import GatewayUpdater
from broker.listening.listener import Listener
from broker.routing.live import LiveDevice
from broker.storage.registry import Change

#: Changes in the registry that end a gateway's connection.
ENDING: Final = frozenset({"device_removed", "device_disabled", "device_secret"})


def is_gateway(live: LiveDevice) -> bool:
    """Whether it is connected as one."""
    return getattr(live.link, "protocol", "") == PROTOCOL


class Gateway88Home(Listener):
    """Without the making of connections, which `protocol` adds."""

    def __init__(self, core: Core, settings: Settings) -> None:
        super().__init__(PROTOCOL, settings.limits, core.turn, core.reactor, core.clock, core.monotonic)
        self.core = core
        self.settings = settings
        self.counted = Gateway88Counters()
        self.operations = Operations(core, settings)
        self.updates = GatewayUpdater(core, self.operations)
        self.operations.on_info.append(self.updates.reported)
        core.updaters[PROTOCOL] = self.updates
        self.succession = Succession(core)
        self.admission = Admission(core, settings, self.succession)
        self.backup_care = BackupCare(core, settings, self.operations, self.succession.rests)
        self.exchange = Exchange(core, self.succession, self.operations, self.updates, self.moved)
        core.registry.on_change.append(self._changed)

    def reload(self, settings: Settings) -> tuple[str, ...]:
        """Take new settings (SIGHUP); none of them needs a restart. Connections keep what they began with."""
        self.settings = settings
        self.admission.settings = settings
        self.operations.configure(settings)
        self.backup_care.settings = settings
        return ()

    async def prepare(self) -> None:
        """Read who stands in for whom, and which backups there are. Raises Unavailable."""
        await self.succession.open()
        await self.backup_care.open()
        await self.exchange.open()
        self.operations.doubts.every_left()

    def tick(self) -> None:
        super().tick()
        self.backup_care.tick()

    def moved(self, device: str, mac: str) -> None:
        """The frames of ``mac`` belong to another device now: whoever is connected has to come in anew."""
        for id in {device, mac}:
            live = self.core.devices.get(id)
            if live is not None:
                live.bridges.pop(PROTOCOL, None)  # what was sent was sent to another one
                rests = id != device and self.succession.rests(id)
                if is_gateway(live) and (id == device or rests):
                    live.link.close_link("resting" if rests else "replaced")
        for id in {device, mac}:
            self.admission.look_again(id)

    def counters(self) -> dict[str, float]:
        """For the metrics."""
        return {**self.counted.as_dict(), **self.backup_care.figures()}

    def _changed(self, change: Change) -> None:
        """The registry changed: a gateway that is no longer welcome has to leave."""
        live = self.core.devices.get(change.id)
        if live is None or not is_gateway(live):
            return
        if change.what in ENDING:
            live.link.close_link("removed")
        elif change.what == "device_updated":
            live.link.look_again()
