"""Timetables: what an expression means, and what may not be said."""

import time
from datetime import UTC, datetime
from functools import reduce

import pytest
from croniter import croniter
from hypothesis import assume, given
from hypothesis import strategies as st

from controller.core.cron import Cron, parse_cron
from controller.core.timetable import Timetable, compile_timetable
from tests.schedule.tables import DAY, HOUR, MINUTE, NOW, Text, ms, problems, table


def _next(cron: str, after: str, zone: str = "UTC") -> str:
    due = table(Text(cron, timezone=zone)).next_after(ms(after))
    assert due is not None
    return datetime.fromtimestamp(due / 1000, UTC).isoformat().removesuffix("+00:00") + "Z"


@pytest.mark.parametrize(
    ("cron", "due"),
    [
        ("*/15 * * * *", "2026-01-01T00:15:00Z"),
        ("30 9 * * mon-fri", "2026-01-01T09:30:00Z"),
        ("0 9 * * 7", "2026-01-04T09:00:00Z"),
        ("0 0 1 jan *", "2027-01-01T00:00:00Z"),
        ("0 0 29 2 *", "2028-02-29T00:00:00Z"),
        ("0 0 L * *", "2026-01-31T00:00:00Z"),
        ("0 0 L,10 * *", "2026-01-10T00:00:00Z"),
        ("0 0 * * 5#3", "2026-01-16T00:00:00Z"),
        ("0 0 * * fri#3", "2026-01-16T00:00:00Z"),
        ("0 0 * * L5", "2026-01-30T00:00:00Z"),
        ("0 0 17W * *", "2026-01-16T00:00:00Z"),
        ("0 0 13 * 5", "2026-01-02T00:00:00Z"),
        ("0 0 ? * MON", "2026-01-05T00:00:00Z"),
        ("15 * * * * *", "2026-01-01T00:00:15Z"),
        ("*/20 30 6 * * *", "2026-01-01T06:30:00Z"),
        ("@hourly", "2026-01-01T01:00:00Z"),
        ("@daily", "2026-01-02T00:00:00Z"),
        ("@Midnight", "2026-01-02T00:00:00Z"),
        ("@weekly", "2026-01-04T00:00:00Z"),
        ("@monthly", "2026-02-01T00:00:00Z"),
        ("@yearly", "2027-01-01T00:00:00Z"),
        ("@annually", "2027-01-01T00:00:00Z"),
    ],
)
def test_an_expression_means_what_cron_says(cron: str, due: str) -> None:
    """Fields, names, `L`, `#`, `W`, seconds first and aliases, after the first of January 2026."""
    assert _next(cron, "2026-01-01T00:00:00Z") == due


def test_an_equal_range_is_one_value() -> None:
    """`9-9` is 9, where croniter would fire every hour."""
    assert _next("0 9-9 * * *", "2026-01-01T00:00:00Z") == "2026-01-01T09:00:00Z"
    assert _next("0 0 * mar-3 *", "2026-01-01T00:00:00Z") == "2026-03-01T00:00:00Z"


@pytest.mark.parametrize(
    ("cron", "days"),
    [
        ("0 0 */1 * 1", [5, 12, 19, 26]),
        ("0 0 ? * mon", [5, 12, 19, 26]),
        ("0 0 1 * */1", [1]),
        ("0 0 1 * ?", [1]),
        ("0 0 1-31 * */2", list(range(1, 32))),
        ("0 0 */2 * 0-6", list(range(1, 32))),
        ("0 0 */30 * 1", [1, 5, 12, 19, 26, 31]),
    ],
)
def test_of_two_day_fields_either_matches_unless_one_asks_for_nothing(
    cron: str, days: list[int]
) -> None:
    """Nothing is asked by `*`, `*/1` and `?`, and by them alone; croniter says otherwise."""
    since = ms("2026-01-01T00:00:00Z") - 1
    due = table(Text(cron)).fires(since, ms("2026-01-31T23:00:00Z"), 50)
    assert [datetime.fromtimestamp(each / 1000, UTC).day for each in due] == days


