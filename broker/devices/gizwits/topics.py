"""The MQTT topics of Gizwits devices, as pure functions (3.3, 4.4 to 4.13).

======================================  ===========================================================
``ser2cli_noti/<product key>``          to all devices of a product; subscribed by each
``ser2cli_res/<did>``                   system messages to one device; subscribed by it
``app2dev/<did>/<app client id>``       business messages to a device, which subscribes ``app2dev/<did>/#``
``dev2app/<did>``                       business messages of a device to all apps bound to it
``dev2app/<did>/<app client id>``       ... to one app
``ser2cli_req``, ``cli2ser_req``        system messages of devices; documents say the first, devices use the second
======================================  ===========================================================
"""

from __future__ import annotations

from typing import Final

#: In the place of an app's client id: commands that the broker itself sends. Agents keep 23 bytes of it.
BROKER: Final = "broker"

#: Where devices publish system messages; some write a slash behind it.
REQUESTS: Final = frozenset({"ser2cli_req", "cli2ser_req", "ser2cli_req/", "cli2ser_req/"})

#: The first levels of all these topics: nobody else may use them.
ROOTS: Final = frozenset({"ser2cli_noti", "ser2cli_res", "app2dev", "dev2app", "ser2cli_req", "cli2ser_req"})


def response_topic(did: str) -> str:
    return f"ser2cli_res/{did}"


def notice_topic(product: str) -> str:
    return f"ser2cli_noti/{product}"


def commands_filter(did: str) -> str:
    return f"app2dev/{did}/#"


def command_topic(did: str, app: str = BROKER) -> str:
    return f"app2dev/{did}/{app}"


def report_topic(did: str, app: str = "") -> str:
    """Of reports to one app, or to all."""
    return f"dev2app/{did}/{app}" if app else f"dev2app/{did}"


def split(topic: str) -> tuple[str, str, str] | None:
    """(root, did, app client id or "") of an ``app2dev`` or ``dev2app`` topic; None for any other."""
    levels = topic.split("/")
    if levels[0] not in ("app2dev", "dev2app") or not 2 <= len(levels) <= 3 or not levels[1]:
        return None
    if len(levels) == 2:
        return levels[0], levels[1], ""
    return (levels[0], levels[1], levels[2]) if levels[2] else None


#: Topics, and what `split` makes of them.
SPLIT: Final[tuple[tuple[str, tuple[str, str, str] | None], ...]] = (
    ("dev2app/d", ("dev2app", "d", "")),
    ("dev2app/d/usr1", ("dev2app", "d", "usr1")),
    ("app2dev/d/usr1", ("app2dev", "d", "usr1")),
    ("app2dev/d", ("app2dev", "d", "")),
    ("dev2app/d/", None),
    ("dev2app/", None),
    ("dev2app", None),
    ("dev2app//usr1", None),
    ("dev2app/d/usr1/x", None),
    ("app2devs/d", None),
    ("devices/d/command", None),
    ("ser2cli_req", None),
    ("", None),
)
