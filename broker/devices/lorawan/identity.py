"""Who a mote is: the rules of its registration, and what its record says.

::

    {id: DevEUI, join_eui, app_key?}                        OTAA; the AppKey is made when it is left out
    {id: DevEUI, dev_addr, nwk_s_key, app_s_key}            ABP
    both with  class: "A" | "C"   region?: a row of the region tables
               adr?: bool   rx1_delay?, rx1_offset?, rx2_frequency?, rx2_rate?, max_duty_cycle?, channels?: what the
               mote is to be set to, in place of what the settings say (`mac.parameters`)
    {id: DevEUI, network: "chirpstack", application?, class?, join_eui?}
                                                            a mote on ChirpStack, which has its keys; application is
                                                            ChirpStack's id of it, join_eui is only told

Keys are used by the broker itself, so they are kept readable. The AppKey is the device's ``secret``.
"""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

from broker.devices.lorawan.mac import parameters
from broker.devices.lorawan.mac.parameters import Own
from broker.devices.lorawan.regions import REGIONS, Region
from broker.model.errors import Invalid
from broker.model.records import DeviceRecord
from broker.model.secrets import make_secret

_EUI: Final = re.compile(r"[0-9A-Fa-f]{16}")
_KEY: Final = re.compile(r"[0-9A-Fa-f]{32}")
_ADDR: Final = re.compile(r"[0-9A-Fa-f]{8}")
_SEPARATED: Final = re.compile(r"[0-9A-Fa-f]{2}(?:([:-])[0-9A-Fa-f]{2}(?:\1[0-9A-Fa-f]{2}){6})")
ABP_FIELDS: Final = ("dev_addr", "nwk_s_key", "app_s_key")
CLASSES: Final = ("A", "C")
#: Whose mote it is: our own network's, or ChirpStack's.
OWN: Final = "own"
CHIRPSTACK: Final = "chirpstack"
_APPLICATION: Final = re.compile(r"[0-9A-Za-z-]{1,64}")


def canonical_eui(text: str) -> str | None:
    """16 upper-case hexadecimal digits, from those or from eight pairs with colons or hyphens; None for others."""
    text = text.strip()
    if _SEPARATED.fullmatch(text):
        text = text.replace(":", "").replace("-", "")
    return text.upper() if _EUI.fullmatch(text) else None


def _hex(fields: dict[str, Any], name: str, form: re.Pattern[str], digits: int) -> str | None:
    value = fields.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or form.fullmatch(value) is None:
        raise Invalid(f"{name} of a lorawan device is {digits} hexadecimal digits")
    return value


class DeviceRules:
    """How motes are registered (see `broker.storage.registry`)."""

    hashed: Final = False
    known_fields: Final[frozenset[str]] = frozenset(
        {"join_eui", *ABP_FIELDS, "class", "region", "network", "application", *parameters.FIELDS}
    )
    #: Another name of the secret in what comes from outside.
    secret_name: Final = "app_key"

    def normal_id(self, id: str | None, fields: dict[str, Any]) -> str:
        """The DevEUI. Raises Invalid, also for the fields."""
        eui = None if id is None else canonical_eui(id)
        if eui is None:
            raise Invalid("the id of a lorawan device is its DevEUI, 16 hexadecimal digits")
        if fields:
            _check(fields)
        return eui

    def make_secret(self) -> str:
        """An AppKey: 32 hexadecimal digits."""
        return make_secret()[:32].upper()

    def check_secret(self, secret: str) -> None:
        """Raises Invalid."""
        if _KEY.fullmatch(secret) is None:
            raise Invalid("the app_key of a lorawan device is 32 hexadecimal digits")


def _check(fields: dict[str, Any]) -> None:
    join_eui = _hex(fields, "join_eui", _EUI, 16)
    abp = [
        _hex(fields, "dev_addr", _ADDR, 8),
        _hex(fields, "nwk_s_key", _KEY, 32),
        _hex(fields, "app_s_key", _KEY, 32),
    ]
    if _on_chirpstack(fields):
        if any(value is not None for value in abp):
            raise Invalid("a lorawan device on chirpstack has no keys here: ChirpStack has them")
    elif join_eui is None and None in abp:
        raise Invalid("a lorawan device needs join_eui (OTAA), or dev_addr, nwk_s_key and app_s_key (ABP)")
    if join_eui is not None and any(value is not None for value in abp):
        raise Invalid("a lorawan device has join_eui (OTAA) or dev_addr, nwk_s_key, app_s_key (ABP), not both")
    if fields.get("class", "A") not in CLASSES:
        raise Invalid("class of a lorawan device is A or C")
    region = fields.get("region")
    if region is not None and region not in REGIONS:
        raise Invalid(f"region must be one of: {', '.join(sorted(REGIONS))}")
    fault = parameters.faults(fields)
    if fault is None and region is not None:
        fault = REGIONS[region].unfit(fields.get("rx2_rate"), fields.get("channels") or ())
    if fault is not None:
        raise Invalid(fault)


def _on_chirpstack(fields: dict[str, Any]) -> bool:
    """Also looks at the fields that say so."""
    network, application = fields.get("network") or OWN, fields.get("application")
    if network not in (OWN, CHIRPSTACK):
        raise Invalid(f"network of a lorawan device is {OWN} or {CHIRPSTACK}")
    if application is not None:
        if network != CHIRPSTACK:
            raise Invalid("application is only of lorawan devices on chirpstack")
        if not isinstance(application, str) or _APPLICATION.fullmatch(application) is None:
            raise Invalid("application of a lorawan device is ChirpStack's id of it")
    return bool(network == CHIRPSTACK)


class AbpSession(NamedTuple):
    """What an ABP mote was made with."""

    dev_addr: int
    nwk_s_key: bytes
    app_s_key: bytes

    def __repr__(self) -> str:
        return f"AbpSession({self.dev_addr:08X})"


class Identity:
    """A mote's record, read. Secrets do not show."""

    __slots__ = (
        "abp",
        "app_key",
        "application",
        "class_c",
        "class_given",
        "dev_eui",
        "disabled",
        "join_eui",
        "on_chirpstack",
        "own",
        "region",
    )

    def __init__(self, record: DeviceRecord) -> None:
        fields = record.attributes
        self.dev_eui = record.id
        self.disabled = record.disabled
        self.on_chirpstack = fields.get("network") == CHIRPSTACK
        #: ChirpStack's id of it; empty where it was not registered.
        self.application: str = fields.get("application") or ""
        self.class_c = fields.get("class") == "C"
        self.class_given = fields.get("class") is not None
        self.region: Region | None = REGIONS.get(fields.get("region") or "")
        self.own: Own | None = parameters.own(fields)
        join_eui = fields.get("join_eui")
        self.join_eui = None if join_eui is None else int(join_eui, 16)
        self.app_key = b"" if join_eui is None or self.on_chirpstack else bytes.fromhex(record.secret)
        self.abp: AbpSession | None = None
        if join_eui is None and not self.on_chirpstack:
            address, nwk_s_key, app_s_key = (fields[name] for name in ABP_FIELDS)
            self.abp = AbpSession(int(address, 16), bytes.fromhex(nwk_s_key), bytes.fromhex(app_s_key))
