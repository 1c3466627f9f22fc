"""When a schedule fires: its text, and any moment, → the due times after it.

The rule at a clock change is Vixie cron's. Two kinds of expressions are told apart by the hour
field alone:

- It leaves hours out (`30 2 * * *`, `*/10 1-3 * * *`, `0 */2 * * *`): a due time is *the first
  instant at which the wall clock has reached* a reading that the expression names. So a reading
  that is left out fires when the gap ends, once for all that fell into it, and a reading that
  comes twice fires the first time. `at` follows the same rule.
- It has every hour (`*`, `*/1`, `0-23`): the schedule follows elapsed time. It fires at every
  instant whose reading the expression names: in both passes of an hour that comes twice, and never
  for a reading that was left out.

Due times are nominal: `delay` is added by whoever waits for one, and (schedule, due time) stays
what an execution is unique by.
"""

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from typing import Final, NamedTuple, Protocol, TypeVar
from zoneinfo import ZoneInfo

from controller.core.cron import Cron, parse_cron
from controller.core.problem import Path, Problem
from controller.core.zone import (
    instant_of,
    load_zone,
    next_change,
    offset_at,
    segments,
    unreached,
)

LATEST: Final = 253_339_228_800_000
"""9998-01-01 in epoch milliseconds. There are no due times after it, and none before 1970."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_FIRST_YEAR, _LAST_YEAR = 1970, 9997
_UTC: Final = ZoneInfo("UTC")
REMEMBERED: Final = 4096
"""Answers that are kept: many workflows share a cron text, and all are asked for one now."""
MOST_WAITING: Final = 1_000
"""Due times of one schedule that only their jitter keeps waiting."""
_NEAR: Final = 26 * 3600
"""Seconds. No clock has gone back by more since 1970."""


T = TypeVar("T")


class ScheduleText(Protocol):
    """The fields of a schedule that say when, as the document has them."""

    @property
    def cron(self) -> str | None:
        """Five fields, six with seconds first, or an alias."""

    @property
    def at(self) -> str | None:
        """ISO 8601; without an offset it is a reading of the zone's clock."""

    @property
    def timezone(self) -> str:
        """IANA name."""

    @property
    def start(self) -> str | None:
        """ISO 8601: nothing is due before; a date alone means its first moment."""

    @property
    def end(self) -> str | None:
        """ISO 8601: nothing is due after; a date alone means its last moment."""

    @property
    def jitter(self) -> int:
        """Milliseconds by which a fire may be late, at most."""


