"""``python -m tests.console.pictures docs/pictures``: each page of the console in both languages, for the documents."""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import mkdtemp
from time import sleep
from typing import Any

from broker.simulate.gateway88.behaviour import mac_of, mac_text
from tests.console.stage import Stage, Visit
from tests.real import eventually

SIZE = {"width": 1200, "height": 800}
#: Seconds that a fleet speaks before the first picture, and that a page has to draw.
WARM = 25
DRAW = 2.5
FIRST = mac_text(mac_of(1, 0))


def populate(stage: Stage) -> dict[str, str]:
    """A fleet of every protocol; which device is shown of each."""
    broker = stage.broker
    broker.made("/products", {"key": "greenhouse", "name": "Greenhouse", "protocol": "novacloud", **PRODUCT})
    broker.made("/applications", {"kind": "mqtt", "id": "dashboard", "name": "Dashboard"})
    broker.made(
        "/applications",
        {
            "kind": "loracenter",
            "id": "customer",
            "cs_eui": "AA555A0000000000",
            "app_key": "00112233445566778899AABBCCDDEEFF",
        },
    )
    stage.simulate("novacloud", "--count", "6", "--every", "1", "--port", str(broker.ports["novacloud"]))
    stage.simulate("gateway88", "--count", "6", "--every", "2", "--port", str(stage.gateway_port))
    stage.simulate("gizwits", "--count", "4", "--every", "2", "--port", str(broker.ports["gservice"]))
    lorawan = ("--motes", "6", "--class-c", "2", "--region", "eu868", "--every", "4")
    stage.simulate("lorawan", *lorawan, "--port", str(broker.ports["lorawan"]))
    stage.simulate_stranger(77)

    def online(protocol: str) -> list[Any]:
        return list(broker.call("GET", f"/devices?protocol={protocol}&online=true")[1]["items"])

    wanted = {"novacloud": 6, "gateway88": 6, "gizwits": 4, "lorawan": 6}
    eventually(lambda: all(len(online(name)) >= count for name, count in wanted.items()), "the fleet is online", 90)
    device = str(online("novacloud")[0]["id"])
    broker.call("PATCH", f"/devices/{device}", {"product": "greenhouse", "name": "Greenhouse 1"})
    broker.call("POST", f"/devices/{device}/commands?wait=5", {"payload": {"light": "ON"}})
    broker.call("POST", f"/gateways/{FIRST}/backup", {})
    broker.call("PUT", "/files/relay-2.4.bin", b"image" * 1000)
    campaign = {
        "protocol": "gateway88",
        "name": "Relay 2.4",
        "image": "relay-2.4.bin",
        "version": "2.4",
        "targets": {"filter": {}},
        "pace": {"concurrency": 2},
    }
    made = broker.call("POST", "/campaigns", campaign)[1]
    broker.call("POST", f"/campaigns/{made['id']}/start")
    sleep(WARM)
    return {"device": device, "campaign": str(made["id"])}


PRODUCT = {
    "sensors": [
        {"value_key": "temperature", "name": "Temperature", "unit": "°C"},
        {"value_key": "humidity", "unit": "%"},
    ],
    "actuators": [{"command_key": "light", "name": "Light"}],
}


def take(stage: Stage, shown: dict[str, str], folder: Path) -> None:
    pages = {
        "overview": ("overview",),
        "devices": ("devices",),
        "device": ("devices", shown["device"]),
        "messages": ("devices", shown["device"], "messages"),
        "commands": ("devices", shown["device"], "commands"),
        "presence": ("devices", shown["device"], "presence"),
        "operations": ("devices", FIRST, "commands"),
        "gateways": ("gateways",),
        "quarantine": ("gateways", "quarantine"),
        "backups": ("gateways", "backups"),
        "campaigns": ("campaigns",),
        "campaign": ("campaigns", shown["campaign"]),
        "lorawan": ("lorawan",),
        "motes": ("lorawan", "motes"),
        "applications": ("applications",),
        "application": ("applications", "customer"),
        "products": ("products",),
        "product": ("products", "greenhouse"),
        "events": ("events",),
    }
    for locale, language in (("en-GB", "en"), ("zh-CN", "zh")):
        visit = Visit(stage, locale, viewport=SIZE)
        visit.sign_in()
        for name, where in pages.items():
            visit.go(*where)
            visit.page.wait_for_selector("main h1")
            visit.page.wait_for_timeout(
                (DRAW * 1000 if name != "overview" else 9000)
                if name in ("device", "messages", "gateways", "overview")
                else 700
            )
            visit.page.screenshot(path=str(folder / f"{name}-{language}.jpg"), type="jpeg", quality=78)
        visit.close()


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    stage = Stage(Path(mkdtemp()))
    try:
        stage.start()
        shown = populate(stage)
        stage.run(lambda: take(stage, shown, folder))
    finally:
        stage.stop()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]))
