"""Executions: created, looked up, ended. Who executes them is in `ledger_claims`."""

from collections import Counter
from collections.abc import Collection, Sequence
from functools import cache
from itertools import groupby, starmap
from typing import Any, NamedTuple

from pydantic_core import to_json
from sqlalchemy import (
    Column,
    ColumnElement,
    Select,
    Text,
    Update,
    and_,
    bindparam,
    func,
    or_,
    select,
    text,
    tuple_,
    type_coerce,
    update,
)

from controller.store.bulk import Change, change_rows, insert_new
from controller.store.dialect import among, begins
from controller.store.kept import all_rows, change
from controller.store.records import (
    FINAL,
    Claimant,
    ExecutionRecord,
    NewExecution,
    Outcome,
)
from controller.store.rows import (
    Row,
    every,
    names,
    pick,
    stored,
    values_of,
)
from controller.store.tables import (
    ENDED,
    GOING_FIRE,
    GOING_KEY,
    UNCONSUMED,
    Transaction,
    signals,
    workflow_executions,
)
from controller.store.values import decode, encode

_e = workflow_executions.c

ACTIVE = ("pending", "running", "paused")
"""The statuses of an execution that has not ended."""


class Place(NamedTuple):
    """Where an execution stands among all of them, newest first; it stays when that is pruned."""

    created_at: int
    id: str


class Prepared(NamedTuple):
    """An execution that is to be created: what is read of it as pending, and its row then."""

    read: tuple[Any, ...]
    row: Row


def create(tx: Transaction, new: NewExecution) -> bool:
    """Create it as `pending`; False when its id, or its (schedule_id, due_at), is there already."""
    return bool(create_all(tx, [prepared(new)]))


def create_all(tx: Transaction, new: Sequence[Prepared]) -> set[str]:
    """`create` for many at once; the ids of those that were not there already."""
    return _insert(tx, [each.row for each in new])


def create_claimed(
    tx: Transaction, new: Sequence[Prepared], by: Claimant, now: int
) -> list[ExecutionRecord]:
    """Create and claim at once: what `create_all` and then `claim` would; those not there before.

    The caller knows that nobody waits for longer, and that their keys have places.
    """
    claimed = [_claimed(each, by, now) for each in new]
    inserted = _insert(tx, [row for _, row in claimed])
    return [record for record, _ in claimed if record.id in inserted]


def _insert(tx: Transaction, rows: Sequence[Row]) -> set[str]:
    return insert_new(tx, workflow_executions, names(ExecutionRecord), rows)


def prepared(new: NewExecution) -> Prepared:
    """All of it that can be done before it is known when it is created, and by whom."""
    record = created(new)
    return Prepared(values_of(record), stored(workflow_executions, record))


def _claimed(new: Prepared, by: Claimant, now: int) -> tuple[ExecutionRecord, Row]:
    read, row = list(new.read), list(new.row)
    for place, value in zip(_CLAIMED, ("running", now, by.owner, by.lease_until, 1), strict=True):
        read[place] = row[place] = value
    return ExecutionRecord(*read), tuple(row)


_CLAIMED = [
    names(ExecutionRecord).index(each)
    for each in ("status", "started_at", "owner", "lease_until", "claims")
]
"""Places of what a claim changes."""


def created(new: NewExecution) -> ExecutionRecord:
    """What is read of it once it is created."""
    return ExecutionRecord(
        id=new.id,
        workflow_id=new.workflow_id,
        workflow_version=new.workflow_version,
        digest=new.digest,
        status="pending",
        inputs=decode(to_json(new.inputs)),
        outputs=None,
        error=None,
        started_at=None,
        completed_at=None,
        duration=None,
        current_step=None,
        context=new.context,
        created_at=new.created_at,
        trigger=new.trigger,
        owner=None,
        lease_until=None,
        wake_at=None,
        parent_id=new.parent_id,
        parent_step=new.parent_step,
        root_id=new.root_id or new.id,
        depth=new.depth,
        schedule_id=new.schedule_id,
        due_at=new.due_at,
        concurrency_key=new.concurrency_key,
        concurrency_max=new.concurrency_max,
        queue=new.queue,
        policy=new.policy,
        attempt_of=new.attempt_of,
        claims=0,
    )


def execution(tx: Transaction, execution_id: str) -> ExecutionRecord | None:
    """The execution, or None."""
    found = every(tx, ExecutionRecord, _ONE, {"execution": execution_id})
    return found[0] if found else None


