"""What is wrong with one schedule: whether it fires next when its timetable says. Reads nothing."""

from collections.abc import Iterator

from controller.core.timetable import Timetable
from controller.doctor.executions import Around
from controller.doctor.finding import Finding
from controller.fires import timetable_of
from controller.recording import first_run
from controller.store.records import ScheduleRecord

OVERDUE = 600_000
"""Milliseconds after which a controller that is at work has fired what is due."""

MOST_DUES = 5_000
"""Due times within the jitter before a next time that are looked at."""


def judge_schedule(record: ScheduleRecord, around: Around) -> Iterator[Finding]:
    """What is wrong with when it fires next."""
    try:
        yield from _judge(record, around)
    except Exception as error:  # ruff: ignore[blind-except]  # what is recorded may be anything
        yield Finding("schedule-invalid", record.id, f"{type(error).__name__}: {error}")


def _judge(record: ScheduleRecord, around: Around) -> Iterator[Finding]:
    if not record.active:
        if record.next_run_at is not None:
            detail = f"{record.reason or 'not active'}, and has a next time"
            yield Finding("schedule-time", record.id, detail)
        return
    timetable = timetable_of(record, around.now)
    if timetable is None:
        yield Finding("schedule-invalid", record.id)
        return
    wrong = _wrong(record, timetable, around.now)
    if wrong is not None:
        yield Finding("schedule-time", record.id, wrong)
    elif around.at_work and (record.next_run_at or around.now) < around.now - OVERDUE:
        yield Finding("schedule-overdue", record.id)


def next_run(record: ScheduleRecord, timetable: Timetable) -> int | None:
    """When to look at it next, by what of it is dealt with; None: it has ended."""
    return first_run(timetable, _dealt(record))


def _dealt(record: ScheduleRecord) -> int:
    return record.created_at if record.last_run_at is None else record.last_run_at


def _wrong(record: ScheduleRecord, timetable: Timetable, now: int) -> str | None:
    """A next time is a due time with its delay, and none before it that is to come is left out.

    What is overdue may wait for a controller, so the first one is looked for from now on; a clock
    that was ahead has left its traces.
    """
    moment = record.next_run_at
    if moment is None:
        return "active, and has no next time"
    around = timetable.fires(moment - timetable.jitter - 1, moment, MOST_DUES)
    if len(around) < MOST_DUES and not any(due + timetable.delay(due) == moment for due in around):
        return f"{moment} is not a due time"
    first = timetable.next_after(max(now, _dealt(record), record.updated_at))
    if first is not None and moment > first + timetable.jitter:
        return f"{moment} leaves out {first}"
    return None
