"""Fires are prepared a moment before they are due; what changes in that moment still counts."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from controller.schedule import SOON
from tests.fake_clock import START, FakeClock
from tests.schedule.test_scheduler import HOUR, MINUTE, Time, opened, schedule

STEPS = [{"id": "a", "type": "action", "action": "set"}]
HOURLY = [{"type": "scheduled", "config": {"cron": "0 * * * *"}}]


@asynccontextmanager
async def prepared(folder: Path, clock: FakeClock) -> AsyncGenerator[Time]:
    """An hourly schedule a moment before it fires, when the loop has prepared that."""
    async with opened(folder, clock) as time:
        await schedule(time, cron="0 * * * *")
        assert await time.scheduler.turn() == START + MINUTE
        await clock.advance(HOUR - SOON)
        assert await time.scheduler.turn() == START + HOUR
        assert len(time.scheduler._ahead) == 1
        yield time


async def update(time: Time, **fields: Any) -> None:
    """Another definition of `w`, with the same schedule."""
    definition = {"name": "w", "steps": STEPS, "triggers": HOURLY}
    await time.app.service.update_workflow("w", definition | fields)


async def test_what_was_prepared_fires_when_it_is_due(tmp_path: Path, clock: FakeClock) -> None:
    """Not before, and once."""
    async with prepared(tmp_path, clock) as time:
        assert await time.executions() == []
        await time.passes(SOON + MINUTE)
        assert [each.due_at for each in await time.executions()] == [START + HOUR]
        assert time.scheduler._ahead == []


async def test_a_definition_that_changes_meanwhile_is_executed(
    tmp_path: Path, clock: FakeClock
) -> None:
    """The version at the due time is what counts."""
    async with prepared(tmp_path, clock) as time:
        await update(time, version="2.0.0")
        await time.passes(SOON)
        assert [each.workflow_version for each in await time.executions()] == ["2.0.0"]


async def test_a_workflow_that_becomes_inactive_meanwhile_does_not_fire(
    tmp_path: Path, clock: FakeClock
) -> None:
    """Nor does one whose schedule is cancelled or paused."""
    async with prepared(tmp_path / "inactive", clock) as time:
        await update(time, status="inactive")
        await time.passes(SOON)
        assert await time.executions() == []
    for number in range(2):
        late = FakeClock()
        async with prepared(tmp_path / str(number), late) as time:
            [record] = await time.app.service.list_schedules()
            service = time.app.service
            stop = service.cancel_scheduled_workflow if number else service.pause_schedule
            await stop(record.id)
            await time.passes(SOON)
            assert await time.executions() == []


async def test_a_machine_that_falls_asleep_meanwhile_misses_the_fire(
    tmp_path: Path, clock: FakeClock
) -> None:
    """What was prepared is no excuse to be late by more than the grace."""
    async with prepared(tmp_path, clock) as time:
        clock.jump(30 * MINUTE)
        await time.scheduler.turn()
        assert await time.executions() == []
        assert time.left_out() == ["missed"]
