"""The loop of time on a real database and a clock that stands still: each fire once."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from controller.app import App
from controller.core.problem import Refused
from controller.execute.worker import Worker
from controller.facts import Fact, FactType
from controller.pruning import Leftovers, Pruner
from controller.schedule import Scheduler
from controller.settings import Settings
from controller.store import Store, ledger
from controller.store.records import AuditRecord, ExecutionRecord
from controller.store.retention import Keep
from tests.eventually import answered
from tests.fake_clock import START, FakeClock

MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR


class Time:
    """An app with a scheduler whose turns the test makes."""

    def __init__(self, app: App, clock: FakeClock) -> None:
        self.app = app
        self.clock = clock
        self.heard: list[Fact] = []
        app.bus.subscribe(self.heard.append)
        self.scheduler = self.restart()

    def restart(self, worker: Worker | None = None) -> Scheduler:
        """A scheduler that knows nothing, as after a restart of the daemon."""
        self.scheduler = Scheduler(
            store=self.app.store,
            clock=self.clock,
            bus=self.app.bus,
            gate=self.app.gate,
            executor=worker or self.app.worker(),
        )
        return self.scheduler

    async def passes(self, milliseconds: int) -> None:
        """Let time pass, with a look at each moment the scheduler asked for."""
        end = self.clock.now() + milliseconds
        following = await self.scheduler.turn()
        while following <= end:
            await self.clock.advance(max(following - self.clock.now(), 1))
            following = await self.scheduler.turn()
        await self.clock.advance(max(end - self.clock.now(), 0))
        await self.scheduler.turn()

    async def executions(self) -> list[ExecutionRecord]:
        """All of them, by due time."""
        found = await self.app.service.list_executions(limit=1000)
        return sorted(found, key=lambda each: each.due_at or 0)

    def left_out(self) -> list[str]:
        """Reasons of the fires that made no execution."""
        return [str(each.data["reason"]) for each in self.heard if each.type is FactType.MISFIRED]


@asynccontextmanager
async def opened(folder: Path, clock: FakeClock) -> AsyncGenerator[Time]:
    """The parts on a database of the test's own."""
    settings = Settings(state_dir=folder)
    async with Store.open(settings.url, monotonic=clock.monotonic) as store:
        app = App(settings, store, clock)
        try:
            yield Time(app, clock)
        finally:
            await app.close()


async def schedule(time: Time, **config: Any) -> None:
    """A workflow with one scheduled trigger."""
    steps = [{"id": "a", "type": "action", "action": "set"}]
    triggers = [{"type": "scheduled", "config": config}]
    await time.app.service.create_workflow({"name": "w", "steps": steps, "triggers": triggers})


async def test_a_schedule_fires_at_each_due_time(tmp_path: Path, clock: FakeClock) -> None:
    """Every quarter of an hour for two hours: eight executions, each with its due time."""
    async with opened(tmp_path, clock) as time:
        await schedule(time, cron="*/15 * * * *", overlap="allow")
        await time.passes(2 * HOUR)
        due = [each.due_at for each in await time.executions()]
        assert due == [START + 15 * MINUTE * number for number in range(1, 9)]


async def test_a_fire_is_one_execution_whoever_looks(tmp_path: Path, clock: FakeClock) -> None:
    """Two schedulers that look at the same due schedule make one execution."""
    async with opened(tmp_path, clock) as time:
        await schedule(time, cron="0 * * * *")
        await clock.advance(HOUR)
        first, second = time.scheduler, time.restart()
        due = await time.app.store.read(ledger.due, clock.now(), 10)
        await first._fire(await first._look(due, clock.now()), clock.now())
        await second._fire(await second._look(due, clock.now()), clock.now())
        assert len(await time.executions()) == 1


async def test_an_execution_that_runs_is_not_joined_by_another(
    tmp_path: Path, clock: FakeClock
) -> None:
    """`overlap: skip`, the default: fires are left out while one has not ended, and say so."""
    async with opened(tmp_path, clock) as time:
        await schedule(time, cron="*/10 * * * *")
        await time.passes(30 * MINUTE)
        assert len(await time.executions()) == 1
        assert time.left_out() == ["skip-queued", "skip-queued"]