_ONE = pick(ExecutionRecord, workflow_executions).where(_e.id == bindparam("execution"))


def executions(
    tx: Transaction,
    workflow: str | None = None,
    status: str | None = None,
    *,
    limit: int = 20,
    before: Place | None = None,
    root: str | None = None,
) -> list[ExecutionRecord]:
    """Newest first; `before` is the place of the last one of the page before."""
    chosen = pick(ExecutionRecord, workflow_executions)
    if status is not None:
        chosen = chosen.where(_e.status == status)
    if workflow is not None and status in FINAL:
        chosen = chosen.where(_e.workflow_id == workflow, text(ENDED))
    elif workflow is not None:  # those of a status that passes are few, those of a workflow not
        chosen = chosen.where((unindexed(_e.workflow_id) if status else _e.workflow_id) == workflow)
    if root is not None:
        chosen = chosen.where(in_tree(root))
    if before is not None:
        chosen = chosen.where(tuple_(_e.created_at, _e.id) < tuple_(*before))
    chosen = chosen.order_by(_e.created_at.desc(), _e.id.desc()).limit(limit)
    return every(tx, ExecutionRecord, chosen)


def in_tree(root: Any) -> ColumnElement[bool]:  # ruff: ignore[any-type]  # an id, or a parameter
    """Whether an execution is this root, or anywhere below it."""
    return or_(_e.id == root, and_(_e.root_id == root, _e.parent_id.is_not(None)))


def unindexed(column: Column[str]) -> ColumnElement[str]:
    """The column where another one is to say which index finds the rows."""
    return func.coalesce(column, "")


def executions_like(tx: Transaction, prefix: str, *, limit: int) -> list[ExecutionRecord]:
    """Those whose id begins with `prefix`."""
    chosen = pick(ExecutionRecord, workflow_executions).where(begins(tx, _e.id, prefix))
    return every(tx, ExecutionRecord, chosen.order_by(_e.id).limit(limit))


def unfinished_of_schedules(
    tx: Transaction, schedule_ids: Sequence[str]
) -> dict[str, list[tuple[str, str]]]:
    """(id, status) of each schedule's executions that have not ended, oldest first; no backfills.

    A schedule without any is not in it.
    """
    found: dict[str, list[tuple[str, str]]] = {}
    given = {"schedules": schedule_ids}
    for schedule_id, execution_id, status, trigger in all_rows(
        tx, _unfinished(tx.dialect.name), given
    ):
        if not decode(trigger).get("backfill"):
            found.setdefault(schedule_id, []).append((execution_id, status))
    return found


@cache
def _unfinished(name: str) -> Select[Any]:
    return (
        select(_e.schedule_id, _e.id, _e.status, type_coerce(_e.trigger, Text).label("trigger"))
        .where(among(name, _e.schedule_id, "schedules"), text(GOING_FIRE))
        .order_by(_e.due_at)
    )


def fired(tx: Transaction, schedule_id: str, dues: Sequence[int]) -> dict[int, str]:
    """The executions of these due times of a schedule: due time → id."""
    given = {"schedule": schedule_id, "dues": dues}
    return {row[0]: row[1] for row in all_rows(tx, _fired(tx.dialect.name), given)}


@cache
def _fired(name: str) -> Select[Any]:
    of_it = _e.schedule_id == bindparam("schedule", type_=Text)
    return select(_e.due_at, _e.id).where(of_it, among(name, _e.due_at, "dues"))


def children(tx: Transaction, execution_id: str) -> list[ExecutionRecord]:
    """The executions its steps created, oldest first."""
    chosen = pick(ExecutionRecord, workflow_executions).where(_e.parent_id == execution_id)
    return every(tx, ExecutionRecord, chosen.order_by(_e.created_at, _e.id))


def any_going(tx: Transaction, ids: Collection[str]) -> bool:
    """Whether one of these has not ended; what does not exist has."""
    chosen = select(_e.id).where(_e.id.in_(ids), _e.status.in_(ACTIVE)).limit(1)
    return tx.execute(chosen).first() is not None


def status_counts(tx: Transaction, workflow: str | None = None) -> dict[str, int]:
    """How many executions there are of each status that occurs."""
    counted = select(_e.status, func.count()).group_by(_e.status)
    if workflow is None:
        return dict(map(tuple, tx.execute(counted)))
    ended = counted.where(_e.workflow_id == workflow, text(ENDED))
    going = counted.where(unindexed(_e.workflow_id) == workflow, _e.status.in_(ACTIVE))
    return dict(map(tuple, tx.execute(ended.union_all(going))))