@given(st.sampled_from([("{} * * * *", range(60)), ("0 0 * * {}", range(7))]), st.data())
def test_a_range_goes_round_the_dial_with_its_step(
    field: tuple[str, range], data: st.DataObject
) -> None:
    """`50-20/15` is 50, 5, 20: as a hand that moves on by the step, until it is past the end."""
    text, dial = field
    first = data.draw(st.integers(1, len(dial) - 1))
    last = data.draw(st.integers(0, first - 1))
    step = data.draw(st.integers(1, len(dial)))
    found = _cron(text.format(f"{first}-{last}/{step}"), "w")
    hands = range(first, last + len(dial) + 1, step)
    expected = {hand % len(dial) for hand in hands}
    assert expected in (set(found.minutes), found.days.weekdays)


FIELDS = [
    (0, 59, []),
    (0, 23, []),
    (1, 31, []),
    (1, 12, ["jan", "jun", "dec"]),
    (0, 7, ["sun", "wed", "sat"]),
]


@st.composite
def _fields(draw: st.DrawFn, index: int) -> str:
    low, high, names = FIELDS[index]
    number = st.integers(low, high)
    item = st.one_of(
        number.map(str),
        st
        .tuples(number, number)
        .filter(lambda ends: ends[0] < ends[1])
        .map("{0[0]}-{0[1]}".format),
        st.tuples(number, st.integers(1, high)).map("{0[0]}/{0[1]}".format),
        st.integers(1, high).map("*/{}".format),
        *([st.sampled_from(names)] if names else []),
    )
    return draw(st.just("*") | st.lists(item, min_size=1, max_size=3).map(",".join))


SPECIAL_DAYS = st.sampled_from([
    "L * *",
    "15W * *",
    "31W * *",
    "1W 2,8 *",
    "* * 1#2",
    "* * L5",
    "* 3 sun#5",
    "L,7 * 2",
])
DAYS = st.tuples(_fields(2), _fields(3), _fields(4)).map(" ".join) | SPECIAL_DAYS
MINUTES = st.tuples(_fields(0), _fields(1)).map(" ".join)
EXPRESSIONS = st.tuples(st.just("") | _fields(0).map("{} ".format), MINUTES, DAYS).map(
    "{0[0]}{0[1]} {0[2]}".format
)
MOMENTS = st.integers(ms("2025-01-01T00:00:00Z"), ms("2040-01-01T00:00:00Z"))
ZONES = st.sampled_from([
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Africa/Casablanca",
])


@given(EXPRESSIONS, MOMENTS)
def test_where_no_clock_changes_it_agrees_with_croniter(cron: str, moment: int) -> None:
    """In UTC the next five due times are croniter's own, for expressions of every kind."""
    found, wrong = compile_timetable(Text(cron), workflow="w", now=moment)
    theirs = croniter(cron, moment / 1000, second_at_beginning=True)
    if found is None:
        assert {problem.code for problem in wrong} <= {"never-fires", "bad-cron"}
        return
    assert found.cron is not None
    full = {frozenset(range(1, 32)), frozenset(range(7))}  # croniter has these otherwise
    assume(full.isdisjoint({found.cron.days.of_month, found.cron.days.weekdays}))
    assume("*/1" not in cron.split())
    expected = [round(theirs.get_next(float) * 1000) for _ in range(5)]
    assert found.fires(moment, moment + 200 * 366 * DAY, 5) == expected


@given(EXPRESSIONS, ZONES, MOMENTS, st.integers(0, 400 * DAY))
def test_due_times_are_one_rising_sequence(cron: str, zone: str, since: int, span: int) -> None:
    """However one asks, the due times are the same: rising, in the window, none twice."""
    found, _ = compile_timetable(Text(cron, timezone=zone), workflow="w", now=NOW)
    if found is None:
        return
    fires = found.fires(since, since + span, 50)
    assert fires == sorted(set(fires))
    assert all(since < due <= since + span for due in fires)
    until = fires[-1] if len(fires) == 50 else since + span
    assert found.count(since, until) == len(fires)
    for before, due in zip([since, *fires], fires, strict=False):
        middle = (before + due) // 2
        assert found.next_after(due - 1) == found.next_after(middle) == due


