"""The registry in SQL: products, devices, applications and bindings. Plain functions of an open connection."""

from __future__ import annotations

from collections.abc import Sequence
from sqlite3 import Connection, IntegrityError
from typing import Any

from broker.model.errors import Conflict, NotFound
from broker.model.records import TAGS, ApplicationRecord, DeviceQuery, DeviceRecord, Product
from broker.storage.rows import (
    APPLICATION_COLUMNS,
    DEVICE_COLUMNS,
    PRODUCT_COLUMNS,
    Row,
    application_of,
    application_row,
    device_of,
    device_row,
    product_of,
    product_row,
    text,
)

#: Devices that one page of a search may look at before it ends, with a cursor to go on from.
MAX_SEARCHED = 50_000


def add_product(db: Connection, product: Product) -> None:
    added = db.execute("INSERT OR IGNORE INTO products VALUES (?, ?, ?, ?, ?, ?)", product_row(product))
    if not added.rowcount:
        raise Conflict(f"there is a product {product.key!r} already")


def save_product(db: Connection, product: Product) -> None:
    key, *rest = product_row(product)
    saved = db.execute(
        "UPDATE products SET protocol = ?, name = ?, sensors = ?, actuators = ?, created_at = ? WHERE key = ?",
        (*rest, key),
    )
    if not saved.rowcount:
        raise NotFound(f"there is no product {key!r}")


def delete_product(db: Connection, key: str) -> None:
    if db.execute("SELECT 1 FROM devices WHERE product = ? LIMIT 1", (key,)).fetchone():
        raise Conflict(f"devices use the product {key!r}")
    if not db.execute("DELETE FROM products WHERE key = ?", (key,)).rowcount:
        raise NotFound(f"there is no product {key!r}")


def get_product(db: Connection, key: str) -> Product | None:
    row = db.execute(f"SELECT {PRODUCT_COLUMNS} FROM products WHERE key = ?", (key,)).fetchone()  # nosec B608
    return None if row is None else product_of(row)


def list_products(db: Connection) -> list[Product]:
    return [product_of(row) for row in db.execute(f"SELECT {PRODUCT_COLUMNS} FROM products ORDER BY key")]  # nosec B608


# devices

#: Ids and aliases share one space of names. Either part is one look-up in a unique index.
_TAKEN = """SELECT id, dev_eui FROM devices WHERE id IN (:id, :dev_eui)
    UNION ALL SELECT id, dev_eui FROM devices WHERE dev_eui IN (:id, :dev_eui)"""


def add_devices(db: Connection, records: Sequence[DeviceRecord]) -> list[str | None]:
    products: dict[str | None, bool] = {None: True}
    return [_add_device(db, record, products) for record in records]


def _add_device(db: Connection, record: DeviceRecord, products: dict[str | None, bool]) -> str | None:
    product = record.product
    known = products.get(product)
    if known is None:
        found = db.execute("SELECT 1 FROM products WHERE key = ?", (product,)).fetchone()
        known = products[product] = found is not None
    if not known:
        return f"there is no product {product!r}"
    taken = _name_taken(db, record, None)
    if taken is None:
        db.execute(
            "INSERT INTO devices VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            device_row(record),
        )
    return taken


def _name_taken(db: Connection, record: DeviceRecord, itself: str | None) -> str | None:
    """Why neither id nor alias may be used, or None. ``itself``: the id of a device that may have them."""
    names = {"id": record.id, "dev_eui": record.dev_eui}
    for id, dev_eui in db.execute(_TAKEN, names).fetchall():
        if id == itself:
            continue
        if record.id == id:
            return f"there is a device {id!r} already"
        if record.id == dev_eui:
            return f"the id {record.id!r} is the dev_eui of device {id!r}"
        return f"the dev_eui {record.dev_eui!r} is taken by device {id!r}"
    return None


