"""Events by HTTP POST, signed.

::

    POST <url>
    Content-Type: application/json
    Idempotency-Key: <id of the event; of several, a digest of their ids>      the same in all attempts
    Broker-Signature: t=<UNIX seconds>,v1=<HMAC-SHA256 in hex>                 under the sink's secret, of "<t>.<body>"

    {"sink": "sink-..", "events": [{"id", "kind", "severity", "at", "device", "protocol", "details"}, ..]}

The status alone decides: 2xx is a delivery, 4xx is a refusal for good (but 408, 425 and 429), everything else is tried
again. Redirects are not followed: the secret's signature and the headers are for one address. Of the answer's body some
bytes are read for people; a 2xx counts as soon as its head is there. Certificates are verified.

An administrator may name any address, also inside the network: that is what many receivers are.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from email.utils import parsedate_to_datetime
from hashlib import sha256
from io import BytesIO
from typing import Any, ClassVar, Final

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.ssl import trustRootFromCertificates
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.client import Agent, BrowserLikePolicyForHTTPS, FileBodyProducer, HTTPConnectionPool, ResponseFailed
from twisted.web.http_headers import Headers

from broker import __version__
from broker.events.event import Event
from broker.events.settings import EventsTable
from broker.events.sinks import Outcome, Sink, delivered, never, not_now, too_late
from broker.events.trust import authorities
from broker.model.jsontext import encode

#: Refusals that may be over soon.
TEMPORARY: Final = frozenset({408, 425, 429})
#: Bytes of an answer that are read, and shown of it.
MAX_READ: Final = 4_096
MAX_SHOWN: Final = 200
#: What stands for a secret, and from how many characters on something may be one.
HIDDEN: Final = "***"
LEAST_SECRET: Final = 4
#: Seconds for the rest of an answer of which the status is known.
BODY_TIMEOUT: Final = 5.0
#: Seconds that an idle connection to a receiver is kept.
KEPT: Final = 30


class Glance(Protocol):
    """The first bytes of an answer; the connection is given up when there are more, or they take too long."""

    def __init__(self, reactor: Any) -> None:
        self.done: Deferred[bytes] = Deferred()
        self._read = b""
        self._timeout = reactor.callLater(BODY_TIMEOUT, self._enough)

    def dataReceived(self, data: bytes) -> None:
        self._read += data[: MAX_READ - len(self._read)]
        if len(self._read) >= MAX_READ:
            self._enough()

    def _enough(self) -> None:
        transport: Any = self.transport
        if transport is not None:
            transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._timeout.active():
            self._timeout.cancel()
        if not self.done.called:
            self.done.callback(self._read)


class Webhooks:
    """All webhooks. ``clock`` gives UNIX seconds."""

    log: ClassVar[Logger] = Logger()

    def __init__(self, settings: EventsTable, reactor: Any, clock: Callable[[], float]) -> None:
        """Raises OSError or ValueError for a `EventsTable.webhook_ca` that cannot be used."""
        self._reactor = reactor
        self._clock = clock
        self._timeout = settings.delivery_timeout
        self._pool = HTTPConnectionPool(reactor)
        self._pool.retryAutomatically = False
        self._pool.cachedConnectionTimeout = KEPT
        given = authorities(settings.webhook_ca)
        policy = BrowserLikePolicyForHTTPS(None if given is None else trustRootFromCertificates(given))
        self._agent = Agent(reactor, policy, connectTimeout=settings.delivery_timeout, pool=self._pool)

    async def deliver(self, sink: Sink, events: Sequence[Event]) -> Outcome:
        """One attempt; never raises but when it is cancelled."""
        body = encode({"sink": sink.id, "events": [event.as_dict() for event in events]})
        try:
            asking: Deferred[Any] = self._agent.request(
                b"POST", sink.url.encode("ascii"), self._headers(sink, events, body), FileBodyProducer(BytesIO(body))
            )
            response = await asking.addTimeout(self._timeout, self._reactor, too_late)
        except CancelledError:
            raise
        except TimeoutError:
            return not_now(f"no answer within {self._timeout:g} s")
        except ResponseFailed as error:
            return not_now(f"the connection broke: {_reason_of(error)}")
        except (ConnectError, DNSLookupError) as error:
            return not_now(f"cannot connect: {error}")
        except Exception as error:  # whatever a URL, a resolver or TLS may come up with: the event waits
            return not_now(f"{type(error).__name__}: {error}")
        return await self._judge(sink, response)

    async def _judge(self, sink: Sink, response: Any) -> Outcome:
        glance = Glance(self._reactor)
        response.deliverBody(glance)
        code = int(response.code)
        if 200 <= code < 300:
            return delivered(code)
        said = " ".join((await glance.done).decode("utf-8", "replace").split())
        said = without_secrets(sink, said)[:MAX_SHOWN]
        detail = f"answered {code}" + (f": {said}" if said else "")
        if 300 <= code < 400:
            return not_now(f"answered {code}, and redirects are not followed", code)
        if 400 <= code < 500 and code not in TEMPORARY:
            return never(detail, code)
        return not_now(detail, code, self._retry_after(response.headers))

    def _headers(self, sink: Sink, events: Sequence[Event], body: bytes) -> Headers:
        headers = Headers({name: [value] for name, value in sink.headers.items()})
        headers.setRawHeaders("Content-Type", ["application/json"])
        headers.setRawHeaders("User-Agent", [f"broker/{__version__}"])
        headers.setRawHeaders("Idempotency-Key", [idempotency_key(events)])
        if sink.secret:
            headers.setRawHeaders("Broker-Signature", [signature(sink.secret, int(self._clock()), body)])
        return headers

    def _retry_after(self, headers: Headers) -> float | None:
        """Seconds; the header has a number of them, or a date."""
        values = headers.getRawHeaders("retry-after", [])
        if not values:
            return None
        text = values[0].strip()
        if text.isascii() and text.isdigit() and len(text) < 10:
            return float(text)
        try:
            return max(0.0, parsedate_to_datetime(text).timestamp() - self._clock())
        except (ValueError, OverflowError):
            return None

    def close(self) -> Deferred[None]:
        """End idle connections."""
        closing: Deferred[None] = self._pool.closeCachedConnections()
        return closing


def without_secrets(sink: Sink, text: str) -> str:
    """What a receiver answers, which may be what it was sent, without the sink's secret and words of its headers."""
    words = {sink.secret, *(word for value in sink.headers.values() for word in value.split())}
    for word in sorted(words, key=len, reverse=True):
        if len(word) >= LEAST_SECRET:
            text = text.replace(word, HIDDEN)
    return text


def signature(secret: str, at: int, body: bytes) -> str:
    """``t=<at>,v1=<hex>``."""
    digest = hmac.new(secret.encode(), b"%d.%b" % (at, body), sha256).hexdigest()
    return f"t={at},v1={digest}"


def idempotency_key(events: Sequence[Event]) -> str:
    if len(events) == 1:
        return events[0].id
    return sha256(" ".join(event.id for event in events).encode()).hexdigest()[:32]


def _reason_of(error: ResponseFailed) -> str:
    """What broke a connection: TLS says it in the first of its failures."""
    reasons = [failure.value for failure in error.reasons]
    return "; ".join(f"{type(one).__name__} {one}".strip() for one in reasons)[:200]
