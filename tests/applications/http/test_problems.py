"""Everything that is refused is answered with a problem document."""

from typing import Any

from twisted.internet.defer import fail

from broker.model.errors import Unavailable
from tests.applications.http.site import SiteCase

DEEP = b'{"payload":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001
JSON = {"content-type": "application/json"}


class RequestTests(SiteCase):
    async def test_unknown_path(self) -> None:
        for path in ("/nothing", "/api/v1", "/api/v1/nothing", "/api/v1/devices/a/b/c"):
            self.assertProblem(await self.call("GET", path), 404, "not-found")

    async def test_method(self) -> None:
        reply = await self.api("PUT", "/devices", {})
        self.assertProblem(reply, 405, "method-not-allowed", "PUT")
        self.assertEqual(reply.header("allow"), "GET, HEAD, OPTIONS, POST")

    async def test_options(self) -> None:
        reply = await self.api("OPTIONS", "/commands/x", token=None)
        self.assertEqual((reply.status, reply.body), (204, b""))
        self.assertEqual(reply.header("allow"), "DELETE, GET, HEAD, OPTIONS")
        self.assertProblem(await self.call("OPTIONS", "/nothing"), 404, "not-found")

    async def test_head(self) -> None:
        get = await self.call("GET", "/healthz")
        head = await self.call("HEAD", "/healthz")
        self.assertEqual((head.status, head.body), (200, b""))
        self.assertEqual(head.header("content-length"), str(len(get.body)))

    async def test_malformed_json(self) -> None:
        device = await self.device()
        for body, words in (
            (b"", "truncated"),
            (b"{", "truncated"),
            (b"[]", "object"),
            (b'"text"', "object"),
            (b"\xff\xfe", "malformed"),
            (b'{"payload":{"a":"\xff"}}', ""),
            (b'{"payload":{"a":NaN}}', "malformed"),
            (b'{"payload":{"a":Infinity}}', "malformed"),
            (b'{"payload":{"a":1e999}}', "range"),
            (b'{"payload":{"a":"\\ud800"}}', ""),
            (b'{"payload":{"a":' + b"[" * 101 + b"]" * 101 + b"}}", "deep"),
            (b'{"payload":{}} more', "trailing"),
            (DEEP, "deep"),
        ):
            for path in ("/devices", "/products", f"/devices/{device}/commands", "/applications"):
                reply = await self.api("POST", path, body=body, headers=JSON)
                self.assertEqual((reply.status, reply.json.get("slug")), (400, "invalid"), (path, body[:50]))
            self.assertIn(words, (await self.api("POST", f"/devices/{device}/commands", body=body)).json["detail"])

    async def test_wrong_types_name_the_field(self) -> None:
        device = await self.device()
        wrong: tuple[Any, ...] = (1.5, [], {}, True, "x" * 1000, "", None, -1)
        cases: dict[str, dict[str, Any]] = {
            "/products": {
                "base": {"key": "k", "protocol": "novacloud"},
                "fields": {"key": (1, None, [], ""), "name": (1, []), "sensors": (1, {}, [1], [{"x": 1}], None)},
            },
            "/devices": {
                "base": {"protocol": "novacloud"},
                "fields": {
                    name: (1, [], {}, True) for name in ("protocol", "id", "secret", "product", "name", "dev_eui")
                },
            },
            f"/devices/{device}/commands": {
                "base": {"payload": {}},
                "fields": {
                    "payload": (1, [], "x", None),
                    "payload_base64": (1, []),
                    "ref": (1, [], "x" * 129),
                    "timeout": (0, -1, "1", True, 86_401),
                    "expires": (-1, "1", True, 30 * 86_400 + 1),
                    "force": (1, "true", None),
                    "ack": (1, "x"),
                    "port": (0, 256, "1", 1.5),
                    "confirm": (1,),
                    "unknown": wrong,
                },
            },
            "/applications": {
                "base": {"kind": "http"},
                "fields": {
                    "kind": (1, "other", None),
                    "id": (1, "with space", "a/b", ""),
                    "secret": (1, ""),
                    "name": (1,),
                    "cs_eui": (1,),
                    "unknown": wrong,
                },
            },
        }
        for path, case in cases.items():
            for field, values in case["fields"].items():
                for value in values:
                    reply = await self.api("POST", path, {**case["base"], field: value})
                    self.assertProblem(reply, 400, "invalid", field)

    async def test_query(self) -> None:
        device = await self.device()
        for path, words in (
            ("/devices?limit=0", "limit"),
            ("/devices?limit=1001", "limit"),
            ("/devices?limit=x", "limit"),
            ("/devices?online=perhaps", "online"),
            ("/devices?colour=red", "colour"),
            ("/devices?limit=1&limit=2", "limit"),
            ("/devices?q=%ff", "UTF-8"),
            (f"/devices/{device}/messages?since=nan", "since"),
            (f"/devices/{device}/messages?until=inf", "until"),
            (f"/devices/{device}/messages?kind=nothing", "kind"),
            ("/products?x=1", "x"),
        ):
            self.assertProblem(await self.api("GET", path), 400, "invalid", words)
        reply = await self.api("POST", f"/devices/{device}/commands?wait=-1", {"payload": {}})
        self.assertProblem(reply, 400, "invalid", "wait")

    async def test_content_type(self) -> None:
        for content_type in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "x"):
            reply = await self.api("POST", "/products", body=b"{}", headers={"content-type": content_type})
            self.assertProblem(reply, 415, "unsupported-media-type")
        value = b'{"key":"k","protocol":"novacloud"}'
        reply = await self.api(
            "POST", "/products", body=value, headers={"content-type": "Application/JSON; charset=utf-8"}
        )
        self.assertEqual(reply.status, 201)

    async def test_storage_away(self) -> None:
        self.patch(self.storage, "list_products", lambda: fail(Unavailable("the disk is full")))
        reply = await self.api("GET", "/products")
        self.assertProblem(reply, 503, "unavailable", "full")
        self.assertEqual(reply.header("retry-after"), "5")

    async def test_a_fault_of_ours(self) -> None:
        def broken() -> bytes:
            raise ZeroDivisionError("not to be seen")

        self.core.exposition = broken
        reply = await self.call("GET", "/metrics", token=None)
        self.assertProblem(reply, 500, "internal")
        self.assertNotIn(b"not to be seen", reply.body)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    async def test_headers(self) -> None:
        for reply in (await self.call("GET", "/healthz"), await self.call("GET", "/nothing")):
            self.assertEqual(reply.header("server"), "broker")
            self.assertEqual(reply.header("cache-control"), "no-store")
            self.assertEqual(reply.header("x-content-type-options"), "nosniff")
            self.assertRegex(reply.header("date"), r"^\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT$")


