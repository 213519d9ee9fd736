"""The guide is followed to the letter, in an empty environment with broker installed: every block is used."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import subprocess
from pathlib import Path
from typing import Final

from twisted.trial.unittest import SynchronousTestCase

from tests.extension.guide import GUIDE, Block, blocks, commands, is_as_said
from tests.extension.names import modules
from tests.extension.test_names import private
from tests.test_packaging import OFFLINE, PIP, Environment, build_wheel, make_environment

#: Seconds for all commands together.
PATIENCE: Final = 200
#: Ports of the guide, which somebody else may have here.
PORTS: Final = ("8080", "7500")
#: Listeners that are on by default, of which the guide says nothing.
OTHERS: Final = ("mqtt", "gservice", "gateway88", "files", "novacloud", "loracenter", "lorawan")
#: What separates the outputs of blocks.
MARK: Final = "-- end of block --"


def free_ports(count: int) -> list[str]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    found = [str(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return found


class GuideTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.blocks = list(blocks(GUIDE.read_text("utf-8")))

    def test_every_block_is_used(self) -> None:
        self.assertGreater(len(self.blocks), 10)
        self.assertEqual(GUIDE.read_text("utf-8").count("\n```"), 2 * len(self.blocks))
        for block in self.blocks:
            used = block.title or block.language in ("sh", "text")
            self.assertTrue(used, block)
        printed = [block for block in self.blocks if block.language == "text" and block.follows]
        self.assertEqual(len(printed), len(commands(self.blocks)))

    def test_public_names_alone(self) -> None:
        for block in self.blocks:
            if block.language == "python":
                declares = block.title.startswith("twisted/plugins/")
                self.assertEqual(private(block.content, declares), [], block.title)
        self.assertIn("broker.extension.testing", modules())

    def test_it_is_followed(self) -> None:
        environment = make_environment("setuptools")  # with which pip builds the package of the guide
        environment.pip_install(build_wheel())
        folder = environment.home / "greenhouse"
        ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
        self.write(folder, ports)
        found = commands(self.blocks)
        script = "\n".join(f"{here(command.script, ports)}\necho '{MARK}'" for command in found)
        printed = self.run_all(environment, folder, script, ports)
        parts = printed.split(f"{MARK}\n")
        self.assertEqual(len(parts), len(found) + 1, printed)
        for part, command in zip(parts, found, strict=False):
            log = (folder / "broker.log").read_text() if (folder / "broker.log").exists() else ""
            self.assertTrue(is_as_said(part, command.expected), f"{command.expected}\nbut:\n{part}\n{log}")
        self.assertNotIn("Traceback", (folder / "broker.log").read_text())

    def write(self, folder: Path, ports: dict[str, str]) -> None:
        for block in self.blocks:
            if block.title:
                path = folder / block.title
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(here(block.content, ports), "utf-8")

    def run_all(self, environment: Environment, folder: Path, script: str, ports: dict[str, str]) -> str:
        """As one who has the environment on the path. What is started in the background ends with the script."""
        tools = folder / "tools"
        tools.mkdir()
        offline = " ".join(OFFLINE)
        # As a user types it, but offline.
        pip = f'first=$1; shift; exec {" ".join(PIP)} --python "{environment.python}" "$first" {offline} "$@"'
        twistd = f'exec "{environment.python}" -c \'from twisted.scripts.twistd import run; run()\' "$@"'
        for name, text in (("pip", pip), ("twistd", twistd), ("python", f'exec "{environment.python}" "$@"')):
            path = tools / name
            path.write_text(f"#!/bin/sh\n{text}\n")
            path.chmod(path.stat().st_mode | stat.S_IXUSR)
        variables = {name: text for name, text in os.environ.items() if not name.startswith(("PYTHON", "BROKER__"))}
        variables |= {f"BROKER__LISTENERS__{name.upper()}__BIND": "[]" for name in OTHERS}
        variables["BROKER__LISTENERS__HTTP__BIND"] = f'["tcp:{ports["8080"]}:interface=127.0.0.1"]'
        variables["PATH"] = f"{tools}{os.pathsep}{variables.get('PATH', '')}"
        process = subprocess.Popen(
            ["bash", "-c", f"set -eu\ntrap 'kill $(jobs -p); wait' EXIT\n{script}"],
            cwd=folder,
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            printed, _ = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            printed, _ = process.communicate()
        log = folder / "broker.log"
        self.assertEqual(process.returncode, 0, printed + (log.read_text() if log.exists() else ""))
        return printed


def here(text: str, ports: dict[str, str]) -> str:
    """With ports that are free on this machine."""
    return re.sub(r"\b(" + "|".join(ports) + r")\b", lambda found: ports[found[1]], text)


class TakingApartTests(SynchronousTestCase):
    def test_blocks(self) -> None:
        text = 'a\n```python title="a.py"\nx\n```\nb\n\n```sh\nls\n```\n\n```text\na.py\n```\n\nc\n'
        text += "\n```text\npicture\n```\n"
        found = list(blocks(text))
        self.assertEqual(
            found,
            [
                Block("python", "a.py", "x\n", False),
                Block("sh", "", "ls\n", False),
                Block("text", "", "a.py\n", True),
                Block("text", "", "picture\n", False),
            ],
        )
        (command,) = commands(found)
        self.assertEqual((command.script, command.expected), ("ls\n", "a.py\n"))

    def test_what_is_printed(self) -> None:
        printed = 'noise\n{"id":"1","status":"succeeded"}\nmore\nok\n'
        for expected, same in (
            ('{"id":"..."status":"succeeded"}\nok\n', True),
            ("...\nok", True),
            ("ok\nmore", False),
            ('"status":"failed"', False),
            ("", True),
        ):
            self.assertEqual(is_as_said(printed, expected), same, expected)
