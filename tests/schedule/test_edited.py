"""A schedule that is edited while something of it is due: what is owed stays owed."""

from pathlib import Path
from typing import Any

import pytest

from tests.fake_clock import START, FakeClock
from tests.schedule.tables import DAY, HOUR, MINUTE
from tests.schedule.test_scheduler import Time, opened
from tests.service import place as services

STEPS: list[dict[str, Any]] = [{"id": "a", "type": "action", "action": "set"}]
FILE = """name: w
description: {description}
steps: [{{id: a, type: action, action: set}}]
triggers:
- type: scheduled
  config: {{{config}}}
"""
ONCE = 'at: "2026-01-01T01:00:00Z", jitter: 30m'
HOURLY = "cron: 0 * * * *, jitter: 30m"


def _file(config: str, description: str = "one") -> str:
    return FILE.format(config=config, description=description)


async def _due(time: Time) -> list[int]:
    return [(each.due_at or 0) - START for each in await time.executions()]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (_file(ONCE), _file(ONCE, "another")),
        (_file(HOURLY), _file(HOURLY + ", overlap: queue_all")),
        (_file(HOURLY), _file(HOURLY + ", catchup: 5m")),
        (_file(HOURLY), _file("cron: 0 * * * *, jitter: 25m")),
        (_file(HOURLY), _file('cron: 0 * * * *, jitter: 30m, end: "2026-01-01T01:00:30Z"')),
    ],
)
async def test_what_its_jitter_keeps_waiting_fires_all_the_same(
    tmp_path: Path, clock: FakeClock, before: str, after: str
) -> None:
    """It was due a minute ago when the file changes."""
    async with services.opened(tmp_path, clock) as place:
        place.write("w.yaml", before)
        await place.reconcile()
        time = Time(place.app, clock)
        await time.passes(HOUR + MINUTE)
        assert await _due(time) == []
        place.write("w.yaml", after)
        await place.reconcile()
        await time.passes(30 * MINUTE)
        assert await _due(time) == [HOUR]


async def test_what_is_made_up_is_not_lost_by_an_edit_before(
    tmp_path: Path, clock: FakeClock
) -> None:
    """Nobody looked at the time for three hours; then the source is looked at first."""
    config = "cron: 0 * * * *, catchup: 12h, overlap: {}"
    async with services.opened(tmp_path, clock) as place:
        place.write("w.yaml", _file(config.format("allow")))
        await place.reconcile()
        await clock.advance(3 * HOUR + 10 * MINUTE)
        place.write("w.yaml", _file(config.format("queue_all")))
        await place.reconcile()
        time = Time(place.app, clock)
        await time.scheduler.turn()
        assert await _due(time) == [HOUR, 2 * HOUR, 3 * HOUR]


async def test_a_later_start_is_shown_at_once(tmp_path: Path, clock: FakeClock) -> None:
    """Nothing is owed, so when it fires next is what the new text says."""
    async with services.opened(tmp_path, clock) as place:
        place.write("w.yaml", _file("cron: 0 * * * *"))
        await place.reconcile()
        place.write("w.yaml", _file('cron: 0 * * * *, start: "2026-01-02T00:00:00Z"'))
        await place.reconcile()
        [schedule] = await place.app.service.list_schedules()
        assert schedule.next_run_at == START + DAY


async def test_an_update_leaves_what_a_person_said_of_schedules(
    tmp_path: Path, clock: FakeClock
) -> None:
    """One that was added fires on; what pauses is resumed by whoever lets it pause."""
    triggers = [{"type": "scheduled", "config": {"cron": f"{n} * * * *"}} for n in (0, 1, 2)]
    workflow = {"name": "w", "steps": STEPS, "triggers": triggers}
    async with opened(tmp_path, clock) as time:
        service = time.app.service
        await service.create_workflow(workflow)
        kept, paused, cancelled = [each.id for each in await service.list_schedules()]
        added = (await service.schedule_workflow("w", cron="5 * * * *")).id
        await service.pause_schedule(paused)
        await service.cancel_scheduled_workflow(cancelled)
        await service.update_workflow("w", workflow | {"description": "another"})
        active = {each.id: each.active for each in await service.list_schedules()}
        assert active == {kept: True, added: True, paused: False}
        await service.resume_schedule(paused)
        await service.update_workflow("w", workflow | {"description": "a third"})
        active = {each.id: each.active for each in await service.list_schedules()}
        assert active == {kept: True, added: True, paused: True}


async def test_a_pause_of_the_definition_ends_with_it(tmp_path: Path, clock: FakeClock) -> None:
    """`paused: true` that is taken out of the file again."""
    async with services.opened(tmp_path, clock) as place:
        for config, active in (("", True), (", paused: true", False), ("", True)):
            place.write("w.yaml", _file("cron: 0 * * * *" + config))
            await place.reconcile()
            [schedule] = await place.app.service.list_schedules()
            assert schedule.active is active


async def test_what_is_not_in_the_file_any_more_is_no_drift(
    tmp_path: Path, clock: FakeClock
) -> None:
    """It had come to its end, or paused: it is stopped once, and not put back at each look."""
    async with services.opened(tmp_path, clock) as place:
        for config in ('at: "2025-01-01"', "cron: 0 * * * *, paused: true", 'at: "2025-01-02"'):
            place.write("w.yaml", _file(config))
            await place.reconcile()
            assert (await place.reconcile()).repaired == ()
        schedules = await place.app.service.list_schedules(stopped=True)
        assert sorted(each.reason or "" for each in schedules) == ["ended", "removed", "removed"]
