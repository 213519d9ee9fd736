"""How an application orders a command, the same for every side that takes JSON (HTTP, MQTT, stream).

The body is ``{payload | payload_base64, ref?, timeout?, expires?, force?, ack?, port?, confirm?, priority?}``
(DESIGN §8). `order` checks it against the device and its product, and hands it to the life cycle; it answers when the
command is kept.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Generator, Mapping
from typing import Annotated, Any, Final
from uuid import uuid4

import msgspec
from msgspec import UNSET, Meta, UnsetType
from twisted.internet.defer import Deferred, inlineCallbacks

from broker.core import Core
from broker.model.errors import Invalid
from broker.model.jsontext import decode
from broker.model.messages import Command, Payload, payload_object
from broker.model.records import DeviceRecord

#: Nothing waits longer than a month.
MAX_EXPIRES: Final = 30 * 86400.0
MAX_TIMEOUT: Final = 86400.0
MAX_REF: Final = 128
#: So many unknown keys are named in a refusal; a payload may hold thousands.
MAX_NAMED: Final = 10

_OPTIONS: Final = ("force", "ack", "port", "confirm", "priority")


class CommandBody(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """What an application sends: one of ``payload`` and ``payload_base64``, and how it is to be done."""

    #: What the device is to be told, a JSON object; keys are those of its product's actuators, if it has a product.
    payload: dict[str, Any] | UnsetType = UNSET
    #: What the device is to be told, as bytes.
    payload_base64: str | UnsetType = UNSET
    #: The caller's own reference, which comes back with the answer; need not be unique.
    ref: Annotated[str, Meta(max_length=MAX_REF)] | None = None
    #: Seconds that the device's first answer may take once this is sent; null: as its protocol has it.
    timeout: Annotated[float, Meta(gt=0, le=MAX_TIMEOUT)] | None = None
    #: Seconds that this may wait for a device that is away; 0: not at all; null: ``commands.default_expires``.
    expires: Annotated[float, Meta(ge=0, le=MAX_EXPIRES)] | None = None
    #: Send it as it is, although the product has no such actuator; gizwits: although it has no such data point.
    force: bool = False
    #: gizwits: wait for the device's answer; left out, the command has succeeded when it is sent.
    ack: bool | UnsetType = UNSET
    #: lorawan: FPort; left out, that of the mote's last uplink.
    port: Annotated[int, Meta(ge=1, le=255)] | UnsetType = UNSET
    #: lorawan: send it as a confirmed downlink.
    confirm: bool | UnsetType = UNSET
    #: lorawan: the greater one goes first, and may use more of the air time; left out, ``default_priority``.
    priority: Annotated[int, Meta(ge=0, le=255)] | UnsetType = UNSET

    def content(self) -> Payload:
        """The payload, whichever way it came. Raises Invalid."""
        if (self.payload is UNSET) == (self.payload_base64 is UNSET):
            raise Invalid("one of payload (a JSON object) and payload_base64 (text) is needed")
        if not isinstance(self.payload_base64, str):
            assert isinstance(self.payload, dict)
            return self.payload
        try:
            return b64decode(self.payload_base64, validate=True)
        except ValueError:
            raise Invalid("payload_base64 is not base64") from None

    def options(self) -> dict[str, Any]:
        """What is left for the protocol, as far as it was given."""
        given = ((name, getattr(self, name)) for name in _OPTIONS)
        return {name: value for name, value in given if value is not UNSET and value is not False}


def parse_body(text: bytes) -> CommandBody:
    """The body of a command. Raises Invalid with what is wrong with it."""
    try:
        return msgspec.convert(decode(text), CommandBody)
    except ValueError as error:
        raise Invalid(str(error)) from None


@inlineCallbacks
def order(
    core: Core, device_id: str, body: CommandBody, origin: str, notes: Mapping[str, Any] | None = None
) -> Generator[Deferred[Any], Any, Command]:
    """Take a command for a device; answers with it when it is kept. ``notes`` are kept with its options.

    Fails with NotFound (device), Invalid (payload, keys unknown to the product), DeviceOffline, LimitExceeded,
    Unavailable.
    """
    content = body.content()
    record = yield core.registry.get_device(device_id)
    if not body.force:
        yield check_content(core, record, content)
    command = new_command(
        core,
        record,
        content,
        origin,
        core.default_expires if body.expires is None else body.expires,
        timeout=body.timeout,
        ref=body.ref,
        options={**body.options(), **(notes or {})},
    )
    kept: Deferred[None] = Deferred()
    core.commands.submit(command, lambda error: kept.callback(None) if error is None else kept.errback(error))
    yield kept
    return command


@inlineCallbacks
def check_content(core: Core, record: DeviceRecord, content: Payload) -> Generator[Deferred[Any], Any, None]:
    """Fails with Invalid for keys that the device's product, if it has one, does not know."""
    keyed = getattr(core.registry.protocols.get(record.protocol), "keyed", True)
    if record.product is None or not keyed:
        return
    product = yield core.registry.get_product(record.product)
    if product is not None:  # it may have been deleted this moment, together with its last device
        _check_keys(content, product.command_keys)


def new_command(
    core: Core,
    record: DeviceRecord,
    content: Payload,
    origin: str,
    expires: float,
    *,
    timeout: float | None = None,
    ref: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Command:
    """A command to a device, not submitted yet. ``expires`` in seconds from now."""
    now = core.clock()
    return Command(
        id=str(uuid4()),
        device=record.id,
        protocol=record.protocol,
        payload=content,
        origin=origin,
        created_at=now,
        expires_at=now + expires,
        timeout=timeout,
        ref=ref,
        options=options,
    )


def _check_keys(content: Payload, known: frozenset[str]) -> None:
    """A product's device takes only its actuators' keys (NovaCloud guide 7.1); bytes that are no object have none."""
    fields = payload_object(content)
    if isinstance(content, bytes) and "base64" in fields:
        return
    unknown = sorted(set(fields) - known)[:MAX_NAMED]
    if unknown:
        raise Invalid(f"the product has no actuator {', '.join(unknown)}; force: true sends it all the same")
