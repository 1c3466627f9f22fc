"""An execution that no event can be added to ends by its row, with all that an end brings."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from controller.app import App
from controller.core.execution import Failure
from controller.core.plan import Plan
from controller.execute.containing import hopeless, let_go
from controller.execute.running import PARK_AFTER
from controller.execute.worker import Worker
from controller.store import ledger
from controller.store.records import FINAL, ExecutionRecord
from controller.store.tables import Transaction
from tests.eventually import answered, eventually
from tests.fake_clock import START, FakeClock
from tests.service.place import opened
from tests.service.test_bugs import BROKEN
from tests.service.test_executions import opened as bare
from tests.service.test_executions import step

if TYPE_CHECKING:
    from controller.facts import Fact


@asynccontextmanager
async def _at_work(folder: Path, clock: FakeClock) -> AsyncGenerator[tuple[App, Worker]]:
    async with opened(folder, clock) as place, asyncio.TaskGroup() as tasks:
        worker = place.app.worker()
        place.app.on_ring(worker.wake)
        tasks.create_task(worker.run())
        try:
            yield place.app, worker
        finally:
            await worker.stop(0)


async def _nested(app: App) -> list[ExecutionRecord]:
    """The innermost of three, which waits, the one that started it, and the outermost."""
    create = app.service.create_workflow
    wait = step("a", "wait_for_signal", inputs={"name": "never"})
    await create({"name": "leaf", "steps": [wait]})
    leaf = {"id": "leaf", "type": "subflow", "subflow": "leaf"}
    go = step("go", "wait_for_signal", depends_on=[], inputs={"name": "go"})
    await create({"name": "mid", "steps": [leaf, go]})
    mid = {"id": "mid", "type": "subflow", "subflow": "mid"}
    await create({"name": "top", "steps": [mid]})
    top = await app.service.execute_workflow("top")
    found = [
        (await answered(partial(app.service.list_executions, name, "running"), bool))[0]
        for name in ("leaf", "mid")
    ]
    return [*found, top]


async def _trap(app: App, execution: str) -> None:
    """No event of it can be recorded any more."""
    trap = text(
        "CREATE TRIGGER trap BEFORE INSERT ON execution_checkpoints"
        f" WHEN new.execution_id = '{execution}' BEGIN SELECT RAISE(ABORT, 'trapped'); END"
    )
    await app.store.write(lambda tx: tx.execute(trap))


def _break(plan: Plan) -> None:
    """Nothing of it can be folded any more."""
    plan.steps["leaf"].when = BROKEN


@pytest.mark.parametrize("parked", [False, True])
async def test_it_takes_its_subflows_down_and_is_told_at_once(
    tmp_path: Path, clock: FakeClock, *, parked: bool
) -> None:
    """Whether it is in memory or only claimed again; nothing of it waits for the next look."""
    told: list[Fact] = []
    async with _at_work(tmp_path, clock) as (app, worker):
        over = await _nested(app)
        middle = over[1].id
        app.bus.subscribe(told.append)
        await eventually(lambda: worker.in_memory == 3, "they wait")
        await clock.advance(1_000)
        if parked:
            while worker.in_memory:
                await clock.advance(PARK_AFTER)
                await _read(app, over[0])
            _break(await app.catalog.plan_of(over[1]))
            await app.service.resume_execution(middle)
        else:
            await _trap(app, middle)
            await app.service.send_signal(middle, "go")
        ended = [await _ended(app, each.id) for each in over]
        lasted = clock.now() - START
        lines = await app.service.execution_logs(middle)
    assert [each.status for each in ended] == ["cancelled", "failed", "failed"]
    assert [(each.error or {}).get("type") for each in ended[1:]] == ["bug", "bug"]
    assert [each.duration for each in ended] == [lasted] * 3
    ends = [each for each in told if each.type in FINAL and each.execution == middle]
    assert [(str(each.type), each.data["duration"]) for each in ends] == [("failed", lasted)]
    assert [each.message.partition(": ")[0] for each in lines] == ["the execution failed"]


async def _ended(app: App, execution: str) -> ExecutionRecord:
    ask = partial(app.service.get_execution, execution)
    return await answered(ask, lambda record: record.status in FINAL, f"{execution} ends")


@asynccontextmanager
async def _full_when_left(app: App, execution: str) -> AsyncGenerator[None]:
    """Until the end of the block, the disk is full for whatever takes it from its owner."""

    def fill(tx: Transaction) -> None:
        pages = tx.execute(text("PRAGMA page_count")).scalar_one()
        tx.execute(text(f"PRAGMA max_page_count = {pages + 100}"))
        tx.execute(text("CREATE TABLE ballast (data BLOB)"))
        left = f"WHEN old.id = '{execution}' AND new.owner IS NULL"
        full = "BEGIN INSERT INTO ballast VALUES (zeroblob(10000000)); END"
        when = "BEFORE UPDATE OF owner ON workflow_executions"
        tx.execute(text(f"CREATE TRIGGER filled {when} {left} {full}"))

    await app.store.write(fill)
    try:
        yield
    finally:
        await app.store.write(lambda tx: tx.execute(text("PRAGMA max_page_count = 1000000")))


async def _waiting(app: App, worker: Worker) -> ExecutionRecord:
    """One that waits for two signals, in memory."""
    steps = [step(name, "wait_for_signal", inputs={"name": name}) for name in ("one", "two")]
    await app.service.create_workflow({"name": "w", "steps": steps})
    record = await app.service.execute_workflow("w")
    await eventually(lambda: worker.in_memory == 1 and not worker.busy, "it waits")
    return record


async def test_what_cannot_be_ended_now_is_ended_once_it_can(
    tmp_path: Path, clock: FakeClock
) -> None:
    """It stays in memory until then: who claimed it again would do again what it did."""
    async with _at_work(tmp_path, clock) as (app, worker):
        record = await _waiting(app, worker)
        await _trap(app, record.id)
        async with _full_when_left(app, record.id):
            await app.service.send_signal(record.id, "one")
            await eventually(lambda: app.store.unavailable, "the disk is full")
            assert (worker.in_memory, (await _read(app, record)).status) == (1, "running")
        await clock.advance(1_000)
        found = await _ended(app, record.id)
        await eventually(lambda: worker.in_memory == 0, "it has left")
    assert (found.status, (found.error or {})["type"], found.claims) == ("failed", "bug", 1)


async def test_what_is_let_go_of_is_free_once_the_database_takes_it(
    tmp_path: Path, clock: FakeClock
) -> None:
    """Nothing else is in memory, so nobody renews a lease and finds it by that."""
    async with _at_work(tmp_path, clock) as (app, worker):
        record = await _waiting(app, worker)
        async with _full_when_left(app, record.id):
            await app.store.write(ledger.fence, [record.id], "another", clock.now())
            await app.service.send_signal(record.id, "one")
            await eventually(lambda: app.store.unavailable, "the disk is full")
            assert (worker.in_memory, (await _read(app, record)).claims) == (0, 1)
        await app.service.send_signal(record.id, "two")
        await clock.advance(1_000)
        found = await _ended(app, record.id)
    assert (found.status, found.claims) == ("completed", 2)


async def _read(app: App, record: ExecutionRecord) -> ExecutionRecord:
    return await app.service.get_execution(record.id)


async def test_only_who_has_it_by_that_claim_ends_it_or_lets_go(tmp_path: Path) -> None:
    """Whoever had it, or had it before, changes nothing."""
    async with bare(tmp_path) as app:
        await app.service.create_workflow({"name": "w", "steps": [step("a", "set")]})
        made = await app.service.execute_workflow("w")

        def claimed(tx: Transaction) -> ExecutionRecord:
            [record] = ledger.claim(tx, "o", lease_until=2**50, now=made.created_at, limit=1)
            return record

        failure = Failure(step=None, type="bug", message="m")
        first = await app.store.write(claimed)
        await app.store.write(let_go, first, "another")
        assert await _read(app, made) == first
        await app.store.write(let_go, first, "o")
        second = await app.store.write(claimed)
        for record, owner in ((first, "o"), (second, "another")):
            assert not await app.store.write(hopeless, record, failure, owner, 1)
            await app.store.write(let_go, record, owner)
        assert await _read(app, made) == second
        assert await app.store.write(hopeless, second, failure, "o", made.created_at)
        assert not await app.store.write(hopeless, second, failure, "o", made.created_at)
        assert (await _read(app, made)).status == "failed"
