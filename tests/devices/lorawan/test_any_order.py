"""Whatever happens in whatever order, also the broker's death: nothing is sent twice, no counter is used twice."""

from __future__ import annotations

import random
from base64 import b64decode
from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from broker.model.messages import FINAL_STATES
from tests.devices.lorawan.bed import GATEWAY, OTHER, Bed, Forwarder, Mote

ERRORS = ("", "", "", "", "TOO_LATE", "COLLISION_PACKET", "TX_FREQ", "TX_POWER", None)


class World:
    """A network with three motes, one of them of class C, and two gateways, one of them of version 1."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.bed = Bed(counter_block=4)
        self.motes = [
            self.bed.abp("AA00000000000001", "26010001"),
            self.bed.abp("AA00000000000002", "26010002"),
            self.bed.abp("AA00000000000003", "26010003", **{"class": "C"}),
        ]
        self.open_gateways()
        #: (address, counter) -> payloads that were on air with it.
        self.on_air: dict[tuple[int, int], list[bytes]] = {}
        self.sent: Counter[bytes] = Counter()
        self.confirmed: set[bytes] = set()
        self.number = 0
        self.ended: Counter[str] = Counter()

    def open_gateways(self) -> None:
        self.gateways = [
            self.bed.forwarder(GATEWAY, "192.0.2.1"),
            self.bed.forwarder(OTHER, "192.0.2.2", version=1),
        ]

    def step(self) -> None:
        self.dice.choice(
            [self.order, self.speak, self.speak, self.speak, self.wait, self.wait, self.answer, self.die]
        )()
        for gateway in self.gateways:
            self.look(gateway)

    def order(self) -> None:
        self.number += 1
        payload = self.number.to_bytes(2, "big")
        options: dict[str, Any] = {"priority": self.dice.randint(0, 3)}
        if self.dice.random() < 0.5:
            options["confirm"] = True
            self.confirmed.add(payload)
        self.bed.command(payload, self.dice.choice(self.motes), **options)

    def speak(self) -> None:
        mote: Mote = self.dice.choice(self.motes)
        heard = [gateway for gateway in self.gateways if self.dice.random() < 0.8]
        if mote.last and self.dice.random() < 0.2:
            for gateway in heard:
                gateway.hears(mote.last)
        else:
            mote.says(b"x", *heard, confirmed=self.dice.random() < 0.3, ack=self.dice.random() < 0.3)

    def wait(self) -> None:
        self.bed.advance(self.dice.choice([0.01, 0.1, 0.21, 0.35, 1.0, 3.5, 9.0]))
        if self.dice.random() < 0.9:
            for gateway in self.gateways:
                gateway.pull()

    def answer(self) -> None:
        self.gateways[0].answers.append(self.dice.choice(ERRORS))

    def die(self) -> None:
        if self.dice.random() < 0.5:
            for gateway in self.gateways:
                self.look(gateway)
            self.bed.network.agenda.stop()
            self.bed = Bed(self.bed.storage, self.bed.clock, counter_block=4)
            for mote in self.motes:
                mote.bed = self.bed
            self.open_gateways()

    def look(self, gateway: Forwarder) -> None:
        for _, packet in gateway.asked:
            frame = b64decode(packet["data"])
            address, fcnt = int.from_bytes(frame[1:5], "little"), int.from_bytes(frame[6:8], "little")
            mote = next(one for one in self.motes if one.session.dev_addr == address)
            payload = bytes(mote.session.decode(frame, fcnt).payload)
            self.on_air.setdefault((address, fcnt), []).append(payload)
            self.sent[payload] += 1
        gateway.asked.clear()


class AnyOrderTests(SynchronousTestCase):
    @settings(max_examples=60, deadline=None)
    @given(st.integers(0, 2**32))
    def test_any_order(self, seed: int) -> None:
        world = World(seed)
        for _ in range(80):
            world.step()
            self.assertEqual(world.bed.faults, [])
        for _ in range(40):
            for mote in world.motes:
                mote.says(b"x", *world.gateways)
                world.bed.advance(4)
            for gateway in world.gateways:
                gateway.pull()
                world.look(gateway)
        self.assertEqual(world.bed.faults, [])
        for place, payloads in world.on_air.items():
            self.assertEqual(len(set(payloads)), 1, (place, payloads))
        refused = 3  # a frame that a gateway refuses is offered in another window, and once more with less power
        for payload, times in world.sent.items():
            if payload:
                self.assertLessEqual(times, (3 if payload in world.confirmed else 1) * (1 + refused), payload)
        states = Counter(command.status for command in world.bed.storage.commands.values())
        # What was taken when the broker died times out; all others have been heard of.
        self.assertLessEqual(set(states), {*FINAL_STATES, "sent", "pending"}, states)
        self.assertEqual(world.bed.core.commands.open, states["sent"] + states["pending"])

    def test_without_errors_each_is_sent_once(self) -> None:
        for seed in range(20):
            world = World(seed)
            steps = [world.order, world.speak, world.wait, world.wait, world.die]
            for _ in range(80):
                world.dice.choice(steps)()
                for gateway in world.gateways:
                    world.look(gateway)
            for payload, times in world.sent.items():
                if payload:
                    self.assertLessEqual(times, 3 if payload in world.confirmed else 1, (seed, payload))
