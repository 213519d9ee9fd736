"""Boxes of sessions, when commits fail while they are read."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from broker.mqtt import boxes
from broker.mqtt.boxes import Boxes

Rows = list[tuple[bytes, list[bytes]]]


class Journal:
    def __init__(self) -> None:
        self.position = self.committed = 0
        #: Where each page begins that was asked for, and who waits for it.
        self.asked: list[tuple[bytes, Deferred[Rows]]] = []
        self.taken: list[bytes] = []

    def load_box(self, number: int, after: bytes, limit: int) -> Deferred[Rows]:
        page: Deferred[Rows] = Deferred()
        self.asked.append((after, page))
        return page

    def append(self, op: tuple[Any, str, bytes]) -> None:
        self.taken.append(op[2])
        self.position += 1


class Session:
    detour: Any = None


class Out:
    """What goes into boxes."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.sent: list[tuple[int, Any]] = []
        self.news: dict[int, int] = {}

    def pack(self, message: Any) -> Any:
        return message

    def box(self, number: int, body: Any) -> int:
        self.sent.append((number, body))
        self._journal.position += 1
        return self._journal.position


class OpenedBoxes(Boxes):
    """That takes any body."""

    def _take(self, session: Any, body: bytes) -> None:
        pass


class BoxTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.journal = Journal()
        out: Any = Out(self.journal)
        session: Any = Session()
        self.out, self.session = out, session
        topics: Any = None
        self.patch(boxes, "PAGE", 1)
        self.boxes = OpenedBoxes(self.journal, topics, out)
        self.boxes.sessions[1] = session
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
        self.assertEqual(len(self.journal.asked), 2, "not at once: who is full would be asked all the time")
        self.boxes.tick()
        self.assertEqual(self.page(b"1"), b"")

    def test_a_page_that_was_on_its_way_then_does_not_hide_what_is_before_it(self) -> None:
        self.page(b"1")
        self.boxes.again()
        self.assertEqual(self.page(b"2"), b"1")
        self.assertEqual(self.journal.taken, [b"1"], "the page is thrown away")
        self.assertEqual([self.page(b"1", b"2"), self.page()], [b"", b"2"])
        self.assertEqual(self.journal.taken, [b"1", b"1", b"2"])

    # -- what is published here while there is something in the box ---------------------------------------------------

    def publish(self, message: Any) -> bool:
        """Whether it went into the box."""
        if self.session.detour is None:
            return False
        self.assertEqual(self.session.detour(message), self.journal.position)
        return True

    def test_it_goes_behind_what_lies_there(self) -> None:
        self.boxes.aside([1, 2])
        self.assertTrue(self.publish("a"))
        self.page(b"1")
        self.page()
        self.assertTrue(self.publish("b"), "the first may have come into the box since")
        self.assertEqual(self.out.sent, [(1, "a"), (1, "b")])
        self.journal.committed = self.journal.position
        self.boxes.look_at([1])
        self.page(b"2", b"3")
        self.page()
        self.assertFalse(self.publish("c"))

    def test_what_came_while_an_empty_page_was_on_its_way_is_read_first(self) -> None:
        self.page()
        self.boxes.aside([1])
        self.assertTrue(self.publish("a"))
        self.journal.committed = self.journal.position
        self.page()
        self.assertTrue(self.publish("b"))

    def test_what_was_on_its_way_there_before_the_session_came(self) -> None:
        self.page()
        self.out.news[1] = self.out.box(1, "a")
        self.boxes.aside([1])
        self.page()
        self.assertTrue(self.publish("b"))
        self.journal.committed = self.journal.position
        self.boxes.look_at([1])
        self.page(b"1", b"2")
        self.page()
        self.assertFalse(self.publish("c"))

    def test_a_refused_commit_leaves_none_behind_for_ever(self) -> None:
        self.page()
        self.boxes.aside([1])
        self.publish("a")
        self.page()
        self.journal.committed = self.journal.position  # told as failed: no news of it
        self.boxes.again()
        self.boxes.tick()
        self.page()
        self.assertFalse(self.publish("b"))

    def test_what_a_refused_commit_left_there_comes_first(self) -> None:
        self.page(b"1")
        self.page()
        self.assertFalse(self.publish("a"))
        self.boxes.again()
        self.assertTrue(self.publish("b"))
        self.journal.committed = self.journal.position
        self.boxes.tick()
        self.page(b"1")
        self.page()
        self.assertFalse(self.publish("c"))

    # -- sessions that go ----------------------------------------------------------------------------------------------

    def test_one_that_goes_is_read_no_further(self) -> None:
        over: list[Any] = []
        Deferred.fromCoroutine(self.boxes.hold(1)).addCallback(over.append)
        self.assertEqual(over, [], "a page is on its way")
        self.page(b"1", b"2")
        self.assertEqual((over, self.journal.taken), ([None], []))
        self.boxes.look_at([1])
        self.assertEqual(len(self.journal.asked), 1)
        self.assertTrue(self.publish("a"), "it is the next owner's to take")
        self.boxes.go_on(1)
        self.assertEqual(self.page(b"1", b"2"), b"")
        self.assertEqual(self.boxes.taken_at(1), self.journal.position)

    def test_one_that_comes_back_is_read_from_the_start(self) -> None:
        self.page(b"1")
        self.page()
        del self.boxes.sessions[1]
        self.boxes.forget(1)
        self.boxes.sessions[1] = self.session
        self.boxes.aside([1])
        self.assertEqual(self.page(b"1"), b"")

    def test_news_of_one_that_has_come_back_while_its_old_box_was_being_read(self) -> None:
        self.boxes.clear()
        self.boxes.sessions[1] = Session()  # type: ignore[assignment]
        self.boxes.aside([1])
        self.page(b"1")
        self.assertEqual((self.journal.taken, len(self.journal.asked)), ([], 2))
        self.page(b"1")
        self.assertEqual(self.journal.taken, [b"1"])
