"""Retention: what has ended goes, after a while.

A tree of executions goes at once, when its root and everything below it has ended: a parent is
never left without its children, or a child without its parent. Finding what is over its bounds is a
read; removing it is a write of a bounded number of rows, so that nobody who records waits long. To
prune everything, call `prune` until it returns 0 — or, of each workflow, `expired` on a reader and
`remove` on the writer, as the controller does: a workflow is done before the next is looked at, so
that thousands of workflows are looked at once, and not once for every few trees that go.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Select,
    Table,
    and_,
    delete,
    exists,
    func,
    literal,
    or_,
    select,
    text,
    true,
    tuple_,
    update,
)

from controller.store.dialect import only_one
from controller.store.ledger_schedules import PAUSED, STOPPED
from controller.store.records import ExecutionRecord
from controller.store.rows import CHUNK
from controller.store.tables import (
    ENDED_ROOT,
    INSIDE,
    Transaction,
    audit_log,
    execution_checkpoints,
    signals,
    workflow_executions,
    workflow_logs,
    workflow_schedules,
    workflow_versions,
    workflows,
)

_e = workflow_executions.c

DAY = 86_400_000
"""Milliseconds."""

ROWS = 10_000
"""Rows one call deletes at most: about a tenth of a second of the writer's time."""

_REMOVING_LOCK = 0x57494E52
"""The advisory lock under which trees are removed on PostgreSQL."""

GOING = "going"
"""In a root's `context`: its tree goes, in parts."""

ALL = 2**62
"""More executions than there are, and still a number that a database takes."""


@dataclass(frozen=True, slots=True)
class Keep:
    """How long finished executions stay: either bound prunes, None bounds nothing."""

    days: int | None = None
    last: int | None = None


def days_before(now: int, days: int) -> int:
    """So many days before a moment, and not before the epoch: there was nothing."""
    return max(now - days * DAY, 0)


def prune(
    tx: Transaction, now: int, default: Keep, rules: Mapping[str, Keep], *, limit: int = 100
) -> int:
    """Remove up to `limit` trees that are over their bounds; 0: nothing is left to remove.

    Args:
        tx: A transaction that writes.
        now: Epoch milliseconds.
        default: The bounds of a workflow without a rule.
        rules: The bounds of single workflows, by name.
        limit: How many trees at most.

    Returns:
        How many trees were over their bounds; a very large one may take several calls to go.
    """
    roots: list[str] = []
    for workflow in workflows_executed(tx):
        keep = rules.get(workflow, default)
        roots += expired(tx, workflow, keep, now, limit=limit - len(roots))
        if len(roots) >= limit:
            break
    remove(tx, roots)
    return len(roots)


def workflows_executed(tx: Transaction) -> list[str]:
    """The workflows that have executions: from one to the next, past all that lies between."""
    return list(tx.scalars(_executed()))


@cache
def _executed() -> Select[Any]:
    first = select(func.min(_e.workflow_id).label("name"))
    names = first.cte("names", recursive=True)
    following = select(func.min(_e.workflow_id)).where(_e.workflow_id > names.c.name)
    found = names.union_all(
        select(following.correlate(names).scalar_subquery()).where(names.c.name.is_not(None))
    )
    return select(found.c.name).where(found.c.name.is_not(None))


def expired(tx: Transaction, workflow: str, keep: Keep, now: int, *, limit: int = 100) -> list[str]:
    """The roots of a workflow's finished trees that are over its bounds, oldest first in each."""
    found: list[str] = []
    for statement in _over(workflow, keep, now):
        if len(found) >= limit:
            break
        wanted = statement.limit(limit - len(found))
        found += (row.id for row in tx.execute(wanted) if row.id not in found)
    return found


def _over(workflow: str, keep: Keep, now: int) -> list[Select[Any]]:
    """One select for each bound: too old, and too many."""
    roots = (_e.workflow_id == workflow, text(ENDED_ROOT))
    over: list[ColumnElement[bool]] = []
    if keep.days is not None:
        bound = days_before(now, keep.days)  # created_at says the same, and is in the index
        over.append(and_(_e.created_at < bound, _e.completed_at < bound))
    if keep.last == 0:
        over.append(true())
    elif keep.last is not None:
        newest = select(_e.created_at, _e.id).where(*roots).correlate(None)
        newest = newest.order_by(_e.created_at.desc(), _e.id.desc())
        last = newest.offset(min(keep.last, ALL) - 1).limit(1)
        over.append(tuple_(_e.created_at, _e.id) < last.scalar_subquery())
    below = workflow_executions.alias("below").c
    inside = below.root_id == _e.id, below.parent_id.is_not(None)
    going = exists().where(*inside, below.completed_at.is_(None))
    return [
        select(_e.id).where(*roots, each, ~going).order_by(_e.created_at, _e.id) for each in over
    ]


