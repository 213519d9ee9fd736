"""The retained messages that new subscriptions of one client are owed [MQTT-3.3.1-6].

::

    ask(filter) ─> [filters that wait] ─> principal.retained(filter, cursor) ─> a page ─> sent with RETAIN = 1
                                              └──── next page, when the socket has room ────┘

One page at a time and one filter after the other: however many filters a client sends, and however often, it keeps
storage busy with one question, and takes no more memory than a page and its own filters. What is no longer subscribed
to, or may no longer be received, is not sent. The messages go out at QoS 0.

Which messages are retained is the principal's knowledge: here that is what the broker itself says. A client's own
publishes with RETAIN are delivered and not kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from broker.mqtt import encode
from broker.mqtt.session import Session

#: (topic, payload) of some messages, and where the next page starts (None: that was all).
Page: TypeAlias = tuple[list[tuple[str, bytes]], str | None]


class RetainedPages:
    """``failed(failure)`` is told when a page could not be had; what else waits is then forgotten."""

    __slots__ = ("_asking", "_cursor", "_failed", "_filter", "_session", "_waiting", "_working")

    def __init__(self, session: Session, failed: Callable[[Failure], object]) -> None:
        self._session = session
        self._failed = failed
        #: Filters that wait, in their order.
        self._waiting: dict[str, None] = {}
        self._filter: str | None = None
        self._cursor: str | None = None
        self._asking = False
        self._working = False

    def ask(self, topic_filter: str) -> None:
        """There is a subscription to ``topic_filter``, new or renewed."""
        self._waiting[topic_filter] = None
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
        """Ask for what is next, unless a page is on its way or the socket is full (call again when it is not)."""
        if self._working:
            return
        self._working = True
        try:
            while not self._asking and not self._session.outbox.blocked:
                topic_filter = self._choose()
                if topic_filter is None:
                    return
                self._ask_page(topic_filter)
        finally:
            self._working = False

    def _choose(self) -> str | None:
        if self._filter is None and self._waiting:
            self._filter = next(iter(self._waiting))
            self._cursor = None
            del self._waiting[self._filter]
        return self._filter

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
        for topic, payload in messages:
            if session.may_receive(topic):
                session.stats.messages_out += 1
                session.outbox.put(encode.publish(topic.encode(), payload, retain=True))

    def _lost(self, failure: Failure) -> None:
        self._asking = False
        self.stop()
        self._failed(failure)
