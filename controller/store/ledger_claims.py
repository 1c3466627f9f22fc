"""Claims: who executes what, until when.

An execution has at most one owner, who renews a lease. It is free to be claimed when it is

- pending, its concurrency key (if any) has a place left, and nobody is at the head of its queue (if
  any): running and paused executions take a place, and the head, also while they are parked;
- running or paused without an owner, and it waits for nothing: its owner died, or gave it up;
- parked, and its `wake_at` has come, or a signal waits for it;
- owned by somebody else whose lease ran out.

Only what is parked has a `wake_at`, and only what is owned has a lease: so each way to become free
is one condition, and one index.

What has started goes before what has not, and whoever is free for longest goes first. A claim makes
`wake_at` NULL, so that an execution whose new owner dies is free again at once. Rows another
controller is claiming are left to it (SKIP LOCKED on PostgreSQL).

The key of a checkpoint is the fence. Who takes an execution from an owner whose lease ran out
records that as its next event: whatever the old owner, who may only have been asleep, still wants
to record has that number too, and is refused. If the old owner was quicker, it still lives, and
keeps the execution.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from operator import itemgetter
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Integer,
    Select,
    Text,
    Update,
    and_,
    bindparam,
    case,
    func,
    literal,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.sql.dml import ReturningInsert

from controller.core.execution import EventType
from controller.store.dialect import among, insert_selected, serialise
from controller.store.kept import all_records, all_rows, change, find_value
from controller.store.ledger_executions import in_tree
from controller.store.records import NEVER, ExecutionRecord
from controller.store.rows import pick_stored
from controller.store.tables import (
    PENDING,
    READY,
    UNCONSUMED,
    Transaction,
    execution_checkpoints,
    signals,
    workflow_executions,
)

_e = workflow_executions.c
_STARTED = ("running", "paused")
_CLAIM_LOCK = 0x57494E44
"""The advisory lock under which places of concurrency keys are counted on PostgreSQL."""


def count_places(tx: Transaction) -> None:
    """Before places are counted: nobody else counts, and takes some, until the transaction ends."""
    serialise(tx, _CLAIM_LOCK)


def claim(
    tx: Transaction, owner: str, *, lease_until: int, now: int, limit: int, root: str | None = None
) -> list[ExecutionRecord]:
    """Take up to `limit` free executions for `owner`; with `root`, of that tree only."""
    given = {"by": owner, "until": lease_until, "now": now, "limit": limit, "root": root}
    claimed = _take(tx, _fenced(tx, _started(tx, given), given), given)
    while len(claimed) < limit:
        wanted = limit - len(claimed)
        candidates = _pending(tx, given | {"limit": wanted})
        claimed += _take(tx, _admitted(candidates), given)
        if len(candidates) < wanted:
            break
    return claimed


def _started(tx: Transaction, given: dict[str, Any]) -> dict[str, str | None]:
    """Started executions that are free, with their old owner if they had one: a select a way."""
    found: dict[str, tuple[int, str | None]] = {}
    for way in _ways(rooted=given["root"] is not None):
        found = {row[0]: (row[1], row[2]) for row in all_rows(tx, way, given)} | found
    chosen = sorted(found, key=lambda each: (found[each][0], each))[: given["limit"]]
    return {each: found[each][1] for each in chosen}


def _fenced(tx: Transaction, found: dict[str, str | None], given: dict[str, Any]) -> list[str]:
    """Those of nobody, and those whose old owner can record nothing any more."""
    lapsed = [each for each, owner in found.items() if owner is not None]
    if not lapsed:
        return list(found)
    fenced = fence(tx, lapsed, given["by"], given["now"])
    return [each for each, owner in found.items() if owner is None or each in fenced]


def fence(tx: Transaction, ids: Sequence[str], by: str, now: int) -> set[str]:
    """Record that `by` has them now, as their next event; those of them whose owner is fenced."""
    event = {"context": json.dumps({"owner": by}), "now": now, "ids": ids}
    return set(tx.scalars(_takeover(tx.dialect.name), event))


@cache
def _takeover(dialect: str) -> ReturningInsert[Any]:
    """The next event of each execution: that somebody else has it now."""
    c = execution_checkpoints.c
    following = select(func.coalesce(func.max(c.seq) + 1, 0)).where(c.execution_id == _e.id)
    events = select(
        _e.id,
        following.correlate(workflow_executions).scalar_subquery(),
        literal(str(EventType.TAKEN_OVER), Text),
        literal(0, Integer),
        bindparam("context", type_=Text),
        bindparam("now", type_=BigInteger),
    ).where(_e.id.in_(bindparam("ids", expanding=True)))
    columns = ["execution_id", "seq", "type", "attempt", "context", "created_at"]
    return insert_selected(dialect, execution_checkpoints, columns, events, c.execution_id)


def _pending(tx: Transaction, given: dict[str, Any]) -> list[Any]:
    """The oldest pending executions that may begin: rows (id, since, key, places left, queue)."""
    count_places(tx)
    found = all_rows(tx, _candidates(rooted=given["root"] is not None), given)
    return sorted(found, key=itemgetter(1, 0))


def _admitted(candidates: Iterable[Any]) -> list[str]:
    """Those that still have a place when the ones before them have taken theirs."""
    taken: Counter[str] = Counter()
    heads: set[str] = set()
    admitted = []
    for execution_id, _, key, places, queue in candidates:
        if queue in heads or (places is not None and taken[key] >= places):
            continue
        if places is not None:
            taken[key] += 1
        if queue is not None:
            heads.add(queue)
        admitted.append(execution_id)
    return admitted


def _take(tx: Transaction, ids: Sequence[str], given: dict[str, Any]) -> list[ExecutionRecord]:
    """Those executions, taken, in the order of `ids`."""
    if not ids:
        return []
    change(tx, _taking(tx.dialect.name), given | {"ids": ids})
    named = _taken(tx.dialect.name), {"ids": ids}  # SQLite would return them row by row
    taken = all_records(tx, ExecutionRecord, workflow_executions, *named)
    place = {execution_id: number for number, execution_id in enumerate(ids)}
    return sorted(taken, key=lambda each: place[each.id])


# Built once: to put a statement together takes longer than to execute it.

_NOW = bindparam("now", type_=BigInteger)


@cache
def _ways(*, rooted: bool, take: bool = True) -> tuple[Select[Any], ...]:
    signalled = select(signals.c.execution_id).where(text(UNCONSUMED))
    standing = and_(_e.started_at.is_not(None), _e.completed_at.is_(None), _e.owner.is_(None))
    ways = (
        (text(READY), _e.created_at),
        (_e.wake_at <= _NOW, _e.wake_at),
        (and_(_e.lease_until < _NOW, _e.owner != bindparam("by")), _e.lease_until),
        (and_(_e.id.in_(signalled), standing), _e.created_at),
    )
    return tuple(
        _first(select(_e.id, since, _e.owner).where(way), since, rooted=rooted, take=take)
        for way, since in ways
    )


@cache
def _candidates(*, rooted: bool, take: bool = True) -> Select[Any]:
    other = workflow_executions.alias("other")
    started = or_(*(other.c.status == each for each in _STARTED)), other.c.completed_at.is_(None)
    beside = select(func.count()).where(other.c.concurrency_key == _e.concurrency_key, *started)
    left = _e.concurrency_max - beside.scalar_subquery()
    unbounded = or_(_e.concurrency_key.is_(None), _e.concurrency_max.is_(None))
    ahead = select(other.c.id).where(other.c.queue == _e.queue, *started).exists()
    columns_of_one = _e.id, _e.created_at, _e.concurrency_key, left, _e.queue
    chosen = select(*columns_of_one).where(
        text(PENDING), or_(unbounded, left > 0), or_(_e.queue.is_(None), ~ahead)
    )
    return _first(chosen, _e.created_at, rooted=rooted, take=take)


def _first(
    chosen: Select[Any], since: ColumnElement[Any], *, rooted: bool, take: bool
) -> Select[Any]:
    """The first so many by `since`; to `take` them leaves out what others are claiming now."""
    if rooted:
        chosen = chosen.where(in_tree(bindparam("root")))
    ordered = chosen.order_by(since, _e.id).limit(bindparam("limit", type_=Integer))
    if take:
        return ordered.with_for_update(skip_locked=True, of=workflow_executions)
    return ordered


@cache
def _taken(name: str) -> Select[Any]:
    return pick_stored(ExecutionRecord, workflow_executions).where(among(name, _e.id, "ids"))


@cache
def _taking(name: str) -> Update:
    return (
        update(workflow_executions)
        .where(among(name, _e.id, "ids"))
        .values(
            owner=bindparam("by"),
            lease_until=bindparam("until"),
            wake_at=None,
            status=case((_e.status == "pending", "running"), else_=_e.status),
            started_at=func.coalesce(_e.started_at, _NOW),
            claims=_e.claims + 1,
        )
    )


def give_back(tx: Transaction, owner: str, ids: Sequence[str]) -> None:
    """Undo `create_claimed` of what never began: it is pending, as if nobody had claimed it."""
    unclaimed = {"status": "pending", "started_at": None, "claims": 0}
    begun = _e.id.in_(ids), _e.owner == owner, _e.claims == 1
    tx.execute(_freed().where(*begun).values(unclaimed))


def heartbeat(tx: Transaction, owner: str, lease_until: int) -> list[str]:
    """Extend the owner's leases; the executions it has, also if it does not know of some."""
    renewed = update(workflow_executions).where(_e.owner == owner).values(lease_until=lease_until)
    return list(tx.scalars(renewed.returning(_e.id)))


