"""Cron expressions: which readings of a wall clock they name.

croniter reads the text, so that lists, steps, names, `L`, `#`, `W` and `H` are as it has them; what
it would search, this module searches itself over the numbers that come out: in whole seconds, ten
times faster, and free of clock changes, which are `timetable`'s affair. What is read otherwise than
croniter would read it:

- `9-9` is 9, as in every other cron. croniter takes an equal range for the whole field.
- `23-5/2` goes on over midnight: 23, 1, 3, 5. croniter begins the step anew at the turn.
- `@daily` and its like are exact. With a hash croniter spreads them, and with seconds first it gets
  the spread wrong; who wants a spread writes `H`.
- `H` alone as a day of the month stays within 1 to 28, so that no month is left out.
- `R` (dice), a seventh field (years), `@reboot`, and the mixtures of `#`, `L5` or `W` with the
  other day field, which croniter reads in two ways, are problems.

With both a day of the month and a day of the week, a day that is either matches; a field written
as `*`, `*/1` or `?` asks for nothing. Only the text says so: `1-31` asks for every day.
"""

import re
from bisect import bisect_left
from calendar import monthrange
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Any, Final, NamedTuple

from controller.core.problem import Path, Problem

DAY: Final = 86_400
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
_LAST_DAY: Final = date(9998, 12, 31).toordinal()
_HORIZON: Final = 50 * 366
"""Days to look ahead. The rarest that can happen, 29 February over 2100, is eight years apart."""
_LONGEST: Final = 1_000
"""Characters; every minute by name is 170."""
_SATURDAY: Final = 5

_ALIASES: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_WORD: Final = re.compile(r"\S+", re.ASCII)
_HASHED: Final = re.compile(r"h(\(|/|$)")
_RANDOM: Final = re.compile(r"r(\(|/|$)")
_RANGE: Final = re.compile(r"(\w+)-(\w+)(/\d+)?", re.ASCII)
_MONTHS: Final = dict(
    zip(
        ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
        range(1, 13),
        strict=True,
    )
)
_WEEKDAYS: Final = dict(
    zip(["sun", "mon", "tue", "wed", "thu", "fri", "sat"], range(7), strict=True)
)


class _Field(NamedTuple):
    name: str
    takes: str
    values: range
    names: dict[str, int] = {}  # ruff: ignore[mutable-class-default]  # nobody changes it
    also: tuple[int, ...] = ()


_FIELDS: Final = (
    _Field("second", "0 to 59", range(60)),
    _Field("minute", "0 to 59", range(60)),
    _Field("hour", "0 to 23", range(24)),
    _Field(
        "day of the month",
        "1 to 31, `L` (the last) or `15W` (the weekday nearest the 15th)",
        range(1, 32),
    ),
    _Field("month", "1 to 12 or jan to dec", range(1, 13), _MONTHS),
    _Field(
        "day of the week",
        "0 to 7 (0 and 7 are Sunday), sun to sat, `5#2` (the second Friday) or `L5` (the last)",
        range(7),
        _WEEKDAYS,
        also=(7,),
    ),
)
_ANY: Final = ("*", "*/1", "?")
"""How a field of days asks for nothing."""
_HOW_MANY: Final = (
    "five fields are minute, hour, day of the month, month, day of the week; six have seconds first"
)


