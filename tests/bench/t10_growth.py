"""T10: a million finished executions and ten thousand waiting ones, beside a hundred.

Each figure stands beside the same one of a database with the same definitions and hardly any
executions, from the same run: what it costs that there are so many. Executions are what the engine
wrote, many times over (`tests/growth/grown.py`); to make them takes longer than to measure.
"""

import asyncio
import sqlite3
import statistics
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import closing
from pathlib import Path

from controller.app import App, open_app, run_main
from controller.pruning import Leftovers, Pruner
from controller.settings import Settings
from controller.store.retention import Keep
from controller.store.tables import Transaction
from tests.bench.engine import row
from tests.bench.limits import Limits
from tests.bench.t8_start import command
from tests.bench.table import Row
from tests.crash.daemon import Daemon
from tests.eventually import wait_until
from tests.growth.grown import LARGE, Size, grow, working

FEW = Size(100, 20)

STARTS = 3
SCRAPES = 20
LOOKS = 5
FRESH = 20
DEEP = 5_000
"""Executions behind which a page begins."""

PRUNE_SECONDS = 3.0
PRUNED_AFTER = 20
"""Days of retention under which a third of the executions is over its bounds."""

PATIENCE = 60.0

Figures = dict[str, list[float]]

UNITS = {
    "start to ready": "s",
    "waiting ones, all due at start, taken on": "s",
    "scrape of /metrics": "ms",
    "newest 20": "ms",
    "newest 20 of the workflow with half of all": "ms",
    "newest 20 failures": "ms",
    "newest 20 failures of one workflow": "ms",
    f"20 behind the newest {DEEP:,}, by cursor": "ms",
    "one execution with its steps": "ms",
    "how many there are by status": "ms",
    "workflows:history": "s",
    "a new execution, from asked to ended": "ms",
    "longest wait for a commit while pruning": "ms",
}
TARGETS = {"start to ready": 0.8}


def rows(limits: Limits, folder: Path) -> Iterable[Row]:
    """Each figure with so many, beside it with few."""
    del limits
    few = _figures(folder / "few", FEW)
    many = _figures(folder / "many", LARGE)
    for what, unit in UNITS.items():
        name, beside = f"T10 {what}", statistics.median(few[what])
        yield row(name, unit, many[what], target=TARGETS.get(what), limit=beside)


def _figures(folder: Path, size: Size) -> Figures:
    """Everything measured on a database of this size."""
    (folder / "definitions").mkdir(parents=True)
    state = folder / ".windlass"
    state.mkdir()
    run_main(grow(Settings(state_dir=state), size))
    return measured(folder)


def measured(folder: Path) -> Figures:
    """Everything measured on the database in a folder."""
    found: Figures = {what: [] for what in UNITS}
    daemon = Daemon(folder)
    for _ in range(STARTS):
        begin = time.perf_counter()
        with daemon:
            found["start to ready"].append(time.perf_counter() - begin)
            daemon.stop()
    found["waiting ones, all due at start, taken on"] = [_awoken(folder, daemon)]
    with daemon:
        found["scrape of /metrics"] = _milliseconds(lambda: daemon.get("/metrics"), SCRAPES)
        run_main(_asked(folder, found))
        history = [command(folder, "workflows:history") for _ in range(LOOKS)]
        found["workflows:history"] = history
        daemon.stop()
    run_main(_worked(folder, found))
    return found


def _milliseconds(act: Callable[[], object], times: int) -> list[float]:
    found = []
    for _ in range(times):
        begin = time.perf_counter()
        act()
        found.append((time.perf_counter() - begin) * 1000)
    return found


def _awoken(folder: Path, daemon: Daemon) -> float:
    """Seconds from the start until each that waited was in memory, and found nothing to do."""
    with closing(sqlite3.connect(folder / ".windlass" / "windlass.db")) as database:
        database.execute("UPDATE workflow_executions SET wake_at = 0 WHERE wake_at IS NOT NULL")
        database.commit()
        asked = "SELECT count(*) FROM workflow_executions WHERE wake_at = 0"
        begin = time.perf_counter()
        with daemon:
            wait_until(lambda: database.execute(asked).fetchone() == (0,), within=PATIENCE)
            seconds = time.perf_counter() - begin
            daemon.stop()
    return seconds


async def _asked(folder: Path, found: Figures) -> None:
    """What a page or a person asks for, while the controller is there."""
    async with open_app(Settings(state_dir=folder / ".windlass")) as app:
        service = app.service
        deep = await service.page_executions(limit=min(DEEP, FEW.finished - 20))
        newest = (await service.list_executions(limit=1))[0].id
        asks: dict[str, Callable[[], Awaitable[object]]] = {
            "newest 20": service.list_executions,
            "newest 20 of the workflow with half of all": lambda: service.list_executions("w0"),
            "newest 20 failures": lambda: service.list_executions(status="failed"),
            "newest 20 failures of one workflow": lambda: service.list_executions("w0", "failed"),
            f"20 behind the newest {DEEP:,}, by cursor": (
                lambda: service.page_executions(cursor=deep.next)
            ),
            "one execution with its steps": lambda: service.get_workflow_status(newest),
            "how many there are by status": service.count_executions,
        }
        for what, ask in asks.items():
            for _ in range(LOOKS):
                begin = time.perf_counter()
                await ask()
                found[what].append((time.perf_counter() - begin) * 1000)


async def _worked(folder: Path, found: Figures) -> None:
    """What executes and what prunes, in this process."""
    async with open_app(Settings(state_dir=folder / ".windlass")) as app:
        async with working(app):
            for _ in range(FRESH):
                begin = time.perf_counter()
                record = await app.service.execute_workflow("w0", {"n": 1})
                while not record.completed_at:
                    record = await app.service.get_execution(record.id)
                found["a new execution, from asked to ended"].append(
                    (time.perf_counter() - begin) * 1000
                )
        longest = await _longest_wait(app)
        found["longest wait for a commit while pruning"] = [longest * 1000]


async def _longest_wait(app: App) -> float:
    """Seconds somebody who records waits at most, while what is over its bounds is removed."""
    pruner = Pruner(app.store, app.clock, Keep(PRUNED_AFTER), Leftovers())
    pruning = asyncio.ensure_future(pruner.prune(app.clock.now()))
    begin = time.perf_counter()
    longest = 0.0
    while not pruning.done() and time.perf_counter() - begin < PRUNE_SECONDS:
        asked = time.perf_counter()
        await app.store.write(_nothing)
        longest = max(longest, time.perf_counter() - asked)
    pruner.stop()
    await pruning
    return longest


def _nothing(_tx: Transaction) -> None:
    """Somebody else's write."""