@dataclass(frozen=True, slots=True)
class Timetable:
    """The due times of one schedule. Times are epoch milliseconds.

    Attributes:
        zone: Whose clock the expression is read from.
        cron: What fires again and again, or None.
        once: The one due time of a schedule with `at`, or None.
        start: Nothing is due before this.
        end: Nothing is due after this.
        jitter: The bound of `delay`.
        workflow: The name that `delay` spreads by.
    """

    zone: ZoneInfo
    cron: Cron | None
    once: int | None
    start: int
    end: int
    jitter: int
    workflow: str

    @property
    def is_once(self) -> bool:
        """It has one due time in all."""
        return self.cron is None

    def next_after(self, moment: int) -> int | None:
        """The first due time after `moment`; None: never again (or not within fifty years)."""
        moment = max(moment, self.start - 1)
        if moment >= self.end:
            return None
        if self.cron is None:
            due = self.once
        elif self.cron.every_hour:
            due = _by_elapsed_time(self.cron, self.zone, moment // 1000)
        else:
            due = _by_reading(self.cron, self.zone, moment // 1000)
        return due if due is not None and moment < due <= self.end else None

    def fires(self, since: int, until: int, limit: int) -> list[int]:
        """The due times in (since, until], the first `limit` of them."""
        found: list[int] = []
        while len(found) < limit and (due := self.next_after(since)) is not None and due <= until:
            found.append(due)
            since = due
        return found

    def count(self, since: int, until: int) -> int:
        """How many due times there are in (since, until]; cheap, however many."""
        since, until = max(since, self.start - 1), min(until, self.end)
        if since >= until:
            return 0
        if self.cron is None:
            return int(self.once is not None and since < self.once <= until)
        first, last = since // 1000 + 1, until // 1000 + 1
        if self.cron.every_hour:
            return sum(
                self.cron.count(start + offset, end + offset)
                for start, end, offset in segments(self.zone, first, last)
            )
        return _count_readings(self.cron, self.zone, first, last)

    def delay(self, due: int) -> int:
        """Milliseconds from 0 to `jitter` to fire late by: the same wherever it is asked."""
        if self.jitter <= 0:
            return 0
        digest = sha256(f"{self.workflow}\n{due}".encode(errors="replace")).digest()
        return int.from_bytes(digest[:8]) % (self.jitter + 1)


@lru_cache(REMEMBERED)
def _by_reading(cron: Cron, zone: ZoneInfo, instant: int) -> int | None:
    wall = cron.at_or_after(unreached(zone, instant))
    return None if wall is None else instant_of(zone, wall) * 1000


@lru_cache(REMEMBERED)
def _by_elapsed_time(cron: Cron, zone: ZoneInfo, instant: int) -> int | None:
    """Search with the offset of now; where that changes on the way, search again from there."""
    instant += 1
    while True:
        offset = offset_at(zone, instant)
        wall = cron.at_or_after(instant + offset)
        if wall is None:
            return None
        due = wall - offset
        change = next_change(zone, instant, min(due, instant + _NEAR))
        if change is not None:
            instant = change
        elif due <= instant + _NEAR:
            return due * 1000
        else:  # far away: no reading before it could come again, only the offset is another
            instant = instant_of(zone, wall)
            if instant + offset_at(zone, instant) == wall:
                return instant * 1000


def _count_readings(cron: Cron, zone: ZoneInfo, first: int, last: int) -> int:
    """Each reading once, when the clock first shows it; those of one gap together once."""
    total, low = 0, unreached(zone, first - 1)
    for start, end, offset in segments(zone, first, last):
        begin = start + offset
        if begin > low:
            in_gap, at_its_end = cron.count(low, begin), cron.count(begin, begin + 1)
            total += int(in_gap > 0 and not at_its_end)
            low = begin
        if end + offset > low:
            total += cron.count(low, end + offset)
            low = end + offset
    return total


class CatchUp(NamedTuple):
    """What to do about the due times that went by.

    Attributes:
        fires: To be fired now, oldest first.
        missed: How many went by and are not made up.
        next: The first due time to come.
    """

    fires: list[int]
    missed: int
    next: int | None


def catch_up(
    timetable: Timetable,
    last: int | None,
    now: int,
    *,
    catchup: int,
    limit: int,
    grace: int = 60_000,
) -> CatchUp:
    """Which of the due times in (last, now] to fire: the newest ones, within the bounds.

    Args:
        timetable: Of the schedule.
        last: Up to when its due times are dealt with; None for a schedule never looked at, to
            which nothing is owed.
        now: Epoch milliseconds.
        catchup: How many milliseconds back all are made up. With 0 only the latest is.
        limit: How many are fired at once, at most.
        grace: How many milliseconds late the latest may be in any case, its jitter not counted;
            and all that only their jitter keeps waiting.
    """
    upcoming = timetable.next_after(now)
    if last is None or last >= now:
        return CatchUp([], 0, upcoming)
    jitter = timetable.jitter
    since = max(last, now - max(catchup, grace + jitter) - 1)
    keep = max(limit, 0) if catchup or jitter else min(limit, 1)
    went_by = timetable.fires(_newest(timetable, since, now, keep), now, keep)
    fires: list[int] = []
    fires_at = 0
    for due in went_by:
        fires_at = max(fires_at, due + timetable.delay(due))  # none overtakes the one before it
        in_time = fires_at >= now - grace and (jitter > 0 or due == went_by[-1])
        if in_time or due >= now - catchup:
            fires.append(due)
    return CatchUp(fires, timetable.count(last, now) - len(fires), upcoming)


def _newest(timetable: Timetable, since: int, now: int, keep: int) -> int:
    """The first moment from `since` on behind which no more than `keep` due times are left."""
    if timetable.count(since, now) <= keep:
        return since
    moments = range(since, now)
    return since + bisect_left(moments, -keep, key=lambda moment: -timetable.count(moment, now))


def compile_timetable(
    schedule: ScheduleText, *, workflow: str, now: int, path: Path = ()
) -> tuple[Timetable | None, list[Problem]]:
    """Read a schedule, and make sure that it fires.

    Args:
        schedule: Its text.
        workflow: The workflow's name: what `H` and `delay` hash.
        now: Epoch milliseconds; where the search for the first due time begins. A schedule whose
            `end` or `at` has gone by is sound: files grow old. It gets a warning or nothing.
        path: Of the schedule in its document.

    Returns:
        The timetable, or None if one of the problems is an error.
    """
    # only `H` reads the workflow's name; without it, many workflows have the same timetable
    reads = schedule.cron is not None and "h" in schedule.cron.lower()
    text = _Text(schedule.cron, schedule.at, schedule.timezone, schedule.start, schedule.end)
    table, problems = _compiled(text, workflow if reads else "", now)
    found = [replace(each, path=(*path, *each.path)) for each in problems]
    if table is None:
        return None, found
    if waiting := _kept_waiting(table, schedule.jitter, now):
        message = f"`jitter` keeps {waiting:,} due times waiting at once; at most {MOST_WAITING:,}"
        return None, [*found, Problem("bad-jitter", message, (*path, "jitter"))]
    whose = (table.zone, table.cron, table.once, table.start, table.end, schedule.jitter, workflow)
    return Timetable(*whose), found


def _kept_waiting(table: Timetable, jitter: int, now: int) -> int:
    """How many due times a jitter may keep waiting at once, where that is too many."""
    first = table.next_after(now) if jitter > 0 else None
    waiting = 0 if first is None else table.count(first, first + jitter)
    return waiting if waiting > MOST_WAITING else 0


class _Text(NamedTuple):
    """The fields of a schedule that decide when it is due."""

    cron: str | None
    at: str | None
    timezone: str
    start: str | None
    end: str | None


@lru_cache(REMEMBERED)
def _compiled(
    schedule: _Text, workflow: str, now: int
) -> tuple[Timetable | None, tuple[Problem, ...]]:
    """`compile_timetable` of the text alone; paths begin at the schedule."""
    loaded = load_zone(schedule.timezone, ("timezone",))
    # with the wrong zone, the other fields can still be read for their own problems
    zone = _UTC if isinstance(loaded, Problem) else loaded
    cron = _maybe(schedule.cron, lambda text: parse_cron(text, workflow, ("cron",)))
    once = _maybe(schedule.at, lambda text: moment_of(text, zone, ("at",)))
    if (schedule.cron is None) == (schedule.at is None):
        once = Problem("bad-schedule", "A schedule has either `cron` or `at`", ())
    start = _maybe(schedule.start, lambda text: moment_of(text, zone, ("start",)))
    end = _maybe(schedule.end, lambda text: moment_of(text, zone, ("end",), late=True))
    if (
        isinstance(loaded, Problem)
        or isinstance(cron, Problem)
        or isinstance(once, Problem)
        or isinstance(start, Problem)
        or isinstance(end, Problem)
    ):
        parts = (loaded, cron, once, start, end)
        return None, tuple(part for part in parts if isinstance(part, Problem))
    table = Timetable(
        zone=zone,
        cron=cron,
        once=once,
        start=0 if start is None else start,
        end=LATEST if end is None else end,
        jitter=0,
        workflow="",
    )
    problem = _never_fires(table, now if start is None else start - 1, now, ())
    if problem is None:
        return table, ()
    return (table if problem.severity == "warning" else None), (problem,)


def _maybe(text: str | None, read: Callable[[str], T]) -> T | None:
    return None if text is None else read(text)


def moment_of(text: str, zone: ZoneInfo, path: Path, *, late: bool = False) -> int | Problem:
    """ISO 8601 → epoch milliseconds; without an offset it is a reading of the zone's clock.

    A date alone is its first moment, or its last if `late`.
    """
    try:
        found = datetime.fromisoformat(text)
        whole = late and _is_date(text)
        following = found + timedelta(days=1) if whole else found
    except (ValueError, OverflowError) as error:
        hint = "write it as `2026-12-31T09:00:00`, with `Z` or `+01:00` if it is not in `timezone`"
        why = "" if "isoformat" in str(error) else f": {error}"
        message = f"`{text[:40]}` is not an ISO 8601 time{why}"
        return Problem("bad-time", message, path, hint=hint)
    if not _FIRST_YEAR <= found.year <= _LAST_YEAR:
        message = f"The year {found.year} is not between {_FIRST_YEAR} and {_LAST_YEAR}"
        return Problem("bad-time", message, path)
    if found.tzinfo is not None:
        return (found - _EPOCH) // _MILLISECOND
    wall, rest = divmod((following.replace(tzinfo=UTC) - _EPOCH) // _MILLISECOND, 1000)
    # its last moment is the one before the next day: an hour of it may come twice, or not at all
    return instant_of(zone, wall) * 1000 + rest - whole


def _is_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _never_fires(table: Timetable, since: int, now: int, path: Path) -> Problem | None:
    """What keeps it from firing: for ever is an error, from now on a warning."""
    if table.start >= table.end:
        return Problem("bad-time", "`start` is not before `end`", (*path, "start"))
    first = replace(table, start=0, end=LATEST).next_after(since if table.cron else -1)
    at = (*path, "at" if table.cron is None else "cron")
    if first is None:
        hint = "there is no 30 February, and no 31st in April, June, September or November"
        return Problem("never-fires", "No day is ever named by `cron`", at, hint=hint)
    if table.next_after(table.start - 1) is None:
        message = (
            "`at` is not between `start` and `end`"
            if table.cron is None
            else "`end` comes before the first due time"
        )
        return Problem("never-fires", message, at)
    if table.cron and table.next_after(now) is None:
        message = "The schedule is over: nothing is due before `end`"
        return Problem("never-fires", message, (*path, "end"), severity="warning")
    return None
