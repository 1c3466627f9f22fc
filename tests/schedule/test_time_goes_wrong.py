"""The loop of time when time misbehaves: jumps, sleep, restarts, changes of the clock."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest

from controller.fires import Fires, record_fires
from controller.store import ledger
from controller.store.records import Outcome
from controller.store.tables import Transaction
from tests.fake_clock import START, FakeClock
from tests.schedule.test_scheduler import DAY, HOUR, MINUTE, Time, opened, schedule
from tests.schedule.watching import NOTABLE, ZONES, by_watching, changes, runs_of

POLICIES = ("skip", "queue_one", "queue_all", "cancel_running", "allow")


async def hours(time: Time) -> list[float]:
    """The due times of all executions, in hours from the start; one that came twice stays two."""
    return [((each.due_at or 0) - START) / HOUR for each in await time.executions()]


async def finish(time: Time) -> None:
    """A worker executes all there is, in no time."""
    now = time.clock.now()

    def all_of_it(tx: Transaction) -> None:
        while claimed := ledger.claim(tx, "o", lease_until=now, now=now, limit=100):
            for each in claimed:
                done = Outcome("completed", completed_at=now, duration=0)
                ledger.record_outcome(tx, each.id, done)

    await time.app.store.write(all_of_it)


async def start(time: Time) -> None:
    """A worker takes what it may take and does not come to an end."""
    now = time.clock.now()
    await time.app.store.write(ledger.claim, "o", lease_until=now, now=now, limit=100)


@pytest.mark.parametrize(
    ("policy", "statuses"),
    [
        ("skip", ["running"]),
        ("queue_one", ["running", "pending"]),
        ("queue_all", ["running", "pending", "pending"]),
        ("cancel_running", ["running", "cancelled", "pending"]),
        ("allow", ["running", "running", "running"]),
    ],
)
@pytest.mark.parametrize("concurrency", [None, {"max": 5}, {"max": 5, "key": "${inputs.k}"}])
async def test_overlap_holds_beside_the_workflow_s_own_concurrency(
    tmp_path: Path,
    clock: FakeClock,
    policy: str,
    statuses: list[str],
    concurrency: dict[str, Any] | None,
) -> None:
    """Fires of a schedule go one after another however many places their workflow has."""
    async with opened(tmp_path, clock) as time:
        config = {"cron": "0 * * * *", "overlap": policy}
        workflow = {
            "name": "w",
            "inputs": [{"name": "k", "default": "x"}],
            "steps": [{"id": "a", "type": "action", "action": "set"}],
            "triggers": [{"type": "scheduled", "config": config}],
        }
        own = {} if concurrency is None else {"concurrency": concurrency}
        await time.app.service.create_workflow(workflow | own)
        for _ in range(3):
            await time.passes(HOUR)
            await start(time)
        assert [each.status for each in await time.executions()] == statuses


class AfterSleep(NamedTuple):
    """What three missed fires lead to, beside one that was running."""

    due: list[float]
    statuses: list[str]
    left_out: list[str]


ASLEEP = {
    "skip": AfterSleep([1], ["running"], ["skip-running"] * 3),
    "queue_one": AfterSleep([1, 2], ["running", "pending"], ["skip-queued"] * 2),
    "queue_all": AfterSleep([1, 2, 3, 4], ["running"] + ["pending"] * 3, []),
    "cancel_running": AfterSleep(
        [1, 2, 3, 4], ["running", "cancelled", "cancelled", "pending"], []
    ),
    "allow": AfterSleep([1, 2, 3, 4], ["running"] + ["pending"] * 3, []),
}


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_clock_that_was_ahead_for_a_while_silences_nothing(
    tmp_path: Path, clock: FakeClock, *, restarted: bool
) -> None:
    """A year ahead for one look, then corrected: what was due then is due at its own time."""
    async with opened(tmp_path, clock) as time:
        await schedule(time, cron="0 * * * *", overlap="allow", end="2026-06-01")
        await time.app.service.schedule_workflow("w", at="2026-01-01T05:30:00Z")
        await time.passes(HOUR)
        clock.jump(365 * DAY)
        await time.scheduler.turn()
        clock.jump(-365 * DAY)
        if restarted:
            time.restart()
        await time.passes(6 * HOUR)
        assert await hours(time) == [1, 2, 3, 4, 5, 5.5, 6, 7]


@pytest.mark.parametrize("policy", POLICIES)
async def test_a_clock_that_jumps_forward_makes_up_as_the_policy_says(
    tmp_path: Path, clock: FakeClock, policy: str
) -> None:
    """Three fires are jumped over while an execution runs: each is decided in its order."""
    async with opened(tmp_path, clock) as time:
        await schedule(time, cron="0 * * * *", catchup="1d", overlap=policy)
        await time.passes(HOUR)
        await start(time)
        clock.jump(3 * HOUR + MINUTE)
        await time.scheduler.turn()
        found = await time.executions()
        expected = ASLEEP[policy]
        assert await hours(time) == expected.due
        assert [each.status for each in found] == expected.statuses
        assert time.left_out() == expected.left_out
        told = await time.app.store.read(ledger.signals, [found[0].id])
        assert [each.type for each in told] == (["cancel"] if "cancel" in policy else [])


@pytest.mark.parametrize("policy", POLICIES)
async def test_a_clock_that_jumps_back_fires_nothing_again(
    tmp_path: Path, clock: FakeClock, policy: str
) -> None:
    """An hour and a half back, with and without a restart: each due time once, none missing."""
    async with opened(tmp_path, clock) as time:
        await schedule(time, cron="0 * * * *", catchup="1d", overlap=policy)
        for restart in (False, True):
            for _ in range(4):
                await time.passes(HOUR)
                await finish(time)
            clock.jump(-HOUR - 30 * MINUTE)
            if restart:
                time.restart()
        for _ in range(3):
            await time.passes(HOUR)
            await finish(time)
        last = (clock.now() - START) // HOUR
        assert await hours(time) == list(range(1, last + 1))
        assert time.left_out() == []


@pytest.mark.parametrize("policy", POLICIES)
async def test_a_machine_asleep_for_days_owes_what_catchup_says(
    tmp_path: Path, clock: FakeClock, policy: str
) -> None:
    """Four days of suspend: by default only a fresh fire is made up, else two days of them."""
    async with opened(tmp_path / "none", clock) as time:
        await schedule(time, cron="0 * * * *", overlap=policy)
        await time.scheduler.turn()
        clock.jump(4 * DAY + 30_000)
        await time.scheduler.turn()
        assert await hours(time) == [96]
        assert [each.data.get("count") for each in time.heard if each.data.get("count")] == [95]
    late = FakeClock()
    async with opened(tmp_path / "some", late) as time:
        await schedule(time, cron="0 * * * *", overlap=policy, catchup="2d")
        await time.scheduler.turn()
        late.jump(4 * DAY + 30 * MINUTE)
        await time.scheduler.turn()
        owed = [float(hour) for hour in range(49, 97)]
        bounded = policy in {"skip", "queue_one"}
        assert await hours(time) == (owed[:1] if bounded else owed)
        assert time.left_out().count("skip-queued") == (47 if bounded else 0)
        assert time.left_out().count("missed") == 1


class Crash(Exception):
    """The process is gone."""


def _half(tx: Transaction, looked: Sequence[Fires], now: int) -> None:
    record_fires(tx, looked, now)
    raise Crash


async def _looked(time: Time) -> list[Fires]:
    now = time.clock.now()
    due = await time.app.store.read(ledger.due, now, 10)
    return await time.scheduler._look(due, now)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("moment", ["before", "inside", "after"])
async def test_a_restart_at_the_fire_makes_one_execution(
    tmp_path: Path, clock: FakeClock, policy: str, moment: str
) -> None:
    """The controller dies before the commit, inside the transaction, or after it and unheard."""
    async with opened(tmp_path, clock) as time:
        await schedule(time, cron="0 * * * *", overlap=policy)
        await clock.advance(HOUR)
        looked = await _looked(time)
        assert len(looked) == 1
        if moment == "inside":
            with pytest.raises(Crash):
                await time.app.store.write(_half, looked, clock.now())
        if moment == "after":
            await time.app.store.write(record_fires, looked, clock.now())
        time.restart()
        await time.scheduler.turn()
        [one] = await time.executions()
        assert (one.due_at, one.status) == (START + HOUR, "pending")
        assert time.left_out() == []
        # and a controller that was only slow, and writes what it saw before the other one did
        await time.app.store.write(record_fires, looked, clock.now())
        [one] = await time.executions()
        assert one.status == "pending"


CRONS = ("30 2 * * *", "0 0 * * *", "*/10 1-3 * * *", "0 */2 * * *", "0 * * * *")
"""Of the oracle's cases: a time in the gap, midnight, many, some, and elapsed time."""