def holds(tx: Transaction, owner: str, execution_id: str, claims: int) -> bool:
    """Whether the owner has it by that claim; then nobody takes it before the transaction ends."""
    by_claim = _e.id == execution_id, _e.owner == owner, _e.claims == claims
    return tx.execute(select(_e.id).where(*by_claim).with_for_update(read=True)).first() is not None


def release(tx: Transaction, owner: str, ids: Sequence[str] | None = None) -> int:
    """The owner gives up these, or all it has; how many that was."""
    freed = _freed().where(_e.owner == owner)
    if ids is not None:
        freed = freed.where(_e.id.in_(ids))
    return tx.execute(freed).rowcount


def adopt(tx: Transaction, owner: str, limit: int | None = None) -> int:
    """Take from other owners: for the one that holds the controller's lock, at its start.

    How many that was; all, or the first ones up to `limit`.
    """
    owned = _e.owner.is_not(None), _e.owner != owner
    some = owned if limit is None else (_e.id.in_(select(_e.id).where(*owned).limit(limit)),)
    return tx.execute(_freed().where(*some)).rowcount


def _freed() -> Update:
    return update(workflow_executions).values(owner=None, lease_until=None)


def next_wake(tx: Transaction) -> int | None:
    """When the next parked execution is due, epoch milliseconds; None: none is."""
    soonest: int | None = tx.scalar(select(func.min(_e.wake_at)).where(_e.wake_at < NEVER))
    return soonest


def claimable(tx: Transaction, owner: str, now: int, root: str | None = None) -> bool:
    """Whether `claim` might find something; a read, so that an idle controller writes nothing."""
    given = {"by": owner, "now": now, "limit": 1, "root": root}
    return find_value(tx, _any(rooted=root is not None), given) is not None


@cache
def _any(*, rooted: bool) -> Select[Any]:
    """The first of the first way that has one, in the order which says what index is meant."""
    ways = (*_ways(rooted=rooted, take=False), _candidates(rooted=rooted, take=False))
    return select(
        func.coalesce(*(each.with_only_columns(_e.id).scalar_subquery() for each in ways))
    )
