"""What fires begins at once where there is room: no claim, and no wait for one."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from controller.core.plan import Plan, StepPlan
from controller.core.problem import Unavailable
from controller.execute.action import Call
from controller.execute.worker import Worker
from controller.facts import Fact, FactType
from controller.fires import Fired
from controller.schedule import FIRST_BEGUN
from controller.store import ledger
from controller.store.records import Batch, Claimant, ExecutionRecord
from controller.store.tables import Transaction
from tests.eventually import eventually
from tests.fake_clock import FakeClock
from tests.schedule.test_scheduler import HOUR, Time, opened, schedule
from tests.store.sample import busy


@asynccontextmanager
async def working(folder: Path, clock: FakeClock) -> AsyncGenerator[tuple[Time, Worker]]:
    """A worker beside the loop of time, whose turns the test makes."""
    async with opened(folder, clock) as time:
        worker = time.app.worker()
        time.scheduler = time.restart(worker)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(worker.run())
            await eventually(lambda: worker.room > 0, "the worker is there")
            try:
                yield time, worker
            finally:
                stopping = tasks.create_task(worker.stop(0))
                while not stopping.done():
                    await clock.advance(100)


async def test_a_fire_begins_as_it_is_recorded(tmp_path: Path, clock: FakeClock) -> None:
    """It is told as fired before it is told as begun; it was claimed once, by this controller."""
    async with working(tmp_path, clock) as (time, worker):
        await schedule(time, cron="0 * * * *")
        await clock.advance(HOUR)
        await time.scheduler.turn()
        await eventually(lambda: FactType.COMPLETED in kinds(time), "it has ended")
        order = [each for each in kinds(time) if each in {"fired", "executed", "completed"}]
        assert order == ["fired", "executed", "completed"]
        [record] = await time.executions()
        assert (record.claims, record.started_at) == (1, clock.now())
        assert worker.in_memory == 0


async def hourly(time: Time, count: int) -> None:
    """A workflow with so many schedules, which fire every hour."""
    steps = [{"id": "a", "type": "action", "action": "set"}]
    triggers = [
        {"type": "scheduled", "config": {"cron": "0 * * * *", "inputs": {"number": number}}}
        for number in range(count)
    ]
    given = {"inputs": [{"name": "number", "type": "integer"}], "triggers": triggers}
    await time.app.service.create_workflow({"name": "w", "steps": steps} | given)


def shares_of(worker: Worker) -> list[int]:
    """How many executions the worker is asked to begin together, each time from now on."""
    asked: list[int] = []
    create = worker.create

    async def noted(verb: Any, begun: Any, most: int, moment: float | None = None) -> Any:
        asked.append(most)
        return await create(verb, begun, most, moment)

    worker.create = noted  # type: ignore[method-assign,assignment]  # looked at
    return asked


def kinds(time: Time) -> list[str]:
    """What was told, in order."""
    return [str(each.type) for each in time.heard]


async def test_all_that_is_due_is_recorded_before_what_the_first_ones_do(
    tmp_path: Path, clock: FakeClock
) -> None:
    """The first begin while the others are recorded, whose fires wait for nobody's end."""
    async with working(tmp_path, clock) as (time, worker):
        worker._limit, shares = 1_000, shares_of(worker)
        await hourly(time, FIRST_BEGUN * 2)
        await clock.advance(HOUR)
        await time.scheduler.turn()
        assert shares == [FIRST_BEGUN, FIRST_BEGUN]
        order = [each for each in kinds(time) if each in {"fired", "executed"}]
        assert order == ["fired", "executed"] * FIRST_BEGUN * 2
        last = max(position for position, kind in enumerate(kinds(time)) if kind == "fired")
        assert "completed" not in kinds(time)[:last]


