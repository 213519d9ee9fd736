"""The limits of every listener: (setting, what happens beyond it, the test that shows it).

A test is named as below ``tests``; in ``hostile.*`` it may be one of the attacks that the module's test makes at once.
Of settings that several listeners have, `SHARED` and `WEB` speak for all of them.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Row(NamedTuple):
    key: str
    beyond: str
    shown_by: str


def rows(*texts: tuple[str, str, str]) -> tuple[Row, ...]:
    return tuple(Row(*text) for text in texts)


_LISTENER: Final = "listening.test_listener"
_STREAM: Final = "behaviour.StreamBehaviour"

#: ``limits`` of every listener over a stream, those of plugins included. UDP has no connections, so LoRaWAN has none.
SHARED: Final = rows(
    (
        "max_connections",
        "refused, `too_many_connections`",
        f"{_LISTENER}.ConnectionLimitTests.test_all_together",
    ),
    (
        "max_connections_per_address",
        "refused, `too_many_per_address`; an IPv6 address counts as its /64, loopback does not count",
        "hostile.test_logins.take_all_places",
    ),
    (
        "auth_timeout",
        "closed, `auth_timeout`; HTTP has no log-in of a connection, there it is the time for a PROXY header",
        f"{_STREAM}.test_a_thousand_who_never_log_in",
    ),
    (
        "max_message_size",
        "answered and skipped or closed, `too_long`, as each protocol has it (below); HTTP: 413",
        f"{_STREAM}.test_a_message_without_end",
    ),
    (
        "max_message_rate",
        "reading pauses until the average is kept; counted in `throttled`; nothing is lost",
        f"{_STREAM}.test_a_flood_is_slowed_down_and_not_closed",
    ),
    (
        "message_burst",
        "the rate begins to count",
        "listening.test_connection.PauseTests.test_a_burst_is_free",
    ),
    (
        "max_outbox",
        "best-effort messages to that client are dropped, `slow_subscriber` or `stream_full`; what is owed waits where "
        "it is kept",
        "listening.test_connection.LimitTests.test_best_effort_over_the_outbox_limit",
    ),
    (
        "slow_reader_timeout",
        "cut off, `slow_reader`",
        f"{_STREAM}.test_somebody_who_does_not_read",
    ),
    (
        "max_failed_logins",
        "answers to further failures of that address are held back, 1, 2, 4 ... s; counted in `logins_delayed`",
        "hostile.test_logins.guess",
    ),
    (
        "failed_login_window",
        "so many failures are forgotten",
        f"{_LISTENER}.FailedLoginTests.test_forgotten_after_a_while",
    ),
    (
        "max_login_delay",
        "answers are not held back for longer",
        f"{_LISTENER}.FailedLoginTests.test_the_longest_delay",
    ),
    (
        "lockout_failed_logins",
        "refused, `too_many_failed_logins`; HTTP: 429; Gizwits: 9041. Counted in `logins_locked_out`. Connections that "
        "are logged in stay",
        "hostile.test_logins.guess",
    ),
    (
        "close_timeout",
        "cut off, whatever has not left",
        f"{_STREAM}.test_somebody_who_never_logs_in_nor_takes_our_goodbye",
    ),
)

_HTTP: Final = "applications.http.test_connection"
#: Of listeners that speak HTTP: http, gservice, files.
WEB: Final = rows(
    (
        "request_timeout",
        "408 and closed, `idle`, or closed without a word before the first byte",
        f"{_HTTP}.KeepAliveTests.test_a_slow_head",
    ),
    (
        "min_body_rate",
        "408 and closed: a body has the request's time and what it takes at this rate",
        f"{_HTTP}.KeepAliveTests.test_a_slow_body",
    ),
    (
        "keep_alive_timeout",
        "closed, `idle`",
        f"{_HTTP}.KeepAliveTests.test_idle",
    ),
    (
        "max_upload",
        "413, by the head if that says so; nothing of it is kept",
        "web.test_uploads.SocketTests.test_too_large_in_chunks",
    ),
)

_TO_MQTT: Final = "mqtt.test_connection"
_SESSIONS: Final = "applications.gizwits"
OF_LISTENERS: Final[dict[str, tuple[Row, ...]]] = {
    "gateway88": rows(
        (
            "limits.max_message_size",
            "the frame is no frame, and the next one is looked for; counted in `malformed`",
            "hostile.test_gateway88.absurd_lengths",
        ),
        (
            "max_quarantined",
            "closed, `auth_failed`",
            "devices.gateway88.test_admission.QuarantineTests.test_there_is_room_for_so_many",
        ),
        (
            "handshake_timeout",
            "closed, `handshake_timeout`",
            "devices.gateway88.test_over_tls.HandshakeTests.test_thousands_of_half_open_handshakes",
        ),
        (
            "max_first_frame",
            "no frame, before it is known who speaks",
            "devices.gateway88.test_admission.AskingTests.test_a_long_first_frame",
        ),
        (
            "max_plain_size",
            "answered with Status 1, malformed: what inflates to more is not inflated further",
            "hostile.test_gateway88.bombs",
        ),
        (
            "max_noise",
            "closed, `malformed`",
            "devices.gateway88.test_conversation.StrangerTests.test_noise_without_end",
        ),
        (
            "max_malformed",
            "closed, `malformed`",
            "hostile.test_gateway88.wrong_checksums",
        ),
        (
            "frame_timeout",
            "what came of it is noise, and the next frame is looked for",
            "devices.gateway88.test_conversation.StrangerTests.test_a_frame_that_does_not_end",
        ),
        (
            "offline_after",
            "closed, `idle`; at `late_after` it counts as late",
            "devices.gateway88.test_mapping.LifeTests.test_late_and_offline",
        ),
        (
            "command_window",
            "further commands wait in the device's queue",
            "devices.gateway88.test_conversation.OrderTests.test_one_at_a_time",
        ),
        (
            "firmware_timeout",
            "the command has timed out; so with `backup_timeout` and `recovery_timeout`",
            "devices.gateway88.test_mapping.LongOperationTests.test_times",
        ),
        (
            "backups_at_once",
            "further backups wait for their turn",
            "devices.gateway88.test_backup_care.ScheduleTests.test_so_many_at_once",
        ),
    ),
    "files": rows(
        (
            "limits.max_message_size",
            "431 for a head, 413 for a body that is no backup",
            f"{_HTTP}.SizeTests.test_a_long_head",
        ),
        ("max_upload", "413; the backup has failed", "devices.gateway88.test_files.BackupTests.test_empty_or_too_long"),
        (
            "url_lifetime",
            "404, as of an address that never was",
            "devices.gateway88.test_files.UrlTests.test_only_for_their_purpose_command_and_time",
        ),
        (
            "keep_backups",
            "the oldest of that gateway go",
            "devices.gateway88.test_files.BackupTests.test_the_newest_are_kept",
        ),
    ),
    "gservice": rows(
        (
            "max_new_devices_per_address",
            "429, 9041: within an hour",
            "devices.gizwits.test_gservice.Newcomers.test_one_address_does_not_make_all_the_devices",
        ),
        (
            "max_keep_alive",
            "counts as this; silence for one and a half times as long is closed, `idle`",
            "mqtt.test_terms.TimeTests.test_the_keep_alive_is_capped",
        ),
        ("max_pings", "closed, `flood`, within `ping_window`", "devices.gizwits.test_devices.WhatItMayDo.test_pings"),
        (
            "refusal_delay",
            "the end of the wait: the connection of a refused device closes",
            "mqtt.test_terms.RefusalTests.test_the_close_comes_later",
        ),
        (
            "max_malformed",
            "closed, `malformed`",
            "devices.gizwits.test_devices.WhatItSays.test_what_is_malformed",
        ),
        (
            "ack_timeout",
            "the command has timed out",
            "devices.gizwits.test_commands.Acknowledged.test_its_own_timeout",
        ),
        (
            "command_window",
            "further commands with acknowledgement wait in the device's queue",
            "routing.test_commands.OrderTests.test_as_many_as_the_window_allows",
        ),
        ("users.max_users", "429, 9041", f"{_SESSIONS}.test_users.LoginTests.test_users_are_limited"),
        (
            "users.max_new_users_per_address",
            "429, 9041: within an hour",
            f"{_SESSIONS}.test_open_api.NewcomersTests.test_one_address_does_not_make_all_the_users",
        ),
        (
            "users.max_bindings",
            "the binding is among `failed`",
            f"{_SESSIONS}.test_users.BindingTests.test_bindings_are_limited",
        ),
        (
            "users.max_tokens",
            "the oldest token ends, and the connections that were opened with it",
            f"{_SESSIONS}.test_users.TokenTests.test_the_oldest_go_first",
        ),
        (
            "users.token_lifetime",
            "the token is none any more; connections that were opened with it end",
            f"{_SESSIONS}.test_mqtt.EndTests.test_the_token_expires",
        ),
        (
            "users.max_clock_skew",
            "400, 9015: a signed request is too old, or of the future",
            f"{_SESSIONS}.test_open_api.BindingTests.test_by_mac",
        ),
        (
            "users.max_sockets",
            "the log-in is refused",
            f"{_SESSIONS}.test_sockets.HostileTests.test_too_many_sockets",
        ),
        (
            "users.max_heartbeat_interval",
            "counts as this; silence for longer is closed, `idle`",
            f"{_SESSIONS}.test_sockets.HeartbeatTests.test_a_longer_interval_than_allowed",
        ),
        (
            "users.max_invalid_messages",
            "closed, `protocol_error`",
            f"{_SESSIONS}.test_sockets.HostileTests.test_a_flood_of_bad_messages",
        ),
    ),
    "http": rows(
        (
            "max_import_size",
            "413; for who is not the administrator `limits.max_message_size` counts",
            f"{_HTTP}.SizeTests.test_import_may_be_longer_for_the_administrator",
        ),
        (
            "max_wait",
            "counts as this",
            "applications.http.test_commands.CommandTests.test_wait_for_longer_than_allowed",
        ),
        ("max_streams", "429", "applications.http.test_stream.HandshakeTests.test_too_many"),
        ("max_sessions", "the oldest session ends", "applications.http.test_sign_in.TimeTests.test_how_many"),
        (
            "session_idle",
            "the session ends, and its streams; so at `session_lifetime`",
            "applications.http.test_sign_in.TimeTests.test_idle_and_lifetime",
        ),
        (
            "stream_ping",
            "a stream that answers none of two is closed, `idle`",
            "applications.http.test_stream.StreamTests.test_pings",
        ),
        (
            "max_stream_message",
            "closed, `too_long`",
            "applications.http.test_stream.StreamTests.test_a_long_message_of_the_client",
        ),
    ),
    "loracenter": rows(
        (
            "limits.max_message_size",
            "not read; counted in `malformed`; before CSREG too many of them close",
            "hostile.test_loracenter.no_end",
        ),
        (
            "refused_grace",
            "the end of the wait: the connection of a refused customer server closes, `auth_failed`",
            "applications.loracenter.test_registration.RegistrationTests.test_wrong",
        ),
        (
            "max_early",
            "closed, `protocol_error` or `malformed`",
            "applications.loracenter.test_registration.RegistrationTests.test_commands_before_it",
        ),
        (
            "max_malformed",
            "closed, `malformed`",
            "applications.loracenter.test_registration.RegistrationTests.test_what_is_no_message",
        ),
        (
            "max_services",
            "CSREG is refused",
            "applications.loracenter.test_registration.RegistrationTests.test_too_many_services",
        ),
        (
            "max_pending",
            "no more is read until some are on the disk",
            "applications.loracenter.test_deliveries.SendToTests.test_many_at_once_in_order",
        ),
        (
            "idle_timeout",
            "closed, `idle`",
            "applications.loracenter.test_registration.RegistrationTests.test_idleness_only_where_it_is_set",
        ),
        (
            "overflow_grace",
            "closed, `slow_reader`; what came meanwhile is dropped, counted in `loracenter_lost_uploads`",
            "hostile.test_loracenter.does_not_read_uploads",
        ),
        ("max_queued", "answered with -4", "hostile.test_loracenter.flood"),
        (
            "queue_time",
            "answered with -6",
            "applications.loracenter.test_deliveries.SendToTests.test_it_waited_too_long",
        ),
        (
            "broadcast_interval",
            "refused",
            "applications.loracenter.test_indications.BroadcastTests.test_not_too_often",
        ),
        (
            "max_broadcast_tries",
            "refused",
            "applications.loracenter.test_indications.BroadcastTests.test_wrong_parameters",
        ),
    ),
    "lorawan": rows(
        (
            "max_gateways",
            "strangers are not answered; registered gateways always have a place",
            "devices.lorawan.test_gateways.AdmissionTests.test_strangers_are_bounded",
        ),
        (
            "gateway_offline_after",
            "the gateway is off-line",
            "devices.lorawan.test_gateways.AdmissionTests.test_presence",
        ),
        (
            "max_frames",
            "dropped, counted",
            "devices.lorawan.test_uplinks.DataTests.test_frames_at_once_are_bounded",
        ),
        (
            "max_joins",
            "dropped, counted",
            "devices.lorawan.test_uplinks.JoinTests.test_requests_at_once_are_bounded",
        ),
        (
            "tx_ack_timeout",
            "a forwarder of version 2 has refused, one of version 1 has sent",
            "devices.lorawan.test_transmitter.AnswerTests.test_silence_may_have_been_an_emission",
        ),
        (
            "mote_offline_after",
            "the mote is off-line",
            "devices.lorawan.test_uplinks.DataTests.test_presence_ends",
        ),
        ("max_groups", "429", "devices.lorawan.test_multicast_groups.GroupTests.test_refusals"),
        (
            "max_group_members",
            "429",
            "devices.lorawan.test_multicast_groups.MemberTests.test_only_class_c_and_only_so_many",
        ),
        ("max_group_messages", "429", "devices.lorawan.test_multicast.BoundTests.test_the_queue"),
        (
            "kept_group_messages",
            "the oldest go",
            "devices.lorawan.test_multicast.BoundTests.test_what_has_ended_is_kept_for_a_while",
        ),
        (
            "receive_buffer",
            "the system drops datagrams; forwarders send again",
            "hostile.test_lorawan.flood",
        ),
        (
            "chirpstack.max_message_size",
            "MQTT 5: the broker there keeps it; 3.1.1: the connection ends",
            "mqtt.test_client_real.PlainTests.test_what_is_too_long_is_left_out_by_servers_of_5",
        ),
        (
            "chirpstack.max_unacknowledged",
            "no more is read until some are on the disk",
            "mqtt.test_client.PersistentTests.test_no_more_is_read_than_may_be_unacknowledged",
        ),
        (
            "chirpstack.max_inflight",
            "further commands wait",
            "mqtt.test_client.MqttClientTests.test_the_window_is_kept",
        ),
        (
            "chirpstack.max_gateways",
            "not kept, counted in `too_many_gateways`",
            "devices.lorawan.test_chirpstack.GatewayTests.test_no_more_than_are_allowed",
        ),
        (
            "chirpstack.answer_timeout",
            "the command has timed out; so with `answer_timeout_class_c`",
            "devices.lorawan.test_chirpstack.DownlinkTests.test_time_without_a_word",
        ),
    ),
    "mqtt": rows(
        (
            "limits.max_message_size",
            "closed, `too_long` (MQTT 5: 0x95), by the length alone",
            "hostile.test_mqtt.no_end",
        ),
        (
            "websocket.max_handshake_size",
            "431 and closed",
            "listening.test_handshake.HandshakeTests.test_a_head_without_end",
        ),
        (
            "max_topic_length",
            "closed, `too_long` (0x90); SUBACK 0x80 (0x8F)",
            f"{_TO_MQTT}.Publishing.test_topics_beyond_the_limits",
        ),
        (
            "max_topic_levels",
            "closed, `too_long` (0x90); SUBACK 0x80 (0x8F)",
            f"{_TO_MQTT}.Publishing.test_topics_beyond_the_limits",
        ),
        (
            "max_client_id_length",
            "CONNACK 2 (0x85) and closed",
            "mqtt.test_login.FirstPacket.test_a_client_id_that_is_too_long",
        ),
        ("max_subscriptions", "SUBACK 0x80 (0x97)", f"{_TO_MQTT}.Subscribing.test_limits"),
        ("max_inflight", "further messages wait in the queue", f"{_TO_MQTT}.SlowPeers.test_the_window"),
        (
            "max_queued_messages",
            "the newest is dropped, `queue_full`",
            "hostile.test_stalled_reader.StalledReaderTests.test_session_on_disk",
        ),
        (
            "max_queued_bytes",
            "the newest is dropped, `queue_full`",
            f"{_TO_MQTT}.SlowPeers.test_the_queue_is_bounded_in_bytes",
        ),
        (
            "max_unacknowledged",
            "no more is read until some are on the disk",
            f"{_TO_MQTT}.WhatWaitsForStorage.test_too_many_wait",
        ),
        (
            "max_unacknowledged_bytes",
            "no more is read until some are on the disk",
            f"{_TO_MQTT}.WhatWaitsForStorage.test_too_many_bytes_wait",
        ),
        (
            "max_unreleased",
            "closed, `flood`",
            f"{_TO_MQTT}.FullTables.test_qos_2_without_release",
        ),
        ("max_pings", "closed, `flood` (0x96)", "mqtt.test_limits.Pings.test_too_many"),
        (
            "receive_maximum",
            "closed, `flood` (0x93)",
            "mqtt.test_v5.Violations.test_more_than_the_receive_maximum",
        ),
        (
            "topic_alias_maximum",
            "closed, `protocol_error` (0x94)",
            "mqtt.test_v5.Violations.test_answered_with_a_code",
        ),
        ("max_topic_aliases", "topics go out whole", "mqtt.test_limits.Aliases.test_those_of_our_making"),
        (
            "max_sessions",
            "the client is refused, CONNACK 3 (0x97)",
            "mqtt.test_persistent.Limits.test_sessions",
        ),
        ("max_session_expiry", "counts as this; CONNACK says so", "mqtt.test_v5.Connecting.test_our_limits"),
        (
            "max_retained_messages",
            "not kept, `retained_full` (0x97)",
            "mqtt.test_limits.Retained.test_their_number_and_bytes",
        ),
        (
            "max_retained_bytes",
            "not kept, `retained_full` (0x97)",
            "mqtt.test_limits.Retained.test_their_number_and_bytes",
        ),
        (
            "max_keep_alive",
            "counts as this; silence for one and a half times as long is closed, `idle`",
            f"{_TO_MQTT}.KeepAlive.test_none_and_one_that_is_too_long",
        ),
    ),
    "novacloud": rows(
        (
            "limits.max_message_size",
            "answered with an error and skipped; the second one is closed, `too_long`",
            "hostile.test_novacloud.no_newline",
        ),
        (
            "max_auth_size",
            "closed, `too_long`",
            "devices.novacloud.test_login.LoginTests.test_a_long_line_before_the_login",
        ),
        (
            "max_malformed",
            "closed, `malformed`",
            "devices.novacloud.test_session.MalformedTests.test_ten_in_a_row_are_too_many",
        ),
        (
            "offline_after",
            "closed, `idle`; at `late_after` it counts as late",
            "devices.novacloud.test_session.HeartbeatTests.test_late_then_offline",
        ),
        (
            "command_window",
            "further commands wait in the device's queue",
            "routing.test_commands.OrderTests.test_as_many_as_the_window_allows",
        ),
        ("answer_timeout", "the command has timed out", "routing.test_commands.LifeTests.test_timed_out"),
        (
            "pending_timeout",
            "the command has timed out: so long after its last `pending`",
            "routing.test_commands.LifeTests.test_each_pending_extends",
        ),
    ),
}
