"""Claims executions, keeps them in memory while there is something to do, and gives them up.

    claim → fold → event → decide → record → perform

What a crash does: the next controller to hold the lock (SQLite) or to see the lease run out
(PostgreSQL) claims what was in flight and goes on from its checkpoints. What a stop does: running
steps get a grace; each execution records that it is held, and is released.

What being away does (stopped, asleep, without a database): a worker whose leases ran out begins
nothing until it has asked, by its next heartbeat, what it still has; what somebody else took it
lets go of, and what it has without knowing, from a claim that seemed to fail, it gives back.

A doorbell wakes the worker — somebody created an execution or sent a signal — and it looks by
itself every `POLL` in case a ring was lost.

What is in memory is bounded, however many are due or left: beyond `IN_MEMORY` (or `limit`) nothing
is taken on until something leaves. Where it gets crowded, what only waits leaves early. The first
few are taken on by themselves, so that they have begun before the many after them are read.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from contextlib import ExitStack, suppress
from typing import Any, TypeVar

from controller.admission import Gate
from controller.catalog import Catalog
from controller.clock import Clock
from controller.core.problem import Unavailable
from controller.execute.host import Ended, Leaving
from controller.execute.leases import Leases
from controller.execute.logsink import LogSink
from controller.execute.making import Maker
from controller.execute.patience import until
from controller.execute.perform import Performer
from controller.execute.running import SLICE, Running
from controller.execute.secrets import Secrets
from controller.execute.taking import Created, Taken, take
from controller.facts import Bus
from controller.interpreter import rush
from controller.logs import get_log
from controller.store import Store, ledger
from controller.store.journal import Moment
from controller.store.records import Claimant, ExecutionRecord, Fenced
from controller.store.tables import Transaction

T = TypeVar("T", bound=Created)

Creation = Callable[[Transaction, Claimant | None], T]
"""Writes executions, some of them as the claimant's own."""

POLL = 2_000
"""Milliseconds after which the worker looks without having been woken."""

CLAIM = 1000
"""Executions claimed in one transaction, at most."""

FIRST, GROWTH = 50, 4
"""Executions claimed in the first of several transactions; how many times more in the next one."""

IN_MEMORY = 1000
"""Executions in memory with which no more are taken on; what waits leaves early at half of it."""

log = get_log("windlass.execute")


