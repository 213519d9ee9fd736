"""LoRaWAN in the demo: two packet forwarders on hills, and motes in the fields around them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from typing import Any, Final

from twisted.internet.defer import Deferred, succeed

from broker.config import Config
from broker.devices.lorawan.regions import REGIONS
from broker.simulate.demo import cast
from broker.simulate.demo.cast import BY_ID, Subject, short
from broker.simulate.demo.enrolment import Keys
from broker.simulate.demo.places import place_of
from broker.simulate.lorawan_mote import MoteIdentity, SimulatedMote
from broker.simulate.lorawan_radio import Air, Forwarder

#: Seconds between messages of a mote: of the cast, and of the crowd.
EVERY: Final = 3.0
CROWD_EVERY: Final = 60.0
#: Shares of packets that are lost, and of messages that want to be acknowledged.
LOSS: Final = 0.02
CONFIRMED: Final = 0.1
#: Seconds until the first mote is switched on.
WARM_UP: Final = 1.0
#: Seconds within which all motes are switched on.
SPREAD: Final = 10.0


class Field:
    """``note(what)`` hears of joins."""

    def __init__(
        self,
        reactor: Any,
        config: Config,
        keys: Keys,
        extras: Iterable[Subject],
        note: Callable[[str], object],
    ) -> None:
        settings: Any = config.listeners["lorawan"]
        self._keys = keys
        self._note = note
        # Not from a seed: a mote that begins anew has to have other nonces.
        self._air = Air(reactor, REGIONS[settings.region], Random(), block=max(0, settings.channel_block))
        server = place_of(config, "lorawan", "udp")
        self._forwarders = [Forwarder(self._air, eui, server) for eui, _ in cast.FORWARDERS]
        self._motes = [self._mote(subject, EVERY) for subject in cast.of(cast.LORAWAN)]
        self._crowd = [self._mote(one, CROWD_EVERY) for one in extras if one.protocol == cast.LORAWAN]

    def start(self) -> None:
        for forwarder in self._forwarders:
            forwarder.start()
        for number, mote in enumerate(self._motes):
            # By then the forwarders have said where they are, and commands are waiting.
            mote.start(WARM_UP + number * 0.1)
        for number, mote in enumerate(self._crowd):
            mote.start(SPREAD * number / len(self._crowd))

    def stop(self) -> Deferred[None]:
        for mote in (*self._motes, *self._crowd):
            mote.stop()
        for forwarder in self._forwarders:
            forwarder.stop()
        return succeed(None)

    def trouble(self) -> None:
        """From now on packets are lost now and then."""
        self._air.loss = LOSS

    def _mote(self, subject: Subject, every: float) -> SimulatedMote:
        identity = MoteIdentity(subject.id, cast.CS_EUI, self._keys.devices[subject.id])
        return SimulatedMote(
            self._air,
            identity,
            list(range(len(self._forwarders))),
            class_c=subject.class_c,
            every=every,
            confirmed=CONFIRMED if subject.prompt else 0.0,
            session=self._keys.sessions.get(subject.id),
            told=self._told,
        )

    def _told(self, mote: SimulatedMote, what: str) -> None:
        subject = BY_ID.get(mote.identity.dev_eui)
        if subject is not None and what.startswith("joined"):
            self._note(f"{short(subject)} (LoRaWAN) has {what}")
