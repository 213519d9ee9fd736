"""The backplane that the configuration asks for, and what of the broker's parts is joined by it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from broker.cluster.commands import CommandsAcross
from broker.cluster.events import RouterAcross
from broker.cluster.local import LocalBackplane
from broker.cluster.presence import PresenceAcross
from broker.cluster.redis import RedisBackplane
from broker.cluster.registry import RegistryAcross
from broker.cluster.traces import TracesAcross
from broker.config import Config
from broker.core import Core
from broker.storage.deferred import deferred
from broker.storage.redis.address import is_redis, parse_address


def backplane_of(
    config: Config,
    storage: Any,
    reactor: Any,
    later: Callable[[Callable[[], None]], object],
    clock: Callable[[], float],
    monotonic: Callable[[], float],
) -> LocalBackplane | RedisBackplane:
    """Not started yet. Who stores in Redis is one of several where ``cluster.enabled`` says so."""
    if not (config.cluster.enabled and is_redis(config.storage.url)):
        return LocalBackplane(config.broker.name)
    plane = RedisBackplane(
        parse_address(config.storage.url),
        config.redis,
        reactor,
        config.broker.name,
        config.cluster.lease,
        later,
        clock,
        monotonic,
    )
    storage.sessions.node = lambda: plane.node
    plane.quiesce = storage.abandon
    storage.when_fenced(plane.doubted)
    return plane


class Clustering:
    """What joins commands, router and registry of this process with those of the others; nothing where it is alone."""

    def __init__(self, core: Core, reactor: Any, save_live: Any) -> None:
        self._core = core
        plane = self.backplane = core.backplane
        self.commands = CommandsAcross(
            plane, core.commands, core.devices, core.router, core.storage, reactor, save_live
        )
        self.router = RouterAcross(plane, core.router, core.registry.applications_of)
        self.router.submitter = self.commands.submitter
        self.registry = RegistryAcross(plane, core.registry)
        self.presence = PresenceAcross(plane, core.router, core.devices, core.whereabouts, core.clock)

    @deferred
    async def start(self) -> None:
        """Join, and take up the open commands that are ours. Raises Unavailable."""
        core = self._core
        if self.backplane.alone:
            core.commands.restore(await core.storage.open_commands())
            return
        await self.backplane.start()
        self.commands.begin()
        self.registry.begin()
        self.router.begin(core.registry.on_change)
        self.presence.begin()
        core.lives.begin()
        TracesAcross(self.backplane, core.traces).begin()
        core.quarantine.across(self.backplane)
        await self.commands.sweep()

    @deferred
    async def stop(self) -> None:
        """Write what waits, and leave."""
        if not self.backplane.alone:
            await self._core.storage.settle()
        await self.backplane.stop()

    def tick(self) -> None:
        """Several times a second."""
        if not self.backplane.alone:
            self.router.look()
            self.commands.look()

    def counters(self) -> dict[str, float]:
        """For the metrics."""
        plane: Any = self.backplane
        if plane.alone:
            return {}
        counts = plane.bus.counts
        return {
            "cluster_others": len(plane.others()),
            "cluster_notes_sent_total": counts.sent,
            "cluster_notes_received_total": counts.received,
            "cluster_envelopes_total": counts.envelopes,
            "cluster_dropped_total": counts.dropped + self.router.dropped,
            "cluster_malformed_total": counts.malformed,
            "cluster_renewals_total": plane.renewals,
            "cluster_fenced_total": plane.fenced_times,
            "cluster_commands_forwarded_total": self.commands.forwarded,
            "cluster_device_takeovers_total": self.commands.takeovers,
            "cluster_wishes": self.router.wishes,
        }


def problem_of(core: Core | None) -> str:
    """Why the other processes cannot be reached; empty when they can."""
    return "" if core is None else str(core.backplane.problem())
