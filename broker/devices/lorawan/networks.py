"""Our own network and ChirpStack under one interface: a mote is of one of them, a gateway usually, too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zope.interface import implementer

from broker.devices.lorawan.chirpstack.network import ChirpstackNetwork
from broker.devices.lorawan.network import Network
from broker.model.interfaces import ILoraNetwork

#: What is registered of a gateway: it holds for one that ChirpStack has, as well.
REGISTERED = ("name", "region", "radio", "position", "registered")


@implementer(ILoraNetwork)
class Networks:
    """Both of them."""

    def __init__(self, own: Network, chirpstack: ChirpstackNetwork) -> None:
        self._own = own
        self._chirpstack = chirpstack

    def gateway(self, eui: str) -> dict[str, Any] | None:
        own, there = self._own.gateway(eui), self._chirpstack.gateway(eui)
        if own is None or there is None:
            return own or there
        if own["online"] or (not there["online"] and own["last_seen"] is not None):
            return own
        return {**there, **{name: own[name] for name in REGISTERED}}

    def nearest_gateway(self, dev_eui: str) -> str | None:
        return self._own.nearest_gateway(dev_eui) or self._chirpstack.nearest_gateway(dev_eui)

    def gateways_of(self, dev_eui: str) -> tuple[str, ...]:
        return self._own.gateways_of(dev_eui) or self._chirpstack.gateways_of(dev_eui)

    def motes_behind(self, eui: str) -> list[str]:
        return self._own.motes_behind(eui) + self._chirpstack.motes_behind(eui)

    def class_of(self, dev_eui: str) -> str | None:
        return self._own.class_of(dev_eui) or self._chirpstack.class_of(dev_eui)

    # Groups are our own network's: ChirpStack keeps those of its motes itself.

    def groups_of(self, application: str) -> dict[str, frozenset[str]]:
        return self._own.groups_of(application)

    def send_to_group(
        self, group: str, payload: bytes, *, port: int, tries: int, priority: int, expires: float, origin: str
    ) -> Any:
        return self._own.send_to_group(
            group, payload, port=port, tries=tries, priority=priority, expires=expires, origin=origin
        )

    def withdraw(self, origin: str) -> Any:
        return self._own.withdraw(origin)

    def watch_gateways(self, call: Callable[[str, bool], None]) -> None:
        self._own.watch_gateways(call)
        self._chirpstack.watch_gateways(call)
