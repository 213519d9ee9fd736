"""The configuration: defaults, the file, the environment over it, and one line for whatever is wrong."""

import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from broker.config import Config, ConfigError, load, sqlite_path
from broker.listening.settings import Limits, ListenerSettings
from broker.settings.tables import GENERAL
from broker.tap import found_protocols, load_sides

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "broker.toml"


class EchoSettings(ListenerSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    bind: tuple[str, ...] = ("tcp:7000",)
    limits: Limits = Limits(max_message_size=500, auth_timeout=7.0)
    shout: bool = False
    secret_token: str = ""

    def __post_init__(self) -> None:
        if self.shout and not self.bind:
            raise ValueError("shout needs a binding\nsomewhere")


class EchoSide:
    Settings = EchoSettings


SIDES = {"echo": EchoSide}


class ConfigCase(SynchronousTestCase):
    def config(self, text: str = "", **environment: str) -> Config:
        path = Path(self.mktemp())
        path.write_text(text)
        self.path = str(path)
        return load(self.path, environment, SIDES)

    def refusal(self, text: str = "", **environment: str) -> str:
        """The line, without the file's name."""
        error = self.assertRaises(ConfigError, self.config, text, **environment)
        line = str(error)
        self.assertNotIn("\n", line)
        return line.removeprefix(f"{self.path}: ")


class DefaultsTests(ConfigCase):
    def test_nothing_given(self) -> None:
        config = load(None, {}, SIDES)
        self.assertEqual(config.broker.name, "node-1")
        self.assertEqual(config.storage.url, "sqlite:")
        self.assertEqual(config.commands.max_queued, 100)
        self.assertEqual(config.commands.max_open, 100_000)
        self.assertEqual(config.commands.default_expires, 3600)
        self.assertEqual(config.listeners, {"echo": EchoSettings()})

    def test_an_empty_file_is_the_same(self) -> None:
        given, default = self.config(), load(None, {}, SIDES)
        for name in (*(set(GENERAL) - {"limits"}), "listeners"):
            self.assertEqual(getattr(given, name), getattr(default, name))

    def test_where_the_database_is(self) -> None:
        self.assertEqual(sqlite_path(load(None, {}, SIDES)), Path("var/broker.sqlite"))
        self.assertEqual(sqlite_path(self.config('storage.url = "sqlite:/x/y.db"')), Path("/x/y.db"))


class FileTests(ConfigCase):
    def test_values(self) -> None:
        config = self.config(
            """
            [broker]
            name = "node-7"
            [history]
            enabled = false
            max_age = 60
            [log]
            levels = { "broker.connection" = "debug" }
            [listeners.echo]
            bind = ["tls:1:interface=::1", "unix:/tmp/x"]
            shout = true
            """
        )
        self.assertEqual(config.broker.name, "node-7")
        self.assertFalse(config.history.enabled)
        self.assertEqual(config.history.max_age, 60.0)
        self.assertEqual(config.log.levels, {"broker.connection": "debug"})
        self.assertEqual(config.listeners["echo"].bind, ("tls:1:interface=::1", "unix:/tmp/x"))
        self.assertEqual(config.listeners["echo"], EchoSettings(bind=config.listeners["echo"].bind, shout=True))

    def test_clients_certificates_and_proxies(self) -> None:
        config = self.config(
            """
            [tls]
            client_ca = "ca.pem"
            [listeners.echo]
            client_certificates = "required"
            proxy_protocol = true
            proxy_from = ["192.0.2.1", "2001:db8::/32"]
            """
        )
        echo = config.listeners["echo"]
        self.assertEqual((config.tls.client_ca, echo.client_certificates), ("ca.pem", "required"))
        self.assertEqual((echo.proxy_protocol, echo.proxy_from), (True, ("192.0.2.1", "2001:db8::/32")))

    def test_limits_are_laid_over_each_other(self) -> None:
        config = self.config(
            """
            [limits]
            max_connections = 5
            max_message_size = 600
            [listeners.echo.limits]
            max_message_size = 700
            """
        )
        expected = Limits(max_connections=5, max_message_size=700, auth_timeout=7.0)
        self.assertEqual(config.listeners["echo"].limits, expected)


class EnvironmentTests(ConfigCase):
    def test_overrides_the_file(self) -> None:
        config = self.config(
            '[broker]\nname = "a"\n[listeners.echo]\nshout = false',
            BROKER__BROKER__NAME="b",
            BROKER__LISTENERS__ECHO__SHOUT="true",
            BROKER__LISTENERS__ECHO__BIND='["tcp:0"]',
            BROKER__LISTENERS__ECHO__LIMITS__MAX_CONNECTIONS="3",
            BROKER__LOG__FORMAT="json",
            BROKER__LOG__LEVELS='{ "x.y" = "warn" }',
            BROKER_CONFIG="not ours",
        )
        self.assertEqual(config.broker.name, "b")
        self.assertEqual(config.log.format, "json")
        self.assertEqual(config.log.levels, {"x.y": "warn"})
        echo = config.listeners["echo"]
        self.assertEqual((echo.bind, echo.limits.max_connections), (("tcp:0",), 3))

    def test_strings_bare_or_quoted(self) -> None:
        for text in ("007", '"007"', "'007'"):
            self.assertEqual(self.config(BROKER__BROKER__NAME=text).broker.name, "007")

    def test_wrong_ones(self) -> None:
        cases = {
            "BROKER__HISTORY__PER_DEVICE": ("many", "must be a whole number of at least 1"),
            "BROKER__LISTENERS__ECHO__SHOUT": ("yes", "must be true or false"),
            "BROKER__LISTENERS__ECHO__BIND": (
                "tcp:1",
                'must be a list whose items each must be a string, such as ["..."]',
            ),
            "BROKER__BROKER__COLOUR": (
                "red",
                "there is no such key; allowed keys: admin_token, data_dir, name, workers",
            ),
            "BROKER__COLOUR": (
                "red",
                "there is no such table; allowed tables: "
                "broker, campaigns, cluster, commands, events, history, limits, listeners, log, mail, redis, storage, "
                "tls",
            ),
            "BROKER__BROKER": ("3", "must be a table"),
        }
        for variable, (text, allowed) in cases.items():
            line = self.refusal(**{variable: text})
            self.assertEqual(line, f"environment variable {variable} = {text}: {allowed}")

    def test_a_table_that_the_file_has_as_a_value(self) -> None:
        self.assertEqual(
            self.refusal("listeners = 3", BROKER__LISTENERS__ECHO__SHOUT="true"),
            "BROKER__LISTENERS__ECHO__SHOUT: listeners is not a table",
        )


class WrongTests(ConfigCase):
    def test_one_line_with_key_value_and_what_is_allowed(self) -> None:
        cases = {
            "[broker]\nnam = 'x'": 'broker.nam = "x": there is no such key; '
            "allowed keys: admin_token, data_dir, name, workers",
            "[brokr]": "[brokr]: there is no such table; allowed tables: "
            "broker, campaigns, cluster, commands, events, history, limits, listeners, log, mail, redis, storage, tls",
            "x = 1": "x = 1: there is no such table; allowed tables: "
            "broker, campaigns, cluster, commands, events, history, limits, listeners, log, mail, redis, storage, tls",
            "broker = 3": "broker = 3: must be a table",
            "listeners = []": "listeners = []: must be a table",
            "[broker]\nname = 'a b'": 'broker.name = "a b": must be a string that matches ^[A-Za-z0-9._-]{1,64}$',
            "[broker]\nname = 3": "broker.name = 3: must be a string that matches ^[A-Za-z0-9._-]{1,64}$",
            "[broker]\ndata_dir = ''": 'broker.data_dir = "": must be a string that is not empty',
            "[history]\nenabled = 1": "history.enabled = 1: must be true or false",
            "[history]\nmax_age = 0": "history.max_age = 0: must be a number of over 0",
            "[history]\nmax_age = nan": "history.max_age = nan: must be a number of over 0",
            "[history]\nper_device = 1.5": "history.per_device = 1.5: must be a whole number of at least 1",
            "[log]\nformat = 'xml'": 'log.format = "xml": must be one of "json", "text"',
            "[log]\nlevels = {a = 'b'}": 'log.levels.a = "b": must be one of '
            '"critical", "debug", "error", "info", "warn"',
            "[log]\nlevels = 3": "log.levels = 3: must be a table whose values each must be one of "
            '"critical", "debug", "error", "info", "warn"',
            "[limits]\nmax_connections = 0": "limits.max_connections = 0: must be a whole number of at least 1",
            "[limits]\nmax = 0": "limits.max = 0: there is no such key; allowed keys: "
            + ", ".join(sorted(Limits.__struct_fields__)),
            "[limits]\nmax_failed_logins = 100": "[limits]: lockout_failed_logins must be 0, "
            "or more than max_failed_logins (100)",
            "[listeners.echo]\nbind = 'tcp:1'": 'listeners.echo.bind = "tcp:1": '
            'must be a list whose items each must be a string, such as ["..."]',
            "[listeners.echo]\nbind = ['tcp:99999']": 'listeners.echo.bind = "tcp:99999": '
            "must be tcp:PORT or tcp:PORT:interface=ADDRESS with a port of 0 to 65535",
            "[listeners.echo]\nshout = true\nbind = []": "[listeners.echo]: shout needs a binding somewhere",
            "[listeners.echo.limits]\nx = 1": "listeners.echo.limits.x = 1: there is no such key; allowed keys: "
            + ", ".join(sorted(Limits.__struct_fields__)),
            "[listeners.ech]": "[listeners.ech]: there is no such protocol; allowed protocols: echo",
            "[tls]\ncertificate = 'c.pem'": 'tls.certificate = "c.pem": needs tls.private_key beside it',
            "[tls]\nchain = 'c.pem'": 'tls.chain = "c.pem": needs tls.certificate and tls.private_key beside it',
            "[listeners.echo]\nclient_certificates = 'yes'": 'listeners.echo.client_certificates = "yes": '
            'must be one of "off", "optional", "required"',
            "[listeners.echo]\nclient_certificates = 'optional'": 'listeners.echo.client_certificates = "optional": '
            "needs tls.client_ca",
            "[listeners.echo]\nproxy_from = ['10.0.0.1/8']": 'listeners.echo.proxy_from = ["10.0.0.1/8"]: '
            "10.0.0.1/8 has host bits set",
            "[listeners.echo]\nproxy_from = ['x']": 'listeners.echo.proxy_from = ["x"]: '
            "'x' does not appear to be an IPv4 or IPv6 network",
            "[listeners.echo]\nproxy_protocol = true\nproxy_from = []": "listeners.echo.proxy_from = []: "
            "must name those that may speak for others",
            "[storage]\nurl = 'mysql:'": 'storage.url = "mysql:": must be sqlite:PATH, '
            "sqlite: for the default, or redis://[USER:PASSWORD@]HOST[:PORT][/DB], rediss:// (TLS), "
            "redis+unix:///PATH[?db=DB] or redis+sentinel://HOST[:PORT],HOST.../SERVICE[/DB]",
            "[storage]\nurl = 'redis+unix://x'": 'storage.url = "redis+unix://x": '
            "must name the socket by its whole path: redis+unix:///PATH",
            "[redis]\ncertificate = 'x'": 'redis.certificate = "x": needs redis.private_key beside it',
            "a = [": "not TOML: Invalid value (at end of document)",
        }
        for text, line in cases.items():
            self.assertEqual(self.refusal(text), line)

    def test_values_that_nobody_should_see(self) -> None:
        for text in ("[broker]\nadmin_token = 'hush hush'", "[listeners.echo]\nsecret_token = ['hush']"):
            line = self.refusal(text)
            self.assertNotIn("hush", line)
            self.assertIn("(not shown)", line)
        line = self.refusal("storage.url = 'redis://user:hush@host/zero'")
        self.assertTrue(
            line.startswith('storage.url = "redis://...@host/zero": must have the number of a database'), line
        )

    def test_a_redis(self) -> None:
        config = self.config("[storage]\nurl = 'rediss://h/3'\n[redis]\nprefix = 'one'", BROKER__REDIS__PASSWORD="word")
        self.assertEqual((config.redis.prefix, config.redis.password), ("one", "word"))

    def test_long_values_are_cut(self) -> None:
        self.assertLess(len(self.refusal(f"[broker]\nname = '{'x' * 5000}'")), 250)

    def test_files_that_cannot_be_read(self) -> None:
        missing = self.mktemp()
        error = self.assertRaises(ConfigError, load, missing, {}, SIDES)
        self.assertEqual(str(error), f"{missing}: cannot be read: No such file or directory")
        path = Path(self.mktemp())
        path.write_bytes(b"[broker]\nname = '\xff'")
        error = self.assertRaises(ConfigError, load, str(path), {}, SIDES)
        self.assertEqual(str(error), f"{path}: not UTF-8 at byte 17")
        path.write_text("a = " + "[" * 100_000)
        error = self.assertRaises(ConfigError, load, str(path), {}, SIDES)
        self.assertEqual(str(error), f"{path}: not TOML: nested too deeply")


class ExampleTests(SynchronousTestCase):
    """The example holds every key there is, with its default."""

    def setUp(self) -> None:
        self.text = EXAMPLE.read_text("utf-8")
        self.given = tomllib.loads(self.text)

    def test_it_is_the_defaults(self) -> None:
        sides = load_sides(found_protocols())
        example, default = load(str(EXAMPLE), {}, sides), load(None, {}, sides)
        for name in (*(set(GENERAL) - {"limits"}), "listeners"):
            self.assertEqual(getattr(example, name), getattr(default, name))

    def test_it_has_every_key(self) -> None:
        tables: dict[str, Any] = {name: table() for name, table in GENERAL.items() if name != "limits"}
        for name, table in tables.items():
            self.assertEqual(self.given[name], msgspec.to_builtins(table), name)
        for name, side in load_sides(found_protocols()).items():
            self.assertEqual(self.given["listeners"][name], _lists(msgspec.to_builtins(side.Settings())), name)

    def test_the_shared_limits_are_shown_commented(self) -> None:
        (section,) = re.findall(r"(?ms)^\[limits\]$(.*?)^\[", self.text)
        shown = "\n".join(re.findall(r"(?m)^# (\w+ = .*)$", section))
        self.assertEqual(tomllib.loads(shown), msgspec.to_builtins(Limits()))


def _lists(table: dict[str, Any]) -> dict[str, Any]:
    """Tuples as TOML has them."""
    return {
        key: list(value) if isinstance(value, tuple) else _lists(value) if isinstance(value, dict) else value
        for key, value in table.items()
    }
