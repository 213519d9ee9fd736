"""The table of calls: what is found, what is not, and that the OpenAPI document says the same."""

from typing import Any

from openapi_spec_validator import validate
from twisted.trial.unittest import SynchronousTestCase

from broker.applications.http.openapi import openapi_document
from broker.applications.http.side import ROUTES
from broker.model import errors
from broker.model.errors import BrokerError, NotFound
from broker.model.jsontext import decode, encode
from broker.web.problems import KINDS, MethodNotAllowed
from broker.web.routes import ADMIN, Call, Route, RouteTable


async def _a(call: Call) -> Any:
    """A call"""


async def _b(call: Call) -> Any:
    """Another call"""


TABLE = RouteTable(
    (
        Route("GET", "/api/v1/devices", _a, ADMIN),
        Route("POST", "/api/v1/devices", _b, ADMIN),
        Route("POST", "/api/v1/devices/import", _b, ADMIN),
        Route("GET", "/api/v1/devices/{id}", _a, ADMIN),
        Route("PUT", "/api/v1/applications/{id}/devices/{device}", _a, ADMIN),
    )
)


class FindTests(SynchronousTestCase):
    def test_found(self) -> None:
        for method, path, name, values in (
            ("GET", b"/api/v1/devices", "_a", {}),
            ("HEAD", b"/api/v1/devices", "_a", {}),
            ("POST", b"/api/v1/devices", "_b", {}),
            ("GET", b"/api/v1/devices/d%C3%A9-1", "_a", {"id": "dé-1"}),
            ("GET", b"/api/v1/devices/a%2Fb", "_a", {"id": "a/b"}),
            ("PUT", b"/api/v1/applications/a/devices/d", "_a", {"id": "a", "device": "d"}),
        ):
            route, found = TABLE.find(method, path)
            self.assertEqual((route.handler.__name__, found), (name, values), path)

    def test_no_such_path(self) -> None:
        for path in (
            b"/",
            b"",
            b"/api",
            b"/api/v1/devices/",
            b"/api/v1/devices/a/b",
            b"/api/v1/devices/%ff",
            b"//",
            b"*",
        ):
            self.assertRaises(NotFound, TABLE.find, "GET", path)

    def test_no_such_method(self) -> None:
        error = self.assertRaises(MethodNotAllowed, TABLE.find, "DELETE", b"/api/v1/devices")
        self.assertEqual(error.headers, ((b"Allow", b"GET, HEAD, OPTIONS, POST"),))

    def test_a_fixed_segment_wins_over_a_parameter(self) -> None:
        self.assertRaises(MethodNotAllowed, TABLE.find, "GET", b"/api/v1/devices/import")

    def test_two_routes_for_one_call(self) -> None:
        route = Route("GET", "/a/{id}", _a, ADMIN)
        self.assertRaises(ValueError, RouteTable, (route, route))
        self.assertRaises(ValueError, RouteTable, (route, Route("PUT", "/a/{other}", _a, ADMIN)))


class DocumentTests(SynchronousTestCase):
    document = decode(encode(openapi_document(ROUTES)))

    def test_is_valid(self) -> None:
        validate(self.document)

    def test_has_every_route_and_no_other(self) -> None:
        described = {(method.upper(), path) for path, methods in self.document["paths"].items() for method in methods}
        self.assertEqual(described, {(route.method, route.path) for route in ROUTES})

    def test_every_call_has_a_summary_and_a_name_of_its_own(self) -> None:
        operations = [one for methods in self.document["paths"].values() for one in methods.values()]
        self.assertTrue(all(one["summary"] for one in operations))
        self.assertEqual(len({one["operationId"] for one in operations}), len(operations))

    def test_every_path_parameter_is_described(self) -> None:
        for path, methods in self.document["paths"].items():
            for operation in methods.values():
                named = {one["name"] for one in operation.get("parameters", ()) if one["in"] == "path"}
                self.assertEqual(named, {part[1:-1] for part in path.split("/") if part.startswith("{")}, path)

    def test_secured_except_what_anybody_may_ask(self) -> None:
        unsecured = {
            path for path, methods in self.document["paths"].items() if methods.get("get", {}).get("security") == []
        }
        self.assertEqual(unsecured, {"/metrics", "/healthz", "/readyz", "/api/v1/openapi.json", "/api/v1/session"})


class CatalogueTests(SynchronousTestCase):
    def test_every_refusal_of_the_broker_has_a_status(self) -> None:
        slugs = {
            kind.slug
            for kind in vars(errors).values()
            if isinstance(kind, type) and issubclass(kind, BrokerError) and kind is not BrokerError
        }
        self.assertLessEqual(slugs, set(KINDS))