async def test_queue_one_keeps_one_waiting(tmp_path: Path, clock: FakeClock) -> None:
    """One pending execution at most; they go one after another."""
    async with opened(tmp_path, clock) as time:
        await schedule(time, cron="*/10 * * * *", overlap="queue_one")
        await time.passes(40 * MINUTE)
        found = await time.executions()
        assert len(found) == 1
        assert found[0].queue == f"schedule {found[0].schedule_id}"


async def test_missed_fires_are_made_up_as_far_as_catchup_says(
    tmp_path: Path, clock: FakeClock
) -> None:
    """Down for six hours with `catchup: 3h`: those of the last three are made up, two are not."""
    async with opened(tmp_path, clock) as time:
        await schedule(time, cron="0 * * * *", catchup="3h", overlap="allow")
        await clock.advance(6 * HOUR)
        time.restart()
        await time.scheduler.turn()
        due = [each.due_at for each in await time.executions()]
        assert due == [START + hour * HOUR for hour in (3, 4, 5, 6)]
        assert [each.data["count"] for each in time.heard if each.data.get("count")] == [2]


async def test_without_catchup_only_what_is_fresh_is_made_up(
    tmp_path: Path, clock: FakeClock
) -> None:
    """Down over a due time by more than a minute: it is left out; by less: it fires."""
    async with opened(tmp_path, clock) as time:
        await schedule(time, cron="0 * * * *")
        await clock.advance(HOUR + 2 * MINUTE)
        await time.restart().turn()
        assert await time.executions() == []
        assert time.left_out() == ["missed"]
        await clock.advance(58 * MINUTE + 30_000)
        await time.restart().turn()
        assert [each.due_at for each in await time.executions()] == [START + 2 * HOUR]


async def test_a_clock_set_back_fires_nothing_twice(tmp_path: Path, clock: FakeClock) -> None:
    """The clock goes back an hour after a fire: the same due time makes no second execution."""
    async with opened(tmp_path, clock) as time:
        await schedule(time, cron="0 * * * *", overlap="allow")
        await time.passes(HOUR)
        clock.jump(-HOUR + MINUTE)
        time.restart()
        await time.passes(HOUR)
        due = [each.due_at or 0 for each in await time.executions()]
        assert due == sorted(set(due))
        assert due[0] == START + HOUR


async def test_once_fires_once(tmp_path: Path, clock: FakeClock) -> None:
    """`--at`: one execution, then the schedule has ended."""
    async with opened(tmp_path, clock) as time:
        steps = [{"id": "a", "type": "action", "action": "set"}]
        await time.app.service.create_workflow({"name": "w", "steps": steps})
        await time.app.service.schedule_workflow("w", at="2026-01-01T03:00:00Z")
        await time.passes(DAY)
        assert [each.due_at for each in await time.executions()] == [START + 3 * HOUR]
        assert await time.app.service.list_schedules() == []


async def test_jitter_delays_and_keeps_the_due_time(tmp_path: Path, clock: FakeClock) -> None:
    """The execution is created late by up to the jitter; what it is unique by is the due time."""
    async with opened(tmp_path, clock) as time:
        await schedule(time, cron="0 * * * *", jitter="20m", overlap="allow")
        await time.passes(5 * HOUR + 30 * MINUTE)
        found = await time.executions()
        assert [each.due_at for each in found] == [START + hour * HOUR for hour in range(1, 6)]
        late = [each.created_at - (each.due_at or 0) for each in found]
        assert all(0 <= each <= 20 * MINUTE for each in late)
        assert len(set(late)) > 1


async def test_more_jitter_than_time_between_leaves_nothing_out(
    tmp_path: Path, clock: FakeClock
) -> None:
    """Each fires, late by no more than the jitter, none before the one before it."""
    async with opened(tmp_path, clock) as time:
        await schedule(time, cron="*/5 * * * *", jitter="20m", overlap="allow")
        await time.passes(10 * HOUR)
        found = await time.executions()
        assert [each.due_at for each in found] == [
            START + 5 * MINUTE * number for number in range(1, len(found) + 1)
        ]
        assert len(found) >= 10 * 12 - 4
        assert all(each.created_at - (each.due_at or 0) <= 20 * MINUTE for each in found)
        assert time.left_out() == []


