"""The clock the other tests rely on."""

import asyncio
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fake_clock import START, FakeClock

if TYPE_CHECKING:
    from controller.clock import Clock


def test_it_is_a_clock(clock: FakeClock) -> None:
    """A `FakeClock` can stand wherever the engine asks for a `Clock`."""
    used: Clock = clock
    assert used.now() == START
    assert used.monotonic() == 0


async def test_timers_run_in_order_of_time_each_at_its_instant(clock: FakeClock) -> None:
    """However they were armed, timers run in order of time and see their own time."""
    seen: list[tuple[str, int]] = []
    for name, wait in (("late", 300), ("early", 100), ("middle", 200)):
        clock.call_at(START + wait, lambda name=name: seen.append((name, clock.now() - START)))  # type: ignore[misc]  # a default argument
    await clock.advance(250)
    assert seen == [("early", 100), ("middle", 200)]
    await clock.advance(50)
    assert seen[-1] == ("late", 300)


async def test_a_chain_of_sleeps_runs_within_one_advance(clock: FakeClock) -> None:
    """What a woken coroutine arms next is honoured in the same advance."""
    woken: list[int] = []

    async def tick() -> None:
        for _ in range(3):
            await clock.sleep(1)
            woken.append(clock.now() - START)

    async with asyncio.TaskGroup() as group:
        group.create_task(tick())
        await clock.advance(3000)
        assert woken == [1000, 2000, 3000]


async def test_a_cancelled_timer_never_runs(clock: FakeClock) -> None:
    """Cancelling works before the time, and is harmless after it."""
    seen: list[str] = []
    timer = clock.call_at(START + 10, lambda: seen.append("no"))
    assert clock.pending() == [START + 10]
    timer.cancel()
    assert clock.pending() == []
    await clock.advance(20)
    timer.cancel()
    assert seen == []


async def test_a_jump_moves_the_wall_and_not_the_sleeper(clock: FakeClock) -> None:
    """Setting the wall clock makes wall timers due, and leaves sleeps and delays alone."""
    seen: list[str] = []
    clock.call_at(START + 60_000, lambda: seen.append("wall"))
    clock.call_later(60_000, lambda: seen.append("later"))

    async def sleeper() -> None:
        await clock.sleep(60)
        seen.append("slept")

    async with asyncio.TaskGroup() as group:
        group.create_task(sleeper())
        await clock.advance(0)
        clock.jump(60_000)
        await clock.advance(0)
        assert seen == ["wall"]
        assert clock.monotonic() == 0
        clock.jump(-120_000)
        await clock.advance(60_000)
        assert seen == ["wall", "later", "slept"]


@pytest.mark.uvloop
async def test_it_drives_uvloop_too(clock: FakeClock) -> None:
    """A test marked `uvloop` runs on uvloop, and the clock drives it."""
    assert type(asyncio.get_running_loop()).__module__ == "uvloop"
    done: list[int] = []
    async with asyncio.TaskGroup() as group:
        group.create_task(clock.sleep(5)).add_done_callback(lambda _: done.append(clock.now()))
        await clock.advance(5000)
        assert done == [START + 5000]


@given(waits=st.lists(st.integers(0, 10_000), max_size=20))
async def test_every_sleep_ends_exactly_when_it_should(waits: list[int]) -> None:
    """Hypothesis and coroutine tests work together; no sleep ends early or late."""
    clock = FakeClock()
    ended: list[tuple[int, int]] = []

    async def sleeper(wait: int) -> None:
        await clock.sleep(wait / 1000)
        ended.append((wait, clock.now() - START))

    async with asyncio.TaskGroup() as group:
        for wait in waits:
            group.create_task(sleeper(wait))
        await clock.advance(10_000)
        assert sorted(ended) == [(wait, wait) for wait in sorted(waits)]
