"""Any bytes, for every decoder and every listener: nothing but the documented outcomes. `python -m tests.fuzz`."""

from pathlib import Path
from typing import Final

from twisted.logger import globalLogBeginner

#: Inputs, in a folder for each target. It stands here because `guided` may import nothing of the broker before it is
#: instrumented.
CORPUS: Final = Path(__file__).resolve().parent.parent / "corpus"


def forget_logs() -> None:
    """For a process of its own: without this Twisted keeps the last 65,536 events, and the brokers that they are of."""
    globalLogBeginner.beginLoggingTo([], redirectStandardIO=False, discardBuffer=True)
