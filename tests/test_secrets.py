"""Secrets stay where they belong: a real broker with words in all of them that are found again, and everything fails.

Each secret that it is configured with, that it is given through the API or that a client shows it is such a word. Then
every protocol's log-in fails, bodies are broken in the middle of a secret, a traced device logs in, a mail server and a
ChirpStack are not there; with the log at its most talkative. No word may be in the log, in ``/metrics``, ``/healthz``
and ``/readyz``, in what anybody is answered, or in a file that others may read. (But for what a call is there to show.)
"""

from __future__ import annotations

import ast
import http.client
import json
import re
import socket
from pathlib import Path
from typing import Any, Final

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from broker.data_dir import exposed
from broker.devices.gateway88.container import AS_WRITTEN
from broker.devices.gateway88.container import encode as pack
from broker.devices.gateway88.frames import encode_frame
from broker.mqtt import packets as p
from broker.mqtt.encode import encode
from broker.settings.tables import BrokerTable, StorageTable
from broker.storage.redis.settings import RedisTable
from tests.devices.gizwits.site import provision, registration
from tests.limits.table import tables
from tests.real import LOOPBACK, PATIENCE, RealBroker, eventually
from tests.simulate.processes import free_ports

ROOT: Final = Path(__file__).resolve().parent.parent
#: In every word, and in nothing else.
MARK: Final = "hushhush"
#: Keys are hexadecimal, so theirs is a pattern of its own.
HEX: Final = "5ec2e75ec2e7"
#: Passcodes have letters and digits alone.
PASSCODE: Final = MARK.upper()
#: Structs whose field has a name like a secret's, and is none.
NO_SECRETS: Final = frozenset({"UserLimits"})
_NAMES: Final = re.compile(r"(^|_)(token|secret|password|passcode|csrf|app_key|nwk_key|s_key|authorization)s?$")


def word(name: str) -> str:
    return f"{MARK}-{name}"


def key(number: int) -> str:
    """A key of 16 bytes."""
    return f"{HEX}{number:020d}"