class Worker:
    """Executes; see `Host` for what its executions use of it.

    Args:
        limit: How many executions may be busy at once (`maxConcurrentWorkflows`).
        heartbeat: Milliseconds between renewals of the leases (`checkpointInterval`).
        root: Execute this tree of executions only; for a command that waits for one.
    """

    def __init__(  # ruff: ignore[too-many-arguments]  # wired once, by keyword, in app.py
        self,
        *,
        store: Store,
        clock: Clock,
        bus: Bus,
        catalog: Catalog,
        gate: Gate,
        performer: Performer,
        secrets: Secrets,
        owner: str,
        limit: int = 50,
        slots: int = 64,
        heartbeat: int = 30_000,
        root: str | None = None,
    ) -> None:
        self.store = store
        self.clock = clock
        self.bus = bus
        self.gate = gate
        self.performer = performer
        self.secrets = secrets
        self.logs = LogSink(store, clock)
        self.owner = owner
        self.slots = asyncio.Semaphore(slots)
        self.stopping = False
        self.hurried = False  # True: what runs gets no more of the grace of a stop
        self._maker = Maker(catalog, self)
        self._limit = limit
        self._most = max(limit, IN_MEMORY)
        self._leases = Leases(clock, heartbeat)
        self._root = root
        self._running: dict[str, Running] = {}
        self._woken = asyncio.Event()
        self._strays: set[asyncio.Task[None]] = set()
        self._tasks: asyncio.TaskGroup | None = None
        self._took: set[str] = set()  # signals that became events since the last look began
        self.rushed = self._unsure = False
        self._still = asyncio.Event()  # no turn is in progress
        self.first = asyncio.Event()  # what was claimed first has begun, or could not be claimed
        self._still.set()
        self._released = asyncio.Event()
        self._coming = 0  # executions being created and claimed
        self._asked = 0  # executions being claimed, or about to begin
        self._full = False  # there may be more to take on than there was room for

    @property
    def in_memory(self) -> int:
        """Executions that are in memory now."""
        return len(self._running)

    @property
    def busy(self) -> int:
        """Executions of which something is being performed now; asked from any thread."""
        return sum(running.busy for running in list(self._running.values()))

    @property
    def room(self) -> int:
        """How many executions could begin now."""
        ready = self._tasks is not None and not (self.stopping or self._unsure or self._root)
        if not ready or (self._running and not self.holds):
            return 0
        return self._places

    @property
    def _places(self) -> int:
        """How many executions may be taken on: as many may be busy, and in memory."""
        left = min(self._limit - self.busy, self._most - self.in_memory)
        return max(0, min(CLAIM, left - self._coming - self._asked))

    # -- for its executions -----------------------------------------------------------------

    @property
    def holds(self) -> bool:
        """Whether nobody else can have what is in memory here."""
        return self._leases.hold

    @property
    def crowded(self) -> bool:
        """Whether what only waits is to leave at once."""
        return 2 * self.in_memory > self._most

    async def held(self) -> None:
        """See `Host`: a step may have waited long for its place, or the process been stopped."""
        await self._leases.held()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something beside the loop; the worker waits for it before it ends."""
        self._strays.add(task := self.start(work))
        task.add_done_callback(self._strays.discard)

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """`spawn`, for what may have to be cancelled."""
        tasks = self._tasks or asyncio.TaskGroup()  # which refuses: nobody has entered it
        try:
            return tasks.create_task(work)
        except RuntimeError as error:  # the worker does not run, or all in it is ended by a bug
            work.close()
            raise Ended(str(error)) from None

    def wake(self) -> None:
        """There may be executions to claim or signals to take: look now."""
        self._woken.set()

    def took(self, signals: Iterable[str]) -> None:
        """See `Host`; the next look begins after that."""
        self._took.update(signals)

    def waits(self) -> None:
        """An execution has left its place, and stays in memory: the next one may have it."""
        if self._full:
            self.wake()

    def left(self, leaving: Leaving) -> None:
        """An execution has left memory; who may go on now is looked for."""
        if there := self._running.get(leaving.record.id) is leaving:
            del self._running[leaving.record.id]
        if self._full or not there or leaving.lets_others_go_on:
            self.wake()

    # -- for who creates executions ---------------------------------------------------------

    async def create(
        self,
        verb: Creation[T],
        told: Callable[[T], Iterable[ExecutionRecord]],
        most: int = CLAIM,
        moment: float | None = None,
    ) -> T:
        """See `Executor`; what is claimed so has no events yet, and no signal is not heard of."""
        room, since = min(self.room, most), self.clock.monotonic()
        until = self._leases.until(self.clock.now())
        claimant = Claimant(self.owner, until, room) if room else None
        self._coming += room
        try:
            result = await self._written(verb, claimant, moment)
            self.rushed |= room > 1
            if not self.stopping:
                await self._begin(told(result), since)
            elif back := [each.id for each in told(result)]:
                await self.store.write(ledger.give_back, self.owner, back)
        finally:
            self._coming -= room
            self._maker.forget()
            self._calm()
        return result

    async def _written(self, verb: Creation[T], by: Claimant | None, moment: float | None) -> T:
        ready = self._maker.make_ready
        at = Moment(moment, lambda made: ready(made.begun)) if moment is not None else None
        try:
            return await self.store.write_out(at, verb, by)
        except BaseException:
            self._unsure |= by is not None  # it may be recorded all the same
            raise

    async def _begin(self, claimed: Iterable[ExecutionRecord], since: float) -> None:
        """Go on with what was created here, under leases from `since` on."""
        if not self._running:
            self._leases.written(since)
        try:
            await self._begin_all(map(Taken, claimed))
        except Unavailable:
            self._unsure = True
            self.wake()

    # -- the loop ---------------------------------------------------------------------------

    async def run(self) -> None:
        """Execute until `stop`; an unavailable database is waited for.

        A bug in an execution ends that one. One here ends all tasks: the next run claims it all.
        """
        self._still.clear()
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                await self._turns()
                self._still.set()
                await self._released.wait()  # what was decided before is still begun in the grace
        except Exception:
            for running in list(self._running.values()):
                running.lost()
            self._unsure = True  # of what was claimed and had not begun
            raise
        finally:
            self._tasks = None
            self._still.set()

    async def _turns(self) -> None:
        while not self.stopping:
            self._woken.clear()
            try:
                await self._turn()
            except Unavailable as error:
                log.warning("database unavailable; trying again", error=str(error))
                self._unsure = True
                await self.clock.sleep(1)
                continue
            timer = self.clock.call_later(POLL, self.wake)
            await self._woken.wait()
            timer.cancel()

    async def stop(self, grace: int) -> None:
        """Start nothing new, give what runs `grace` milliseconds, and release everything.

        What is recorded as started runs, though its commit has not returned yet.
        """
        self.stopping, deadline = True, self.clock.monotonic() + grace / 1000
        self._woken.set()
        await self._still.wait()
        await until(self.clock, lambda: not self._coming)  # it is released once it is known here
        for running in list(self._running.values()):
            running.hold()
        await until(self.clock, lambda: self._may_end(deadline))
        for running in (held := list(self._running.values())):
            running.interrupt()
        await until(self.clock, lambda: not self.busy)  # a process may take its kill grace
        self.logs.flush()
        for running in held:
            with suppress(Fenced, Unavailable):  # then it is free when the lease runs out
                await running.release()
        self._released.set()

    def _may_end(self, deadline: float) -> bool:
        settled = not any(each.unsettled for each in self._running.values())
        return settled or self.hurried or self.clock.monotonic() >= deadline

    async def _turn(self) -> None:
        """Renew, claim, and take signals, once."""
        now = self.clock.now()
        if self._unsure or (self._running and self._leases.late):
            await self._renew(now)
        await self._claim(now)
        if self._running:
            self._took.clear()
            for signal in await self.store.read(ledger.signals_for, self.owner):
                if signal.id not in self._took and signal.execution_id in self._running:
                    self._running[signal.execution_id].take(signal)

    async def _claim(self, now: int) -> None:
        """Take on what is free, while there is room."""
        if self.crowded:
            for running in list(self._running.values()):
                running.make_room()
        try:
            await self._take_all(now)
        finally:
            self._asked = 0
            self._calm()

    def _calm(self) -> None:
        """All have gone on by one step: let them go on by more, unless more are to begin."""
        if not self._coming:
            rushed, self.rushed = self.rushed, False
            for running in list(self._running.values()) if rushed else ():
                running.go_on()

    async def _take_all(self, now: int) -> None:
        """The next are claimed while these begin: the database works beside the loop."""
        ask = self._places and self.first.is_set()  # and meanwhile keeps no room from who creates
        self._full = not ask or await self.store.read(ledger.claimable, self.owner, now, self._root)
        room = self._asked = min(self._places, FIRST) if self._full else 0
        claim = self._claimed(room)
        with ExitStack() as done:
            done.callback(self.first.set)  # whatever comes of it
            done.callback(lambda: claim and claim.cancel())
            while claim is not None:
                taken = await claim
                self._full = len(taken) == room
                more = min(self._places, room * GROWTH) if self._full else 0
                claim, self._asked = self._claimed(more), room + more
                if len(taken) > SLICE:
                    self.rushed = True
                    done.enter_context(rush())
                await self._begin_all(taken)
                self.first.set()
                room = self._asked = more

    def _claimed(self, room: int) -> asyncio.Future[list[Taken]] | None:
        """A claim of up to so many, under way."""
        if self.stopping or not room:
            return None
        begun, now = self.clock.monotonic(), self.clock.now()
        by = Claimant(self.owner, self._leases.until(now), room)
        claim = self.store.queue(take, by, now, self._root)
        claim.add_done_callback(lambda done: self._lease(done, begun))
        return claim

    def _lease(self, done: asyncio.Future[list[Taken]], begun: float) -> None:
        claimed = not done.cancelled() and done.exception() is None and done.result()
        if claimed and not self._running:
            self._leases.written(begun)

    async def _begin_all(self, taken: Iterable[Taken]) -> None:
        for number, each in enumerate(taken, 1):
            await self._start(each)
            if number % SLICE == 0:
                await self.clock.sleep(0)

    async def _renew(self, now: int) -> None:
        """Extend the leases; let go of what others took, and of what is not known here."""
        begun = self.clock.monotonic()
        held = set(await self.store.write(ledger.heartbeat, self.owner, self._leases.until(now)))
        if lost := sorted(self._running.keys() - held):
            log.warning("goes on elsewhere: the leases had run out", count=len(lost))
        for execution_id in lost:
            self._running[execution_id].lost()
        if unknown := [] if self._coming else sorted(held - self._running.keys()):
            log.warning("claimed without knowing; given back", count=len(unknown))
            await self.store.write(ledger.release, self.owner, unknown)
        self._leases.written(begun)
        self._unsure = self._unsure and self._coming > 0
        for running in list(self._running.values()):
            running.go_on()

    async def _start(self, taken: Taken) -> None:
        """Fold what was claimed and go on with it; who had it here before has lost it since."""
        if (before := self._running.get(taken.record.id)) is not None:
            before.lost()
        running = await self._maker.make(taken)
        if running is not None:
            self._running[taken.record.id] = running
            running.start(taken.signals, before)
