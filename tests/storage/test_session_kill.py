"""kill -9 at any moment: what the session journal called safe is there, and what was settled does not come back.

A real child process, real files. The child keeps messages for some sessions on their way and prints a line for each
change that is on disk, before the next commit is taken; so what was read here was safe. It also says which messages it
is about to have settled: no other may be missing.
"""

from __future__ import annotations

import random
from pathlib import Path

from twisted.trial.unittest import TestCase

from tests.storage.places import storage_at
from tests.storage.test_kill import Child, check_soundness, start

ROUNDS = 6
SESSIONS = 5

CHILD = """
import os, random, sys, time
from collections import deque
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from broker.model.sessions import ACK, IN, OUT, PUT, REC, RETAIN, SESSION, SessionRecord
from tests.storage.places import storage_at

storage = storage_at(sys.argv[1])
journal = storage.sessions
chance = random.Random(int(sys.argv[2]))
waiting = deque()
left = {}

def note(op, line):
    journal.append(op)
    waiting.append((journal.position, line))

def committed(upto, error):
    if error is not None:
        os._exit(3)
    lines = []
    while waiting and waiting[0][0] <= upto:
        lines.append(waiting.popleft()[1])
    os.write(1, "".join(line + "\\n" for line in lines).encode())

def turn():
    asked = []
    for _ in range(chance.randrange(40)):
        session = chance.randint(1, 5)
        rows = left[session]
        dice = chance.random()
        if dice < 0.5 or not rows:
            seq = counts[session] = counts[session] + 1
            rows.append(seq)
            note((PUT, session, seq, 2, None, f"t/{session}", b"%d" % seq * chance.choice((1, 200)), b"", False),
                 f"put {session} {seq}")
        elif dice < 0.6:
            seq = chance.choice(rows)
            note((REC, session, seq), f"rec {session} {seq}")
        elif dice < 0.95:
            seq = rows.pop(0 if chance.random() < 0.7 else chance.randrange(len(rows)))
            asked.append(f"ask {session} {seq}\\n")
            note((ACK, session, seq), f"ack {session} {seq}")
        else:
            n = counts[session]
            note((RETAIN, f"r/{session}", b"%d" % n, 1, b"", None), f"retain {session} {n}")
    # Before the journal sees them: it writes at the end of this turn.
    os.write(1, "".join(asked).encode())
    if len(waiting) < 5000:
        reactor.callLater(0, turn)
    else:
        reactor.callLater(0.01, turn)

counts = {}

async def begin():
    await storage.open()
    journal.watch(committed)
    known = {one.record.number: one for one in await journal.load_sessions()}
    for session in range(1, 6):
        if session not in known:
            note((SESSION, SessionRecord(session, "o", f"c{session}", 4, None)), f"session {session} 0")
        left[session] = [row.seq for row in await journal.load_queue(session, 0, 1_000_000)]
        counts[session] = int(sys.argv[3])
    turn()

Deferred.fromCoroutine(begin()).addErrback(lambda failure: (failure.printTraceback(), os._exit(4)))
reactor.run()
"""


class KillTests(TestCase):
    timeout = 120

    def where(self) -> str:
        return str(Path(self.mktemp()).absolute())

    async def test_what_was_safe_is_there(self) -> None:
        where = self.where()
        chance = random.Random(11)
        lines: list[str] = []
        for number in range(ROUNDS):
            # A new range of seqs each time: the child knows of no message that it had not been told of.
            arguments = where, str(number), str((number + 1) * 10_000_000)
            new = await start(CHILD, Child(chance.uniform(0.01, 0.4)), *arguments).ended
            self.assertGreater(len(new), 20)
            lines += new
            await self.check(where, lines)

    async def check(self, where: str, lines: list[str]) -> None:
        told: dict[str, set[tuple[int, int]]] = {
            word: set() for word in ("put", "ask", "ack", "rec", "retain", "session")
        }
        for line in lines:
            word, *numbers = line.split()
            told[word].add((int(numbers[0]), int(numbers[1])))
        storage = storage_at(where)
        await storage.open()
        try:
            await check_soundness(self, storage)
            found = {}
            for session in range(1, SESSIONS + 1):
                for row in await storage.sessions.load_queue(session, 0, 1_000_000):
                    found[session, row.seq] = row
            retained = {(int(row.topic[2:]), int(row.payload)) for row in await storage.sessions.load_retained("", 10)}
        finally:
            await storage.close()
        self.assertEqual(told["put"] - told["ask"] - found.keys(), set())
        self.assertEqual(told["ack"] & found.keys(), set())
        self.assertEqual([key for key in told["rec"] & found.keys() if not found[key].released], [])
        for (_, seq), row in found.items():
            if not row.released:
                self.assertEqual(row.payload, b"%d" % seq * row.payload.count(b"%d" % seq))
        newest = dict(sorted(retained))
        for session, number in told["retain"]:
            self.assertGreaterEqual(newest[session], number)
