"""What devices ask about firmware over HTTP (4.4, 4.5).

::

    v4.0   GET  /dev/ota/target_fid?...                    -> target_fid=&download_url=&firmware_version=
           GET  /dev/ota/download/{fid}[/{file}]           -> the image
    v4.1   POST /dev/ota/v4.1/update_and_check/{did}       -> soft_ver=&download_url=
           GET  /dev/ota/v4.1/latest?...                   -> the same, without a DID
           GET  /dev/ota/v4.1/download/{fid}               -> the image
    both   a token behind the fid: the download of one device that has its turn in a campaign (`updates`)

Agents look for the CRLF behind the URL (v4.1) or for an ampersand (v4.0), for header names letter by letter, and for
the first bytes of an image in what they receive first. Versions that devices report are remembered in their ``info``:
``info["wifi" | "mcu"]`` = ``{"hard_version", "soft_version", "ota": "4.0" | "4.1", "at", "fid"?}``; ``fid`` is a number
of ours that an agent of v4.0 says it has.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from broker.devices.gizwits import errors as e
from broker.devices.gizwits.firmware import FIRST_FID, FirmwareStore
from broker.devices.gizwits.forms import field, form_of
from broker.devices.gizwits.guesses import proven
from broker.devices.gizwits.hosts import download_host
from broker.devices.gizwits.registration import Registration
from broker.devices.gizwits.rollout import KIND_NAMES, KINDS, Image, download_url
from broker.devices.gizwits.side import GizwitsDevices
from broker.model.records import DeviceRecord
from broker.web.answers import Answer
from broker.web.files import FileAnswer
from broker.web.routes import ANYONE, Call, Route

TEXT: Final = "text/plain; charset=utf-8"
#: As long as a version may be that a device reports.
MAX_VERSION: Final = 32

NO_RULE: Final = e.Code(9500, 400, "Don't have a push rule id on device")
NOT_IN_EFFECT: Final = e.Code(9502, 400, "push rule not in effect or device already upgrade")


def text(*lines: str) -> Answer:
    """A body of texts."""
    return Answer(200, "".join(lines).encode(), TEXT)


class Ota:
    """The calls."""

    def __init__(self, devices: GizwitsDevices, registration: Registration, firmware: FirmwareStore) -> None:
        self._devices = devices
        self._registration = registration
        self._firmware = firmware

    def routes(self) -> tuple[Route, ...]:
        return (
            Route("GET", "/dev/ota/target_fid", self.target_fid, ANYONE, lenient=True),
            Route("GET", "/dev/ota/download/{fid}", self.download_by_fid, ANYONE, lenient=True),
            Route("GET", "/dev/ota/download/{fid}/{file}", self.download_by_fid, ANYONE, lenient=True),
            Route(
                "GET",
                "/dev/ota/download/{fid}/{token}/{file}",
                self.download_by_fid,
                ANYONE,
                lenient=True,
                private=True,
            ),
            Route("POST", "/dev/ota/v4.1/update_and_check/{did}", self.check, ANYONE, accepts=("*/*",), lenient=True),
            Route("GET", "/dev/ota/v4.1/latest", self.latest, ANYONE, lenient=True),
            Route("GET", "/dev/ota/v4.1/download/{fid}", self.download, ANYONE, lenient=True),
            Route("GET", "/dev/ota/v4.1/download/{fid}/{token}", self.download, ANYONE, lenient=True, private=True),
        )

    async def target_fid(self, call: Call) -> Any:
        """Which firmware a device should have, by number (OTA v4.0)"""
        given = first(call)
        did = field(given, "did")
        record = await self._devices.get(did)
        if (record.product or "").lower() != field(given, "product_key").lower():
            raise e.Refused(e.PRODUCT_KEY_INVALID)
        kind, hard, soft = versions(given)
        current = field(given, "current_fid")
        await self._seen(record, kind, hard, soft, "4.0", current)
        image, token = self._for_device(record, kind, hard, soft)
        if current == str(image.fid):
            raise e.Refused(NOT_IN_EFFECT)
        return text(
            f"target_fid={image.fid}&download_url={self.url(call, image, '4.0', token)}",
            f"&firmware_version={image.soft_version}\r\n",
        )

    async def check(self, call: Call) -> Any:
        """What a device has, and which firmware it should have (OTA v4.1)"""
        given = form_of(call.content)
        record = await proven(call, self._registration, call.path["did"], field(given, "passcode"))
        kind, hard, soft = versions(given)
        await self._seen(record, kind, hard, soft, "4.1")
        return self._latest(call, *self._for_device(record, kind, hard, soft))

    async def latest(self, call: Call) -> Any:
        """Which firmware is for all devices of a product (OTA v4.1)"""
        given = first(call)
        kind, hard, soft = versions(given)
        return self._latest(call, self._offer(field(given, "product_key"), kind, hard, None, soft))

    async def download_by_fid(self, call: Call) -> Any:
        """A firmware image (OTA v4.0)"""
        return await self._image(call, b"Firmware-Version")

    async def download(self, call: Call) -> Any:
        """A firmware image (OTA v4.1)"""
        return await self._image(call, b"Soft-Version")

    def url(self, call: Call, image: Image, ota: str, token: str = "") -> str:  # nosec B107 # no password
        """Where the device that calls can download the image."""
        return download_url(download_host(self._devices, call), image, ota, token)

    def _for_device(self, record: DeviceRecord, kind: int, hard: str, soft: str) -> tuple[Image, str]:
        """What a device gets: what it has its turn for in a campaign, with the token; else what rules say."""
        offer = self._devices.updates.offered(record.id, kind, hard, soft)
        if offer is not None:
            return offer.image, offer.token
        return self._offer(record.product or "", kind, hard, record.id, soft), ""

    def _offer(self, product: str, kind: int, hard: str, did: str | None, soft: str) -> Image:
        image = self._firmware.offer(product, kind, hard, did, soft)
        if image is None:
            known = self._firmware.any_for(product, kind, hard)
            raise e.Refused(NOT_IN_EFFECT if known else NO_RULE)
        return image

    def _latest(self, call: Call, image: Image, token: str = "") -> Answer:  # nosec B107 # no password
        return text(f"soft_ver={image.soft_version}&download_url={self.url(call, image, '4.1', token)}\r\n")

    async def _image(self, call: Call, version: bytes) -> FileAnswer:
        updates = self._devices.updates
        sent = offer = None
        if "token" in call.path:
            offer = updates.by_token(call.path["fid"], call.path["token"])
            if offer is None:
                raise e.Refused(e.FIRMWARE_NOT_FOUND)
        image, info = await self._firmware.content(call.path["fid"], offer is not None)
        if offer is not None and call.request.method == b"GET":
            await updates.fetching(offer)  # that is on disk before the first byte leaves
            sent = partial(updates.fetched, offer)
        headers = (
            (version, image.soft_version.encode()),
            (b"Firmware-MD5", image.md5.encode()),
            (b"Content-Disposition", f'attachment; filename="{image.filename}"'.encode()),
        )
        return FileAnswer(self._devices.core.files.path(info), info.size, headers=headers, sent=sent)

    async def _seen(self, record: DeviceRecord, kind: int, hard: str, soft: str, ota: str, fid: str = "") -> None:
        """Remember what the device says that it has, if that is new."""
        name = KIND_NAMES[kind]
        live = self._devices.core.devices.get(record.id)
        known = (record.info if live is None else live.info).get(name)
        told: dict[str, Any] = {"hard_version": hard, "soft_version": soft, "ota": ota}
        if fid.isascii() and fid.isdigit() and len(fid) <= 10 and int(fid) >= FIRST_FID:
            told["fid"] = int(fid)
        if not isinstance(known, dict) or {key: known[key] for key in known if key != "at"} != told:
            await self._devices.update_info(record.id, {name: {**told, "at": round(self._devices.core.clock(), 3)}})
        await self._devices.updates.reported(record.id, {name: told})


def first(call: Call) -> dict[str, str]:
    """The query's parameters, the last of those that are repeated."""
    return {name: values[-1] for name, values in call.arguments().items()}


def versions(given: dict[str, str]) -> tuple[int, str, str]:
    """Kind, hardware and software version of what a device says. Raises Refused."""
    kind = field(given, "type")
    number = KINDS.get(kind) or {str(one): one for one in KIND_NAMES}.get(kind)
    if number is None:
        raise e.Refused(e.FORM_INVALID, "type has to be 1 (WiFi) or 2 (MCU)")
    found = []
    for name in ("hard_version", "soft_version"):
        value = field(given, name)
        if len(value) > MAX_VERSION or not value.isprintable():
            raise e.Refused(e.FORM_INVALID, f"{name} has at most {MAX_VERSION} printable characters")
        found.append(value)
    return number, found[0], found[1]
