"""A broker in memory for the fuzzers: GService, MQTT and the API on a real registry and storage (`memory`).

Ann has bound two devices, the lamp and one of another protocol, and is whom inputs speak for. Bob has bound a device of
his own, and is connected; no input knows his token or his device's passcode, so nothing of that may be heard.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable
from functools import cache
from pathlib import Path
from shutil import copytree
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeVar

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from broker.applications.gizwits.calls.admin import admin_routes
from broker.applications.gizwits.listener import GserviceListener
from broker.applications.gizwits.passwords import Passwords
from broker.applications.gizwits.products import ApplicationExtra, ProductExtra, application_auth
from broker.applications.gizwits.settings import Settings as GserviceSettings
from broker.applications.gizwits.side import Side, threads_of
from broker.applications.gizwits.user_records import (
    BOUND,
    NAMES,
    TOKENS,
    USERNAME,
    USERS,
    Binding,
    TokenRecord,
    UserRecord,
    bound_key,
    name_key,
    token_key,
    user_key,
    written,
)
from broker.applications.http.side import Settings as HttpSettings
from broker.applications.http.side import build as build_http
from broker.applications.mqtt import Settings as MqttSettings
from broker.applications.mqtt import build as build_mqtt
from broker.core import Core
from broker.devices.gizwits import build_devices
from broker.devices.gizwits import codec as g
from broker.devices.gizwits.topics import commands_filter, notice_topic, report_topic, response_topic
from broker.listening.listener import Listener
from broker.listening.settings import Limits
from broker.model.interfaces import IUpdateProgress
from broker.model.messages import RAW, SUCCEEDED, Command, DeviceRef, Reply
from broker.model.records import Product, StoredMessage
from broker.model.secrets import hash_secret
from broker.model.updates import Order
from broker.mqtt import packets as p
from broker.mqtt.codec import LARGEST_PACKET, Decoder
from broker.mqtt.encode import encode
from broker.routing.commands import Commands
from broker.routing.live import LiveDevices
from broker.routing.router import Router
from broker.routing.topic_index import TopicIndex
from broker.routing.values import LastValues
from broker.storage.interface import Change
from broker.storage.quarantine import Quarantine
from broker.storage.registry import Registry
from tests.applications.gizwits.test_datapoints import LAMP
from tests.applications.mqtt.bed import NOW, SECRET, Link, PlainRules
from tests.devices.gizwits.bed import DID, MAC, OTHER, PASSCODE, PRODUCT
from tests.fuzz.memory import Files, MemorySqlite, Rounds
from tests.transports import ADDRESS, Peer, turn_of

APP: Final = "gizapp"
ADMIN_TOKEN: Final = "admin-token"
PLAIN: Final = "plain-1"
ANN: Final = "a" * 32
ANN_TOKEN: Final = "0123456789abcdef0123456789abcdef"
PASSWORD: Final = "ann's password"
#: What signs requests of products, and what vouches for users.
PRODUCT_SECRET: Final = "the secret of the product"
SOURCE: Final = "qq"
SOURCE_KEY: Final = "the key of the source"
HARD_VERSION: Final = "000LINUX"
#: The order of a campaign whose turn the lamp has.
ORDER: Final = "5f0c3b8a-7a55-4b86-9d5e-2d7b1a3f9c10"

_BOB: Final = "b" * 32
BOB_TOKEN: Final = "f7c1d9340be84e7f9ab2c6d501e3f8a4"
_OTHER_PASSCODE: Final = "QZVXKWJYHG"
_COMPANY: Final = "198.51.100.1"
_BYSTANDERS: Final = "198.51.100.2"
#: Seconds between two ticks: more than usual, as time that passes is what takes the longest here.
STEP: Final = 5.0
#: Small enough to be reached.
LIMITS: Final = Limits(max_message_size=8_192, max_message_rate=100, message_burst=200, max_outbox=200_000)
#: Long enough for more than one read of the file.
_IMAGE: Final = b"firmware" * 9_000

T = TypeVar("T")


@implementer(IUpdateProgress)
class _Progress:
    """Of a campaign: nothing follows from it here."""

    def moved(self, order_id: str, step: str) -> None:
        """Noted."""

    def returned(self, order_id: str, why: str) -> None:
        """Noted."""

    def failed(self, order_id: str, why: str) -> None:
        """Noted."""

    def unanswered(self, order_id: str) -> None:
        """Noted."""

    def fetching(self, order_id: str) -> Deferred[None]:
        return succeed(None)

    def fetched(self, order_id: str) -> None:
        """Noted."""

    def exchanged(self, device_id: str, why: str) -> None:
        """Noted."""

    def reported(self, device_id: str, info: dict[str, Any]) -> Deferred[None]:
        return succeed(None)


class _Obedient(Link):
    """A device that does what it is told."""

    def __init__(self, core: Core) -> None:
        super().__init__()
        self._core = core

    def send_command(self, command: Command) -> None:
        reply = Reply(command.id, SUCCEEDED, {"done": True}, self._core.clock())
        self._core.reactor.callLater(0.5, self._core.commands.reply, PLAIN, reply)


class _Image:
    """Where the bytes of an image come from."""

    async def into(self, sink: Any) -> int:
        sink.write(_IMAGE)
        return len(_IMAGE)


@cache
def _folder() -> TemporaryDirectory[str]:
    """Of the images, for as long as the process lives."""
    return TemporaryDirectory(prefix="fuzz-")


class World:
    """``image``: the database to begin with; ``listener``: the one that matters: the API's is made for itself alone."""

    def __init__(self, image: bytes, listener: str = "gservice") -> None:
        reactor = self.reactor = Rounds()
        reactor.advance(NOW)
        clock = reactor.seconds
        self.faults: list[str] = []
        #: Of files; only callers of the API change any.
        self._own = TemporaryDirectory(prefix="fuzz-") if listener == "http" else None
        folder = _folder().name if self._own is None else self._own.name
        if self._own is not None:
            copytree(_folder().name, folder, copy_function=os.link, dirs_exist_ok=True)
        storage = self.storage = MemorySqlite(reactor, image)
        router = Router(lambda what, error: self.faults.append(f"{what}: {error!r}"))
        devices = LiveDevices(router, clock)
        self.core = Core(
            reactor=reactor,
            clock=clock,
            monotonic=clock,
            turn=turn_of(reactor),
            router=router,
            devices=devices,
            commands=Commands(storage, devices, router, clock),
            storage=storage,
            registry=Registry(storage, clock, {"plain": PlainRules()}),
            topics=TopicIndex(),
            files=Files(storage, Path(folder), reactor),
            quarantine=Quarantine(storage, clock),
            ports=lambda name: (("tcp", 1883),),
            admin_token=ADMIN_TOKEN,
        )
        settings = GserviceSettings(limits=LIMITS)
        self.devices = build_devices(self.core, settings)
        self.devices.updates.follow(_Progress())
        self.side = Side(self.core, settings.users, self.devices, Passwords(threads_of(reactor), cost=4))
        self.core.api_routes.extend(admin_routes(self.side))
        self.gservice = GserviceListener(self.core, settings, self.side)
        self.mqtt = build_mqtt(self.core, MqttSettings(limits=LIMITS, sys_interval=0))
        self.core.listeners = {"gservice": self.gservice, "mqtt": self.mqtt}
        if listener == "http":
            self.core.listeners["http"] = build_http(self.core, HttpSettings(limits=LIMITS, console=False))
        self.bystanders: list[Peer] = []
        for one in self.core.listeners.values():
            self.done(one.prepare())

    def done(self, job: Awaitable[T]) -> T:
        """Its result, once nothing is under way."""
        found: list[T] = []
        failed: list[Any] = []
        begun: Deferred[T] = job if isinstance(job, Deferred) else Deferred.fromCoroutine(job)  # type: ignore[arg-type]
        begun.addCallbacks(found.append, failed.append)
        self.reactor.settle()
        if failed:
            failed[0].raiseException()
        return found[0]

    def pass_time(self, seconds: float, *peers: Peer) -> None:
        """In steps of `STEP`, in which listeners tick; these clients go on sending what they have."""
        for _ in range(round(seconds / STEP)):
            self.reactor.advance(STEP)
            for peer in peers:
                peer.pump()
            self.core.commands.tick()
            for listener in self.core.listeners.values():
                listener.tick()
            self.reactor.settle()

    def arrive(self, *packets: p.Packet, address: str = ADDRESS, version: int = p.MQTT_3_1) -> Peer:
        """A client of the MQTT listener that has sent these, one after another."""
        peer = Peer(self.mqtt, self.reactor, address)
        for packet in packets:
            peer.send(encode(packet, version))
            self.reactor.settle()
            self.reactor.advance(0.01)  # agents get one packet at a time
            self.reactor.settle()
        return peer

    def company(self, *packets: p.Packet) -> None:
        """Somebody who is there meanwhile, and whom the client has to do with; and the device of another protocol."""
        self.arrive(*packets, address=_COMPANY)
        ref = DeviceRef("plain", PLAIN)
        live = self.core.devices.attach(ref, _Obedient(self.core), lambda: (LastValues(), {}))
        self.core.commands.ready(live)

    def settle_in(self) -> None:
        """The lamp has its turn in a campaign; Bob's device and app come."""
        self.done(self.devices.updates.begin(self._order()))
        packets = (*device_packets(OTHER, _OTHER_PASSCODE), *app_packets(_BOB, BOB_TOKEN, "usrbob", OTHER))
        half = len(packets) - 2
        self.bystanders = [self.arrive(*some, address=_BYSTANDERS) for some in (packets[:half], packets[half:])]
        for peer in self.bystanders:
            heard(peer)

    def check(self, said: bytes) -> None:
        """What holds whatever a client does; ``said`` is what it was told. Raises AssertionError."""
        assert not self.faults, self.faults[0]
        assert BOB_TOKEN.encode() not in said and _OTHER_PASSCODE.encode() not in said, "a secret of somebody else"
        for peer in self.bystanders:
            # What is said of Bob's app to his device follows from his app alone.
            wrong = [one for one in heard(peer) if one.topic != response_topic(OTHER)]
            assert not wrong, f"a bystander hears {wrong}"

    def end(self) -> None:
        """Everybody goes; what is under way comes to its end."""
        for listener in self.core.listeners.values():
            for connection in list(listener.connections):
                connection.abort("shutdown")
        self.pass_time(30.0)
        self.storage.database.close()
        if self._own is not None:
            self._own.cleanup()
        for listener in self.core.listeners.values():
            check_over(listener)

    def _order(self) -> Order:
        release = self.done(self.devices.updates.find(str(self.devices.firmware.images()[-1].fid), None))
        return Order(id=ORDER, device=DID, release=release)


