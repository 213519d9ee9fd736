"""What waits for NATS, and the connection.

nats-py needs an asyncio loop and the broker's reactor is another one, so it has a thread. What the two share is a
deque: the reactor's thread appends, ours takes from the other end. A turn of the reactor with many messages wakes our
loop once.

::

    waiting ──> under way (a batch) ──publish, flush──> the server has answered PING: published
                      ↑                    └── lost connection, no answer: the batch again
                      └── a message may come twice then, and is never lost while the broker lives

What waits is in memory: a crash of the broker takes it along. A stop waits for it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from threading import Thread
from typing import Any, Final

from nats.aio.client import Client
from nats.errors import Error, MaxPayloadError

from broker_nats.settings import Settings

#: Seconds between two attempts to cancel what has to end.
AGAIN: Final = 0.1


class Feed:
    """``ended`` is called, in our thread, when everything is over."""

    def __init__(self, settings: Settings, ended: Callable[[], object]) -> None:
        self.published = self.dropped = self.too_large = self.repeated = self.reconnects = 0
        self.connected = False
        #: Why there is no connection, for people; no secrets.
        self.problem = "not connected yet"
        self._settings = settings
        self._ended = ended
        self._waiting: deque[tuple[str, bytes]] = deque(maxlen=settings.max_waiting)
        self._under_way: list[tuple[str, bytes]] = []
        self._loop = asyncio.new_event_loop()
        self._wake = asyncio.Event()
        self._woken = False
        self._stopping = False
        self._work: asyncio.Task[None] | None = None
        self._thread = Thread(target=self._run, name="broker-nats", daemon=True)

    # -- from the reactor's thread ---------------------------------------------------------------------------------

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Publish what waits, for ``drain_timeout`` at most, and end."""
        self._call(self._stop)

    def abort(self, reason: str) -> None:
        """End at once; what waits is thrown away."""
        self._call(self._cancel)

    def put(self, subject: str, data: bytes) -> None:
        """Publish this when it is its turn."""
        waiting = self._waiting
        if len(waiting) == waiting.maxlen:
            self.dropped += 1
        waiting.append((subject, data))  # which drops the oldest then
        if not self._woken:
            self._woken = True
            self._call(self._wake.set)

    def __len__(self) -> int:
        """How much is not published yet."""
        return len(self._waiting) + len(self._under_way)

    def _call(self, call: Callable[[], object]) -> None:
        """Have it called in our thread, unless that has come to its end."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call)

    # -- in our thread ---------------------------------------------------------------------------------------------

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._work = self._loop.create_task(self._live())
        try:
            self._loop.run_until_complete(self._work)
        except asyncio.CancelledError:
            pass  # by `abort`, or by the end of `drain_timeout`
        finally:
            self.connected = False
            self._loop.close()
            self._ended()

    def _stop(self) -> None:
        self._stopping = True
        self._wake.set()
        self._loop.call_later(self._settings.drain_timeout, self._cancel)

    def _cancel(self) -> None:
        if self._work is not None and not self._work.done():
            self._work.cancel()
            # Until it has ended: `asyncio.wait_for` loses a cancellation that comes in the moment of its result.
            self._loop.call_later(AGAIN, self._cancel)

    async def _live(self) -> None:
        client = Client()
        try:
            # Until there is a server, however long that takes.
            connecting = asyncio.ensure_future(self._connect(client))
            stopped = asyncio.ensure_future(self._stopped_early())
            await asyncio.wait({connecting, stopped}, return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
            if not connecting.done() and not len(self):
                connecting.cancel()
                return
            await connecting
            self._is_up()
            await self._publish_all(client)
        finally:
            if client.is_connected:
                await client.close()

    async def _stopped_early(self) -> None:
        """While nobody answers."""
        while not self._stopping:
            self._wake.clear()
            await self._wake.wait()

    async def _publish_all(self, client: Client) -> None:
        while True:
            self._wake.clear()
            # Before looking: what is put from here on wakes us again.
            self._woken = False
            while self._under_way or self._waiting:
                await self._publish_batch(client)
            if self._stopping:
                return
            await self._wake.wait()

    async def _publish_batch(self, client: Client) -> None:
        batch, waiting = self._under_way, self._waiting
        while waiting and len(batch) < self._settings.batch:
            batch.append(waiting.popleft())
        try:
            if not client.is_connected:
                raise Error("not connected")
            for subject, data in list(batch):
                try:
                    await client.publish(subject, data)
                except MaxPayloadError:
                    self.too_large += 1
                    batch.remove((subject, data))
            await client.flush(self._settings.timeout)  # type: ignore[arg-type]  # any number does
        except (TimeoutError, Error, OSError) as error:
            self.problem = type(error).__name__ if not str(error) else str(error)
            self.repeated += len(batch) if client.is_connected else 0
            await asyncio.sleep(self._settings.reconnect_wait / 4)
            return
        self.published += len(batch)
        self._under_way = []

    async def _connect(self, client: Client) -> None:
        settings = self._settings
        options: dict[str, Any] = {}
        if settings.user:
            options |= {"user": settings.user, "password": settings.password}
        if settings.token:
            options["token"] = settings.token
        if settings.credentials_file:
            options["user_credentials"] = settings.credentials_file
        await client.connect(
            servers=list(settings.servers),
            name="broker",
            max_reconnect_attempts=-1,
            reconnect_time_wait=settings.reconnect_wait,  # type: ignore[arg-type]  # any number does
            connect_timeout=settings.timeout,  # type: ignore[arg-type]
            error_cb=self._failed,
            disconnected_cb=self._went_down,
            reconnected_cb=self._came_up,
            **options,
        )

    def _is_up(self) -> None:
        self.connected, self.problem = True, ""

    async def _failed(self, error: Exception) -> None:
        self.problem = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__

    async def _went_down(self) -> None:
        self.connected = False
        self.problem = self.problem or "the connection was lost"

    async def _came_up(self) -> None:
        self.reconnects += 1
        self._is_up()
