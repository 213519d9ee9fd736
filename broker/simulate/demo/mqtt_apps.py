"""Applications on plain MQTT: topics ``devices/<id>/...``, commands and their answers as JSON."""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamClientEndpoint

from broker.mqtt.client import Message, MqttClient
from broker.mqtt.packets import MQTT_3_1_1
from broker.simulate.demo.board import Board
from broker.simulate.demo.cast import BY_ID, SUBJECTS, Subject, short
from broker.simulate.demo.orders import Order, body
from broker.simulate.demo.turns import FINAL, Turns
from broker.simulate.demo.words import failure_text, uplink_text


class MqttApplication:
    """``filters`` are its subscriptions. ``tells``: it has a note for each device that goes and comes back."""

    def __init__(
        self,
        reactor: Any,
        endpoint: IStreamClientEndpoint,
        board: Board,
        side: str,
        login: tuple[str, str],
        filters: tuple[str, ...],
        chance: Random,
        *,
        version: int = MQTT_3_1_1,
        tells: bool = False,
    ) -> None:
        self._board = board
        self._side = side
        self._filters = filters
        self._tells = tells
        self._away: set[str] = set()
        self._mqtt = MqttClient(
            reactor,
            endpoint,
            client_id=side,
            user=login[0],
            password=login[1],
            version=version,
            on_message=self._message,
        )
        self._turns = Turns(reactor, board, side, SUBJECTS, chance, self._send)

    async def start(self) -> None:
        """Log in; what is subscribed is so when this returns. Raises MqttRefused."""
        self._mqtt.start()
        for topic_filter in self._filters:
            await self._mqtt.subscribe(topic_filter)

    def go(self) -> None:
        self._turns.start()

    def stop(self) -> Deferred[None]:
        self._turns.stop()
        return self._mqtt.stop()

    def _send(self, number: int, subject: Subject, given: Order) -> None:
        message = msgspec.json.encode(body(subject, given, ref=f"{self._side} {number}"))
        sent = self._mqtt.publish(f"devices/{subject.id}/command", message, 1)
        sent.addErrback(lambda failure: self._turns.answered(number, f"not sent: {failure.getErrorMessage()}"))

    def _message(self, message: Message) -> None:
        _, device, *kind = message.topic.split("/")
        subject = BY_ID.get(device)
        if subject is None or message.retained:
            return
        told = msgspec.json.decode(message.payload)
        match kind:
            case ["up", _]:
                self._board.uplink(self._side, subject, uplink_text(subject, told))
            case ["reply"]:
                side, _, number = (told["ref"] or "").partition(" ")
                if side == self._side and told["status"] in FINAL:  # others command the same devices
                    self._turns.answered(int(number), told["status"], failure_text(told["result"]))
            case ["presence"] if self._tells:
                self._presence(subject, told)

    def _presence(self, subject: Subject, message: dict[str, Any]) -> None:
        name = f"{short(subject)} ({subject.protocol})"
        if not message["online"]:
            self._away.add(subject.id)
            self._board.note(f"{name} went off-line: {message['reason']}")
        elif subject.id in self._away:
            self._away.discard(subject.id)
            self._board.note(f"{name} is back")
