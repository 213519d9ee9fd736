"""The real broker as a child process: how `twistd -n broker` is started from wherever this package is.

The interpreter is our own, so no `twistd` script has to be on the path; the folder that holds this package comes first
on the child's path, so Twisted finds our plugins in a plain checkout too.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from twisted.plugin import getPlugins

import broker
from broker.model.interfaces import IProtocol

_TWISTD = "from twisted.scripts.twistd import run; run()"

# The broker goes into a process group of its own: a Ctrl-C in the terminal is for its parent, which then stops it in
# its own way. Should the parent die without that, Linux sends the broker a SIGTERM (PR_SET_PDEATHSIG).
_APART = """\
import ctypes, os, sys
os.setpgid(0, 0)
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 15)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def broker_arguments(*options: str) -> list[str]:
    """The command line of `twistd -n broker OPTIONS` in the foreground, in the current folder."""
    return [sys.executable, "-c", _TWISTD, "--nodaemon", "--pidfile=", "broker", *options]


def apart(arguments: list[str]) -> list[str]:
    """The same command, in a process group of its own that ends with its parent. It starts with our interpreter."""
    return [sys.executable, "-c", _APART, *arguments[1:]]


def broker_environment(settings: Mapping[str, str], inherited: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment for the child. ``settings``: dotted keys of the configuration (``broker.data_dir``) -> TOML text.

    ``inherited`` (default: our own environment) loses its BROKER__ variables when ``settings`` are given.
    """
    given = dict(os.environ if inherited is None else inherited)
    if settings:
        given = {name: value for name, value in given.items() if not name.startswith("BROKER__")}
    for key, text in settings.items():
        given["BROKER__" + key.upper().replace(".", "__")] = text
    root = str(Path(broker.__file__).resolve().parent.parent)
    given["PYTHONPATH"] = os.pathsep.join(filter(None, (root, given.get("PYTHONPATH"))))
    given["PYTHONUNBUFFERED"] = "1"
    return given


def nothing_else(settings: Mapping[str, str]) -> dict[str, str]:
    """These settings, with every protocol switched off that they give no place to listen."""
    return {**{f"listeners.{protocol.name}.bind": "[]" for protocol in getPlugins(IProtocol)}, **settings}
