"""One execution in memory: events in, checkpoints out, commands carried out once durable.

There is one way through: `report(event)` → `decide` → the event waits in a buffer → the buffer is
appended to the journal as one batch → when that is durable, the commands that followed are carried
out and the changes are published. At most one batch of an execution is in flight, so what gathers
meanwhile is the next batch: a fan-out of thousands of results costs a few commits.

What a crash does. Before the batch is durable: the event never happened; the step is still running
in the fold and is performed again (or fails as `interrupted`). After: the commands are outstanding
in the fold and are carried out by whoever claims the execution next.
"""

import asyncio
from collections import deque
from collections.abc import Coroutine, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic_core import to_json

from controller.admission import Gate, Wish, admit, cancel, derived_id, to_parent
from controller.clock import Clock, Timer
from controller.core.decide import begin, decide, fold, outstanding, relevant
from controller.core.execution import (
    FINAL,
    Arm,
    Change,
    Command,
    Decision,
    Event,
    EventType,
    ExecutionState,
    Finish,
    Launch,
    Names,
    Perform,
    Reason,
    Status,
    StepState,
    Stop,
)
from controller.core.expression import ExpressionError
from controller.core.plan import Plan
from controller.core.problem import Refused, Unavailable
from controller.execute.action import ActionFailed, Call, Suspended
from controller.execute.logsink import LogSink
from controller.execute.perform import Performer
from controller.execute.secrets import Secrets
from controller.facts import Bus, Fact, FactType
from controller.history import event_of, identity_of
from controller.store import Store
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

PARK_AFTER = 60_000
"""Milliseconds: what waits longer than this leaves memory until it is time."""

SLICE = 200
"""Commands carried out in one turn of the loop, so that a wide fan-out stalls nobody."""

AGAIN_AFTER = 1_000
"""Milliseconds between tries while the database cannot be written."""


