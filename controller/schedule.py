"""Whatever happens because time passed: schedules fire, parked executions wake, old ones go.

One fire makes one execution, whatever crashes or runs beside it: the execution and the schedule's
next time are written in one transaction, and (schedule, due time) is unique in the database. The
loop sleeps until the next thing is due; it is woken when schedules change, and looks by itself
every `LOOK_AGAIN` in case the clock was moved.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from controller.admission import Admission, Admitted, Gate, admit, cancel
from controller.clock import Clock
from controller.core.overlap import Verdict, overlap
from controller.core.problem import Refused, Unavailable
from controller.core.timetable import CatchUp, Timetable, catch_up
from controller.facts import Bus, Fact, FactType
from controller.fires import fire_wish, in_line, timetable_of
from controller.logs import get_log
from controller.store import Store, ledger
from controller.store.records import Keep, Mark, ScheduleRecord, WorkflowHead
from controller.store.tables import Transaction

GRACE = 60_000
"""Milliseconds: the latest missed fire is made up when it is no older (LANGUAGE, `catchup`)."""

LOOK_AGAIN = 60_000
"""Milliseconds after which the loop looks at the wall clock again."""

AT_ONCE = 1_000
"""Schedules dealt with in one transaction."""

MOST_FIRES = 1_000
"""Fires one schedule makes up at once; older ones count as missed."""

SOON = 1_000
"""Milliseconds before a fire at which it is prepared; what was, is good for as long after it."""

MOST_AHEAD = 2_000
"""Fires prepared at once, at most."""

PRUNE_EVERY = 600_000
"""Milliseconds between looks for executions to prune."""

PRUNE_AT_ONCE = 200
"""Executions looked for at once, to prune them."""

ROWS_AT_ONCE = 2_000
"""Rows removed in one transaction, so that nobody who records waits long."""

DAY = 86_400_000
"""Milliseconds."""

log = get_log("windlass.schedule")


@dataclass(frozen=True, slots=True)
class Fires:
    """What one look at a schedule found.

    Attributes:
        admissions: Executions to create, oldest due time first.
        last: Up to when its due times are dealt with.
        next: When to look again; None: never.
        missed: Fires that are too old to be made up.
        refused: Why no execution can be created, if none can.
    """

    schedule: ScheduleRecord
    admissions: tuple[Admission, ...]
    last: int
    next: int | None
    missed: int
    refused: str | None = None

    def answered(self, answers: Sequence[Admission | Refused]) -> "Fires":
        """With what the gate said about its due times."""
        fit = (each for each in answers if isinstance(each, Admission))
        admissions = tuple(in_line(self.schedule, each) for each in fit)
        refusals = [f"{each.reason}: {each}" for each in answers if isinstance(each, Refused)]
        refused = refusals[-1] if refusals else self.refused
        return replace(self, admissions=admissions, refused=refused)


@dataclass(frozen=True, slots=True)
class Leftovers:
    """Days that something stays which belongs to no execution any more; None: for ever.

    Attributes:
        logs: Log lines; in any case they go with their execution.
        audits: Entries of the audit log.
        unused: Versions that nothing points to, and schedules that somebody stopped.
    """

    logs: int | None = None
    audits: int | None = None
    unused: int | None = None


class Scheduler:
    """The loop of time.

    Args:
        wake: Called when there may be something to claim.
        keep: Retention where a workflow says nothing.
        leftovers: Retention of what belongs to no execution.
    """

    def __init__(  # ruff: ignore[too-many-arguments]  # wired once, by keyword, in app.py
        self,
        *,
        store: Store,
        clock: Clock,
        bus: Bus,
        gate: Gate,
        wake: Callable[[], None],
        keep: Keep,
        leftovers: Leftovers,
    ) -> None:
        self._store = store
        self._clock = clock
        self._bus = bus
        self._gate = gate
        self._wake = wake
        self._keep = keep
        self._leftovers = leftovers
        self._woken = asyncio.Event()
        self._stopping = False
        self._timetables: dict[str, tuple[ScheduleRecord, Timetable | None]] = {}
        self._ahead: dict[str, Fires] = {}
        self._ahead_of: int | None = None
        self._prune_at = clock.now() + PRUNE_EVERY

    def look_again(self) -> None:
        """Schedules may have changed."""
        self._woken.set()

    def stop(self) -> None:
        """End the loop."""
        self._stopping = True
        self._woken.set()

    async def run(self) -> None:
        """Fire until stopped; an unavailable database is waited for."""
        while not self._stopping:
            self._woken.clear()
            wait = 1_000
            try:
                wait = min(await self.turn() - self._clock.now(), LOOK_AGAIN)
            except Unavailable as error:
                log.warning("database unavailable; trying again", error=str(error))
            timer = self._clock.call_later(max(wait, 0), self._woken.set)
            await self._woken.wait()
            timer.cancel()

    async def turn(self) -> int:
        """Do all that is due; when to look again."""
        now = self._clock.now()
        while due := await self._store.read(ledger.due_marks, now, AT_ONCE):
            await self._fire(due, now)
        wake = await self._store.read(ledger.next_wake)
        if wake is not None and wake <= now:
            self._wake()
            wake = now + 1_000
        if now >= self._prune_at:
            self._prune_at = now + PRUNE_EVERY
            await self._prune(now)
        following = await self._store.read(ledger.next_due)
        if following is not None:
            if following - now > SOON:
                following -= SOON
            elif following != self._ahead_of:
                await self._prepare(following)
        times = (now + LOOK_AGAIN, wake, following, self._prune_at)
        return min(time for time in times if time is not None)

    # -- firing -----------------------------------------------------------------------------

    async def _fire(self, due: Sequence[Mark], now: int) -> None:
        looked = await self._still_right(due, now)
        if len(looked) < len(due):
            known = {fires.schedule.id for fires in looked}
            rest = [mark.id for mark in due if mark.id not in known]
            looked += await self._look(await self._store.read(ledger.schedules_by_id, rest), now)
        outcomes = await self._store.write(record_fires, looked, now)
        self._wake()
        await self._clock.sleep(0)  # who executes goes before who listens
        for fires, verdicts in zip(looked, outcomes, strict=True):
            if verdicts is not None:
                self._tell(fires, verdicts, now)

    async def _prepare(self, moment: int) -> None:
        """Look at what is due then as if it were then, so that there is little left to do."""
        due = await self._store.read(ledger.due, moment, MOST_AHEAD)
        looked = await self._look(due, moment)
        self._ahead = {each.schedule.id: each for each in looked if each.refused is None}
        self._ahead_of = moment

    async def _still_right(self, due: Sequence[Mark], now: int) -> list[Fires]:
        """What was prepared for these, where neither time, schedule nor workflow has changed."""
        found = []
        for mark in due:
            fires = self._ahead.pop(mark.id, None)
            if fires is None or Mark.of(fires.schedule) != mark or now - fires.last > SOON:
                continue
            if fires.next is None or fires.next > now:
                found.append(fires)
        names = {fires.schedule.workflow_id for fires in found}
        heads = await self._store.read(ledger.heads, list(names)) if names else {}
        return [fires for fires in found if _is_current(fires, heads)]

    async def _look(self, due: Sequence[ScheduleRecord], now: int) -> list[Fires]:
        """Which due times of each schedule to fire now."""
        found = [self._owed(record, now) for record in due]
        wishes = [
            fire_wish(each.schedule, moment, now) for each, ready in found for moment in ready
        ]
        answers = iter(await self._gate.check_all(wishes))
        return [each.answered(list(islice(answers, len(ready)))) for each, ready in found]

    def _owed(self, record: ScheduleRecord, now: int) -> tuple[Fires, list[int]]:
        """A look at one schedule, and the due times it owes an execution now."""
        timetable = self._timetable(record, now)
        if timetable is None:
            return Fires(record, (), now, None, 0, "its timing is not valid any more"), []
        last = record.last_run_at if record.last_run_at is not None else record.created_at
        passed = catch_up(
            timetable,
            last,
            now,
            catchup=int(record.policy.get("catchup") or 0),
            limit=MOST_FIRES,
            grace=GRACE + timetable.jitter,
        )
        ready, following = _ready(timetable, passed, now)
        dealt = max([last, *ready]) if len(ready) < len(passed.fires) else now
        return Fires(record, (), dealt, following, passed.missed), ready

    def _timetable(self, record: ScheduleRecord, now: int) -> Timetable | None:
        known = self._timetables.get(record.id)
        if known is not None and known[0].updated_at == record.updated_at:
            return known[1]
        timetable = timetable_of(record, now)
        self._timetables[record.id] = (record, timetable)
        return timetable

    def _tell(self, fires: Fires, verdicts: Sequence[str], now: int) -> None:
        schedule = fires.schedule
        for admission, verdict in zip(fires.admissions, verdicts, strict=True):
            new = admission.execution
            created = verdict == Admitted.CREATED
            data = {"schedule": schedule.id, "due_at": new.due_at, "reason": verdict}
            kind = FactType.FIRED if created else FactType.MISFIRED
            which = new.id if created else None
            self._bus.publish(Fact(kind, now, schedule.workflow_id, which, data=data))
        missed = {"schedule": schedule.id, "count": fires.missed, "reason": "missed"}
        if fires.missed:
            log.warning("fires missed", workflow=schedule.workflow_id, **missed)
            self._bus.publish(Fact(FactType.MISFIRED, now, schedule.workflow_id, data=missed))
        if fires.refused is not None:
            log.warning("fire refused", workflow=schedule.workflow_id, reason=fires.refused)
            data = {"schedule": schedule.id, "reason": fires.refused.partition(":")[0]}
            self._bus.publish(Fact(FactType.MISFIRED, now, schedule.workflow_id, data=data))

    # -- pruning ----------------------------------------------------------------------------

    async def _prune(self, now: int) -> None:
        """Remove what retention does not keep: found by a reader, removed a little at a time."""
        rows = await self._prune_executions(now)
        leftovers = (
            (ledger.remove_logs, self._leftovers.logs),
            (ledger.remove_audits, self._leftovers.audits),
            (ledger.remove_versions, self._leftovers.unused),
            (ledger.remove_schedules, self._leftovers.unused),
        )
        for remove, days in leftovers:
            if days is None:
                continue
            while gone := await self._store.write(remove, now - days * DAY, ROWS_AT_ONCE):
                rows += gone
                if gone < ROWS_AT_ONCE:
                    break
        if rows:
            log.info("pruned what is not kept any longer", rows=rows)

    async def _prune_executions(self, now: int) -> int:
        found = await self._store.read(ledger.retention_rules)
        rules = {
            name: Keep(rule.get("days"), rule.get("keep_last")) for name, rule in found.items()
        }
        rows = 0
        while roots := await self._store.read(
            ledger.expired, now, self._keep, rules, limit=PRUNE_AT_ONCE
        ):
            gone = await self._store.write(ledger.remove, roots, ROWS_AT_ONCE)
            if not gone:  # somebody else has removed them
                break
            rows += gone
        return rows


def record_fires(tx: Transaction, looked: Sequence[Fires], now: int) -> list[list[str] | None]:
    """A verb for the store: create the executions and move the schedules on.

    Returns:
        For each schedule, for each of its admissions: `created`, or why it was not. None: the
        schedule has changed since it was looked at, such as by another controller that fired it.
    """
    standing = ledger.held_marks(tx, [fires.schedule.id for fires in looked])
    current = [each for each in looked if standing.get(each.schedule.id) == Mark.of(each.schedule)]
    outcomes = dict(zip(map(id, current), _record(tx, current, now), strict=True))
    return [outcomes.get(id(each)) for each in looked]


def _record(tx: Transaction, looked: Sequence[Fires], now: int) -> list[list[str]]:
    going = ledger.unfinished_of_schedules(tx, [fires.schedule.id for fires in looked])
    clear = {
        fires.schedule.id: fires.admissions[0].execution
        for fires in looked
        if _is_clear(fires) and fires.schedule.id not in going
    }
    created = ledger.create_all(tx, list(clear.values()))
    outcomes: list[list[str]] = []
    for fires in looked:
        alone = clear.get(fires.schedule.id)
        if alone is None:
            verdicts = [_admit_fire(tx, fires.schedule, each, now) for each in fires.admissions]
        else:
            verdicts = [Admitted.CREATED if alone.id in created else Admitted.EXISTS]
        outcomes.append(verdicts)
    pairs = zip(looked, outcomes, strict=True)
    ledger.advance_all(
        tx,
        [
            (fires.schedule.id, fires.last, fires.next, _reason(fires, verdicts))
            for fires, verdicts in pairs
        ],
    )
    return outcomes


def _is_current(fires: Fires, heads: Mapping[str, WorkflowHead]) -> bool:
    """Whether the workflow still is what the executions were prepared with."""
    head = heads.get(fires.schedule.workflow_id)
    if head is None or head.status != "active":
        return False
    return all(each.execution.digest == head.digest for each in fires.admissions)


def _is_clear(fires: Fires) -> bool:
    """One fire, for which no policy of the workflow may do anything but let it wait."""
    if len(fires.admissions) != 1:
        return False
    bound = fires.admissions[0].concurrency
    return bound is None or bound.on_full == "queue"


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
    if due is not None and ledger.fired(tx, schedule.id, due, due):
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


def _ready(timetable: Timetable, passed: CatchUp, now: int) -> tuple[list[int], int | None]:
    """The due times whose jitter has passed too, and when the next one fires."""
    ready: list[int] = []
    for moment in passed.fires:
        fires_at = moment + timetable.delay(moment)
        if fires_at > now:
            return ready, fires_at
        ready.append(moment)
    following = passed.next
    return ready, None if following is None else following + timetable.delay(following)
