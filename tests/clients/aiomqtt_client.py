"""aiomqtt behind the lines of tests/clients/client.py. A program of its own, as it needs asyncio's loop."""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
from typing import Any

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from tests.clients.client import PAHO_CODES, V5


def say(**line: Any) -> None:
    print(json.dumps(line), flush=True)


def code_of(code: ReasonCode | int | None) -> int:
    """5.0 has reason codes, 3.1.1 numbers."""
    assert code is not None
    return code if isinstance(code, int) else int(code.value)


class NamedClient:
    def __init__(self, name: str, login: dict[str, Any]) -> None:
        five = login["version"] == V5
        web = login["transport"].startswith("ws")
        secure = login["transport"] in ("tls", "wss")
        lasting: dict[str, Any] = {"clean_session": login["clean"]}
        if five:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            if not login["clean"]:
                properties.SessionExpiryInterval = login["expiry"]
            lasting = {"clean_start": login["clean"], "properties": properties}
        will = login["will"]
        self._name = name
        self._five = five
        self._client = aiomqtt.Client(
            "127.0.0.1",
            login["port"],
            username=login["user"],
            password=login["password"],
            identifier=login["client_id"],
            protocol=aiomqtt.ProtocolVersion.V5 if five else aiomqtt.ProtocolVersion.V311,
            transport="websockets" if web else "tcp",
            websocket_path="/mqtt" if web else None,
            tls_context=ssl.create_default_context(cafile=login["ca"]) if secure else None,
            will=aiomqtt.Will(**will) if will else None,
            **lasting,
        )
        self._reading: asyncio.Task[None] | None = None

    async def _read(self) -> None:
        async for one in self._client.messages:
            assert isinstance(one.payload, bytes)
            say(client=self._name, topic=str(one.topic), payload=one.payload.decode(), qos=one.qos, retain=one.retain)

    async def connect(self) -> int:
        try:
            await self._client.__aenter__()
        except aiomqtt.MqttCodeError as error:
            code = code_of(error.rc)
            return code if self._five else PAHO_CODES.get(code, code)
        self._reading = asyncio.create_task(self._read())
        return 0

    async def subscribe(self, topic_filter: str, qos: int) -> int:
        granted = await self._client.subscribe(topic_filter, qos)
        return code_of(granted[0])

    async def publish(self, topic: str, payload: str, qos: int, retain: bool) -> int:
        await self._client.publish(topic, payload, qos, retain)
        return 0

    async def disconnect(self) -> int:
        assert self._reading is not None
        self._reading.cancel()
        await self._client.__aexit__(None, None, None)
        return 0


async def main() -> None:
    clients: dict[str, NamedClient] = {}
    while line := await asyncio.to_thread(sys.stdin.readline):
        request = json.loads(line)
        name, do = request.pop("client"), request.pop("do")
        if do == "connect":
            clients[name] = NamedClient(name, request)
            answer = await clients[name].connect()
        elif do == "subscribe":
            answer = await clients[name].subscribe(request["filter"], request["qos"])
        elif do == "publish":
            answer = await clients[name].publish(**request)
        else:
            answer = await clients[name].disconnect()
        say(answer=answer)


if __name__ == "__main__":
    asyncio.run(main())
