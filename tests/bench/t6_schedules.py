"""T6: a thousand schedules due at one instant, and a hundred thousand that are not due.

An execution starts when the action of its first step is called: not when it is created, nor when
it is claimed.
"""

import asyncio
import statistics
import time
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from controller.app import App, open_app, run_main
from controller.core.definition import Schedule
from controller.facts import Fact, FactType
from controller.observe.metrics import Metrics
from controller.recording import schedule_record
from controller.schedule import Scheduler
from controller.settings import Settings
from controller.store import ledger
from controller.store.records import ScheduleRecord
from controller.store.tables import Transaction
from tests.bench.engine import N, row, steps
from tests.bench.limits import Limits
from tests.bench.table import Row

if TYPE_CHECKING:
    from controller.core.plan import StepPlan
    from controller.execute.action import Call
    from controller.execute.perform import Performer

WORKFLOWS = 100
AT_ONCE = 1_000
ROUNDS = 5
EVERY_FEW_SECONDS = "*/5 * * * * *"
LOADED = 100_000
IDLE_SECONDS = 5.0


class Watched:
    """The performer, and when it was first called for each execution: seconds since the epoch."""

    def __init__(self, performer: "Performer") -> None:
        self._performer = performer
        self.began: dict[str, float] = {}

    def perform(self, step: "StepPlan", call: "Call", inputs: dict[str, Any]) -> Any:
        """See `Performer`."""
        self.began.setdefault(call.execution, time.time())
        return self._performer.perform(step, call, inputs)


class Daemon:
    """The parts of the daemon that time drives, on the real clock."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.worker = app.worker()
        self._watched = Watched(app.performer)
        self.worker.performer = self._watched  # type: ignore[assignment]  # called in its place
        self.scheduler = Scheduler(
            store=app.store,
            clock=app.clock,
            bus=app.bus,
            gate=app.gate,
            executor=self.worker,
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

    async def fire(self) -> tuple[list[float], float]:
        """Seconds from due to start of `AT_ONCE` executions, and to the last one's end."""
        self._left = AT_ONCE
        self._done.clear()
        await self._done.wait()
        ended = time.time()
        found = await self.app.service.list_executions(limit=AT_ONCE)
        [due] = {each.due_at or 0 for each in found}
        late = sorted(self._watched.began.pop(each.id) - due / 1000 for each in found)
        return late, ended - due / 1000


@asynccontextmanager
async def _daemon(folder: Path, limit: int, cron: str, count: int) -> AsyncGenerator[Daemon, None]:
    settings = Settings(state_dir=folder, max_concurrent_workflows=limit)
    async with open_app(settings) as app:
        for number in range(WORKFLOWS):
            workflow = {"name": f"w{number}", "inputs": N, "steps": steps(1)}
            await app.service.create_workflow(workflow)
        now = app.clock.now()
        config = Schedule(cron=cron)
        records = [
            schedule_record(f"w{each % WORKFLOWS}", config, "api", now, schedule_id=str(each))
            for each in range(WORKFLOWS)
        ]
        await app.store.write(_add, records, count)
        daemon = Daemon(app)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(daemon.worker.run())
            tasks.create_task(daemon.scheduler.run())
            try:
                yield daemon
            finally:
                daemon.scheduler.stop()
                await daemon.worker.stop(1_000)


def _add(tx: Transaction, records: list[ScheduleRecord], count: int) -> None:
    """So many schedules, all due at the same instant."""
    due = min(record.next_run_at or 0 for record in records)
    for number in range(count):
        record = records[number % len(records)]
        ledger.add_schedule(tx, replace(record, id=str(number), next_run_at=due))


async def _fires(folder: Path, limit: int) -> list[tuple[list[float], float]]:
    """The first time is for warming up: a schedule that fires again and again is known."""
    async with _daemon(folder, limit, EVERY_FEW_SECONDS, AT_ONCE) as daemon:
        return [await daemon.fire() for _ in range(ROUNDS + 1)][1:]


async def _idle(folder: Path) -> float:
    """Percent of one core, with schedules that are due in a year."""
    async with _daemon(folder, 50, "0 0 29 2 *", LOADED) as daemon:
        await daemon.app.clock.sleep(1)
        busy, begin = time.process_time(), time.perf_counter()
        await daemon.app.clock.sleep(IDLE_SECONDS)
        return 100 * (time.process_time() - busy) / (time.perf_counter() - begin)


def _lateness(folder: Path, limit: int) -> Iterable[Row]:
    """Nearest-rank percentiles of each round, and their median over the rounds."""
    found = run_main(_fires(folder, limit))
    what = f"T6 {AT_ONCE:,} due at once, {limit:,} busy"
    for name, rank, target in (("p50", 0.5, 0.03), ("p99", 0.99, 0.1), ("max", 1, 0.25)):
        figures = [late[round(rank * AT_ONCE) - 1] for late, _ in found]
        yield row(f"{what}: start late, {name}", "s", figures, target=target)
    ends = [ended for _, ended in found]
    spread = (min(ends), max(ends))
    yield Row(f"{what}: last end", "s", statistics.median(ends), "less", spread=spread)


def rows(limits: Limits, folder: Path) -> Iterable[Row]:
    """Lateness with the default bound of busy executions, and without a bound that matters."""
    del limits
    for limit in (50, AT_ONCE):
        yield from _lateness(folder / str(limit), limit)
    idle = [run_main(_idle(folder / f"idle-{number}")) for number in range(2)]
    yield row(f"T6 {LOADED:,} schedules loaded, idle, one core", "%", idle, target=1)
