"""What is made up after a time in which nobody looked."""

from hypothesis import given
from hypothesis import strategies as st

from controller.core.timetable import CatchUp, catch_up
from tests.schedule.tables import DAY, HOUR, MINUTE, NOW, Text, table

QUARTERS = table(Text("*/15 * * * *"))


def test_by_default_only_the_latest_is_made_up_within_a_minute() -> None:
    """Three quarters of an hour asleep, awake 40 s after a due time: one fire, two missed."""
    found = catch_up(QUARTERS, NOW, NOW + 45 * MINUTE + 40_000, catchup=0, limit=100)
    assert found == CatchUp([NOW + 45 * MINUTE], 2, NOW + 60 * MINUTE)


def test_after_the_grace_nothing_is_made_up() -> None:
    """A minute late is in time, a millisecond more is not."""
    due = NOW + 45 * MINUTE
    assert catch_up(QUARTERS, NOW, due + MINUTE, catchup=0, limit=100).fires == [due]
    assert catch_up(QUARTERS, NOW, due + MINUTE + 1, catchup=0, limit=100) == CatchUp(
        [], 3, NOW + 60 * MINUTE
    )


def test_catchup_makes_up_all_that_is_not_older() -> None:
    """Half an hour back: two are fired, oldest first, and the older one is missed."""
    found = catch_up(QUARTERS, NOW, NOW + 50 * MINUTE, catchup=30 * MINUTE, limit=100)
    assert found == CatchUp([NOW + 30 * MINUTE, NOW + 45 * MINUTE], 1, NOW + 60 * MINUTE)


def test_a_short_catchup_is_no_longer_than_it_says() -> None:
    """Ten seconds back of one for each second; the latest may be late by a minute all the same."""
    seconds = table(Text("* * * * * *"))
    found = catch_up(seconds, NOW, NOW + 55_000, catchup=10_000, limit=100)
    assert found.fires == [NOW + 1000 * number for number in range(45, 56)]
    late = catch_up(QUARTERS, NOW, NOW + 15 * MINUTE + 50_000, catchup=10_000, limit=100)
    assert late.fires == [NOW + 15 * MINUTE]


def test_what_only_its_jitter_keeps_waiting_is_owed() -> None:
    """However many: each is fired in its turn, and none is missed."""
    often = table(Text("*/5 * * * *", jitter=20 * MINUTE))
    last, fired = NOW, []
    for now in range(NOW, NOW + DAY, MINUTE):
        found = catch_up(often, last, now, catchup=0, limit=1000)
        assert found.missed == 0
        for due in found.fires:
            if due + often.delay(due) > now:
                break
            fired.append(due)
            last = due
    assert fired == often.fires(NOW, last, 1000)
    assert last >= NOW + DAY - 25 * MINUTE


def test_the_limit_keeps_the_newest() -> None:
    """A year of seconds does not flood anything, is counted exactly, and costs little."""
    seconds = table(Text("* * * * * *", timezone="Europe/Berlin"))
    year = 365 * DAY
    found = catch_up(seconds, NOW, NOW + year, catchup=year, limit=3)
    assert found.fires == [NOW + year - 2000, NOW + year - 1000, NOW + year]
    assert found.missed == 365 * 86_400 - 3


def test_a_new_schedule_is_owed_nothing() -> None:
    """Never looked at before, it begins with the next due time."""
    assert catch_up(QUARTERS, None, NOW, catchup=DAY, limit=100) == CatchUp(
        [], 0, NOW + 15 * MINUTE
    )


def test_a_clock_set_back_fires_nothing_again() -> None:
    """What was dealt with up to a later moment is not owed."""
    assert catch_up(QUARTERS, NOW + HOUR, NOW, catchup=DAY, limit=100).fires == []


def test_a_single_moment_is_made_up_once() -> None:
    """`at` within the bounds fires, and there is no next."""
    once = table(Text(at="2026-01-01T00:10:00Z"))
    due = NOW + 10 * MINUTE
    assert catch_up(once, NOW, due + HOUR, catchup=0, limit=9) == CatchUp([], 1, None)
    assert catch_up(once, NOW, due + HOUR, catchup=2 * HOUR, limit=9) == CatchUp([due], 0, None)
    assert catch_up(once, due, due + HOUR, catchup=2 * HOUR, limit=9) == CatchUp([], 0, None)


@given(
    st.sampled_from(["*/7 * * * *", "0 2 * * *", "* * * * * *", "30 * * * 1"]),
    st.tuples(st.integers(NOW, NOW + 400 * DAY), st.integers(0, 3 * HOUR)),
    st.integers(0, 4 * HOUR),
    st.integers(0, 5),
)
def test_each_due_time_is_fired_or_missed(
    cron: str, away: tuple[int, int], catchup: int, limit: int
) -> None:
    """What went by is fired once or counted once; what is fired is the newest, and not too old."""
    found = table(Text(cron, timezone="America/New_York"))
    last, now = away[0], sum(away)
    result = catch_up(found, last, now, catchup=catchup, limit=limit)
    owed = found.fires(last, now, 20_000)
    assert len(result.fires) + result.missed == len(owed)
    assert len(result.fires) <= limit
    assert result.fires == owed[len(owed) - len(result.fires) :]
    assert all(due >= now - max(catchup, MINUTE) for due in result.fires)
    assert result.next == found.next_after(now)
