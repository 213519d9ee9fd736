"""Terminals as a reader of the manual has them: shells that stay, and what they have printed. All of it blocks."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from uuid import uuid4

from tests.real import PATIENCE, eventually

#: Seconds for a program to start and end beside many others.
SLOWLY: Final = 90.0


class Terminal:
    """A shell in ``folder``; `output` grows as it prints."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.output = ""
        self._process = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=folder,
            env={**environment, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # Its programs are in a group of their own and end together.
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.output += line

    def type(self, text: str) -> None:
        """As if pasted; does not wait."""
        assert self._process.stdin is not None
        self._process.stdin.write(text if text.endswith("\n") else text + "\n")
        self._process.stdin.flush()

    def run(self, code: str) -> str:
        """Paste it and wait for its end: what it printed. AssertionError when its last command fails."""
        mark = f"end-{uuid4().hex}"
        begin = len(self.output)
        self.type(f'{code}\necho "{mark} $?"')
        done = eventually(lambda: self._find(rf"{mark} (\d+)\n", begin), code, SLOWLY)
        printed = self.output[begin : begin + done.start()]
        assert done[1] == "0", f"status {done[1]} of\n{code}\n{printed}"
        return printed

    def wait_for(self, pattern: str, what: str, patience: float = PATIENCE) -> None:
        """Until it has printed this."""

        try:
            eventually(lambda: self._find(pattern), pattern, patience)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{what}\n{self.output}") from None

    def _find(self, pattern: str, begin: int = 0) -> re.Match[str] | None:
        """What it has printed since; AssertionError when there will be no more."""
        found = re.search(pattern, self.output[begin:], re.DOTALL)
        assert found is not None or self._process.poll() is None, f"the terminal has ended:\n{self.output}"
        return found

    def close(self) -> None:
        """End all that runs in it."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGTERM)
            try:
                self._process.wait(timeout=PATIENCE)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
        self._reader.join(PATIENCE)
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()
