"""What happens to due times when the clock is changed, beside a daemon that only looks at it."""

from bisect import bisect_right
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from controller.core.timetable import Timetable
from tests.schedule.tables import DAY, MINUTE, Text, ms, table
from tests.schedule.watching import CASES, NOTABLE, ZONES, by_watching, changes, runs_of


def _agree(name: str) -> Iterator[tuple[Timetable, list[int], range]]:
    """The timetable, its due times, and the minutes watched: of each expression at each change."""
    zone = ZoneInfo(name)
    for day in changes(zone):
        since, until = day - DAY // 2, day + DAY + DAY // 2
        runs = runs_of(zone, since, until)
        for cron in CASES:
            found = table(Text(cron, timezone=name))
            expected = by_watching(cron, since, runs)
            assert found.fires(since, until - MINUTE, 10_000) == expected, (cron, day)
            assert found.count(since, until - MINUTE) == len(expected), (cron, day)
            yield found, expected, range(since, until, MINUTE)


@pytest.mark.parametrize("name", NOTABLE)
def test_at_clock_changes_it_fires_as_a_watching_daemon(name: str) -> None:
    """At every change of 2026 and 2027, to the minute, from wherever one asks."""
    for found, expected, minutes in _agree(name):
        for moment in minutes[::13]:
            left = expected[bisect_right(expected, moment) :]
            if left:
                assert found.next_after(moment) == left[0]
            assert found.count(moment, minutes[-1]) == len(left)


@pytest.mark.thorough
@pytest.mark.parametrize("name", ZONES)
def test_every_zone_agrees_with_a_watching_daemon(name: str) -> None:
    """No zone of the database is an exception."""
    assert list(_agree(name))


@pytest.mark.parametrize(
    ("cron", "zone", "day", "due"),
    [
        ("30 2 * * *", "Europe/Berlin", "2026-03-29", ["01:00"]),
        ("0 2,3 * * *", "Europe/Berlin", "2026-03-29", ["01:00"]),
        ("*/10 2 * * *", "Europe/Berlin", "2026-03-29", ["01:00"]),
        ("30 2 * * *", "Europe/Berlin", "2026-10-25", ["00:30"]),
        ("0 2-3 * * *", "Europe/Berlin", "2026-10-25", ["00:00", "02:00"]),
        ("30 * 29 3 *", "Europe/Berlin", "2026-03-29", [f"{h:02}:30" for h in range(22)]),
        ("15 2 * * *", "Australia/Lord_Howe", "2026-10-03", ["15:30"]),
        ("0 9 30 12 *", "Pacific/Apia", "2011-12-30", ["10:00"]),
    ],
)
def test_a_lost_time_fires_after_the_gap_and_a_doubled_one_first(
    cron: str, zone: str, day: str, due: list[str]
) -> None:
    """Known days, in UTC: gaps of half an hour, an hour and a day, and an hour twice."""
    begin = ms(f"{day}T00:00:00Z")
    fires = table(Text(cron, timezone=zone)).fires(begin - 1, begin + DAY - 1, 50)
    assert [datetime.fromtimestamp(fire / 1000, UTC).strftime("%H:%M") for fire in fires] == due


def test_hourly_schedules_keep_their_hour_of_real_time() -> None:
    """Through both changes of a year, one due time is an hour after the other."""
    found = table(Text("30 * * * *", timezone="Europe/Berlin"))
    fires = found.fires(ms("2026-03-01T00:00:00Z"), ms("2026-11-30T00:00:00Z"), 10_000)
    assert {late - early for early, late in pairwise(fires)} == {60 * MINUTE}


def test_a_date_far_away_is_found_across_changes() -> None:
    """A schedule of elapsed time bound to dates keeps to the clock of those dates."""
    found = table(Text("0 * 25 10 *", timezone="Europe/Berlin"))
    fires = found.fires(ms("2026-01-01T00:00:00Z"), ms("2026-12-31T00:00:00Z"), 100)
    assert fires == [ms("2026-10-24T22:00:00Z") + hour * 60 * MINUTE for hour in range(25)]
