"""What concerns the process, and none of the broker's parts."""

from __future__ import annotations

import resource


def raise_open_files_limit() -> None:
    """Every connection takes a descriptor, and the usual soft limit of 1024 is soon used up."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
