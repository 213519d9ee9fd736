"""The cast of the demo: which products, devices and applications there are. Their ids are the same in every run.

Everything has a name in English and one in Chinese. The aliases (``eui``) are what a customer server calls devices of
other protocols.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple
from uuid import NAMESPACE_URL, uuid5

from broker.devices.gizwits.identity import derived_did
from broker.simulate.gateway88.behaviour import mac_of, mac_text
from broker.simulate.gizwits_traits import gizwits_identity

NOVACLOUD: Final = "novacloud"
GATEWAY88: Final = "gateway88"
GIZWITS: Final = "gizwits"
LORAWAN: Final = "lorawan"
PROTOCOLS: Final = (NOVACLOUD, GATEWAY88, GIZWITS, LORAWAN)

CLIMATE: Final = "demo-climate"
LIGHT: Final = "demo-light"
GATEWAY: Final = "demo-gateway"
MOTE: Final = "demo-mote"
#: A Gizwits product key.
LAMP: Final = "de300000de300000de300000de300000"
#: Of the numbers that ids follow from, so that no other simulated fleet has the same ones.
SEED: Final = 0xDE30

#: id, kind and name of each application.
DASHBOARD: Final = "demo-dashboard"
CLIENT: Final = "demo-client"
BACKEND: Final = "demo-backend"
MONITOR: Final = "demo-monitor"
CLOUD: Final = "demo-gizwits"
CUSTOMER: Final = "demo-customer"
APPLICATIONS: Final = {
    DASHBOARD: ("mqtt", "Dashboard · 仪表盘"),
    CLIENT: ("mqtt", "Plain MQTT client · 普通 MQTT 客户端"),
    BACKEND: ("http", "Backend · 业务后台"),
    MONITOR: ("http", "Monitor · 监控"),
    CLOUD: ("gizwits", "Gizwits application · 机智云应用"),
}
CUSTOMER_NAME: Final = "Customer server · 客户服务器"
CS_EUI: Final = "DE30000000000000"
#: People of the Gizwits application: what they use is no application of its own.
PHONE: Final = "phone-app"
WEB: Final = "web-app"

#: What is shown of whom: key -> (what it is, how it talks to the broker).
SIDES: Final = {
    "mqtt-dashboard": ("Dashboard", "MQTT 3.1.1"),
    "mqtt-client": ("Plain client", "MQTT 5"),
    "http-backend": ("Backend", "HTTP"),
    "ws-monitor": ("Monitor", "WebSocket"),
    "gizwits-cloud": ("Gizwits cloud", "MQTT 3.1"),
    PHONE: ("Gizwits phone", "Open API, MQTT"),
    WEB: ("Gizwits web", "WebSocket"),
    "customer-server": ("Customer server", "LoRaCenter"),
}
#: An app's user binds devices with their passcode, which 0x88 gateways do not have.
CELLS: Final = tuple(
    (protocol, side) for side in SIDES for protocol in PROTOCOLS if not (protocol == GATEWAY88 and side in (PHONE, WEB))
)


class Subject(NamedTuple):
    """A device. ``number`` is what ids and MACs follow from, ``eui`` its alias, or its DevEUI.

    ``prompt``: it can be commanded as soon as it is switched on. ``class_c``: a mote that always listens.
    """

    protocol: str
    id: str
    name: str
    product: str
    number: int
    eui: str = ""
    prompt: bool = True
    class_c: bool = False


def _novacloud(number: int, name: str, product: str) -> Subject:
    id = str(uuid5(NAMESPACE_URL, f"urn:broker:demo:{name.partition(' ')[0]}"))
    return Subject(NOVACLOUD, id, name, product, number, f"DE3000000000A{number:03X}")


def _gateway(number: int, name: str) -> Subject:
    return Subject(GATEWAY88, mac_text(mac_of(SEED, number)), name, GATEWAY, number, f"DE3000000000B{number:03X}")


def _lamp(number: int, name: str) -> Subject:
    mac = gizwits_identity(LAMP, SEED, number).mac
    return Subject(GIZWITS, derived_did(LAMP, mac), name, LAMP, number, f"DE3000000000C{number:03X}")


def _mote(number: int, name: str, *, joins: bool = False, class_c: bool = False) -> Subject:
    eui = f"DE3000000000D{number:03X}"
    return Subject(LORAWAN, eui, name, MOTE, number, eui, not joins, class_c)


SUBJECTS: Final = (
    _novacloud(1, "climate-1 客厅", CLIMATE),
    _novacloud(2, "climate-2 卧室", CLIMATE),
    _novacloud(3, "climate-3 厨房", CLIMATE),
    _novacloud(4, "light-1 走廊", LIGHT),
    _novacloud(5, "light-2 车库", LIGHT),
    _gateway(1, "gateway-1 大厅"),
    _gateway(2, "gateway-2 屋顶"),
    _gateway(3, "gateway-3 仓库"),
    _lamp(1, "lamp-1 书房"),
    _lamp(2, "lamp-2 阳台"),
    _lamp(3, "lamp-3 花园"),
    _mote(1, "mote-1 果园"),
    _mote(2, "mote-2 温室"),
    _mote(3, "mote-3 水塔"),
    _mote(4, "mote-4 山坡"),
    _mote(5, "mote-5 鱼塘"),
    _mote(6, "mote-6 牧场"),
    _mote(7, "valve-1 水渠", class_c=True),
    _mote(8, "valve-2 泵站", class_c=True),
    _mote(9, "mote-7 粮仓", joins=True),
    _mote(10, "valve-3 水库", joins=True, class_c=True),
)
BY_ID: Final = {subject.id: subject for subject in SUBJECTS}
BY_EUI: Final = {subject.eui: subject for subject in SUBJECTS}
#: A gateway that nobody has registered.
STRANGER: Final = mac_of(SEED, 0)
FORWARDERS: Final = (("DE30000000000F01", "roof · 屋顶"), ("DE30000000000F02", "hill · 山顶"))


def crowd(count: int) -> list[Subject]:
    """So many further devices, which no application has anything to do with. Four in ten are NovaCloud's."""
    return [_one_of_crowd(number) for number in range(count)]


