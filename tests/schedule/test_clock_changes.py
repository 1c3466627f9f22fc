"""What happens to due times when the clock is changed, beside a daemon that only looks at it.

The oracle shares nothing with the code: it walks through the minutes as Vixie's daemon does,
reads the clock, and compares with fields written out by hand.
"""

from bisect import bisect_right
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import groupby, pairwise
from typing import NamedTuple
from zoneinfo import ZoneInfo, available_timezones

import pytest

from controller.core.timetable import Timetable
from tests.schedule.tables import DAY, MINUTE, Text, ms, table


class Fields(NamedTuple):
    """An expression, written out."""

    minutes: set[int]
    hours: set[int]
    weekdays: frozenset[int] = frozenset(range(7))
    elapsed: bool = False


EVERY_HOUR = set(range(24))
CASES = {
    "30 2 * * *": Fields({30}, {2}),
    "0 0 * * *": Fields({0}, {0}),
    "59 23 * * *": Fields({59}, {23}),
    "15 1 * * 0": Fields({15}, {1}, weekdays=frozenset({6})),
    "*/10 1-3 * * *": Fields(set(range(0, 60, 10)), {1, 2, 3}),
    "0 */2 * * *": Fields({0}, set(range(0, 24, 2))),
    "*/4 0-22 * * *": Fields(set(range(0, 60, 4)), EVERY_HOUR - {23}),
    "0 * * * *": Fields({0}, EVERY_HOUR, elapsed=True),
    "*/20 0-23 * * *": Fields({0, 20, 40}, EVERY_HOUR, elapsed=True),
    "45 */1 * * 0,6": Fields({45}, EVERY_HOUR, weekdays=frozenset({5, 6}), elapsed=True),
}
NOTABLE = [
    "Africa/Cairo",  # at midnight
    "Africa/Casablanca",  # back for Ramadan
    "America/Havana",
    "America/New_York",
    "America/Nuuk",
    "America/Santiago",
    "America/St_Johns",
    "Antarctica/Troll",  # two hours
    "Asia/Beirut",
    "Asia/Kathmandu",  # never
    "Atlantic/Azores",
    "Australia/Lord_Howe",  # half an hour
    "Europe/Berlin",
    "Europe/Dublin",  # summer is standard time
    "Pacific/Chatham",
    "UTC",
]


Runs = tuple[tuple[int, timedelta], ...]
"""How many minutes which offset lasts, in order."""


def _runs(zone: ZoneInfo, since: int, until: int) -> Runs:
    """The offsets of the clock in each minute of [since, until)."""
    moments = (moment / 1000 for moment in range(since, until, MINUTE))
    offsets = (datetime.fromtimestamp(moment, zone).utcoffset() for moment in moments)
    return tuple((len(list(run)), offset or timedelta()) for offset, run in groupby(offsets))


@cache
def _readings(since: int, runs: Runs) -> list[datetime]:
    """What the clock shows in each minute."""
    offsets = [offset for minutes, offset in runs for _ in range(minutes)]
    begin = datetime.fromtimestamp(since / 1000, UTC).replace(tzinfo=None)
    return [begin + timedelta(minutes=n) + offset for n, offset in enumerate(offsets)]


def _matches(fields: Fields, shown: datetime) -> bool:
    return (
        shown.minute in fields.minutes
        and shown.hour in fields.hours
        and shown.weekday() in fields.weekdays
    )


def _passed(highest: datetime, shown: datetime) -> Iterator[datetime]:
    while highest < shown:
        highest += timedelta(minutes=1)
        yield highest


@cache  # zones that change alike at one time share the watching
def _by_watching(cron: str, since: int, runs: Runs) -> list[int]:
    """When a daemon that watches the clock from `since` on fires."""
    readings = _readings(since, runs)
    fields, fires, highest = CASES[cron], [], readings[0]
    for minute, shown in enumerate(readings[1:], 1):
        if fields.elapsed:
            due = _matches(fields, shown)
        else:
            due = any(_matches(fields, passed) for passed in _passed(highest, shown))
            highest = max(highest, shown)
        if due:
            fires.append(since + minute * MINUTE)
    return fires


def _changes(zone: ZoneInfo) -> Iterator[int]:
    """The days of 2026 and 2027 in which the clock of the zone is changed, or any one day."""
    days = range(ms("2026-01-01T00:00:00Z"), ms("2028-01-01T00:00:00Z"), DAY)
    offsets = [datetime.fromtimestamp(day / 1000, zone).utcoffset() for day in days]
    found = [day for day, a, b in zip(days, offsets, offsets[1:], strict=False) if a != b]
    yield from found or [ms("2026-10-25T00:00:00Z")]


def _agree(name: str) -> Iterator[tuple[Timetable, list[int], range]]:
    """The timetable, its due times, and the minutes watched: of each expression at each change."""
    zone = ZoneInfo(name)
    for day in _changes(zone):
        since, until = day - DAY // 2, day + DAY + DAY // 2
        runs = _runs(zone, since, until)
        for cron in CASES:
            found = table(Text(cron, timezone=name))
            expected = _by_watching(cron, since, runs)
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
@pytest.mark.parametrize("name", sorted(available_timezones() - {"localtime", "Factory"}))
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