class Host(Protocol):
    """What a worker gives to its executions."""

    store: Store
    clock: Clock
    bus: Bus
    gate: Gate
    performer: Performer
    secrets: Secrets
    logs: LogSink
    owner: str
    slots: asyncio.Semaphore
    stopping: bool

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a task that the worker waits for."""

    def wake(self) -> None:
        """There may be executions to claim or signals to take."""

    def left(self, running: "Running") -> None:
        """The execution has left memory."""


@dataclass(slots=True)
class Performing:
    """A step being performed: its task, and why it was asked to end."""

    call: Call
    task: asyncio.Task[None] | None = None
    ending: str | None = None


class Running:
    """An execution owned by this process.

    Args:
        record: Its row, as claimed.
        plan: The version it is pinned to, compiled with its policy.
        events: Its checkpoints.
        host: The worker.
    """

    def __init__(
        self, record: ExecutionRecord, plan: Plan, events: list[CheckpointRecord], host: Host
    ) -> None:
        self.record = record
        self.host = host
        self._plan = plan
        self._seq = events[-1].seq + 1 if events else 0
        self._performing: dict[tuple[str, int], Performing] = {}
        self._timers: dict[tuple[str | None, str], Timer] = {}
        self._todo: deque[Command] = deque()
        self._rows: list[CheckpointRow] = []
        self._signals: list[str] = []
        self._commands: list[Command] = []
        self._changes: list[tuple[int, Change]] = []
        self._flight: Batch | None = None
        self._status_changed = False
        self._ended = False
        self._gone = False
        self._idle: Timer | None = None
        self._identity = identity_of(record, host.clock.now())
        self.state: ExecutionState
        self._opening: Decision | None = None
        if events:
            self.state = fold(plan, self._identity, map(event_of, events))
        else:
            self.state, self._opening = begin(plan, self._identity)

    # -- from the outside -------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Something of it is being performed; what only waits takes no place among the many."""
        return bool(self._performing or self._todo)

    def start(self, signals: Iterable[SignalRecord], *, fresh: bool) -> None:
        """Go on from the state: wishes first, then what is outstanding.

        Args:
            signals: What was sent to it and is not consumed.
            fresh: Nobody has executed it before, so nothing can have been interrupted.
        """
        if self._opening is not None:
            self._changes.extend((self._identity.started_at, one) for one in self._opening.changes)
            if self.state.status in FINAL:
                self._commands.extend(self._opening.commands)
        unfinished = outstanding(self.state)
        if fresh:
            self._publish(FactType.EXECUTED, self._identity.started_at, {})
        for signal in signals:
            self.take(signal)
        if self.state.restarting:
            self.report(Event(EventType.RESUME, self.host.clock.now()))
        for command in unfinished:
            if fresh or not isinstance(command, Perform) or not self._interrupted(command):
                self._todo.append(command)
        self._flush()
        self._carry_out()

    def _interrupted(self, command: Perform) -> bool:
        """Whether a step that was in flight must not be performed again; then it has failed."""
        step = self.state.steps[command.step]
        if step.attempt != command.attempt or step.status is not Status.RUNNING:
            return True
        if step.stopping:
            self._fail(step, "cancelled", "stopped")
            return True
        if not step.plan.idempotent:
            message = "the controller ended while this ran; it is never run twice"
            self._fail(step, "interrupted", message)
            return True
        return False

    def take(self, signal: SignalRecord) -> None:
        """A signal becomes an event, once."""
        if signal.id in self._signals or (self._flight and signal.id in self._flight.signals):
            return
        self._signals.append(signal.id)
        event = event_of_signal(signal, self.host.clock.now())
        if event is not None:
            self.report(event)
        self._flush()

    def report(self, event: Event) -> None:
        """Something happened: decide, and record it if it means anything."""
        if self._gone or not relevant(self.state, event):
            return
        before = self.state.status
        decision = decide(self.state, event)
        data = to_json(event.data)
        self._rows.append((self._seq, event.type, event.step, event.attempt, data, event.at))
        self._seq += 1
        self._commands.extend(decision.commands)
        self._changes.extend((event.at, change) for change in decision.changes)
        self._status_changed |= self.state.status is not before
        self._flush()

    def hold(self) -> None:
        """The daemon stops: nothing new starts until somebody claims the execution again."""
        self.report(Event(EventType.PAUSE, self.host.clock.now(), data={"restart": True}))

    def interrupt(self) -> None:
        """The grace is over: end what runs, and leave it outstanding."""
        for performing in self._performing.values():
            performing.ending = "shutdown"
            if performing.task is not None:
                performing.task.cancel()

    async def release(self) -> None:
        """Give it up: whoever claims it next goes on."""
        self._cancel_timers()
        if not self._gone:
            self._gone = True
            outcome = Outcome(self._row_status(), current_step=self._current_step())
            batch = Batch(self.record.id, outcome=outcome, owner=self.host.owner)
            await self.host.store.append(batch)

    # -- recording --------------------------------------------------------------------------

    def _flush(self) -> None:
        """Append what has gathered, unless a batch is in flight."""
        if self._flight is not None or self._gone or self._ended:
            return
        ended = self._ended = self.state.status in FINAL
        if not (self._rows or self._signals or self._status_changed or ended):
            return
        batch = Batch(
            self.record.id,
            checkpoints=self._rows,
            outcome=self._outcome() if ended or self._status_changed else None,
            owner=self.host.owner,
            signals=tuple(self._signals),
            notify=self._to_parent() if ended else (),
        )
        self._rows, self._signals, self._status_changed = [], [], False
        commands, self._commands = self._commands, []
        changes, self._changes = self._changes, []
        self._flight = batch
        if ended:
            self.host.logs.flush()
        self._append(batch, commands, changes)

    def _append(
        self, batch: Batch, commands: list[Command], changes: list[tuple[int, Change]]
    ) -> None:
        def durable(future: asyncio.Future[None]) -> None:
            if future.cancelled() or self._gone:
                return
            error = future.exception()
            if error is None:
                self._durable(commands, changes)
            elif isinstance(error, Unavailable):
                again = self.host.clock.now() + AGAIN_AFTER
                self.host.clock.call_at(again, lambda: self._append(batch, commands, changes))
            else:
                self._let_go(error)

        self.host.store.append(batch).add_done_callback(durable)

    def _durable(self, commands: list[Command], changes: list[tuple[int, Change]]) -> None:
        flight, self._flight = self._flight, None
        for at, change in changes:
            self._tell(at, change)
        if flight is not None and flight.notify:
            self.host.wake()
        self._todo.extend(commands)
        self._flush()
        self._carry_out()

    def _let_go(self, error: BaseException) -> None:
        """Another owner has it, or the batch is impossible: touch it no more."""
        self._gone = True
        self._cancel_timers()
        self.interrupt()
        if not isinstance(error, Fenced):
            self.host.logs.complain("cannot record", execution=self.record.id, error=str(error))
        self.host.left(self)

    def _outcome(self) -> Outcome:
        state = self.state
        if state.status not in FINAL:
            return Outcome(self._row_status(), current_step=self._current_step(), release=False)
        ended = state.completed_at or self.host.clock.now()
        return Outcome(
            status=state.status,
            outputs=state.outputs if state.status is Status.COMPLETED else None,
            error=state.error if state.status is Status.FAILED else None,
            completed_at=ended,
            duration=ended - self._identity.started_at,
            current_step=self._current_step(),
        )

    def _to_parent(self) -> tuple[SignalRecord, ...]:
        state = self.state
        error = state.error if state.status is Status.FAILED else None
        signal = to_parent(self.record, state.status, state.outputs, error, self.host.clock.now())
        return (signal,) if signal is not None else ()

    def _row_status(self) -> str:
        return Status.PAUSED if self.state.status is Status.PAUSED else Status.RUNNING

    def _current_step(self) -> str | None:
        if self.state.failure is not None and self.state.failure["step"] is not None:
            return self.state.failure["step"]
        return next((step.key for step in self.state.active_steps()), None)

    # -- carrying out -----------------------------------------------------------------------

    def _carry_out(self) -> None:
        """Carry out a slice of the commands, and the rest in a later turn of the loop."""
        for _ in range(min(SLICE, len(self._todo))):
            if self._gone:
                return
            command = self._todo.popleft()
            _CARRY[type(command)](self, command)
        if self._todo:
            asyncio.get_running_loop().call_soon(self._carry_out)
        else:
            self._consider_parking()

    def _perform(self, command: Perform) -> None:
        step = self.state.steps[command.step]
        if step.attempt != command.attempt or step.status is not Status.RUNNING:
            return
        host = self.host
        try:
            names = Names(self.state, step.frame.scope, host.secrets)
            inputs = step.plan.inputs.render(names) if step.plan.inputs is not None else {}
        except ExpressionError as error:
            self._fail(step, "expression", str(error))
            return
        call = Call(
            execution=self.record.id,
            workflow=self.record.workflow_id,
            step=step.key,
            attempt=step.attempt,
            log=self._logger(step),
            clock=host.clock,
            emit=self._emit,
        )
        try:
            result = host.performer.perform(step.plan, call, inputs)
        except ActionFailed as error:
            self._failed(step.key, step.attempt, error)
            return
        if isinstance(result, Coroutine):
            performing = Performing(call)
            self._performing[step.key, step.attempt] = performing
            performing.task = host.spawn(self._await(performing, result, step.plan.timeout))
        else:
            self._succeeded(step.key, step.attempt, result)

    async def _await(
        self, performing: Performing, work: Coroutine[Any, Any, Any], timeout: int | None
    ) -> None:
        """Perform to the end, to the timeout, or until asked to stop."""
        call = performing.call
        timer: Timer | None = None
        result: dict[str, Any] | Suspended | None = None
        failure: ActionFailed | None = None
        try:
            async with self.host.slots:
                if timeout is not None:
                    due = self.host.clock.now() + timeout
                    timer = self.host.clock.call_at(due, lambda: _end(performing, "timeout"))
                result = await work
        except ActionFailed as error:
            failure = error
        except asyncio.CancelledError:
            if performing.ending is None:
                raise
        finally:
            work.close()
            if timer is not None:
                timer.cancel()
            self._performing.pop((call.step, call.attempt), None)
        if result is not None:
            self._succeeded(call.step, call.attempt, result)
        elif performing.ending == "timeout":
            message = f"took longer than its timeout of {(timeout or 0) / 1000:g} s"
            self._failed(call.step, call.attempt, ActionFailed("timeout", message))
        elif performing.ending == "stop":
            self._failed(call.step, call.attempt, ActionFailed("cancelled", "stopped"))
        elif failure is not None:
            self._failed(call.step, call.attempt, failure)
        self._consider_parking()

    def _succeeded(self, step: str, attempt: int, result: dict[str, Any] | Suspended) -> None:
        now = self.host.clock.now()
        mask = self.host.secrets.mask
        if isinstance(result, Suspended):
            data = {
                "until": result.until,
                "signal": result.signal,
                "approval": result.approval,
                "outputs": mask(result.outputs),
            }
            self.report(Event(EventType.SUSPENDED, now, step, attempt, data))
        else:
            self.report(Event(EventType.COMPLETED, now, step, attempt, {"outputs": mask(result)}))

    def _failed(self, step: str, attempt: int, error: ActionFailed) -> None:
        mask = self.host.secrets.mask
        data = {"type": error.type, "message": mask(error.message)}
        if error.outputs:
            data["outputs"] = mask(error.outputs)
        self.report(Event(EventType.FAILED, self.host.clock.now(), step, attempt, data))

    def _fail(self, step: StepState, kind: str, message: str) -> None:
        self._failed(step.key, step.attempt, ActionFailed(kind, message))

    def _stop(self, command: Stop) -> None:
        performing = self._performing.get((command.step, command.attempt))
        if performing is not None:
            performing.call.force = command.force
            _end(performing, "stop")
            return
        step = self.state.steps[command.step]
        if step.plan.type == "subflow":
            child = derived_id("child", self.record.id, command.step, str(command.attempt))
            self.host.spawn(self._stop_child(child, force=command.force))

    def _arm(self, command: Arm) -> None:
        key = (command.step, command.timer)
        earlier = self._timers.pop(key, None)
        if earlier is not None:
            earlier.cancel()

        def due() -> None:
            self._timers.pop(key, None)
            now = max(self.host.clock.now(), command.due)
            data = {"timer": command.timer}
            self.report(Event(EventType.DUE, now, command.step, command.attempt, data))

        self._timers[key] = self.host.clock.call_at(command.due, due)

    def _launch(self, command: Launch) -> None:
        step = self.state.steps[command.step]
        if step.attempt == command.attempt and step.reason == Reason.SUBFLOW:
            self.host.spawn(self._create_child(step, command.attempt))

    async def _create_child(self, step: StepState, attempt: int) -> None:
        """Create the child, which exists already when this is done again after a crash."""
        host, record = self.host, self.record
        limit = self._plan.policy.max_depth
        try:
            if record.depth + 1 > limit:
                raise Refused(f"subflows are nested deeper than {limit}", reason="depth")
            names = Names(self.state, step.frame.scope, host.secrets)
            wish = Wish(
                id=derived_id("child", record.id, step.key, str(attempt)),
                workflow=step.plan.subflow or "",
                inputs=step.plan.inputs.render(names) if step.plan.inputs is not None else {},
                trigger={"type": "subflow", "by": record.id, "step": step.key, "attempt": attempt},
                now=host.clock.now(),
                parent=(record.id, step.key, record.root_id, record.depth + 1),
            )
            await self._patiently(wish)
        except ExpressionError as error:
            self._fail(step, "expression", str(error))
        except Refused as error:
            self._fail(step, error.reason, str(error))
        else:
            host.wake()

    async def _patiently(self, wish: Wish) -> None:
        while True:
            try:
                await self.host.store.write(admit, await self.host.gate.check(wish))
            except Unavailable:
                await self.host.clock.sleep(AGAIN_AFTER / 1000)
            else:
                return

    async def _stop_child(self, child: str, *, force: bool) -> None:
        await self.host.store.write(cancel, child, self.host.clock.now(), force=force)
        self.host.wake()

    async def _emit(self, call: Call, event: str, data: Mapping[str, Any]) -> None:
        """Start the workflows that wait for an event; done again, it starts nothing twice."""
        await self.host.gate.emit(event, data, call.key, self.host.clock.now())
        self.host.wake()

    def _finish(self, command: Finish) -> None:
        del command
        self._gone = True
        self._cancel_timers()
        self.host.left(self)

    # -- leaving memory ---------------------------------------------------------------------

    def _consider_parking(self) -> None:
        """Leave memory when nothing is to be done for a while."""
        if self._gone or self._flight is not None or self.busy or self.host.stopping:
            return
        now = self.host.clock.now()
        wake_at = self._wake_at()
        paused = self.state.paused_at is not None
        if paused or min(self._dues(), default=0) > now + PARK_AFTER:
            self._park(wake_at)
        elif self._idle is None:
            self._idle = self.host.clock.call_at(now + PARK_AFTER, self._been_idle)

    def _been_idle(self) -> None:
        self._idle = None
        if self._gone or self._flight is not None or self.busy or self.host.stopping:
            return
        now = self.host.clock.now()
        if min(self._dues(), default=NEVER) > now + AGAIN_AFTER:
            self._park(self._wake_at())

    def _dues(self) -> list[int]:
        return [step.due for step in self.state.active_steps() if step.due is not None]

    def _wake_at(self) -> int:
        if self.state.paused_at is not None:
            return NEVER
        return min([self.state.deadline, *self._dues()])

    def _park(self, wake_at: int) -> None:
        self._gone = True
        self._cancel_timers()
        outcome = Outcome(self._row_status(), current_step=self._current_step(), wake_at=wake_at)
        batch = Batch(self.record.id, outcome=outcome, owner=self.host.owner)
        future = self.host.store.append(batch)
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        future.add_done_callback(lambda _: self.host.left(self))

    def _cancel_timers(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    # -- telling ----------------------------------------------------------------------------

    def _logger(self, step: StepState) -> Any:  # noqa: ANN401  # the shape of `Call.log`
        return self.host.logs.of(self.record.id, step.key, step.attempt, self.host.secrets.mask)

    def _tell(self, at: int, change: Change) -> None:
        """Publish a change, and leave a line in the log where something went wrong."""
        data: dict[str, Any] = {"status": str(change.status), "attempt": change.attempt}
        if change.reason is not None:
            data["reason"] = str(change.reason)
        if change.error is not None:
            data["error"] = dict(change.error)
        if change.step is None:
            kind = _FACT_OF[change.status]
            if kind is FactType.EXECUTED:
                return
            if change.status in FINAL:
                data["duration"] = at - self._identity.started_at
            self._publish(kind, at, data)
        else:
            step = self.state.steps[change.step]
            data["action"] = step.plan.action or step.plan.type
            if step.started_at is not None and change.status not in {
                Status.RUNNING,
                Status.WAITING,
            }:
                data["duration"] = at - step.started_at
            self._publish(FactType.STEP, at, data, change.step)
        if change.error is not None:
            self.host.logs.failure(self.record.id, change, at)

    def _publish(
        self, kind: FactType, at: int, data: Mapping[str, Any], step: str | None = None
    ) -> None:
        record = self.record
        self.host.bus.publish(Fact(kind, at, record.workflow_id, record.id, step, data))


def event_of_signal(signal: SignalRecord, now: int) -> Event | None:
    """A signal as the event it becomes, now."""
    payload = signal.payload
    match signal.type:
        case "cancel" | "pause" | "resume" | "signal":
            return Event(EventType(signal.type), now, data=payload)
        case "child" if payload["status"] == Status.COMPLETED:
            data = {"outputs": payload["outputs"] or {}}
            return Event(EventType.COMPLETED, now, payload["step"], payload["attempt"], data)
        case "child":
            error = payload["error"] or {"type": "cancelled", "message": "it was cancelled"}
            message = f"subflow execution {payload['execution']}: {error['message']}"
            data = {"type": error["type"], "message": message}
            return Event(EventType.FAILED, now, payload["step"], payload["attempt"], data)
        case _:
            return None


def _end(performing: Performing, why: str) -> None:
    if performing.ending is None or (why == "stop" and performing.call.force):
        performing.ending = why
        if performing.task is not None:
            performing.task.cancel()


_CARRY: Mapping[type[Command], Any] = {
    Perform: Running._perform,  # noqa: SLF001
    Launch: Running._launch,  # noqa: SLF001
    Stop: Running._stop,  # noqa: SLF001
    Arm: Running._arm,  # noqa: SLF001
    Finish: Running._finish,  # noqa: SLF001
}

_FACT_OF = {
    Status.RUNNING: FactType.RESUMED,
    Status.PAUSED: FactType.PAUSED,
    Status.COMPLETED: FactType.COMPLETED,
    Status.FAILED: FactType.FAILED,
    Status.CANCELLED: FactType.CANCELLED,
}
