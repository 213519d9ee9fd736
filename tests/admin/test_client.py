"""The client against servers that misbehave: a script for each connection, on real sockets."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from broker.admin.client import Address, Client, at
from broker.admin.failures import Failure, Misuse, Refused
from broker.admin.live import Stream
from tests.admin.bed import Done, run

Script = Callable[[socket.socket], None]


def head(connection: socket.socket) -> bytes:
    """A request's head; what else comes is left."""
    got = b""
    while not got.endswith(b"\r\n\r\n"):
        byte = connection.recv(1)
        if not byte:
            break
        got += byte
    return got


def answer(body: bytes, status: str = "200 OK", *more: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *more, "", ""]
    return "\r\n".join(lines).encode() + body


def mute(connection: socket.socket) -> None:
    """Reads a request's head, then closes."""
    head(connection)


def saying(*answers: bytes) -> Script:
    """Answers as many requests, then closes."""

    def script(connection: socket.socket) -> None:
        for one in answers:
            head(connection)
            connection.sendall(one)

    return script


class Server:
    """Runs a script for each connection, in the order in which they come."""

    def __init__(self, *scripts: Script) -> None:
        self.heads: list[bytes] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, args=(scripts,), daemon=True)
        self._thread.start()

    def _serve(self, scripts: tuple[Script, ...]) -> None:
        for script in scripts:
            connection, _ = self._listening.accept()
            with connection:
                script(connection)
        self._listening.close()

    def join(self) -> None:
        self._thread.join(10)
        assert not self._thread.is_alive()


class ClientCase(SynchronousTestCase):
    def client(self, *scripts: Script, timeout: float = 10.0) -> tuple[Client, Server]:
        server = Server(*scripts)
        client = Client(Address("http", "127.0.0.1", server.port), "token", None, timeout)
        self.addCleanup(client.close)
        return client, server