class AboutTests(SiteCase):
    async def test_health(self) -> None:
        reply = await self.call("GET", "/healthz", token=None)
        self.assertEqual((reply.status, reply.json), (200, {"status": "ok"}))

    async def test_ready(self) -> None:
        reply = await self.call("GET", "/readyz", token=None)
        self.assertEqual((reply.status, reply.json), (200, {"status": "ok"}))
        self.problems = ["the disk is full"]
        reply = await self.call("GET", "/readyz", token=None)
        self.assertEqual((reply.status, reply.json), (503, {"status": "unavailable", "problems": ["the disk is full"]}))

    async def test_what_does_not_keep_it_from_its_work_is_said_and_is_no_error(self) -> None:
        self.core.troubles = lambda: ["lorawan: ChirpStack is away"]
        for path in ("/healthz", "/readyz"):
            reply = await self.call("GET", path, token=None)
            told = {"status": "degraded", "problems": ["lorawan: ChirpStack is away"]}
            self.assertEqual((reply.status, reply.json), (200, told))

    async def test_metrics(self) -> None:
        reply = await self.call("GET", "/metrics", token=None)
        self.assertEqual((reply.status, reply.body), (200, b"broker_up 1\n"))
        self.assertEqual(reply.header("content-type"), "text/plain; version=0.0.4; charset=utf-8")

    async def test_metrics_through_a_proxy_need_a_token(self) -> None:
        proxied = {"x-forwarded-for": "192.0.2.1"}
        self.assertProblem(await self.call("GET", "/metrics", token=None, headers=proxied), 401, "unauthenticated")
        self.assertEqual((await self.call("GET", "/metrics", headers=proxied)).status, 200)
        application = await self.application("a")
        self.assertProblem(await self.call("GET", "/metrics", token=application, headers=proxied), 403, "forbidden")

    async def test_document(self) -> None:
        reply = await self.api("GET", "/openapi.json", token=None)
        self.assertEqual((reply.status, reply.json["openapi"]), (200, "3.1.0"))
