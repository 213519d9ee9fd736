"""The simulated web app of a Gizwits user, without a network: what it says and what it makes of what it hears."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from broker.simulate.gizwits_socket import GizwitsSocket, SocketRefused


class Transport:
    """A WebSocket that keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.closed = False

    def sendTextMessage(self, text: str) -> None:
        self.sent.append(json.loads(text))

    def loseConnection(self) -> None:
        self.closed = True


class GizwitsSocketTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.heard: list[tuple[str, Any]] = []
        self.ends: list[str] = []
        self.app = GizwitsSocket(
            Clock(), "http://h:1/", "a", "u", "t", lambda *what: self.heard.append(what), self.ends.append
        )
        self.wire: Any = Transport()

    def open(self, success: bool = True) -> None:
        self.app.negotiationStarted(self.wire)
        self.app.negotiationFinished()
        self.hear("login_res", {"success": success})

    def hear(self, cmd: str, data: Any = None) -> None:
        self.app.textMessageReceived(json.dumps({"cmd": cmd} if data is None else {"cmd": cmd, "data": data}))

    def test_what_it_is_told_and_what_it_says(self) -> None:
        self.open()
        self.hear("s2c_noti", {"did": "d", "attrs": {"power": True}})
        self.hear("pong")
        self.app.write("d", {"power": True}, 7)
        self.app.write_raw("d", b"\x01\x02", 8)
        self.assertEqual(self.heard, [("s2c_noti", {"did": "d", "attrs": {"power": True}})])
        self.assertEqual(
            self.wire.sent,
            [
                {"cmd": "c2s_write", "data": {"did": "d", "attrs": {"power": True}, "req_sn": 7}},
                {"cmd": "c2s_write", "data": {"did": "d", "raw": [1, 2], "req_sn": 8}},
            ],
        )

    def test_an_end_is_told_but_for_its_own(self) -> None:
        self.open()
        self.app.connectionLost(Failure(ConnectionLost("cable")))
        self.assertEqual(len(self.ends), 1)
        self.app.say("ping")  # lost
        self.assertEqual(self.wire.sent, [])
        self.open()
        self.app.stop()
        self.assertTrue(self.wire.closed)
        self.app.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(len(self.ends), 1)

    def test_who_is_not_let_in_and_who_is_closed_before_hears_why(self) -> None:
        self.open(success=False)
        self.failureResultOf(self.app.logged_in, SocketRefused)
        self.setUp()
        self.app.negotiationStarted(self.wire)
        self.app.connectionLost(Failure(ConnectionDone()))
        self.failureResultOf(self.app.logged_in, SocketRefused)
        self.assertEqual(self.ends, [])

    def test_stopped_while_it_connects_it_goes(self) -> None:
        self.app.stop()
        self.app.negotiationStarted(self.wire)
        self.assertTrue(self.wire.closed)
