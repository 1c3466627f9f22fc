"""Fires of schedules: how one becomes an execution, and which are to come.

The scheduler fires when a due time has come. A person may look ahead (`upcoming`) or go back
(`backfill.py`); all three read a schedule with `timetable_of` and create what `in_line` says, so
that they agree on when it fires and what a fire is: (schedule, due time) is unique in the database,
whoever makes it up, and the id begins with the due time, so that what was created at once is also
executed in the order of the due times.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from heapq import merge
from itertools import islice

from controller.admission import Admission, Wish, derived_id
from controller.core.definition import Schedule
from controller.core.problem import Refused
from controller.core.timetable import Timetable, compile_timetable
from controller.store.records import ScheduleRecord


@dataclass(frozen=True, slots=True)
class Timing:
    """The text of a recorded schedule, as the timetable reads it."""

    cron: str | None
    at: str | None
    timezone: str
    start: str | None
    end: str | None
    jitter: int


def timing_of(record: ScheduleRecord) -> Timing:
    """When it fires, as text."""
    policy = record.policy
    at = None
    if record.at is not None:
        at = datetime.fromtimestamp(record.at / 1000, UTC).isoformat()
    return Timing(
        cron=record.cron_expression,
        at=at,
        timezone=record.timezone,
        start=policy.get("start"),
        end=policy.get("end"),
        jitter=int(policy.get("jitter") or 0),
    )


def timetable_of(record: ScheduleRecord, now: int) -> Timetable | None:
    """When it fires; None: its text is not valid any more."""
    timetable, _ = compile_timetable(timing_of(record), workflow=record.workflow_id, now=now)
    return timetable


def checked_timetable(config: Schedule, workflow: str, now: int) -> Timetable:
    """When a schedule that somebody asks for fires; raises `Refused` if it is wrong."""
    timetable, problems = compile_timetable(config, workflow=workflow, now=now)
    if timetable is None:
        raise Refused(problems[0].message, reason=problems[0].code, hint=problems[0].hint)
    return timetable


# -- creating ---------------------------------------------------------------------------------


def fire_id(schedule_id: str, due: int) -> str:
    """The id of the execution of one fire; ids of one schedule sort by due time."""
    return f"{due:012x}{derived_id('fire', schedule_id, str(due))[12:]}"


def fire_wish(record: ScheduleRecord, due: int, now: int) -> Wish:
    """The execution that a fire asks for."""
    return Wish(
        id=fire_id(record.id, due),
        workflow=record.workflow_id,
        inputs=record.inputs,
        trigger={"type": "scheduled", "schedule_id": record.id, "due_at": due},
        now=now,
        schedule_id=record.id,
        due_at=due,
    )


def in_line(schedule: ScheduleRecord, admission: Admission) -> Admission:
    """Unless fires of the schedule may overlap, this one waits for those before it."""
    new = admission.execution
    if schedule.policy.get("overlap") == "allow" or new.concurrency_key is not None:
        return admission
    keyed = replace(new, concurrency_key=f"schedule {schedule.id}", concurrency_max=1)
    return replace(admission, execution=keyed)


# -- looking ahead ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Planned:
    """A schedule, recorded or only thought of, and when it fires."""

    schedule_id: str | None
    workflow_id: str | None
    cron_expression: str | None
    timetable: Timetable


@dataclass(frozen=True, slots=True)
class Upcoming:
    """One fire to come.

    Attributes:
        due_at: Nominal, epoch milliseconds: jitter comes on top.
        local_time: The same moment on the schedule's clock, ISO 8601.
    """

    schedule_id: str | None
    workflow_id: str | None
    cron_expression: str | None
    timezone: str
    due_at: int
    local_time: str


def planned(records: Iterable[ScheduleRecord], now: int) -> Iterator[Planned]:
    """Recorded schedules whose text is valid."""
    for record in records:
        if (timetable := timetable_of(record, now)) is not None:
            yield Planned(record.id, record.workflow_id, record.cron_expression, timetable)


def upcoming(schedules: Iterable[Planned], after: int, count: int) -> list[Upcoming]:
    """The next `count` fires of all of these together, strictly after a moment."""
    ahead = merge(*(_ahead(each, after) for each in schedules), key=lambda fire: fire.due_at)
    return list(islice(ahead, count))


def _ahead(schedule: Planned, after: int) -> Iterator[Upcoming]:
    zone = schedule.timetable.zone
    while (due := schedule.timetable.next_after(after)) is not None:
        shown = datetime.fromtimestamp(due / 1000, zone).isoformat()
        yield Upcoming(
            schedule.schedule_id,
            schedule.workflow_id,
            schedule.cron_expression,
            zone.key,
            due,
            shown,
        )
        after = due
