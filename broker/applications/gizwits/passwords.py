"""People's passwords: hashed with scrypt, in a thread, few at a time.

A hash takes about 0.1 s and 32 MiB on purpose. So at most `AT_ONCE` are worked on together and `MAX_WAITING` wait;
whoever comes then is told to come again (9041), and the reactor never waits.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import scrypt
from hmac import compare_digest
from secrets import token_bytes
from typing import Any, Final, TypeVar

from twisted.internet.defer import Deferred, DeferredSemaphore

from broker.devices.gizwits import errors as e

AT_ONCE: Final = 2
MAX_WAITING: Final = 64
#: log2 of the cost, block size, parallelism: the memory is 128 * r * 2^n bytes.
COST: Final = 15
_BLOCK: Final = 8
_PARALLEL: Final = 1
_SCHEME: Final = "scrypt"

T = TypeVar("T")
#: Calls a function in a thread; a Deferred of its result.
InThread = Callable[..., Deferred[Any]]


class Passwords:
    """``in_thread(function, *arguments)``: `deferToThread` or a stand-in; ``cost`` is lower only in tests."""

    def __init__(self, in_thread: InThread, cost: int = COST, random: Callable[[int], bytes] = token_bytes) -> None:
        self._in_thread = in_thread
        self._cost = cost
        self._random = random
        self._lane = DeferredSemaphore(AT_ONCE)
        #: What a password is compared with when there is no user of that name: it has to take as long.
        self._nobody = _stored(cost, random(16), random(32))

    def hash(self, password: str) -> Deferred[str]:
        """``scrypt$<log2 n>$<salt>$<digest>``. Fails with Refused (9041)."""
        return self._run(_hash, password, self._cost, self._random(16))

    def verify(self, password: str, stored: str | None) -> Deferred[bool]:
        """Whether it is the one that was hashed; None (nobody, or one without a password) takes as long."""
        return self._run(_verify, password, stored or self._nobody).addCallback(lambda same: same and bool(stored))

    def _run(self, function: Callable[..., T], *arguments: Any) -> Deferred[T]:
        if len(self._lane.waiting) >= MAX_WAITING:
            raise e.Refused(e.THROTTLED, "too many log-ins at once")
        return self._lane.run(self._in_thread, function, *arguments)


def _stored(cost: int, salt: bytes, digest: bytes) -> str:
    return f"{_SCHEME}${cost}${salt.hex()}${digest.hex()}"


def _digest(password: str, cost: int, salt: bytes) -> bytes:
    n = 1 << cost
    memory = 128 * _BLOCK * n * 2  # twice what it takes: OpenSSL counts generously
    text = password.encode("utf-8", "surrogatepass")
    return scrypt(text, salt=salt, n=n, r=_BLOCK, p=_PARALLEL, maxmem=memory, dklen=32)


def _hash(password: str, cost: int, salt: bytes) -> str:
    return _stored(cost, salt, _digest(password, cost, salt))


def _verify(password: str, stored: str) -> bool:
    scheme, cost, salt, digest = stored.split("$")
    if scheme != _SCHEME:
        return False
    return compare_digest(_digest(password, int(cost), bytes.fromhex(salt)), bytes.fromhex(digest))
