"""Boxes of sessions, when commits fail while they are read."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from broker.mqtt import boxes
from broker.mqtt.boxes import Boxes

Rows = list[tuple[bytes, list[bytes]]]


class Journal:
    def __init__(self) -> None:
        #: Where each page begins that was asked for, and who waits for it.
        self.asked: list[tuple[bytes, Deferred[Rows]]] = []
        self.taken: list[bytes] = []

    def load_box(self, number: int, after: bytes, limit: int) -> Deferred[Rows]:
        page: Deferred[Rows] = Deferred()
        self.asked.append((after, page))
        return page

    def append(self, op: tuple[Any, str, bytes]) -> None:
        self.taken.append(op[2])


class OpenedBoxes(Boxes):
    """That takes any body."""

    def _take(self, session: Any, body: bytes) -> None:
        pass


class BoxTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.journal = Journal()
        self.boxes = OpenedBoxes(self.journal, Any)  # type: ignore[arg-type]
        self.patch(boxes, "PAGE", 1)
        self.boxes.sessions[1] = object()  # type: ignore[assignment]
        self.boxes.look_at([1])

    def page(self, *entries: bytes) -> bytes:
        """Answer what was asked for last; where that page began."""
        after, page = self.journal.asked[-1]
        page.callback([(entry, [b""]) for entry in entries])
        return after

    def test_a_page_that_is_not_full_is_the_last_unless_there_is_news(self) -> None:
        self.patch(boxes, "PAGE", 2)
        self.page(b"1", b"2")
        self.boxes.look_at([1])
        self.assertEqual([self.page(b"3"), self.page(b"4")], [b"2", b"3"])
        self.assertEqual(len(self.journal.asked), 3)
        self.boxes.look_at([1])
        self.assertEqual(self.page(), b"4")

    def test_it_is_read_until_it_is_empty(self) -> None:
        self.assertEqual([self.page(b"1", b"2"), self.page(b"3"), self.page()], [b"", b"2", b"3"])
        self.assertEqual(self.journal.taken, [b"1", b"2", b"3"])
        self.assertEqual(len(self.journal.asked), 3)

    def test_after_a_refused_commit_it_is_read_from_the_start(self) -> None:
        self.page(b"1")
        self.page()
        self.boxes.again()
        self.assertEqual(self.page(b"1"), b"")

    def test_a_page_that_was_on_its_way_then_does_not_hide_what_is_before_it(self) -> None:
        self.page(b"1")
        self.boxes.again()
        self.assertEqual(self.page(b"2"), b"1")
        self.assertEqual(self.journal.taken, [b"1"], "the page is thrown away")
        self.assertEqual([self.page(b"1", b"2"), self.page()], [b"", b"2"])
        self.assertEqual(self.journal.taken, [b"1", b"1", b"2"])