@dataclass(frozen=True, slots=True)
class Days:
    """Which days of its months an expression names.

    Attributes:
        of_month: Days of the month, or None for any.
        last: The last day of the month is one, too.
        nearest: The weekday nearest this day of the month instead, or 0.
        weekdays: 0 (Sunday) to 6, or None for any.
        nth: Instead of `weekdays`: (weekday, how many-eth in the month; 0: the last).
    """

    of_month: frozenset[int] | None
    last: bool
    nearest: int
    weekdays: frozenset[int] | None
    nth: frozenset[tuple[int, int]]

    @property
    def any(self) -> bool:
        """Every day is one."""
        return self.of_month is None and self.weekdays is None and not self.nth

    @property
    def mixed(self) -> bool:
        """A day by `#`, `L5` or `W` beside a restricted other field."""
        return (self.of_month is not None and bool(self.nth)) or (
            self.nearest > 0 and self.weekdays is not None
        )

    def include(self, day: date) -> bool:
        """Whether the day is one, its month aside."""
        if self.of_month is None:
            return self._of_week(day)
        return self._of_month(day) or (self.weekdays is not None and self._of_week(day))

    def _of_month(self, day: date) -> bool:
        if self.nearest:
            return day.day == _nearest_weekday(day, self.nearest)
        if self.of_month is not None and day.day in self.of_month:
            return True
        return self.last and day.day == monthrange(day.year, day.month)[1]

    def _of_week(self, day: date) -> bool:
        weekday = day.isoweekday() % 7
        if not self.nth:
            return self.weekdays is None or weekday in self.weekdays
        if (weekday, (day.day + 6) // 7) in self.nth:
            return True
        return (weekday, 0) in self.nth and day.day + 7 > monthrange(day.year, day.month)[1]


def _nearest_weekday(month: date, wanted: int) -> int:
    """The day from Monday to Friday nearest the wanted one, in the same month."""
    last = monthrange(month.year, month.month)[1]
    wanted = min(wanted, last)
    weekday = month.replace(day=wanted).weekday()
    if weekday < _SATURDAY:
        return wanted
    if weekday == _SATURDAY:
        return wanted - 1 if wanted > 1 else wanted + 2
    return wanted + 1 if wanted < last else wanted - 2


@dataclass(frozen=True, slots=True)
class Cron:
    """The readings of a wall clock that one expression names, in seconds (see `zone`)."""

    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    months: frozenset[int]
    days: Days

    @property
    def every_hour(self) -> bool:
        """It fires in each hour of its days: the hour field is `*`, `*/1`, `0-23` or the like."""
        return len(self.hours) == 24  # ruff: ignore[magic-value-comparison]  # hours of a day

    def at_or_after(self, wall: int) -> int | None:
        """The first reading it names from `wall` on; None when there is none in fifty years."""
        day, second = divmod(wall, DAY)
        found = self._day(day)
        if found == day:
            time = self._time(second)
            if time is not None:
                return day * DAY + time
            found = self._day(day + 1)
        return None if found is None else found * DAY + (self._time(0) or 0)

    def count(self, low: int, high: int) -> int:
        """How many readings in [low, high) it names, without walking through them."""
        (first, early), (last, late) = divmod(low, DAY), divmod(high, DAY)
        total = self._count_days(first, last) * self._rank(DAY)
        if early and self._includes(first):
            total -= self._rank(early)
        if late and self._includes(last):
            total += self._rank(late)
        return total

    def _time(self, second: int) -> int | None:
        """The first second of the day it names from `second` on."""
        hour, rest = divmod(second, 3600)
        if hour in self.hours:
            minute, wanted = divmod(rest, 60)
            if minute in self.minutes and (found := _first(self.seconds, wanted)) is not None:
                return hour * 3600 + minute * 60 + found
            if (found := _first(self.minutes, minute + 1)) is not None:
                return hour * 3600 + found * 60 + self.seconds[0]
        found = _first(self.hours, hour + 1)
        return None if found is None else found * 3600 + self.minutes[0] * 60 + self.seconds[0]

    def _rank(self, second: int) -> int:
        """How many seconds of a day before `second` it names."""
        hour, rest = divmod(second, 3600)
        minute, second = divmod(rest, 60)
        total = bisect_left(self.hours, hour) * len(self.minutes) * len(self.seconds)
        if hour in self.hours:
            total += bisect_left(self.minutes, minute) * len(self.seconds)
            if minute in self.minutes:
                total += bisect_left(self.seconds, second)
        return total

    def _includes(self, day: int) -> bool:
        found = date.fromordinal(day + _EPOCH_DAY)
        return found.month in self.months and self.days.include(found)

    def _day(self, day: int) -> int | None:
        """The first of its days from `day` on, in days since 1970."""
        ordinal = day + _EPOCH_DAY
        last = min(ordinal + _HORIZON, _LAST_DAY)
        while ordinal <= last:
            found = date.fromordinal(ordinal)
            if found.month not in self.months:
                ordinal += monthrange(found.year, found.month)[1] + 1 - found.day
            elif self.days.include(found):
                return ordinal - _EPOCH_DAY
            else:
                ordinal += 1
        return None

    def _count_days(self, first: int, last: int) -> int:
        if self.days.any and len(self.months) == len(_MONTHS):
            return last - first
        return sum(map(self._includes, range(first, last)))


def _first(values: tuple[int, ...], least: int) -> int | None:
    index = bisect_left(values, least)
    return values[index] if index < len(values) else None


def parse_cron(text: str, workflow: str, path: Path) -> Cron | Problem:
    """Read an expression of five fields, of six with seconds first, or an alias such as `@daily`.

    Args:
        text: The expression; upper and lower case are one.
        workflow: The name whose hash stands for `H`.
        path: Where the text stands in the document.
    """
    if len(text) > _LONGEST:
        return _bad(path, f"`cron` has more than {_LONGEST} characters")
    exact = _ALIASES.get(text.strip().lower(), text)
    words = [(word[0], word.start()) for word in _WORD.finditer(exact)]
    if words and words[0][0].startswith("@"):
        return _not_an_alias(path, words[0][0])
    if len(words) not in {5, 6}:
        return _bad(path, f"`cron` has five or six fields, not {len(words)}", hint=_HOW_MANY)
    if len(words) == 5:  # ruff: ignore[magic-value-comparison]  # the classic five
        words.insert(0, ("0", 0))
    fields = tuple(
        _plain(word.lower(), field) for (word, _), field in zip(words, _FIELDS, strict=True)
    )
    cron = _read(fields, workflow if any(map(_HASHED.match, fields)) else "")
    if cron is None:
        return _unread(path, fields, words)
    if cron.days.mixed:
        return _bad(
            path,
            "`#`, `L` with a weekday and `W` cannot be combined with the other day field",
            offset=words[3][1],
            hint="write `*` in one of the two day fields, or two schedules",
        )
    return cron


def _bad(path: Path, message: str, *, hint: str | None = None, offset: int = 0) -> Problem:
    return Problem("bad-cron", message, path, hint=hint, offset=offset)


def _not_an_alias(path: Path, word: str) -> Problem:
    if word.lower() == "@reboot":
        message = "`@reboot` is not a time: a workflow does not belong to one machine's start"
        return _bad(path, message, hint="use an event trigger, or execute it by hand")
    return _bad(
        path, f"`{word[:40]}` is not a schedule", hint="alone there may be " + ", ".join(_ALIASES)
    )


def _plain(word: str, field: _Field) -> str:
    """The field as croniter must be told, to read it as this module's page says."""
    if word == "h" and field is _FIELDS[3]:
        return "h(1-28)"

    def number(text: str) -> int:
        return int(text) if text.isdecimal() else field.names.get(text, -1)

    def plain(item: str) -> str:
        ends = _RANGE.fullmatch(item)
        if ends is None:
            return item
        first, last, step = number(ends[1]), number(ends[2]), int((ends[3] or "/1")[1:])
        if first == last:
            return ends[1]
        dial = field.values
        known = {*dial, *field.also}
        if not (first in known and last in known and 0 < step <= len(dial)) or first < last:
            return item
        around = range(first, last + len(dial) + 1, step)
        return ",".join(str(dial[(each - dial.start) % len(dial)]) for each in around)

    return ",".join(map(plain, word.split(",")))


@lru_cache(4096)
def _read(fields: tuple[str, ...], workflow: str) -> Cron | None:
    """What croniter makes of six fields, seconds first; None when it cannot read them."""
    from croniter import croniter  # ruff: ignore[import-outside-top-level]  # start-up time

    if any(map(_RANDOM.match, fields)):
        return None
    try:
        read: Any = croniter(
            " ".join(fields),
            0.0,  # without a time it would ask the clock
            hash_id=workflow.encode(errors="replace"),
            second_at_beginning=True,
        )
    except ValueError:
        return None
    minutes, hours, days, months, weekdays, seconds = read.expanded
    _, _, _, day_word, _, weekday_word = fields
    any_day, any_weekday = day_word in _ANY, weekday_word in _ANY
    nth = frozenset(
        (weekday, 0 if n == "l" else n)
        for weekday, ns in read.nth_weekday_of_month.items()
        for n in ns
    )
    return Cron(
        seconds=_numbers(seconds, 60),
        minutes=_numbers(minutes, 60),
        hours=_numbers(hours, 24),
        months=frozenset(range(1, 13)) if "*" in months else frozenset(months),
        days=Days(
            of_month=None if any_day else _days(days, 3) - {"l"},
            last="l" in days and not any_day,
            nearest=next(iter(read.nearest_weekday), 0),
            weekdays=None if nth or any_weekday else _days(weekdays, 5),
            nth=nth,
        ),
    )


_EVERY: Final = {24: tuple(range(24)), 60: tuple(range(60))}
"""Shared, because most expressions have them."""


def _numbers(values: list[Any], end: int) -> tuple[int, ...]:
    return _EVERY[end] if "*" in values else tuple(sorted(values))


def _days(values: list[Any], field: int) -> frozenset[Any]:
    return frozenset(_FIELDS[field].values if "*" in values else values)


def _unread(path: Path, fields: tuple[str, ...], words: list[tuple[str, int]]) -> Problem:
    """Which field it is: the first that cannot be read when all others are `*`."""
    for index, (field, (word, offset)) in enumerate(zip(_FIELDS, words, strict=True)):
        alone = tuple(fields[index] if i == index else "*" for i in range(len(fields)))
        if _read(alone, "") is not None:
            continue
        message = f"The {field.name} field of `cron` cannot be `{word[:40]}`"
        if _RANDOM.match(fields[index]):
            return _bad(
                path,
                f"{message}: dice would fall differently on each start",
                hint="`H` spreads by the workflow's name",
                offset=offset,
            )
        return _bad(path, message, hint=f"it takes {field.takes}", offset=offset)
    return _bad(path, "`cron` cannot be read", hint=_HOW_MANY)
