"""The limits that no listener has for itself, and the numbers that are none."""

from __future__ import annotations

from typing import Final

from tests.limits.rows import Row, rows

_DISPATCH: Final = "events.test_dispatch"
OF_TABLES: Final[dict[str, tuple[Row, ...]]] = {
    "storage": rows(
        (
            "reserve",
            "an upload is refused, 503: the disk's last bytes are the database's",
            "storage.test_files.TroubleTests.test_room_is_left_for_the_database",
        ),
        (
            "max_quarantined",
            "whoever was not seen for the longest time goes",
            "storage.test_quarantine.QuarantineTests.test_whoever_was_not_seen_for_the_longest_time_goes",
        ),
    ),
    "history": rows(
        ("max_age", "older messages go", "storage.contract.StorageContract.test_prune_by_age"),
        ("per_device", "the oldest of that device go", "storage.contract.StorageContract.test_prune_by_number"),
    ),
    "commands": rows(
        (
            "max_queued",
            "refused, 429, or in the sender's own words (MQTT: `failed` on `reply`; LoRaCenter: -4; Gizwits: 9041)",
            "applications.mqtt.test_commands.Refused.test_too_many_wait",
        ),
        ("max_open", "refused, 429", "routing.test_commands.LimitTests.test_all_together"),
        (
            "default_expires",
            "the command has expired",
            "routing.test_commands.LifeTests.test_expired_while_it_waits",
        ),
    ),
    "campaigns": rows(
        ("max_campaigns", "refused, 429", "fleet.test_campaigns.RefusalTests.test_there_are_only_so_many"),
        ("max_concurrency", "refused, 400", "fleet.test_campaigns.RefusalTests.test_what_is_no_campaign"),
        (
            "queue_timeout",
            "the device waits for another turn; so each step has its time, after which its line says what happened",
            "fleet.test_campaigns.PaceTests.test_it_waits_for_devices_until_its_end",
        ),
    ),
    "events": rows(
        ("max_age", "older events go", "events.test_events.JournalTests.test_retention"),
        ("max_events", "the oldest events go", "events.test_events.JournalTests.test_retention"),
        (
            "max_strangers",
            "the others of that minute share one event",
            f"{_DISPATCH}.LimitTests.test_a_flood_of_strangers",
        ),
        ("max_rules", "refused, 429", f"{_DISPATCH}.RuleTests.test_no_more_than_the_settings_allow"),
        ("max_sinks", "refused, 429", f"{_DISPATCH}.RuleTests.test_no_more_than_the_settings_allow"),
        ("max_queue", "the newest becomes a dead letter", f"{_DISPATCH}.DeliveryTests.test_an_hour_of_no_answer"),
        ("max_dead_letters", "the oldest go", f"{_DISPATCH}.DeliveryTests.test_the_oldest_dead_letters_go"),
        (
            "delivery_timeout",
            "it is tried again later",
            "events.test_webhook.DeliveryTests.test_an_answer_that_never_comes",
        ),
        ("retry_for", "the event becomes a dead letter", f"{_DISPATCH}.DeliveryTests.test_too_old"),
    ),
    "redis": rows(
        (
            "max_outstanding",
            "refused, 503",
            "storage.redis.test_connection.CommandTests.test_too_much_under_way",
        ),
        ("doubt_timeout", "refused, 503", "storage.redis.test_loss.LossTests.test_a_long_loss"),
        ("reply_timeout", "the connection is made anew", "storage.redis.test_loss.LossTests.test_half_open"),
    ),
    "log": rows(
        ("max_traced", "refused, 429", "test_tracing.NovaCloudTests.test_limits"),
        ("max_trace_time", "counts as this", "test_tracing.NovaCloudTests.test_limits"),
    ),
}

#: Numbers that bound nothing of what a client may cause: they say how the broker itself, or a radio network, works.
NO_LIMITS: Final[dict[str, frozenset[str]]] = {
    "broker": frozenset({"workers"}),
    "redis": frozenset({"connect_timeout", "keep_alive", "retry_first", "retry_longest"}),
    "cluster": frozenset({"lease"}),
    "campaigns": frozenset(
        {"backup_timeout", "answer_timeout", "fetch_timeout", "confirm_timeout", "version_grace", "clock_settle"}
    ),
    "events": frozenset(
        {"offline_after", "debounce", "flap_count", "flap_window", "restart_grace", "retry_first", "retry_longest"}
    ),
    "mail": frozenset({"port"}),
    "gateway88": frozenset({"late_after", "backup_timeout", "recovery_timeout", "backup_every", "backup_too_old"}),
    "gservice": frozenset({"m2m_port", "ping_window", "packet_gap"}),
    "http": frozenset({"session_lifetime"}),
    "loracenter": frozenset({"foreign_port", "gateway_info_code"}),
    "lorawan": frozenset(
        {
            *("deduplication", "downlink_wait", "downlink_margin", "rx1_delay", "rx1_offset", "rx2_frequency"),
            *("rx2_rate", "max_duty_cycle", "adr_margin", "adr_history", "adr_min_rate", "adr_max_rate"),
            *("adr_max_power", "adr_max_transmissions", "mac_tries", "mac_pause", "mac_forgive", "power"),
            *("ceilings.lowest", "ceilings.low", "ceilings.normal", "ceilings.high", "ceilings.answers"),
            *("ceilings.joins", "class_c_gap", "class_c_timeout", "channel_block", "transmissions"),
            *("status_interval", "counter_block", "default_port", "default_priority", "multicast_spacing"),
            *("multicast_patience", "chirpstack.session_expiry", "chirpstack.start_delay", "chirpstack.keep_alive"),
            *("chirpstack.windows", "chirpstack.answer_timeout_class_c", "chirpstack.refusals", "chirpstack.retry"),
        }
    ),
    "mqtt": frozenset({"server_keep_alive", "will_grace", "refused_subscription", "sys_interval"}),
    "novacloud": frozenset({"heartbeat_fastest", "late_after", "ready_after"}),
}
