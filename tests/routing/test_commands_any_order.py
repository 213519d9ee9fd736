"""The life cycle of commands under any sequence of events: what holds at every moment, whatever happened."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.trial.unittest import SynchronousTestCase

from broker.model.errors import Conflict, NotFound, Unavailable
from broker.model.messages import FAILED, FINAL_STATES, PENDING, QUEUED, SENT, SUCCEEDED, Command, DeviceRef, Reply
from broker.routing.commands import Commands
from broker.routing.live import LiveDevice, LiveDevices
from broker.routing.router import Router
from broker.routing.values import LastValues
from tests.routing.fakes import FakeJournal, FakeLink, Watching, make_command

#: What may follow each state, for those who are told.
NEXT: dict[str | None, set[str]] = {
    None: {"queued", "cancelled"},
    "queued": {"sent", "expired", "cancelled"},
    "sent": {"pending", "succeeded", "failed", "timed_out"},
    "pending": {"pending", "succeeded", "failed", "timed_out"},
}


class AnyOrder(RuleBasedStateMachine):
    """One device, one caller, a journal that may be slow or full, and restarts."""

    commands_made = Bundle("commands_made")

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.made = 0
        self.journal = FakeJournal()
        self.taken: list[str] = []
        self.refused: list[str] = []
        self.last_told: dict[str, str] = {}
        self.ended: dict[str, str] = {}
        self.sent: list[str] = []
        self.start()

    def start(self) -> None:
        self.faults: list[BaseException] = []
        self.watching = Watching()
        self.watching.on_change = self.told
        self.router = Router(lambda what, error: self.faults.append(error))
        self.router.listen(self.watching)
        self.devices = LiveDevices(self.router, lambda: self.now)
        self.life = Commands(self.journal, self.devices, self.router, lambda: self.now, max_queued=4, max_open=6)
        self.live: LiveDevice | None = None
        self.link = FakeLink()

    def told(self, command: Command) -> None:
        before = self.last_told.get(command.id)
        if before in FINAL_STATES:
            assert command.late and command.status == before, (before, command.status)
            return
        assert command.status in NEXT[before], (before, command.status)
        self.last_told[command.id] = command.status
        if command.final:
            self.ended[command.id] = command.status

    def connected(self) -> bool:
        return self.live is not None and self.live.link is self.link

    # -- the caller

    @rule(
        target=commands_made,
        expires=st.sampled_from([0.0, 1.0, 50.0, 3600.0]),
        timeout=st.sampled_from([None, 5.0, 500.0]),
    )
    def submit(self, expires: float, timeout: float | None) -> str:
        self.made += 1
        id = f"c{self.made}"

        def done(error: Exception | None) -> None:
            (self.taken if error is None else self.refused).append(id)

        self.life.submit(make_command(id, now=self.now, expires=expires, timeout=timeout), done)
        return id

    @rule(id=commands_made)
    def cancel(self, id: str) -> None:
        command = self.life.get(id)
        try:
            assert self.life.cancel(id).status == "cancelled"
        except NotFound:
            assert command is None or id not in self.taken
        except Conflict:
            assert command is not None and command.status in (SENT, PENDING)

    @rule()
    def remove_device(self) -> None:
        self.life.cancel_device("d", "removed")
        assert self.life.open == 0

    # -- the device

    @rule(window=st.integers(1, 3), ready=st.booleans())
    def connect(self, window: int, ready: bool) -> None:
        self.link = FakeLink(window)
        self.link.on_send = self.receive
        self.live = self.devices.attach(DeviceRef("fake", "d"), self.link, lambda: (LastValues(), {}))
        if ready:
            self.life.ready(self.live)

    @precondition(connected)
    @rule()
    def become_ready(self) -> None:
        assert self.live is not None
        self.life.ready(self.live)

    @precondition(connected)
    @rule()
    def disconnect(self) -> None:
        assert self.live is not None
        self.devices.detach(self.live, self.link, "connection_lost")

    def receive(self, command: Command) -> None:
        assert command.status == SENT
        assert command.id in self.taken
        assert command.id not in self.sent, "sent twice"
        self.sent.append(command.id)

    @rule(
        id=commands_made, status=st.sampled_from([PENDING, SUCCEEDED, FAILED]), device=st.sampled_from(["d", "d", "x"])
    )
    def answer(self, id: str, status: str, device: str) -> None:
        before = self.life.get(id)
        was_open = before is not None and before.status != QUEUED and device == "d"
        assert self.life.reply(device, Reply(id, status, None, self.now)) is was_open

    # -- time and storage

    @rule(seconds=st.sampled_from([0.5, 3.0, 31.0, 301.0, 4000.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.life.tick()
        for command in self.life._open.values():
            assert command.id in self.life._adding or (command.deadline is not None and command.deadline > self.now)

    @rule()
    def slow_down_storage(self) -> None:
        self.journal.held = True

    @rule(count=st.integers(1, 3))
    def storage_answers_some(self, count: int) -> None:
        self.journal.go_on(min(count, len(self.journal.waiting)))

    @rule()
    def storage_is_quick_again(self) -> None:
        self.journal.held = False
        self.journal.go_on()

    @rule()
    def fill_disk(self) -> None:
        self.journal.failure = Unavailable("disk full")

    @rule()
    def free_disk(self) -> None:
        self.journal.failure = None

    @rule()
    def restart(self) -> None:
        """An orderly one: storage finishes first."""
        self.storage_is_quick_again()
        self.free_disk()
        self.life.tick()
        before = {command.id: command.status for command in self.life._open.values()}
        self.start()
        self.life.restore(self.journal.open_commands())
        assert {command.id: command.status for command in self.life._open.values()} == before

    # -- what always holds

    @invariant()
    def nothing_is_lost(self) -> None:
        """What was taken is open or has ended; nobody is answered twice."""
        assert len(self.taken) + len(self.refused) == len({*self.taken, *self.refused})
        for id in self.taken:
            assert (self.life.get(id) is not None) != (id in self.ended), id
        for id in self.refused:
            assert self.life.get(id) is None

    @invariant()
    def final_states_stand(self) -> None:
        for id, status in self.ended.items():
            stored = self.journal.stored.get(id)
            assert stored is None or not stored.final or stored.status == status

    @invariant()
    def the_window_is_kept(self) -> None:
        if self.connected():
            open_ones = [id for id in self.link.sent if self.life.get(id) is not None]
            assert len(open_ones) <= self.link.window

    @invariant()
    def order_is_kept(self) -> None:
        numbers = [int(id[1:]) for id in self.sent]
        assert numbers == sorted(numbers)

    @invariant()
    def nobody_waits_without_need(self) -> None:
        """A ready device with room is sent what is kept."""
        if self.connected() and self.live is not None and self.live.ready:
            waiting = [command for command in self.life._open.values() if command.status == QUEUED]
            open_ones = [id for id in self.link.sent if self.life.get(id) is not None]
            if waiting and len(open_ones) < self.link.window:
                assert waiting[0].id in self.life._adding

    @invariant()
    def limits_and_tables_agree(self) -> None:
        life = self.life
        assert life.open <= life.max_open
        assert life.queued("d") <= life.max_queued
        for table in (life._queues, life._unanswered, life._on_link):
            assert all(table.values()), "an empty entry stayed"
        known = {id for table in (life._queues, life._unanswered) for entry in table.values() for id in entry}
        assert known == set(life._open)
        assert self.faults == []

    def teardown(self) -> None:
        """After all is over and storage answers, what is kept is what was told."""
        self.storage_is_quick_again()
        self.free_disk()
        self.now += 10_000
        self.life.tick()
        self.life.tick()
        assert self.life.open == 0
        for id in self.taken:
            assert self.journal.stored[id].status == self.ended[id], id


class AnyOrderTests(SynchronousTestCase):
    def test_any_sequence_of_events(self) -> None:
        run_state_machine_as_test(AnyOrder, settings=settings(max_examples=100, stateful_step_count=40, deadline=None))
