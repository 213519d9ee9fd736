"""The calls that Gizwits devices add to the API: firmware and its rollout, log settings, switches of products."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from broker.devices.gizwits.identity import PROTOCOL
from broker.devices.gizwits.log_switches import bits_of, remembered, setting
from broker.devices.gizwits.rollout import KIND_NAMES, KINDS, Image, Rule, Version
from broker.devices.gizwits.side import GizwitsDevices
from broker.devices.gizwits.switches import Switches
from broker.model.errors import Conflict, Invalid, NotFound
from broker.model.records import DeviceRecord
from broker.web.answers import Answer
from broker.web.routes import ADMIN, API, APPLICATION, Call, Route

FIRMWARE: Final = f"{API}/gizwits/firmware"
#: What devices see of a file's name.
_FILENAME: Final = re.compile(r"[A-Za-z0-9._-]{1,60}\.(bin|hex)")


class NewFirmware(msgspec.Struct, kw_only=True, frozen=True):
    """What an image is for. No device of the product gets it before it is active."""

    #: The key of the product.
    product: str
    #: wifi: of the module; mcu: of the device's own processor.
    type: str
    #: The hardware version that it is for.
    hard_version: Version
    #: Its own version; versions are compared as texts, and only devices with a lower one get it.
    soft_version: Version
    #: What devices see: ``*.bin`` or ``*.hex``, before that 1 to 60 of the characters A-Z a-z 0-9 . _ -
    filename: str = "firmware.bin"


class FirmwareFilter(msgspec.Struct, kw_only=True, frozen=True):
    """Which images."""

    #: Only images for the product with this key.
    product: str | None = None


class FirmwareChange(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """What is left out, or null, stays. Devices that are online and covered are told when an image is, or stays,
    active.
    """

    #: Whether devices get it.
    active: bool | None = None
    #: Which devices get it, the whole rule anew.
    rule: Rule | None = None


class FirmwareShape(msgspec.Struct, kw_only=True):
    """An image and who gets it."""

    #: Its number.
    id: int
    #: The key of the product that it is for.
    product: str
    #: wifi: of the module; mcu: of the device's own processor.
    type: str
    #: The hardware version that it is for.
    hard_version: str
    #: Its own version.
    soft_version: str
    #: What devices see as its name.
    filename: str
    #: Bytes.
    size: int
    #: The MD5 of the image, 32 lower-case hexadecimal digits.
    md5: str
    #: Whether devices get it.
    active: bool
    #: Which devices get it.
    rule: Rule
    #: When it was handed in (UNIX seconds).
    created_at: float
    #: How many devices that are online are told of it now; only in the answer to a change.
    told: int | msgspec.UnsetType = msgspec.UNSET


class FirmwareList(msgspec.Struct):
    """All images, or those for one product."""

    #: The images.
    items: list[FirmwareShape]
    #: Always null: this is the whole list.
    next: str | None = None


class LogSwitches(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """What a device logs, and its LEDs; what is left out stays."""

    #: Whether it logs errors.
    error: bool | msgspec.UnsetType = msgspec.UNSET
    #: Whether it logs warnings.
    warning: bool | msgspec.UnsetType = msgspec.UNSET
    #: Whether it logs what is no trouble.
    info: bool | msgspec.UnsetType = msgspec.UNSET
    #: Whether its LEDs are on.
    leds: bool | msgspec.UnsetType = msgspec.UNSET


class LogShape(msgspec.Struct, kw_only=True):
    """What a device logs, as far as that is known, and its LEDs."""

    #: Whether it logs errors.
    error: bool = False
    #: Whether it logs warnings.
    warning: bool = False
    #: Whether it logs what is no trouble.
    info: bool = False
    #: Whether its LEDs are on.
    leds: bool = False
    #: All of that as one number, as devices are sent it.
    bits: Annotated[int, Meta(ge=0)] = 0
    #: Whether the device was sent it; else it waits for the device to come back.
    sent: bool = False
    #: Whether the device has said that it has taken it; some never do.
    confirmed: bool = False


class FirmwarePath(msgspec.Struct):
    """Which image."""

    #: The number of the firmware image.
    id: str


class DidPath(msgspec.Struct):
    """Which device."""

    #: The DID of the device, 22 characters.
    id: str


class ProductPath(msgspec.Struct):
    """Which product."""

    #: The key of the product.
    key: str


def shape_of(image: Image, told: int | msgspec.UnsetType = msgspec.UNSET) -> FirmwareShape:
    return FirmwareShape(
        id=image.fid,
        product=image.product,
        type=KIND_NAMES[image.kind],
        hard_version=image.hard_version,
        soft_version=image.soft_version,
        filename=image.filename,
        size=image.size,
        md5=image.md5,
        active=image.active,
        rule=image.rule,
        created_at=round(image.created_at, 3),
        told=told,
    )


class Calls:
    """The handlers."""

    def __init__(self, devices: GizwitsDevices) -> None:
        self._devices = devices

    async def add_firmware(self, call: Call) -> Any:
        """Hand in a firmware image of Gizwits devices; nobody gets it before it is active"""
        wish: NewFirmware = call.query
        if wish.type not in KINDS:
            raise Invalid("type must be one of: mcu, wifi")
        if _FILENAME.fullmatch(wish.filename) is None:
            raise Invalid("filename must be *.bin or *.hex of the characters A-Z a-z 0-9 . _ -")
        image = await self._devices.firmware.add(
            wish.product, KINDS[wish.type], wish.hard_version, wish.soft_version, wish.filename, call.upload
        )
        return shape_of(image)

    async def list_firmware(self, call: Call) -> Any:
        """Firmware images of Gizwits devices"""
        return FirmwareList([shape_of(image) for image in self._devices.firmware.images(call.query.product)])

    async def get_firmware(self, call: Call) -> Any:
        """A firmware image and who gets it"""
        return shape_of(self._devices.firmware.get(self._fid(call)))

    async def change_firmware(self, call: Call) -> Any:
        """Switch a firmware image on or off, or give it to other devices"""
        wish: FirmwareChange = call.body
        image = await self._devices.firmware.change(self._fid(call), wish.active, wish.rule)
        return shape_of(image, self._devices.notices.announce(image) if image.active else 0)

    async def delete_firmware(self, call: Call) -> Any:
        """Delete a firmware image"""
        await self._devices.firmware.remove(self._fid(call))

    async def get_log(self, call: Call) -> Any:
        """Which log levels and LEDs of a Gizwits device are on, as far as that is known"""
        record = await self._device(call)
        return LogShape(**(remembered(self._info(record)) or {}))

    async def put_log(self, call: Call) -> Any:
        """Switch log levels and LEDs of a Gizwits device, now or when it is back"""
        record = await self._device(call)
        before = remembered(self._info(record))
        switches = {name: value for name, value in msgspec.structs.asdict(call.body).items() if isinstance(value, bool)}
        bits = bits_of(switches, before["bits"] if before is not None else 0)
        sent = await self._devices.set_log(record.id, bits)
        return Answer(200 if sent else 202, LogShape(**setting(bits, sent)))

    async def get_switches(self, call: Call) -> Any:
        """What is particular to the agents of a Gizwits product"""
        await self._product(call)
        return self._devices.switches(call.path["key"])

    async def put_switches(self, call: Call) -> Any:
        """Say what is particular to the agents of a Gizwits product; it counts from the next log-in of a device"""
        await self._product(call)
        await self._devices.set_switches(call.path["key"], call.body)
        return call.body

    def routes(self) -> tuple[Route, ...]:
        one = f"{FIRMWARE}/{{id}}"
        log = f"{API}/gizwits/devices/{{id}}/log"
        switches = f"{API}/gizwits/products/{{key}}/switches"
        return (
            Route(
                "POST",
                FIRMWARE,
                self.add_firmware,
                ADMIN,
                upload=True,
                query=NewFirmware,
                status=201,
                answers=FirmwareShape,
            ),
            Route("GET", FIRMWARE, self.list_firmware, ADMIN, query=FirmwareFilter, answers=FirmwareList),
            Route("GET", one, self.get_firmware, ADMIN, answers=FirmwareShape, path_shape=FirmwarePath),
            Route(
                "PATCH",
                one,
                self.change_firmware,
                ADMIN,
                body=FirmwareChange,
                answers=FirmwareShape,
                path_shape=FirmwarePath,
            ),
            Route("DELETE", one, self.delete_firmware, ADMIN, status=204, path_shape=FirmwarePath),
            Route("GET", log, self.get_log, APPLICATION, answers=LogShape, path_shape=DidPath),
            Route(
                "PUT",
                log,
                self.put_log,
                APPLICATION,
                body=LogSwitches,
                answers=LogShape,
                also={202: (LogShape, "The device is away; it is told when it is back")},
                path_shape=DidPath,
            ),
            Route("GET", switches, self.get_switches, ADMIN, answers=Switches, path_shape=ProductPath),
            Route("PUT", switches, self.put_switches, ADMIN, body=Switches, answers=Switches, path_shape=ProductPath),
        )

    def _fid(self, call: Call) -> int:
        text = call.path["id"]
        if not (text.isascii() and text.isdigit() and len(text) <= 10):
            raise NotFound(f"there is no firmware {text!r}"[:200])
        return int(text)

    async def _device(self, call: Call) -> DeviceRecord:
        did = call.path["id"]
        call.caller.check_device(did)
        record: DeviceRecord = await self._devices.core.registry.get_device(did)
        if record.protocol != PROTOCOL:
            raise Conflict(f"device {did!r} is not of Gizwits")
        return record

    def _info(self, record: DeviceRecord) -> dict[str, Any]:
        live = self._devices.core.devices.get(record.id)
        return record.info if live is None else live.info

    async def _product(self, call: Call) -> None:
        product = await self._devices.core.registry.get_product(call.path["key"])
        if product is None or product.protocol != PROTOCOL:
            raise NotFound(f"there is no gizwits product {call.path['key']!r}"[:200])