class CallTests(ClientCase):
    def test_addresses(self) -> None:
        for url, shown in (
            ("http://h", "http://h:80"),
            ("https://h", "https://h:443"),
            ("http://[::1]:8080/", "http://[::1]:8080"),
            ("https://h/broker/api/v1/", "https://h:443/broker"),
        ):
            self.assertEqual(str(Address.parse(url)), shown)
        for url in ("", "h:80", "http://", "http://h:x", "http://h:99999", "http://h?x=1", "http://a:b@h"):
            self.assertRaises(Misuse, Address.parse, url)
        self.assertEqual(at("devices", "a/b?c #%"), "/api/v1/devices/a%2Fb%3Fc%20%23%25")

    def test_a_get_is_asked_again_when_the_connection_had_been_closed(self) -> None:
        client, server = self.client(saying(answer(b"[1]")), saying(answer(b"[2]")))
        self.assertEqual(client.get("/a"), [1])
        self.assertEqual(client.get("/b"), [2])
        server.join()

    def test_what_changes_something_is_not(self) -> None:
        client, server = self.client(saying(answer(b"[1]")), saying(answer(b"[2]")))
        self.assertEqual(client.get("/a"), [1])
        self.assertRaises(Failure, client.call, "POST", "/b", {})
        self.assertEqual(client.get("/b"), [2])
        server.join()

    def test_refusals(self) -> None:
        problem = b'{"title": "Limit", "status": 429, "detail": "too many", "details": {"limit": "x.y"}}'
        for body, status, parts in (
            (problem, "429 Too Many Requests", ("too many", "429", "Limit", "limit: x.y")),
            (b"<html>bad gateway</html>", "502 Bad Gateway", ("502", "Bad Gateway")),
            (b"[]", "500 Oops", ("500",)),
            (b'{"title": 3, "detail": {"x": 1}}', "400 Bad", ("400",)),
            (b"", "302 Found", ("302",)),
        ):
            client, server = self.client(saying(answer(body, status, "Location: http://127.0.0.1:1/")))
            refused = self.assertRaises(Refused, client.get, "/a")
            for part in parts:
                self.assertIn(part, str(refused))
            self.assertNotIn("<html>", str(refused))
            server.join()

    def test_answers_that_are_none(self) -> None:
        for body in (b"<html>", b"{", b"\xff"):
            client, _ = self.client(saying(answer(body)))
            self.assertIn("not JSON", str(self.assertRaises(Failure, client.get, "/a")))
        client, _ = self.client(lambda connection: connection.sendall(b"220 smtp ready\r\n"))
        self.assertIn("no HTTP", str(self.assertRaises(Failure, client.get, "/a")))
        client, _ = self.client(lambda connection: None)
        self.assertIn("closed the connection", str(self.assertRaises(Failure, client.get, "/a")))
        client, _ = self.client(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n[1"))
        self.assertRaises(Failure, client.get, "/a")

    def test_nobody_and_nothing(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
            client = Client(Address("http", "127.0.0.1", port), "token", None, 0.2)
            self.assertIn("within 0.2 s", str(self.assertRaises(Failure, client.get, "/a")))
            client.close()
        client = Client(Address("http", "127.0.0.1", port), "token", None, 5)
        failure = self.assertRaises(Failure, client.get, "/a")
        self.assertIn("cannot reach", str(failure))
        self.assertNotIn("token", str(failure))


class PageTests(ClientCase):
    def test_pages_up_to_a_limit(self) -> None:
        pages = (b'{"items": [1, 2], "next": "c", "total": 3}', b'{"items": [3], "next": null}')
        client, _ = self.client(saying(*map(answer, pages)))
        everything = client.pages("/a")
        self.assertEqual((list(everything), everything.more), ([1, 2, 3], False))
        self.assertEqual(everything.head["total"], 3)
        client, _ = self.client(saying(answer(pages[0])))
        some = client.pages("/a", limit=2)
        self.assertEqual((list(some), some.more), ([1, 2], True))
        client, _ = self.client(saying(*map(answer, pages)))
        some = client.pages("/a", limit=3)
        self.assertEqual((list(some), some.more), ([1, 2, 3], False))

    def test_queries(self) -> None:
        asked: list[bytes] = []

        def script(connection: socket.socket) -> None:
            for page in (b'{"items": [1], "next": "a&b"}', b'{"items": [], "next": null}'):
                asked.append(head(connection).split()[1])
                connection.sendall(answer(page))

        client, server = self.client(script)
        query = {"q": "a b&c", "online": True, "kind": ["x", "y"], "none": None}
        self.assertEqual(list(client.pages("/a", query)), [1])
        server.join()
        first = b"/a?q=a+b%26c&online=true&kind=x&kind=y&limit=1000"
        self.assertEqual(asked, [first, first + b"&cursor=a%26b"])

    def test_no_list(self) -> None:
        for body in (b"[]", b'{"items": 3}', b"3"):
            client, _ = self.client(saying(answer(body)))
            self.assertRaises(Failure, list, client.pages("/a"))


class FileTests(ClientCase):
    def test_a_refusal_before_all_was_sent_is_what_is_told(self) -> None:
        """The server answers after the head, reads no more and closes."""
        closed = threading.Event()

        def script(connection: socket.socket) -> None:
            head(connection)
            connection.sendall(answer(b'{"detail": "too long"}', "413 Too Large", "Connection: close"))
            connection.shutdown(socket.SHUT_WR)
            closed.set()
            while connection.recv(65_536):
                pass

        client, _ = self.client(script)
        sent: list[int] = []

        def pieces() -> Any:
            for _ in range(64):
                closed.wait(10)
                sent.append(65_536)
                yield bytes(65_536)

        refused = self.assertRaises(Refused, client.upload, "/files/x", pieces(), 64 * 65_536)
        self.assertEqual(refused.code, 413)
        self.assertIn("too long", str(refused))

    def test_a_connection_that_breaks_while_sending(self) -> None:
        def script(connection: socket.socket) -> None:
            head(connection)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

        client, _ = self.client(script)
        failure = self.assertRaises(
            Failure, client.upload, "/files/x", (bytes(65_536) for _ in range(1_000)), 65_536_000
        )
        self.assertNotIsInstance(failure, Refused)
        self.assertIn("closed the connection", str(failure))

    def test_what_the_file_raises_is_passed_on(self) -> None:
        def pieces() -> Any:
            yield b"x"
            raise Failure("shorter")

        client, _ = self.client(mute)
        self.assertEqual(str(self.assertRaises(Failure, client.upload, "/files/x", pieces(), 10)), "shorter")

    def test_a_download_that_breaks_off_is_no_file(self) -> None:
        client, _ = self.client(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345"))
        got: list[bytes] = []

        def fetch() -> None:
            for piece in client.download("/a"):
                got.append(piece)

        self.assertIn("before the end", str(self.assertRaises(Failure, fetch)))
        self.assertEqual(b"".join(got), b"12345")


class BreakTests(ClientCase):
    """Whole commands whose broker goes away, or is not well."""

    def command(self, *arguments: str, scripts: tuple[Script, ...], stdin: str = "") -> Done:
        server = Server(*scripts)
        variables = {"BROKER_ADMIN_API": f"http://127.0.0.1:{server.port}", "BROKER_ADMIN_TOKEN": "token"}
        return run(*arguments, variables=variables, stdin=stdin)

    def test_an_import_that_breaks_off_says_where(self) -> None:
        answers = [b'{"created": 499, "failed": [{"line": 3, "error": "taken"}]}', b'{"created": 500, "failed": []}']

        def script(connection: socket.socket) -> None:
            for one in answers:
                length = int(head(connection).lower().partition(b"content-length: ")[2].split(b"\r")[0])
                while length:
                    length -= len(connection.recv(min(length, 65_536)))
                connection.sendall(answer(one))

        lines = "\n" + "".join(f'{{"protocol": "novacloud", "id": "{number}"}}\n' for number in range(1_200))
        done = self.command("devices", "import", "-", "--json", scripts=(script,), stdin=lines)
        self.assertEqual(done.status, 1)
        self.assertEqual(done.value, {"created": 999, "failed": [{"line": 4, "error": "taken"}]})
        self.assertIn("999 devices were registered before line 1002", done.err)
        self.assertIn("--from-line 1002 goes on", done.err)
        self.assertIn("closed the connection", done.err.splitlines()[-1])

    def test_a_broker_that_is_not_ready(self) -> None:
        unready = answer(b'{"status": "unavailable", "problems": ["the disk is full"]}', "503 Service Unavailable")
        away = answer(b'{"title": "Not available now", "detail": "storage is away"}', "503 Service Unavailable")
        for more in ((), ("--json",)):
            done = self.command("status", *more, scripts=(saying(unready, away),))
            self.assertEqual(done.status, 1)
            self.assertIn("the broker takes no work: the disk is full", done.err)
            self.assertIn("unavailable", done.out)
        done = self.command("status", scripts=(saying(answer(b"{}"), away),))
        self.assertEqual((done.status, done.out), (1, ""))
        self.assertIn("storage is away", done.err)


class StreamTests(ClientCase):
    def test_refused_and_lost(self) -> None:
        body = b'{"detail": "the token is not valid", "title": "Not authenticated"}'
        client, _ = self.client(saying(answer(body, "401 Unauthorized")))
        self.assertIn("the token is not valid", str(self.assertRaises(Refused, Stream, client)))
        client, _ = self.client(mute)
        self.assertIn("lost", str(self.assertRaises(Failure, Stream, client)))
        client, _ = self.client(saying(b"220 smtp\r\n"))
        self.assertRaises(Failure, Stream, client)

    def test_an_answer_that_does_not_come(self) -> None:
        def script(connection: socket.socket) -> None:
            head(connection)
            connection.recv(1)  # until the client goes

        client, _ = self.client(script, timeout=0.2)
        self.assertIn("within 0.2 s", str(self.assertRaises(Failure, Stream, client)))
