"""What the clock on the wall of a zone shows, and when.

A *wall* time is the reading of a local clock, in seconds since it would have read
1970-01-01T00:00:00; an *instant* is seconds since the epoch in UTC. Between them stands the zone's
offset, and a clock change is the place where the offset jumps: forward it leaves readings out (a
gap), back it shows readings twice (an overlap). `zoneinfo` knows offsets and not the changes, so
a change is found by halving the time between two instants that it lies between.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

from controller.core.problem import Path, Problem

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_STRIDE: Final = 3 * 86_400
"""Clock changes of a zone lie further apart than this (the nearest, Gaza's, are seven days)."""
_NOT_PLACES: Final = ("localtime", "posixrules", "Factory", "posix/", "right/")
"""In the database, but a machine's own setting, a placeholder, or counted with leap seconds."""


def load_zone(name: str, path: Path) -> ZoneInfo | Problem:
    """The IANA zone of that name, or what is wrong with the name."""
    try:
        if not name.startswith(_NOT_PLACES):
            return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # unknown; malformed; a folder of the database
        pass
    return Problem(
        "bad-timezone",
        f"There is no time zone `{name[:60]}` in the IANA database",
        path,
        hint=_meant(name[:60]),
    )


def _meant(name: str) -> str:
    """The zone's name somebody probably had in mind; a city alone is enough."""
    known = _folded_names()
    wanted = name.casefold().replace(" ", "_")
    close = known.get(wanted) or next(
        (known[match] for match in get_close_matches(wanted, known, 1)), None
    )
    return f"did you mean `{close}`?" if close else "write a name such as `Europe/Berlin` or `UTC`"


@lru_cache(1)
def _folded_names() -> dict[str, str]:
    """Lower-case names, and lower-case last parts (`berlin`), → names as the database has them."""
    names = sorted(name for name in available_timezones() if not name.startswith(_NOT_PLACES))
    cities = {name.rpartition("/")[2].casefold(): name for name in reversed(names)}
    return cities | {name.casefold(): name for name in names}


def offset_at(zone: ZoneInfo, instant: int) -> int:
    """Seconds to add to an instant to get the wall time then."""
    return _offset(datetime.fromtimestamp(instant, zone))


def _offset(local: datetime) -> int:
    shift = local.utcoffset() or timedelta()
    return shift.days * 86_400 + shift.seconds


def instant_of(zone: ZoneInfo, wall: int) -> int:
    """The first instant at which the wall clock has reached `wall`.

    That is the first of two when the reading comes twice, and the end of the gap when the reading
    is left out.
    """
    local = (_EPOCH + timedelta(seconds=wall)).replace(tzinfo=zone)
    before = _offset(local)
    instant = wall - before
    if offset_at(zone, instant) == before:
        return instant
    # In a gap `fold=0` counts by the offset before it and lands behind the change, `fold=1` by the
    # offset after it and lands in front (PEP 495).
    return _change(zone, wall - _offset(local.replace(fold=1)), instant)


def unreached(zone: ZoneInfo, instant: int) -> int:
    """The least wall time that no clock of the zone has shown up to and including `instant`."""
    local = datetime.fromtimestamp(instant, zone)
    wall = instant + _offset(local)
    if not local.fold:
        return wall + 1
    change = _change(zone, wall - _offset(local.replace(fold=0)), instant)
    return change + offset_at(zone, change - 1)


def next_change(zone: ZoneInfo, low: int, high: int) -> int | None:
    """The first instant of a new offset in (low, high], which are less than a week apart."""
    return None if offset_at(zone, low) == offset_at(zone, high) else _change(zone, low, high)


def _change(zone: ZoneInfo, low: int, high: int) -> int:
    """Like `next_change`, where it is known that there is one."""
    before = offset_at(zone, low)
    while high - low > 1:
        middle = (low + high) // 2
        if offset_at(zone, middle) == before:
            low = middle
        else:
            high = middle
    return high


def segments(zone: ZoneInfo, since: int, until: int) -> Iterator[tuple[int, int, int]]:
    """[since, until) cut at the clock changes: (start, end, the offset between them)."""
    start = probe = since
    while probe < until - 1:
        ahead = min(probe + _STRIDE, until - 1)
        change = next_change(zone, probe, ahead)
        if change is not None:
            yield start, change, offset_at(zone, start)
            start = ahead = change
        probe = ahead
    if start < until:
        yield start, until, offset_at(zone, start)
