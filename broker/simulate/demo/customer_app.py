"""A customer server (LoRaCenter): to it every device is a mote, those of other protocols under their alias."""

from __future__ import annotations

from base64 import b64decode
from random import Random
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IStreamClientEndpoint

from broker.simulate.customer import CustomerIdentity, SimulatedCustomer
from broker.simulate.demo.board import Board
from broker.simulate.demo.cast import BY_EUI, CS_EUI, SUBJECTS, Subject
from broker.simulate.demo.orders import MOTE_PORT, Order
from broker.simulate.demo.turns import SUCCEEDED, Turns
from broker.simulate.demo.words import said


class CustomerApplication:
    """SENDTO and UPLOAD."""

    def __init__(
        self, reactor: Any, endpoint: IStreamClientEndpoint, board: Board, side: str, app_key: str, chance: Random
    ) -> None:
        self._board = board
        self._side = side
        self._turns = Turns(reactor, board, side, SUBJECTS, chance, self._send)
        self._customer = SimulatedCustomer(reactor, endpoint, CustomerIdentity(CS_EUI, app_key), self._told)
        self._registered: Deferred[None] = Deferred()

    def start(self) -> Deferred[None]:
        """Fires when it is registered."""
        self._customer.start()
        return self._registered

    def go(self) -> None:
        self._turns.start()

    def stop(self) -> Deferred[None]:
        self._turns.stop()
        self._customer.stop()
        return succeed(None)

    def _send(self, number: int, subject: Subject, given: Order) -> None:
        self._turns.call(number, self._customer.send_to(subject.eui, given.data, MOTE_PORT))

    def _told(self, message: dict[str, Any]) -> None:
        match message.get("CMD"):
            case "CSREG":
                self._register(message)
            case "UPLOAD":
                subject = BY_EUI.get(message["DevEUI"])
                if subject is not None:
                    self._board.uplink(self._side, subject, said(subject, b64decode(message["payload"])))
            case "SENDTO":
                self._answer(message)
            case "(lost)":
                self._board.note(f"{self._side} has lost its connection")

    def _register(self, message: dict[str, Any]) -> None:
        if message["CODE"] != 1:
            self._board.note(f"{self._side} was not registered: {message.get('MSG')}")
        elif not self._registered.called:
            self._registered.callback(None)

    def _answer(self, message: dict[str, Any]) -> None:
        code = message["CODE"]
        if code != 1:  # which says that it waits for the device
            self._turns.answered_as(message["Token"], SUCCEEDED if code == 2 else "failed", message["MSG"])
