"""What `windlass doctor` asks the database: does it keep what the rest of the program relies on?"""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import ColumnElement, Select, Table, exists, func, not_, select

from controller.store.dialect import damage
from controller.store.ledger_executions import ACTIVE
from controller.store.records import FINAL
from controller.store.tables import (
    Transaction,
    execution_checkpoints,
    signals,
    source_files,
    sources,
    workflow_executions,
    workflow_schedules,
    workflows,
)

EXAMPLES = 3
"""Keys a finding names."""

_e = workflow_executions.c


def integrity(tx: Transaction) -> list[str]:
    """One sentence for each kind of damage; empty: all is well. Reads everything: it takes long."""
    found = damage(tx)
    for what, chosen in _findings():
        count = tx.scalar(select(func.count()).select_from(chosen.subquery())) or 0
        if count:
            some = [str(row[0]) for row in tx.execute(chosen.limit(EXAMPLES))]
            found.append(f"{what}: {count} ({', '.join(some)}{' …' if count > EXAMPLES else ''})")
    return found


def _findings() -> Iterator[tuple[str, Select[Any]]]:
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
    yield (
        "schedules of workflows that are not there",
        _without(workflow_schedules, workflows, workflow_schedules.c.workflow_id == workflows.c.id),
    )
    yield (
        "files of sources that are not there",
        _without(source_files, sources, source_files.c.source_id == sources.c.id),
    )
    yield from _contradictions()


def _contradictions() -> Iterator[tuple[str, Select[Any]]]:
    ended = _e.status.in_(FINAL)
    yield (
        "executions that ended and still have an owner",
        select(_e.id).where(ended, _e.owner.is_not(None)),
    )
    yield "executions that ended at no time", select(_e.id).where(ended, _e.completed_at.is_(None))
    yield (
        "executions with an unknown status",
        select(_e.id).where(not_(_e.status.in_(FINAL + ACTIVE))),
    )
    waiting = signals.c.execution_id == _e.id, signals.c.consumed_at.is_(None)
    yield (
        "executions that ended while a signal waits",
        select(_e.id).where(ended, exists().where(*waiting)),
    )
    seq = execution_checkpoints.c.seq
    yield (
        "executions with a gap in their checkpoints",
        (
            select(execution_checkpoints.c.execution_id)
            .group_by(execution_checkpoints.c.execution_id)
            .having(func.max(seq) - func.min(seq) + 1 != func.count())
        ),
    )


def _without(table: Table, other: Any, joined: ColumnElement[bool]) -> Select[Any]:  # ruff: ignore[any-type]  # a table or an alias of one
    """The keys of rows that belong to nothing."""
    return select(*table.primary_key).where(~exists().select_from(other).where(joined))