def check_over(listener: Listener) -> None:
    """Nobody is left, and nobody was closed for a fault of ours. Raises AssertionError."""
    for reasons in (listener.stats.closed, listener.stats.refused):
        assert "internal_error" not in reasons, reasons
    assert not listener.connections, "a connection is left"


def heard(peer: Peer) -> list[p.Publish]:
    """What was published to a client since it was last asked."""
    packets = Decoder(LARGEST_PACKET, "client", p.MQTT_3_1).feed(peer.take())
    return [one for one in packets if isinstance(one, p.Publish)]


def device_packets(did: str = DID, passcode: str = PASSCODE) -> tuple[p.Packet, ...]:
    """How an agent logs in: its three subscriptions come one by one."""
    filters = (notice_topic(PRODUCT), response_topic(did), commands_filter(did))
    connect = p.Connect(did, p.MQTT_3_1, keep_alive=120, user=did, password=passcode.encode())
    return (connect, *(p.Subscribe(number, [(one, 0)]) for number, one in enumerate(filters, 1)))


def app_packets(
    uid: str = ANN, token: str = ANN_TOKEN, client_id: str = "usrann", *devices: str
) -> tuple[p.Packet, ...]:
    """How a person's app logs in."""
    connect = p.Connect(client_id, p.MQTT_3_1, keep_alive=0, user=f"2${APP}${uid}", password=token.encode())
    filters = [(one, 1) for did in devices for one in (report_topic(did), report_topic(did, client_id))]
    return (connect, p.Subscribe(1, [(f"ser2cli_res/{client_id}/#", 0), *filters]))


