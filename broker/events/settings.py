"""The tables ``[events]`` and ``[mail]``."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from broker.model.discreet import Discreet

Count = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(gt=0, le=1e9)]


class EventsTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What becomes an event where no rule says otherwise, how long events are kept, and how they are delivered."""

    #: Seconds that events are kept, and how many; the newest always is.
    max_age: Seconds = 7_776_000.0
    max_events: Count = 100_000
    #: Seconds that a device may be away before that is an event.
    offline_after: Seconds = 120.0
    #: The same for the devices of single protocols, and for LoRaWAN's gateways.
    offline_after_of: dict[str, Seconds] = msgspec.field(default_factory=lambda: {"gizwits": 300.0})
    #: Seconds for which it has to be away, or back, before that counts at all.
    debounce: Annotated[float, Meta(ge=0, le=1e9)] = 15.0
    #: A device that went away so often within ``flap_window`` seconds flaps, until it is half as often.
    flap_count: Annotated[int, Meta(ge=2, le=100)] = 5
    flap_window: Seconds = 600.0
    #: Seconds after a start of the broker in which devices may come back before the time of their rule begins.
    restart_grace: Annotated[float, Meta(ge=0)] = 60.0
    #: A minute: strangers (quarantine_new) of which each has an event of its own; the others of a minute share one.
    max_strangers: Count = 20
    max_rules: Count = 200
    max_sinks: Count = 50
    #: Events that may wait for one sink; further ones go to its dead letters.
    max_queue: Count = 100_000
    #: Of one sink; the oldest go.
    max_dead_letters: Count = 10_000
    #: Seconds for one delivery, from the connection to the head of the answer.
    delivery_timeout: Seconds = 30.0
    #: Seconds before the second attempt; it doubles with each, up to ``retry_longest``, less up to half by chance.
    retry_first: Seconds = 1.0
    retry_longest: Seconds = 600.0
    #: Seconds after which an event that could not be delivered becomes a dead letter.
    retry_for: Seconds = 259_200.0
    #: PEM file of the authorities that sign the certificates of webhooks; empty: the system's.
    webhook_ca: str = ""


class MailTable(Discreet, msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The mail server (SMTP) of e-mail sinks. Without a ``host`` there can be none."""

    host: str = ""
    port: Annotated[int, Meta(ge=1, le=65_535)] = 587
    #: Empty: nobody logs in.
    username: str = ""
    password: str = ""
    #: The sender, where a sink names none.
    sender: str = msgspec.field(name="from", default="")
    #: starttls (it has to be offered), tls (from the first byte, usually port 465), none (only to this machine).
    tls: Literal["starttls", "tls", "none"] = "starttls"
    #: PEM file of the authorities that sign the server's certificate; empty: the system's.
    ca: str = ""
