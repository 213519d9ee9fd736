"""Commands that come as publishes on ``devices/<id>/command`` (DESIGN §9).

An MQTT 5 publisher may name a response topic and correlation data: every state of the command then goes there as well,
with that data, if the publisher may publish there himself. Both are kept with the command.

The acknowledgement of the publish waits until the command is kept. A command that is refused cannot be answered on that
way, so the refusal goes out as a failed state on ``devices/<id>/reply``, with ``id`` null and the caller's ``ref``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from broker.applications.mqtt.bridge import CORRELATION_DATA, QOS, RESPONSE_TOPIC, respond
from broker.applications.mqtt.topics import reply_topic
from broker.applications.ordering import order, parse_body
from broker.core import Core
from broker.model.errors import BrokerError, Unavailable
from broker.model.jsontext import decode, encode
from broker.mqtt import properties as props
from broker.mqtt.delivery import deliver

Done = Callable[[Exception | None], None]
Taker = Callable[[bytes, int, Any, Done], None]


class CommandIntake:
    """Turns publishes into commands."""

    log = Logger(namespace="broker.mqtt")

    def __init__(self, core: Core) -> None:
        self._core = core

    def taker(self, device_id: str, origin: str, publisher: Callable[[str], Any]) -> Taker:
        """What takes over the publishes of ``origin`` for one device; ``publisher``: IMqttPrincipal.publisher."""

        def take(payload: bytes, qos: int, properties: Any, done: Done) -> None:
            notes = _notes(properties, publisher)

            def kept(command: object) -> None:
                done(None)

            def refused(failure: Failure) -> None:
                error = failure.value
                if not isinstance(error, BrokerError):
                    self.log.failure("fault while taking a command", failure)
                    error = Unavailable("the broker could not take the command")
                self._tell(device_id, payload, error, notes)
                # What is wrong with the command itself is settled; what storage could not keep has to come again.
                done(error if isinstance(error, Unavailable) else None)

            maybeDeferred(self._order, device_id, payload, origin, notes).addCallbacks(kept, refused)

        return take

    def _order(self, device_id: str, payload: bytes, origin: str, notes: dict[str, str]) -> Any:
        return order(self._core, device_id, parse_body(payload), origin, notes)

    def _tell(self, device_id: str, payload: bytes, error: BrokerError, notes: dict[str, str]) -> None:
        """Publish the refusal for whoever listens to the device's replies, and for who asked."""
        result = {"error": error.slug, "message": error.message}
        now = round(self._core.clock(), 3)
        answer = {"id": None, "ref": _ref_of(payload), "status": "failed", "result": result, "at": now}
        text = encode(answer)
        deliver(self._core.topics.route(reply_topic(device_id)), text, QOS)
        respond(self._core.topics, notes, text)


def _notes(properties: Any, publisher: Callable[[str], Any]) -> dict[str, str]:
    """What is kept with a command of the publish's properties."""
    topic = props.text(properties, props.RESPONSE_TOPIC)
    if topic is None or publisher(topic) is not True:
        return {}
    data = props.binary(properties, props.CORRELATION_DATA)
    return {RESPONSE_TOPIC: topic, **({} if data is None else {CORRELATION_DATA: data.hex()})}


def _ref_of(payload: bytes) -> str | None:
    """The caller's reference, as far as a refused body has a usable one."""
    try:
        body = decode(payload)
    except ValueError:
        return None
    ref = body.get("ref") if isinstance(body, dict) else None
    return ref if isinstance(ref, str) and len(ref) <= 128 else None
