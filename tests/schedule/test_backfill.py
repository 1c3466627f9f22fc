"""Fires made up by hand, beside the loop that fires by itself."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from controller.backfill import Backfill, Backfilled
from controller.core.problem import Refused
from controller.store import ledger
from tests.fake_clock import START, FakeClock
from tests.schedule.test_scheduler import DAY, HOUR, MINUTE, Time, opened, schedule


async def backfill(time: Time, since: int, until: int, **more: Any) -> Backfilled:
    """The range of `w`, in milliseconds from the start."""
    return await time.app.service.backfill(
        Backfill(START + since, START + until, **({"workflow": "w"} | more))
    )


async def claimed(time: Time) -> list[int]:
    """The due times of what a worker would start now, in hours from the start."""
    now = time.clock.now()
    found = await time.app.store.write(ledger.claim, "o", lease_until=now, now=now, limit=99)
    return [((each.due_at or 0) - START) // HOUR for each in found]


async def test_what_did_not_fire_is_made_up_and_what_did_is_left(
    tmp_path: Path, clock: FakeClock
) -> None:
    """From the first moment on, up to the last and without it; asked twice, created once."""
    async with opened(tmp_path, clock) as time:
        await schedule(time, cron="0 * * * *", overlap="allow")
        await time.passes(2 * HOUR)
        done = await backfill(time, -HOUR, 2 * HOUR)
        assert [(each.due_at, each.result) for each in done.fires] == [
            (START - HOUR, "created"),
            (START, "created"),
            (START + HOUR, "exists"),
        ]
        again = await backfill(time, -HOUR, 2 * HOUR)
        assert again.count("exists") == 3
        assert [each.execution_id for each in again.fires] == [
            each.execution_id for each in done.fires
        ]
        [one] = [each for each in await time.executions() if each.due_at == START]
        assert one.trigger["backfill"] is True
        assert len(await time.executions()) == 4


async def test_nothing_to_come_is_made_up(tmp_path: Path, clock: FakeClock) -> None:
    """The range ends now at the latest; one without a past is refused."""
    async with opened(tmp_path, clock) as time:
        await schedule(time, cron="0 * * * *")
        done = await backfill(time, -2 * HOUR, DAY)
        assert [each.due_at - START for each in done.fires] == [-2 * HOUR, -HOUR, 0]
        assert done.until_at == START + 1
        for since, until in ((HOUR, DAY), (0, 0), (-1, -2)):
            with pytest.raises(Refused, match="no past"):
                await backfill(time, since, until)


async def test_a_made_up_fire_does_not_fire_again(tmp_path: Path, clock: FakeClock) -> None:
    """A due time the loop has not come to yet, made up: the loop leaves it, and is not in its way.

    `cancel_running` must not cancel the execution of the very same fire.
    """
    async with opened(tmp_path, clock) as time:
        await schedule(time, cron="0 * * * *", overlap="cancel_running")
        await clock.advance(HOUR)
        await backfill(time, HOUR, 2 * HOUR)
        await time.scheduler.turn()
        [one] = await time.executions()
        assert one.status == "pending"
        assert time.left_out() == []


@pytest.mark.parametrize("policy", ["skip", "queue_one", "queue_all", "cancel_running"])
async def test_made_up_fires_go_one_after_another(
    tmp_path: Path, clock: FakeClock, policy: str
) -> None:
    """By due time, one at a time; the next fire does not wait for them, and leaves them alone."""
    async with opened(tmp_path, clock) as time:
        await schedule(time, cron="0 * * * *", overlap=policy)
        await backfill(time, -3 * HOUR, 0)
        assert await claimed(time) == [-3]
        await time.passes(HOUR)
        assert [each.status for each in await time.executions()] == [
            "running",
            "pending",
            "pending",
            "pending",
        ]
        assert await claimed(time) == [1]
        assert await claimed(time) == []


async def test_where_fires_may_overlap_made_up_ones_do(tmp_path: Path, clock: FakeClock) -> None:
    """`allow`: all at once."""
    async with opened(tmp_path, clock) as time:
        await schedule(time, cron="0 * * * *", overlap="allow")
        await backfill(time, -3 * HOUR, 0)
        assert await claimed(time) == [-3, -2, -1]


async def test_a_full_workflow_leaves_no_made_up_fire_out(tmp_path: Path, clock: FakeClock) -> None:
    """`on_full: skip` and `cancel_oldest` are about fires; a backfill waits for its place."""
    for on_full in ("skip", "cancel_oldest"):
        async with opened(tmp_path / on_full, clock) as time:
            steps = [{"id": "a", "type": "action", "action": "set"}]
            triggers = [{"type": "scheduled", "config": {"cron": "0 * * * *"}}]
            concurrency = {"max": 1, "on_full": on_full}
            definition = {"name": "w", "steps": steps, "triggers": triggers}
            await time.app.service.create_workflow(definition | {"concurrency": concurrency})
            assert (await backfill(time, -3 * HOUR, 0)).count("created") == 3
            assert {each.status for each in await time.executions()} == {"pending"}


async def test_due_times_are_nominal_and_within_start_and_end(
    tmp_path: Path, clock: FakeClock
) -> None:
    """Jitter moves no due time, neither looking back nor ahead."""
    async with opened(tmp_path, clock) as time:
        bounds = {"start": "2025-12-31T10:00:00Z", "end": "2026-01-01T02:00:00Z"}
        await schedule(time, cron="30 * * * *", jitter="20m", **bounds)
        done = await backfill(time, -DAY, 0)
        assert done.fires[0].due_at == START - 14 * HOUR + 30 * MINUTE
        assert len(done.fires) == 14
        ahead = await time.app.service.next_fires("w", count=9)
        assert [each.due_at - START for each in ahead] == [30 * MINUTE, 90 * MINUTE]


async def test_a_backfill_is_audited_and_told(tmp_path: Path, clock: FakeClock) -> None:
    """Who, which range, how many; and a fact for each execution."""
    async with opened(tmp_path, clock) as time:
        await schedule(time, cron="0 * * * *")
        await backfill(time, -2 * HOUR, 0, dry_run=True)
        await backfill(time, -2 * HOUR, 0)
        audits = await time.app.store.read(ledger.audits)
        [entry] = [each for each in audits if each.verb == "backfill"]
        assert (entry.target, entry.detail["created"]) == ("w", 2)
        told = [each for each in time.heard if each.data.get("reason") == "backfill"]
        assert len(told) == 2


async def test_all_of_a_backfill_is_created_or_nothing(tmp_path: Path, clock: FakeClock) -> None:
    """Over the limit, or for a workflow that may not run: no execution at all."""
    async with opened(tmp_path, clock) as time:
        await schedule(time, cron="* * * * * *")
        with pytest.raises(Refused, match="31,536,000 due times") as refused:
            await backfill(time, -365 * DAY, 0)
        assert refused.value.reason == "too-many"
        [record] = await time.app.service.list_schedules("w")
        await time.app.service.delete_workflow("w")
        with pytest.raises(Refused, match="archived"):
            await backfill(time, -MINUTE, 0, workflow=None, schedule=record.id)
        assert await time.executions() == []


async def test_a_schedule_that_pauses_makes_nothing_up_by_itself(
    tmp_path: Path, clock: FakeClock
) -> None:
    """Not even with `catchup`; a backfill by its id does, before or after it is resumed."""
    async with opened(tmp_path, clock) as time:
        await schedule(time, cron="0 * * * *", catchup="1d", overlap="allow")
        [record] = await time.app.service.list_schedules("w")
        await time.app.service.pause_schedule(record.id)
        await time.passes(3 * HOUR + MINUTE)
        assert await time.executions() == []
        done = await backfill(time, 0, 2 * HOUR, workflow=None, schedule=record.id)
        assert done.count("created") == 2
        await time.app.service.resume_schedule(record.id)
        await time.passes(2 * HOUR)
        due = [((each.due_at or 0) - START) // HOUR for each in await time.executions()]
        assert due == [0, 1, 4, 5]
        assert time.left_out() == []


async def test_a_schedule_of_a_source_is_paused_in_its_file(
    tmp_path: Path, clock: FakeClock
) -> None:
    """As it is cancelled there: whoever asks is told where."""
    async with opened(tmp_path, clock) as time:
        await schedule(time, cron="0 * * * *")
        [record] = await time.app.service.list_schedules("w")
        owned = replace(record, id="w/owned", origin="definitions")
        await time.app.store.write(ledger.add_schedule, owned)
        for verb in (time.app.service.pause_schedule, time.app.service.resume_schedule):
            with pytest.raises(Refused) as refused:
                await verb(owned.id)
            assert refused.value.reason == "owned-elsewhere"
