"""HAProxy as a child process, for tests that put it before the broker."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.mosquitto import PATH
from tests.real import PATIENCE


def haproxy() -> str:
    """The program."""
    binary = shutil.which("haproxy", path=PATH)
    assert binary is not None, "haproxy is missing: sh tools/environment.sh test"
    return binary


class HAProxy:
    """With this configuration, in ``folder``."""

    def __init__(self, folder: Path, configuration: str) -> None:
        self._file = folder / "haproxy.cfg"
        self._file.write_text(configuration)
        self.log = folder / "haproxy.log"
        self._process: subprocess.Popen[bytes] | None = None

    def check(self) -> str:
        """What it says of the configuration; an AssertionError where that is invalid."""
        done = subprocess.run(
            [haproxy(), "-c", "-f", str(self._file)], capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        said = done.stdout + done.stderr
        assert done.returncode == 0, said
        return said

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen([haproxy(), "-db", "-f", str(self._file)], stdout=log, stderr=log)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=PATIENCE)
            self._process = None
