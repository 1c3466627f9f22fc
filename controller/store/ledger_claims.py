"""Claims: who executes what, until when.

An execution has at most one owner, who renews a lease. It is free to be claimed when it is

- pending, and its concurrency key (if any) has a place left: running and paused executions take
  one each, also while they are parked;
- running or paused without an owner, and it waits for nothing: its owner died, or gave it up;
- parked, and its `wake_at` has come, or a signal waits for it;
- owned by somebody else whose lease ran out.

Only what is parked has a `wake_at`, and only what is owned has a lease: so each way to become free
is one condition, and one index.

What has started goes before what has not, and whoever is free for longest goes first. A claim makes
`wake_at` NULL, so that an execution whose new owner dies is free again at once. Claims need not be
exclusive to be safe — the key of a checkpoint is the fence — they are exclusive so that no work is
done twice. Rows another controller is claiming are left to it (SKIP LOCKED on PostgreSQL).
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Update,
    and_,
    case,
    func,
    or_,
    select,
    text,
    true,
    update,
)
from sqlalchemy.sql.dml import ReturningUpdate

from controller.store.dialect import serialise
from controller.store.records import NEVER, ExecutionRecord
from controller.store.rows import columns, every
from controller.store.tables import (
    PENDING,
    READY,
    UNCONSUMED,
    Transaction,
    signals,
    workflow_executions,
)

_e = workflow_executions.c
_STARTED = ("running", "paused")
_CLAIM_LOCK = 0x57494E44
"""The advisory lock under which places of concurrency keys are counted on PostgreSQL."""


def claim(
    tx: Transaction, owner: str, *, lease_until: int, now: int, limit: int, root: str | None = None
) -> list[ExecutionRecord]:
    """Take up to `limit` free executions for `owner`; with `root`, of that tree only."""
    taking = _taking(owner, lease_until, now)
    claimed = _take(tx, taking, _started(tx, owner, now, _within(root), limit=limit))
    while len(claimed) < limit:
        wanted = limit - len(claimed)
        candidates = _pending(tx, wanted, _within(root))
        claimed += _take(tx, taking, _admitted(candidates))
        if len(candidates) < wanted:
            break
    return claimed


def _within(root: str | None) -> ColumnElement[bool]:
    return true() if root is None else _e.root_id == root


def _started(
    tx: Transaction, owner: str, now: int, within: ColumnElement[bool], *, limit: int
) -> list[str]:
    """Started executions nobody has: one indexed select for each way to become free."""
    signalled = select(signals.c.execution_id).where(text(UNCONSUMED))
    standing = and_(_e.started_at.is_not(None), _e.completed_at.is_(None), _e.owner.is_(None))
    ways = (
        (text(READY), _e.created_at),
        (_e.wake_at <= now, _e.wake_at),
        (and_(_e.lease_until < now, _e.owner != owner), _e.lease_until),
        (and_(_e.id.in_(signalled), standing), _e.created_at),
    )
    found: dict[str, int] = {}
    for way, since in ways:
        chosen = select(_e.id, since).where(way, within).order_by(since, _e.id).limit(limit)
        rows = tx.execute(chosen.with_for_update(skip_locked=True, of=workflow_executions))
        found = {row[0]: row[1] for row in rows} | found
    return sorted(found, key=lambda each: (found[each], each))[:limit]


def _pending(tx: Transaction, limit: int, within: ColumnElement[bool]) -> list[Any]:
    """The oldest pending executions whose key has a place: rows (id, key, places left)."""
    other = workflow_executions.alias("other")
    taken = (
        select(func.count())
        .where(other.c.concurrency_key == _e.concurrency_key, other.c.status.in_(_STARTED))
        .scalar_subquery()
    )
    left = _e.concurrency_max - taken
    unbounded = or_(_e.concurrency_key.is_(None), _e.concurrency_max.is_(None))
    chosen = (
        select(_e.id, _e.concurrency_key, left.label("places"))
        .where(text(PENDING), or_(unbounded, left > 0), within)
        .order_by(_e.created_at, _e.id)
        .limit(limit)
        .with_for_update(skip_locked=True, of=workflow_executions)
    )
    serialise(tx, _CLAIM_LOCK)
    return list(tx.execute(chosen))


def _admitted(candidates: Iterable[Any]) -> list[str]:
    """Those that still have a place when the ones before them have taken theirs."""
    taken: Counter[str] = Counter()
    admitted = []
    for row in candidates:
        if row.places is not None:
            if taken[row.concurrency_key] >= row.places:
                continue
            taken[row.concurrency_key] += 1
        admitted.append(row.id)
    return admitted


def _taking(owner: str, lease_until: int, now: int) -> ReturningUpdate[Any]:
    return (
        update(workflow_executions)
        .values(
            owner=owner,
            lease_until=lease_until,
            wake_at=None,
            status=case((_e.status == "pending", "running"), else_=_e.status),
            started_at=func.coalesce(_e.started_at, now),
        )
        .returning(*columns(ExecutionRecord, workflow_executions))
    )


def _take(
    tx: Transaction, taking: ReturningUpdate[Any], ids: Sequence[str]
) -> list[ExecutionRecord]:
    """Those executions, taken, in the order of `ids`."""
    if not ids:
        return []
    taken = every(tx, ExecutionRecord, taking.where(_e.id.in_(ids)))
    return sorted(taken, key=lambda each: ids.index(each.id))


def heartbeat(tx: Transaction, owner: str, lease_until: int) -> int:
    """Extend the owner's leases; how many executions it has."""
    renewed = update(workflow_executions).where(_e.owner == owner).values(lease_until=lease_until)
    return tx.execute(renewed).rowcount


def release(tx: Transaction, owner: str) -> int:
    """The owner gives up all it has, such as at a graceful stop; how many that was."""
    return tx.execute(_freed().where(_e.owner == owner)).rowcount


def adopt(tx: Transaction, owner: str) -> int:
    """Take from every other owner: for the one that holds the controller's lock, at its start."""
    others = _freed().where(_e.owner.is_not(None), _e.owner != owner)
    return tx.execute(others).rowcount


def _freed() -> Update:
    return update(workflow_executions).values(owner=None, lease_until=None)


def next_wake(tx: Transaction) -> int | None:
    """When the next parked execution is due, epoch milliseconds; None: none is."""
    soonest: int | None = tx.scalar(select(func.min(_e.wake_at)).where(_e.wake_at < NEVER))
    return soonest
