"""What is wrong with one execution, judged by what is recorded of it. Nothing here reads or writes.

An execution is the fold of its checkpoints: its row must say what they lead to, by the code that
recorded it. What never began, and what was ended because its definition could not be used, or by a
bug, has no fold to be compared with.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from pydantic_core import from_json, to_json

from controller.admission import derived_id
from controller.core.decide import begin, decide, relevant
from controller.core.execution import EventType, ExecutionState, Reason
from controller.core.plan import Plan
from controller.doctor.finding import Finding
from controller.history import end_of, event_of, identity_of, is_hopeless, standing_of, wake_of
from controller.store.doctor import Case
from controller.store.records import FINAL, NEVER, UNFINISHED, ExecutionRecord, Outcome

GRACE = 60_000
"""Milliseconds after which a controller that is at work has taken what is free."""

COMPARED = ("status", "outputs", "error", "completed_at", "duration", "current_step")
"""Columns of an execution that has ended, all of which follow from its events."""


@dataclass(frozen=True, slots=True)
class Around:
    """What the one who judges knows besides.

    Attributes:
        now: Epoch milliseconds.
        shared: Several controllers may be at work on the database: it is PostgreSQL.
        at_work: A controller is.
        living: Owners that certainly are.
    """

    now: int
    shared: bool
    at_work: bool
    living: frozenset[str] = frozenset()


class Replayed(NamedTuple):
    """What an execution's events lead to.

    Attributes:
        late: Numbers of the events after the one that it ended with.
        misplaced: Of others that mean nothing where they stand.
    """

    state: ExecutionState
    late: list[int]
    misplaced: list[int]


def judge(case: Case, plan: Plan | None, around: Around) -> Iterator[Finding]:
    """Everything wrong with an execution; without a plan, what can be seen without replaying it."""
    try:
        yield from _judge(case, plan, around)
    except Exception as error:  # ruff: ignore[blind-except]  # what is recorded may be anything
        said = f"{type(error).__name__}: {error}"
        yield Finding("execution-unreadable", case.record.id, f"cannot be judged: {said}")


def _judge(case: Case, plan: Plan | None, around: Around) -> Iterator[Finding]:
    record = case.record
    created: object = record.created_at
    if not (isinstance(created, int) and 0 <= created <= NEVER):
        yield Finding("execution-unreadable", record.id, f"created_at is {_short(created)}")
    yield from _ownership(record, around)
    if record.completed_at is not None and case.waiting:
        yield Finding("signal-unsettled", record.id)
    gap = _gap(case)
    if gap is not None:
        yield Finding("execution-gap", record.id, gap)
    elif record.started_at is None:
        yield from _unbegun(record)
    elif plan is not None and not is_hopeless(record):
        yield from _unlike(case, replayed(case, plan), around)


def replayed(case: Case, plan: Plan) -> Replayed:
    """Fold an execution's events, and see what they are worth."""
    found = Replayed(begin(plan, identity_of(case.record, 0))[0], [], [])
    for row in case.events:
        event = event_of(row)
        if event.type is EventType.TAKEN_OVER:
            continue
        if relevant(found.state, event):
            decide(found.state, event)
        elif found.state.status in FINAL:
            found.late.append(row.seq)
        else:
            found.misplaced.append(row.seq)
    return found


def told(state: ExecutionState) -> Outcome:
    """The row that an execution in this state has."""
    return end_of(state) if state.status in FINAL else standing_of(state)


def _ownership(record: ExecutionRecord, around: Around) -> Iterator[Finding]:
    has = [
        name for name in ("owner", "lease_until", "wake_at") if getattr(record, name) is not None
    ]
    if record.completed_at is not None:
        wrong = f"it has ended, and has {_and(has)}" if has else ""
    elif has not in ([], ["owner", "lease_until"], ["wake_at"]):
        wrong = f"of owner, lease_until and wake_at it has only {_and(has)}"
        wrong = "it is owned, and sleeps" if len(has) == 3 else wrong  # ruff: ignore[magic-value-comparison]  # all of them
    else:
        wrong = f"it never began, and has {_and(has)}" if has and record.started_at is None else ""
    if wrong:
        yield Finding("execution-ownership", record.id, wrong)
    elif record.owner is not None and _is_left(record, around):
        kind = "execution-unclaimed" if around.at_work else "execution-left-owned"
        yield Finding(kind, record.id, f"owner {record.owner}")