@given(EXPRESSIONS, MOMENTS)
def test_a_due_time_is_within_the_fields(cron: str, moment: int) -> None:
    """Second, minute, hour and month of a due time are among those that the expression lists."""
    found, _ = compile_timetable(Text(cron), workflow="w", now=NOW)
    if found is None or found.cron is None:
        return
    for due in found.fires(moment, moment + 3000 * DAY, 10):
        shown = datetime.fromtimestamp(due / 1000, UTC)
        assert shown.second in found.cron.seconds
        assert shown.minute in found.cron.minutes
        assert shown.hour in found.cron.hours
        assert shown.month in found.cron.months


def test_h_is_the_same_in_every_process() -> None:
    """`H` depends on the workflow's name and on nothing else: these values are for ever."""
    assert _next("H H * * *", "2026-01-01T00:00:00Z") == "2026-01-01T00:36:00Z"
    assert _next("H(0-29) H/6 H * *", "2026-01-01T00:00:00Z") == "2026-01-05T00:06:00Z"


def _cron(text: str, workflow: str) -> Cron:
    found = parse_cron(text, workflow, ())
    assert isinstance(found, Cron)
    return found


def test_h_spreads_workflows_over_its_range() -> None:
    """A thousand names reach every minute of `H(0-29)` and every day a month must have."""
    crons = [_cron("H(0-29) 3 H * *", f"etl-{number}") for number in range(1000)]
    assert {cron.minutes for cron in crons} == {(minute,) for minute in range(30)}
    days = reduce(frozenset.union, (cron.days.of_month or frozenset() for cron in crons))
    assert days == set(range(1, 29))


def test_h_with_a_step_keeps_the_step() -> None:
    """`H/15` is four times an hour, fifteen minutes apart, from a minute of the name's own."""
    (first, *rest) = _cron("H/15 * * * *", "etl").minutes
    assert first < 15
    assert rest == [first + 15, first + 30, first + 45]


@pytest.mark.parametrize(
    ("cron", "offset", "word"),
    [
        ("0 25 * * *", 2, "hour"),
        ("0  0 32 * *", 5, "day of the month"),
        ("0 0 1 13 *", 6, "month"),
        ("0 0 * * monday", 8, "day of the week"),
        ("0 0 * * 5L", 8, "day of the week"),
        ("60 * * * *", 0, "minute"),
        ("61 * * * * *", 0, "second"),
        ("*/0 * * * *", 0, "minute"),
        ("R * * * *", 0, "dice"),
        ("0 R(1-5) * * *", 2, "dice"),
        ("0 0 1 * 5#3", 4, "combined"),
        ("0 0 15W * 1", 4, "combined"),
        ("* * * *", 0, "not 4"),
        ("0 0 0 1 1 * 2027", 0, "not 7"),
        ("", 0, "not 0"),
        ("@reboot", 0, "not a time"),
        ("@dayly", 0, "not a schedule"),
        ("0," * 600 + " * * * *", 0, "1000 characters"),
    ],
)
def test_what_is_wrong_in_an_expression_is_shown(cron: str, offset: int, word: str) -> None:
    """The problem says which field, in plain words, and points at its first character."""
    (problem,) = problems(Text(cron))
    assert (problem.code, problem.path, problem.offset) == ("bad-cron", ("config", "cron"), offset)
    assert word in problem.message


@pytest.mark.parametrize("cron", ["0 0 30 2 *", "0 0 31 4,6,9,11 *", "0 0 0 31 2 *"])
def test_what_can_never_fire_is_an_error(cron: str) -> None:
    """A well-formed expression of a day that does not exist is found before it is relied upon."""
    (problem,) = problems(Text(cron))
    assert (problem.code, problem.severity) == ("never-fires", "error")


CRONISH = st.text("0123456789*/-,#?@()LWHRhljan fri_\u0663\u00a0\x00", max_size=40)


@given(CRONISH | st.text(), st.text(max_size=20), st.text(max_size=30), ZONES | st.text())
def test_any_text_gives_a_timetable_or_a_problem(cron: str, name: str, at: str, zone: str) -> None:
    """No text makes it raise, and without a timetable there is a reason."""
    for text in (Text(cron, timezone=zone), Text(at=at, timezone=zone, start=at, end=at)):
        found, wrong = compile_timetable(text, workflow=name, now=NOW)
        assert isinstance(found, Timetable) or wrong


