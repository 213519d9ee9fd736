"""Who waits for the end of a command."""

from __future__ import annotations

from collections.abc import Callable

from broker.model.messages import Command


class Waiters:
    """``report(error)`` is told when somebody who was told raised it."""

    def __init__(self, report: Callable[[BaseException], object]) -> None:
        self._report = report
        self.waiting: dict[str, list[Callable[[Command], None]]] = {}

    def wait(self, command_id: str, call: Callable[[Command], None]) -> Callable[[], None]:
        """``call(command)`` once when an open command reaches its final state. Returns what stops the waiting."""
        waiters = self.waiting.setdefault(command_id, [])
        waiters.append(call)

        def stop() -> None:
            if call in waiters:
                waiters.remove(call)
            if not waiters and self.waiting.get(command_id) is waiters:
                del self.waiting[command_id]

        return stop

    def heard(self, command: Command) -> None:
        """A command has ended, here or where it was driven: tell who waits for it here."""
        waiters = self.waiting.pop(command.id, [])
        while waiters:  # each may stop others that wait
            call = waiters.pop(0)
            try:
                call(command)
            except Exception as error:
                self._report(error)
