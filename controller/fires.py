"""Fires of schedules: how one becomes an execution, and which are to come.

The scheduler fires when a due time has come. A person may look ahead (`upcoming`) or go back
(`backfill.py`); all three read a schedule with `timetable_of` and create what `in_line` says, so
that they agree on when it fires and what a fire is: (schedule, due time) is unique in the database,
whoever makes it up, and the id begins with the due time, so that what was created at once is also
executed in the order of the due times.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from heapq import merge
from itertools import islice

from controller.admission import Admission, Admitted, Wish, admit, cancel, derived_id
from controller.core.definition import Schedule
from controller.core.overlap import Verdict, overlap
from controller.core.problem import Refused
from controller.core.timetable import Timetable, compile_timetable
from controller.store import ledger
from controller.store.ledger_executions import Prepared
from controller.store.ledger_schedules import Standing
from controller.store.records import Claimant, ExecutionRecord, ScheduleRecord
from controller.store.tables import Transaction


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


def in_line(schedule: ScheduleRecord, admission: Admission, line: str = "schedule") -> Admission:
    """Unless fires of the schedule may overlap, this one waits for those before it in its line."""
    if schedule.policy.get("overlap") == "allow":
        return admission
    queued = replace(admission.execution, queue=f"{line} {schedule.id}")
    return replace(admission, execution=queued)


# -- firing -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fires:
    """What one look at a schedule found.

    Attributes:
        last: Up to when its due times are dealt with.
        next: When to look again; None: never.
        missed: Fires that are too old to be made up.
        refused: Why no execution can be created, if none can.
        admissions: Executions to create, oldest due time first.
        prepared: The same, made ready.
        expected: What schedule and workflow must still be for them to be created.
    """

    schedule: ScheduleRecord
    last: int
    next: int | None
    missed: int
    refused: str | None = None
    admissions: tuple[Admission, ...] = ()
    prepared: tuple[Prepared, ...] = ()
    expected: Standing | None = None

    def answered(self, answers: Sequence[Admission | Refused]) -> "Fires":
        """With what the gate said about its due times."""
        fit = (each for each in answers if isinstance(each, Admission))
        admissions = tuple(in_line(self.schedule, each) for each in fit)
        refusals = [f"{each.reason}: {each}" for each in answers if isinstance(each, Refused)]
        refused = refusals[-1] if refusals else self.refused
        prepared = tuple(ledger.prepared(each.execution) for each in admissions)
        was = self.schedule
        digest = admissions[-1].execution.digest if admissions else None
        expected = Standing(
            was.id, was.next_run_at, was.last_run_at, was.updated_at, "active", digest
        )
        return replace(
            self, refused=refused, admissions=admissions, prepared=prepared, expected=expected
        )


@dataclass(frozen=True, slots=True)
class Fired:
    """What became of the fires of some schedules.

    Attributes:
        verdicts: For each schedule, for each of its admissions: `created`, or why it was not. None:
            the schedule or its workflow has changed since it was looked at, such as by another
            controller that fired it.
        begun: The executions that the claimant has.
        pending: Whether anything else was created.
    """

    verdicts: list[list[str] | None]
    begun: list[ExecutionRecord]
    pending: bool


def record_fires(
    tx: Transaction,
    looked: Sequence[Fires],
    now: int,
    by: Claimant | None = None,
) -> Fired:
    """A verb for the store: create the executions and move the schedules on.

    What has changed since a look found it is left to another look. `by` claims what it has room
    for as it is created, unless somebody waits for longer.
    """
    if any(not each.waits for fires in looked for each in fires.admissions):
        ledger.count_places(tx)  # before a schedule is kept from others, as whoever claims does
    standing = ledger.standing(tx, [fires.schedule.id for fires in looked])
    current = [each for each in looked if _is_current(each, standing.get(each.schedule.id))]
    going = ledger.unfinished_of_schedules(tx, [fires.schedule.id for fires in current])
    clear = {
        fires.schedule.id: fires
        for fires in current
        if _is_clear(fires) and fires.schedule.id not in going
    }
    if by is not None and ledger.claimable(tx, by.owner, now):
        by = None
    created, begun = _create(tx, list(clear.values()), by, now)
    verdicts: dict[str, list[str]] = {}
    for fires in current:
        alone = clear.get(fires.schedule.id)
        if alone is None:
            found = [_admit_fire(tx, fires.schedule, each, now) for each in fires.admissions]
        else:
            new = alone.admissions[0].execution
            found = [Admitted.CREATED if new.id in created else Admitted.EXISTS]
        verdicts[fires.schedule.id] = found
    ledger.advance(
        tx,
        [
            (fires.schedule.id, fires.last, fires.next, _reason(fires, verdicts[fires.schedule.id]))
            for fires in current
        ],
    )
    of_each = [verdicts.get(fires.schedule.id) for fires in looked]
    pending = sum(found.count(Admitted.CREATED) for found in verdicts.values()) > len(begun)
    if pending:
        ledger.announce(tx)
    return Fired(of_each, begun, pending=pending)


def _create(
    tx: Transaction, clear: Sequence[Fires], by: Claimant | None, now: int
) -> tuple[set[str], list[ExecutionRecord]]:
    """Create them all, as many as there is room for as the claimant's own: (new ids, those)."""
    own: list[Prepared] = []
    others: list[Prepared] = []
    room = by.room if by is not None else 0
    for each in clear:
        # who counts the places of a workflow's own key is `claim`
        free = len(own) < room and each.admissions[0].concurrency is None
        (own if free else others).append(each.prepared[0])
    begun = ledger.create_claimed(tx, own, by, now) if by is not None else []
    return ledger.create_all(tx, others) | {each.id for each in begun}, begun


