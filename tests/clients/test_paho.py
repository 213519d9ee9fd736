"""paho-mqtt, each client with the thread that it brings."""

from __future__ import annotations

from queue import Queue
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from twisted.trial.unittest import SynchronousTestCase

from tests.clients.behaviour import ClientBehaviour
from tests.clients.client import PAHO_CODES, V5, Client, Login, Message
from tests.real import PATIENCE


class PahoClient:
    def __init__(self) -> None:
        self._codes: Queue[int] = Queue()
        self._messages: Queue[Message] = Queue()

    def connect(self, login: Login) -> int:
        five = login.version == V5
        web = login.transport.startswith("ws")
        self._client = client = paho.Client(
            CallbackAPIVersion.VERSION2,
            login.client_id,
            clean_session=None if five else login.clean,
            protocol=MQTTProtocolVersion(login.version),
            transport="websockets" if web else "tcp",
            reconnect_on_failure=False,
        )
        client.username_pw_set(login.user, login.password)
        if login.transport in ("tls", "wss"):
            client.tls_set(ca_certs=login.ca)
        if login.will is not None:
            client.will_set(*login.will)
        client.on_connect = lambda client, data, flags, code, properties: self._codes.put(code.value)
        client.on_subscribe = lambda client, data, mid, codes, properties: self._codes.put(codes[0].value)
        client.on_message = self._got
        lasting: dict[str, Any] = {}
        if five:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            if not login.clean:
                properties.SessionExpiryInterval = login.expiry
            lasting = {"clean_start": login.clean, "properties": properties}
        client.connect("127.0.0.1", login.port, **lasting)
        client.loop_start()
        code = self._codes.get(timeout=PATIENCE)
        return code if five else PAHO_CODES.get(code, code)

    def _got(self, client: paho.Client, data: Any, one: paho.MQTTMessage) -> None:
        self._messages.put(Message(one.topic, one.payload.decode(), one.qos, one.retain))

    def subscribe(self, topic_filter: str, qos: int) -> int:
        self._client.subscribe(topic_filter, qos)
        return self._codes.get(timeout=PATIENCE)

    def publish(self, message: Message) -> None:
        self._client.publish(*message).wait_for_publish(PATIENCE)

    def next(self) -> Message:
        return self._messages.get(timeout=PATIENCE)

    def disconnect(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def drop(self) -> None:
        self._client.loop_stop()
        socket = self._client.socket()
        assert socket is not None
        socket.close()


class PahoTests(ClientBehaviour, SynchronousTestCase):
    def new_client(self) -> Client:
        return PahoClient()

    def new_client_apart(self) -> Client:
        return PahoClient()
