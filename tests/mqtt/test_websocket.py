"""MQTT over WebSocket: paho-mqtt on real sockets, plain and with TLS, and packets cut into frames of any size."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from broker.listening.tls_transport import OverTLS
from broker.listening.websocket import websocket_factory
from broker.settings.tables import TlsTable
from broker.tls import Certificate

# As a module: trial would run its tests here as well.
from tests.mqtt import test_paho as over_tcp

SUBPROTOCOLS = ("mqtt", "mqttv3.1")


class WebPaho(over_tcp.Paho):
    """The same client over a WebSocket, which it opens at /mqtt."""

    secure = False

    def __init__(self, port: int, level: Any, *arguments: Any) -> None:
        super().__init__(port, level, *arguments)
        plain = self.client
        self.client = mqtt.Client(
            CallbackAPIVersion.VERSION2, plain._client_id.decode(), protocol=level, transport="websockets"
        )
        self.client.username_pw_set("u", *arguments[1:] or ("secret",))
        self.client.on_connect, self.client.on_subscribe = plain.on_connect, plain.on_subscribe
        self.client.on_message, self.client.on_log = plain.on_message, plain.on_log
        if self.secure:
            self.client.tls_set(cert_reqs=ssl.CERT_NONE)
            self.client.tls_insecure_set(True)


class SecureWebPaho(WebPaho):
    secure = True


class WebSocketClients(over_tcp.RealClients):
    """What clients do over TCP they do over a WebSocket."""

    client: Any = WebPaho

    def setUp(self) -> None:
        super().setUp()
        self.patch(over_tcp, "Paho", self.client)
        port = over_tcp.reactor.listenTCP(0, self.on_top(), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.port = port.getHost().port

    def on_top(self) -> Any:
        return websocket_factory(self.listener, SUBPROTOCOLS)


class SecureWebSocketClients(WebSocketClients):
    client = SecureWebPaho

    def on_top(self) -> Any:
        certificate: Any = Certificate(TlsTable(), Path(self.mktemp()))
        return OverTLS(certificate, False, super().on_top())
