"""The table [listeners.lorawan.chirpstack]."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from broker.listening.settings import Seconds
from broker.model.discreet import Discreet
from broker.mqtt.client_endpoint import parse_url

Count = Annotated[int, Meta(ge=1)]
Word = Annotated[str, Meta(pattern="^[^+#\u0000]*$", max_length=512)]


class ChirpstackSettings(Discreet, msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """ChirpStack v4 beside our own network, by its MQTT integration. All of it is read at the start."""

    #: Its MQTT broker: mqtt://HOST[:PORT], mqtts://HOST[:PORT] or mqtt+unix:///PATH. Empty: there is no ChirpStack.
    url: str = ""
    username: str = ""
    password: str = ""
    #: PEM file: whose signature makes the MQTT broker's certificate good. Empty: the system's authorities.
    ca: str = ""
    #: PEM files of a certificate that we show.
    certificate: str = ""
    private_key: str = ""
    #: Empty: broker-<broker.name>. The MQTT broker keeps what we miss under it, so it has to be ours alone.
    client_id: Annotated[str, Meta(max_length=256)] = ""
    #: The version of MQTT. 5 says what we take, and hears when nobody is there for a command.
    version: Literal["5", "3.1.1"] = "5"
    #: Seconds for which the MQTT broker keeps what we miss while we are away, if it speaks version 5.
    session_expiry: Annotated[int, Meta(ge=0, le=0xFFFF_FFFE)] = 604_800
    #: Seconds from our start to the first connection: customer servers have to be back before they can be told what the
    #: MQTT broker has kept.
    start_delay: Annotated[float, Meta(ge=0)] = 3.0
    #: Seconds between signs of life; an MQTT broker that is silent for one and a half of that is left.
    keep_alive: Annotated[int, Meta(ge=1, le=65_535)] = 30
    #: What stands before ``application/...`` in event_topic and command_topic of ChirpStack; with its slash.
    prefix: Word = ""
    #: The id of the only application that is ours. Empty: all, each mote bound to the one that it is first heard in.
    application: Annotated[str, Meta(pattern="^[0-9A-Za-z-]*$", max_length=64)] = ""
    #: What stands before ``gateway/...``: topic prefixes of regions, such as "eu868"; "+" is any, "" none at all. An
    #: empty list: gateways are only known from what they heard.
    regions: tuple[Annotated[str, Meta(pattern="^([^+#/\u0000]*|\\+)$", max_length=64)], ...] = ("+",)
    #: When a class A mote's next command is handed to ChirpStack: window (when it has been heard, so that commands can
    #: be cancelled until then) or at_once (needed where MQTT is slower than ChirpStack's get_downlink_data_delay).
    hand_over: Literal["window", "at_once"] = "window"
    #: Windows of a class A mote that may go by without a word about the command that ChirpStack has; then it failed.
    windows: Count = 3
    #: Seconds for which a command may be with ChirpStack without a word about it: of class A, of class C.
    answer_timeout: Seconds = 86_400.0
    answer_timeout_class_c: Seconds = 3_600.0
    #: Refusals of gateways after which an unconfirmed command has failed. ChirpStack itself tries on, so with more
    #: than 1 it may still succeed; for confirmed ones ``transmissions`` counts.
    refusals: Count = 1
    #: Seconds between two attempts to hand over a command that nobody was there to take.
    retry: Seconds = 5.0
    #: Bytes of an event; longer ones are not sent to us by MQTT 5, and end the connection in 3.1.1.
    max_message_size: Annotated[int, Meta(ge=4_096, le=16_777_216)] = 262_144
    #: Events that may be on their way to the disk at once.
    max_unacknowledged: Annotated[int, Meta(ge=1, le=65_535)] = 1_000
    #: Commands that may be on their way to the MQTT broker at once.
    max_inflight: Annotated[int, Meta(ge=1, le=65_535)] = 100
    #: Gateways that are kept in memory.
    max_gateways: Count = 10_000

    def __post_init__(self) -> None:
        if self.url:
            try:
                parse_url(self.url)
            except ValueError as error:
                raise ValueError(f"url {error}") from None
        if self.private_key and not self.certificate:
            raise ValueError("private_key needs certificate beside it")