def save_device(db: Connection, record: DeviceRecord) -> None:
    if not db.execute("SELECT 1 FROM devices WHERE id = ?", (record.id,)).fetchone():
        raise NotFound(f"there is no device {record.id!r}")
    if record.product is not None and get_product(db, record.product) is None:
        raise NotFound(f"there is no product {record.product!r}")
    taken = _name_taken(db, record, record.id)
    if taken is not None:
        raise Conflict(taken)
    db.execute(
        "UPDATE devices SET protocol = ?, name = ?, product = ?, dev_eui = ?, secret = ?, disabled = ?,"
        " attributes = ? WHERE id = ?",
        (*device_row(record)[1:8], record.id),
    )


def delete_device(db: Connection, device_id: str) -> None:
    row = db.execute("SELECT n FROM devices WHERE id = ?", (device_id,)).fetchone()
    if row is None:
        raise NotFound(f"there is no device {device_id!r}")
    for table in ("readings", "messages", "commands"):
        db.execute(f"DELETE FROM {table} WHERE device = ?", row)  # nosec B608 # constants alone; values are parameters
    db.execute("DELETE FROM bindings WHERE device = ?", (device_id,))
    db.execute("DELETE FROM devices WHERE n = ?", row)


def get_device(db: Connection, device_id: str) -> DeviceRecord | None:
    row = db.execute(f"SELECT {DEVICE_COLUMNS} FROM devices d WHERE d.id = ?", (device_id,)).fetchone()  # nosec B608
    return None if row is None else device_of(row)


def count_devices(db: Connection) -> dict[str, int]:
    return dict(db.execute("SELECT protocol, count(*) FROM devices GROUP BY protocol").fetchall())


def find_by_dev_eui(db: Connection, dev_eui: str) -> DeviceRecord | None:
    row = db.execute(f"SELECT {DEVICE_COLUMNS} FROM devices d WHERE d.dev_eui = ?", (dev_eui,)).fetchone()  # nosec B608
    return get_device(db, dev_eui) if row is None else device_of(row)


def save_info(db: Connection, device_id: str, info: dict[str, Any]) -> None:
    if not db.execute("UPDATE devices SET info = ? WHERE id = ?", (text(info), device_id)).rowcount:
        raise NotFound(f"there is no device {device_id!r}")


def devices_page(query: DeviceQuery, limit: int, cursor: str | None, edge: str | None = None) -> tuple[str, Row]:
    """The statement of one page, and its values. Each filter has an index that goes on with the id (`schema`)."""
    if query.application is None:
        source, key = "devices d", "d.id"
        where: dict[str, Any] = {}
    else:
        source, key = "bindings b CROSS JOIN devices d ON d.id = b.device", "b.device"
        where = {"b.application = ?": query.application}
    if cursor is not None:
        where[f"{key} > ?"] = cursor
    if edge is not None:
        where[f"{key} <= ?"] = edge
    if query.protocol is not None:
        where["d.protocol = ?"] = query.protocol
    if query.product is not None:
        where["d.product = ?"] = query.product
    if query.online is not None:
        where["d.online = ?"] = query.online
    if query.parent is not None:
        where["json_extract(d.attributes, '$.parent') = ?"] = query.parent
    if query.changed_since is not None:
        where["d.presence_at >= ?"] = query.changed_since
    values = list(where.values())
    conditions = list(where)
    if query.q:
        pattern = query.q.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        conditions.append("(d.id LIKE ? ESCAPE '\\' OR d.name LIKE ? ESCAPE '\\')")
        values += [f"%{pattern}%"] * 2
    if query.tag is not None:
        conditions.append(f"EXISTS (SELECT 1 FROM json_each(d.attributes, '$.{TAGS}') WHERE value = ?)")  # nosec B608
        values.append(query.tag)
    condition = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    statement = f"SELECT {DEVICE_COLUMNS} FROM {source}{condition} ORDER BY {key} LIMIT ?"  # nosec B608
    return statement, (*values, limit)


