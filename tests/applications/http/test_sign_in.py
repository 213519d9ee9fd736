"""Signing in with a browser: what the cookie opens, and that no other page gets anything by it."""

from __future__ import annotations

from typing import Any

from broker.applications.http.settings import HttpSettings
from broker.applications.http.sign_in import COOKIE, Sessions, cookie_of, same_host
from tests.applications.http.site import ADMIN_TOKEN, Reply, SiteCase


class SignInCase(SiteCase):
    async def sign_in(self, token: str = ADMIN_TOKEN, **headers: str) -> Reply:
        return await self.api("POST", "/session", {"token": token}, token=None, headers=headers)

    async def signed_in(self) -> tuple[str, str]:
        """The cookie's value and the CSRF token."""
        reply = await self.sign_in()
        self.assertEqual(reply.status, 200, reply.body)
        return reply.header("set-cookie").partition(";")[0].partition("=")[2], reply.json["csrf"]

    async def ask(self, method: str, path: str, body: Any = None, cookie: str = "", **headers: str) -> Reply:
        given = {"cookie": f"{COOKIE}={cookie}", **{name.replace("_", "-"): value for name, value in headers.items()}}
        if isinstance(body, bytes):
            return await self.api(method, path, token=None, body=body, headers=given)
        return await self.api(method, path, body, token=None, headers=given)


class SignInTests(SignInCase):
    async def test_the_cookie(self) -> None:
        reply = await self.sign_in()
        cookie = reply.header("set-cookie")
        name, _, attributes = cookie.partition(";")
        self.assertTrue(name.startswith(f"{COOKIE}="))
        self.assertEqual(
            {part.strip() for part in attributes.split(";")}, {"Path=/", "Max-Age=43200", "HttpOnly", "SameSite=Strict"}
        )
        self.assertNotIn(name.partition("=")[2], reply.body.decode())

    async def test_wrong_tokens(self) -> None:
        application = await self.application("app")
        for token in ("wrong", "app:wrong", "\u00e9"):
            self.assertProblem(await self.sign_in(token), 401, "unauthenticated")
        self.assertProblem(await self.sign_in(application), 403, "forbidden")
        self.assertEqual((await self.api("POST", "/session", {}, token=None)).status, 400)
        self.assertEqual(len(self.listener.api.sessions), 0)

    async def test_it_reads_and_with_the_csrf_token_it_writes(self) -> None:
        cookie, csrf = await self.signed_in()
        self.assertEqual((await self.ask("GET", "/devices", cookie=cookie)).status, 200)
        body = {"protocol": "novacloud", "name": "d1"}
        for headers in ({}, {"x_csrf_token": "wrong"}, {"x_csrf_token": ""}):
            reply = await self.ask("POST", "/devices", body, cookie, **headers)
            self.assertProblem(reply, 403, "forbidden")
        reply = await self.ask("POST", "/devices", body, cookie, x_csrf_token=csrf)
        self.assertEqual(reply.status, 201, reply.body)
        self.assertEqual((await self.ask("GET", "/session", cookie=cookie)).json["csrf"], csrf)

    async def test_another_sites_page(self) -> None:
        cookie, csrf = await self.signed_in()
        for origin in ("https://evil.example", "null", "http://127.0.0.1:1"):
            for method, path, body in (("POST", "/devices", {"protocol": "novacloud"}), ("GET", "/devices", None)):
                reply = await self.ask(method, path, body, cookie, x_csrf_token=csrf, origin=origin)
                self.assertProblem(reply, 403, "forbidden")
            self.assertProblem(await self.sign_in(origin=origin), 403, "forbidden")
        # A form of another site can have no header of its own, and no JSON.
        reply = await self.ask(
            "POST", "/devices", b"protocol=toy", cookie, content_type="application/x-www-form-urlencoded"
        )
        self.assertEqual(reply.status, 403)
        self.assertEqual((await self.api("GET", "/devices")).json["items"], [])

    async def test_unknown_and_broken_cookies(self) -> None:
        for cookie in ("", "unknown", '"', "a;b=c", "x" * 5000):
            self.assertEqual((await self.ask("GET", "/devices", cookie=cookie)).status, 401, cookie[:10])
            self.assertEqual((await self.ask("GET", "/session", cookie=cookie)).status, 204, cookie[:10])

    async def test_a_token_counts_before_a_cookie(self) -> None:
        cookie, _ = await self.signed_in()
        reply = await self.api("GET", "/devices", token="wrong", headers={"cookie": f"{COOKIE}={cookie}"})
        self.assertEqual(reply.status, 401)

    async def test_signing_out(self) -> None:
        cookie, csrf = await self.signed_in()
        self.assertEqual((await self.ask("DELETE", "/session", cookie=cookie)).status, 403)
        reply = await self.ask("DELETE", "/session", cookie=cookie, x_csrf_token=csrf)
        self.assertEqual((reply.status, reply.header("set-cookie").split(";")[0]), (204, f"{COOKIE}="))
        self.assertEqual((await self.ask("GET", "/devices", cookie=cookie)).status, 401)

    async def test_signing_in_again_ends_the_session_before(self) -> None:
        cookie, _ = await self.signed_in()
        reply = await self.api(
            "POST", "/session", {"token": ADMIN_TOKEN}, token=None, headers={"cookie": f"{COOKIE}={cookie}"}
        )
        self.assertEqual(reply.status, 200)
        self.assertEqual((await self.ask("GET", "/devices", cookie=cookie)).status, 401)

    async def test_an_upload(self) -> None:
        cookie, csrf = await self.signed_in()
        image = b"x" * (self.listener.limits.max_message_size + 1)
        refused = await self.ask("PUT", "/files/big", image, cookie, content_type="application/octet-stream")
        self.assertEqual(refused.status, 403)
        kind = "application/octet-stream"
        reply = await self.ask("PUT", "/files/big", image, cookie, content_type=kind, x_csrf_token=csrf)
        self.assertEqual((reply.status, reply.json["size"]), (201, len(image)))

    async def test_a_stream_ends_with_its_session(self) -> None:
        cookie, csrf = await self.signed_in()
        await self.stream("", token=None, headers=[(b"cookie", f"{COOKIE}={cookie}".encode())])
        await self.until(lambda: len(self.listener.api.streams.clients) == 1)
        await self.ask("DELETE", "/session", cookie=cookie, x_csrf_token=csrf)
        await self.until(lambda: not self.listener.api.streams.clients)


