"""A script that plays ChirpStack v4 on a real MQTT broker, with paho: the events that it publishes, and its queue.

What it does with an uplink is what ChirpStack does: it publishes the events, gives integrations time to enqueue a
downlink (``get_downlink_data_delay``; here until one is there, where one is expected), drops a confirmed item that was
not acknowledged, drops what is too long, and tells of what a gateway takes or refuses. What is refused stays in the
queue.
"""

from __future__ import annotations

import json
import threading
from base64 import b64decode
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from tests.devices.lorawan.bed import GATEWAY
from tests.devices.lorawan.chirpstack_bed import (
    APPLICATION,
    REGION,
    device_info,
    event_body,
    event_topic,
    lora,
    rx_info,
    uplink_fields,
)
from tests.real import PATIENCE, eventually

#: Payload bytes of EU868 by spreading factor (LoRaWAN Regional Parameters).
LONGEST = {7: 242, 8: 242, 9: 115, 10: 51, 11: 51, 12: 51}
COMMANDS = "application/+/device/+/command/+"


class PlayedChirpStack:
    """One ChirpStack at one MQTT broker."""

    def __init__(self, port: int, client_id: str = "chirpstack") -> None:
        self.client = paho.Client(CallbackAPIVersion.VERSION2, client_id=client_id, clean_session=False)
        self.client.on_message = self._command
        self.client.on_connect = lambda client, *_: client.subscribe(COMMANDS, 1)
        self._subscribed = threading.Event()
        self.client.on_subscribe = lambda *_: self._subscribed.set()
        self.client.reconnect_delay_set(1, 1)
        #: The queue of each device, and the items that were transmitted and wait for their acknowledgement.
        self.queues: dict[str, list[dict[str, Any]]] = {}
        self.pending: dict[str, dict[str, Any]] = {}
        self.commands: list[dict[str, Any]] = []
        self._number = 0
        self._fcnt = 0
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        assert self._subscribed.wait(PATIENCE)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def _command(self, client: Any, userdata: Any, message: Any) -> None:
        command = json.loads(message.payload)
        words = message.topic.split("/")
        assert (words[1], words[3]) == (APPLICATION, command["devEui"]), message.topic
        self.commands.append(command)
        queue = self.queues.setdefault(command["devEui"].upper(), [])
        # The id is a primary key in ChirpStack's database.
        if all(item["id"] != command["id"] for item in queue):
            queue.append(command)

    # -- what it publishes -----------------------------------------------------------------------------------------

    def publish(self, topic: str, body: Any, retain: bool = False) -> None:
        """At QoS 1; returns when the MQTT broker has it."""
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.client.publish(topic, payload, 1, retain).wait_for_publish(PATIENCE)

    def event(self, dev_eui: str, what: str, **fields: Any) -> None:
        self._number += 1
        self.publish(event_topic(dev_eui, what), event_body(dev_eui, self._number, **fields))

    def gateway(self, state: str) -> None:
        topic = f"{REGION}/gateway/{GATEWAY.lower()}/state/conn"
        self.publish(topic, {"gatewayId": GATEWAY.lower(), "state": state}, retain=True)

    def up(self, dev_eui: str, payload: bytes, port: int, spreading_factor: int = 7) -> None:
        self._fcnt += 1
        fields = uplink_fields(payload, self._fcnt, port, (rx_info(GATEWAY, -35, 9.0),))
        self.event(dev_eui, "up", **{**fields, "txInfo": lora(spreading_factor=spreading_factor)})

    # -- what it does ----------------------------------------------------------------------------------------------

    def heard(
        self,
        dev_eui: str,
        payload: bytes,
        port: int,
        *,
        ack: bool = False,
        spreading_factor: int = 7,
        expects: bool = False,
        refusal: str = "",
    ) -> dict[str, Any] | None:
        """An uplink and what follows: the item that was transmitted. ``expects``: one is going to be in the queue."""
        self.up(dev_eui, payload, port, spreading_factor)
        waiting = self.pending.pop(dev_eui, None)
        if waiting is not None and ack:
            self.event(dev_eui, "ack", queueItemId=waiting["id"], acknowledged=True, fCntDown=1)
        elif waiting is not None:
            self.event(dev_eui, "ack", queueItemId=waiting["id"], fCntDown=1)
        if expects:
            eventually(lambda: self.queues.get(dev_eui), "a command in the queue")
        return self._downlink(dev_eui, LONGEST[spreading_factor], refusal)

    def class_c(self, dev_eui: str) -> dict[str, Any] | None:
        """Its scheduler looks at the queue of a class C mote."""
        eventually(lambda: self.queues.get(dev_eui), "a command in the queue")
        return self._downlink(dev_eui, LONGEST[12], "")

    def _downlink(self, dev_eui: str, longest: int, refusal: str) -> dict[str, Any] | None:
        queue = self.queues.get(dev_eui, [])
        while queue:
            item = queue[0]
            size = len(b64decode(item["data"]))
            if size > longest:
                queue.pop(0)
                context = {"item_size": str(size), "max_payload_size": str(longest), "queue_item_id": item["id"]}
                what = "Device queue-item discarded because it exceeds the max. payload size"
                self._log(dev_eui, "DOWNLINK_PAYLOAD_SIZE", what, context=context)
                continue
            if refusal:
                self._log(dev_eui, "DOWNLINK_GATEWAY", refusal)
                return None
            queue.pop(0)
            if item["confirmed"]:
                self.pending[dev_eui] = item
            self._txack(dev_eui, item)
            return item
        return None

    def _log(self, dev_eui: str, code: str, description: str, **more: Any) -> None:
        self._number += 1
        said = {"level": "ERROR", "code": code, "description": description, **more}
        time = f"2026-11-29T12:00:00.{self._number:09}+00:00"
        self.publish(event_topic(dev_eui, "log"), {"time": time, "deviceInfo": device_info(dev_eui), **said})

    def _txack(self, dev_eui: str, item: dict[str, Any]) -> None:
        self._number += 1
        body = {
            "downlinkId": self._number,
            "time": "2026-11-29T12:00:00.123456789+00:00",
            "deviceInfo": device_info(dev_eui),
            "queueItemId": item["id"],
            "fCntDown": self._number,
            "gatewayId": GATEWAY.lower(),
            "txInfo": {**lora(), "power": 16},
        }
        self.publish(event_topic(dev_eui, "txack"), body)
