"""docs/limits.md says what the settings say, has every limit that there is, and names tests that are there."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from broker.model.names import CLOSE_REASONS, DROP_REASONS
from broker.settings.tables import GENERAL
from tests.limits.general import NO_LIMITS, OF_TABLES
from tests.limits.rows import OF_LISTENERS, SHARED, WEB, Row
from tests.limits.table import PAGE, exists, listeners, numbers, of_web, page, tables

ALL: tuple[Row, ...] = (
    *SHARED,
    *WEB,
    *(row for rows in (*OF_LISTENERS.values(), *OF_TABLES.values()) for row in rows),
)


class PageTests(SynchronousTestCase):
    def test_it_is_what_the_settings_say(self) -> None:
        self.assertEqual(PAGE.read_text("utf-8"), page(), "python -m tests.limits.table > docs/limits.md")

    def test_every_number_has_a_row_or_bounds_nothing(self) -> None:
        for name, table in tables().items():
            rows = OF_TABLES if name in GENERAL else OF_LISTENERS
            told = {row.key for row in rows.get(name, ())} | NO_LIMITS.get(name, frozenset())
            shared = {f"limits.{row.key}" for row in SHARED} if name in listeners() else set()
            web = {row.key for row in WEB} if name in of_web() else set()
            self.assertEqual(set(numbers(table)) - told - shared - web, set(), name)
            self.assertEqual(told - set(numbers(table)), set(), name)
            self.assertEqual({row.key for row in rows.get(name, ())} & NO_LIMITS.get(name, frozenset()), set(), name)

    def test_every_listener_is_there(self) -> None:
        self.assertEqual(set(OF_LISTENERS), set(listeners()))

    def test_every_row_names_a_test_that_is_there(self) -> None:
        self.assertEqual([row.shown_by for row in ALL if not exists(row.shown_by)], [])
        self.assertFalse(exists("test_limits.PageTests.test_nothing"))
        self.assertFalse(exists("nowhere.test_limits.PageTests.test_every_listener_is_there"))

    def test_reasons_are_of_the_catalogue(self) -> None:
        """What stands in code with an underscore is a reason, a counter, a setting, or a state of ours."""
        settings = {key.rpartition(".")[2] for table in tables().values() for key in numbers(table)}
        others = {
            "malformed",
            "throttled",
            "logins_delayed",
            "logins_locked_out",
            "loracenter_lost_uploads",
            "too_many_gateways",
        }
        for row in ALL:
            for word in row.beyond.split("`")[1::2]:
                known = word in CLOSE_REASONS or word in DROP_REASONS or word.rpartition(".")[2] in settings
                self.assertTrue(known or word in others | {"failed", "reply", "pending"}, (row.key, word))