def _one_of_crowd(number: int) -> Subject:
    name = f"extra-{number:05d}"
    match number % 5:
        case 0 | 3:
            return Subject(NOVACLOUD, str(uuid5(NAMESPACE_URL, f"urn:broker:demo:{name}")), name, CLIMATE, number)
        case 1:
            return Subject(GATEWAY88, mac_text(mac_of(SEED, 1000 + number)), name, GATEWAY, number)
        case 2:
            identity = gizwits_identity(LAMP, SEED, 1000 + number)
            return Subject(GIZWITS, derived_did(LAMP, identity.mac), name, LAMP, 1000 + number)
        case _:
            return Subject(LORAWAN, f"DE300000000{number + 0x10000:05X}", name, MOTE, number, prompt=False)


def of(protocol: str) -> list[Subject]:
    """All devices of a protocol."""
    return [subject for subject in SUBJECTS if subject.protocol == protocol]


def short(subject: Subject) -> str:
    """Its name in a line."""
    return subject.name.partition(" ")[0]


def _sensors(*rows: tuple[str, str, str]) -> list[dict[str, str]]:
    return [{"value_key": key, "name": name, "unit": unit} for key, name, unit in rows]


def _actuators(*rows: tuple[str, str]) -> list[dict[str, str]]:
    return [{"command_key": key, "name": name} for key, name in rows]


def _product(key: str, protocol: str, name: str, sensors: Iterable[Any], actuators: Iterable[Any]) -> dict[str, Any]:
    return {
        "key": key,
        "protocol": protocol,
        "name": name,
        "sensors": list(sensors),
        "actuators": list(actuators),
    }


#: Bodies of ``POST /products``. What devices say besides stays unmapped, for the console to make sensors of.
PRODUCTS: Final = (
    _product(
        CLIMATE,
        NOVACLOUD,
        "Climate sensor · 环境传感器",
        _sensors(
            ("temperature", "Temperature · 温度", "°C"),
            ("humidity", "Humidity · 湿度", "%"),
            ("pressure", "Pressure · 气压", "kPa"),
            ("is_window_open", "Window · 窗户", ""),
            ("battery", "Battery · 电量", "%"),
            ("signal", "Signal · 信号", "dBm"),
        ),
        _actuators(("set_temperature", "Set point · 设定温度"), ("fan_speed", "Fan · 风速")),
    ),
    _product(
        LIGHT,
        NOVACLOUD,
        "Light · 灯",
        _sensors(("light", "Brightness · 照度", "lx"), ("battery", "Battery · 电量", "%")),
        _actuators(("light_switch", "Switch · 开关")),
    ),
    _product(
        GATEWAY,
        GATEWAY88,
        "ZigBee gateway · ZigBee 网关",
        _sensors(
            ("totalram", "RAM · 内存", "B"),
            ("freeram", "Free RAM · 可用内存", "B"),
            ("totaldisk", "Flash · 闪存", "B"),
            ("freedisk", "Free flash · 可用闪存", "B"),
        ),
        _actuators(("led", "LED · 指示灯"), ("permit_join", "Permit joining · 允许入网")),
    ),
    _product(
        LAMP,
        GIZWITS,
        "Lamp · 智能灯",
        _sensors(
            ("power", "Power · 开关", ""),
            ("brightness", "Brightness · 亮度", "%"),
            ("temperature", "Temperature · 温度", "°C"),
        ),
        _actuators(("power", "Power · 开关"), ("brightness", "Brightness · 亮度")),
    ),
    _product(MOTE, LORAWAN, "Field sensor · 田间传感器", (), ()),
)
