"""The wire between one broker process and Redis: it can be cut in the middle of what is on it, or go dead for a while.

Threads that block, as everything in a storm; a pair of them for each connection.
"""

from __future__ import annotations

import socket
import threading


class Wire:
    """``url`` is where the broker finds its Redis at ``port``, always the same one."""

    def __init__(self, port: int) -> None:
        self._redis = port
        self._alive = threading.Event()
        self._alive.set()
        self._lock = threading.Lock()
        self._connections: set[Connection] = set()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._server.getsockname()[1]}/0"
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Each connection of now ends in the middle of the next piece that travels on it, whichever way."""
        with self._lock:
            for connection in self._connections:
                connection.cutting = True

    def fall_dead(self) -> None:
        """Nothing arrives any more, and nobody is told."""
        self._alive.clear()

    def revive(self) -> None:
        """What was held back arrives now."""
        self._alive.set()

    def close(self) -> None:
        self._server.close()
        self._alive.set()
        with self._lock:
            for connection in self._connections:
                connection.end()

    def _accept(self) -> None:
        while True:
            try:
                front, _ = self._server.accept()
            except OSError:
                return
            try:
                back = socket.create_connection(("127.0.0.1", self._redis))
            except OSError:
                front.close()
                continue
            connection = Connection(front, back, self._alive)
            with self._lock:
                self._connections = {one for one in self._connections if not one.over} | {connection}
            connection.start()


class Connection:
    """The broker's end and Redis's end."""

    def __init__(self, front: socket.socket, back: socket.socket, alive: threading.Event) -> None:
        self.cutting = self.over = False
        self._front = front
        self._back = back
        self._alive = alive
        self._lock = threading.Lock()
        for one in (front, back):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def start(self) -> None:
        for source, sink in ((self._front, self._back), (self._back, self._front)):
            threading.Thread(target=self._carry, args=(source, sink), daemon=True).start()

    def end(self) -> None:
        """Both ends are closed; harmless twice."""
        self.over = True
        for one in (self._front, self._back):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # the other side was first

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while not self.over and (data := source.recv(1 << 16)):
                self._alive.wait()
                if self.cutting:
                    sink.sendall(data[: len(data) // 2])
                    break
                sink.sendall(data)
        except OSError:
            pass  # an end of it has gone: so goes the other
        self.end()
        with self._lock:
            source.close()