@pytest.mark.parametrize(
    ("zone", "meant"),
    [
        ("europe/berlin", "Europe/Berlin"),
        ("Europe/Berln", "Europe/Berlin"),
        ("Tokyo", "Asia/Tokyo"),
        ("America/New York", "America/New_York"),
    ],
)
def test_an_unknown_zone_is_answered_with_the_one_meant(zone: str, meant: str) -> None:
    """Spelling, case, and a city without its continent are mended by the hint."""
    (problem,) = problems(Text("@daily", timezone=zone))
    assert (problem.code, problem.path) == ("bad-timezone", ("config", "timezone"))
    assert problem.hint == f"did you mean `{meant}`?"


@pytest.mark.parametrize(
    "zone", ["", "America", "../zone", "localtime", "right/UTC", "posixrules", "a\0b", "x" * 5000]
)
def test_what_is_no_place_is_no_zone(zone: str) -> None:
    """Folders, paths and a machine's own settings are not time zones."""
    assert [problem.code for problem in problems(Text("@daily", timezone=zone))] == ["bad-timezone"]


@pytest.mark.parametrize(
    ("at", "zone", "due"),
    [
        ("2026-05-01T10:00:00Z", "Europe/Berlin", "2026-05-01T10:00:00Z"),
        ("2026-05-01T10:00:00+05:30", "UTC", "2026-05-01T04:30:00Z"),
        ("2026-05-01T10:00", "Europe/Berlin", "2026-05-01T08:00:00Z"),
        ("2026-05-01", "Europe/Berlin", "2026-04-30T22:00:00Z"),
        ("2026-03-29T02:30", "Europe/Berlin", "2026-03-29T01:00:00Z"),
        ("2026-10-25T02:30", "Europe/Berlin", "2026-10-25T00:30:00Z"),
    ],
)
def test_at_is_one_moment(at: str, zone: str, due: str) -> None:
    """An offset wins; without one it is the zone's clock, and clock changes follow the rule."""
    found = table(Text(at=at, timezone=zone))
    assert found.is_once
    assert found.fires(0, ms("2030-01-01T00:00:00Z"), 10) == [ms(due)]
    assert found.next_after(ms(due)) is None


def test_a_moment_gone_by_is_no_problem() -> None:
    """A file does not go bad with time: an `at` of the past is read, and is never next."""
    found = table(Text(at="2024-01-01T10:00:00Z"))
    assert found.next_after(NOW) is None


@pytest.mark.parametrize("name", ["at", "start", "end"])
@pytest.mark.parametrize("text", ["tomorrow", "2026-02-30", "2026-01-01T25:00", "0999-01-01", ""])
def test_a_time_that_cannot_be_read_is_named(name: str, text: str) -> None:
    """The problem is at the field that has it."""
    texts = {
        "at": Text(at=text),
        "start": Text("@daily", start=text),
        "end": Text("@daily", end=text),
    }
    (problem,) = problems(texts[name])
    assert (problem.code, problem.path) == ("bad-time", ("config", name))


def test_nothing_is_due_outside_start_and_end() -> None:
    """Both bounds are included, and a date as `end` includes that day."""
    found = table(Text("0 */12 * * *", start="2026-02-01T12:00", end="2026-02-02"))
    due = ["2026-02-01T12:00:00Z", "2026-02-02T00:00:00Z", "2026-02-02T12:00:00Z"]
    assert found.fires(0, NOW + 365 * DAY, 10) == [ms(text) for text in due]
    assert found.count(0, NOW + 365 * DAY) == 3


