"""The scenarios themselves, against a server that follows a script: what they say must be the server's doing."""

from __future__ import annotations

import socket
from collections.abc import Iterator

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from broker.mqtt import packets as p
from broker.mqtt.codec import Decoder
from broker.mqtt.encode import encode
from broker.mqtt.packets import MQTT_3_1_1, Packet
from tests.conformance.client import PATIENCE, Room
from tests.conformance.scenarios_restart import messages_in_flight


class Scripted:
    """One connection of the server."""

    def __init__(self, listener: socket.socket) -> None:
        self._socket, _ = listener.accept()
        self._socket.settimeout(PATIENCE)
        self._decoder = Decoder(1 << 20)
        self._packets: list[Packet] = []

    def hears(self, kind: type[Packet]) -> None:
        while not self._packets:
            self._packets += self._decoder.feed(self._socket.recv(65536))
        packet = self._packets.pop(0)
        assert isinstance(packet, kind), packet

    def says(self, *packets: Packet) -> None:
        """In one write."""
        self._socket.sendall(b"".join(encode(packet, MQTT_3_1_1) for packet in packets))

    def hears_to_the_end(self) -> list[Packet]:
        """All that comes; a PUBREC is answered as a broker does it."""
        heard = []
        while data := self._socket.recv(65536):
            for packet in self._decoder.feed(data):
                heard.append(packet)
                if isinstance(packet, p.PubRec):
                    self.says(p.PubRel(packet.packet_id))
        return heard

    def close(self) -> None:
        self._socket.close()


class ScriptedTests(TestCase):
    def test_what_comes_with_the_connack(self) -> Deferred[None]:
        """All that a restarted server owes reaches the client in the read that holds the CONNACK."""
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)
        serving = deferToThread(self._owe, listener)
        playing = deferToThread(self._play, listener.getsockname()[1])
        return playing.addCallback(lambda _: serving)

    @staticmethod
    def _play(port: int) -> None:
        room = Room(port, MQTT_3_1_1)
        steps: Iterator[None] = messages_in_flight(room)
        try:
            for _ in steps:
                pass
        finally:
            room.close()

    @staticmethod
    def _owe(listener: socket.socket) -> None:
        listener.settimeout(PATIENCE)
        a = Scripted(listener)
        a.hears(p.Connect)
        a.says(p.ConnAck())
        a.hears(p.Subscribe)
        a.says(p.SubAck(1, b"\2"))
        b = Scripted(listener)
        b.hears(p.Connect)
        b.says(p.ConnAck())
        owed = []
        for number in (1, 2, 3):
            b.hears(p.Publish)
            if number == 1:
                b.says(p.PubAck(number))
            else:
                b.says(p.PubRec(number))
                b.hears(p.PubRel)
                b.says(p.PubComp(number))
            owed.append(p.Publish("t", b"%d" % number, 1 if number == 1 else 2, number))
        a.says(*owed)
        a.hears(p.PubRec)
        a.says(p.PubRel(2))
        again = Scripted(listener)
        again.hears(p.Connect)
        twice = [p.Publish("t", one.payload, one.qos, one.packet_id, dup=True) for one in (owed[0], owed[2])]
        again.says(p.ConnAck(session_present=True), twice[0], p.PubRel(2), twice[1])
        assert again.hears_to_the_end() == [p.PubComp(2)]
        for one in (a, b, again):
            one.close()
