"""Every call that the real process has, with all listeners: how it is described, and whom it lets in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from openapi_spec_validator import validate
from twisted.trial.unittest import SynchronousTestCase

from tests.real import RealBroker

TLS = '["tls:0:interface=127.0.0.1"]'
METHODS = ("get", "post", "put", "patch", "delete")
#: Calls for anybody, or that look for a token elsewhere than the others.
OPEN = ("/api/v1/session", "/api/v1/stream", "/api/v1/openapi.json", "/metrics", "/healthz", "/readyz")
#: Calls of an operator alone: their first segments, and their last ones.
OPERATORS = ("campaigns", "sinks", "event-rules", "backups", "replacements", "quarantine")
OPERATORS_ENDS = ("firmware", "replacement", "preview")


def without_text(document: dict[str, Any]) -> Iterator[str]:
    """What the document does not describe in words of its own: fields of shapes, and parameters of calls."""
    for name, schema in document["components"]["schemas"].items():
        if not schema.get("description"):
            yield name
        # A comment counts for the lines that follow without one, too: one that was forgotten has its neighbour's text.
        known = {""}
        for field, kind in schema.get("properties", {}).items():
            text = kind.get("description", "")
            if text in known:
                yield f"{name}.{field}"
            known.add(text)
    for path, calls in document["paths"].items():
        for method, call in calls.items():
            for parameter in call.get("parameters", ()):
                if not parameter.get("description"):
                    yield f"{method} {path}: {parameter['in']} {parameter['name']}"


class AllCallsTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        self.broker = RealBroker(folder, {"listeners.gateway88.bind": TLS, "listeners.files.bind": TLS})
        self.addCleanup(self.broker.kill)
        self.broker.start()
        self.document = self.broker.call("GET", "/openapi.json")[1]

    def calls(self) -> Iterator[tuple[str, str, list[str]]]:
        """Method, path below the API with made-up names, and its segments."""
        for path, calls in self.document["paths"].items():
            if path not in OPEN:
                below = re.sub(r"\{[^}]*\}", "02AABBCCDDEE", path.removeprefix("/api/v1"))
                for method in calls.keys() & set(METHODS):
                    yield method.upper(), below, path.removeprefix("/api/v1/").split("/")

    def status(self, method: str, path: str, token: str) -> int:
        body: Any = None if method in ("GET", "DELETE") else {}
        return self.broker.call(method, path, body, token)[0]

    def test_the_document(self) -> None:
        validate(self.document)
        # Two structs of one name are told apart by the modules that they are in, which is nobody's business.
        self.assertEqual([name for name in self.document["components"]["schemas"] if "." in name], [])
        ids = [calls[method]["operationId"] for calls in self.document["paths"].values() for method in calls]
        self.assertEqual(len(ids), len(set(ids)))
        self.assertEqual(list(without_text(self.document)), [])

    def test_rights(self) -> None:
        made = self.broker.made("/applications", {"id": "app", "kind": "http"})
        looked_at = 0
        for method, path, segments in self.calls():
            self.assertEqual(self.status(method, path, "nobody"), 401, (method, path))
            status = self.status(method, path, f"app:{made['secret']}")
            if segments[0] in OPERATORS or (segments[0] == "gateways" and segments[-1] in OPERATORS_ENDS):
                self.assertEqual(status, 403, (method, path))
                looked_at += 1
            elif segments[0] == "gateways":
                self.assertIn(status, (400, 404), (method, path))
                looked_at += 1
        self.assertGreater(looked_at, 30)
