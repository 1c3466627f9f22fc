"""A daemon that only looks at the clock: the oracle of when a schedule fires.

It shares nothing with the code: it walks through the minutes as Vixie's daemon does, reads the
clock, and compares with fields written out by hand.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import groupby
from typing import NamedTuple
from zoneinfo import ZoneInfo, available_timezones

from tests.schedule.tables import DAY, MINUTE, ms


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


ZONES = sorted(available_timezones() - {"localtime", "Factory"})


Runs = tuple[tuple[int, timedelta], ...]
"""How many minutes which offset lasts, in order."""


def runs_of(zone: ZoneInfo, since: int, until: int) -> Runs:
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
def by_watching(cron: str, since: int, runs: Runs) -> list[int]:
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


def changes(zone: ZoneInfo) -> Iterator[int]:
    """The days of 2026 and 2027 in which the clock of the zone is changed, or any one day."""
    days = range(ms("2026-01-01T00:00:00Z"), ms("2028-01-01T00:00:00Z"), DAY)
    offsets = [datetime.fromtimestamp(day / 1000, zone).utcoffset() for day in days]
    found = [day for day, a, b in zip(days, offsets, offsets[1:], strict=False) if a != b]
    yield from found or [ms("2026-10-25T00:00:00Z")]
