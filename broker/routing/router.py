"""Tells every consumer what devices say, when they come and go, and how commands fare.

A consumer (`broker.model.interfaces.IConsumer`) listens to all devices or to named ones; who does both is told twice.
The router only calls; it keeps no bytes and knows no codec. One consumer that raises must not keep the message from the
next: its fault is reported, and the rest goes on. Who starts or stops listening while a message is told does so from
the next message on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from broker.model.interfaces import IConsumer
from broker.model.messages import Command, DeviceRef, Presence, Uplink


class Router:
    """``report(what, error)`` is told about faults of consumers; it must not raise."""

    def __init__(self, report: Callable[[str, BaseException], None]) -> None:
        self._report = report
        self._everyone: tuple[Any, ...] = ()
        self._by_device: dict[str, tuple[Any, ...]] = {}
        #: Those who listen to all devices and hear no uplinks, so that a message costs nothing for them.
        self._quiet: tuple[Any, ...] = ()
        #: What `wanted` asks of those who listen to all devices; None while one of them wants everything.
        self._wants: tuple[Callable[[DeviceRef, str], bool], ...] | None = ()
        #: Told when somebody begins or ends to listen.
        self.on_listening: list[Callable[[], object]] = []
        self.uplinks = 0
        self.faults = 0

    def listen(self, consumer: IConsumer, device: str | None = None) -> None:
        """Start telling ``consumer`` about one device, or about all. Listening twice is the same as once."""
        if device is None:
            if not any(other is consumer for other in self._everyone):
                self._everyone = (*self._everyone, consumer)
                self._ask()
            return
        others = self._by_device.get(device, ())
        if not any(other is consumer for other in others):
            self._by_device[device] = (*others, consumer)

    def listen_quietly(self, consumer: IConsumer) -> None:
        """Start telling ``consumer`` about all devices, but for what they say."""
        if not any(other is consumer for other in self._quiet):
            self._quiet = (*self._quiet, consumer)

    def ignore_quietly(self, consumer: IConsumer) -> None:
        """Stop that; harmless when it was not."""
        self._quiet = tuple(other for other in self._quiet if other is not consumer)

    def ignore(self, consumer: IConsumer, device: str | None = None) -> None:
        """Stop what `listen` with the same arguments started; harmless when it did not."""
        if device is None:
            self._everyone = tuple(other for other in self._everyone if other is not consumer)
            self._ask()
            return
        left = tuple(other for other in self._by_device.get(device, ()) if other is not consumer)
        if left:
            self._by_device[device] = left
        else:
            self._by_device.pop(device, None)

    def _ask(self) -> None:
        for told in self.on_listening:
            told()
        wants = [getattr(consumer, "wants", None) for consumer in self._everyone]
        self._wants = None if None in wants else tuple(one for one in wants if one is not None)

    def wanted(self, device: DeviceRef, kind: str) -> bool:
        """Whether anybody has a use for an uplink, so that it has to be made and told. If not, it is counted here."""
        wants = self._wants
        if wants is None or device.id in self._by_device:
            return True
        for one in wants:
            if one(device, kind):
                return True
        self.uplinks += 1
        return False

    def uplink(self, message: Uplink) -> None:
        self.uplinks += 1
        for consumer in self._everyone:
            try:
                consumer.uplink(message)
            except Exception as error:
                self.fault("uplink", error)
        named = self._by_device.get(message.device.id)
        if named is not None:
            for consumer in named:
                try:
                    consumer.uplink(message)
                except Exception as error:
                    self.fault("uplink", error)

    def presence(self, change: Presence) -> None:
        for consumer in self._everyone + self._quiet + self._by_device.get(change.device.id, ()):
            try:
                consumer.presence(change)
            except Exception as error:
                self.fault("presence", error)

    def command(self, change: Command) -> None:
        for consumer in self._everyone + self._quiet + self._by_device.get(change.device, ()):
            try:
                consumer.command(change)
            except Exception as error:
                self.fault("command", error)

    # -- other processes -------------------------------------------------------------------------------------------

    def interests(self) -> set[str]:
        """What those who listen here want to hear of the devices of other processes: see `IFarConsumer`."""
        wanted: set[str] = set()
        for consumer in self._everyone + self._quiet:
            ask = getattr(consumer, "interests", None)
            if ask is not None:
                wanted |= ask()
        return wanted

    def told_elsewhere(self, what: str, event: Any) -> None:
        """An ``uplink``, a ``presence`` or a ``command`` of another process, for those with `interests`."""
        for consumer in self._everyone + self._quiet:
            if hasattr(consumer, "interests"):
                try:
                    getattr(consumer, what)(event)
                except Exception as error:
                    self.fault(what, error)

    def fault(self, what: str, error: BaseException) -> None:
        """Somebody who was told something raised ``error``: count and report it."""
        self.faults += 1
        self._report(what, error)
