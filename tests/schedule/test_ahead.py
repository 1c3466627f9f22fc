"""Many fires are written before they are due, and durable when they are."""

import asyncio
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path

import pytest

from controller.core.plan import Plan
from controller.core.problem import Unavailable
from controller.execute.making import FEW, Maker
from controller.execute.running import SLICE
from controller.execute.taking import Taken
from controller.execute.worker import Worker
from controller.facts import Fact, FactType
from controller.schedule import AHEAD_OF_EACH, SOON
from controller.store.records import ExecutionRecord
from controller.store.store import Store
from tests.eventually import eventually
from tests.fake_clock import START, FakeClock, settle
from tests.schedule.test_begun import hourly, kinds, shares_of, working
from tests.schedule.test_scheduler import HOUR, Time

MANY = 100
AHEAD = int(MANY * AHEAD_OF_EACH)
DUE = START + HOUR


@asynccontextmanager
async def written(
    folder: Path, clock: FakeClock, *, limit: int = 1_000
) -> AsyncGenerator[tuple[Time, Worker, asyncio.Task[int]]]:
    """A hundred fires a moment before they are due, when they have been written."""
    async with working(folder, clock) as (time, worker):
        worker._limit = limit
        await hourly(time, MANY)
        assert await time.scheduler.turn() < DUE - SOON
        await clock.advance(HOUR - SOON)
        most = min(limit, MANY)
        assert await time.scheduler.turn() == DUE - int(most * AHEAD_OF_EACH)
        await clock.advance(SOON - int(most * AHEAD_OF_EACH))
        turn, moments = asyncio.create_task(time.scheduler.turn()), held(time.app.store)
        await eventually(lambda: moments, "they are written")
        assert moments == [pytest.approx(clock.monotonic() + (DUE - clock.now()) / 1000)]
        try:
            yield time, worker, turn
        finally:
            turn.cancel()
            await asyncio.gather(turn, return_exceptions=True)


def held(store: Store) -> list[float]:
    """The moments, monotonic seconds, for which the writer waits from now on."""
    moments: list[float] = []
    wait = store._journal._wait

    def noted(moment: float) -> None:
        moments.append(moment)
        wait(moment)

    store._journal._wait = noted  # type: ignore[method-assign]  # looked at
    return moments


def is_locked(store: Store) -> bool:
    """Whether somebody writes."""
    assert store.path is not None
    with closing(sqlite3.connect(store.path, timeout=0, isolation_level=None)) as other:
        try:
            other.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
    return False


async def test_many_fires_are_written_before_they_are_due_and_begin_when_they_are(
    tmp_path: Path, clock: FakeClock
) -> None:
    """Nobody sees one before; then all begin at once, and count as started when they were due."""
    async with written(tmp_path, clock) as (time, worker, turn):
        assert await time.executions() == []
        assert "fired" not in kinds(time)
        await clock.advance(AHEAD - 1)
        assert is_locked(time.app.store)
        assert await time.executions() == []
        await clock.advance(1)
        await turn
        await eventually(lambda: kinds(time).count("completed") == MANY, "all have ended")
        found = await time.executions()
        assert {(each.due_at, each.created_at, each.started_at, each.claims) for each in found} == {
            (DUE, DUE, DUE, 1)
        }
        assert len(found) == MANY
        assert {each.at for each in time.heard if each.type is FactType.FIRED} == {DUE}
        assert worker.in_memory == 0


