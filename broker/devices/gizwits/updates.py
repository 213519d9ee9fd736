"""How Gizwits devices are updated by campaigns: an image is offered to one device, for as long as it has its turn.

::

    begin ──> notice (0x020E or 0x0211) ──> the device asks ──> offered ──> it downloads ──> it asks again: its version
              now, or once it has              4.4, 4.5          at an address that only this order has
              subscribed

Of several processes the one that has the campaigns tells all of an order (giz.offer) and of its end (giz.end): a device
may listen at one of them, ask at another and download at a third, and each can tell, answer and send.

The image itself stays inactive: nobody else is offered it. The address of a download has a token behind the number,
made of the order's id, so it is known which device has fetched. A device that has begun before the broker was started
again is told once more when it is back: to fetch, or, if it has fetched, to say what it has.

Versions are compared as texts, as agents do: none of them takes one that is not greater than its own.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Any, Final

import msgspec
from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from broker.core import Core
from broker.devices.gizwits.codec import CheckFirmware, encode
from broker.devices.gizwits.firmware import FirmwareStore
from broker.devices.gizwits.identity import PROTOCOL
from broker.devices.gizwits.rollout import KIND_NAMES, Image, notice
from broker.devices.gizwits.topics import response_topic
from broker.model.errors import Conflict, Invalid, NotFound
from broker.model.interfaces import IUpdateProgress, IUpdater
from broker.model.records import DeviceRecord
from broker.model.updates import ACCEPTED, SENT, Order, Release
from broker.storage.deferred import deferred

TOKEN_LENGTH: Final = 32

_pack = msgspec.msgpack.Encoder().encode
_order = msgspec.msgpack.Decoder(Order).decode
_named = msgspec.msgpack.Decoder(tuple[str, str]).decode


class Offer:
    """An image that one device has its turn for."""

    __slots__ = ("image", "order", "sent", "token")

    def __init__(self, order: Order, image: Image) -> None:
        self.order = order
        self.image = image
        self.sent = order.again
        #: Nobody who does not know the order's id can make it.
        self.token = sha256(f"download {order.id}".encode()).hexdigest()[:TOKEN_LENGTH]


@implementer(IUpdater)
class GizwitsUpdater:
    """``tell(did, payload)`` sends a system message; ``host()`` is what stands in download URLs, if that is known."""

    backs_up = False

    def __init__(
        self, core: Core, firmware: FirmwareStore, tell: Callable[[str, bytes], None], host: Callable[[], str]
    ) -> None:
        self._core = core
        self._firmware = firmware
        self._tell = tell
        self._host = host
        self._progress: Any = None
        self._offers: dict[str, Offer] = {}
        self._by_token: dict[str, Offer] = {}
        #: Orders that campaigns of this process have given, by id.
        self._given: dict[str, Order] = {}
        backplane = core.backplane
        backplane.hear("giz.offer", self._heard_offer)
        backplane.hear("giz.end", self._heard_end)
        backplane.hear("giz.fetched", self._heard_fetched)
        backplane.hear("giz.offers", self._asked_for_offers)
        backplane.watch(joined=self.join, fenced=self._given.clear)

    # -- IUpdater --------------------------------------------------------------------------------------------------

    def follow(self, progress: IUpdateProgress) -> None:
        self._progress = progress

    @deferred
    async def find(self, image: str, version: str | None) -> Release:
        """Fails with Invalid, NotFound, Conflict."""
        if not (image.isascii() and image.isdigit() and len(image) <= 10):
            raise Invalid("image: the number of a firmware image (GET /gizwits/firmware)")
        found = self._firmware.get(int(image))
        if version is not None and version != found.soft_version:
            raise Invalid(f"version: that of firmware {found.fid} is {found.soft_version}")
        if found.active:
            raise Conflict(f"firmware {found.fid} is active: devices get it by its rule; switch it off for a campaign")
        details = {"fid": found.fid, "kind": found.kind, "hard_version": found.hard_version}
        return Release(
            protocol=PROTOCOL,
            image=str(found.fid),
            version=found.soft_version,
            product=found.product,
            details=details,
        )

    def version_of(self, info: dict[str, Any], release: Release) -> str | None:
        known = info.get(KIND_NAMES[release.details["kind"]])
        if not isinstance(known, dict):
            return None
        if known.get("fid") == release.details["fid"]:
            return release.version  # agents of OTA v4.0 may know nothing but numbers
        version = known.get("soft_version")
        return None if version is None else str(version)

    def lower(self, one: str, other: str) -> bool:
        return one < other

    def unfit(self, record: DeviceRecord, info: dict[str, Any], release: Release) -> str | None:
        if (record.product or "").lower() != (release.product or "").lower():
            return "it is of another product than the image"
        known = info.get(KIND_NAMES[release.details["kind"]])
        hard = known.get("hard_version") if isinstance(known, dict) else None
        version = self.version_of(info, release)
        return unfit(hard, version, str(release.details["hard_version"]), release.version)

    @deferred
    async def begin(self, order: Order) -> None:
        try:
            self._firmware.get(order.release.details["fid"])
        except NotFound as error:
            self._progress.failed(order.id, error.message)
            return
        self._given[order.id] = order
        self._take(order)
        self._say("giz.offer", _pack(order))

    def _take(self, order: Order) -> None:
        if order.device in self._offers:
            self._drop(self._offers[order.device])
        offer = self._offers[order.device] = Offer(order, self._firmware.get(order.release.details["fid"]))
        self._by_token[offer.token] = offer
        self._notify(offer)

    def withdraw(self, order: Order) -> None:
        offer = self._offers.get(order.device)
        if offer is not None and offer.order.id == order.id and not offer.sent:
            self._end(order.device, order.id)
            self._progress.returned(order.id, "it was taken back")

    def end(self, order: Order, why: str | None) -> None:
        self._end(order.device, order.id)

    def _end(self, device: str, order_id: str) -> None:
        self._given.pop(order_id, None)
        self._drop_order(device, order_id)
        self._say("giz.end", _pack((device, order_id)))

    def _drop_order(self, device: str, order_id: str) -> None:
        offer = self._offers.get(device)
        if offer is not None and offer.order.id == order_id:
            self._drop(offer)

    def ask(self, device_id: str, release: Release) -> None:
        self._tell(device_id, encode(CheckFirmware(release.details["kind"])))

    # -- from the device side --------------------------------------------------------------------------------------

    def subscribed(self, did: str) -> None:
        """A device has just begun to listen."""
        offer = self._offers.get(did)
        if offer is not None:
            self._notify(offer)

    def reported(self, did: str, told: dict[str, Any]) -> Deferred[None]:
        """A device has said what it has of one kind, as its ``info`` holds it. Fails with Unavailable."""
        if self._progress is None:
            return succeed(None)
        reported: Deferred[None] = self._progress.reported(did, told)
        return reported

    def offered(self, did: str, kind: int, hard: str, soft: str) -> Offer | None:
        """What a device that asks is to be given in place of what it has."""
        offer = self._offers.get(did)
        if offer is None or offer.image.kind != kind:
            return None
        why = unfit(hard, soft, offer.image.hard_version, offer.image.soft_version)
        if why is not None:
            self._progress.failed(offer.order.id, why)
            return None
        if offer.order.fetched:
            return None
        offer.sent = True
        self._progress.moved(offer.order.id, ACCEPTED)
        return offer

    def by_token(self, fid: str, token: str) -> Offer | None:
        """Whose download this is."""
        offer = self._by_token.get(token)
        return offer if offer is not None and str(offer.image.fid) == fid else None

    def fetching(self, offer: Offer) -> Deferred[None]:
        """The image may go when this answers. Fails with Unavailable."""
        offer.sent = True
        fetching: Deferred[None] = self._progress.fetching(offer.order.id)
        return fetching

    def fetched(self, offer: Offer) -> None:
        """The last byte was handed to the device's connection."""
        offer.order.fetched = True
        self._say("giz.fetched", _pack((offer.order.device, offer.order.id)))
        self._progress.fetched(offer.order.id)

    # -- other processes -------------------------------------------------------------------------------------------

    def join(self) -> None:
        """Ask for the orders that there are. Called when the images are known."""
        self._say("giz.offers", b"")

    def _say(self, kind: str, body: bytes) -> None:
        if not self._core.backplane.alone and self._core.backplane.node:
            self._core.backplane.tell(kind, body)

    def _asked_for_offers(self, node: str, body: bytes) -> None:
        for order in self._given.values() if node != self._core.backplane.node else ():
            self._say("giz.offer", _pack(order))

    def _heard_offer(self, node: str, body: bytes) -> None:
        if node == self._core.backplane.node:
            return
        order = _order(body)
        known = self._offers.get(order.device)
        if known is not None and known.order.id == order.id:
            return
        try:
            self._take(order)
        except NotFound:  # a device that asks here is told that there is nothing, and asks again
            return

    def _heard_end(self, node: str, body: bytes) -> None:
        if node != self._core.backplane.node:
            self._drop_order(*_named(body))

    def _heard_fetched(self, node: str, body: bytes) -> None:
        device, order_id = _named(body)
        offer = self._offers.get(device)
        if offer is not None and offer.order.id == order_id:
            offer.order.fetched = True

    # -- inside ----------------------------------------------------------------------------------------------------

    def _notify(self, offer: Offer) -> None:
        """Tell the device, if it listens: that there is something, or to say what it has."""
        did = offer.order.device
        if not self._core.topics.route(response_topic(did)).targets:
            return
        live = self._core.devices.get(did)
        known = None if live is None else live.info.get(KIND_NAMES[offer.image.kind])
        ota = str(known.get("ota")) if isinstance(known, dict) else ""
        if not offer.order.fetched:
            offer.sent = True
            self._tell(did, notice(offer.image, ota, self._host(), offer.token))
            self._progress.moved(offer.order.id, SENT)
        elif ota != "4.0":
            self._tell(did, encode(CheckFirmware(offer.image.kind)))

    def _drop(self, offer: Offer) -> None:
        self._by_token.pop(offer.token, None)
        if self._offers.get(offer.order.device) is offer:
            del self._offers[offer.order.device]


def unfit(hard: str | None, soft: str | None, wanted_hard: str, version: str) -> str | None:
    """Why a device that has this cannot be given an image for that hardware; what is not known is no reason."""
    if hard is not None and hard != wanted_hard:
        return f"its hardware version {hard} is not that of the image, {wanted_hard}"
    if soft is not None and not soft < version:
        return f"its version {soft} is not lower than {version}, and agents take no other"
    return None
