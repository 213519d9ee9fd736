"""The table [listeners.gservice]: the HTTP that Gizwits devices and apps call, and what holds for devices over MQTT."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from broker.listening.settings import Count, Seconds, Size
from broker.web.settings import WebSettings

Window = Annotated[int, Meta(ge=1, le=1000)]
Port = Annotated[int, Meta(ge=0, le=65_535)]


class DeviceSettings(WebSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What can be set about Gizwits devices."""

    bind: tuple[str, ...] = ("tcp:8081",)
    #: The host, with its port if that is not 80, that goes into download URLs; empty: the request's own Host.
    public_host: str = ""
    #: Where devices are sent for MQTT: empty and 0 are the request's own host and the first plain MQTT port.
    m2m_host: str = ""
    m2m_port: Port = 0
    #: Devices that one address may register for the first time in an hour: product keys are no secret. 0: no limit.
    max_new_devices_per_address: Count = 1_000
    #: The longest keep-alive (s) of a device: a longer one is treated as this (4.6).
    max_keep_alive: Seconds = 600.0
    #: Pings that a device may send within ``ping_window`` seconds (4.7 of 4.0.6); one more closes it. 0: no limit.
    max_pings: Count = 60
    ping_window: Seconds = 180.0
    #: Seconds from a refused CONNECT to the close: many agents are back 13 ms after a close, and wait while it is open.
    refusal_delay: Annotated[float, Meta(ge=0)] = 5.0
    #: Seconds between two packets to a device that loses the second of two that arrive together.
    packet_gap: Annotated[float, Meta(ge=0)] = 0.005
    #: Malformed messages in a row after which a device's connection is closed.
    max_malformed: Size = 3
    #: Seconds in which a device has to acknowledge a command that asks for it.
    ack_timeout: Seconds = 10.0
    #: Commands with acknowledgement that may be unanswered on one connection at once.
    command_window: Window = 32
