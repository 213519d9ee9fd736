"""`ProductWatch`: what happens to connected devices when the registry changes under them."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor as default_reactor
from twisted.internet.task import deferLater

from broker.model.messages import DeviceRef
from broker.model.records import Actuator, Product, Sensor
from broker.routing.live import LiveDevice, LiveDevices
from broker.routing.router import Router
from broker.routing.values import LastValues
from broker.storage.product_watch import ProductWatch
from tests.storage.test_registry import RegistryCase, product

reactor: Any = default_reactor


class FakeCommands:
    """The one call that the watch makes of `Commands`."""

    def __init__(self) -> None:
        self.cancelled: list[tuple[str, str]] = []

    def cancel_device(self, device_id: str, reason: str) -> None:
        self.cancelled.append((device_id, reason))


class FakeLink:
    """A link that does nothing."""

    def close_link(self, reason: str) -> None:
        raise AssertionError(reason)


class ProductWatchTests(RegistryCase):
    async def prepared(self) -> LiveDevice:
        """A connected device of a product without sensors, with one unmapped value."""
        router = Router(lambda what, error: self.fail(f"{what}: {error}"))
        self.devices = LiveDevices(router, lambda: 500.0)
        self.commands = FakeCommands()
        watched: Any = self.commands
        ProductWatch(self.registry, self.devices, watched)
        await self.registry.add_product(product())
        await self.registry.add_device({"protocol": "toy", "id": "one", "product": "p1"})
        values = LastValues(sensors=frozenset())
        values.update({"t": 21.5, "lamp": "ON"}, 400.0)
        link: Any = FakeLink()
        return self.devices.attach(DeviceRef("toy", "one"), link, lambda: (values, {}))

    async def sorted_anew(self, live: LiveDevice, values: set[str]) -> None:
        while set(live.values.values) != values:
            await deferLater(reactor, 0.01)  # the test's time-out ends a wait for what never comes

    async def test_a_new_sensor_turns_an_unmapped_key_into_a_value(self) -> None:
        live = await self.prepared()
        self.assertEqual(set(live.values.unmapped), {"t", "lamp"})
        changed = Product(key="p1", name="", protocol="toy", sensors=(Sensor("t"),), actuators=(Actuator("lamp"),))
        await self.registry.save_product(changed)
        await self.sorted_anew(live, {"t", "lamp"})
        self.assertEqual(live.values.unmapped, {})
        self.assertEqual(live.values.values["t"], (21.5, 400.0))

    async def test_a_device_that_leaves_its_product(self) -> None:
        live = await self.prepared()
        await self.registry.update_device("one", {"product": None})
        await self.sorted_anew(live, {"t", "lamp"})
        self.assertIsNone(live.values.sensors)

    async def test_a_removed_device_has_no_open_commands(self) -> None:
        await self.prepared()
        await self.registry.delete_device("one")
        self.assertEqual([device for device, _ in self.commands.cancelled], ["one"])
