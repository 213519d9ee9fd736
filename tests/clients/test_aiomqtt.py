"""aiomqtt, in a Python of its own that holds all clients of these tests."""

from __future__ import annotations

import atexit
import os
import sys
from functools import cache
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.clients.behaviour import ClientBehaviour
from tests.clients.client import Child, Client

ROOT = Path(__file__).resolve().parent.parent.parent


def start() -> Child:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    child = Child([sys.executable, "-m", "tests.clients.aiomqtt_client"], environment)
    atexit.register(child.kill)
    return child


shared = cache(start)


class AiomqttTests(ClientBehaviour, SynchronousTestCase):
    def new_client(self) -> Client:
        return shared().client()

    def new_client_apart(self) -> Client:
        return start().client()