def _and(names: list[str]) -> str:
    return " and ".join(names)


def _is_left(record: ExecutionRecord, around: Around) -> bool:
    """Whether whoever owns it is gone, and nobody is about to take it."""
    if record.owner in around.living:
        return False
    if around.at_work:
        return (record.lease_until or 0) < around.now - GRACE
    return not around.shared or (record.lease_until or 0) < around.now


def _gap(case: Case) -> str | None:
    numbers = [row.seq for row in case.events]
    if numbers == list(range(len(numbers))):
        return None
    lacking = next(wanted for wanted, there in enumerate(numbers) if wanted != there)
    return f"number {lacking} is not there, number {numbers[-1]} is"


def _unbegun(record: ExecutionRecord) -> Iterator[Finding]:
    """What never began is pending, or was cancelled while it was."""
    expected = "pending" if record.completed_at is None else "cancelled"
    if record.status != expected:
        yield Finding("execution-contradictory", record.id, f"status {record.status}")


def _unlike(case: Case, found: Replayed, around: Around) -> Iterator[Finding]:
    record, state = case.record, found.state
    if found.misplaced:
        yield Finding("event-out-of-place", record.id, _numbers(found.misplaced))
        return
    if record.completed_at is not None and state.status not in FINAL:
        yield Finding(
            "execution-gap", record.id, "it has ended, and its last event does not end it"
        )
        return
    if found.late:
        yield Finding("event-after-end", record.id, _numbers(found.late))
    differs = [] if _about_to_end(case, state) else _differences(record, state)
    if differs:
        yield Finding("execution-unlike-events", record.id, "; ".join(differs))
    elif record.completed_at is None:
        yield from _stuck(case, state, around)


def _numbers(seqs: list[int]) -> str:
    return f"number {', '.join(map(str, seqs))}"


def _about_to_end(case: Case, state: ExecutionState) -> bool:
    """It ends by itself as soon as somebody has it: nothing was to be done, or all was kept."""
    events = any(row.type != EventType.TAKEN_OVER for row in case.events)
    began_so = case.record.attempt_of is not None or not events
    return state.status in FINAL and case.record.status in UNFINISHED and began_so


def _differences(record: ExecutionRecord, state: ExecutionState) -> list[str]:
    expected = told(state)
    compared = COMPARED if state.status in FINAL else COMPARED[:-1]  # the step moves on
    return [
        f"{name} is {_short(getattr(record, name))}, by its events {_short(_plain(expected, name))}"
        for name in compared
        if getattr(record, name) != _plain(expected, name)
    ]


def _plain(outcome: Outcome, name: str) -> Any:  # ruff: ignore[any-type]  # any column
    """As the database gives it back."""
    return from_json(to_json(getattr(outcome, name)))


def _short(value: object) -> str:
    said = repr(value)
    return said if len(said) <= 60 else f"{said[:59]}…"  # ruff: ignore[magic-value-comparison]  # a line


def _stuck(case: Case, state: ExecutionState, around: Around) -> Iterator[Finding]:
    """What nobody wakes in time."""
    record = case.record
    if record.wake_at is not None and record.wake_at > wake_of(state):
        late = record.wake_at - wake_of(state)
        yield Finding("execution-asleep", record.id, f"{late:,} ms too long")
    for child in unanswered(case, state, around):
        yield Finding("execution-unanswered", record.id, f"subflow execution {child}")


def unanswered(case: Case, state: ExecutionState, around: Around) -> Iterator[str]:
    """Children that have ended without telling, or that nobody is going to create."""
    for step in state.active_steps():
        if step.reason != Reason.SUBFLOW:
            continue
        child = derived_id("child", case.record.id, step.key, str(step.attempt))
        status = case.children.get(child)
        if status in FINAL:
            if derived_id("ended", child) not in case.waiting:
                yield child
        elif status is None and case.record.wake_at is not None and not around.at_work:
            yield child
