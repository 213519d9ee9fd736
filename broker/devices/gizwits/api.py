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
    """What an image is for. ``type``: wifi or mcu. ``filename``: what devices see, ``*.bin`` or ``*.hex``."""

    product: str
    type: str
    hard_version: Version
    soft_version: Version
    filename: str = "firmware.bin"


class FirmwareFilter(msgspec.Struct, kw_only=True, frozen=True):
    product: str | None = None


class FirmwareChange(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """What is left out stays. Devices that are online and covered are told when an image is, or stays, active."""

    active: bool | None = None
    rule: Rule | None = None


class FirmwareShape(msgspec.Struct, kw_only=True):
    """An image and who gets it. ``told``: how many devices were told now."""

    id: int
    product: str
    type: str
    hard_version: str
    soft_version: str
    filename: str
    size: int
    md5: str
    active: bool
    rule: Rule
    created_at: float
    told: int | msgspec.UnsetType = msgspec.UNSET


class FirmwareList(msgspec.Struct):
    items: list[FirmwareShape]
    next: str | None = None


class LogSwitches(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Levels that a device logs, and its LEDs; what is left out stays."""

    error: bool | msgspec.UnsetType = msgspec.UNSET
    warning: bool | msgspec.UnsetType = msgspec.UNSET
    info: bool | msgspec.UnsetType = msgspec.UNSET
    leds: bool | msgspec.UnsetType = msgspec.UNSET


class LogShape(msgspec.Struct, kw_only=True):
    """``sent``: not waiting for the device to come back. ``confirmed``: the device has said that it has taken them."""

    error: bool = False
    warning: bool = False
    info: bool = False
    leds: bool = False
    bits: Annotated[int, Meta(ge=0)] = 0
    sent: bool = False
    confirmed: bool = False


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
            Route("GET", one, self.get_firmware, ADMIN, answers=FirmwareShape),
            Route("PATCH", one, self.change_firmware, ADMIN, body=FirmwareChange, answers=FirmwareShape),
            Route("DELETE", one, self.delete_firmware, ADMIN, status=204),
            Route("GET", log, self.get_log, APPLICATION, answers=LogShape),
            Route(
                "PUT",
                log,
                self.put_log,
                APPLICATION,
                body=LogSwitches,
                answers=LogShape,
                also={202: (LogShape, "The device is away; it is told when it is back")},
            ),
            Route("GET", switches, self.get_switches, ADMIN, answers=Switches),
            Route("PUT", switches, self.put_switches, ADMIN, body=Switches, answers=Switches),
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
