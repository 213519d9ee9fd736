"""The LoRaWAN network as application sides see it (``core.lora``), whichever process has it.

::

    customer server at B ──> `ask`("classes_of", motes) ──ask lora.ask──> A, which has the network
    a gateway comes or goes at A ──cast lora.gateways──> who watches at B

What is asked without waiting is answered from what this process has: of a network that is another's, what is
registered. Who wants to know how things are uses `ask`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
from twisted.internet.defer import Deferred, maybeDeferred
from zope.interface import implementer

from broker.devices.lorawan.relay import Relay
from broker.model.errors import Unavailable
from broker.model.interfaces import IBackplane, ILoraNetwork
from broker.storage.deferred import deferred

ASK: Final = "lora.ask"
GATEWAYS: Final = "lora.gateways"
#: What may be asked.
QUESTIONS: Final = frozenset(
    {"gateway", "nearest_gateway", "gateways_of", "classes_of", "groups_of", "send_to_group", "withdraw"}
)

_encode = msgspec.msgpack.Encoder(enc_hook=list).encode  # frozensets
_question = msgspec.msgpack.Decoder(tuple[str, list[Any], dict[str, Any]]).decode
_decode = msgspec.msgpack.Decoder().decode
_gateway = msgspec.msgpack.Decoder(tuple[str, bool]).decode


@implementer(ILoraNetwork)
class LoraAcross:
    """``local``: the ILoraNetwork of this process."""

    def __init__(self, local: Any, relay: Relay, backplane: IBackplane) -> None:
        self.local = local
        self._relay = relay
        self._backplane = backplane
        self._watchers: list[Callable[[str, bool], None]] = []
        backplane.answer(ASK, self._asked)
        backplane.hear(GATEWAYS, self._heard)
        local.watch_gateways(self._changed)

    # -- as it is now ----------------------------------------------------------------------------------------------

    @deferred
    async def ask(self, name: str, *arguments: Any, **named: Any) -> Any:
        """What the method of this name gives, from the process that has the network; see `QUESTIONS`.

        Fails as that method does, and with Unavailable. Sets come as lists.
        """
        if self._relay.leads:
            return await self._here(name, arguments, named)
        return _decode(await self._relay.ask(ASK, _encode((name, arguments, named))))

    async def _here(self, name: str, arguments: Any, named: dict[str, Any]) -> Any:
        if name == "classes_of":
            return [self.local.class_of(dev_eui) for dev_eui in arguments[0]]
        return await maybeDeferred(getattr(self.local, name), *arguments, **named)

    def _asked(self, node: str, body: bytes) -> Deferred[bytes]:
        name, arguments, named = _question(body)
        if not self._relay.leads or name not in QUESTIONS:
            raise Unavailable("this broker process does not have the LoRaWAN network")
        return Deferred.fromCoroutine(self._here(name, arguments, named)).addCallback(_encode)

    # -- ILoraNetwork ----------------------------------------------------------------------------------------------

    def gateway(self, eui: str) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self.local.gateway(eui)
        return found

    def nearest_gateway(self, dev_eui: str) -> str | None:
        found: str | None = self.local.nearest_gateway(dev_eui)
        return found

    def gateways_of(self, dev_eui: str) -> tuple[str, ...]:
        return tuple(self.local.gateways_of(dev_eui))

    def motes_behind(self, eui: str) -> list[str]:
        return list(self.local.motes_behind(eui))

    def class_of(self, dev_eui: str) -> str | None:
        found: str | None = self.local.class_of(dev_eui)
        return found

    def groups_of(self, application: str) -> dict[str, frozenset[str]]:
        return dict(self.local.groups_of(application))

    def send_to_group(
        self, group: str, payload: bytes, *, port: int, tries: int, priority: int, expires: float, origin: str
    ) -> Any:
        return self.ask(
            "send_to_group",
            group,
            payload,
            port=port,
            tries=tries,
            priority=priority,
            expires=expires,
            origin=origin,
        )

    def withdraw(self, origin: str) -> Any:
        return self.ask("withdraw", origin)

    def watch_gateways(self, call: Callable[[str, bool], None]) -> None:
        self._watchers.append(call)

    # -- gateways --------------------------------------------------------------------------------------------------

    def _changed(self, eui: str, online: bool) -> None:
        self._tell(eui, online)
        if self._relay.leads:
            self._backplane.cast(GATEWAYS, _encode((eui, online)))

    def _heard(self, node: str, body: bytes) -> None:
        if not self._relay.leads:
            self._tell(*_gateway(body))

    def _tell(self, eui: str, online: bool) -> None:
        for call in self._watchers:
            call(eui, online)
