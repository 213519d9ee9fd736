"""Settings that cannot be."""

from __future__ import annotations

from typing import Any

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from broker_nats.settings import Settings
from broker_nats.sink import token


class SettingsTests(SynchronousTestCase):
    def test_wrong_ones(self) -> None:
        wrong: tuple[dict[str, Any], ...] = (
            {"servers": ["127.0.0.1:4222"]},
            {"servers": ["nats://ann:secret@127.0.0.1:4222"]},
            {"user": "ann"},
            {"password": "secret"},
            {"user": "ann", "password": "secret", "token": "t"},
            {"subject": "a b"},
            {"subject": "broker."},
            {"subject": "broker.>"},
            {"kinds": ["everything"]},
        )
        for given in wrong:
            self.assertRaises(msgspec.ValidationError, msgspec.convert, given, Settings)

    def test_secrets_are_not_shown(self) -> None:
        servers = ("nats://h:4222",)
        for settings in (
            Settings(servers=servers, user="ann", password="abra"),
            Settings(servers=servers, token="abra"),
        ):
            self.assertEqual(repr(settings), "<Settings of broker at nats://h:4222>")

    def test_by_default_nothing_is_published(self) -> None:
        self.assertEqual(Settings().servers, ())

    def test_ids_as_one_word(self) -> None:
        self.assertEqual([token(id) for id in ("d-1", "10.0.0.5:502:1")], ["d-1", "10%2E0%2E0%2E5:502:1"])
