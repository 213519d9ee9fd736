"""A bed with motes that obey: what the tests of MAC commands share."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.devices.lorawan.bed import Bed, Forwarder, join
from tests.devices.lorawan.obedient import ObedientMote

EUI = "AA00000000000001"


class MacCase(SynchronousTestCase):
    bed: Bed
    gateway: Forwarder

    def start(self, **settings: Any) -> None:
        self.bed = Bed(**settings)
        self.gateway = self.bed.forwarder()
        self.addCleanup(lambda: self.assertEqual(self.bed.faults, []))

    def again(self, mote: ObedientMote, **settings: Any) -> None:
        """The broker is killed and started again."""
        self.bed = self.bed.again(**settings)
        self.gateway = self.bed.forwarder()
        mote.bed = mote.mote.bed = self.bed

    def abp(self, region: str = "eu868", **options: Any) -> ObedientMote:
        fields = options.pop("fields", {})
        return ObedientMote(self.bed, self.bed.abp(region=region, **fields), region, **options)

    def otaa(self, region: str = "eu868", **options: Any) -> ObedientMote:
        """A mote that has joined, and knows what it was told."""
        self.bed.register(region=region, **options.pop("fields", {}))
        made = ObedientMote(self.bed, join(self.bed, self.gateway), region, **options)
        begins = self.mac(made.mote.dev_eui, begun=True)
        made.delay, made.offset = begins.delay, begins.offset
        made.rx2 = begins.rx2_frequency, begins.rx2_rate
        made.channels |= {channel.index: channel.frequency for channel in begins.extra}
        made.enabled = frozenset(made.channels)
        return made

    def mac(self, eui: str = EUI, begun: bool = False) -> Any:
        mote = self.bed.network.motes.get(eui)
        assert mote is not None
        return mote.begins if begun else mote.mac

    def run_for(self, mote: ObedientMote, frames: int, **options: Any) -> None:
        for _ in range(frames):
            mote.says(self.gateway, **options)

    def kinds(self, mote: ObedientMote) -> list[str]:
        return [type(command).__name__ for command in mote.told]
