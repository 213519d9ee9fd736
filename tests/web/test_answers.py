"""Surfaces, answers byte for byte, forms: what any listener that speaks HTTP can count on."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from broker.listening.connection import Connection
from broker.model.errors import Conflict, Invalid
from broker.model.jsontext import decode
from broker.web.answers import Answer, has_body, head
from broker.web.forms import MAX_FIELDS, form_fields
from broker.web.routes import ADMIN, ANYONE, APPLICATION, Call, Route
from tests.web.site import WebCase


async def _plain(call: Call) -> Any:
    return Answer(200, b"\x00\x01bytes", "application/octet-stream", ((b"Firmware-MD5", b"ABC"), (b"x-lower", b"l")))


async def _who(call: Call) -> Any:
    return {"name": call.caller.name, "query": call.arguments(), "host": call.host, "x": call.header("X-ANY")}


async def _form(call: Call) -> Any:
    return call.form_fields()


async def _conflict(call: Call) -> Any:
    raise Conflict("it is there already")


async def _split(call: Call) -> Any:
    return Answer(200, b"", "text/plain", ((b"X-Name", b"a\r\nSet-Cookie: b"), (b"server", b"mine")))


class AnswerTests(WebCase):
    def routes(self) -> tuple[Route, ...]:
        return (
            Route("GET", "/plain", _plain, ANYONE),
            Route("GET", "/who", _who, APPLICATION, lenient=True),
            Route("GET", "/strict", _who, APPLICATION),
            Route("GET", "/admin", _who, ADMIN),
            Route("DELETE", "/form", _form, ANYONE),
            Route("POST", "/form", _form, ANYONE),
            Route("GET", "/conflict", _conflict, ANYONE),
            Route("GET", "/split", _split, ANYONE),
            Route("GET", "/none", _nothing, ANYONE, status=204),
        )

    async def test_headers_keep_their_case(self) -> None:
        status, headers, body = await self.ask("GET /plain")
        self.assertEqual((status, body), (200, b"\x00\x01bytes"))
        self.assertEqual((headers["Firmware-MD5"], headers["x-lower"]), ("ABC", "l"))
        self.assertEqual(headers["X-Surface"], "plain")
        self.assertEqual((headers["Content-Length"], headers["Content-Type"]), ("7", "application/octet-stream"))
        self.assertNotIn("Transfer-Encoding", headers)

    async def test_one_write(self) -> None:
        written: list[bytes] = []
        opened = Connection.connectionMade

        def watch(connection: Any) -> None:
            opened(connection)
            write = connection.outbox.write

            def keep(data: bytes) -> None:
                written.append(data)
                write(data)

            connection.outbox.redirect(keep)

        self.patch(Connection, "connectionMade", watch)
        await self.ask("GET /plain")
        self.assertEqual(len(written), 1)
        self.assertTrue(written[0].startswith(b"HTTP/1.1 200 OK\r\n") and written[0].endswith(b"\x00\x01bytes"))

    async def test_head_and_nothing(self) -> None:
        status, headers, body = await self.ask("HEAD /plain")
        self.assertEqual((status, headers["Content-Length"], body), (200, "7", b""))
        status, headers, body = await self.ask("GET /none")
        self.assertEqual((status, body), (204, b""))
        self.assertNotIn("Content-Length", headers)

    async def test_own_headers_win_and_cannot_break_out(self) -> None:
        status, headers, _ = await self.ask("GET /split")
        self.assertEqual((status, headers["X-Name"], headers["server"]), (200, "a  Set-Cookie: b", "mine"))
        self.assertFalse({"Set-Cookie", "Server"} & set(headers))

    async def test_the_surface_says_who_and_how(self) -> None:
        status, _, body = await self.ask("GET /who?a=1&a=2&b=", "X-Token: app", "x-any:v")
        self.assertEqual(
            (status, decode(body)),
            (200, {"name": "application:app", "query": {"a": ["1", "2"], "b": [""]}, "host": "test", "x": "v"}),
        )
        for line, token, wanted in (
            ("GET /who", "wrong", 401),
            ("GET /admin", "app", 403),
            ("GET /admin", "admin", 200),
            ("GET /admin", "late", 200),
            ("GET /strict?a=1", "app", 400),
            ("GET /nowhere", "app", 404),
            ("PUT /who", "app", 405),
            ("GET /conflict", "", 409),
        ):
            status, _, body = await self.ask(line, f"X-Token: {token}")
            self.assertEqual(status, wanted, line)
            if status != 200:
                self.assertEqual(decode(body)["error_code"], 9000 + wanted)

    async def test_what_is_no_request_is_refused_in_its_words_too(self) -> None:
        client = await self.connect()
        client.write(b"nonsense\r\n\r\n")
        status, headers, body = await self.answer(client)
        self.assertEqual((status, decode(body)["error_code"]), (400, 9400))
        self.assertEqual((headers["Connection"], headers["X-Surface"]), ("close", "plain"))

    async def test_forms_of_any_method(self) -> None:
        for method in ("POST", "DELETE"):
            for header in (
                "Content-Type: application/x-www-form-urlencoded",
                "content-type:application/x-www-form-urlencoded;charset=UTF-8",
                "X: y",
            ):
                status, _, body = await self.ask(f"{method} /form", header, body=b"did=a%2Bb+c&empty=&did=%E4%BD%A0")
                self.assertEqual((status, decode(body)), (200, [["did", "a+b c"], ["empty", ""], ["did", "你"]]))
        status, _, _ = await self.ask("DELETE /form", "Content-Type: application/json", body=b"{}")
        self.assertEqual(status, 415)
        status, _, _ = await self.ask("DELETE /form", body=b"a=%ff")
        self.assertEqual(status, 400)


async def _nothing(call: Call) -> Any:
    return None


class FormTests(SynchronousTestCase):
    def test_bounds(self) -> None:
        self.assertEqual(form_fields(b""), [])
        self.assertEqual(len(form_fields(b"a=1&" * (MAX_FIELDS - 1) + b"a=1")), MAX_FIELDS)
        self.assertRaises(Invalid, form_fields, b"a=1&" * MAX_FIELDS + b"a=1")
        self.assertRaises(Invalid, form_fields, b"\xff=1")


class HeadTests(SynchronousTestCase):
    def test_head(self) -> None:
        usual = ((b"A", b"1"), (b"B", b"2"))
        self.assertEqual(head(b"HTTP/1.1", 200, usual), b"HTTP/1.1 200 OK\r\nA: 1\r\nB: 2\r\n\r\n")
        self.assertEqual(
            head(b"HTTP/1.0", 299, usual, ((b"b", b"\0x"),)), b"HTTP/1.0 299 Unknown Status\r\nA: 1\r\nb:  x\r\n\r\n"
        )

    def test_statuses_without_a_body(self) -> None:
        self.assertEqual([status for status in (101, 200, 204, 206, 304, 404) if has_body(status)], [200, 206, 404])