def list_devices(
    db: Connection, query: DeviceQuery, limit: int, cursor: str | None
) -> tuple[list[DeviceRecord], str | None]:
    edge = _search_edge(db, cursor) if query.q or query.tag is not None else None
    rows = db.execute(*devices_page(query, limit + 1, cursor, edge)).fetchall()
    page = [device_of(row) for row in rows[:limit]]
    return page, page[-1].id if len(rows) > limit else edge


def _search_edge(db: Connection, cursor: str | None) -> str | None:
    """The id at which a search stops for this time, or None if it reaches the end."""
    row = db.execute(
        "SELECT id FROM devices WHERE id > ? ORDER BY id LIMIT 1 OFFSET ?", (cursor or "", MAX_SEARCHED)
    ).fetchone()
    return None if row is None else str(row[0])


# applications and bindings


def add_application(db: Connection, record: ApplicationRecord) -> None:
    try:
        db.execute("INSERT INTO applications VALUES (?, ?, ?, ?, ?, ?, ?, ?)", application_row(record))
    except IntegrityError:
        raise Conflict(_application_taken(db, record)) from None


def save_application(db: Connection, record: ApplicationRecord) -> None:
    id, *rest = application_row(record)
    try:
        saved = db.execute(
            "UPDATE applications SET kind = ?, name = ?, secret = ?, cs_eui = ?, app_key = ?, disabled = ?,"
            " created_at = ? WHERE id = ?",
            (*rest, id),
        )
    except IntegrityError:
        raise Conflict(f"the cs_eui {record.cs_eui!r} is taken") from None
    if not saved.rowcount:
        raise NotFound(f"there is no application {id!r}")


def _application_taken(db: Connection, record: ApplicationRecord) -> str:
    if get_application(db, record.id) is not None:
        return f"there is an application {record.id!r} already"
    return f"the cs_eui {record.cs_eui!r} is taken"


def delete_application(db: Connection, application_id: str) -> None:
    db.execute("DELETE FROM bindings WHERE application = ?", (application_id,))
    if not db.execute("DELETE FROM applications WHERE id = ?", (application_id,)).rowcount:
        raise NotFound(f"there is no application {application_id!r}")


def get_application(db: Connection, application_id: str) -> ApplicationRecord | None:
    row = db.execute(f"SELECT {APPLICATION_COLUMNS} FROM applications WHERE id = ?", (application_id,)).fetchone()  # nosec B608
    return None if row is None else application_of(row)


def find_by_cs_eui(db: Connection, cs_eui: str) -> ApplicationRecord | None:
    row = db.execute(f"SELECT {APPLICATION_COLUMNS} FROM applications WHERE cs_eui = ?", (cs_eui,)).fetchone()  # nosec B608
    return None if row is None else application_of(row)


def list_applications(db: Connection) -> list[ApplicationRecord]:
    rows = db.execute(f"SELECT {APPLICATION_COLUMNS} FROM applications ORDER BY id")  # nosec B608
    return [application_of(row) for row in rows]


def bind(db: Connection, application_id: str, device_id: str) -> None:
    if not db.execute("SELECT 1 FROM applications WHERE id = ?", (application_id,)).fetchone():
        raise NotFound(f"there is no application {application_id!r}")
    if not db.execute("SELECT 1 FROM devices WHERE id = ?", (device_id,)).fetchone():
        raise NotFound(f"there is no device {device_id!r}")
    db.execute("INSERT OR IGNORE INTO bindings VALUES (?, ?)", (application_id, device_id))


def unbind(db: Connection, application_id: str, device_id: str) -> None:
    gone = db.execute("DELETE FROM bindings WHERE application = ? AND device = ?", (application_id, device_id))
    if not gone.rowcount:
        raise NotFound(f"device {device_id!r} is not bound to application {application_id!r}")


def devices_of(db: Connection, application_id: str) -> list[str]:
    rows = db.execute("SELECT device FROM bindings WHERE application = ? ORDER BY device", (application_id,))
    return [row[0] for row in rows]


def applications_of(db: Connection, device_id: str) -> list[str]:
    rows = db.execute("SELECT application FROM bindings WHERE device = ? ORDER BY application", (device_id,))
    return [row[0] for row in rows]
