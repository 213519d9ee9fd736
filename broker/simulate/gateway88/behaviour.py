"""How a simulated gateway behaves, who it is, and what it has done."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, Literal

#: ``does`` it; ``refuses`` it; ``breaks``: fetches the image and then says that it has failed; ``keeps`` its version
#: though it fetches and reboots; ``claims`` the new version without fetching; ``idles``: agrees and does nothing;
#: ``dumb``: answers nothing.
Update = Literal["does", "refuses", "breaks", "keeps", "claims", "idles", "dumb"]


def mac_of(seed: int, number: int) -> bytes:
    """The same for the same numbers; locally administered, so never a real device's."""
    return b"\x02" + sha256(f"gateway {seed}/{number}".encode()).digest()[:5]


def mac_text(mac: bytes) -> str:
    """As the broker's registry has it."""
    return mac.hex().upper()


def registration(mac: bytes, **more: Any) -> dict[str, Any]:
    """The object for `POST /devices`, or a line of `POST /devices/import`."""
    return {"protocol": "gateway88", "id": mac_text(mac), **more}


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """Times are in seconds, rates are probabilities from 0 to 1. The defaults are the document's."""

    #: Between heartbeats.
    heartbeat_every: float = 30.0
    #: Between attempts to connect, in a rhythm of the gateway's own.
    reconnect_every: float = 30.0
    #: Until a send counts as unanswered; how often the same is sent; unanswered sends in a row that end a connection.
    answer_within: float = 6.0
    sends: int = 3
    give_up_after: int = 5
    #: How DATA is packed: a name of `broker.devices.gateway88.container.FLAVOURS`.
    container: str = "zlib(base64)"
    #: Commands that are answered only after `late_after`.
    late_rate: float = 0.0
    late_after: float = 8.0
    #: Frames that are lost, in either direction.
    loss_rate: float = 0.0
    #: Operations that are refused, and heartbeats with which new devices are reported.
    error_rate: float = 0.0
    newdevices_rate: float = 0.0
    #: Answer remote_control as the known implementation does: with the type gateway_info.
    wrong_type: bool = False
    #: How long a reboot takes, and how long installing does before it.
    reboot_time: float = 2.0
    install_time: float = 0.5
    #: Bytes a second of downloads and uploads; 0: as fast as it goes.
    transfer_rate: int = 0
    #: Seconds between attempts of a transfer, and how many there are.
    transfer_again: float = 2.0
    transfer_tries: int = 20
    #: What it makes of a firmware update.
    update: Update = "does"


#: A fleet in which something goes wrong now and then.
LIVELY: Final = {"late_rate": 0.05, "loss_rate": 0.01, "error_rate": 0.03, "newdevices_rate": 0.05}


class Counts:
    """What a gateway has done."""

    __slots__ = (
        "answered",
        "commands",
        "connections",
        "downloads",
        "faults",
        "heartbeats",
        "reboots",
        "repeated_commands",
        "resent",
        "resumed",
        "updates",
        "uploads",
    )

    def __init__(self) -> None:
        self.connections = 0
        #: Those of them that resumed a TLS session.
        self.resumed = 0
        self.heartbeats = 0
        #: Messages that the broker answered, and sends that it did not answer in time.
        self.answered = 0
        self.resent = 0
        self.commands = 0
        #: Commands that came again and were answered again.
        self.repeated_commands = 0
        #: Those of them that were firmware updates.
        self.updates = 0
        self.downloads = 0
        self.uploads = 0
        self.reboots = 0
        #: Faults made on purpose.
        self.faults = 0