def remove(tx: Transaction, roots: Sequence[str], rows: int = ROWS) -> int:
    """Delete these trees with all that belongs to them, `rows` rows at most.

    Only whole trees, as many as fit, so that nobody meets an execution of which something is gone.
    One that is too large for one call loses its logs, checkpoints and signals first, an execution
    before the one that started it, and its root last, so that it is found again by `expired`, and
    the next call goes on; its root says meanwhile that it `is_going`. While another
    controller removes trees nothing is: what it has begun with looks here as if it were still
    there, and a root would go before what it has left.

    Returns:
        How many rows were deleted.
    """
    if not only_one(tx, _REMOVING_LOCK):
        return 0
    left, rest = rows, list(roots)
    while rest and left > 0:
        parts, fit = _that_fit(tx, rest, left)
        if not fit:
            if left < rows:
                break
            _mark(tx, rest[0])
        for table, condition, order in parts:
            left -= _delete(tx, table, condition, left, order)
            if left <= 0:
                break
        rest = rest[max(fit, 1) :]
    return rows - left


def _that_fit(tx: Transaction, roots: list[str], rows: int) -> "tuple[list[Part], int]":
    """The first of these trees that have so many rows at most, and how many; 0: the first has more.

    Whether more of them would fit is not found out to the last.
    """
    fit = min(len(roots), CHUNK)
    while _count(tx, parts := _parts(roots[:fit]), rows) > rows:
        if fit == 1:
            return parts, 0
        fit //= 2
    return parts, fit


def _mark(tx: Transaction, root: str) -> None:
    """It goes in parts."""
    found = tx.execute(select(_e.context).where(_e.id == root)).scalar_one_or_none()
    if found is not None and GOING not in found:
        marked = {**found, GOING: True}
        tx.execute(update(workflow_executions).where(_e.id == root).values(context=marked))


def is_going(root: ExecutionRecord) -> bool:
    """Whether some of its tree is gone, and the rest of it is about to go."""
    return GOING in root.context


Part = tuple[Table, ColumnElement[bool], ColumnElement[Any] | None]
"""Rows of a table, and in which order they go, unless by their key."""


def _parts(roots: list[str]) -> list[Part]:
    """All rows of these trees, in the order in which they go."""
    inside = and_(_e.root_id.in_(roots), text(INSIDE))
    members = select(_e.id).where(or_(_e.id.in_(roots), inside))
    return [
        (workflow_logs, workflow_logs.c.execution_id.in_(members), None),
        (execution_checkpoints, execution_checkpoints.c.execution_id.in_(members), None),
        (signals, signals.c.execution_id.in_(members), None),
        (workflow_executions, inside, _e.depth.desc()),
        (workflow_executions, _e.id.in_(roots), None),
    ]


def _count(tx: Transaction, parts: list[Part], most: int) -> int:
    """How many rows these are; what is more than `most` is not counted to the end."""
    found = 0
    for table, condition, _ in parts:
        if found <= most:
            some = select(literal(1)).select_from(table).where(condition).limit(most + 1)
            found += tx.scalar(select(func.count()).select_from(some.subquery("listed"))) or 0
    return found


def _delete(
    tx: Transaction,
    table: Table,
    condition: ColumnElement[bool],
    limit: int,
    order: ColumnElement[Any] | None = None,
) -> int:
    """Delete at most `limit` of the rows; how many it were.

    The first by `order`, or by primary key: ordered by what the condition is about, nothing else is
    read to find out that there is nothing to delete.
    """
    keys = tuple(table.primary_key)
    chosen = select(*keys).where(condition).limit(limit).correlate(None)
    chosen = chosen.order_by(*keys) if order is None else chosen.order_by(order)
    key = keys[0] if len(keys) == 1 else tuple_(*keys)
    return tx.execute(delete(table).where(key.in_(chosen))).rowcount


def remove_logs(tx: Transaction, before: int, limit: int = ROWS) -> int:
    """Delete up to `limit` log lines said before `before`; how many it were."""
    return _delete(
        tx, workflow_logs, workflow_logs.c.timestamp < before, limit, workflow_logs.c.timestamp
    )


def remove_audits(tx: Transaction, before: int, limit: int = ROWS) -> int:
    """Delete up to `limit` audit entries made before `before`; how many it were."""
    return _delete(tx, audit_log, audit_log.c.at < before, limit, audit_log.c.at)


def remove_versions(tx: Transaction, before: int, limit: int = ROWS) -> int:
    """Delete definitions added before `before` that no workflow and no execution points to."""
    versions = workflow_versions.c
    pinned = exists().where(_e.digest == versions.digest)
    current = exists().where(workflows.c.digest == versions.digest)
    unused = and_(versions.created_at < before, ~pinned, ~current)
    return _delete(tx, workflow_versions, unused, limit)


def remove_schedules(tx: Transaction, before: int, limit: int = ROWS) -> int:
    """Delete schedules that somebody stopped before `before`, or added and that ended before it.

    One of a definition that came to its end by itself stays: its source still has it, and must not
    see it new.
    """
    s = workflow_schedules.c
    ended = s.reason.is_distinct_from(PAUSED), ~s.id.contains("/")
    over = s.active.is_(False), or_(s.reason.in_(STOPPED), and_(*ended))
    dealt = s.updated_at < before, func.coalesce(s.last_run_at, 0) < before
    return _delete(tx, workflow_schedules, and_(*over, *dealt), limit)
