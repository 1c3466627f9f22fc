"""An execution's checkpoints, read back: its events, its steps as people see them, its retry.

And its row, as its state says it: whoever records it writes what is here, and whoever examines it
compares with what is here.
"""

from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from controller.core.decide import begin, can_be_late, decide, fold, relevant, waits_for
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
    Reason,
    Status,
    StepState,
)
from controller.core.follow import inside, timeout_of
from controller.core.plan import Block, Plan
from controller.core.problem import NotFound
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
    """

    record: ExecutionRecord
    steps: tuple[StepView, ...]
    commit: dict[str, Any] | None = None

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
    state = fold(plan, identity_of(record, 0), map(event_of, rows))
    return ExecutionView(record, tuple(_walk(state, plan.body, "", 0)) + _handler(state, plan))


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
    """The step that a signal of this name approves or rejects; None: none waits for it now."""
    if record.started_at is None:
        return None
    state = fold(plan, identity_of(record, 0), map(event_of, rows))
    step = waits_for(state, signal)
    return step.key if step is not None and step.wait.get("approval") else None


def keep_for_retry(
    plan: Plan, identity: Identity, rows: Sequence[CheckpointRecord], from_step: str | None = None
) -> list[CheckpointRecord]:
    """The checkpoints that a new try begins with: those of the steps that need no repeating.

    A step is repeated when it did not complete, or when it is `from_step` of the top list or comes
    after it; the wishes of people (cancel, pause) are not kept, nor what the error handler did. Of
    what is kept the last visit counts, as if it had been the first. It is played to a new state
    first, and an event that means nothing there is left out, so its step is done again.
    """
    again: frozenset[str] = frozenset()
    if from_step is not None:
        if from_step not in plan.body.by_id:
            raise NotFound(
                f"workflow {plan.name!r} has no step {from_step!r} in its top list",
                hint=f"one of: {', '.join(plan.body.by_id)}",
            )
        again = plan.body.below(from_step)
    before = _played(plan, identity, rows)
    first = {
        key: step.attempt - step.tries + 1
        for key, step in before.state.steps.items()
        if _keeps(step, plan.body, again)
    }
    while True:
        fresh, _ = begin(plan, identity)
        kept = list(_playing(fresh, rows, before, first))
        given_up = [step for step in fresh.active_steps() if step.reason == Reason.RETRY]
        keys = {each.key for step in given_up for each in (step, *inside(fresh, step))}
        failed = {key for key in keys if before.state.steps[key].status is Status.FAILED}
        if failed.isdisjoint(first):
            return kept
        for key in failed & first.keys():  # what made it give up is not kept: it is tried anew
            del first[key]


def check_whole(record: ExecutionRecord, plan: Plan, rows: Sequence[CheckpointRecord]) -> None:
    """Raises `NotFound` for what ended and is being pruned: what it did would be done twice."""
    if rows and rows[0].seq > 0:
        raise pruned(record.id)
    began = record.started_at is not None and not is_hopeless(record)
    if began and fold(plan, identity_of(record, 0), map(event_of, rows)).status not in FINAL:
        raise pruned(record.id)


def is_hopeless(record: ExecutionRecord) -> bool:
    """It was ended because it could not go on: whatever its events say."""
    error = record.error or {}
    return error.get("step") is None and error.get("type") in {"definition", "bug"}


def pruned(execution_id: str) -> NotFound:
    """What is said where something of an execution is gone."""
    return NotFound(
        f"execution {execution_id} is pruned: what it did is not known any more",
        hint="execute its workflow again",
    )


class _Played(NamedTuple):
    """What checkpoints lead to, and which attempt took each signal, by the signal's place."""

    state: ExecutionState
    takers: Mapping[int, tuple[str, int]]


def _played(plan: Plan, identity: Identity, rows: Sequence[CheckpointRecord]) -> _Played:
    state, _ = begin(plan, identity)
    takers: dict[int, tuple[str, int]] = {}
    sent: dict[str, deque[int]] = defaultdict(deque)
    for place, event in enumerate(map(event_of, rows)):
        if event.type is EventType.SIGNAL:
            name = event.data["name"]
            if (step := waits_for(state, name)) is not None:
                takers[place] = step.key, step.attempt
            else:
                sent[name].append(place)
        decide(state, event)
        for name, places in sent.items():
            if len(places) > len(state.signals.get(name, ())):  # it was sent before that waited
                takers[places.popleft()] = str(event.step), event.attempt
    return _Played(state, takers)


def _playing(
    fresh: ExecutionState,
    rows: Sequence[CheckpointRecord],
    before: _Played,
    first: Mapping[str, int],
) -> Iterator[CheckpointRecord]:
    """Play what is kept; `first` says from which attempt of which step on."""
    fresh.deadline = 2**62
    for place, row in enumerate(rows):
        step, attempt = before.takers.get(place, (row.step_id or "", row.attempt))
        if step in first and attempt >= first[step]:
            event = _as_first(fresh, event_of(row), first[step])
            if relevant(fresh, event):
                decide(fresh, event)
                yield row._replace(attempt=event.attempt)


def _as_first(fresh: ExecutionState, event: Event, first: int) -> Event:
    """The event as one of the visit that its step is in now; `first`: where its own began.

    Visits before that one are not kept: a list that held it was begun again, or a `goto` went back.
    """
    step = fresh.steps.get(event.step or "")
    if step is None:  # a signal is nobody's
        return event
    return event._replace(attempt=step.attempt - step.tries + 1 + event.attempt - first)


def _keeps(step: StepState, body: Block, again: frozenset[str]) -> bool:
    top = step
    while top.frame.owner is not None:
        top = top.frame.owner
    return top.plan.id in body.by_id and top.plan.id not in again and _is_settled(step)


def _is_settled(step: StepState) -> bool:
    """It completed, or its failure was answered, by itself or by what holds it."""
    if step.status is not Status.FAILED:
        return step.status is Status.COMPLETED
    if step.error is not None and step.error["type"] == "goto_limit":
        return False
    match step.plan.on_error:
        case "continue":
            return True
        case "goto":
            return step.gotos > 0
        case "fail":
            return step.frame.owner is not None and _is_settled(step.frame.owner)
