"""One execution in memory: events in, checkpoints out, commands carried out once durable.

One way through: `report(event)` → `decide` → the event waits in a buffer → the buffer is appended
to the journal as one batch → when that is durable, the commands that followed are carried out and
the changes told. One batch of an execution is in flight, what gathers meanwhile is the next: a
fan-out of thousands of results costs a few commits.

A crash before the batch is durable: the event never happened; the step is still running in the fold
and is performed again (or fails as `interrupted`). After: whoever claims the execution next carries
out the commands, which are outstanding in the fold.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

from controller.core.decide import decide, outstanding, relevant
from controller.core.execution import (
    FINAL,
    Arm,
    Change,
    Command,
    Event,
    EventType,
    Finish,
    Launch,
    Perform,
    Reason,
    Status,
    Stop,
)
from controller.core.names import Names
from controller.core.plan import Plan
from controller.execute.attempts import Attempts
from controller.execute.children import Children
from controller.execute.containing import contained, farewell
from controller.execute.host import Ended, Host
from controller.execute.logsink import failures
from controller.execute.patience import insist
from controller.execute.telling import Teller
from controller.execute.timers import Timers
from controller.history import (
    dues_of,
    end_of,
    event_of_signal,
    identity_of,
    recalled,
    standing_of,
    wake_of,
)
from controller.store.records import (
    NEVER,
    Batch,
    CheckpointRecord,
    CheckpointRow,
    ExecutionRecord,
    Fenced,
    Outcome,
    SignalRecord,
)

if TYPE_CHECKING:
    from controller.clock import Timer

PARK_AFTER = 60_000
"""Milliseconds: what waits longer than this leaves memory until it is time."""

SLICE = 200
"""Commands carried out in one turn of the loop, so that a wide fan-out stalls nobody."""

SOON = 1_000
"""Milliseconds: what waits for less than this stays in memory, however crowded that is."""


class Running:
    """An execution owned by this process.

    Args:
        record: Its row, as claimed; a second claim means that steps may have been interrupted.
        plan: The version it is pinned to, compiled with its policy.
        events: Its checkpoints.
        host: The worker.
    """

    def __init__(
        self, record: ExecutionRecord, plan: Plan, events: Sequence[CheckpointRecord], host: Host
    ) -> None:
        self.record = record
        self._host = host
        self._seq = events[-1].seq + 1 if events else 0
        self._timers = Timers(host.clock, self.report)
        self._todo: deque[Command] = deque()
        self._rows: list[CheckpointRow] = []
        self._signals: list[str] = []
        self._flight: Batch | None = None
        self._status_changed = self._ended = self._gone = self._left = self._interrupted = False
        self._begun = record.claims > 1
        self._farewell: Callable[[], None] | None = None
        self._idle: Timer | None = None
        self._identity = identity_of(record, host.clock.now())
        self._teller = Teller(self._identity, host)
        calm, depth = self._calm, plan.policy.max_depth
        self._attempts = Attempts(record.id, record.workflow_id, host, self.report, calm)
        self._children = Children(record, host, depth, self._attempts.failed, calm)
        self.state, self._changes, self._commands = recalled(plan, self._identity, events)

    # -- from the outside -------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Something of it is being performed; what only waits takes no place among the many."""
        return bool(self._attempts or self._todo)

    @property
    def going(self) -> frozenset[asyncio.Task[None]]:
        """What is being performed."""
        return self._attempts.going

    @property
    def unsettled(self) -> bool:
        """Something of it is performed, or recorded; what follows is performed then."""
        recording = self._attempts.unreported or self._flight is not None
        return self.busy or (recording and not self._gone)

    @property
    def lets_others_go_on(self) -> bool:
        """Now that it has left: it had a place of others, or what it waits for may have come."""
        return not self._ended or (self.record.concurrency_key or self.record.queue) is not None

    @contained
    def start(self, signals: Iterable[SignalRecord], earlier: "Running | None" = None) -> None:
        """Go on from the state: people's wishes first, then what is outstanding.

        Nothing begins beside what an `earlier` claim of it still ends here.
        """
        if earlier is not None:
            self._attempts.begin_after(earlier.going)
        unfinished = outstanding(self.state)
        if not self._begun:
            self._teller.begun()
        for signal in signals:
            self.take(signal)
        self._begun = True
        if self.state.restarting:
            self.report(Event(EventType.RESUME, self._host.clock.now()))
        self._todo.extend(
            command
            for command in unfinished
            if not isinstance(command, Perform)
            or self._attempts.may_repeat(self.state.steps[command.step], command, self.record)
        )
        self._flush()
        self.go_on()

    @contained
    def take(self, signal: SignalRecord) -> None:
        """A signal becomes an event, once."""
        if signal.id in self._signals or (self._flight and signal.id in self._flight.signals):
            return
        self._signals.append(signal.id)
        event = event_of_signal(signal, self._host.clock.now(), begun=self._begun)
        if event is not None:
            self.report(event)
        self._flush()

    @contained
    def report(self, event: Event) -> None:
        """Something happened: decide, and record it if it means anything."""
        if relevant(self.state, event) and not self._gone:
            self._decide(event)

    def _decide(self, event: Event) -> None:
        before, data = self.state.status, to_json(event.data).decode()
        try:
            decision = decide(self.state, event)
        except Exception:
            self.state.status = before  # nothing of it is recorded, its end neither
            raise
        self._rows.append((self._seq, str(event.type), event.step, event.attempt, data, event.at))
        self._seq += 1
        self._commands.extend(decision.commands)
        self._changes.extend((event.at, change) for change in decision.changes)
        self._status_changed |= self.state.status is not before
        self._flush()

    def broke(self, error: Exception) -> None:
        """A bug showed: an event that ends it, for whoever claims it again would come to it too."""
        if isinstance(error, Ended):
            self.lost()
        if self._gone:
            return
        self._todo.clear()
        message = self._host.logs.bug(self.record.id, error, self._host.secrets.mask)
        try:
            if self.state.status not in FINAL:
                now = self._host.clock.now()
                self._decide(Event(EventType.BROKEN, now, data={"message": message}))
            elif self._flight is None:
                self._let_go(error)
        except Exception as worse:  # ruff: ignore[blind-except]  # then it is not recorded as an event
            self._let_go(worse)

    def hold(self) -> None:
        """The daemon stops: nothing new starts until somebody claims the execution again."""
        self.report(Event(EventType.PAUSE, self._host.clock.now(), data={"restart": True}))

    def interrupt(self) -> None:
        """The grace is over: end what runs, begin nothing more, and leave it outstanding."""
        self._interrupted = True
        self._todo.clear()
        self._attempts.interrupt()

    def lost(self) -> None:
        """Somebody else has it, or is to have it."""
        self._let_go(Fenced("let go of"))

    async def release(self) -> None:
        """Give it up: whoever claims it next goes on."""
        self._cancel_timers()
        if not (self._gone or self._ended):
            self._gone = True
            await self._host.store.append(self._parting())

    # -- recording --------------------------------------------------------------------------

    def _flush(self) -> None:
        """Append what has gathered, unless a batch is in flight."""
        if self._flight is not None or self._gone or self._ended:
            return
        self._ended = self.state.status in FINAL
        changed = self._status_changed or self._ended or bool(self._signals and not self._rows)
        if not (self._rows or changed):
            return
        batch = Batch(
            self.record.id,
            checkpoints=self._rows,
            outcome=self._outcome() if changed else None,
            owner=self._host.owner,
            signals=tuple(self._signals),
            notify=self._children.told(self.state, self._commands),
            logs=failures(self.record.id, self._changes),
        )
        self._rows, self._signals, self._status_changed = [], [], False
        commands, self._commands = self._commands, []
        changes, self._changes = self._changes, []
        self._flight = batch
        if self._ended or batch.logs:
            self._host.logs.flush()  # what was said before stands before
        self._append(batch, lambda: self._durable(batch, commands, changes))

    def _append(self, batch: Batch, then: Callable[[], None]) -> None:
        """Append a batch; while the database cannot be written, again and again."""

        def done(appended: asyncio.Future[None]) -> None:
            if self._gone:
                return
            error = appended.exception()
            then() if error is None else self._let_go(error)

        store = self._host.store
        insist(self._host.clock, lambda: None if self._gone else store.append(batch), done)

    @contained
    def _durable(self, batch: Batch, then: list[Command], told: list[tuple[int, Change]]) -> None:
        self._flight = None
        self._host.took(batch.signals)
        for at, change in told:
            self._teller.tell(self.state, at, change)
        if batch.notify:
            self._host.wake()
        self._todo.extend(() if self._interrupted else then)
        self._flush()
        if not self._host.rushed:
            self.go_on()

    def _let_go(self, error: BaseException) -> None:
        """Somebody else has it, or is to fold it again; anything else that is raised is a bug.

        What it performs is ended first: until then nobody goes on with it, or it would run twice.
        """
        if self._farewell is not None:
            return
        self._gone = True
        self._farewell = farewell(error, self, self._host)
        self._cancel_timers()
        self.interrupt()
        self._calm()

    def _calm(self) -> None:
        """Something that it performed has ended: it may be time to leave."""
        if self._farewell is None:
            self._consider_parking()
        elif not (self._attempts or self._left):
            self._left = True
            self._farewell()

    def _outcome(self) -> Outcome:
        """The row's change: its end, or another status."""
        return end_of(self.state) if self._ended else standing_of(self.state, release=False)

    # -- carrying out -----------------------------------------------------------------------

    @contained
    def go_on(self) -> None:
        """Carry out a slice of the commands, and the rest in a later turn of the loop.

        Nothing is carried out while somebody else may have the execution: the worker asks again.
        """
        if not self._host.rushed:
            self._attempts.settle()
        for _ in range(min(SLICE, len(self._todo))):
            if self._gone or not self._host.holds:
                return
            _CARRY[type(command := self._todo.popleft())](self, command)
        if self._todo:
            asyncio.get_running_loop().call_soon(self.go_on)
        else:
            self._consider_parking()

    def _perform(self, command: Perform) -> None:
        step = self.state.steps[command.step]
        if step.attempt == command.attempt and step.status is Status.RUNNING:
            self._attempts.begin(step, Names(self.state, step.frame.scope, self._host.secrets))

    def _stop(self, command: Stop) -> None:
        stopped = self._attempts.stop(command.step, command.attempt, force=command.force)
        if not stopped and self.state.steps[command.step].plan.type == "subflow":
            self._children.stop(command.step, command.attempt, force=command.force)

    def _launch(self, command: Launch) -> None:
        step = self.state.steps[command.step]
        if step.attempt == command.attempt and step.reason == Reason.SUBFLOW:
            names = Names(self.state, step.frame.scope)
            self._children.launch(step, names, self._attempts.earlier(step))

    def _finish(self, _command: Finish | None = None) -> None:
        self._gone = True
        self._cancel_timers()
        self._host.left(self)

    # -- leaving memory ---------------------------------------------------------------------

    def make_room(self) -> None:
        """Leave memory if it only waits: others could go on."""
        self._consider_parking(idle=True)

    @contained
    def _consider_parking(self, *, idle: bool = False) -> None:
        """Leave memory when nothing is to be done for a while, or (`idle`) has been for a while."""
        if self._gone or self.unsettled or self._children or self._host.stopping:
            return
        soon = idle or self._host.crowded
        due = min(dues_of(self.state), default=NEVER if soon else 0) - self._host.clock.now()
        if self.state.paused_at is not None or due > (SOON if soon else PARK_AFTER):
            self._park()
        elif not idle:
            self._host.waits()
            if self._idle is None and not soon:
                self._idle = self._host.clock.call_later(PARK_AFTER, self._long_idle)

    def _long_idle(self) -> None:
        self._idle = None
        self._consider_parking(idle=True)

    def _park(self) -> None:
        """Give it up until it is time, or somebody sends a signal."""
        self._cancel_timers()
        self._flight = self._parting(wake_of(self.state))
        self._append(self._flight, self._finish)

    def _parting(self, wake_at: int | None = None) -> Batch:
        """The row's change when nobody has it in memory."""
        outcome = standing_of(self.state, wake_at=wake_at)
        return Batch(self.record.id, outcome=outcome, owner=self._host.owner)

    def _cancel_timers(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        self._timers.cancel()


_CARRY: Mapping[type[Command], Any] = {
    Perform: Running._perform,  # ruff: ignore[private-member-access]  # its own
    Launch: Running._launch,  # ruff: ignore[private-member-access]  # its own
    Stop: Running._stop,  # ruff: ignore[private-member-access]  # its own
    Arm: lambda running, command: running._timers.arm(command),  # ruff: ignore[private-member-access]  # its own
    Finish: Running._finish,  # ruff: ignore[private-member-access]  # its own
}