async def test_what_is_missed_is_told_once(tmp_path: Path, clock: FakeClock) -> None:
    """Also where the one that is made up still waits for its jitter."""
    async with opened(tmp_path, clock) as time:
        await schedule(time, cron="0 * * * *", jitter="50m", overlap="allow")
        await clock.advance(6 * HOUR + MINUTE)
        await time.passes(HOUR - 2 * MINUTE)
        missed = [each.data["count"] for each in time.heard if each.type is FactType.MISFIRED]
        assert (missed, len(await time.executions())) == ([5], 1)


async def test_a_schedule_that_cannot_be_is_refused(tmp_path: Path, clock: FakeClock) -> None:
    """30 February, a zone nobody knows, both or neither of cron and at."""
    async with opened(tmp_path, clock) as time:
        steps = [{"id": "a", "type": "action", "action": "set"}]
        await time.app.service.create_workflow({"name": "w", "steps": steps})
        wrong: tuple[dict[str, Any], ...] = (
            {"cron": "0 0 30 2 *"},
            {"cron": "0 0 * * *", "timezone": "Mars/Olympus"},
            {"cron": "0 0 * * *", "at": "2027-01-01"},
            {},
        )
        for config in wrong:
            with pytest.raises(Refused):
                await time.app.service.schedule_workflow("w", **config)


async def test_what_is_not_kept_is_pruned_while_time_passes(
    tmp_path: Path, clock: FakeClock
) -> None:
    """Executions over their bounds, old audit entries, stopped schedules; nothing that is kept."""
    async with opened(tmp_path, clock) as time:
        await schedule(time, cron="0 * * * *", overlap="allow")
        await time.passes(2 * HOUR)
        for each in await time.executions():
            await time.app.service.cancel_execution(each.id)
        [record] = await time.app.service.list_schedules()
        await time.app.service.cancel_scheduled_workflow(record.id)
        leftovers = Leftovers(audits=2, unused=2)
        pruner = Pruner(time.app.store, clock, Keep(days=2), leftovers)
        await time.passes(DAY)
        await pruner.prune(clock.now())
        assert len(await time.executions()) == 2
        assert len(await time.app.service.list_schedules(stopped=True)) == 1
        clock.jump(2 * DAY)
        await time.passes(HOUR)
        await pruner.prune(clock.now())
        assert await time.executions() == []
        assert await time.app.service.list_schedules(stopped=True) == []
        assert await time.app.store.read(ledger.audits) == []
        assert [each.name for each in await time.app.service.list_workflows()] == ["w"]


async def test_what_is_over_leaves_memory(tmp_path: Path, clock: FakeClock) -> None:
    """However many times people ask for, one after another."""
    async with opened(tmp_path, clock) as time:
        await schedule(time, at="2026-01-01T00:30:00Z")
        await time.app.service.schedule_workflow("w", at="2026-01-01T01:00:00Z")
        kept = (await time.app.service.schedule_workflow("w", cron="0 * * * *")).id
        await time.passes(2 * HOUR)
        assert len(await time.executions()) == 3
        assert list(time.scheduler._timetables) == [kept]


async def test_pruning_goes_on_by_itself_until_it_is_stopped(
    tmp_path: Path, clock: FakeClock
) -> None:
    """Every so often, and again after a time in which there was nothing; then nothing goes."""
    async with opened(tmp_path, clock) as time, asyncio.TaskGroup() as tasks:
        store = time.app.store
        pruner = Pruner(store, clock, Keep(), Leftovers(audits=1, every=HOUR))
        running = tasks.create_task(pruner.run())
        for _ in range(2):
            await store.write(ledger.audit, AuditRecord(clock.now(), "me", "x", None, {}))
            clock.jump(2 * DAY)
            await clock.advance(HOUR - 1)
            for _ in range(5):
                await store.write(lambda _: None)
            assert len(await store.read(ledger.audits)) == 1
            await clock.advance(1)
            await answered(lambda: store.read(ledger.audits), lambda found: found == [], "it goes")
        await store.write(ledger.audit, AuditRecord(clock.now(), "me", "x", None, {}))
        clock.jump(2 * DAY)
        pruner.stop()
        await running
        await pruner.prune(clock.now())
        assert len(await store.read(ledger.audits)) == 1
