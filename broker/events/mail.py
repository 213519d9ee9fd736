"""Events by e-mail, through the server of ``[mail]``: one message for each delivery.

The message's id is made of the first event's, so a server that has seen it may drop it the second time. Text is base64,
as Twisted's client does not take care of dots at the edges of its pieces. What an SMTP error says beyond its code and
text is never shown: its log has the log-in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from email.message import EmailMessage
from email.utils import formatdate, parseaddr
from functools import cache
from io import BytesIO
from string import Template
from typing import Any, ClassVar, Final

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.protocol import connectionDone
from twisted.internet.ssl import optionsForClientTLS, trustRootFromCertificates
from twisted.logger import Logger
from twisted.python.failure import Failure

from broker.events.event import Event, severity_of
from broker.events.settings import EventsTable, MailTable
from broker.events.sinks import Outcome, Sink, delivered, never, not_now, too_late
from broker.events.trust import authorities
from broker.model.jsontext import encode

SUBJECT: Final = "[$severity] $kind $device"
#: Characters of a subject: longer lines are refused by some servers.
MAX_SUBJECT: Final = 200


@cache
def sender_factory() -> Any:
    """Twisted's, for endpoints, where nobody but the protocol tells the factory that the connection is lost.

    Made late: importing twisted.mail.smtp installs the default reactor where there is none.
    """
    from twisted.mail.smtp import ESMTPSender, ESMTPSenderFactory

    class Sender(ESMTPSender):
        def connectionLost(self, reason: Failure = connectionDone) -> None:
            super().connectionLost(reason)  # type: ignore[no-untyped-call]  # Twisted's
            if not self.factory.sendFinished:
                self.factory.clientConnectionLost(None, reason)

        def timeoutConnection(self) -> None:
            if self.factory.sendFinished:  # it is told already, and only the goodbye is missing
                transport: Any = self.transport
                transport.abortConnection()
            else:
                super().timeoutConnection()  # type: ignore[no-untyped-call]  # Twisted's

    class SenderFactory(ESMTPSenderFactory):
        protocol = Sender
        noisy = False

    return SenderFactory


class Mails:
    """All e-mail sinks. ``clock`` gives UNIX seconds."""

    log: ClassVar[Logger] = Logger()

    def __init__(self, mail: MailTable, events: EventsTable, reactor: Any, clock: Callable[[], float]) -> None:
        """Raises OSError or ValueError for a `MailTable.ca` that cannot be used."""
        self._mail = mail
        self._reactor = reactor
        self._clock = clock
        self._timeout = events.delivery_timeout
        given = authorities(mail.ca)
        self._trust = None if given is None else trustRootFromCertificates(given)

    async def deliver(self, sink: Sink, events: Sequence[Event]) -> Outcome:
        """One attempt; never raises but when it is cancelled."""
        from twisted.mail.smtp import SMTPClientError, SMTPDeliveryError

        if not self._mail.host:
            return not_now("no mail server is configured ([mail] host)")
        try:
            message = self._message(sink, events)
        except ValueError as error:
            return never(f"it cannot be written as a message: {error}")
        try:
            sending = Deferred.fromCoroutine(self._send(sink, message))
            _, answers = await sending.addTimeout(self._timeout, self._reactor, too_late)
        except CancelledError:
            raise
        except TimeoutError:
            return not_now(f"not done within {self._timeout:g} s")
        except SMTPDeliveryError as error:
            text = _text(error.resp)
            permanent = 500 <= error.code < 600
            detail = f"the mail server refused it: {error.code} {text}"
            return never(detail, error.code) if permanent else not_now(detail, error.code)
        except SMTPClientError as error:
            # The log-in, TLS, the connection: nothing that is this message's fault.
            return not_now(f"{type(error).__name__}: {error.code} {_text(error.resp)}", error.code)
        except (ConnectError, DNSLookupError) as error:
            return not_now(f"cannot connect: {error}")
        except Exception as error:  # TLS and resolvers have errors of their own: the event waits
            return not_now(f"{type(error).__name__}: {error}")
        refused = [_text(address) for address, code, _ in answers if not 200 <= code < 300]
        if refused:
            self.log.warn("{sink}: {count} of its addresses were refused", sink=sink.id, count=len(refused))
        return delivered(250, f"not taken for {', '.join(refused)}" if refused else "")

    async def _send(self, sink: Sink, message: EmailMessage) -> Any:
        mail = self._mail
        sent: Deferred[Any] = Deferred()
        host = mail.host
        options: Any = optionsForClientTLS(host, self._trust) if mail.tls != "none" else None
        factory = sender_factory()(
            mail.username.encode() or None,
            mail.password.encode() or None,
            parseaddr(sink.sender or mail.sender)[1],
            list(sink.to),
            BytesIO(message.as_bytes()),
            sent,
            retries=0,
            timeout=self._timeout,
            contextFactory=options,
            requireAuthentication=bool(mail.username),
            requireTransportSecurity=mail.tls != "none",
        )
        endpoint: Any = HostnameEndpoint(self._reactor, host, mail.port, timeout=self._timeout)
        if mail.tls == "tls":
            endpoint = wrapClientTLS(options, endpoint)
        protocol = await endpoint.connect(factory)
        try:
            return await sent
        except CancelledError:
            factory.sendFinished = True
            protocol.transport.abortConnection()
            raise

    def _message(self, sink: Sink, events: Sequence[Event]) -> EmailMessage:
        """Raises ValueError."""
        first = events[0]
        message = EmailMessage()
        subject = Template(sink.subject or SUBJECT).safe_substitute(
            kind=first.kind,
            severity=severity_of(first.kind),
            device=first.device or "",
            name=first.details.get("name", ""),
            count=len(events),
        )
        if len(events) > 1 and "$count" not in sink.subject:
            subject += f" (and {len(events) - 1} more)"
        message["Subject"] = " ".join(subject.split())[:MAX_SUBJECT]
        message["From"] = sink.sender or self._mail.sender
        message["To"] = ", ".join(sink.to)
        message["Date"] = formatdate(first.at, usegmt=True)
        message["Message-ID"] = f"<{first.id}.{sink.id}@broker.invalid>"
        message["Auto-Submitted"] = "auto-generated"
        message.set_content("\n".join(_paragraph(event) for event in events), cte="base64")
        return message


def _paragraph(event: Event) -> str:
    """An event for people."""
    lines = [
        f"{severity_of(event.kind)}: {event.kind}",
        f"when: {formatdate(event.at, usegmt=True)}",
        *([f"device: {event.device} ({event.protocol or 'unknown protocol'})"] if event.device else []),
        *(f"{key}: {_shown(value)}" for key, value in event.details.items()),
        f"event: {event.id}",
        "",
    ]
    return "\n".join(lines)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else encode(value).decode()


def _text(value: Any) -> str:
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return " ".join(text.split())[:200]
