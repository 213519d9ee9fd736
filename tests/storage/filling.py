"""A storage with some of everything in it, odd things included."""

from __future__ import annotations

import random
from typing import Any

from twisted.internet.defer import Deferred

from broker.model.messages import Command
from broker.model.records import Actuator, ApplicationRecord, DeviceRecord, LiveState, Product, Sensor, StoredMessage
from broker.model.sessions import ACK, IN, PUT, REC, RETAIN, SESSION, SUB, WILL, SessionRecord, WillRecord
from broker.storage.interface import Change

#: Devices that are added at once.
TOGETHER = 500


async def fill(storage: Any, devices: int, seed: int = 1) -> None:
    """``storage`` is open. So many devices, and of all else in proportion."""
    chance = random.Random(seed)
    await fill_registry(storage, devices, chance)
    await fill_history(storage, devices, chance)
    await fill_commands(storage, devices, chance)
    changes = [
        Change(table, f"{n}/ключ\0{n % 7}", chance.randbytes(n % 40))
        for table in ("lorawan", "lora")
        for n in range(devices)
    ]
    for first in range(0, len(changes), 1_000):
        await storage.write_records(changes[first : first + 1_000])
    await fill_sessions(storage, devices // 4 + 1, chance)


async def fill_registry(storage: Any, devices: int, chance: random.Random) -> None:
    sensors, actuators = (Sensor(value_key="t", name="Größe", unit="°C"),), (Actuator(command_key="fan"),)
    for key in ("p1", "п2"):
        await storage.add_product(
            Product(key=key, name="n", protocol="toy", sensors=sensors, actuators=actuators, created_at=5.25)
        )
    records = [
        DeviceRecord(
            id=f"d{n:05}",
            protocol=chance.choice(("toy", "other")),
            name=f"名 {n}" if n % 3 else "",
            product=chance.choice((None, "p1", "п2")),
            dev_eui=f"E{n:05}" if n % 4 == 0 else None,
            secret=f"s${n}",
            disabled=n % 11 == 0,
            attributes={"parent": f"d{n // 10:05}", "x": [1, 2.5, None], "tags": ["flur", "ü"]}
            if n % 2
            else {"mac": n},
            info={"v": str(n), "ü": {"deep": True}},
            created_at=1e9 + n / 3,
            last_seen=2e9 + n / 7 if n % 5 else None,
        )
        for n in range(devices)
    ]
    for first in range(0, devices, TOGETHER):
        await storage.add_devices(records[first : first + TOGETHER])
    for number in range(3):
        cs_eui = "00000000000000AA" if number == 1 else None
        await storage.add_application(
            ApplicationRecord(id=f"a{number}", kind="mqtt", secret="x", cs_eui=cs_eui, created_at=float(number))
        )
        for n in range(number, devices, 7):
            await storage.bind(f"a{number}", f"d{n:05}")


async def fill_history(storage: Any, devices: int, chance: random.Random) -> None:
    states = [
        LiveState(
            device=f"d{n:05}",
            online=n % 6 == 0,
            reason="connected",
            presence_at=1e9 + n / 9,
            last_seen=2e9 + n,
            values={"t": (chance.random(), 1.5), "ключ": ({"a": [None, 2**60]}, 2.5)},
            unmapped={"u": ("text", 3.5)} if n % 2 else {},
        )
        for n in range(0, devices, 2)
    ]
    for first in range(0, len(states), TOGETHER):
        await storage.save_live(states[first : first + TOGETHER])
    messages = [
        StoredMessage(
            device=f"d{chance.randrange(devices):05}",
            protocol="toy",
            kind=chance.choice(("data", "raw")),
            at=float(chance.randrange(100)) + chance.choice((0.0, 0.125)),
            payload=chance.choice(({"t": 1, "ü": None}, {}, b"\0\xff", b"{}")),
            meta=chance.choice((None, {"rssi": -1})),
        )
        for _ in range(devices * 4)
    ]
    for first in range(0, len(messages), TOGETHER):
        await storage.add_messages(messages[first : first + TOGETHER])


async def fill_commands(storage: Any, devices: int, chance: random.Random) -> None:
    for n in range(devices):
        command = Command(f"c{n}", f"d{chance.randrange(devices):05}", "toy", {"n": n}, "admin", 1e9 + n, 2e9)
        if n % 3 == 0:
            command.payload, command.ref, command.timeout, command.options = b"\0", "r", 2.5, {"ack": True}
        await _kept(storage, "add_command", command)
        if n % 2:
            command.status, command.result, command.updated_at = "succeeded", {"r": [n]}, 1e9 + n + 0.5
            command.late.append({"status": "failed", "result": None, "at": 1.5})
            await _kept(storage, "save_command", command)


async def _kept(storage: Any, change: str, command: Command) -> None:
    done: Deferred[Exception | None] = Deferred()
    getattr(storage, change)(command, done.callback)
    error = await done
    if error is not None:
        raise error


async def fill_sessions(storage: Any, sessions: int, chance: random.Random) -> None:
    journal = storage.sessions
    settled: Deferred[None] = Deferred()

    def watcher(upto: int, error: Exception | None) -> None:
        if error is not None:
            settled.errback(error)
        elif upto == journal.position and not settled.called:
            settled.callback(None)

    journal.watch(watcher)
    for number in range(1, sessions + 1):
        seen = 5.5 + number if number % 2 else None
        expiry = 3600 if number % 3 else None
        journal.append((SESSION, SessionRecord(number * 3, "größe", f"c{number}", 4 + number % 2, expiry, seen)))
        journal.append((SUB, number * 3, "a/+/温度", 1))
        journal.append((SUB, number * 3, "b", 1 << 31))
        for seq in range(1, 1 + chance.randrange(12)):
            journal.append(
                (PUT, number * 3, seq, 1 + seq % 2, None if seq % 3 else 9e9, "t/ü", b"\0" * seq, b"\1", False)
            )
            if seq % 5 == 0:
                journal.append((REC, number * 3, seq))
            elif seq % 4 == 0:
                journal.append((ACK, number * 3, seq))
        journal.append((IN, number * 3, chance.randrange(1, 65_536)))
        journal.append((RETAIN, f"r/{number}/\U0001f600", b"\xff", 1, b"", None if number % 2 else 9e9))
    journal.append((WILL, WillRecord(7, "o", "c", "t", b"\0", 1, True, b"\x26", 5, None)))
    journal.append((WILL, WillRecord(9, "o", "c2", "t", b"", 2, False, b"", 0, 1.5)))
    await settled
