"""What a row of the tables is, and how it is played: send, compare the answer, see whether the connection ended."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Final

from tests.conformance.wire import ACCEPTED, ACCEPTED_5, PING, PONG, connect, disconnect

#: Seconds that an answer or a close may take.
PATIENCE: Final = 3.0


@dataclass(frozen=True, slots=True)
class Row:
    """`steps`: pairs of what is sent and what must come back to it (empty: not looked at yet).

    `connected`: a CONNECT goes before them. Behind them the connection must be closed, or open and answer a ping.
    """

    name: str
    version: int
    steps: tuple[tuple[bytes, bytes], ...]
    closes: bool = True
    connected: bool = True

    @property
    def title(self) -> str:
        return f"{ {3: '3.1', 4: '3.1.1', 5: '5.0'}[self.version] } {self.name}"


def bad(name: str, version: int, sent: bytes, code: int = 0) -> Row:
    """Sent on a connection, it ends it; in 5.0 with a DISCONNECT of this code, if one is given."""
    return Row(name, version, ((sent, disconnect(code) if code and version == 5 else b""),))


def good(name: str, version: int, *steps: tuple[bytes, bytes]) -> Row:
    """Sent on a connection, it gets these answers."""
    return Row(name, version, steps, closes=False)


def unconnected(name: str, version: int, sent: bytes, answer: bytes = b"", closes: bool = True) -> Row:
    """Sent as the first packet."""
    return Row(name, version, ((sent, answer),), closes, connected=False)


class Difference(Exception):
    """The server did something else."""


def play(port: int, row: Row, patience: float = PATIENCE, at_once: bool = False) -> None:
    """Play a row against the server on a port of this machine. Raises Difference.

    `at_once`: everything in one write, the CONNECT too, instead of one answer after the other.
    """
    steps = row.steps
    if row.connected:
        steps = ((connect(row.version), ACCEPTED_5 if row.version == 5 else ACCEPTED), *steps)
    if not row.closes:
        steps = (*steps, (PING, PONG))
    if at_once:
        steps = ((b"".join(sent for sent, _ in steps), b"".join(answer for _, answer in steps)),)
    with socket.create_connection(("127.0.0.1", port), patience) as peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for sent, answer in steps:
            _send(peer, sent)
            _expect(peer, sent, answer)
        if row.closes:
            _ends(peer, steps[-1][0])


def _send(peer: socket.socket, data: bytes) -> None:
    try:
        peer.sendall(data)
    except ConnectionError as error:
        raise Difference(f"closed before {data.hex(' ')}") from error


def _expect(peer: socket.socket, sent: bytes, answer: bytes) -> None:
    got = b""
    while len(got) < len(answer):
        try:
            chunk = peer.recv(len(answer) - len(got))
        except TimeoutError:
            chunk = b""
            got += b" (and silence)"
        except ConnectionError:
            chunk = b""
        if not chunk:
            break
        got += chunk
    if got != answer:
        raise Difference(f"sent {_shown(sent)}, expected {answer.hex(' ')}, got {_shown(got) or 'a close'}")


def _ends(peer: socket.socket, sent: bytes) -> None:
    try:
        rest = peer.recv(64)
    except TimeoutError:
        raise Difference(f"sent {_shown(sent)}, expected a close, got silence") from None
    except ConnectionError:
        return
    if rest:
        raise Difference(f"sent {_shown(sent)}, expected a close, got {_shown(rest)}")


def _shown(data: bytes) -> str:
    silent = data.removesuffix(b" (and silence)")
    shown = silent.hex(" ") if len(silent) <= 64 else f"{silent[:64].hex(' ')}... ({len(silent)} bytes)"
    return shown if silent == data else f"{shown} and silence".strip()
