"""What executions remember: their events, in order. Who appends them is in `journal`."""

from collections.abc import Sequence
from functools import cache
from typing import Any

from sqlalchemy import Select, insert

from controller.store.dialect import among
from controller.store.kept import all_rows
from controller.store.records import CheckpointRecord
from controller.store.rows import every, pick, pick_stored, row_of
from controller.store.tables import Transaction, execution_checkpoints
from controller.store.values import decode

_c = execution_checkpoints.c


def checkpoints(tx: Transaction, execution_id: str, after_seq: int = -1) -> list[CheckpointRecord]:
    """The execution's events after `after_seq`, in order."""
    chosen = pick(CheckpointRecord, execution_checkpoints).where(
        _c.execution_id == execution_id, _c.seq > after_seq
    )
    return every(tx, CheckpointRecord, chosen.order_by(_c.seq))


def put_checkpoints(tx: Transaction, execution_id: str, events: Sequence[CheckpointRecord]) -> None:
    """Give a new execution a history to begin with, renumbered from 0."""
    if events:
        rows = [
            row_of(event._replace(execution_id=execution_id, seq=seq))
            for seq, event in enumerate(events)
        ]
        tx.execute(insert(execution_checkpoints), rows)


def checkpoints_of(
    tx: Transaction, execution_ids: Sequence[str]
) -> dict[str, list[CheckpointRecord]]:
    """The events of many executions at once; one without events has an empty list."""
    found: dict[str, list[CheckpointRecord]] = {each: [] for each in execution_ids}
    for row in all_rows(tx, _histories(tx.dialect.name), {"ids": list(found)}):
        execution_id, seq, kind, step, attempt, data, at = row
        event = CheckpointRecord(execution_id, seq, kind, step, attempt, decode(data), at)
        found[execution_id].append(event)
    return found


@cache
def _histories(name: str) -> Select[Any]:
    chosen = pick_stored(CheckpointRecord, execution_checkpoints)
    return chosen.where(among(name, _c.execution_id, "ids")).order_by(_c.execution_id, _c.seq)