async def _through(zone: str, day: int, folder: Path) -> None:
    """Sleep and wake through the day of a change; every due time is an execution, once."""
    since, until = day - DAY // 2, day + DAY + DAY // 2
    runs = runs_of(ZoneInfo(zone), since, until)
    clock = FakeClock(since)
    steps = [{"id": "a", "type": "action", "action": "set"}]
    triggers = [
        {
            "type": "scheduled",
            "config": {"cron": cron, "timezone": zone, "catchup": "2d", "overlap": "allow"},
        }
        for cron in CRONS
    ]
    async with opened(folder, clock) as time:
        await time.app.service.create_workflow({"name": "w", "steps": steps, "triggers": triggers})
        # 7 h 13 min at a time: awake before, between and after the two passes of an hour
        wakes = [*range(since, until - MINUTE, 7 * HOUR + 13 * MINUTE), until - MINUTE]
        for early, late in pairwise(wakes):
            await clock.advance(late - early)
            await time.restart().turn()
        all_of_them = await time.executions()
        for record in await time.app.service.list_schedules():
            fired = [each.due_at for each in all_of_them if each.schedule_id == record.id]
            expected = by_watching(str(record.cron_expression), since, runs)
            assert fired == expected, (
                zone,
                record.cron_expression,
                datetime.fromtimestamp(day / 1000, UTC).isoformat(),
            )
        assert time.left_out() == []


def _of_a_year(zone: str) -> list[int]:
    """The days of 2026 in which the zone's clock is changed, or any one day."""
    after = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=365)
    return [day for day in changes(ZoneInfo(zone)) if day < after.timestamp() * 1000]


@pytest.mark.parametrize("zone", NOTABLE[:12])
async def test_both_clock_changes_are_caught_up_with(zone: str, tmp_path: Path) -> None:
    """Each due time makes exactly one execution, none is missing, however one slept through it."""
    for number, day in enumerate(_of_a_year(zone)):
        await _through(zone, day, tmp_path / str(number))


@pytest.mark.thorough
@pytest.mark.timeout(400)
@pytest.mark.parametrize("zone", ZONES)
async def test_every_zone_is_caught_up_with(zone: str, tmp_path: Path) -> None:
    """No zone of the database is an exception to the claim above."""
    for number, day in enumerate(_of_a_year(zone)):
        await _through(zone, day, tmp_path / str(number))
