"""What a broker does again and again while it runs: the one place that has its loops."""

from __future__ import annotations

import os
import signal
from typing import Any

from twisted.logger import Logger

from broker.clustering import Clustering
from broker.core import Core
from broker.events.across import EventsAcross
from broker.events.side import EventSide
from broker.fleet.side import CampaignSide
from broker.listening.served import Served
from broker.metrics import Metrics
from broker.storage.quarantine import TICK as QUARANTINE_TICK
from broker.ticks import Ticks
from broker.tls import Certificate

LISTENER_TICK = 1.0
COMMAND_TICK = 0.25
EVENT_TICK = 1.0
CAMPAIGN_TICK = 1.0
#: Listener ticks between two looks at storage's health.
HEALTH_EVERY = 5
#: And between two looks at the certificate's end.
CERTIFICATE_EVERY = 86_400

log = Logger(namespace="broker.service")


class Pulse:
    """``worker``: we are one of several processes, which our parent has started."""

    def __init__(
        self,
        core: Core,
        storage: Any,
        served: list[Served],
        events: EventSide,
        events_across: EventsAcross,
        campaigns: CampaignSide,
        clustering: Clustering,
        metrics: Metrics,
        certificate: Certificate | None,
        worker: bool,
    ) -> None:
        #: Why storage takes no work; empty when it does.
        self.storage_problem = ""
        self._core = core
        self._storage = storage
        self._served = served
        self._events = events
        self._events_across = events_across
        self._campaigns = campaigns
        self._clustering = clustering
        self._metrics = metrics
        self._certificate = certificate
        self._worker = worker
        self._parent = os.getppid() if worker else 0
        self._timer = Ticks(core.reactor, COMMAND_TICK)
        self._ticks = 0
        self._tick_due = 0.0

    def begin(self) -> None:
        """From now on, until `end`."""
        self._tick_due = self._core.monotonic() + LISTENER_TICK
        timer = self._timer
        timer.add(self._tick, LISTENER_TICK)
        timer.add(self._core.commands.tick, COMMAND_TICK)
        timer.add(self._clustering.tick, COMMAND_TICK)
        timer.add(self._core.quarantine.tick, QUARANTINE_TICK)
        timer.add(self._campaigns.tick, CAMPAIGN_TICK)
        timer.add(self._events_across.tick, EVENT_TICK)
        timer.start()

    def end(self) -> None:
        self._timer.stop()

    def _tick(self) -> None:
        core = self._core
        now = core.monotonic()
        self._metrics.reactor_lag = max(0.0, now - self._tick_due)
        self._tick_due = now + LISTENER_TICK
        self._look_after_parent()
        for served in self._served:
            served.tick()
        core.traces.tick()
        core.duties.tick()
        if self._ticks % CERTIFICATE_EVERY == 0:
            self.look_at_certificate()
        if self._ticks % HEALTH_EVERY == 0:
            self._storage.health().addCallbacks(self._heard_of_storage, self._heard_of_storage)
        self._ticks += 1

    def _look_after_parent(self) -> None:
        """A worker without the process that starts workers is in the way of the next ones."""
        if self._parent and os.getppid() != self._parent:
            self._parent = 0
            log.critical("the process that starts the workers is gone: this one ends")
            os.kill(os.getpid(), signal.SIGTERM)

    def look_at_certificate(self) -> None:
        """Say that it ends soon."""
        certificate = self._certificate
        warning = "" if certificate is None else certificate.warning(self._core.clock())
        if certificate is None or not warning:
            return
        ends = certificate.expires_at
        if ends is not None and (self._events_across.duty.leads or not self._worker):  # workers have the same one
            self._events.certificate_ends(ends, warning)
        log.warn("the TLS certificate has to be renewed: {sentence}", sentence=warning)

    def _heard_of_storage(self, answer: Any) -> None:
        before = self.storage_problem
        self.storage_problem = answer if isinstance(answer, str) else f"storage: {answer.getErrorMessage()}"
        if self._events_across.duty.leads:  # else another process tells of the same storage
            self._events.storage_health(before, self.storage_problem)