class RealTests(TestCase):
    timeout = 120

    def test_everything_fails_and_nothing_is_told(self) -> Deferred[None]:
        return deferToThread(self._all)

    def _all(self) -> None:
        folder = Path(self.mktemp()).absolute()
        folder.mkdir(parents=True)
        mail, chirpstack = free_ports(2)
        self.broker = RealBroker(
            folder,
            {
                "broker.admin_token": word("admin"),
                "redis.password": word("redis"),
                "redis.sentinel_password": word("sentinel"),
                "mail.host": '"127.0.0.1"',
                "mail.port": str(mail),
                "mail.username": '"somebody"',
                "mail.password": word("mail"),
                "mail.from": '"broker@example.org"',
                "mail.tls": '"none"',
                "listeners.gateway88.bind": LOOPBACK,
                "listeners.gateway88.unknown": '"refuse"',
                "listeners.lorawan.chirpstack.url": f'"mqtt://127.0.0.1:{chirpstack}"',
                "listeners.lorawan.chirpstack.username": '"somebody"',
                "listeners.lorawan.chirpstack.password": word("chirpstack"),
                "listeners.lorawan.chirpstack.start_delay": "0",
                "listeners.loracenter.refused_grace": "0.01",
                "events.debounce": "0",
                "log.level": '"debug"',
                "log.levels": '{ "log_legacy" = "debug" }',
            },
        )
        self.addCleanup(self.broker.kill)
        #: What clients and callers were told, but for the calls that are there to show a secret.
        self.told: list[bytes] = []
        self.broker.start()
        self._register()
        self._fail()
        self._ask()
        modes = exposed(*(path for path in self.broker.data_dir.rglob("*") if path.name != "certificate.pem"))
        self.assertEqual(modes, [])
        self.assertEqual(self.broker.data_dir.stat().st_mode & 0o777, 0o700)
        self.assertEqual(self.broker.stop(), 0)
        self._look("the log", "\n".join(self.broker.output))
        self._look("an answer", b"\n".join(self.told).decode("utf-8", "replace"))
        # All of it was really there: what has to be used again is kept as it is, for the broker's eyes.
        kept = b"".join(path.read_bytes() for path in self.broker.data_dir.glob("broker.sqlite*")).lower()
        for text in (*map(key, range(1, 5)), PASSCODE):
            self.assertTrue(text.lower().encode() in kept, text)
        self.assertIn(" debug ", "\n".join(self.broker.output))
        self.assertIn(b"401", b"\n".join(self.told))

    def _look(self, where: str, text: str) -> None:
        for line in text.splitlines():
            found = re.search(rf"{MARK}|{HEX}", line, re.IGNORECASE)
            self.assertIsNone(found, f"{where}: {line[:500]}")

    # -- what it is given ------------------------------------------------------------------------------------------

    def _api(self, method: str, path: str, body: Any = None, shown: bool = False, token: str = word("admin")) -> Any:
        """A call; ``shown``: it is there to show a secret."""
        connection = http.client.HTTPConnection("127.0.0.1", self.broker.ports["http"], timeout=PATIENCE)
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        connection.request(method, path, data, headers)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        if not shown:
            self.told += [b"%d" % answer.status, str(answer.headers).encode(), text]
        return json.loads(text) if text.startswith(b"{") else None

    def _register(self) -> None:
        made = [
            ("/products", {"key": "p" * 32, "name": "lamp", "protocol": "gizwits"}),
            (
                "/devices",
                {"protocol": "novacloud", "id": "00000000-0000-4000-8000-000000000001", "secret": word("nova")},
            ),
            ("/devices", {"protocol": "lorawan", "id": "AA00000000000001", "join_eui": "0" * 16, "app_key": key(1)}),
            (
                "/devices",
                {
                    "protocol": "lorawan",
                    "id": "AA00000000000002",
                    "dev_addr": "01020304",
                    "nwk_s_key": key(2),
                    "app_s_key": key(3),
                },
            ),
            ("/applications", {"kind": "mqtt", "id": "app", "secret": word("application")}),
            ("/applications", {"kind": "gizwits", "id": "gizwits-app", "secret": word("gizwits-app")}),
            ("/applications", {"kind": "loracenter", "id": "center", "cs_eui": "AA000000000000C5", "app_key": key(4)}),
            (
                "/sinks",
                {
                    "name": "hook",
                    "kind": "webhook",
                    "url": "http://127.0.0.1:1/x",
                    "headers": {"Authorization": f"Bearer {word('header')}"},
                    "secret": word("hook"),
                },
            ),
            ("/sinks", {"name": "mail", "kind": "email", "to": ["somebody@example.org"]}),
        ]
        sinks = []
        for path, body in made:
            answer = self._api("POST", f"/api/v1{path}", body, shown=True)
            self.assertIsNotNone(answer, path)
            self.assertNotIn("slug", answer, (path, answer))
            if path == "/sinks":
                sinks.append(answer["id"])
        rule = self._api("POST", "/api/v1/event-rules", {"name": "all", "kinds": ["quarantine_new"], "sinks": sinks})
        self.assertEqual(rule["sinks"], sinks, rule)
        self.told.append(self._say("gservice", registration(PASSCODE, "0A0B0C0D0E0F", "p" * 32)))

    # -- what fails ------------------------------------------------------------------------------------------------

    def _say(self, name: str, data: bytes, silent: bool = False) -> bytes:
        """Send it and read until the broker closes, or for a moment where it does not."""
        with socket.create_connection(("127.0.0.1", self.broker.ports[name]), timeout=PATIENCE) as opened:
            opened.sendall(data)
            got = b""
            try:
                opened.settimeout(1.0 if silent else PATIENCE)
                while part := opened.recv(65_536):
                    got += part
            except TimeoutError:
                pass
        self.told.append(got)
        return got

    def _fail(self) -> None:
        nova = "00000000-0000-4000-8000-000000000001"
        self._api("POST", f"/api/v1/devices/{nova}/trace", {"seconds": 60})
        for auth in (
            {"type": "auth", "payload": {"device_id": nova, "device_key": word("guess")}},
            {"type": "auth", "payload": {"device_id": word("guess"), "device_key": word("guess")}},
        ):
            self._say("novacloud", json.dumps(auth).encode() + b"\n")
        self._say("novacloud", f'{{"type":"auth","payload":{{"device_key":"{word("broken")}'.encode() + b"\n")
        right = {"type": "auth", "payload": {"device_id": nova, "device_key": word("nova")}}
        broken = f'{{"type":"auth","device_key":"{word("nova")}\n'.encode()
        self._say("novacloud", json.dumps(right).encode() + b"\n" + broken * 20, silent=True)
        for version in (p.MQTT_3_1_1, p.MQTT_5):
            for user, password in (
                ("app", word("guess")),
                ("nobody", word("guess")),
                (f"2$gizwits-app${'0' * 32}", word("t")),
            ):
                connect = p.Connect("c", version, True, 60, user, password.encode())
                self._say("mqtt", encode(connect, version))
        right_one = encode(p.Connect("c", user="app", password=word("application").encode()))
        self._say("mqtt", right_one + right_one)  # a second CONNECT
        self._say("mqtt", right_one[:-3] + b"\xff\xff\xff", silent=True)
        register = {
            "CMD": "CSREG",
            "Token": 1,
            "CsEUI": "AA000000000000C5",
            "AppNonce": 5,
            "Challenge": HEX,
            "ServiceId": 0,
        }
        self._say("loracenter", json.dumps(register).encode() + b"\0")
        hb = encode_frame(b"\2\0\0\0\0\1", 1, pack({"type": "hb", "hb": {"password": word("hb")}}, AS_WRITTEN))
        self._say("gateway88", hb)
        for request in (
            self._http("POST /dev/devices", f"passcode={MARK}&mac=x&product_key={'p' * 32}"),
            self._http("DELETE /dev/devices", f"did={'x' * 22}&passcode={PASSCODE}"),
            self._http("POST /app/login", {"username": "ann", "password": word("login")}),
            self._http("POST /app/users", b'{"username": "ann", "password": "' + word("broken").encode()),
            self._http("POST /app/users", {"username": "ann", "password": word("user")}),
            self._http("POST /app/users", {"username": "ann", "password": [word("type")]}),
            self._http("GET /app/bindings", b"", word("token")),
            self._http("POST /app/bindings", {"devices": [{"did": "x", "passcode": PASSCODE}]}, word("token")),
        ):
            answer = self._say("gservice", request)
            if b'"token"' in answer:  # what a log-in is for
                self.told.pop()
        self._say("gservice", provision("x" * 22).replace(b"HTTP/1.1\r\n", b"HTTP/1.1\r\nConnection: close\r\n", 1))
        for token in (word("guess"), f"app:{word('guess')}", f"{word('guess')}:x"):
            self._api("GET", "/api/v1/devices", token=token)
            self._api("GET", f"/api/v1/stream?access_token={token}", token="")
        self._api("POST", "/api/v1/session", {"token": word("guess")}, token="")
        self._api("POST", "/api/v1/session", b'{"token": "' + word("broken").encode(), token="")
        for path, body in (
            ("/applications", {"kind": "mqtt", "id": "app", "secret": word("again")}),
            ("/applications", {"kind": "mqtt", "secret": [word("type")]}),
            ("/applications", {"kind": "loracenter", "cs_eui": "x", "app_key": word("form")}),
            ("/devices", {"protocol": "novacloud", "secret": {"x": word("type")}}),
            (
                "/devices",
                {"protocol": "lorawan", "id": "AA00000000000003", "join_eui": "0" * 16, "app_key": key(5)[:-1]},
            ),
            ("/devices", b'{"protocol": "novacloud", "secret": "' + word("broken").encode()),
            ("/sinks", {"name": "x", "kind": "webhook", "url": f"ftp://u:{word('scheme')}@h/", "secret": word("x")}),
        ):
            self._api("POST", f"/api/v1{path}", body)
        with socket.socket(type=socket.SOCK_DGRAM) as forwarder:
            forwarder.sendto(b"\2ab\2AABBCCDD", ("127.0.0.1", self.broker.ports["lorawan"]))
        eventually(lambda: self._figure("broker_event_sink_retries_total") > 0, "sinks that could not be reached")

    def _http(self, line: str, body: Any, token: str = "") -> bytes:
        if isinstance(body, str):
            text, kind = body.encode(), "application/x-www-form-urlencoded"
        else:
            text, kind = body if isinstance(body, bytes) else json.dumps(body).encode(), "application/json"
        lines = [
            f"{line} HTTP/1.1",
            "Host: x",
            "Connection: close",
            f"Content-Length: {len(text)}",
            f"Content-Type: {kind}",
        ]
        lines += ["X-Gizwits-Application-Id: gizwits-app", f"X-Gizwits-User-token: {token}", "", ""]
        return "\r\n".join(lines).encode() + text

    def _figure(self, name: str) -> float:
        connection = http.client.HTTPConnection("127.0.0.1", self.broker.ports["http"], timeout=PATIENCE)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        return sum(float(value) for value in re.findall(rf"^{name}(?:\{{.*\}})? (\S+)$", text, re.MULTILINE))

    # -- what may be asked -----------------------------------------------------------------------------------------

    def _ask(self) -> None:
        for path in ("/metrics", "/healthz", "/readyz", "/api/v1/openapi.json"):
            self._api("GET", path)
        lists = (
            "devices",
            "applications",
            "products",
            "quarantine",
            "connections",
            "overview",
            "events",
            "sinks",
            "rules",
        )
        for name in (*lists, "traces", "lorawan/motes", "gizwits/apps/gizwits-app/users"):
            self._api("GET", f"/api/v1/{name}")
        for device in ("00000000-0000-4000-8000-000000000001", "AA00000000000001", "AA00000000000002"):
            self._api("GET", f"/api/v1/devices/{device}")
            self._api("GET", f"/api/v1/devices/{device}/messages")
        for application in ("app", "center", "gizwits-app"):
            self._api("GET", f"/api/v1/applications/{application}")


