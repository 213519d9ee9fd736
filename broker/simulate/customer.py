"""A customer server that speaks the LoRaCenter document to the broker: registers, sends, and keeps what it is told.

It is a client of its own make as far as that is worth it: it reads with `json` alone, so that it notices what is not
strict JSON, and cuts at NULs. With ``old`` it is one from the field: AppEUI in place of CsEUI, a challenge that is no
proof, no ServiceId, ``1`` and a NUL to keep the connection alive.

::

    connected ──CSREG──> registered ──SENDTO, ...──> lost ──(1 s, doubling to 60)──> connected
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from broker.applications.loracenter.challenge import tag

#: Seconds between two signs of life, and between attempts to connect.
KEEP_ALIVE_EVERY: Final = 60.0
FIRST_DELAY: Final = 1.0
LAST_DELAY: Final = 60.0
#: What old clients send in place of a proof.
DUMMY: Final = "ABCDEF1234567890ABCDEF1234567890"
NONCE: Final = 1234


@dataclass(frozen=True)
class CustomerIdentity:
    """``cs_eui``: 16 hexadecimal digits; ``app_key``: 32. ``old``: as clients of older documents do it."""

    cs_eui: str
    app_key: str
    service: int | None = None
    reversed: bool = False
    old: bool = False

    def registration(self) -> dict[str, Any]:
        """The fields of CSREG beside CMD and Token."""
        if self.old:
            return {"AppEUI": self.cs_eui, "AppNonce": NONCE, "Challenge": DUMMY}
        proof = tag(bytes.fromhex(self.app_key), self.cs_eui, NONCE)
        text = f"{int.from_bytes(proof, 'little'):X}" if self.reversed else proof.hex().upper()
        fields: dict[str, Any] = {"CsEUI": self.cs_eui, "AppNonce": NONCE, "Challenge": text}
        if self.service is not None:
            fields["ServiceId"] = self.service
        return fields


class _Wire(Protocol):
    """One connection."""

    def __init__(self, customer: SimulatedCustomer) -> None:
        self._customer = customer
        self._held = b""

    def connectionMade(self) -> None:
        self._customer.wire = self
        self._customer.connected()

    def dataReceived(self, data: bytes) -> None:
        *texts, self._held = (self._held + data).split(b"\0")
        for text in texts:
            if text:
                self._customer.heard(json.loads(text.decode("ascii")))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._customer.lost()

    def put(self, data: bytes) -> None:
        transport: Any = self.transport
        transport.write(data)

    def end(self) -> None:
        transport: Any = self.transport
        transport.loseConnection()


class SimulatedCustomer:
    """``told(message)`` hears of each message, and of ``{"CMD": "(lost)"}``; counts are kept by CMD and CODE.

    ``longest_delay``: seconds between two attempts to connect, at most.
    """

    def __init__(
        self,
        reactor: Any,
        endpoint: Any,
        identity: CustomerIdentity,
        told: Callable[[dict[str, Any]], None] | None,
        longest_delay: float = LAST_DELAY,
    ) -> None:
        self._reactor = reactor
        self._endpoint = endpoint
        self.identity = identity
        self._told = told
        self.wire: _Wire | None = None
        self.registered = False
        self.counts: dict[tuple[str, int], int] = {}
        #: Called whenever it is registered.
        self.on_registered: list[Callable[[], None]] = []
        self._token = 0
        self._delay = FIRST_DELAY
        self._longest_delay = longest_delay
        self._timer: Any = None
        self._stopped = False

    def start(self) -> None:
        self._timer = None
        self._endpoint.connect(_Factory(self)).addErrback(lambda _: self.lost())

    def stop(self) -> None:
        """Leave as the document has it."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.wire is not None:
            if self.registered:
                self.ask("CSQUIT", CsEUI=self.identity.cs_eui)
            self.wire.end()

    def ask(self, cmd: str, **fields: Any) -> int:
        """Send a request; its Token. Nothing happens while there is no connection."""
        self._token += 1
        if self.wire is not None:
            message = {"CMD": cmd, "Token": self._token, **fields}
            self.wire.put(json.dumps(message, separators=(",", ":")).encode("ascii") + b"\0")
        return self._token

    def send_to(self, dev_eui: str, payload: bytes, port: int = 231, **more: Any) -> int:
        data = b64encode(payload).decode("ascii")
        return self.ask("SENDTO", CsEUI=self.identity.cs_eui, DevEUI=dev_eui, payload=data, Port=port, **more)

    # -- from the wire ---------------------------------------------------------------------------------------------

    def connected(self) -> None:
        self.ask("CSREG", **self.identity.registration())

    def heard(self, message: dict[str, Any]) -> None:
        cmd, code = str(message.get("CMD")), message.get("CODE")
        key = cmd, code if isinstance(code, int) else 0
        self.counts[key] = self.counts.get(key, 0) + 1
        if cmd == "CSREG" and code == 1:
            self.registered = True
            self._delay = FIRST_DELAY
            self._again(KEEP_ALIVE_EVERY, self._keep_alive)
            for call in self.on_registered:
                call()
        if self._told is not None:
            self._told(message)

    def lost(self) -> None:
        self.wire, self.registered = None, False
        if self._stopped:
            return
        if self._told is not None:
            self._told({"CMD": "(lost)"})
        self._again(self._delay, self.start)
        self._delay = min(self._delay * 2, self._longest_delay)

    def _again(self, seconds: float, call: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._reactor.callLater(seconds, call)

    def _keep_alive(self) -> None:
        self._timer = None
        if self.wire is not None:
            self.wire.put(b"1\0" if self.identity.old else b"\0")
            self._again(KEEP_ALIVE_EVERY, self._keep_alive)


class _Factory(Factory):
    """Connects once."""

    noisy = False

    def __init__(self, customer: SimulatedCustomer) -> None:
        self._customer = customer

    def buildProtocol(self, addr: Any) -> _Wire:
        return _Wire(self._customer)