def going(tx: Transaction) -> dict[str, int]:
    """How many executions have not ended, of each workflow that has any."""
    chosen = select(_e.workflow_id).where(_e.status.in_(ACTIVE))
    return Counter(tx.scalars(chosen))


def active(tx: Transaction, concurrency_key: str) -> list[ExecutionRecord]:
    """Those of one concurrency key that have not ended, oldest first."""
    chosen = pick(ExecutionRecord, workflow_executions).where(
        _e.concurrency_key == concurrency_key, text(GOING_KEY)
    )
    return every(tx, ExecutionRecord, chosen.order_by(_e.created_at, _e.id))


def cancel_pending(tx: Transaction, execution_id: str, now: int) -> bool:
    """Cancel it if nobody has started it; False: send it a signal instead."""
    changed = tx.execute(
        update(workflow_executions)
        .where(_e.id == execution_id, _e.status == "pending", _e.owner.is_(None))
        .values(status="cancelled", completed_at=now, duration=0)
    )
    if changed.rowcount != 1:
        return False
    _settle_signals(tx, [execution_id])
    return True


def record_outcome(
    tx: Transaction, execution_id: str, outcome: Outcome, owner: str | None = None
) -> bool:
    """Change the row of an execution that has not ended; False: it has, or `owner` lost it.

    Only one that was claimed before can park or pause.
    """
    return record_outcomes(tx, [(execution_id, outcome, owner)])


def record_outcomes(tx: Transaction, outcomes: Sequence[tuple[str, Outcome, str | None]]) -> bool:
    """`record_outcome` for many, in this order and a few statements; False: not all were."""
    for kind, some in groupby(outcomes, key=_kind):
        given = list(starmap(_given, some))
        if change_rows(tx, _outcome(*kind), given) != len(given):
            return False
    ended = [each for each, outcome, _ in outcomes if outcome.status in FINAL]
    _settle_signals(tx, ended)
    return True


def _kind(recorded: tuple[str, Outcome, str | None]) -> tuple[bool, bool, bool]:
    """What decides on the statement: whether it ends, is given up, and has an owner."""
    _, outcome, owner = recorded
    final = outcome.status in FINAL
    if final and outcome.completed_at is None:
        raise ValueError("an execution that ends needs to say when")
    return final, final or outcome.release, owner is not None


def _given(execution_id: str, outcome: Outcome, owner: str | None) -> tuple[Any, ...]:
    final = outcome.status in FINAL
    parked = outcome.release and not final
    return (
        execution_id,
        owner,
        outcome.status,
        encode(outcome.outputs),
        encode(outcome.error),
        outcome.completed_at if final else None,
        outcome.duration,
        outcome.current_step,
        outcome.wake_at if parked else None,
    )


_OUTCOME = (
    "status TEXT",
    "outputs TEXT",
    "error TEXT",
    "completed_at BIGINT",
    "duration BIGINT",
    "current_step TEXT",
    "wake_at BIGINT",
)


@cache
def _outcome(final: bool, release: bool, owned: bool) -> Change:  # ruff: ignore[boolean-type-hint-positional-argument]  # see `_kind`
    to = [f"{name} = given.{name}" for name in (each.partition(" ")[0] for each in _OUTCOME)]
    if release:
        to += ["owner = NULL", "lease_until = NULL"]
    where = ["id = given.execution", "workflow_executions.completed_at IS NULL"]
    if not final:
        where.append("started_at IS NOT NULL")
    if owned:
        where.append("owner = given.holder")
    given = ("execution TEXT", "holder TEXT", *_OUTCOME)
    return Change("workflow_executions", given, ", ".join(to), " AND ".join(where))


def _settle_signals(tx: Transaction, ended: Sequence[str]) -> None:
    """What was sent to executions that have ended waits for nothing any more."""
    if ended:
        change(tx, _settling(tx.dialect.name), {"ended": ended})


@cache
def _settling(name: str) -> Update:
    of = signals.c.execution_id
    ended = select(_e.completed_at).where(_e.id == of).scalar_subquery()
    waiting = update(signals).where(text(UNCONSUMED), among(name, of, "ended"))
    return waiting.values(consumed_at=ended)
