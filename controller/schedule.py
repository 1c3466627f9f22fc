"""Whatever happens because time passed: schedules fire, parked executions wake.

One fire makes one execution, whatever crashes or runs beside it: the execution and the schedule's
next time are written in one transaction, and (schedule, due time) is unique in the database. The
loop sleeps until the next thing is due; it is woken when schedules change, and looks by itself
every `LOOK_AGAIN` in case the clock was moved.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from itertools import islice
from typing import Protocol

from controller.admission import Admitted, Gate
from controller.clock import Clock
from controller.core.problem import Unavailable
from controller.core.timetable import MOST_WAITING, CatchUp, Timetable, catch_up
from controller.facts import Bus, Fact, FactType
from controller.fires import Fired, Fires, fire_wish, record_fires, timetable_of
from controller.interpreter import rush
from controller.logs import get_log
from controller.recording import first_run
from controller.store import Store, ledger
from controller.store.records import Claimant, ExecutionRecord, ScheduleRecord
from controller.store.tables import Transaction

GRACE = 60_000
"""Milliseconds: the latest missed fire is made up when it is no older (LANGUAGE, `catchup`)."""

WRONG = 86_400_000
"""Milliseconds: who is dealt with until later than that was looked at by a clock that was wrong."""

LOOK_AGAIN = 60_000
"""Milliseconds after which the loop looks at the wall clock again."""

AT_ONCE = 1_000
"""Schedules looked at together, and dealt with in one transaction if nothing begins at once."""

FIRST_BEGUN, MOST_BEGUN = 50, 200
"""Executions begun at once, at first and then: they do not wait until the last are recorded."""

MOST_FIRES = MOST_WAITING
"""Fires one schedule makes up at once; older ones count as missed."""

SOON = 1_000
"""Milliseconds before a fire at which it is prepared; what was, is good for as long after it."""

AHEAD_OF_EACH = 0.06
"""Milliseconds that it takes to write a fire: so long before many are due they are written, all
together, and the commit is all that is left to do then. Nobody else writes meanwhile."""

MOST_AHEAD = 2_000
"""Fires prepared at once, at most."""

log = get_log("windlass.schedule")


class Executor(Protocol):
    """Who executes beside this loop: the worker."""

    @property
    def room(self) -> int:
        """How many executions it could begin now."""

    def wake(self) -> None:
        """There may be something to claim."""

    async def create(
        self,
        verb: Callable[[Transaction, Claimant | None], Fired],
        told: Callable[[Fired], Iterable[ExecutionRecord]],
        most: int,
        moment: float | None = None,
    ) -> Fired:
        """Write with `verb`; what it claims for the executor begins as soon as it is durable.

        Args:
            verb: Given who claims, or None where nobody does.
            told: Called before, with what the verb gave: the executions that were claimed, asked
                for one by one as they begin.
            most: How many the verb may claim; the room for them is kept until then.
            moment: When it is to be durable, and not before, monotonic seconds; None: at once.
        """


class Scheduler:
    """The loop of time.

    Args:
        executor: Begins what is due, as far as it has room.
        ahead_of_each: Milliseconds that it takes to write a fire.
    """

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        bus: Bus,
        gate: Gate,
        executor: Executor,
        ahead_of_each: float = AHEAD_OF_EACH,
    ) -> None:
        self._store = store
        self._clock = clock
        self._bus = bus
        self._gate = gate
        self._executor = executor
        self._ahead_of_each = ahead_of_each
        self._woken = asyncio.Event()
        self._stopping = False
        self._timetables: dict[str, tuple[ScheduleRecord, Timetable | None]] = {}
        self._ahead: list[Fires] = []
        self._ahead_of: int | None = None
        self._distance: int | None = None  # milliseconds from the monotonic clock to the wall's

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
        await self._heed_clock(now)
        if self._ahead and self._ahead_of is not None and self._write_at(self._ahead_of) <= now:
            await self._fire_ahead(max(now, self._ahead_of))
            now = self._clock.now()
        while due := await self._store.read(ledger.due, now, AT_ONCE):
            await self._fire(await self._look(due, now), now)
        wake = await self._store.read(ledger.next_wake)
        if wake is not None and wake <= now:
            self._executor.wake()
            wake = now + 1_000
        following = await self._store.read(ledger.next_due)
        if following is not None:
            if following - now > SOON:
                following -= SOON
            else:
                if following != self._ahead_of:
                    await self._prepare(following)
                following = self._write_at(following)
        times = (now + LOOK_AGAIN, wake, following)
        return min(time for time in times if time is not None)

    async def _heed_clock(self, now: int) -> None:
        """After a clock that was wrong is set right, what it had dealt with is due at its own time.

        Otherwise an hourly schedule would be silent for as long as the clock was wrong by. Where it
        was set back by less than `WRONG`, what is dealt with stays so: most of it has fired.
        """
        distance = now - int(self._clock.monotonic() * 1000)
        before, self._distance = self._distance, distance
        if before is not None and distance > before - GRACE:
            return
        while later := await self._store.read(ledger.dealt_later, now + WRONG, AT_ONCE):
            steps = [(each, self._first_run(each, now)) for each in later]
            if not await self._store.write(ledger.rewind, steps, now):
                break
            log.warning("the clock was set back, and schedules with it", schedules=len(steps))

    def _first_run(self, record: ScheduleRecord, now: int) -> int | None:
        timetable = self._timetable(record, now)
        return None if timetable is None else first_run(timetable, now)

    # -- firing -----------------------------------------------------------------------------

    async def _fire(self, looked: Sequence[Fires], now: int) -> None:
        """Record what a look found; what changed since then is still due for the next look.

        Where there is little room, what has begun may have made some by ending at once.
        """
        rest = list(looked)
        with rush():
            while rest:
                most = self._most
                await self._fire_some(rest[:most], now)
                rest = rest[most:]

    async def _fire_some(self, looked: Sequence[Fires], now: int) -> None:
        """All of it is queued at once, so what the first ones record is behind all the others.

        What is not due yet is written as a whole, to be durable when it is.
        """
        early, count = (now - self._clock.now()) / 1000, len(looked)
        moment = self._clock.monotonic() + early if early > 0 else None
        sizes = [count] if moment is not None else _sizes(count, self._executor.room)
        rest = iter(looked)
        fired = await asyncio.gather(
            *(self._begin(list(islice(rest, size)), now, moment) for size in sizes),
            return_exceptions=True,
        )
        if any(isinstance(each, Fired) and each.pending for each in fired):
            self._executor.wake()
        for each in fired:
            if isinstance(each, BaseException):
                raise each

    @property
    def _most(self) -> int:
        """So many fires are recorded before any of them ends."""
        return self._executor.room or AT_ONCE

    async def _begin(self, some: Sequence[Fires], now: int, moment: float | None) -> Fired:
        """Record these, and begin what there is room for."""
        begun: Iterator[ExecutionRecord] = iter(())

        def record(tx: Transaction, by: Claimant | None) -> Fired:
            return record_fires(tx, some, now, by)

        def told(fired: Fired) -> Iterator[ExecutionRecord]:
            nonlocal begun
            begun = self._told(some, now, fired)
            return begun

        try:
            return await self._executor.create(record, told, len(some), moment)
        finally:
            deque(begun, maxlen=0)  # of what did not begin is told, too

    async def _fire_ahead(self, now: int) -> None:
        """Fire what was prepared for this moment, unless it came too late or too early.

        The moment may be about to come: then all of it is durable, and begins, when it does.
        """
        ahead, self._ahead = self._ahead, []
        fit = [
            each
            for each in ahead
            if now - each.last <= SOON and (each.next is None or each.next > now)
        ]
        await self._fire(fit, now)

    def _write_at(self, moment: int) -> int:
        """When to write what was prepared for a moment."""
        return moment - int(min(len(self._ahead), self._most) * self._ahead_of_each)

    async def _prepare(self, moment: int) -> None:
        """Look at what is due then as if it were then, so that there is little left to do."""
        due = await self._store.read(ledger.due, moment, MOST_AHEAD)
        looked = await self._look(due, moment)
        self._ahead = [each for each in looked if each.refused is None]
        self._ahead_of = moment

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
            why = "its timing is not valid any more"
            return Fires(record, now, None, 0, why), []
        last = record.last_run_at if record.last_run_at is not None else record.created_at
        passed = catch_up(
            timetable,
            last,
            now,
            catchup=int(record.policy.get("catchup") or 0),
            limit=MOST_FIRES,
            grace=GRACE,
        )
        ready, following = _ready(timetable, passed, now)
        if following is None:
            del self._timetables[record.id]  # it is over
        waiting = passed.fires[len(ready) :]
        dealt = waiting[0] - 1 if waiting else now
        return Fires(record, dealt, following, passed.missed), ready

    def _timetable(self, record: ScheduleRecord, now: int) -> Timetable | None:
        known = self._timetables.get(record.id)
        if known is not None and known[0].updated_at == record.updated_at:
            return known[1]
        timetable = timetable_of(record, now)
        self._timetables[record.id] = (record, timetable)
        return timetable

    def _told(self, looked: Sequence[Fires], now: int, fired: Fired) -> Generator[ExecutionRecord]:
        """Tell what became of some fires; those that begin now, each when it has been told."""
        begun = {each.id: each for each in fired.begun}
        for fires, verdicts in zip(looked, fired.verdicts, strict=True):
            if verdicts is None:
                continue
            self._tell(fires, verdicts, now)
            for each in fires.admissions:
                if each.execution.id in begun:
                    yield begun[each.execution.id]

    def _tell(self, fires: Fires, verdicts: Sequence[str], now: int) -> None:
        schedule = fires.schedule
        for admission, verdict in zip(fires.admissions, verdicts, strict=True):
            if verdict == Admitted.EXISTS:
                continue  # it fired before: by hand, or as the clock was ahead
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


def _sizes(count: int, room: int) -> Iterator[int]:
    """How many fires are recorded together: few of those that begin, so that they begin soon."""
    size = FIRST_BEGUN
    while count > 0:
        some = min(count, size, room) or min(count, AT_ONCE)
        yield some
        count, room, size = count - some, max(room - some, 0), MOST_BEGUN


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