class ReprTests(SynchronousTestCase):
    def test_settings(self) -> None:
        for table in (
            BrokerTable(admin_token=word("admin")),
            RedisTable(password=word("p"), sentinel_password=word("s")),
            StorageTable(url=f"redis://user:{word('url')}@host/0"),
            msgspec.structs.replace(tables()["mail"], password=word("mail")),
            msgspec.structs.replace(tables()["lorawan"].chirpstack, password=word("cs")),
        ):
            self.assertNotIn(MARK, repr(table))
            self.assertNotIn(MARK, f"{table}")
            self.assertIn(type(table).__name__, repr(table))
        self.assertIn("admin_token=''", repr(BrokerTable()))  # that there is none is no secret
        self.assertIn("name='node-1'", repr(BrokerTable()))

    def test_whatever_holds_a_secret_has_a_repr_of_its_own(self) -> None:
        """Structs, dataclasses and tuples print their fields, so those with a secret among them may not."""
        telling = []
        for path in sorted((ROOT / "broker").rglob("*.py")):
            if "simulate" in path.parts:  # devices whose secrets are nobody's
                continue
            for one in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(one, ast.ClassDef) and one.name not in NO_SECRETS and _tells(one):
                    telling.append(f"{path.relative_to(ROOT)}: {one.name}")
        self.assertEqual(telling, [])


def _tells(one: ast.ClassDef) -> bool:
    """Whether a class is one whose ``repr`` is made of its fields, and has a secret among these."""
    bases = " ".join(ast.unparse(base) for base in (*one.bases, *one.decorator_list))
    if not re.search(r"Struct|NamedTuple|dataclass|Settings|Table|Shape", bases) or "Discreet" in bases:
        return False
    if any(isinstance(inner, ast.FunctionDef) and inner.name == "__repr__" for inner in one.body):
        return False
    return any(
        isinstance(inner, ast.AnnAssign)
        and isinstance(inner.target, ast.Name)
        and _NAMES.search(inner.target.id) is not None
        and not (inner.value is not None and "repr=False" in ast.unparse(inner.value))
        for inner in one.body
    )
