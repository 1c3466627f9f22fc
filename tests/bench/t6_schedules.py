"""T6: a thousand schedules due at one instant, and a hundred thousand that are not due."""

import asyncio
import statistics
import time
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from controller.app import App, open_app, run_main
from controller.core.definition import Schedule
from controller.facts import Fact, FactType
from controller.observe.metrics import Metrics
from controller.recording import schedule_record
from controller.schedule import Scheduler
from controller.settings import Settings
from controller.store import ledger
from controller.store.records import Keep, ScheduleRecord
from controller.store.tables import Transaction
from tests.bench.engine import N, row, steps
from tests.bench.limits import Limits
from tests.bench.table import Row

WORKFLOWS = 100
AT_ONCE = 1_000
ROUNDS = 5
AHEAD = 2_000
"""Milliseconds from the recording of schedules to when they are due, at least."""
LOADED = 100_000
IDLE_SECONDS = 5.0


class Daemon:
    """The parts of the daemon that time drives, on the real clock."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.worker = app.worker()
        self.scheduler = Scheduler(
            store=app.store,
            clock=app.clock,
            bus=app.bus,
            gate=app.gate,
            wake=self.worker.wake,
            keep=Keep(),
        )
        self._left = 0
        self._done = asyncio.Event()
        app.bus.subscribe(Metrics("bench", dict).observe)
        app.bus.subscribe(self._count)

    def _count(self, fact: Fact) -> None:
        if fact.type in {FactType.FAILED, FactType.MISFIRED}:
            raise AssertionError(f"{fact.type}: {fact.data}")
        self._left -= fact.type is FactType.COMPLETED
        if self._left == 0:
            self._done.set()

    async def fire(self, number: int) -> tuple[list[float], float]:
        """Seconds from due to start of `AT_ONCE` executions, and to the last one's end."""
        due = (self.app.clock.now() + AHEAD) // 1000 * 1000 + 1000
        records = [_once(self.app, f"{number}/{each}", each, due) for each in range(AT_ONCE)]
        self._left = AT_ONCE
        self._done.clear()
        await self.app.store.write(_add, records)
        self.scheduler.look_again()
        await self._done.wait()
        ended = time.time() - due / 1000
        found = await self.app.service.list_executions(limit=AT_ONCE)
        assert {each.due_at for each in found} == {due}
        return sorted(((each.started_at or 0) - due) / 1000 for each in found), ended


@asynccontextmanager
async def _daemon(folder: Path) -> AsyncGenerator[Daemon, None]:
    async with open_app(Settings(state_dir=folder)) as app:
        for number in range(WORKFLOWS):
            workflow = {"name": f"w{number}", "inputs": N, "steps": steps(1)}
            await app.service.create_workflow(workflow)
        daemon = Daemon(app)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(daemon.worker.run())
            tasks.create_task(daemon.scheduler.run())
            try:
                yield daemon
            finally:
                daemon.scheduler.stop()
                await daemon.worker.stop(1_000)


def _once(app: App, schedule_id: str, number: int, due: int) -> ScheduleRecord:
    at = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(due / 1000))}Z"
    workflow = f"w{number % WORKFLOWS}"
    now = app.clock.now()
    return schedule_record(workflow, Schedule(at=at), "api", now, schedule_id=schedule_id)


def _add(tx: Transaction, records: list[ScheduleRecord]) -> None:
    for record in records:
        ledger.add_schedule(tx, record)


async def _fires(folder: Path) -> list[tuple[list[float], float]]:
    async with _daemon(folder) as daemon:
        return [await daemon.fire(number) for number in range(ROUNDS + 1)][1:]


async def _idle(folder: Path) -> float:
    """Percent of one core, with schedules that are due in a day or later."""
    async with _daemon(folder) as daemon:
        due = daemon.app.clock.now() // 1000 * 1000 + 86_400_000
        records = [_once(daemon.app, str(each), each, due) for each in range(LOADED)]
        await daemon.app.store.write(_add, records)
        daemon.scheduler.look_again()
        await daemon.app.clock.sleep(1)
        busy, begin = time.process_time(), time.perf_counter()
        await daemon.app.clock.sleep(IDLE_SECONDS)
        return 100 * (time.process_time() - busy) / (time.perf_counter() - begin)


def rows(limits: Limits, folder: Path) -> Iterable[Row]:
    """Lateness of starts: nearest-rank percentiles of each round, their median over the rounds."""
    del limits
    found = run_main(_fires(folder / "fires"))
    for name, rank, target in (("p50", 0.5, 0.03), ("p99", 0.99, 0.1), ("max", 1, 0.25)):
        figures = [late[round(rank * AT_ONCE) - 1] for late, _ in found]
        yield row(f"T6 {AT_ONCE:,} due at once, start late, {name}", "s", figures, target=target)
    ends = [ended for _, ended in found]
    spread = (min(ends), max(ends))
    what = f"T6 {AT_ONCE:,} due at once, the last one ended"
    yield Row(what, "s", statistics.median(ends), "less", spread=spread)
    idle = [run_main(_idle(folder / f"idle-{number}")) for number in range(2)]
    yield row(f"T6 {LOADED:,} schedules loaded, idle, one core", "%", idle, target=1)
