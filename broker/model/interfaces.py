"""The narrow interfaces between the core and what is plugged into it.

What the core may do to a device's connection is: hand it a command, and close it. What a consumer of messages is: three
calls that must not block and must not raise. Everything else is the plugged-in side's own business.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zope.interface import Attribute, Interface

from broker.model.messages import Command, Presence, Uplink
from broker.model.records import DeviceRecord
from broker.model.updates import Order, Release


class IDeviceLink(Interface):
    """A device's present way in: a connection that is logged in (device side of every protocol).

    A command that is pending counts as unanswered for ``window``, unless the link has ``pending_in_window = False``.
    One with a text ``peer`` says where the device comes from, for people.
    """

    protocol: str = Attribute("Name of the protocol, as in DeviceRef.protocol.")
    window: int = Attribute("How many commands may be unanswered on this link at once.")
    answer_timeout: float = Attribute("Seconds from sending to the first answer, unless the command has its own.")
    pending_timeout: float = Attribute("Seconds that each 'pending' answer adds before the command times out.")

    def send_command(command: Command) -> None:
        """Write the command to the device, now.

        Raise `broker.model.errors.Invalid` if it cannot be put into this protocol's words: the command then fails with
        that message.
        """

    def close_link(reason: str) -> None:
        """Close the connection; ``reason`` is of names.CLOSE_REASONS. Must be harmless when called twice."""


class ITracedLink(IDeviceLink):
    """A link whose packets can be looked at."""

    def trace(tell: Callable[[str, bytes | None, Any], None] | None) -> None:
        """Tell of each packet from now on, or of no more (None; harmless twice).

        ``tell(direction, raw, decoded)``: "in" from the device or "out" to it; the bytes on the wire, None where they
        hold secrets; what they say, for JSON. A traced link pays for it, any other must not.
        """


class IConsumer(Interface):
    """Something that wants to know what crosses the broker. Called synchronously, in order; must not block.

    One that listens to all devices and has a use for few uplinks may have ``wants(device, kind) -> bool`` besides:
    while nobody wants an uplink, a device side that asks `Router.wanted` need not make it. It must not raise.
    """

    def uplink(message: Uplink) -> None:
        """A device said something."""

    def presence(change: Presence) -> None:
        """A device came or went."""

    def command(change: Command) -> None:
        """A command changed its state (it is the life cycle's own object: read it now, do not keep it)."""


class IFarConsumer(IConsumer):
    """A consumer that also hears of devices that are connected to other processes, as far as it says so.

    The others hear only of the devices of this process: each process has its own history, topics and rules for those.
    """

    def interests() -> set[str]:
        """``*`` for all devices, ``d:<id>`` for one, ``a:<application>`` for those bound to it. Asked often."""


class IProtocol(Interface):
    """A protocol as `twistd broker` finds it (``getPlugins(IProtocol)``); built-in and third-party alike.

    The plugin object only declares. ``load()`` imports what is behind it, so that scanning plugins stays cheap and
    never installs a reactor by accident.
    """

    name: str = Attribute("The table under [listeners] and the word in logs, metrics and device records.")
    description: str = Attribute("One line for `twistd broker --help`.")

    def load() -> Any:
        """The module or object that provides `IListenerSide`."""


class IListenerSide(Interface):
    """What an `IProtocol` loads: settings for its table and a factory made from them."""

    Settings: type[Any] = Attribute(
        "A msgspec.Struct derived from broker.listening.settings.ListenerSettings, all fields with defaults."
    )

    def build(core: Any, settings: Any) -> Any:
        """Return the listener (a broker.listening.listener.Listener, which is a Twisted factory).

        Called once at the start, before anything is bound. ``core`` is broker.core.Core.
        """


class IMqttPrincipal(Interface):
    """Somebody who is logged in over MQTT, and what they may do. Asked at CONNECT and SUBSCRIBE, not per message.

    One whose clients need more care than others has an attribute ``terms`` besides, a `broker.mqtt.terms.Terms`.
    """

    name: str = Attribute("For log lines and limits; unique per identity, not secret.")

    def may_subscribe(topic_filter: str) -> bool:
        """False refuses the subscription (0x80). A filter with wildcards may be granted and cut by `may_receive`."""

    def may_receive(topic: str) -> bool:
        """Whether a message on this topic may go to this client. Asked once when a route is made, not per message."""

    def publisher(topic: str) -> Any:
        """What a PUBLISH to this topic does: True lets it through to subscribers, False refuses it.

        A `broker.mqtt.terms.Watched` has its payload looked at first and then lets it through or drops it.
        A callable takes it over: ``take(payload: bytes, qos: int, properties, done)``, and must call
        ``done(error: Exception | None)`` exactly once, after whatever it stored is safe: the acknowledgement waits
        for that.
        """

    def retained(topic_filter: str, cursor: str | None) -> Any:
        """A page of the broker's own retained messages that match a subscription.

        None when there can be none, else a Deferred of ``([(topic: str, payload: bytes), ...], cursor)``; with that
        cursor the next page is asked for, None ends it. It fails with Unavailable. `may_receive` is asked afterwards.
        """

    def connected(close: Callable[[str], None]) -> None:
        """The session is up; ``close(reason)`` ends it (the identity was removed, its secret changed)."""

    def disconnected() -> None:
        """The session is gone; forget the ``close`` given to `connected`."""


class IMqttIdentities(Interface):
    """One way of logging in over MQTT. The server asks each in turn which one a CONNECT belongs to."""

    def claims(client_id: str, username: str | None) -> bool:
        """Whether such a CONNECT is for this kind of identity. Must be decidable from the names alone."""

    def login(client_id: str, username: str | None, password: bytes | None, peer: str) -> Any:
        """Deferred of an IMqttPrincipal; fails with Unauthenticated, Forbidden, Disabled or Unavailable.

        ``close_after`` among the error's details: seconds from the refusal to the close, for clients that would
        otherwise be back at once.
        """


class IMqttSpace(Interface):
    """Topics below certain first levels that have rules of their own for applications (``Core.mqtt_spaces``).

    ``client`` is an application on one connection: ``name``, ``client_id``, ``rights``, ``may_see(device id)``,
    ``end(reason)``. The calls mean what those of `IMqttPrincipal` mean.
    """

    def may_subscribe(client: Any, topic_filter: str) -> bool:
        """A filter whose first level is in the space; one that begins with a wildcard is cut by `may_receive`."""

    def may_receive(client: Any, topic: str) -> bool:
        """Asked once when a route is made."""

    def publisher(client: Any, topic: str) -> Any:
        """What a PUBLISH there does: see `IMqttPrincipal.publisher`."""

    def connected(client: Any) -> None:
        """The application is logged in, with whatever rights."""

    def disconnected(client: Any) -> None:
        """It is gone; told once, also when it never came far."""


class IKnownMqttIdentities(IMqttIdentities):
    """Identities of which the server may also ask without a password. Those that do not provide this have neither
    certificates in place of passwords nor wills that outlive the broker.
    """

    def login_certified(client_id: str, subject: str, peer: str) -> Any:
        """Log in whose certificate has been verified; ``subject``, its common name, was claimed as a user name.

        Deferred of an IMqttPrincipal; fails as `login` does.
        """

    def find(name: str) -> Any:
        """Who has this IMqttPrincipal.name now, to do what was left for later in their name, with their present rights.

        Deferred of an IMqttPrincipal, or of None: nobody of ours, or nobody any more. It fails with Unavailable.
        """


class ILoraNetwork(Interface):
    """What application sides may know of the LoRaWAN network (``core.lora``)."""

    def gateway(eui: str) -> dict[str, Any] | None:
        """A gateway as the API shows it, with the ``family`` of its region; None when it is unknown."""

    def nearest_gateway(dev_eui: str) -> str | None:
        """EUI of the gateway that heard the mote best when it spoke last; None when it has not spoken."""

    def gateways_of(dev_eui: str) -> tuple[str, ...]:
        """EUIs of the gateways that heard the mote when it spoke last; none when that was before the broker started."""

    def motes_behind(eui: str) -> list[str]:
        """The motes that this gateway alone has heard when they spoke last."""

    def class_of(dev_eui: str) -> str | None:
        """A or C; None for a mote without a session."""

    def groups_of(application: str) -> dict[str, frozenset[str]]:
        """The multicast groups that are this application's: DevEUIs of the members by the group's id."""

    def send_to_group(
        group: str, payload: bytes, *, port: int, tries: int, priority: int, expires: float, origin: str
    ) -> Any:
        """Send bytes to a group; Deferred of the message's id, when it is on disk.

        It fails with NotFound, Invalid (too long for its data rate), LimitExceeded (too many wait), Unavailable.
        """

    def withdraw(origin: str) -> Any:
        """Take back what this origin has sent to groups and no gateway was asked for yet; Deferred of None."""

    def watch_gateways(call: Callable[[str, bool], None]) -> None:
        """``call(eui, online)`` from now on, whenever a gateway comes or goes. Must not block."""


class IBackplane(Interface):
    """What a broker process knows of the others, and how it speaks to them (DESIGN §11).

    ::

        cast    best effort, bounded and counted: to one node or to all others                 (pub/sub)
        tell    in one order for all nodes, ourselves included; nobody misses any of it        (one stream)
        ask     a question to one node, which is answered once                                 (a stream a node)
        take    who has what: a key of a space belongs to one node at a time, while it lives   (directory)

    A node is a process: ``<name>.<epoch>``, a new one at each start and whenever its lease was lost. What belongs to a
    node that is gone may be taken by anybody. Bodies are bytes and opaque here. All calls are made, and all callbacks
    come, in the reactor's thread.
    """

    node: str = Attribute("This process.")
    epoch: int = Attribute("Its number, which no other life of a process ever has.")
    alone: bool = Attribute("There is no other process and never will be: nobody need be told anything.")
    held: bool = Attribute("Whether our lease holds, as far as we can know.")

    def start() -> Any:
        """Deferred: we are a node. Fails with Unavailable."""

    def stop() -> Any:
        """Deferred: what is ours is given up, and the others know that we are gone."""

    def problem() -> str:
        """Why the others cannot be reached, a sentence; empty when they can."""

    def others() -> tuple[str, ...]:
        """The other nodes that live."""

    def cast(kind: str, body: bytes, node: str | None = None) -> None:
        """Say it to one node, or to all others. What is said in one turn travels together."""

    def tell(kind: str, body: bytes) -> None:
        """Say it to all, ourselves included, in one order with everything that is told."""

    def hear(kind: str, call: Callable[[str, bytes], object]) -> None:
        """``call(node, body)`` for each `cast` and `tell` of this kind."""

    def ask(node: str, kind: str, body: bytes, patience: float = 15.0) -> Any:
        """Deferred of the answer (bytes). Fails with the BrokerError of whoever answers; Unavailable: none came within
        ``patience`` seconds, and the question may have been acted upon."""

    def answer(kind: str, call: Callable[[str, bytes], Any]) -> None:
        """``call(node, body)`` gives the answer, or a Deferred of it, or raises a BrokerError."""

    def take(space: str, key: str, note: str = "") -> Any:
        """Deferred of a `broker.model.cluster.Taken`: ours now, unless a node that lives has it. Fails with
        Unavailable.

        ``note`` is kept with it, or what is there if it is empty; taking again what is ours changes the note.
        """

    def leave(space: str, key: str, note: str = "") -> None:
        """It is ours no more, if it was; with a note the entry stays, and belongs to nobody."""

    def find(space: str, key: str) -> Any:
        """Deferred of the Taken without taking it; ``node`` is "" when nobody that lives has it."""

    def lead(duty: str) -> Any:
        """Deferred: whether we are the one node that has this duty now. Ask again each time."""

    def watch(
        gone: Callable[[str], Any] | None = None,
        fenced: Callable[[], object] | None = None,
        joined: Callable[[], Any] | None = None,
        left: Callable[[str], object] | None = None,
    ) -> None:
        """``left(node)``: that node is no more, told to all. ``gone(node)``: it is for us, and no one else, to take
        over what it had; a Deferred is waited for. ``fenced()``: all that we had may belong to others by now: stop it
        at once, as if it had never been. ``joined()``: we are a new node since then."""


class IUpdater(Interface):
    """How the devices of a protocol get firmware (``core.updaters[protocol]``): what campaigns work with.

    What becomes of an order is told to the `IUpdateProgress` that `follow` gave. Nothing here may block.
    """

    backs_up: bool = Attribute("Whether a backup can be made before an update.")

    def follow(progress: Any) -> None:
        """Tell this `IUpdateProgress` from now on. Called once, before anything else."""

    def find(image: str, version: str | None) -> Any:
        """Deferred of the `Release` that the administrator means.

        ``version`` is what devices report that run it, where the image does not say that itself. Fails with NotFound,
        Invalid, Conflict, Unavailable.
        """

    def version_of(info: dict[str, Any], release: Release) -> str | None:
        """The version that a device has reported of what the release replaces; None while it has not."""

    def lower(one: str, other: str) -> bool:
        """Whether the first version is older than the second."""

    def unfit(record: DeviceRecord, info: dict[str, Any], release: Release) -> str | None:
        """Why a device cannot be given the release, whatever its campaign says; None if it can."""

    def begin(order: Order) -> Any:
        """Carry an order out, or go on with one that was begun in an earlier life; harmless when it is under way.

        Deferred of None, which does not fail: a failure is told as such.
        """

    def withdraw(order: Order) -> None:
        """Take back what has not left yet, and tell that as ``returned``; what has left goes on."""

    def end(order: Order, why: str | None) -> None:
        """It is over for the campaign: the device was confirmed (None) or has failed, for this reason."""

    def ask(device_id: str, release: Release) -> None:
        """Have a connected device report its version, where the protocol can."""


class IUpdateProgress(Interface):
    """What an `IUpdater` tells of its orders, by their ids, and of versions. Orders that are over are disregarded."""

    def moved(order_id: str, step: str) -> None:
        """``step``: `broker.model.updates.SENT` or ``ACCEPTED``."""

    def returned(order_id: str, why: str) -> None:
        """It never left, and never will: the device's turn comes again."""

    def failed(order_id: str, why: str) -> None:
        """The device has refused or failed, and has said so, or it cannot be asked at all."""

    def unanswered(order_id: str) -> None:
        """The protocol has given up waiting for the device."""

    def fetching(order_id: str) -> Any:
        """The device asks for the image at the address of this order. Deferred: it is noted on disk, the image may go.

        Fails with Unavailable.
        """

    def fetched(order_id: str) -> None:
        """The last byte was handed to its connection."""

    def exchanged(device_id: str, why: str) -> None:
        """Another piece of hardware is the device now: what the one before was told, and has fetched, is void."""

    def reported(device_id: str, info: dict[str, Any]) -> Any:
        """A device has told what it has; ``info`` is what is known of it now. Deferred: what follows is on disk.

        Fails with Unavailable.
        """
