"""The console in a real Chromium, before a real broker with devices of every protocol. Everything here blocks.

One broker, one fleet and one browser serve all tests of a module: they are started with the first and ended after the
last, as a start takes seconds.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

from playwright.sync_api import Browser, BrowserContext, Page, Playwright, sync_playwright
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.devices.gateway88.real import free_ports
from tests.real import RealBroker

reactor: Any = global_reactor

#: Debian's; playwright brings none of its own.
CHROMIUM = "/usr/bin/chromium"
OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
#: Milliseconds for anything to appear; nothing here takes a tenth of it on an idle machine.
PATIENCE = 30_000.0
AXE = Path(__file__).parents[2] / ".venv" / "node" / "node_modules" / "axe-core" / "axe.min.js"
LOCAL = "interface=127.0.0.1"


class Stage:
    """Broker, devices, browser. Playwright's objects belong to the thread that made them: use `run`."""

    def __init__(self, folder: Path, settings: dict[str, str] | None = None) -> None:
        gateways, files = free_ports(2)
        self.folder = folder
        self.gateway_port = gateways
        self.broker = RealBroker(
            folder,
            {
                "listeners.gateway88.bind": f'["tls:{gateways}:{LOCAL}"]',
                "listeners.files.bind": f'["tls:{files}:{LOCAL}"]',
                "listeners.lorawan.region": '"eu868"',
                "listeners.lorawan.unknown": '"accept"',
                **(settings or {}),
            },
        )
        self._children: list[subprocess.Popen[bytes]] = []
        self._thread = ThreadPoolExecutor(1, "browser")
        self._playwright: Playwright | None = None
        self.browser: Browser

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.broker.ports['http']}"

    def start(self) -> None:
        self.broker.start()
        self._thread.submit(self._launch).result()

    def _launch(self) -> None:
        self._playwright = sync_playwright().start()
        self.browser = self._playwright.chromium.launch(executable_path=CHROMIUM, args=list(OPTIONS))

    def run(self, work: Callable[[], Any]) -> Any:
        """Do something in the browser's thread."""
        return self._thread.submit(work).result()

    def simulate(self, *arguments: str) -> None:
        """A fleet of its own process, registered through the API."""
        command = [sys.executable, "-m", "broker.simulate", *arguments, "--api", self.url]
        command += ["--token-file", str(self.broker.data_dir / "admin.token")]
        self._run(command)

    def _run(self, command: list[str]) -> None:
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
        self._children.append(child)

    def simulate_stranger(self, seed: int) -> None:
        """A gateway that nobody has registered."""
        command = [sys.executable, "-m", "broker.simulate", "gateway88", "--count", "1", "--seed", str(seed)]
        self._run([*command, "--every", "1", "--port", str(self.gateway_port)])

    def stop(self) -> None:
        def close() -> None:
            self.browser.close()
            if self._playwright is not None:
                self._playwright.stop()

        self._thread.submit(close).result()
        self._thread.shutdown()
        for child in self._children:
            child.terminate()
        for child in self._children:
            child.wait(timeout=20)
        self.broker.kill()


class Visit:
    """One browser window: what its console said, and which hosts it asked."""

    def __init__(self, stage: Stage, locale: str = "en-GB", **options: Any) -> None:
        self.stage = stage
        self.context: BrowserContext = stage.browser.new_context(locale=locale, **options)
        self.context.set_default_timeout(PATIENCE)
        self.page: Page = self.context.new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.complaints.append(f"pageerror: {error}"))
        self.page.on("dialog", self._asked)
        self.page.on("request", lambda request: self.requests.append(request.url))

    def _said(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.type}: {message.text} {message.location}")

    def _asked(self, dialog: Any) -> None:
        self.complaints.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def go(self, *parts: str) -> None:
        self.page.goto(f"{self.stage.url}/#/{'/'.join(parts)}")

    def sign_in(self) -> None:
        self.page.goto(self.stage.url)
        self.page.fill("input[name=token]", self.stage.broker.admin_token)
        self.page.keyboard.press("Enter")
        self.page.wait_for_selector("[data-figure=online]")

    def close(self) -> list[str]:
        """End it; whatever is wrong with what was said and asked."""
        self.context.close()
        elsewhere = [
            url
            for url in self.requests
            if not url.startswith((self.stage.url, self.stage.url.replace("http", "ws", 1), "data:"))
        ]
        return self.complaints + [f"asked elsewhere: {url}" for url in elsewhere]

    def faults(self) -> list[str]:
        """What axe finds serious on the page as it is now (WCAG 2.1 A and AA)."""
        self.page.evaluate(AXE.read_text("utf-8"))
        found = self.page.evaluate(
            "async () => (await axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa']})).violations"
        )
        return [
            f"{one['id']}: {node['target']} {node['failureSummary']}"
            for one in found
            if one["impact"] in ("serious", "critical")
            for node in one["nodes"]
        ]


class BrowserCase(TestCase):
    """Tests of one module share a stage; ``populate`` fills it once."""

    timeout = 240
    _stages: ClassVar[dict[type, Stage]] = {}
    _lock: ClassVar[threading.Lock] = threading.Lock()

    @property
    def stage(self) -> Stage:
        return self._stages[type(self)]

    def setUp(self) -> Deferred[None]:  # type: ignore[override]  # trial waits for it
        return deferToThread(self._make)

    def _make(self) -> None:
        with self._lock:
            if type(self) in self._stages:
                return
            folder = Path(self.mktemp()).absolute()
            folder.mkdir(parents=True)
            stage = Stage(folder, self.settings())
            # Trial has no place for what several tests share: it goes with the reactor.
            reactor.callFromThread(reactor.addSystemEventTrigger, "before", "shutdown", stage.stop)
            stage.start()
            self.populate(stage)
            self._stages[type(self)] = stage

    @classmethod
    def settings(cls) -> dict[str, str]:
        """Of its broker, besides those of every stage."""
        return {}

    @classmethod
    def populate(cls, stage: Stage) -> None:
        """Devices and applications. Override."""

    def visit(
        self, work: Callable[[Visit], None], signed_in: bool = True, silent: bool = True, **options: Any
    ) -> Deferred[None]:
        """Do ``work`` in a window of its own, which must not complain if it is to be ``silent``."""

        def whole() -> None:
            visit = Visit(self.stage, **options)
            try:
                if signed_in:
                    visit.sign_in()
                work(visit)
            except BaseException:
                visit.page.screenshot(path=str(self.stage.folder / f"{self.id().rsplit('.', 1)[-1]}.png"))
                visit.close()
                raise
            complaints = visit.close()
            if silent:
                self.assertEqual(complaints, [])

        return deferToThread(self.stage.run, whole)
