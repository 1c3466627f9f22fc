"""What a new try of an execution begins with: the checkpoints of what needs no repeating.

What is repeated begins as if it had never been met: with all its tries, and with none of the
signals that it had. What is not is played as it went the last time.
"""

from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from controller.core.decide import begin, decide, relevant, waits_for
from controller.core.execution import (
    FINAL,
    Event,
    EventType,
    ExecutionState,
    Identity,
    Reason,
    Status,
    StepState,
)
from controller.core.follow import inside
from controller.core.plan import Block, Plan
from controller.core.problem import NotFound, Refused
from controller.history import event_of, followed, identity_of, is_hopeless
from controller.store.records import CheckpointRecord, ExecutionRecord


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
    if not rows:
        return []
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
    """Raises where it is not known what all it did, which would be done twice.

    Raises:
        NotFound: It ended and is being pruned.
        Refused: A bug of ours keeps it from being told.
    """
    if rows and rows[0].seq > 0:
        raise pruned(record.id)
    state, problem = followed(plan, identity_of(record, 0), rows)
    if rows and problem is not None:
        message = f"execution {record.id} cannot be tried again: {problem}"
        raise Refused(message, reason="unreadable", hint="execute its workflow again")
    began = record.started_at is not None and not is_hopeless(record)
    if began and (state is None or state.status not in FINAL):
        raise pruned(record.id)


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
