"""LoRaWAN in the demo: two packet forwarders on hills, and motes in the fields around them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from typing import Any, Final

from twisted.internet.defer import Deferred, succeed

from broker.config import Config
from broker.simulate.demo import cast
from broker.simulate.demo.cast import BY_ID, Subject, short
from broker.simulate.demo.enrolment import Keys
from broker.simulate.demo.places import place_of
from broker.simulate.lorawan.air import Air
from broker.simulate.lorawan.forwarder import Forwarder
from broker.simulate.lorawan.links import UdpLink
from broker.simulate.lorawan.mote import SimulatedMote
from broker.simulate.lorawan.plans import PLANS
from broker.simulate.lorawan.session import MoteIdentity
from broker.simulate.lorawan.town import gateway_places, heard_channels, join_block, mote_paths, preset
from broker.simulate.lorawan.traits import Traits
from broker.simulate.room import TELEMETRY_SIZE, Room

#: Seconds between messages of a mote: of the cast, and of the crowd.
EVERY: Final = 3.0
CROWD_EVERY: Final = 60.0
#: Kilometres: all of them are near.
RADIUS: Final = 0.2
#: Shares of packets that are lost, and of messages that want to be acknowledged.
LOSS: Final = 0.02
CONFIRMED: Final = 0.1
#: Seconds until the first mote is switched on, and from one to the next.
WARM_UP: Final = 1.0
GAP: Final = 0.1


class Field:
    """``note(what)`` hears of joins."""

    def __init__(
        self,
        reactor: Any,
        config: Config,
        keys: Keys,
        note: Callable[[str], object],
    ) -> None:
        settings: Any = config.listeners["lorawan"]
        self._region: str = settings.region
        self._block = settings.channel_block if settings.channel_block >= 0 else join_block(self._region)
        self._plan = PLANS[self._region]
        self._keys = keys
        self._note = note
        # Not from a seed: a mote that begins anew has to have other nonces.
        self._dice = Random()
        self._air = Air(reactor, self._dice, keep=False)
        self._places = gateway_places(len(cast.FORWARDERS), RADIUS)
        server = place_of(config, "lorawan", "udp")
        heard = heard_channels(self._region, self._block)
        self._forwarders = [
            Forwarder(self._air, eui, UdpLink(reactor, server), heard, self._plan.range) for eui, _ in cast.FORWARDERS
        ]
        self._motes: list[SimulatedMote] = []

    def start(self) -> None:
        for forwarder in self._forwarders:
            forwarder.start()
        # By the first message the forwarders have said where they are, and commands are waiting.
        self._populate(cast.of(cast.LORAWAN), EVERY, GAP)

    def add_crowd(self, subjects: Iterable[Subject]) -> None:
        """Further motes, those of them that are some."""
        motes = [one for one in subjects if one.protocol == cast.LORAWAN]
        self._populate(motes, CROWD_EVERY, CROWD_EVERY / max(1, len(motes)))

    def _populate(self, subjects: list[Subject], every: float, gap: float) -> None:
        for number, subject in enumerate(subjects):
            mote = self._mote(subject, every)
            self._motes.append(mote)
            mote.start(WARM_UP + number * gap)

    def stop(self) -> Deferred[None]:
        for mote in self._motes:
            mote.stop()
        for forwarder in self._forwarders:
            forwarder.stop()
        return succeed(None)

    def trouble(self) -> None:
        """From now on packets are lost now and then."""
        self._air.loss = LOSS

    def _mote(self, subject: Subject, every: float) -> SimulatedMote:
        traits = Traits(
            every=every,
            payload=TELEMETRY_SIZE,
            confirmed=CONFIRMED,
            class_c=subject.class_c,
            rate=self._plan.join_rates[0],
            channels=preset(self._region, self._block),
        )
        mote = SimulatedMote(
            self._air,
            self._plan,
            MoteIdentity(subject.id, cast.CS_EUI, self._keys.devices[subject.id]),
            traits,
            mote_paths(self._dice, RADIUS, self._places),
            self._dice,
            nonce=self._dice.randrange(1 << 16),
            measures=Room(self._dice, self._air.reactor.seconds).telemetry,
            told=self._told,
        )
        session = self._keys.sessions.get(subject.id)
        if session is not None:
            mote.personalise(*session)
        return mote

    def _told(self, mote: SimulatedMote, what: str) -> None:
        subject = BY_ID.get(mote.name)
        if subject is not None and what.startswith("joined"):
            self._note(f"{short(subject)} (LoRaWAN) has {what}")
