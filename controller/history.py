"""An execution's checkpoints, read back: its events, its steps as people see them.

And its row, as its state says it: whoever records it writes what is here, and whoever examines it
compares with what is here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from controller.core.decide import begin, can_be_late, fold, waits_for
from controller.core.execution import (
    FINAL,
    SETTLED,
    Change,
    Command,
    Event,
    EventType,
    ExecutionState,
    Failure,
    Finish,
    Identity,
    Status,
    StepState,
)
from controller.core.follow import timeout_of
from controller.core.plan import Block, Plan
from controller.core.problem import Refused
from controller.store.records import (
    NEVER,
    CheckpointRecord,
    ExecutionRecord,
    Outcome,
    SignalRecord,
)


@dataclass(frozen=True, slots=True)
class StepView:
    """A step as people see it; `depth` is how many steps hold it."""

    key: str
    name: str
    type: str
    status: str
    attempt: int
    depth: int
    reason: str | None = None
    error: Failure | None = None
    started_at: int | None = None
    completed_at: int | None = None
    outputs: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ExecutionView:
    """An execution with its steps, in the order of the definition.

    Attributes:
        commit: {id, author, subject, committed_at, signer} of the commit that was live when it was
            created; None where its workflow is of no repository.
        problem: Why its steps are not shown as they are now; None: they are.
    """

    record: ExecutionRecord
    steps: tuple[StepView, ...]
    commit: dict[str, Any] | None = None
    problem: str | None = None

    @property
    def progress(self) -> tuple[int, int]:
        """(settled, known) steps."""
        settled = sum(Status(step.status) in SETTLED for step in self.steps)
        return settled, len(self.steps)


class Recalled(NamedTuple):
    """An execution as it comes into memory, and what is to be told and done of it besides."""

    state: ExecutionState
    changes: list[tuple[int, Change]]
    commands: list[Command]


def recalled(plan: Plan, identity: Identity, rows: Sequence[CheckpointRecord]) -> Recalled:
    """The state its checkpoints lead to; of one that has none, that in which it begins."""
    if any(each.type != EventType.TAKEN_OVER for each in rows):
        state = fold(plan, identity, map(event_of, rows))
        if state.completed_at is None:
            return Recalled(state, [], [])
        end = Change(None, state.status, error=state.failure)  # all of it was kept by a retry
        return Recalled(state, [(state.completed_at, end)], [Finish(state.status)])
    state, opening = begin(plan, identity)
    final = state.status in FINAL
    told = opening.changes[1:] if final else [each for each in opening.changes if each.step]
    changes = [(identity.started_at, each) for each in told]
    return Recalled(state, changes, list(opening.commands) if final else [])


_KINDS = {str(each): each for each in EventType}


def event_of(row: CheckpointRecord) -> Event:
    """A checkpoint as the event it records."""
    kind = _KINDS.get(row.type) or EventType(row.type)  # a look is a third of a call
    return Event(kind, row.created_at, row.step_id, row.attempt, row.context)


def event_of_signal(signal: SignalRecord, now: int, *, begun: bool = True) -> Event | None:
    """A signal as the event it becomes, now; `begun`: something may have been carried out."""
    payload = signal.payload
    match signal.type:
        case "pause" if not begun:
            return Event(EventType.PAUSE, now, data={"unbegun": True})
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


def identity_of(record: ExecutionRecord, now: int) -> Identity:
    """What the fold of an execution begins with."""
    started_at = now if record.started_at is None else record.started_at
    return Identity(record.id, record.workflow_id, record.inputs, record.trigger, started_at)


def end_of(state: ExecutionState) -> Outcome:
    """The row of an execution that has ended so."""
    if state.completed_at is None:
        raise ValueError("it has not ended")
    return Outcome(
        status=state.status,
        outputs=state.outputs if state.status is Status.COMPLETED else None,
        error=state.error if state.status is Status.FAILED else None,
        completed_at=state.completed_at,
        duration=state.completed_at - state.identity.started_at,
        current_step=_current_step(state),
    )


def standing_of(
    state: ExecutionState, *, wake_at: int | None = None, release: bool = True
) -> Outcome:
    """The row of an execution that goes on: `wake_at` where nobody has it in memory until then."""
    status = Status.PAUSED if state.status is Status.PAUSED else Status.RUNNING
    return Outcome(status, current_step=_current_step(state), wake_at=wake_at, release=release)


def _current_step(state: ExecutionState) -> str | None:
    failure = state.failure
    if failure is not None and failure["step"] is not None:
        return failure["step"]
    return next((step.key for step in state.active_steps()), None)


def dues_of(state: ExecutionState) -> list[int]:
    """When each of its steps that wait for a time goes on, or has taken too long."""
    dues: list[int] = []
    for step in state.active_steps():
        if step.due is not None:
            dues.append(step.due)
        dues.extend(timeout.due for timeout in timeout_of(step))
    return dues


def wake_of(state: ExecutionState) -> int:
    """When an execution that nobody has in memory must be looked at again, at the latest."""
    if state.paused_at is not None:
        return NEVER
    deadline = [state.deadline] if can_be_late(state) else []
    return min([*deadline, *dues_of(state)], default=NEVER)


def view(record: ExecutionRecord, plan: Plan, rows: Sequence[CheckpointRecord]) -> ExecutionView:
    """The execution as its checkpoints tell it."""
    if record.started_at is None:
        return ExecutionView(record, tuple(_unstarted(plan.body, 0)))
    state, problem = followed(plan, identity_of(record, 0), rows)
    if state is None:
        return ExecutionView(record, tuple(_unstarted(plan.body, 0)), problem=problem)
    steps = tuple(_walk(state, plan.body, "", 0)) + _handler(state, plan)
    return ExecutionView(record, steps, problem=problem)


def followed(
    plan: Plan, identity: Identity, rows: Sequence[CheckpointRecord]
) -> tuple[ExecutionState | None, str | None]:
    """The state as far as a bug of ours lets it be folded, if at all; why it is not all."""
    count = 0

    def following() -> Iterator[Event]:
        nonlocal count
        for row in rows:
            count += 1
            yield event_of(row)

    try:
        return fold(plan, identity, following()), None
    except Exception as error:  # ruff: ignore[blind-except]  # what nobody has thought of
        said = f"{type(error).__name__}: {error}"
    if not count:
        return None, f"what its steps did cannot be told: {said}"
    state = fold(plan, identity, map(event_of, rows[: count - 1]))
    return state, f"its steps are shown as before checkpoint {count} of {len(rows)}: {said}"


def _handler(state: ExecutionState, plan: Plan) -> tuple[StepView, ...]:
    return tuple(_walk(state, plan.handler, "", 0)) if state.handling and plan.handler else ()


def _walk(state: ExecutionState, block: Block, prefix: str, depth: int) -> Iterator[StepView]:
    for plan in block.steps:
        step = state.steps.get(prefix + plan.id)
        if step is None:
            yield from _unstarted(Block((plan,)), depth)
            continue
        yield _shown(step, depth)
        if plan.type == "loop":
            for index in range(step.cursor):
                inner = f"{prefix}{plan.id}[{index}]."
                yield from _walk(state, plan.blocks[0], inner, depth + 1)
        else:
            for frame in step.frames.values():
                yield from _walk(state, frame.block, prefix, depth + 1)


def _shown(step: StepState, depth: int) -> StepView:
    return StepView(
        key=step.key,
        name=step.plan.name,
        type=step.plan.type,
        status=str(step.status),
        attempt=step.attempt,
        depth=depth,
        reason=None if step.reason is None else str(step.reason),
        error=step.error,
        started_at=step.started_at,
        completed_at=step.completed_at,
        outputs=step.outputs,
    )


def _unstarted(block: Block, depth: int) -> Iterator[StepView]:
    for plan in block.steps:
        yield StepView(plan.id, plan.name, plan.type, str(Status.PENDING), 0, depth)


def asks(
    record: ExecutionRecord, plan: Plan, rows: Sequence[CheckpointRecord], signal: str
) -> str | None:
    """The step that a signal of this name approves or rejects; None: none waits for it now.

    Raises:
        Refused: A bug of ours keeps it from being told.
    """
    if record.started_at is None:
        return None
    state, problem = followed(plan, identity_of(record, 0), rows)
    if problem is not None:
        raise deaf(record.id, problem)
    step = waits_for(state, signal) if state is not None else None
    return step.key if step is not None and step.wait.get("approval") else None


def deaf(execution_id: str, problem: str) -> Refused:
    """What is said of a signal to an execution that would end by it: it cannot go on."""
    return Refused(
        f"execution {execution_id} cannot take a signal: {problem}",
        reason="unreadable",
        hint="cancel it, and execute its workflow again",
    )


def is_hopeless(record: ExecutionRecord) -> bool:
    """It was ended because it could not go on: whatever its events say."""
    error = record.error or {}
    return error.get("step") is None and error.get("type") in {"definition", "bug"}
