"""Settings of the MQTT listener: the table ``[listeners.mqtt]``."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from broker.listening.settings import Count, Limits, ListenerSettings, Seconds, Size, WebSocketSettings
from broker.mqtt.codec import LARGEST_PACKET, SMALLEST_LIMIT
from broker.mqtt.topics import valid_topic_filter


class Settings(ListenerSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What can be set about MQTT. Counts of 0 mean "no limit" where the text says so."""

    bind: tuple[str, ...] = ("tcp:1883", "tls:8883", "ws:8083")
    #: A packet may be 1 MiB, which is more than any device of ours sends and still fits many times into memory; an
    #: application that relays for many devices may send faster than a device.
    limits: Limits = Limits(
        max_message_size=1_048_576, max_message_rate=20_000, message_burst=40_000, auth_timeout=10.0
    )
    #: How a WebSocket is opened (MQTT 3.1.1, section 6).
    websocket: WebSocketSettings = WebSocketSettings()
    #: With `client_certificates`: the common name in a client's certificate is its user name, and no password is asked
    #: for; a user name that CONNECT has too must be the same. Clients without a certificate log in as ever.
    use_identity_as_username: bool = False
    #: Anyone may connect without a name, and publish and subscribe anywhere but `anonymous_deny`.
    anonymous: bool = False
    #: Topic filters that anonymous clients may neither subscribe to nor publish on.
    anonymous_deny: tuple[str, ...] = ()
    #: Bytes of a topic name or filter: names are kept in tables.
    max_topic_length: Size = 4_096
    #: Levels of a topic name or filter: matching walks a tree level by level.
    max_topic_levels: Size = 64
    #: Bytes of a client id.
    max_client_id_length: Size = 1_024
    #: Subscriptions of one client: each takes room in the index.
    max_subscriptions: Size = 10_000
    #: QoS 1 and 2 messages that may be unacknowledged on their way to one client; there are 65,535 packet ids.
    max_inflight: Annotated[int, Meta(ge=1, le=65_535)] = 256
    #: Such messages that may wait behind those, on disk for persistent sessions; the next ones are dropped, counted.
    max_queued_messages: Count = 10_000
    #: Their bytes, topics included.
    max_queued_bytes: Count = 16_777_216
    #: Publishes of one client that wait for storage, to be acknowledged, or at QoS 0 to be kept as retained messages;
    #: past this it is read no further.
    max_unacknowledged: Size = 1_000
    #: Their payload bytes.
    max_unacknowledged_bytes: Size = 16_777_216
    #: QoS 2 messages of one client that it has not released: their ids have to be remembered. Over it, it is closed.
    max_unreleased: Size = 1_000
    #: PINGREQs of one client in ten seconds: each costs a turn and an answer. More close it (0x96); 0: no limit.
    max_pings: Count = 1_000
    #: QoS 1 and 2 publishes that an MQTT 5 client may have unanswered; more close it. Its CONNACK says so.
    receive_maximum: Annotated[int, Meta(ge=1, le=65_535)] = 256
    #: Topic aliases that an MQTT 5 client may set, and that we set for one that allows them: each keeps a topic.
    topic_alias_maximum: Annotated[int, Meta(ge=0, le=65_535)] = 16
    max_topic_aliases: Annotated[int, Meta(ge=0, le=65_535)] = 16
    #: The keep-alive (s) that MQTT 5 clients are told to use if they ask for a longer one, or none; 0: their own.
    server_keep_alive: Annotated[int, Meta(ge=0, le=65_535)] = 0
    #: Sessions on disk that outlive their connections: past this no new one is made.
    max_sessions: Count = 100_000
    #: Seconds that a session outlives its connection at most; 0: as long as its client asks for.
    max_session_expiry: Count = 2_592_000
    #: Seconds after a start before the wills of connections that a crash ended are published: who wants to hear of them
    #: has to come back first.
    will_grace: Annotated[float, Meta(ge=0)] = 3.0
    #: Retained messages, and their bytes with topics: they are kept in memory, too.
    max_retained_messages: Count = 1_000_000
    max_retained_bytes: Count = 268_435_456
    #: The reason code of a subscription without the right in MQTT 5: 0x87 (not authorised) or 0x80 (unspecified).
    refused_subscription: Literal[128, 135] = 135
    #: Tell MQTT 5 clients in a sentence why something was refused or closed, unless they do not want to know.
    reason_strings: bool = True
    #: Close (0x82) MQTT 5 clients that publish with a subscription identifier, which the standard forbids them
    #: [MQTT-3.3.4-6]; false: ignore it, as some servers do.
    refuse_published_identifiers: bool = True
    #: Close without a CONNACK, which the standard leaves open, where an MQTT 5 CONNECT has a client id or will topic
    #: that may not be one, or goes on past its last field: nothing for who only tries a port.
    malformed_connect_unanswered: bool = False
    #: Refuse (0x99) MQTT 5 messages that are said to be UTF-8 and are not, so that who reads them can rely on it.
    payload_format_validation: bool = True
    #: Seconds between two publications of the figures under $SYS/broker; 0: none.
    sys_interval: Annotated[float, Meta(ge=0)] = 10.0
    #: The longest keep-alive; 0 in CONNECT (none) and longer ones are watched with this instead.
    max_keep_alive: Seconds = 18 * 3600.0

    def __post_init__(self) -> None:
        if not SMALLEST_LIMIT <= self.limits.max_message_size <= LARGEST_PACKET:
            raise ValueError(f"limits.max_message_size must be {SMALLEST_LIMIT} to {LARGEST_PACKET} bytes")
        if self.use_identity_as_username and self.client_certificates == "off":
            raise ValueError("use_identity_as_username needs client_certificates")
        for denied in self.anonymous_deny:
            if valid_topic_filter(denied.encode("utf-8", "surrogatepass")) is None:
                raise ValueError(f"anonymous_deny: {denied!r} is not a topic filter")

    def fits(self, topic: str) -> bool:
        """Whether a topic name or filter keeps the limits."""
        return len(topic.encode()) <= self.max_topic_length and topic.count("/") < self.max_topic_levels