async def test_all_that_fires_begins_before_what_follows_from_the_first(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every action is called before any result is dealt with; then all are, and recorded."""
    async with working(tmp_path, clock) as (time, worker):
        await hourly(time, 3)
        order: list[str] = []
        perform, append = worker.performer.perform, worker.store.append

        def performed(step: StepPlan, call: Call, inputs: dict[str, Any]) -> Any:
            order.append("called")
            return perform(step, call, inputs)

        def appended(batch: Batch) -> asyncio.Future[None]:
            order.append("recorded")
            return append(batch)

        monkeypatch.setattr(worker.performer, "perform", performed)
        monkeypatch.setattr(worker.store, "append", appended)
        await clock.advance(HOUR)
        await time.scheduler.turn()
        await eventually(lambda: kinds(time).count("completed") == 3, "all have ended")
        assert order == ["called"] * 3 + ["recorded"] * 3
        assert (worker.busy, worker.in_memory, worker.rushed) == (0, 0, False)


async def test_what_cannot_begin_now_is_told_as_fired_all_the_same(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is recorded; a database that does not answer is asked for its definition again."""
    async with working(tmp_path, clock) as (time, worker):
        await hourly(time, 3)
        await clock.advance(HOUR)

        async def gone(_: ExecutionRecord) -> Plan:  # ruff: ignore[unused-async]  # awaited
            raise Unavailable("gone")

        monkeypatch.setattr(time.app.catalog, "plan_of", gone)
        await time.scheduler.turn()
        assert kinds(time).count("fired") == 3
        assert "executed" not in kinds(time)
        monkeypatch.undo()
        worker.wake()
        while kinds(time).count("completed") < 3:  # it waits a second where it had asked again
            await clock.advance(20)


async def test_what_fires_while_the_worker_stops_is_pending(
    tmp_path: Path, clock: FakeClock
) -> None:
    """It was claimed and never began: whoever comes next begins it, for the first time."""
    async with working(tmp_path, clock) as (time, worker):
        await schedule(time, cron="0 * * * *")
        await clock.advance(HOUR)
        looked = await time.scheduler._look(
            await time.app.store.read(ledger.due, clock.now(), 9), clock.now()
        )
        async with busy(time.app.store):
            firing = asyncio.create_task(time.scheduler._fire(looked, clock.now()))
            await clock.advance(0)
            worker.stopping = True
        await firing
        [record] = await time.executions()
        assert (record.status, record.owner, record.claims) == ("pending", None, 0)
        assert worker.in_memory == 0


async def test_without_room_what_fires_waits(tmp_path: Path, clock: FakeClock) -> None:
    """A worker without room leaves what fires pending; it is claimed in its turn."""
    async with working(tmp_path, clock) as (time, worker):
        await schedule(time, cron="0 * * * *")
        await clock.advance(HOUR)
        worker._limit = 0
        await time.scheduler.turn()
        [record] = await time.executions()
        assert record.status == "pending"
        worker._limit = 1
        worker.wake()
        await eventually(lambda: FactType.COMPLETED in kinds(time), "it was claimed")


async def test_what_ends_at_once_makes_room_for_what_is_due_too(
    tmp_path: Path, clock: FakeClock
) -> None:
    """With room for two, six fires begin two by two: none of them waits to be claimed."""
    async with working(tmp_path, clock) as (time, worker):
        worker._limit, shares = 2, shares_of(worker)
        await hourly(time, 6)
        await clock.advance(HOUR)
        await time.scheduler.turn()
        assert shares == [2, 2, 2]
        order = [each for each in kinds(time) if each in {"fired", "executed"}]
        assert order == ["fired", "executed"] * 6


async def test_who_looks_for_something_to_claim_takes_no_room(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fire that comes while the worker looks begins at once, not in its turn."""
    async with working(tmp_path, clock) as (time, worker):
        await schedule(time, cron="0 * * * *")
        looks, looked, read = asyncio.Event(), asyncio.Event(), worker.store.read

        async def slow(query: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            if query is ledger.claimable:
                looks.set()
                await looked.wait()
            return await read(query, *args, **kwargs)

        monkeypatch.setattr(worker.store, "read", slow)
        await clock.advance(HOUR)
        worker.wake()
        await looks.wait()
        try:
            await time.scheduler.turn()
        finally:
            looked.set()
        order = [each for each in kinds(time) if each in {"fired", "executed"}]
        assert order == ["fired", "executed"]


async def test_room_is_given_once(tmp_path: Path, clock: FakeClock) -> None:
    """While somebody creates what is to begin, its room is nobody else's; then it is free again."""
    async with working(tmp_path, clock) as (_, worker):
        worker._limit = 3
        rooms: list[int] = []

        def record(_: Transaction, by: Claimant | None) -> Fired:
            rooms.append(by.room if by is not None else 0)
            return Fired([], [], pending=False)

        await asyncio.gather(*(worker.create(record, lambda _: ()) for _ in range(2)))
        assert (rooms, worker.room) == ([3, 0], 3)


async def test_what_begins_while_the_worker_stops_is_released(
    tmp_path: Path, clock: FakeClock
) -> None:
    """The stop comes amid the beginning, which reads the definition: nobody's lease is left."""
    async with working(tmp_path, clock) as (time, worker):
        step = {"id": "a", "type": "action", "action": "shell", "inputs": {"command": "sleep 60"}}
        hourly = {"type": "scheduled", "config": {"cron": "0 * * * *"}}
        await time.app.service.create_workflow({"name": "w", "steps": [step], "triggers": [hourly]})
        await clock.advance(HOUR)
        stops: list[asyncio.Task[None]] = []

        def stop(fact: Fact) -> None:
            if fact.type == FactType.FIRED:
                time.app.catalog._versions.clear()
                stops.append(asyncio.create_task(worker.stop(0)))

        time.app.bus.subscribe(stop)
        await time.scheduler.turn()
        [stopping] = stops
        while not stopping.done():
            await clock.advance(100)
        [record] = await time.executions()
        assert (record.status, record.owner) == ("running", None)
