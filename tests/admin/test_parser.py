"""The command line itself: every word of it, and how options become what the API takes."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from broker.admin import cli
from broker.admin.cli import parser
from broker.admin.failures import Misuse
from broker.admin.options import body_of, read_field
from broker.admin.subjects.campaign_plan import pace_of, plan_of
from broker.admin.subjects.events import rule_of
from tests.admin.bed import environment, run


def leaves(made: argparse.ArgumentParser, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command, with its parser."""
    below = [action for action in made._actions if isinstance(action, argparse._SubParsersAction)]
    if not below:
        yield words, made
    for action in below:
        for name, one in action.choices.items():
            yield from leaves(one, (*words, name))


def parse(*arguments: str) -> argparse.Namespace:
    return cli.parse(arguments)


class CommandTests(SynchronousTestCase):
    def test_every_command_has_help_and_the_common_options(self) -> None:
        found = list(leaves(parser()))
        self.assertGreater(len(found), 70)
        for words, made in found:
            text = made.format_help()
            for option in ("--json", "--yes", "--api", "--token-file", "--ca", "--insecure", "exit status"):
                self.assertIn(option, text, words)
            self.assertTrue(callable(made.get_default("run")), words)
            self.assertNotIn("%(", text, words)

    def test_examples_are_understood(self) -> None:
        """Those of every --help, as far as they are one line."""
        count = 0
        whole = parser()
        for words, made in leaves(whole):
            for line in (made.epilog or "").splitlines():
                if not line.strip().startswith("broker-admin "):
                    continue
                arguments = shlex.split(line.split(" > ")[0].split(" < ")[0].split(" | ")[0])[1:]
                parsed = whole.parse_args(arguments)
                self.assertIs(parsed.run, made.get_default("run"), (words, line))
                count += 1
        self.assertGreater(count, 70)

    def test_common_options_stand_anywhere(self) -> None:
        with environment():
            for line in (("--json", "--yes", "devices", "list"), ("devices", "list", "--json", "-y")):
                parsed = parse(*line)
                self.assertTrue(parsed.json and parsed.yes)
                self.assertEqual((parsed.api, parsed.timeout), ("http://127.0.0.1:8080", 60.0))
            self.assertEqual(parse("--api", "http://a:1", "status").api, "http://a:1")
        with environment(BROKER_ADMIN_API="http://b:2"):
            self.assertEqual(parse("status").api, "http://b:2")

    def test_what_is_not_understood_is_2(self) -> None:
        for line in (
            (),
            ("devices",),
            ("devices", "list", "--limit", "0"),
            ("devices", "list", "--online", "maybe"),
            ("commands", "send", "d", "{"),
            ("commands", "send", "d"),
            ("commands", "send", "d", "{}", "--hex", "01"),
            ("devices", "add", "novacloud", "--set", "name"),
            ("devices", "add", "novacloud", "--set", "name:=x"),
            ("devices", "add", "novacloud", "--body", "/nonexistent"),
            ("devices", "list", "--api", "ftp://x"),
            ("devices", "list", "--api", "http://user:secret@x"),
            ("devices", "list", "--timeout", "0"),
            ("messages", "d", "--since", "whenever"),
            ("devices", "remove", "d"),
            ("call", "GET", "devices list"),
            ("devices", "list", "\udca7"),
            ("campaigns", "create", "gateway88", "f"),
            ("campaigns", "create", "gateway88", "f", "--all-devices", "--window", "25-26"),
        ):
            done = run(*line, variables={"BROKER_ADMIN_TOKEN": "t"})
            self.assertEqual(done.status, 2, (line, done))
            self.assertEqual(done.out, "", line)
            self.assertTrue(done.err.strip(), line)
            self.assertNotIn("Traceback", done.err)

    def test_no_token_is_said(self) -> None:
        for arguments, part in (
            (("devices", "list"), "var/admin.token"),
            (("devices", "list", "--token-file", "/nonexistent"), "/nonexistent"),
        ):
            done = run(*arguments)
            self.assertEqual(done.status, 1)
            self.assertIn(part, done.err)
            self.assertEqual(len(done.err.splitlines()), 1)
        done = run("devices", "list", variables={"BROKER_ADMIN_TOKEN": "two words"})
        self.assertEqual(done.status, 1)
        self.assertNotIn("two words", done.err)


