"""The retained messages that new subscriptions of one client are owed [MQTT-3.3.1-6], 5.0 [MQTT-3.3.1-9..11].

::

    ask(filter) ─> [filters that wait] ─> the server's figures ─> the store ─> principal.retained(filter, cursor)
                                             each a page at a time, sent with RETAIN = 1; the next page
                                             in another turn, or when socket and window have room

One page at a time and one filter after the other: however many filters a client sends, and however often, it keeps
storage busy with one question, and takes no more memory than a page and its own filters. What is no longer subscribed
to, or may no longer be received, is not sent.

The store has what clients published with RETAIN; what the broker itself says (presence) is the principal's knowledge.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from broker.mqtt.message import Message, Options
from broker.mqtt.session import Session
from broker.routing.retained import Cursor, RetainedStore

#: (topic, payload) of some messages, and where the next page starts (None: that was all).
Page: TypeAlias = tuple[list[tuple[str, bytes]], str | None]
#: (topic, payload) of the broker's own figures that a filter selects.
Figures: TypeAlias = Callable[[str], list[tuple[str, bytes]]]

#: Messages of the store that are sent in one turn, and how many may wait for the window before no more are looked at.
PAGE: Final = 100


class RetainedPages:
    """``failed(failure)`` is told when a page could not be had; what else waits is then forgotten. ``later(call)``
    calls in another turn.
    """

    __slots__ = (
        "_asking",
        "_cursor",
        "_failed",
        "_figures",
        "_filter",
        "_granted",
        "_later",
        "_of_store",
        "_session",
        "_store",
        "_waiting",
        "_working",
    )

    def __init__(
        self,
        session: Session,
        store: RetainedStore[Message],
        figures: Figures,
        later: Callable[[Callable[[], None]], Any],
        failed: Callable[[Failure], object],
    ) -> None:
        self._session = session
        self._store = store
        self._figures = figures
        self._later = later
        self._failed = failed
        #: Filters that wait, in their order.
        self._waiting: dict[str, Options] = {}
        self._filter: str | None = None
        self._granted: Options | None = None
        self._of_store: Cursor[Message] | None = None
        self._cursor: str | None = None
        self._asking = False
        self._working = False

    def ask(self, topic_filter: str, granted: Options) -> None:
        """There is a subscription to ``topic_filter``, new or renewed."""
        self._waiting[topic_filter] = granted
        self.go_on()

    def forget(self, topic_filter: str) -> None:
        """The subscription is gone."""
        self._waiting.pop(topic_filter, None)
        if topic_filter == self._filter:
            self._filter = None

    def stop(self) -> None:
        """The client is gone."""
        self._waiting.clear()
        self._filter = None

    def go_on(self) -> None:
        """Send what is next, unless a page is on its way or there is no room (call again when there is)."""
        if self._working:
            return
        self._working = True
        try:
            while not self._asking and not self._session.outbox.blocked and self._session.waiting < PAGE:
                topic_filter = self._choose()
                if topic_filter is None:
                    return
                if self._of_store is None:
                    self._ask_page(topic_filter)
                elif not self._send_stored(self._of_store):
                    self._later(self.go_on)
                    return
        finally:
            self._working = False

    def _choose(self) -> str | None:
        if self._filter is None and self._waiting:
            self._filter = topic_filter = next(iter(self._waiting))
            self._granted = self._waiting.pop(topic_filter)
            self._cursor = None
            self._of_store = self._store.match(topic_filter)
            self._send(self._figures(topic_filter))
        return self._filter

    def _send_stored(self, cursor: Cursor[Message]) -> bool:
        """A page of the store. False: there is more, for another turn."""
        session = self._session
        granted = self._granted
        assert granted is not None
        for topic, message in cursor.page(PAGE, session.clock()):
            if session.may_receive(topic):
                session.show(message, granted)
        if cursor.finished:
            self._of_store = None
        return cursor.finished

    def _ask_page(self, topic_filter: str) -> None:
        page: Deferred[Page] | None = self._session.principal.retained(topic_filter, self._cursor)
        if page is None:
            self._filter = None
            return
        self._asking = True
        page.addCallback(self._got, topic_filter).addErrback(self._lost)

    def _got(self, page: Page, topic_filter: str) -> None:
        self._asking = False
        if topic_filter == self._filter:
            messages, self._cursor = page
            if self._cursor is None:
                self._filter = None
            self._send(messages)
        self.go_on()

    def _send(self, messages: list[tuple[str, bytes]]) -> None:
        session = self._session
        granted = self._granted
        assert granted is not None
        for topic, payload in messages:
            if session.may_receive(topic):
                session.show(Message(topic.encode(), payload, 0), granted)

    def _lost(self, failure: Failure) -> None:
        self._asking = False
        self.stop()
        self._failed(failure)
