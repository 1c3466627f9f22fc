"""What is due at wall times: each in its order, whatever is called off and wherever it is set."""

import asyncio
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.clock import FEW, LOOK_AGAIN, Alarm, Alarms, SystemClock
from tests.fake_clock import START, FakeClock


@given(
    st.lists(st.tuples(st.integers(0, 50), st.booleans()), max_size=40),
    st.lists(st.integers(1, 30), max_size=6),
)
def test_each_rings_once_in_its_order(
    arranged: list[tuple[int, bool]], advances: list[int]
) -> None:
    """Not before it is due, none that was called off, and those of one instant as they came."""

    async def ring() -> None:
        clock, rung = FakeClock(), list[tuple[int, int]]()
        alarms, found = Alarms(clock), list[Alarm]()
        for number, (due, _) in enumerate(arranged):

            def heard(number: int = number, due: int = due) -> None:
                assert clock.now() == START + due
                rung.append((due, number))

            found.append(alarms.add(START + due, heard))
        for alarm, (_, off) in zip(found, arranged, strict=True):
            if off:
                alarm.cancel()
        passed = 0
        await clock.advance(0)
        for milliseconds in (*advances, 51):
            await clock.advance(milliseconds)
            passed += milliseconds
            standing = [
                (due, number)
                for number, (due, off) in enumerate(arranged)
                if not off and due <= passed
            ]
            assert rung == sorted(standing)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("controller.clock.FEW", 2)  # so that what is called off is left out, too
        asyncio.run(ring())


async def test_a_sooner_one_is_not_kept_waiting(clock: FakeClock) -> None:
    """Whether it comes later than the one that is waited for, or is arranged by another."""
    alarms, heard = Alarms(clock), list[str]()
    alarms.add(START + 100, lambda: heard.append("late"))

    def arrange() -> None:
        alarms.add(START + 20, lambda: heard.append("next"))

    alarms.add(START + 10, arrange)
    await clock.advance(30)
    assert heard == ["next"]


@pytest.mark.parametrize("set_by", [-3_600_000, 3_600_000])
async def test_the_clock_may_be_set(clock: FakeClock, set_by: int) -> None:
    """Forward: it rings within a minute. Back: not before it is time by the clock."""
    alarms, heard = Alarms(clock), list[int]()
    alarms.add(START + 1_000_000, lambda: heard.append(clock.now()))
    clock.jump(set_by)
    await clock.advance(LOOK_AGAIN)
    assert bool(heard) is (set_by > 0)
    await clock.advance(max(0, START + 1_000_000 - clock.now()))
    assert len(heard) == 1
    assert heard[0] >= START + 1_000_000


async def test_one_that_raises_keeps_no_other_from_ringing(clock: FakeClock) -> None:
    """The loop is told of it, as of any call's."""
    told: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    alarms, heard = Alarms(clock), list[str]()

    def fail() -> None:
        raise ValueError("of a callback")

    alarms.add(START + 1, fail)
    alarms.add(START + 1, lambda: heard.append("same"))
    alarms.add(START + 2, lambda: heard.append("next"))
    await clock.advance(5)
    assert heard == ["same", "next"]
    assert isinstance(told[0]["exception"], ValueError)


async def test_one_is_called_off_by_another_of_the_same_instant(clock: FakeClock) -> None:
    """It was on its way already, and never rings; to call off what has rung does nothing."""
    alarms, heard = Alarms(clock), list[str]()
    others = list[Alarm]()

    def call_off() -> None:
        others[0].cancel()

    first = alarms.add(START + 1, call_off)
    others.append(alarms.add(START + 1, lambda: heard.append("second")))
    await clock.advance(1)
    first.cancel()
    assert heard == []


async def test_what_was_called_off_is_not_kept(clock: FakeClock) -> None:
    """A hundred thousand deadlines that never came leave a few, beside those that stand."""
    alarms, heard = Alarms(clock), list[int]()
    alarms.add(START + 7, lambda: heard.append(7))
    for number in range(100_000):
        alarms.add(START + 3_600_000 + number, lambda: heard.append(0)).cancel()
        assert len(alarms) <= 2 * (FEW + 1)
    await clock.advance(10)
    assert heard == [7]


def test_the_machines_own_clock_rings_on_each_loop() -> None:
    """One clock on a loop, and on the next when that is over."""
    clock = SystemClock()

    async def wait() -> int:
        rung = asyncio.get_running_loop().create_future()
        due = clock.now() + 20
        clock.call_at(due + 60_000, lambda: None)
        clock.call_at(due, lambda: rung.set_result(clock.now()))
        heard: int = await rung
        return heard - due

    assert all(asyncio.run(wait()) >= 0 for _ in range(2))


ASLEEP = ("unshare", "--time", "--boottime", "1000")
"""A program sees as much more on the clock that goes on while the machine sleeps."""

READ = "from controller.clock import SystemClock; print(SystemClock().monotonic())"


def _allowed() -> bool:
    try:
        return subprocess.run([*ASLEEP, "true"], check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not _allowed(), reason="Linux's time namespaces are root's")
def test_time_goes_on_while_the_machine_sleeps() -> None:
    """Or whoever slept would believe in a lease that ran out, while another has what it was for."""
    read = [*ASLEEP, sys.executable, "-c", READ]
    before = SystemClock().monotonic()
    said = subprocess.run(read, check=True, capture_output=True, text=True).stdout
    assert before + 1000 < float(said) < SystemClock().monotonic() + 1000