def _is_current(fires: Fires, standing: Standing | None) -> bool:
    """Whether schedule and workflow still are what was looked at."""
    if standing is None or fires.expected is None:
        return False
    return standing == fires.expected or (
        not fires.admissions and standing[:_OF_WORKFLOW] == fires.expected[:_OF_WORKFLOW]
    )


_OF_WORKFLOW = Standing._fields.index("status")
"""Where what says something of the workflow begins."""


def _is_clear(fires: Fires) -> bool:
    """One fire, for which no policy of the workflow may do anything but let it wait."""
    return len(fires.admissions) == 1 and fires.admissions[0].waits


def _reason(fires: Fires, verdicts: Sequence[str]) -> str | None:
    """Why a fire was left out, as the schedule's row says it."""
    left_out = [one for one in verdicts if one not in {Admitted.CREATED, Admitted.EXISTS}]
    reason = fires.refused or (left_out[-1] if left_out else None)
    return f"missed {fires.missed}" if reason is None and fires.missed else reason


def _admit_fire(tx: Transaction, schedule: ScheduleRecord, admission: Admission, now: int) -> str:
    """Create one execution, unless the overlap policy or the workflow's concurrency forbids.

    A fire made up before, by hand or by another controller, must not get in its own way.
    """
    due = admission.execution.due_at
    if due is not None and ledger.fired(tx, schedule.id, [due]):
        return Admitted.EXISTS
    going = ledger.unfinished_of_schedules(tx, [schedule.id]).get(schedule.id, [])
    queued = sum(status == "pending" for _, status in going)
    policy = schedule.policy.get("overlap") or "skip"
    verdict = overlap(policy, len(going) - queued, queued)
    match verdict:
        case Verdict.SKIP_RUNNING | Verdict.SKIP_QUEUED:
            return verdict
        case Verdict.CANCEL_RUNNING_AND_FIRE:
            for execution, _ in going:
                cancel(tx, execution, now, reason="replaced by the next fire")
        case Verdict.FIRE | Verdict.QUEUE:
            pass
    return admit(tx, admission)


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
