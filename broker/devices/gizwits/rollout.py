"""Which firmware a device should have: images, their rules, and the choice between them. Pure.

An image is for one product, kind (WiFi module or MCU) and hardware version. A device is offered the one with the
greatest software version among those that are active, cover it, and are greater than its own; versions are compared as
texts, as agents do before they upgrade.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from broker.devices.gizwits.codec import MCU, WIFI, CheckFirmware, Firmware, encode

#: Words of our API for the kinds.
KINDS: Final = {"wifi": WIFI, "mcu": MCU}
KIND_NAMES: Final = {number: name for name, number in KINDS.items()}

Version = Annotated[str, Meta(min_length=1, max_length=32, pattern=r"^[!-%'-~]+$")]
Did = Annotated[str, Meta(pattern=r"^[0-9A-Za-z]{22}$")]
Percent = Annotated[int, Meta(ge=0, le=100)]


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who gets an image: devices that fit every field."""

    #: The DIDs of the devices that may have it; null: all.
    devices: Annotated[tuple[Did, ...], Meta(max_length=10_000)] | None = None
    #: So many percent of these: always the same devices of an image, and more of them as it grows.
    percentage: Percent = 100
    #: Only devices that have one of these software versions; empty: any.
    from_versions: Annotated[tuple[Version, ...], Meta(max_length=100)] = ()

    @property
    def for_everybody(self) -> bool:
        """Whether it needs no DID to say that a device is covered."""
        return self.devices is None and self.percentage == 100

    def covers(self, fid: int, did: str | None, version: str) -> bool:
        """Whether the device with this DID (None: nobody knows) and software version gets the image."""
        if self.from_versions and version not in self.from_versions:
            return False
        if did is None:
            return self.for_everybody
        if self.devices is not None and did not in self.devices:
            return False
        return share_of(fid, did) < self.percentage


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """A firmware image; its bytes are a file. ``fid`` is what OTA v4.0 calls it. ``created_at``: UNIX seconds."""

    fid: int
    product: str
    kind: int
    hard_version: str
    soft_version: str
    file: str
    filename: str
    size: int
    md5: str
    created_at: float
    active: bool = False
    rule: Rule = Rule()


def share_of(fid: int, did: str) -> int:
    """0 to 99: where in the order of a rollout by percentage the device stands."""
    return int.from_bytes(sha256(f"{fid} {did}".encode()).digest()[:4], "big") % 100


def choose(images: Iterable[Image], did: str | None, version: str) -> Image | None:
    """Of images for one product, kind and hardware version: the one for a device with this version, or None."""
    fitting = [
        image
        for image in images
        if image.active and version < image.soft_version and image.rule.covers(image.fid, did, version)
    ]
    return max(fitting, key=lambda image: (image.soft_version, image.fid), default=None)


def download_url(host: str, image: Image, ota: str, token: str = "") -> str:  # nosec B107 # no password
    """Of an image, for agents of either kind; with a ``token``, for one device."""
    number = f"{image.fid}/{token}" if token else str(image.fid)
    if ota == "4.0":
        return f"http://{host}/dev/ota/download/{number}/{image.filename}"
    return f"http://{host}/dev/ota/v4.1/download/{number}"


def notice(image: Image, ota: str, host: str, token: str = "") -> bytes:  # nosec B107 # no password
    """What a device is told when there is an image for it. Without a host only agents of v4.1 can be told."""
    if ota == "4.0" and host:
        return encode(Firmware(image.kind, image.fid, download_url(host, image, ota, token)))
    return encode(CheckFirmware(image.kind))
