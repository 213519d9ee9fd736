"""Real broker processes on one real Redis: whichever is asked shows, and does, what any of them has."""

from __future__ import annotations

import http.client
import json
from typing import Any

from twisted.internet.threads import deferToThread

from tests.cluster.test_processes import Nova, ProcessCase
from tests.real import PATIENCE, RealBroker, eventually
from tests.websocket import WebSocketClient


class AcrossTests(ProcessCase):
    def test_presence_and_last_frames(self) -> Any:
        return deferToThread(self._presence)

    def _presence(self) -> None:
        a, b = self.start("a"), self.start("b")
        device = self.device(a)
        nova = Nova(a, device)
        nova.say("data", temperature=21.5)
        path = f"/devices/{device['id']}"

        def heard() -> Any:
            shown = self.call(b, "GET", path)[1]
            return shown if shown["values"] else None

        shown, here = eventually(heard, "the value"), self.call(a, "GET", path)[1]
        self.assertTrue(shown["online"])
        self.assertEqual(shown["values"]["temperature"]["value"], 21.5)
        self.assertEqual(shown["presence"], here["presence"])
        self.assertTrue(shown["presence"]["peer"].startswith("127.0.0.1"))
        page = self.call(b, "GET", "/devices")[1]["items"]
        self.assertEqual([one["presence"]["connected"] for one in page], [True])

        overview = self.call(b, "GET", "/overview")[1]
        self.assertEqual(overview["devices"]["online"], {"novacloud": 1})
        self.assertEqual({node["name"] for node in overview["nodes"]}, {"a", "b"})
        connections = self.call(b, "GET", f"/connections?q={device['id']}")[1]
        self.assertEqual([(one["listener"], one["node"]) for one in connections["items"]], [("novacloud", "a")])

        stream = WebSocketClient(b.ports["http"], "/api/v1/stream?kind=trace", "admin")
        self.assertEqual(self.call(b, "PUT", f"{path}/trace", {})[0], 200)
        eventually(lambda: self.call(a, "GET", "/traces")[1]["items"], "a to follow")
        nova.say("data", temperature=22)
        packet = stream.next(lambda message: message["type"] == "trace")
        self.assertEqual(packet["decoded"]["payload"], {"temperature": 22})

        a.kill()
        eventually(lambda: not self.call(b, "GET", path)[1]["online"], "b to know that it is gone")

    def test_a_browser_that_signs_in_at_one(self) -> Any:
        return deferToThread(self._browser)

    def _browser(self) -> None:
        a, b = self.start("a"), self.start("b")
        answer = browse(a, "POST", {}, {"token": "admin"})
        self.assertEqual(answer.status, 200)
        cookie = {"Cookie": str(answer.getheader("Set-Cookie")).partition(";")[0]}
        csrf = json.loads(answer.read())["csrf"]
        # A process that has just come may hear of it some milliseconds later.
        eventually(lambda: browse(b, "GET", cookie).status == 200, "b to know")
        self.assertEqual(json.loads(browse(b, "GET", cookie).read())["csrf"], csrf)
        c = self.start("c")
        self.assertEqual(json.loads(browse(c, "GET", cookie).read())["csrf"], csrf)
        self.assertEqual(browse(c, "DELETE", {**cookie, "X-CSRF-Token": csrf}).status, 204)
        eventually(lambda: browse(a, "GET", cookie).status == 204, "nobody is signed in")

    def test_events(self) -> Any:
        return deferToThread(self._events)

    def _events(self) -> None:
        settings = {"events.offline_after": "1", "events.debounce": "0", "events.restart_grace": "1"}
        a, b = self.start("a", **settings), self.start("b", **settings)
        device = self.device(a)
        rule = self.call(b, "POST", "/event-rules", {"name": "made at b"})[1]
        self.assertEqual([one["id"] for one in self.call(a, "GET", "/event-rules")[1]["items"]], [rule["id"]])
        stream = WebSocketClient(b.ports["http"], "/api/v1/stream?kind=broker_event", "admin")

        def told(kind: str) -> None:
            found = stream.next(lambda message: message["type"] == "event" and message["kind"] == kind)
            self.assertEqual(found["device"], device["id"])

        nova = Nova(b, device)
        nova.close()
        told("device_offline")
        # It comes back to the other process: nothing but that is told.
        nova = Nova(a, device)
        told("device_online")
        a.kill()  # which had the events, and the device
        told("device_offline")
        kinds = [one["kind"] for one in self.call(b, "GET", "/events")[1]["items"]]
        self.assertEqual(kinds, ["device_offline", "device_online", "device_offline"])
        nova.close()


def browse(broker: RealBroker, method: str, headers: dict[str, str], body: Any = None) -> http.client.HTTPResponse:
    """One request to /session, as a browser's."""
    connection = http.client.HTTPConnection("127.0.0.1", broker.ports["http"], timeout=PATIENCE)
    data = None if body is None else json.dumps(body)
    connection.request(method, "/api/v1/session", data, {"Content-Type": "application/json", **headers})
    return connection.getresponse()
