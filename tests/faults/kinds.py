"""What a kind of devices and applications is to a storm.

::

    register ──> begin ──> there? ──> go ──> work, unrest, ... ──> hush ──> settled? ──> faults, accounts ──> end

All of it is called by the storm's thread; what runs on the reactor is reached through `tests.faults.crowd.Crowd`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from tests.faults.targets import Target
from tests.ledger import Account
from tests.real import RealBroker


class Kind:
    """One of them; what is not said here does nothing."""

    #: What the command line calls it.
    name: ClassVar[str] = ""
    #: Seconds between two orders for its targets over HTTP, at most.
    order_pause: ClassVar[float] = 0.1

    def __init__(self) -> None:
        #: Its devices that can be ordered to do something.
        self.targets: list[Target] = []

    @staticmethod
    def settings() -> Mapping[str, str]:
        """Of a broker process."""
        return {}

    def register(self, broker: RealBroker) -> None:
        """Have all of it registered."""

    def begin(self) -> None:
        """Connect."""

    def there(self) -> bool:
        """Whether everybody has been heard."""
        return True

    def go(self) -> None:
        """Everybody is there: from now on they come and go."""

    def turn(self, elapsed: float, publishing: bool) -> None:
        """Some hundred times a second. ``elapsed``: seconds since the last one."""

    def unrest(self) -> None:
        """A moment in which a connection may be lost."""

    def hush(self) -> None:
        """No new work; everybody stays."""

    def settled(self) -> bool:
        """Whether nothing is owed any more."""
        return True

    def faults(self) -> list[str]:
        """What must not be, a line for each."""
        return []

    def accounts(self) -> list[Account]:
        return []

    def progress(self) -> str:
        """Some words for who watches."""
        return ""

    def end(self) -> None:
        """Disconnect; harmless twice."""
