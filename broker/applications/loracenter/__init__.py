"""LoRaCenter customer servers: NUL-delimited JSON over TCP, port 6666 (customer-server interface, V1.10)."""

from __future__ import annotations

from broker.applications.loracenter.broadcast import Broadcasts
from broker.applications.loracenter.counters import LoraCenterCounters
from broker.applications.loracenter.customers import Customers
from broker.applications.loracenter.deliveries import Deliveries
from broker.applications.loracenter.gateways import GatewayRequests
from broker.applications.loracenter.indications import Indications
from broker.applications.loracenter.protocol import LoraCenterConnection, LoraCenterListener
from broker.applications.loracenter.requests import Requests
from broker.applications.loracenter.settings import Settings
from broker.core import Core

__all__ = ["LoraCenterConnection", "LoraCenterListener", "Settings", "build"]


def build(core: Core, settings: Settings) -> LoraCenterListener:
    """The listener, with all that customer servers ask for and are told."""
    counted = LoraCenterCounters()
    customers = Customers(core, settings)
    deliveries = Deliveries(core, settings, counted, customers)
    gateways = GatewayRequests(core, settings, customers)
    indications = Indications(core, settings, counted, customers, deliveries, gateways)
    broadcasts = Broadcasts(core, settings, counted)
    requests = Requests(core, settings, counted, deliveries, gateways, broadcasts)
    return LoraCenterListener(
        core, settings, customers, requests, counted, gateways, (deliveries, indications, broadcasts)
    )
