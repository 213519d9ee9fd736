"""MQTT.js, in a Node.js that holds all clients of these tests."""

from __future__ import annotations

import atexit
import os
import shutil
from functools import cache
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.clients.behaviour import ClientBehaviour
from tests.clients.client import Child, Client

HERE = Path(__file__).resolve().parent
#: Where tools/environment.sh installs what package.json names.
MODULES = HERE.parent.parent / ".venv" / "node"


def start() -> Child:
    node = shutil.which("node")
    assert node is not None, "Node.js is missing: sh tools/environment.sh test"
    child = Child([node, str(HERE / "mqttjs.mjs"), str(MODULES)], os.environ)
    atexit.register(child.kill)
    return child


shared = cache(start)


class MqttJsTests(ClientBehaviour, SynchronousTestCase):
    def new_client(self) -> Client:
        return shared().client()

    def new_client_apart(self) -> Client:
        return start().client()
