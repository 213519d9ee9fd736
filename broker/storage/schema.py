"""The tables, their versions, and how an older database becomes a present one.

``PRAGMA user_version`` holds how many of `MIGRATIONS` have been carried out. A migration that was released is never
changed; a new one is added at the end. Each runs in a transaction of its own together with its version number, so that
a crash in between leaves the version before. ``PRAGMA application_id`` marks the file as ours.

``devices.n`` is a small number in place of the id in the tables that have many rows a device. Bindings hold the id,
so that the devices of an application can be paged by id. JSON is TEXT; bytes are BLOB: the storage class alone tells
which of the two a payload was.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from broker.model.errors import Unavailable

#: "brkr"
APPLICATION_ID = 0x62726B72

_FIRST = (
    """CREATE TABLE products (
        key TEXT NOT NULL PRIMARY KEY,
        protocol TEXT NOT NULL,
        name TEXT NOT NULL,
        sensors TEXT NOT NULL,
        actuators TEXT NOT NULL,
        created_at REAL NOT NULL
    ) WITHOUT ROWID""",
    """CREATE TABLE devices (
        n INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        protocol TEXT NOT NULL,
        name TEXT NOT NULL,
        product TEXT,
        dev_eui TEXT,
        secret TEXT NOT NULL,
        disabled INTEGER NOT NULL,
        attributes TEXT NOT NULL,
        info TEXT NOT NULL,
        created_at REAL NOT NULL,
        online INTEGER NOT NULL,
        presence_reason TEXT NOT NULL,
        presence_at REAL,
        last_seen REAL
    )""",
    "CREATE UNIQUE INDEX devices_dev_eui ON devices (dev_eui) WHERE dev_eui IS NOT NULL",
    "CREATE INDEX devices_protocol ON devices (protocol, id)",
    "CREATE INDEX devices_product ON devices (product, id) WHERE product IS NOT NULL",
    "CREATE INDEX devices_online ON devices (online, id)",
    """CREATE TABLE readings (
        device INTEGER NOT NULL,
        key TEXT NOT NULL,
        mapped INTEGER NOT NULL,
        value TEXT NOT NULL,
        at REAL NOT NULL,
        PRIMARY KEY (device, key)
    ) WITHOUT ROWID""",
    """CREATE TABLE applications (
        id TEXT NOT NULL PRIMARY KEY,
        kind TEXT NOT NULL,
        name TEXT NOT NULL,
        secret TEXT NOT NULL,
        cs_eui TEXT,
        app_key TEXT NOT NULL,
        disabled INTEGER NOT NULL,
        created_at REAL NOT NULL
    ) WITHOUT ROWID""",
    "CREATE UNIQUE INDEX applications_cs_eui ON applications (cs_eui) WHERE cs_eui IS NOT NULL",
    """CREATE TABLE bindings (
        application TEXT NOT NULL,
        device TEXT NOT NULL,
        PRIMARY KEY (application, device)
    ) WITHOUT ROWID""",
    "CREATE INDEX bindings_device ON bindings (device)",
    """CREATE TABLE messages (
        n INTEGER PRIMARY KEY,
        device INTEGER NOT NULL,
        at REAL NOT NULL,
        kind TEXT NOT NULL,
        payload NOT NULL,
        meta TEXT
    )""",
    "CREATE INDEX messages_device ON messages (device, at)",
    """CREATE TABLE commands (
        n INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        device INTEGER NOT NULL,
        payload NOT NULL,
        origin TEXT NOT NULL,
        created_at REAL NOT NULL,
        expires_at REAL NOT NULL,
        timeout REAL,
        ref TEXT,
        options TEXT NOT NULL,
        status TEXT NOT NULL,
        result TEXT NOT NULL,
        late TEXT NOT NULL,
        updated_at REAL NOT NULL,
        deadline REAL,
        ended INTEGER NOT NULL
    )""",
    "CREATE INDEX commands_device ON commands (device)",
    "CREATE INDEX commands_open ON commands (n) WHERE ended = 0",
    "CREATE INDEX commands_ended ON commands (updated_at) WHERE ended = 1",
    # Always empty: see sqlite.probe.
    "CREATE TABLE probe (filling BLOB NOT NULL)",
)

#: MQTT. A row of ``queue`` or ``incoming`` is found by its number alone (see `session_batch`; ``data``: `session_sql`),
#: so that a message costs no index.
_SECOND = (
    """CREATE TABLE sessions (
        number INTEGER PRIMARY KEY,
        slot INTEGER NOT NULL UNIQUE,
        owner TEXT NOT NULL,
        client_id TEXT NOT NULL,
        version INTEGER NOT NULL,
        expiry INTEGER,
        subscriptions BLOB NOT NULL,
        will BLOB NOT NULL,
        disconnected_at REAL
    )""",
    "CREATE TABLE queue (id INTEGER PRIMARY KEY, data BLOB NOT NULL)",
    "CREATE TABLE incoming (id INTEGER PRIMARY KEY)",
    """CREATE TABLE retained (
        topic TEXT NOT NULL PRIMARY KEY,
        payload BLOB NOT NULL,
        qos INTEGER NOT NULL,
        properties BLOB NOT NULL,
        expires_at REAL
    ) WITHOUT ROWID""",
)

#: What protocols keep for themselves (`records_sql`). ``tbl`` is a name of theirs; keys are compared by their bytes.
_THIRD = (
    """CREATE TABLE records (
        tbl TEXT NOT NULL,
        key TEXT NOT NULL,
        value BLOB NOT NULL,
        PRIMARY KEY (tbl, key)
    ) WITHOUT ROWID""",
)

#: A row for each subscription, so that one more is one row more whatever else there is; and wills, which connections
#: have and not sessions. ``options``: `broker.mqtt.message.Options.as_number`.
_FOURTH = (
    """CREATE TABLE subscriptions (
        session INTEGER NOT NULL,
        topic_filter TEXT NOT NULL,
        options INTEGER NOT NULL,
        PRIMARY KEY (session, topic_filter)
    ) WITHOUT ROWID""",
    """INSERT INTO subscriptions SELECT number, key, json_extract(value, '$[0]') | (json_extract(value, '$[1]') << 2)
            | (json_extract(value, '$[2]') << 3) | (json_extract(value, '$[3]') << 4)
        FROM sessions, json_each(CAST(subscriptions AS TEXT))""",
    """CREATE TABLE sessions_now (
        number INTEGER PRIMARY KEY,
        slot INTEGER NOT NULL UNIQUE,
        owner TEXT NOT NULL,
        client_id TEXT NOT NULL,
        version INTEGER NOT NULL,
        expiry INTEGER,
        disconnected_at REAL
    )""",
    """INSERT INTO sessions_now SELECT number, slot, owner, client_id, version, expiry, disconnected_at
        FROM sessions""",
    "DROP TABLE sessions",
    "ALTER TABLE sessions_now RENAME TO sessions",
    """CREATE TABLE wills (
        number INTEGER PRIMARY KEY,
        owner TEXT NOT NULL,
        client_id TEXT NOT NULL,
        topic TEXT NOT NULL,
        payload BLOB NOT NULL,
        qos INTEGER NOT NULL,
        retain INTEGER NOT NULL,
        properties BLOB NOT NULL,
        delay INTEGER NOT NULL,
        lost_at REAL
    )""",
)

#: The devices behind a gateway.
_FIFTH = (
    """CREATE INDEX devices_parent ON devices (json_extract(attributes, '$.parent'), id)
        WHERE json_extract(attributes, '$.parent') IS NOT NULL""",
)

MIGRATIONS: tuple[Sequence[str], ...] = (_FIRST, _SECOND, _THIRD, _FOURTH, _FIFTH)


def migrate(connection: sqlite3.Connection, migrations: Sequence[Sequence[str]] = MIGRATIONS) -> None:
    """Bring a database to the newest version. Raises Unavailable for one that is newer, or not ours."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    if version > len(migrations) and application_id == APPLICATION_ID:
        raise Unavailable(
            f"it was written by a newer broker (schema version {version}; this one knows up to {len(migrations)})"
        )
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application_id != APPLICATION_ID and (tables or version or application_id):
        raise Unavailable("it is a SQLite database, but not one of the broker")
    for number in range(version, len(migrations)):
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in migrations[number]:
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {number + 1}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
