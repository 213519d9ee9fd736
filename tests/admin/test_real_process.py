"""The command line as a process: signals, pipes, a terminal, TLS, and streams that others write."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import queue
import signal
import struct
import subprocess
import sys
import termios
import threading
from pathlib import Path
from typing import Any

from tests.admin.bed import ROOT, BrokerCase, Device, run
from tests.real import PATIENCE, eventually


class Process:
    """``python -m broker.admin`` with pipes; its lines come as it writes them."""

    def __init__(self, variables: dict[str, str], *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "broker.admin", *arguments],
            env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)

    def line(self, patience: float = PATIENCE) -> str:
        """The next one. Raises Empty when there is none for so many seconds."""
        return self._lines.get(timeout=patience)

    def interrupt(self) -> None:
        """As Ctrl-C does it."""
        self._process.send_signal(signal.SIGINT)

    def ended(self) -> tuple[int, str]:
        """Exit status and stderr."""
        assert self._process.stderr is not None
        status = self._process.wait(timeout=PATIENCE)
        with self._process.stderr as err:
            return status, err.read()


class ProcessTests(BrokerCase):
    def process(self, *arguments: str) -> Process:
        return Process(self.variables, *arguments)

    def test_a_stream_until_ctrl_c(self) -> None:
        id, secret = self.device("streams")
        device = Device(self.broker, id, secret)
        self.addCleanup(device.close)
        watching = self.process("stream", "--device", id, "--json")
        got: list[Any] = []
        while not got:
            # Nobody says that a stream is open, so the device says something until it is heard.
            device.data({"n": 1})
            try:
                got.append(json.loads(watching.line(0.1)))
            except queue.Empty:
                continue
        self.assertEqual((got[0]["type"], got[0]["device"]), ("uplink", id))
        watching.interrupt()
        self.assertEqual(watching.ended(), (130, ""))

    def test_following_a_device(self) -> None:
        id, secret = self.device("followed")
        device = Device(self.broker, id, secret)
        self.addCleanup(device.close)
        for number in range(3):
            device.data({"n": number})
        eventually(lambda: len(self.items("messages", id)) == 3, "history has them")
        following = self.process("messages", id, "--follow", "--json", "--limit", "2")
        self.assertEqual([json.loads(following.line())["payload"]["n"] for _ in range(2)], [1, 2])
        # The stream was open before history was read.
        device.data({"n": 3})
        self.assertEqual(json.loads(following.line())["payload"], {"n": 3})
        following.interrupt()
        status, said = following.ended()
        self.assertEqual(status, 130)
        self.assertNotIn("Traceback", said)

    def test_a_command_that_is_watched(self) -> None:
        id, secret = self.device("watched")
        queued = self.json("commands", "send", id, '{"light": "ON"}')
        watching = self.process("commands", "watch", queued["id"], "--json")
        self.assertEqual(json.loads(watching.line())["status"], "queued")
        device = Device(self.broker, id, secret)
        self.addCleanup(device.close)
        device.answer_command({"light": "ON"})
        states = [json.loads(watching.line())["status"]]
        while states[-1] != "succeeded":
            states.append(json.loads(watching.line())["status"])
        self.assertEqual(watching.ended(), (0, ""))

    def test_traced_packets(self) -> None:
        id, secret = self.device("traced")
        device = Device(self.broker, id, secret)
        self.addCleanup(device.close)
        watching = self.process("trace", "watch", id, "--for", "10m", "--count", "1")
        eventually(lambda: self.items("trace", "list"), "it is traced")
        device.data({"n": "\x1b[2J"})
        line = watching.line()
        self.assertIn(id, line)
        self.assertTrue(line.rstrip("\n").isprintable(), ascii(line))
        self.assertEqual(watching.ended(), (0, ""))

    def test_a_broker_that_ends_while_it_is_watched(self) -> None:
        id, secret = self.device("ends")
        device = Device(self.broker, id, secret)
        self.addCleanup(device.close)
        watching = self.process("messages", id, "--follow", "--json")
        device.data({"n": 1})
        watching.line()
        self.broker.kill()
        try:
            status, said = watching.ended()
        finally:
            self.broker.start()
        self.assertEqual(status, 1)
        self.assertIn("was lost", said)
        self.assertEqual(len(said.splitlines()), 1, said)

    def test_a_reader_that_goes_away(self) -> None:
        for number in range(20):
            self.device(f"many {number}")
        for arguments in (("devices", "export"), ("devices", "list", "--all"), ("metrics",)):
            command = " ".join([sys.executable, "-m", "broker.admin", *arguments, "| true", "; echo ${PIPESTATUS[0]}"])
            done = subprocess.run(
                ["bash", "-c", command],
                env={**os.environ, "PYTHONPATH": str(ROOT), **self.variables},
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                check=False,
            )
            # `true` may have ended before the first byte or after the last.
            self.assertIn(done.stdout.strip(), ("141", "0"))
            self.assertEqual(done.stderr, "")

    def test_a_terminal(self) -> None:
        """An upload with its bar, a question and its answer."""
        content = os.urandom(2_000_000)
        file = Path(self.mktemp())
        file.write_bytes(content)
        self.assertIn("100%", self.on_terminal("files", "put", str(file), "--name", "image"))
        text = self.on_terminal("files", "remove", "image", typed=b"y\n")
        self.assertIn("Delete the file image? [y/N]", text)
        self.assertIn("deleted image", text)

    def on_terminal(self, *arguments: str, typed: bytes = b"") -> str:
        leader, follower = pty.openpty()
        fcntl.ioctl(leader, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        process = subprocess.Popen(
            [sys.executable, "-m", "broker.admin", *arguments],
            env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", **self.variables},
            stdin=follower,
            stdout=follower,
            stderr=follower,
        )
        os.close(follower)
        os.write(leader, typed)
        text = b""
        while True:
            try:
                piece = os.read(leader, 65_536)
            except OSError:  # the other end is closed
                break
            if not piece:
                break
            text += piece
        os.close(leader)
        self.assertEqual(process.wait(timeout=PATIENCE), 0, text)
        return text.decode("utf-8", "replace")


class TlsTests(BrokerCase):
    settings = {"listeners.http.bind": '["tls:0:interface=127.0.0.1"]'}

    def admin_over_tls(self, *arguments: str) -> tuple[int, str, str]:
        variables = {
            "BROKER_ADMIN_API": f"https://127.0.0.1:{self.broker.tls_ports['http']}",
            "BROKER_ADMIN_TOKEN": self.broker.admin_token,
        }
        done = run(*arguments, variables=variables)
        return done.status, done.out, done.err

    def test_who_answers_is_checked(self) -> None:
        status, out, err = self.admin_over_tls("devices", "list")
        self.assertEqual((status, out), (1, ""))
        self.assertIn("not to be trusted", err)
        self.assertIn("--ca", err)
        authority = str(self.broker.data_dir / "tls" / "certificate.pem")
        self.assertEqual(self.admin_over_tls("devices", "list", "--ca", authority, "--json"), (0, "", ""))
        status, _, err = self.admin_over_tls("devices", "list", "--insecure", "--json")
        self.assertEqual(status, 0)
        self.assertIn("WARNING: --insecure", err)
        self.assertEqual(self.admin_over_tls("devices", "list", "--ca", "/nonexistent")[0], 2)
        self.assertEqual(self.admin_over_tls("devices", "list", "--ca", __file__)[0], 2)

    def test_the_stream_goes_over_tls_too(self) -> None:
        status, _, err = self.admin_over_tls("stream")
        self.assertEqual(status, 1)
        self.assertIn("not to be trusted", err)
        authority = str(self.broker.data_dir / "tls" / "certificate.pem")
        status, out, err = self.admin_over_tls("stream", "--ca", authority, "--kind", "nope")
        self.assertEqual((status, out), (1, ""))
        self.assertIn("kind is one of", err)