async def test_what_is_written_is_made_while_its_moment_is_waited_for(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then its definition is not asked for; nothing that was made stays."""
    async with written(tmp_path, clock) as (time, worker, turn):
        ready = worker._maker._ready
        await eventually(lambda: len(ready) == MANY, "all are made")

        async def gone(_: ExecutionRecord) -> Plan:  # ruff: ignore[unused-async]  # awaited
            raise Unavailable("gone")

        monkeypatch.setattr(time.app.catalog, "plan_of", gone)
        await clock.advance(AHEAD)
        await turn
        await eventually(lambda: kinds(time).count("completed") == MANY, "all have ended")
        assert not ready


async def test_what_was_made_for_another_claim_is_not_used(
    tmp_path: Path, clock: FakeClock
) -> None:
    """What was written then may not be what is recorded now."""
    async with written(tmp_path, clock) as (_, worker, turn):
        await eventually(lambda: len(worker._maker._ready) == MANY, "all are made")
        first, second, *_ = worker._maker._ready.values()
        assert await worker._maker.make(Taken(first.record)) is first
        other = replace(second.record, claims=2)
        made = await worker._maker.make(Taken(other))
        assert made is not None
        assert made.record is other
        turn.cancel()
        await asyncio.gather(turn, return_exceptions=True)
        assert not worker._maker._ready, "it never comes"


async def test_whoever_begins_waits_for_none_to_be_made(tmp_path: Path, clock: FakeClock) -> None:
    """A few are made at a time; when the moment has come, no more are."""
    async with written(tmp_path, clock) as (time, worker, _):
        await eventually(lambda: len(worker._maker._ready) == MANY, "all are made")
        records = [each.record for each in worker._maker._ready.values()]
        maker = Maker(time.app.catalog, worker)
        maker.make_ready(records)
        await asyncio.sleep(0)
        assert len(maker._ready) == FEW
        assert await maker.make(Taken(records[-1])) is not None
        await settle()
        assert len(maker._ready) == FEW


async def test_only_what_there_is_room_for_is_written_before(
    tmp_path: Path, clock: FakeClock
) -> None:
    """The others are recorded as room is made, and none of them twice."""
    async with written(tmp_path, clock, limit=40) as (time, worker, turn):
        shares = shares_of(worker)
        await clock.advance(SOON)
        await turn
        assert shares == [40, 20], "the first forty had been asked for"
        assert len(await time.executions()) == MANY


async def test_a_worker_that_stops_before_the_moment_begins_none_of_them(
    tmp_path: Path, clock: FakeClock
) -> None:
    """They are recorded as fired when they are due, for whoever comes next."""
    async with written(tmp_path, clock) as (time, worker, turn):
        stopping = asyncio.create_task(worker.stop(0))
        while not stopping.done():
            await clock.advance(20)
        await turn
        found = await time.executions()
        assert {(each.status, each.owner, each.claims) for each in found} == {("pending", None, 0)}
        assert (len(found), kinds(time).count("fired")) == (MANY, MANY)
        assert "executed" not in kinds(time)


async def test_a_store_that_is_closed_before_the_moment_has_no_fire(
    tmp_path: Path, clock: FakeClock
) -> None:
    """As after a crash: whoever comes next fires them, each once."""
    async with written(tmp_path, clock) as (time, _, turn):
        await time.app.store._journal.close()
        with pytest.raises(Exception, match="closed"):
            await turn
        assert await time.executions() == []
        url = f"sqlite:///{time.app.store.path}"
        async with Store.open(url, monotonic=clock.monotonic) as store:
            assert not is_locked(store)


async def test_few_fires_are_written_when_they_are_due(tmp_path: Path, clock: FakeClock) -> None:
    """Nobody is kept from writing for what takes no time."""
    async with working(tmp_path, clock) as (time, _):
        await hourly(time, 3)
        await clock.advance(HOUR - SOON)
        assert await time.scheduler.turn() == DUE


async def test_others_have_a_turn_while_many_begin(tmp_path: Path, clock: FakeClock) -> None:
    """Whoever asks a controller something waits for a slice of them, not for all."""
    async with working(tmp_path, clock) as (time, worker):
        worker._limit = 1_000
        await hourly(time, SLICE * 2)
        await clock.advance(HOUR - SOON)
        await time.scheduler.turn()
        await clock.advance(SOON - int(SLICE * 2 * AHEAD_OF_EACH))
        turn, moments = asyncio.create_task(time.scheduler.turn()), held(time.app.store)
        await eventually(lambda: moments, "they are written")
        seen: list[int] = []
        loop = asyncio.get_running_loop()

        def look(fact: Fact) -> None:
            if fact.type is FactType.FIRED:
                loop.call_soon(lambda: seen.append(kinds(time).count("fired")))

        time.app.bus.subscribe(look)
        await clock.advance(SOON)
        await turn
        assert min(seen) <= SLICE
