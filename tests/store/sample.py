"""Records for the tests, with everything filled in that a test does not speak of."""

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from controller.store import ledger
from controller.store.ledger_definitions import put_version
from controller.store.ledger_executions import create
from controller.store.records import (
    Batch,
    CheckpointRow,
    NewExecution,
    ScheduleRecord,
    SignalRecord,
    VersionRecord,
    WorkflowRecord,
)
from controller.store.store import Store
from controller.store.tables import Transaction
from tests.eventually import eventually

NOW = 1_767_225_600_000
"""2026-01-01T00:00:00Z."""


def version(digest: str = "d", workflow_id: str = "w", **given: Any) -> VersionRecord:
    """A definition."""
    values: dict[str, Any] = {
        "version": "1.0.0",
        "content": {"name": workflow_id},
        "revision": None,
    }
    values |= {"created_at": NOW} | given
    return VersionRecord(digest=digest, workflow_id=workflow_id, **values)


def put_workflows(
    tx: Transaction, compiled: Sequence[tuple[WorkflowRecord, VersionRecord]]
) -> None:
    """`ledger.put_workflows` of records."""
    rows = [(ledger.stored_workflow(one), ledger.stored_version(other)) for one, other in compiled]
    ledger.put_workflows(tx, rows)


def put_schedules(
    tx: Transaction, origin: str, wanted: Mapping[str, Sequence[ScheduleRecord]], *, now: int
) -> None:
    """`ledger.put_schedules` of records."""
    rows = {name: list(map(ledger.stored_schedule, found)) for name, found in wanted.items()}
    ledger.put_schedules(tx, origin, rows, now=now)


def workflow(name: str = "w", **given: Any) -> WorkflowRecord:
    """An active workflow whose definition is `d`."""
    values: dict[str, Any] = {
        "description": "",
        "version": "1.0.0",
        "status": "active",
        "digest": "d",
        "origin": "here",
        "path": f"{name}.yaml",
        "triggers": [],
        "inputs": [],
        "outputs": [],
        "steps": [{"id": "a", "type": "action"}],
        "error_handler": None,
        "metadata": {},
        "labels": {},
        "created_at": NOW,
        "updated_at": NOW,
    }
    return WorkflowRecord(id=name, name=name, **(values | given))


def new(execution_id: str = "e", created_at: int = NOW, **given: Any) -> NewExecution:
    """A pending execution of `w`."""
    values: dict[str, Any] = {"workflow_id": "w", "workflow_version": "1.0.0", "digest": "d"}
    return NewExecution(id=execution_id, created_at=created_at, **(values | given))


def schedule(schedule_id: str = "s", **given: Any) -> ScheduleRecord:
    """An hourly schedule of `w`, next due in a second."""
    values: dict[str, Any] = {
        "workflow_id": "w",
        "schedule_type": "recurring",
        "cron_expression": "0 * * * *",
        "at": None,
        "timezone": "UTC",
        "next_run_at": NOW + 1000,
        "last_run_at": None,
        "inputs": {},
        "metadata": {},
        "policy": {"overlap": "skip"},
        "origin": "here",
        "active": True,
        "reason": None,
        "created_at": NOW,
        "updated_at": NOW,
    }
    return ScheduleRecord(id=schedule_id, **(values | given))


def signal(signal_id: str = "g", execution_id: str = "e", **given: Any) -> SignalRecord:
    """A wish to cancel `e`."""
    values: dict[str, Any] = {"type": "cancel", "payload": {}, "created_at": NOW}
    return SignalRecord(id=signal_id, execution_id=execution_id, **(values | given))


def event(seq: int, *, payload: str = "{}") -> CheckpointRow:
    """A checkpoint to append."""
    return (seq, "completed", "a", 1, payload, NOW + seq)


def batch(execution_id: str, *seqs: int, **given: Any) -> Batch:
    """Events of one execution."""
    return Batch(execution_id, [event(seq) for seq in seqs], **given)


def populate(tx: Transaction, *executions: str) -> None:
    """The definition `d`, and pending executions of it."""
    put_version(tx, version())
    for each in executions:
        create(tx, new(each))


@asynccontextmanager
async def opened(url: str, *executions: str) -> AsyncGenerator[Store]:
    """The store, with these executions pending."""
    async with Store.open(url, monotonic=time.monotonic) as store:
        await store.write(populate, *executions)
        yield store


@asynccontextmanager
async def busy(store: Store) -> AsyncGenerator[None]:
    """Keep the writer busy inside the block, so that what is queued there makes one group."""
    entered, leave = threading.Event(), threading.Event()

    def wait(tx: Transaction) -> None:
        del tx
        entered.set()
        leave.wait()

    async with asyncio.TaskGroup() as group:
        group.create_task(store.write(wait))
        try:
            await eventually(entered.is_set, "the writer is busy")
            yield
        finally:
            leave.set()


async def outcomes(*waiting: Awaitable[Any]) -> list[Any]:
    """What each resolves to, or raises."""
    return list(await asyncio.gather(*waiting, return_exceptions=True))
