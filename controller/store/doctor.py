"""What `windlass doctor` reads: executions with all that is recorded of them, a page at a time.

Every read is bounded, and finds its rows by an index; only `orphans` reads whole tables.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import starmap
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, Table, Text, func, select, text, type_coerce

from controller.store.ledger_checkpoints import checkpoints_of
from controller.store.ledger_executions import ACTIVE
from controller.store.ledger_signals import signals as signals_of
from controller.store.records import NEVER, CheckpointRecord, ExecutionRecord, ScheduleRecord
from controller.store.rows import every, pick
from controller.store.tables import (
    PENDING,
    READY,
    Transaction,
    execution_checkpoints,
    leases,
    signals,
    source_files,
    sources,
    workflow_executions,
    workflow_schedules,
    workflow_versions,
    workflows,
)

_e = workflow_executions.c
_s = workflow_schedules.c
_v = workflow_versions.c
_c = execution_checkpoints.c

EXAMPLES = 5
"""Keys of what belongs to nothing that are named."""


@dataclass(frozen=True, slots=True)
class Case:
    """An execution and what is recorded of it, as of one moment.

    Attributes:
        waiting: Ids of the signals that nobody has taken.
        children: The executions its steps created, where it has not ended: id → status.
    """

    record: ExecutionRecord
    events: list[CheckpointRecord]
    waiting: frozenset[str]
    children: dict[str, str]


class Lease(NamedTuple):
    """What one controller does, or that it is at work."""

    name: str
    owner: str
    lease_until: int


def unfinished_ids(tx: Transaction, limit: int) -> list[str]:
    """Executions that have not ended, or that some index takes for such: `limit` of each way."""
    ways: list[tuple[Any, list[Any]]] = [
        (text(PENDING), [_e.created_at, _e.id]),
        (text(READY), [_e.created_at, _e.id]),
        (_e.owner.is_not(None), [_e.owner]),
        (_e.lease_until.is_not(None), [_e.lease_until, _e.id]),
        (_e.wake_at.is_not(None), [_e.wake_at, _e.id]),
        *((_e.status == status, [_e.created_at, _e.id]) for status in ACTIVE),
    ]
    found: dict[str, None] = {}
    for way, order in ways:
        chosen = select(_e.id).where(way).order_by(*order).limit(limit)
        found |= dict.fromkeys(tx.scalars(chosen))
    taken = select(signals.c.execution_id).where(signals.c.consumed_at.is_(None)).limit(limit)
    return list(found | dict.fromkeys(tx.scalars(taken)))


def newest_ids(tx: Transaction, limit: int) -> list[str]:
    """The executions that were created last."""
    return list(tx.scalars(select(_e.id).order_by(_e.created_at.desc(), _e.id.desc()).limit(limit)))


def newest_creation(tx: Transaction) -> int | None:
    """When an execution was created last, as far as that is a time."""
    found = tx.scalar(select(func.max(_e.created_at)).where(_e.created_at.between(0, NEVER)))
    return None if found is None else int(found)


def page_of_ids(tx: Transaction, after: str, limit: int) -> list[str]:
    """The ids that follow `after`, in order."""
    return list(tx.scalars(select(_e.id).where(_e.id > after).order_by(_e.id).limit(limit)))


def event_counts(tx: Transaction, ids: Sequence[str]) -> dict[str, int]:
    """How many events each has; one without is not in it."""
    counted = select(_c.execution_id, func.count()).where(_c.execution_id.in_(ids))
    return {row[0]: row[1] for row in tx.execute(counted.group_by(_c.execution_id))}


def cases(tx: Transaction, ids: Sequence[str], *, lock: bool = False) -> list[Case]:
    """These executions; with `lock`, nobody else changes them before the transaction ends."""
    chosen = pick(ExecutionRecord, workflow_executions).where(_e.id.in_(ids)).order_by(_e.id)
    records = every(tx, ExecutionRecord, chosen.with_for_update() if lock else chosen)
    found = [each.id for each in records]
    events = checkpoints_of(tx, found)
    waiting: dict[str, set[str]] = {}
    for signal in signals_of(tx, found):
        waiting.setdefault(signal.execution_id, set()).add(signal.id)
    going = [each.id for each in records if each.completed_at is None]
    children: dict[str, dict[str, str]] = {}
    born = select(_e.parent_id, _e.id, _e.status).where(_e.parent_id.in_(going))
    for parent, child, status in tx.execute(born) if going else ():
        children.setdefault(parent, {})[child] = status
    return [
        Case(each, events[each.id], frozenset(waiting.get(each.id, ())), children.get(each.id, {}))
        for each in records
    ]


def page_of_schedule_ids(tx: Transaction, after: str, limit: int) -> list[str]:
    """The schedules that follow `after`, active or not, in order."""
    return list(tx.scalars(select(_s.id).where(_s.id > after).order_by(_s.id).limit(limit)))


def schedules(tx: Transaction, ids: Sequence[str], *, lock: bool = False) -> list[ScheduleRecord]:
    """These schedules; with `lock`, nobody else changes them before the transaction ends."""
    chosen = pick(ScheduleRecord, workflow_schedules).where(_s.id.in_(ids)).order_by(_s.id)
    return every(tx, ScheduleRecord, chosen.with_for_update() if lock else chosen)


def page_of_digests(tx: Transaction, after: str, limit: int) -> list[str]:
    """The versions that follow `after`, in order."""
    chosen = select(_v.digest).where(_v.digest > after).order_by(_v.digest)
    return list(tx.scalars(chosen.limit(limit)))


def version_text(tx: Transaction, digest: str) -> str | None:
    """The content of a version as text, or None."""
    found: str | None = tx.scalar(select(type_coerce(_v.content, Text)).where(_v.digest == digest))
    return found


def digests_in_use(tx: Transaction, limit: int) -> list[str]:
    """The versions of active workflows, in order."""
    chosen = select(workflows.c.digest).distinct().where(workflows.c.status == "active")
    return list(tx.scalars(chosen.order_by(workflows.c.digest).limit(limit)))


def texts_of_versions(tx: Transaction, digests: Sequence[str]) -> list[tuple[str, str]]:
    """These versions, as far as they are there: digest, and the content as text."""
    chosen = select(_v.digest, type_coerce(_v.content, Text)).where(_v.digest.in_(digests))
    return [(row[0], row[1]) for row in tx.execute(chosen)]


def versionless(tx: Transaction) -> list[str]:
    """Workflows whose version is not there."""
    lacking = ~select(_v.digest).where(_v.digest == workflows.c.digest).exists()
    return list(tx.scalars(select(workflows.c.id).where(lacking).order_by(workflows.c.id)))


def source_ids(tx: Transaction) -> list[str]:
    """Every source, in order."""
    return list(tx.scalars(select(sources.c.id).order_by(sources.c.id)))


def all_leases(tx: Transaction) -> list[Lease]:
    """Every lease, ended or not."""
    columns = leases.c.name, leases.c.owner, leases.c.lease_until
    return list(starmap(Lease, tx.execute(select(*columns).order_by(leases.c.name))))


def orphans(tx: Transaction, *, growing: bool) -> list[tuple[str, int, list[str]]]:
    """(what, how many, some keys) of rows that belong to nothing; `growing`: of all tables."""
    found = []
    for what, chosen in [*_small_orphans(), *(_large_orphans() if growing else ())]:
        count = tx.scalar(select(func.count()).select_from(chosen.subquery())) or 0
        if count:
            some = [str(row[0]) for row in tx.execute(chosen.limit(EXAMPLES))]
            found.append((what, count, some))
    return found


def _small_orphans() -> Iterator[tuple[str, Select[Any]]]:
    yield (
        "schedules of workflows that are not there",
        _without(workflow_schedules, workflows, _s.workflow_id == workflows.c.id),
    )
    yield (
        "files of sources that are not there",
        _without(source_files, sources, source_files.c.source_id == sources.c.id),
    )


def _large_orphans() -> Iterator[tuple[str, Select[Any]]]:
    parent, root = workflow_executions.alias("parent"), workflow_executions.alias("root")
    yield (
        "executions of workflows that are not there",
        _without(workflow_executions, workflows, _e.workflow_id == workflows.c.id),
    )
    yield (
        "executions whose parent is not there",
        _without(workflow_executions, parent, _e.parent_id == parent.c.id).where(
            _e.parent_id.is_not(None)
        ),
    )
    yield (
        "executions whose root is not there",
        _without(workflow_executions, root, _e.root_id == root.c.id),
    )
    for table, what in ((execution_checkpoints, "checkpoints"), (signals, "signals")):
        lost = _without(table, workflow_executions, table.c.execution_id == _e.id)
        yield f"{what} of executions that are not there", lost


def _without(table: Table, other: Any, joined: ColumnElement[bool]) -> Select[Any]:  # ruff: ignore[any-type]  # a table or an alias of one
    """The keys of rows that belong to nothing."""
    return select(*table.primary_key).where(~select(1).select_from(other).where(joined).exists())
