"""A LoRaCenter customer server, with the code of ``examples/customer_server.py``."""

from __future__ import annotations

import json
import socket
from base64 import b64decode, b64encode
from importlib.util import module_from_spec, spec_from_file_location
from threading import Lock, Thread
from types import ModuleType
from typing import Any, Final

from twisted.internet.threads import deferToThread

from tests.matrix.devices import Device, Order
from tests.matrix.plugin import ROOT
from tests.matrix.sides import Impossible, Side
from tests.matrix.stage import CS_EUI, KEY
from tests.real import PATIENCE

NONCE: Final = 1234
#: CODE for a device that is none of this customer server's.
UNKNOWN: Final = -5
NO_PRESENCE: Final = (
    "LoRaCenter 4.9, 4.15: a customer server is told of joins and of gateways; there is no message for any other "
    "device that comes or goes"
)
OFFLINE: Final = "OFFLIN"  # the document's word


def example() -> ModuleType:
    spec = spec_from_file_location("customer_server", ROOT / "examples" / "customer_server.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class CustomerServer(Side):
    name, title = "loracenter", "Customer server"

    async def start(self, devices: list[Device]) -> None:
        self._example = example()
        self._token = 0
        self._writing = Lock()
        address = ("127.0.0.1", self.stage.broker.ports["loracenter"])
        self._socket: socket.socket = await deferToThread(socket.create_connection, address, PATIENCE)
        self._socket.settimeout(None)
        Thread(target=self._read, daemon=True).start()
        proof = self._example.challenge(KEY, CS_EUI, NONCE)
        self._ask("CSREG", AppNonce=NONCE, Challenge=proof)
        await self.heard.until(lambda event: event["CMD"] == "CSREG" and event["CODE"] == 1, "that it is registered")

    def _read(self) -> None:
        try:
            for message in self._example.messages(self._socket):
                self.heard.put(message)
        except OSError:  # it was closed
            return

    async def stop(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _ask(self, cmd: str, **fields: Any) -> int:
        with self._writing:
            self._token += 1
            message = {"CMD": cmd, "Token": self._token, "CsEUI": CS_EUI, **fields}
            self._socket.sendall(json.dumps(message, separators=(",", ":")).encode("ascii") + b"\0")
            return self._token

    async def uplink(self, device: Device, mark: int) -> None:
        def wanted(event: Any) -> bool:
            mine = event["CMD"] == "UPLOAD" and event["DevEUI"] == device.eui
            return mine and device.said(mark, b64decode(event["payload"]))

        await self.heard.until(wanted, f"{device.title} saying {mark}")

    async def presence(self, device: Device, online: bool, since: int) -> None:
        if device.protocol != "gateway88":
            raise Impossible(NO_PRESENCE)

        def wanted(event: Any) -> bool:
            told = event["CMD"], event.get("GWEUI"), event.get("STATE")
            return told == ("GWSTATEUPLOAD", device.eui, state)

        state = "ONLINE" if online else OFFLINE
        await self.heard.until(wanted, f"that {device.title} is {state}", since)

    async def command(self, device: Device, order: Order) -> None:
        codes = await self._outcome(device.eui, order)
        assert codes == [1, 2], codes

    async def refusal(self, device: Device, order: Order) -> None:
        codes = await self._outcome(device.eui, order)
        assert codes == [1, -6], codes

    async def rights(self, stranger: Device, order: Order) -> None:
        codes = await self._outcome(stranger.eui, order)
        assert codes == [UNKNOWN], codes

    def heard_of(self, stranger: Device) -> list[Any]:
        return [event for event in super().heard_of(stranger) if event["CODE"] != UNKNOWN]

    async def _outcome(self, eui: str, order: Order) -> list[int]:
        """The CODEs of all answers."""
        data = b64encode(order.data).decode("ascii")
        token = self._ask("SENDTO", DevEUI=eui, payload=data, Port=order.more.get("port", 1))

        def mine(event: Any) -> bool:
            return (event["CMD"], event["Token"]) == ("SENDTO", token)

        await self.heard.until(lambda event: mine(event) and event["CODE"] != 1, f"how SENDTO {token} ended")
        return [event["CODE"] for event in self.heard.all(mine)]