class TimeTests(SignInCase):
    def sessions(self, **settings: Any) -> tuple[Sessions, list[float]]:
        now = [1000.0]
        return Sessions(HttpSettings(**settings), lambda: now[0] + 1e9, lambda: now[0]), now

    def request(self, cookie: str) -> Any:
        class Asking:
            class requestHeaders:
                @staticmethod
                def getRawHeaders(name: bytes, default: list[bytes]) -> list[bytes]:
                    return [f"{COOKIE}={cookie}".encode()] if name == b"cookie" else default

        return Asking

    def test_idle_and_lifetime(self) -> None:
        sessions, now = self.sessions(session_idle=60, session_lifetime=150)
        cookie, _ = sessions.begin()
        for _ in range(2):
            now[0] += 59
            self.assertIsNotNone(sessions.of(self.request(cookie)))
        now[0] += 59
        self.assertIsNone(sessions.of(self.request(cookie)))
        cookie, _ = sessions.begin()
        now[0] += 60
        sessions.tick()
        self.assertEqual(len(sessions), 0)
        self.assertIsNone(sessions.of(self.request(cookie)))

    def test_how_many(self) -> None:
        sessions, _ = self.sessions(max_sessions=2)
        first, *rest = [sessions.begin()[0] for _ in range(3)]
        self.assertIsNone(sessions.of(self.request(first)))
        self.assertTrue(all(sessions.of(self.request(cookie)) for cookie in rest))

    def test_cookies_and_hosts(self) -> None:
        self.assertEqual(cookie_of(self.request("abc")), "abc")
        self.assertTrue(same_host("https://Broker:8080", "broker:8080"))
        for origin in ("null", "", "https://broker", "https://broker:8080@evil", "http://[", "broker:8080"):
            self.assertFalse(same_host(origin, "broker:8080"), origin)