class BodyTests(SynchronousTestCase):
    def test_fields(self) -> None:
        self.assertEqual(read_field("name=a=b"), ("name", "a=b"))
        self.assertEqual(read_field("id=0001"), ("id", "0001"))
        self.assertEqual(read_field("x:=null"), ("x", None))
        self.assertEqual(read_field('x:={"a": [1]}'), ("x", {"a": [1]}))
        for text in ("name", "=x", ":=1", "x:={"):
            self.assertRaises(Misuse, read_field, text)

    def test_the_last_word_counts(self) -> None:
        file = self.mktemp()
        with open(file, "w") as out:
            out.write('{"name": "file", "product": "p", "z": 1}')
        parsed = parse(
            "devices", "change", "d", "--body", file, "--name", "option", "--set", "z:=2", "--set", "name=set"
        )
        self.assertEqual(body_of(parsed), {"name": "set", "product": "p", "z": 2})

    def test_a_rule(self) -> None:
        parsed = parse(
            *(
                "event-rules",
                "add",
                "--name",
                "n",
                "--kind",
                "gateway_offline",
                "--sink",
                "s",
                "--protocol",
                "gateway88",
            ),
            *("--device", "a", "--device", "b", "--query", "hall", "--offline-after", "15m", "--rate-limit", "10/1h"),
        )
        self.assertEqual(
            rule_of(parsed),
            {
                "name": "n",
                "kinds": ["gateway_offline"],
                "sinks": ["s"],
                "devices": {"ids": ["a", "b"], "protocols": ["gateway88"], "q": "hall"},
                "offline_after": 900.0,
                "rate_limit": {"events": 10, "seconds": 3_600.0},
            },
        )
        self.assertEqual(rule_of(parse("event-rules", "change", "r", "--set", "enabled:=false")), {"enabled": False})


class PlanTests(SynchronousTestCase):
    def plan(self, *more: str) -> dict[str, Any]:
        return plan_of(parse("campaigns", "create", "gateway88", "relay.bin", *more))

    def test_everything(self) -> None:
        plan = self.plan(
            *(
                "--name",
                "n",
                "--version",
                "2.4",
                "--query",
                "hall",
                "--online",
                "yes",
                "--percentage",
                "10",
                "--backup",
            ),
            *("--from-version", "2.2", "--from-version", "2.3", "--lower-than", "2.4", "--no-require-fetch"),
            *("--concurrency", "5", "--rate", "30", "--spread", "1h", "--window", "01:00-05:00"),
            *("--window", "mon,tue 22:00-02:00 Europe/Berlin", "--stop-at", "5", "--stop-minimum", "10"),
            *("--until", "2000000000", "--retries", "2", "--retry-after", "30m"),
        )
        self.assertEqual(
            plan,
            {
                "protocol": "gateway88",
                "image": "relay.bin",
                "name": "n",
                "version": "2.4",
                "backup": True,
                "require_fetch": False,
                "from_versions": {"any_of": ["2.2", "2.3"], "lower_than": "2.4"},
                "targets": {"filter": {"q": "hall", "online": True}, "percentage": 10.0},
                "pace": {
                    "concurrency": 5,
                    "rate": 30,
                    "spread": 3_600.0,
                    "windows": [
                        {"from": "01:00", "to": "05:00"},
                        {"from": "22:00", "to": "02:00", "days": ["mon", "tue"], "time_zone": "Europe/Berlin"},
                    ],
                    "stop": {"percent": 5.0, "minimum": 10},
                    "ends_at": 2_000_000_000.0,
                    "retries": {"count": 2, "after": 1_800.0},
                },
            },
        )

    def test_whom(self) -> None:
        file = self.mktemp()
        with open(file, "w") as out:
            out.write("b\n\n c \n")
        self.assertEqual(self.plan("--device", "a", "--devices-file", file)["targets"], {"devices": ["a", "b", "c"]})
        self.assertEqual(self.plan("--all-devices")["targets"], {"filter": {}})
        for more in ((), ("--percentage", "5"), ("--device", "a", "--query", "x"), ("--device", "a", "--all-devices")):
            self.assertRaises(Misuse, self.plan, *more)
        self.assertRaises(Misuse, self.plan, "--all-devices", "--stop-minimum", "3")

    def test_a_change_keeps_the_rest_of_the_pace(self) -> None:
        before = {"concurrency": 5, "stop": {"percent": 5.0, "minimum": 20}, "rate": None}
        pace = pace_of(parse("campaigns", "change", "c", "--stop-at", "10", "--concurrency", "50"), before)
        self.assertEqual(pace, {"concurrency": 50, "stop": {"percent": 10.0, "minimum": 20}, "rate": None})
        self.assertEqual(pace_of(parse("campaigns", "change", "c"), before), before)
