"""Customer servers beside the whole LoRaWAN side, on one `task.Clock` with a storage in memory."""

from __future__ import annotations

import copy
import json
from typing import Any

import msgspec
from twisted.internet.defer import Deferred

from broker.applications.loracenter import LoraCenterListener, Settings, build
from broker.applications.loracenter.challenge import tag
from broker.model.messages import Command
from broker.model.records import ApplicationRecord, DeviceQuery, DeviceRecord, Product
from tests.devices.lorawan.bed import Bed as LoraBed
from tests.devices.lorawan.storage import MemoryStorage
from tests.transports import Peer

CS_EUI = "AA555A0000000000"
OTHER_EUI = "BB555A0000000000"
KEY = "00112233445566778899AABBCCDDEEFF"
MOTE = "AA00000000000001"


class Storage(MemoryStorage):
    """With applications and bindings."""

    def __init__(self) -> None:
        super().__init__()
        self.applications: dict[str, ApplicationRecord] = {}
        self.bindings: set[tuple[str, str]] = set()
        self.products: dict[str, Product] = {}

    def get_product(self, key: str) -> Deferred[Product | None]:
        return self._later(lambda: self.products.get(key))

    def find_by_dev_eui(self, dev_eui: str) -> Deferred[DeviceRecord | None]:
        def find() -> DeviceRecord | None:
            alias = [one for one in self.devices.values() if one.dev_eui == dev_eui]
            return copy.deepcopy(alias[0] if alias else self.devices.get(dev_eui))

        return self._later(find)

    def list_devices(
        self, query: DeviceQuery, limit: int, cursor: str | None
    ) -> Deferred[tuple[list[DeviceRecord], str | None]]:
        def mine(page: Any) -> Any:
            records, further = page
            return [one for one in records if (query.application, one.id) in self.bindings], further

        listed = super().list_devices(query, limit, cursor)
        return listed if query.application is None else listed.addCallback(mine)

    def add_application(self, record: ApplicationRecord) -> Deferred[None]:
        return self._later(lambda: self.applications.update({record.id: record}))

    save_application = add_application

    def delete_application(self, application_id: str) -> Deferred[None]:
        return self._later(lambda: self.applications.pop(application_id) and None)

    def get_application(self, application_id: str) -> Deferred[ApplicationRecord | None]:
        return self._later(lambda: msgspec.structs.replace(self.applications[application_id]))

    def find_by_cs_eui(self, cs_eui: str) -> Deferred[ApplicationRecord | None]:
        return self._later(lambda: next((one for one in self.applications.values() if one.cs_eui == cs_eui), None))

    def bind(self, application_id: str, device_id: str) -> Deferred[None]:
        return self._later(lambda: self.bindings.add((application_id, device_id)))

    def unbind(self, application_id: str, device_id: str) -> Deferred[None]:
        return self._later(lambda: self.bindings.discard((application_id, device_id)))

    def devices_of(self, application_id: str) -> Deferred[list[str]]:
        return self._later(lambda: [device for application, device in self.bindings if application == application_id])

    def get_command(self, command_id: str) -> Deferred[Command | None]:
        return self._later(lambda: copy.deepcopy(self.commands.get(command_id)))


class OtherRules:
    """How devices of another protocol are registered."""

    hashed = True
    known_fields: frozenset[str] = frozenset()

    def normal_id(self, id: str | None, fields: dict[str, Any]) -> str:
        return id or "other"

    def make_secret(self) -> str:
        return "secret"

    def check_secret(self, secret: str) -> None:
        """Any will do."""


class Customer(Peer):
    """A customer server's connection."""

    def __init__(self, bed: Bed) -> None:
        super().__init__(bed.center, bed.clock)
        self._token = 100

    def ask(self, cmd: str, **fields: Any) -> list[dict[str, Any]]:
        """What comes back at once."""
        self._token += 1
        self.send(frame({"CMD": cmd, "Token": self._token, **fields}))
        return self.got()

    def register(self, cs_eui: str = CS_EUI, service: int | None = None, key: str = KEY) -> list[dict[str, Any]]:
        return self.ask("CSREG", **registration(cs_eui, service, key))

    def got(self) -> list[dict[str, Any]]:
        return messages(self.take())


class Bed(LoraBed):
    """``center``: the listener. Two applications, of which the first has everything that is registered."""

    def __init__(self, settings: Settings | None = None, storage: Storage | None = None, clock: Any = None) -> None:
        fresh = storage is None
        super().__init__(storage or Storage(), clock)
        self.rows: Any = self.storage
        self.center: LoraCenterListener = build(self.core, settings or Settings())
        Deferred.fromCoroutine(self.center.prepare()).addErrback(lambda failure: failure.raiseException())
        self.core.registry.protocols["other"] = OtherRules()
        if fresh:
            for id, eui in (("one", CS_EUI), ("two", OTHER_EUI)):
                fields = {"id": id, "kind": "loracenter", "cs_eui": eui, "app_key": KEY}
                self.done(self.core.registry.add_application(fields))

    def done(self, answer: Deferred[Any]) -> Any:
        got: list[Any] = []
        answer.addBoth(got.append)
        assert got and not hasattr(got[0], "raiseException"), got
        return got[0]

    def register(self, dev_eui: str = MOTE, **fields: Any) -> None:
        super().register(dev_eui, **fields)
        self.bind(dev_eui)

    def bind(self, device: str, application: str = "one") -> None:
        self.done(self.core.registry.bind(application, device))

    def customer(self, cs_eui: str = CS_EUI, service: int | None = None) -> Customer:
        made = Customer(self)
        (answer,) = made.register(cs_eui, service)
        assert answer["CODE"] == 1, answer
        return made

    def reborn(self, settings: Settings | None = None) -> Bed:
        """The broker is killed and started again."""
        self.network.agenda.stop()
        return Bed(settings, self.rows, self.clock)

    def advance(self, seconds: float) -> None:
        super().advance(seconds)
        self.center.tick()
        self.clock.advance(0)


def frame(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode() + b"\0"


def registration(cs_eui: str = CS_EUI, service: int | None = None, key: str = KEY) -> dict[str, Any]:
    challenge = tag(bytes.fromhex(key), cs_eui, 1234).hex().upper()
    more = {} if service is None else {"ServiceId": service}
    return {"CsEUI": cs_eui, "AppNonce": 1234, "Challenge": challenge, **more}


def messages(data: bytes) -> list[dict[str, Any]]:
    """Whole messages only."""
    assert not data or data.endswith(b"\0"), data
    return [json.loads(text) for text in data.split(b"\0")[:-1]]