@cache
def prepared() -> bytes:
    """The database in which all of them are registered."""
    world = World(b"")
    registry = world.core.registry
    world.done(registry.add_product(Product(key=PRODUCT, name="lamp", protocol="gizwits")))
    world.done(world.side.products.set_extra(PRODUCT, ProductExtra(PRODUCT_SECRET, LAMP)))
    for did, mac, passcode in ((DID, MAC, PASSCODE), (OTHER, "0B5E1D93C7A4", _OTHER_PASSCODE)):
        fields = {"protocol": "gizwits", "id": did, "product": PRODUCT, "mac": mac, "secret": passcode}
        world.done(registry.add_device(fields))
    world.done(registry.add_device({"protocol": "plain", "id": PLAIN, "secret": PASSCODE}))
    world.done(registry.add_application({"kind": "gizwits", "id": APP, "secret": SECRET}))
    for did in (DID, PLAIN):
        world.done(registry.bind(APP, did))
    extra = ApplicationExtra(hash_secret(application_auth(APP, SECRET)), {SOURCE: SOURCE_KEY})
    world.done(world.side.products._applications.put(APP, extra))
    password = world.done(world.side.users.passwords.hash(PASSWORD))
    world.done(world.storage.write_records(_user(ANN, "ann", password, ANN_TOKEN, DID, PLAIN)))
    world.done(world.storage.write_records(_user(_BOB, "bob", password, BOB_TOKEN, OTHER)))
    said = StoredMessage(device=DID, protocol="gizwits", kind=RAW, at=NOW - 60, payload=b"\4\1")
    world.done(world.storage.add_messages([said]))
    for kind, version, active in ((g.WIFI, "04020009", True), (g.MCU, "2", True), (g.WIFI, "04020010", False)):
        firmware = world.devices.firmware
        image = world.done(firmware.add(PRODUCT, kind, HARD_VERSION, version, "firmware.bin", _Image()))
        world.done(firmware.change(image.fid, active, None))
    found = world.storage.image()
    world.end()
    return found


def _user(uid: str, name: str, password: str, token: str, *devices: str) -> list[Change]:
    """The records of a user who is logged in for ever, as `broker.applications.gizwits.user_records` has them."""
    key, ever = token_key(token), NOW + 1e9
    user = UserRecord(
        app=APP,
        uid=uid,
        created_at=NOW,
        names={USERNAME: name},
        password=password,
        tokens={key: ever},
        bindings={did: Binding(NOW) for did in devices},
    )
    return [
        Change(USERS, user_key(APP, uid), written(user)),
        Change(NAMES, name_key(APP, USERNAME, name), uid.encode()),
        Change(TOKENS, key, written(TokenRecord(APP, uid, ever))),
        *(Change(BOUND, bound_key(did, APP, uid), b"") for did in devices),
    ]
