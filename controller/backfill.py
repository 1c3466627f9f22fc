"""Fires made up by hand: an execution for each due time of a range that did not fire.

(schedule, due time) is unique in the database, so a fire that was made up twice is one execution,
and all of a backfill is one transaction: after a crash it is there, or can be asked for again.

A backfill is nobody's overlap: it is not left out because something runs, and a later fire is
neither left out nor cancels because of it, nor does it wait. Unless the policy is `allow`, what is
made up of a schedule has a line of its own and goes one execution after another, oldest first. Who
wants no more of a workflow at once, whoever asks for it, says so with its `concurrency`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from controller.admission import Admission, Admitted, Gate, admit
from controller.core.problem import NotFound, Refused
from controller.fires import fire_id, fire_wish, in_line, timetable_of
from controller.lookup import check_limit
from controller.store import Store, ledger
from controller.store.records import AuditRecord, ScheduleRecord
from controller.store.tables import Transaction


@dataclass(frozen=True, slots=True)
class Backfill:
    """What somebody wants made up; of `workflow` and `schedule` one is given.

    Attributes:
        since: Epoch milliseconds, the first moment of the range.
        until: Epoch milliseconds, the first moment after it; one to come is now: what is due later
            fires by itself.
        workflow: All active schedules of this workflow.
        schedule: This one, also while it pauses or when it has ended.
        limit: With more due times than this, fired or not, nothing is created.
        dry_run: Only say what would be created.
    """

    since: int
    until: int
    workflow: str | None = None
    schedule: str | None = None
    limit: int = 100
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class MadeUp:
    """What became of one due time of a backfill.

    Attributes:
        execution_id: None: there is none yet (`missing`).
        result: `created` by this backfill; `exists`: it fired before; `missing`: it did not, and a
            dry run creates nothing.
    """

    schedule_id: str
    workflow_id: str
    due_at: int
    execution_id: str | None
    result: Literal["created", "exists", "missing"]


@dataclass(frozen=True, slots=True)
class Backfilled:
    """What became of a backfill.

    Attributes:
        since_at: The first moment of the range, epoch milliseconds.
        until_at: The first moment after it.
        dry_run: Nothing was created.
        fires: By due time.
    """

    since_at: int
    until_at: int
    dry_run: bool
    fires: list[MadeUp]

    def count(self, result: str) -> int:
        """How many due times this became of."""
        return sum(each.result == result for each in self.fires)


@dataclass(frozen=True, slots=True)
class Owed:
    """The due times of one schedule in a range, and the executions they ask for (dry run: none)."""

    schedule: ScheduleRecord
    dues: Sequence[int]
    admissions: Sequence[Admission] = ()

    def asking(self, admission: Admission) -> "Owed":
        """With an execution for each due time, all alike but for that."""
        trigger = {**admission.execution.trigger, "backfill": True}
        executions = [
            replace(
                admission.execution,
                id=fire_id(self.schedule.id, due),
                trigger={**trigger, "due_at": due},
                due_at=due,
            )
            for due in self.dues
        ]
        # whatever `on_full` says: who asks for all of these wants none of them left out
        return replace(self, admissions=[Admission(each, None) for each in executions])


async def backfill(store: Store, gate: Gate, wish: Backfill, now: int, by: str) -> Backfilled:
    """Do it, all or nothing.

    Raises:
        NotFound: There is no such workflow or schedule.
        Refused: The range is empty or too wide, or no execution may be created.
    """
    check_limit(wish.limit)
    schedules = await _schedules(store, wish)
    until = min(wish.until, now + 1)
    if wish.since >= until:
        message = "the range has no past in it: it must begin before it ends, and before now"
        raise Refused(message, reason="bad-range")
    wanted = _owed(schedules, wish.since, until, wish.limit, now)
    if wish.dry_run:
        fires = await store.read(fired_of, wanted)
        return Backfilled(wish.since, until, dry_run=True, fires=fires)
    asking = [
        each.asking(await gate.check(fire_wish(each.schedule, each.dues[0], now)))
        for each in wanted
        if each.dues
    ]
    target = wish.workflow or schedules[0].workflow_id
    detail = {"schedule": wish.schedule, "since": wish.since, "until": until}
    audit = AuditRecord(now, by, "backfill", target, detail)
    fires = await store.write(make_up, asking, audit)
    return Backfilled(wish.since, until, dry_run=False, fires=fires)


async def _schedules(store: Store, wish: Backfill) -> list[ScheduleRecord]:
    if (wish.workflow is None) == (wish.schedule is None):
        raise Refused("either a workflow or a schedule is backfilled", reason="bad-target")
    if wish.schedule is None:
        if await store.read(ledger.head, wish.workflow or "") is None:
            message = f"no workflow is called {wish.workflow!r}"
            raise NotFound(message, hint="see `windlass workflows:list`")
        return await store.read(ledger.schedules, wish.workflow)
    record = await store.read(ledger.schedule, wish.schedule)
    if record is None:
        message = f"there is no schedule {wish.schedule!r}"
        raise NotFound(message, hint="see `windlass schedule:list`")
    if not record.active and record.reason in ledger.STOPPED:
        message = f"schedule {record.id} does not fire: it is {record.reason}"
        raise Refused(message, reason="not-active")
    return [record]


def _owed(
    schedules: Iterable[ScheduleRecord], since: int, until: int, limit: int, now: int
) -> list[Owed]:
    """The due times of each schedule in [since, until); raises `Refused` above the limit in all."""
    tables = [(each, timetable_of(each, now)) for each in schedules]
    usable = [(each, table) for each, table in tables if table is not None]
    total = sum(table.count(since - 1, until - 1) for _, table in usable)
    if total > limit:
        raise Refused(
            f"{total:,} due times are in that range, more than the limit of {limit:,}: "
            "nothing was created",
            reason="too-many",
            hint=f"narrow it with --from and --to, name one schedule, or set --limit {total}",
        )
    return [Owed(each, table.fires(since - 1, until - 1, limit)) for each, table in usable]


def fired_of(tx: Transaction, all_owed: Sequence[Owed]) -> list[MadeUp]:
    """A verb for the store: which of the due times fired already; it creates nothing."""
    found = []
    for each in all_owed:
        there = ledger.fired(tx, each.schedule.id, each.dues)
        for due in each.dues:
            known = there.get(due)
            result: Literal["exists", "missing"] = "missing" if known is None else "exists"
            found.append(MadeUp(each.schedule.id, each.schedule.workflow_id, due, known, result))
    return sorted(found, key=lambda one: (one.due_at, one.schedule_id))


def make_up(tx: Transaction, all_owed: Sequence[Owed], audit: AuditRecord) -> list[MadeUp]:
    """A verb for the store: create what did not fire, and say who asked for it."""
    created = {
        admission.execution.id
        for each in all_owed
        for admission in each.admissions
        if admit(tx, in_line(each.schedule, admission, "backfill")) is Admitted.CREATED
    }
    ledger.audit(tx, replace(audit, detail={**audit.detail, "created": len(created)}))
    return [
        replace(each, result="created") if each.execution_id in created else each
        for each in fired_of(tx, all_owed)
    ]