@pytest.mark.parametrize(
    ("zone", "end", "last"),
    [
        ("Africa/Cairo", "2026-10-29", "2026-10-29T23:30:00+02:00"),
        ("America/Nuuk", "2026-03-28", "2026-03-28T22:30:00-02:00"),
        ("Pacific/Apia", "2011-12-30", "2011-12-29T23:30:00-10:00"),
        ("Europe/Berlin", "2026-10-25", "2026-10-25T23:30:00+01:00"),
        ("UTC", "9997-12-31", "9997-12-31T23:30:00+00:00"),
    ],
)
def test_a_day_as_the_end_is_all_of_it(zone: str, end: str, last: str) -> None:
    """Also where its last hour comes twice, where it ends an hour sooner, or is left out."""
    text = Text("*/30 * * * *", timezone=zone, end=end)
    found, _ = compile_timetable(text, workflow="w", now=0)
    assert found is not None
    assert found.fires(ms(last) - HOUR, ms(last) + DAY, 9) == [ms(last) - 30 * MINUTE, ms(last)]


@pytest.mark.parametrize(
    ("text", "code", "severity"),
    [
        (Text("@daily", start="2026-03-01", end="2026-02-01"), "bad-time", "error"),
        (Text("@yearly", start="2026-02-01", end="2026-04-01"), "never-fires", "error"),
        (Text(at="2026-05-01", end="2026-04-01"), "never-fires", "error"),
        (Text("@daily", end="2025-04-01"), "never-fires", "warning"),
        (Text("@yearly", end="2026-04-01"), "never-fires", "warning"),
        (Text("* * * * *", jitter=17 * HOUR), "bad-jitter", "error"),
        (Text(), "bad-schedule", "error"),
        (Text("@daily", at="2026-05-01"), "bad-schedule", "error"),
    ],
)
def test_a_window_without_a_fire_is_reported(text: Text, code: str, severity: str) -> None:
    """Impossible is an error; over is a warning, so that a file stays valid as it grows old."""
    (problem,) = problems(text)
    assert (problem.code, problem.severity) == (code, severity)


def test_all_problems_of_a_schedule_come_at_once() -> None:
    """One look at the answer is enough to mend everything."""
    text = Text("61 * * * *", timezone="Mars", start="soon", end="late")
    codes = ["bad-timezone", "bad-cron", "bad-time", "bad-time"]
    assert [problem.code for problem in problems(text)] == codes


def test_jitter_is_derived_and_bounded() -> None:
    """A fire's delay is the same wherever it is asked, differs by fire, and stays in its bound."""
    found = table(Text("@hourly", jitter=10 * MINUTE))
    delays = [found.delay(due) for due in found.fires(NOW, NOW + 50 * DAY, 1000)]
    assert delays[:3] == [475_936, 238_149, 74_332]
    assert all(0 <= delay <= 10 * MINUTE for delay in delays)
    assert max(delays) - min(delays) > 9 * MINUTE
    assert table(Text("@hourly")).delay(NOW) == 0


def test_the_ends_of_time_are_quiet() -> None:
    """Nothing is due before 1970 or from 9998 on, and no moment makes it raise."""
    found = table(Text("0 0 1 1 *", timezone="Pacific/Kiritimati"))
    first = found.next_after(-(10**18))
    assert first is not None
    assert 0 <= first < 366 * DAY
    assert found.next_after(ms("9997-12-31T23:00:00Z") + HOUR) is None
    assert found.next_after(10**18) is None


COMMON = [
    "*/5 * * * *",
    "0 9 * * 1-5",
    "30 2 * * *",
    "H H * * *",
    "@hourly",
    "0 0 1 * *",
    "@yearly",
]


@pytest.mark.parametrize("cron", COMMON)
def test_the_next_due_time_is_found_fast(cron: str) -> None:
    """100 microseconds at most, so that 100,000 schedules load in seconds."""
    found = table(Text(cron, timezone="Europe/Berlin"))

    def microseconds() -> float:
        moment, begun = NOW, time.perf_counter()
        for _ in range(100):
            moment = found.next_after(moment) or NOW
        return (time.perf_counter() - begun) / 100 * 1e6

    assert min(microseconds() for _ in range(5)) < 100


def test_next_after_is_strict() -> None:
    """A due time is not its own successor, down to the millisecond."""
    found = table(Text("* * * * * *"))
    assert found.next_after(NOW) == NOW + 1000
    assert found.next_after(NOW - 1) == NOW
    assert found.next_after(NOW + 999) == NOW + 1000
