"""What campaigns and the protocols' updaters speak of (`broker.model.interfaces.IUpdater`)."""

from __future__ import annotations

from typing import Any, Final

import msgspec

#: Steps that an updater tells of: it has left for the device; the device has said that it will do it, or has asked.
SENT: Final = "sent"
ACCEPTED: Final = "accepted"


class Release(msgspec.Struct, frozen=True, kw_only=True):
    """Firmware that a campaign brings. ``image`` is what the administrator calls it, ``details`` is the protocol's.

    ``product``: the only product that it is for; None where the protocol does not say.
    """

    protocol: str
    image: str
    version: str
    product: str | None = None
    details: dict[str, Any] = {}


class Order(msgspec.Struct, kw_only=True):
    """One attempt at one device. ``id`` is a UUID that is the same after every restart.

    ``again``: it was on its way in an earlier life of the broker. ``fetched``: the device has all of the image.
    ``backup``: make one before. ``patience``: seconds that it may wait to be sent.
    """

    id: str
    device: str
    release: Release
    backup: bool = False
    patience: float = 120.0
    again: bool = False
    fetched: bool = False
