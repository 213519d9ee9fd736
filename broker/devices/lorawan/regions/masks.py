"""ChMaskCntl and ChMask of LinkADRReq: how sixteen bits at a time tell a mote which channels it may use, sans-IO.

::

    ChMaskCntl    16 channels     48 (CN470-x26)  64 (CN470-x20)  72 (US915, AU915)           96 (CN470 of 1.0.x)
    0, 1 and on   0: sixteen      0-2: sixteen    0-3: sixteen    0-3: sixteen each           0-5: sixteen each
    3             -               all on
    4             -               all off         -               64-71
    5             -               -               -               blocks of eight and one
    6             all on          -               all on          0-63 on; ChMask: 64-71      all on
    7             -               -               all off         0-63 off; ChMask: 64-71     -

What has no meaning (-) a mote refuses. Several LinkADRReq in a row are one request: what counts is what all of them
leave (LoRaWAN 1.0.2 and 1.0.3, 5.2).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, NamedTuple

#: Channels that one ChMask tells of.
GROUP: Final = 16
_FULL: Final = 0xFFFF


class MaskRules(NamedTuple):
    """What ChMaskCntl means in a region."""

    #: Channels 0 to this, exclusive.
    channels: int
    #: The ChMaskCntl that turns all on, and the one that turns all off, where there is one.
    all_on: int | None = None
    all_off: int | None = None
    #: The first of the channels (500 kHz) that those two leave out: their ChMask tells of these.
    wide: int | None = None
    #: The ChMaskCntl whose lowest eight bits are blocks of eight channels, each with its 500 kHz channel.
    blocks: int | None = None

    @property
    def groups(self) -> int:
        """How many ChMaskCntl tell of sixteen channels, or of the rest of them."""
        return -(-self.channels // GROUP)

    def defined(self, group: int) -> int:
        """The bits of a group that are channels."""
        return (1 << min(GROUP, self.channels - GROUP * group)) - 1

    def sequence(self, enabled: Collection[int]) -> tuple[tuple[int, int], ...]:
        """(ChMaskCntl, ChMask) of the fewest LinkADRReq after which any mote has exactly these channels.

        ``blocks`` is left out: it is reserved before 1.0.3, and what it does to 500 kHz channels is read in two ways.
        Raises ValueError for no channels at all, which a mote refuses, and for one that does not exist.
        """
        if not enabled or not all(0 <= number < self.channels for number in enabled):
            raise ValueError(f"channels have to be some of 0 to {self.channels - 1}")
        bits = sum(1 << number for number in set(enabled))
        groups = [(group, bits >> GROUP * group & _FULL) for group in range(self.groups)]
        best = groups
        wide = None if self.wide is None else self.wide // GROUP
        for control, rest in ((self.all_on, _FULL), (self.all_off, 0)):
            if control is None:
                continue
            first = (control, rest if wide is None else groups[wide][1])
            others = [(group, mask) for group, mask in groups if group != wide and mask != rest & self.defined(group)]
            if 1 + len(others) < len(best):
                best = [first, *others]
        return tuple(best)

    def apply(self, enabled: frozenset[int], control: int, mask: int) -> frozenset[int] | None:
        """What a mote with these channels has after one LinkADRReq; None: it refuses.

        That nothing may be left at the end is for the last of a row, and not looked at here.
        """
        if control in (self.all_on, self.all_off):
            if self.wide is None:
                return frozenset(range(self.channels) if control == self.all_on else ())
            narrow = range(self.wide) if control == self.all_on else range(0)
            return self._with_wide(frozenset(narrow), mask)
        if control == self.blocks and self.wide is not None:
            if mask >> 8:
                return None
            blocks = [block for block in range(8) if mask >> block & 1]
            return frozenset(8 * block + number for block in blocks for number in range(8)) | frozenset(
                self.wide + block for block in blocks
            )
        if not 0 <= control < self.groups or mask & ~self.defined(control):
            return None
        first = GROUP * control
        others = frozenset(number for number in enabled if not first <= number < first + GROUP)
        return others | frozenset(first + bit for bit in range(GROUP) if mask >> bit & 1)

    def _with_wide(self, narrow: frozenset[int], mask: int) -> frozenset[int] | None:
        assert self.wide is not None
        if mask & ~self.defined(self.wide // GROUP):
            return None
        return narrow | frozenset(self.wide + bit for bit in range(8) if mask >> bit & 1)
