"""What the broker asks of a storage. SQLite is the default; every other one passes the same contract tests.

Every method answers with a Deferred, except the command journal, which calls back (the life cycle of commands is
synchronous). When an answer of a writing method arrives, the change is on disk (DESIGN §10). Writes are carried out in
the order of the calls; writes that wait together share one commit.

Look-ups of one thing (get_*, find_*, devices_of, applications_of) see every write that was asked for before them; lists
see every write that was answered before. Answers to writes and look-ups come in the order of the calls.

Errors: Conflict (it exists already), NotFound, Invalid (a cursor that no list gave, text that is not text), Unavailable
(full disk, locked or lost database, too much waiting: nothing was changed). No other exception comes out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, Final, Literal

import msgspec
from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from broker.model.messages import Command
from broker.model.records import (
    ApplicationRecord,
    DeviceQuery,
    DeviceRecord,
    LiveState,
    Product,
    StoredMessage,
)

#: key -> (value, at)
Readings = dict[str, tuple[Any, float]]
Done = Callable[[Exception | None], None]


class _Any(Enum):
    ANY = "any"


#: As what a `Change` expects: whatever is there, or nothing.
ANY: Final = _Any.ANY
Expected = bytes | Literal[_Any.ANY] | None


class Change(msgspec.Struct, frozen=True, gc=False):
    """One record to put, or to remove where ``value`` is None.

    ``expected``: what has to be there before (None: nothing), or ANY. To check without changing, expect and put the
    same bytes.
    """

    table: str
    key: str
    value: bytes | None
    expected: Expected = ANY


class IStorage(Interface):
    """One open storage."""

    sessions: Any = Attribute(
        "The journal of MQTT sessions and retained messages: a `broker.mqtt.journal.SessionJournal`."
    )

    def open() -> Deferred[None]:
        """Open, make or migrate; mark devices that a crash left online as offline with reason ``restart``."""

    def close() -> Deferred[None]:
        """Finish what waits and close."""

    def health() -> Deferred[str]:
        """Empty when work is taken, else one sentence that says why not."""

    def settle() -> Deferred[None]:
        """Answers when everything that was asked for before is on disk, or was refused."""

    def mark_dead_offline() -> Deferred[None]:
        """Mark as offline what broker processes have left online that are gone; nothing where there is one alone."""

    # products

    def add_product(product: Product) -> Deferred[None]:
        """Conflict if the key is taken."""

    def save_product(product: Product) -> Deferred[None]:
        """Replace; NotFound."""

    def delete_product(key: str) -> Deferred[None]:
        """NotFound; Conflict while devices use it."""

    def get_product(key: str) -> Deferred[Product | None]:
        """None when unknown."""

    def list_products() -> Deferred[list[Product]]:
        """By key."""

    # devices

    def add_devices(records: Sequence[DeviceRecord]) -> Deferred[list[str | None]]:
        """Add many in one commit; for each None, or why it was refused (id or dev_eui taken, product unknown)."""

    def save_device(record: DeviceRecord) -> Deferred[None]:
        """Replace everything but presence and info; NotFound (device, product), Conflict (dev_eui taken)."""

    def delete_device(device_id: str) -> Deferred[None]:
        """With its bindings, values, commands and history; NotFound."""

    def get_device(device_id: str) -> Deferred[DeviceRecord | None]:
        """By id, one index look-up."""

    def find_by_dev_eui(dev_eui: str) -> Deferred[DeviceRecord | None]:
        """By id or alias of a LoRaWAN address."""

    def count_devices() -> Deferred[dict[str, int]]:
        """How many there are of each protocol."""

    def list_devices(
        query: DeviceQuery, limit: int, cursor: str | None
    ) -> Deferred[tuple[list[DeviceRecord], str | None]]:
        """A page by id, and the cursor of the next page or None."""

    def save_info(device_id: str, info: dict[str, Any]) -> Deferred[None]:
        """Replace ``info``."""

    # applications and bindings

    def add_application(record: ApplicationRecord) -> Deferred[None]:
        """Conflict if the id or the cs_eui is taken."""

    def save_application(record: ApplicationRecord) -> Deferred[None]:
        """Replace; NotFound."""

    def delete_application(application_id: str) -> Deferred[None]:
        """With its bindings; NotFound."""

    def get_application(application_id: str) -> Deferred[ApplicationRecord | None]:
        """By id."""

    def find_by_cs_eui(cs_eui: str) -> Deferred[ApplicationRecord | None]:
        """By the 16 digits of a customer server's CsEUI."""

    def list_applications() -> Deferred[list[ApplicationRecord]]:
        """By id."""

    def bind(application_id: str, device_id: str) -> Deferred[None]:
        """NotFound if either is unknown; binding twice is fine."""

    def unbind(application_id: str, device_id: str) -> Deferred[None]:
        """NotFound if there was no binding."""

    def devices_of(application_id: str) -> Deferred[list[str]]:
        """Ids of the bound devices."""

    def applications_of(device_id: str) -> Deferred[list[str]]:
        """Ids of the applications bound to a device."""

    # last values, presence, history

    def get_values(device_id: str) -> Deferred[tuple[Readings, Readings]]:
        """(values, unmapped)."""

    def save_live(states: Sequence[LiveState]) -> Deferred[None]:
        """Presence, last_seen and changed values of many devices in one commit; unknown devices are skipped.

        A key that is saved as a value is no longer unmapped, and the other way round.
        """

    def add_messages(messages: Sequence[StoredMessage]) -> Deferred[None]:
        """Append to history; messages of unknown devices are skipped."""

    def list_messages(
        device_id: str,
        kind: str | None,
        since: float | None,
        until: float | None,
        limit: int,
        cursor: str | None,
    ) -> Deferred[tuple[list[StoredMessage], str | None]]:
        """Newest first; since <= at < until. An unknown device has none."""

    def prune(before: float, per_device: int) -> Deferred[int]:
        """Drop history older than ``before`` and what is over ``per_device`` messages, and commands that ended
        before ``before``; in small steps. How many rows went."""

    # commands: the journal of broker.routing.commands, and look-ups

    def add_command(command: Command, done: Done) -> None:
        """Keep a new command (copied before this returns); ``done(None)`` when it is on disk. NotFound, Conflict."""

    def save_command(command: Command, done: Done) -> None:
        """Keep its present state (copied before this returns). One that went with its device is no error."""

    def find_command(command_id: str, done: Callable[[Command | None], None]) -> None:
        """Look up; None when unknown or when storage fails."""

    def get_command(command_id: str) -> Deferred[Command | None]:
        """Look up; sees every write that was asked for before."""

    def open_commands() -> Deferred[list[Command]]:
        """All that are not in a final state, oldest first."""

    def list_commands(device_id: str, limit: int, cursor: str | None) -> Deferred[tuple[list[Command], str | None]]:
        """Newest first."""

    # records: what a protocol keeps for itself (`broker.storage.records` gives them types)

    def write_records(changes: Sequence[Change]) -> Deferred[None]:
        """Carry out all changes in their order, or none: Conflict when one finds something else than it expects.

        What a change expects is looked at after the changes before it. Removing what is not there is no error.
        """

    def get_record(table: str, key: str) -> Deferred[bytes | None]:
        """Look up."""

    def list_records(
        table: str, prefix: str = "", limit: int = 1000, after: str | None = None
    ) -> Deferred[list[tuple[str, bytes]]]:
        """(key, value) of the keys that begin with ``prefix`` and come after ``after``, at most ``limit``.

        Sorted by the bytes of the keys' UTF-8, which is the order of their code points."""
