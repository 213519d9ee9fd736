"""The first steps of the README, pasted block by block into shells, with a real broker.

Its ports are free ones in place of those that the README names; nothing else is changed. The Chinese README has the
same blocks, so what holds for one holds for both.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.manual.blocks import ROOT, SHELL, Block, blocks_of
from tests.manual.terminals import SLOWLY, Terminal
from tests.real import RealBroker, eventually

README: Final = ROOT / "README.md"
CHINESE: Final = ROOT / "README.zh.md"
#: The ports of the README, by listener.
PORTS: Final = {"http": 8080, "mqtt": 1883, "novacloud": 8100}
#: Simulators by the listener that they connect to.
SIMULATORS: Final = {
    "novacloud": "novacloud",
    "gateway88": "gateway88",
    "gizwits": "gservice",
    "gizwits-app": "gservice",
    "lorawan": "lorawan",
    "mqtt": "mqtt",
    "customer": "loracenter",
}
LOOPBACK_TLS: Final = '["tls:0:interface=127.0.0.1"]'
#: What a reader is asked to have.
PROGRAMS: Final = ("bash", "curl", "mosquitto_sub", "mosquitto_pub", "python3")


class ReadmeTests(TestCase):
    timeout = 420

    def setUp(self) -> None:
        folder = Path(self.mktemp()).absolute()
        folder.mkdir(parents=True)
        # As in the folder of the sources.
        (folder / ".venv").symlink_to(sys.prefix)
        (folder / "examples").symlink_to(ROOT / "examples")
        self.folder = folder
        self.broker = RealBroker(
            folder, {"listeners.gateway88.bind": LOOPBACK_TLS, "listeners.files.bind": LOOPBACK_TLS}
        )
        self.addCleanup(self.broker.kill)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("BROKER_")}
        self.environment = {**kept, "PYTHONPATH": str(ROOT)}
        #: The programs that stay, by the block that began them.
        self.others: dict[str, Terminal] = {}

    def test_what_a_reader_needs_is_here(self) -> None:
        for program in PROGRAMS:
            self.assertIsNotNone(shutil.which(program), program)

    def test_first_steps(self) -> Deferred[None]:
        return deferToThread(self.first_steps)

    def first_steps(self) -> None:
        terminal: Terminal | None = None
        for block in blocks_of(README):
            if block.how == "seen in":
                assert terminal is not None
                self.paste(terminal, block) if block.language == SHELL else None
                self.seen(*block.what.split("; ", 1))
            elif block.language != SHELL or block.how == "not run":
                continue
            elif "twistd -n broker" in block.code:
                self.start_broker(block)
                terminal = self.terminal()
            else:
                assert terminal is not None, block.code
                self.paste(terminal, block)
        self.assertEqual(self.broker.stop(), 0)
        self.assertNotIn("Traceback", "\n".join(self.broker.output))

    def start_broker(self, block: Block) -> None:
        """The broker says which ports it was given."""
        activate, start = block.code.splitlines()
        self.assertEqual((activate, start), (". .venv/bin/activate", "twistd -n broker"))
        self.broker.arguments = ["bash", "-c", f"{activate}; exec {start} --config /dev/null"]
        self.broker.environment = {"PYTHONPATH": str(ROOT)}
        self.broker.start()

    def terminal(self) -> Terminal:
        made = Terminal(self.folder, self.environment)
        self.addCleanup(made.close)
        return made

    def paste(self, terminal: Terminal, block: Block) -> None:
        code = self.with_ports(block.code)
        if block.how.startswith("background"):
            other = self.others[block.code] = self.terminal()
            other.type(f". .venv/bin/activate\n{code}")
            if block.what:
                other.wait_for(block.what, block.code, SLOWLY)
        elif block.how == "eventually":
            pattern = re.compile(block.what, re.DOTALL)
            eventually(lambda: pattern.search(terminal.run(code)), block.what, SLOWLY)
        else:
            printed = terminal.run(code)
            if block.how == "expect":
                self.assertRegex(printed, block.what)

    def seen(self, word: str, pattern: str) -> None:
        (found,) = [other for code, other in self.others.items() if word in code]
        found.wait_for(pattern, word)

    def with_ports(self, code: str) -> str:
        """The code with the ports of this broker."""
        ports = {**self.broker.tls_ports, **self.broker.ports}
        for listener, port in PORTS.items():
            code = re.sub(rf"(127\.0\.0\.1[: ]){port}\b", rf"\g<1>{ports[listener]}", code)
        code = re.sub(r"(mosquitto_\w+ -h 127\.0\.0\.1)", rf"\1 -p {ports['mqtt']}", code)
        for name, listener in SIMULATORS.items():
            code = re.sub(rf"(-m broker\.simulate {name}) ", rf"\1 --port {ports[listener]} ", code)
        return code.replace("broker-admin ", f"broker-admin --api http://127.0.0.1:{ports['http']} ")


class ChineseReadmeTests(SynchronousTestCase):
    def test_the_same_blocks(self) -> None:
        """Comments in the code may be in Chinese."""

        def plain(page: Path) -> list[tuple[str, str, str]]:
            found = [block for block in blocks_of(page) if block.language == SHELL or block.how]
            return [(block.how, block.what, re.sub(r" +#.*", "", block.code)) for block in found]

        # Why something is not run is for those who read the English one.
        english, chinese = plain(README), plain(CHINESE)
        self.assertEqual([one[2] for one in chinese], [one[2] for one in english])
        self.assertEqual([one[0] for one in chinese], [one[0] for one in english])

    def test_the_same_links(self) -> None:
        def links(page: Path) -> set[str]:
            found = set(re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")))
            outside = {link for link in found if not link.startswith(("#", "README"))}
            return {re.sub(r"-(en|zh)(?=\.)", "", link) for link in outside}

        self.assertEqual(links(CHINESE), links(README))
