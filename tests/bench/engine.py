"""The daemon's real path for benchmarks: store, gate, worker, metrics; fresh each time."""

import asyncio
import gc
import statistics
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from controller import __version__
from controller.app import App, open_app, run_main
from controller.cli.ending import COLLECT
from controller.facts import Fact, FactType
from controller.observe.metrics import Metrics
from controller.settings import Settings
from tests.bench.limits import PostgresLimits
from tests.bench.table import Row

if TYPE_CHECKING:
    from controller.execute.worker import Worker

ROUNDS = 5

_ENDED = {FactType.COMPLETED, FactType.FAILED, FactType.CANCELLED}


class Bench:
    """An app, and a way to execute with a worker that starts when everything is there."""

    def __init__(self, app: App) -> None:
        self.app = app
        self._left = 0
        self._done = asyncio.Event()
        metrics = Metrics(__version__, dict)
        app.bus.subscribe(metrics.observe)
        app.bus.subscribe(self._count)

    def _count(self, fact: Fact) -> None:
        if fact.type in _ENDED:
            if fact.type is not FactType.COMPLETED:
                raise AssertionError(f"an execution {fact.type}: {fact.data}")
            self._left -= 1
            if self._left == 0:
                self._done.set()

    async def execute(self, workflow: str, count: int, inputs: dict[str, Any]) -> float:
        """Seconds from the first claim to the last end of `count` executions created before."""
        self._left = count
        self._done.clear()
        await self._create(workflow, [inputs] * count)
        worker: Worker = self.app.worker()
        async with asyncio.TaskGroup() as tasks:
            begin = time.perf_counter()
            tasks.create_task(worker.run())
            await self._done.wait()
            seconds = time.perf_counter() - begin
            await worker.stop(1_000)
        return seconds

    async def create_and_execute(self, workflow: str, count: int, creators: int) -> float:
        """Seconds from the first creation to the last end, by so many callers at once."""
        self._left = count
        self._done.clear()
        worker: Worker = self.app.worker()
        self.app.on_ring(worker.wake)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(worker.run())
            begin = time.perf_counter()
            for _ in range(creators):
                tasks.create_task(self._create(workflow, [{}] * (count // creators)))
            await self._done.wait()
            seconds = time.perf_counter() - begin
            await worker.stop(1_000)
        return seconds

    async def _create(self, workflow: str, inputs: list[dict[str, Any]]) -> None:
        for each in inputs:
            await self.app.service.execute_workflow(workflow, each)


@asynccontextmanager
async def opened(
    folder: Path, url: str | None = None, scratch: Path | None = None
) -> AsyncGenerator[Bench]:
    """A bench on a fresh database: that of `url`, or one of SQLite in the folder."""
    settings = Settings(state_dir=folder, database_url=url, scratch_dir=scratch)
    async with open_app(settings) as app:
        yield Bench(app)


def measure(
    folder: Path,
    body: Callable[[Bench], Awaitable[float]],
    postgres: PostgresLimits | None = None,
    scratch: Path | None = None,
) -> list[float]:
    """A warm-up, then `ROUNDS` figures, each on a fresh database, on SQLite or on PostgreSQL."""

    async def once(place: Path, url: str | None) -> float:
        async with opened(place, url, scratch) as bench:
            return await body(bench)

    figures = []
    with collecting():
        for number in range(ROUNDS + 1):
            fresh = nullcontext(None) if postgres is None else postgres.server.migrated()
            with fresh as url:
                figures.append(run_main(once(folder / str(number), url)))
    return sorted(figures[1:])


@contextmanager
def collecting() -> Generator[None]:
    """The garbage collector as the command has it; and afterwards as it was, for other tests."""
    before = gc.get_threshold()
    gc.set_threshold(*COLLECT)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def row(
    what: str, unit: str, figures: list[float], *, target: float | None, limit: float | None = None
) -> Row:
    """The median of some figures with its spread; times are better when less, rates when more."""
    better = "more" if unit.endswith("/s") else "less"
    spread = (min(figures), max(figures))
    return Row(what, unit, statistics.median(figures), better, target, limit, spread)  # type: ignore[arg-type]  # one of two words


def part(what: str, figures: list[float], limit: float, *, better: str, target: float) -> Row:
    """The same figures as parts, or multiples, of what the machine itself can do."""
    parts = [each / limit for each in figures]
    spread = (min(parts), max(parts))
    return Row(what, "", statistics.median(parts), better, target, spread=spread)  # type: ignore[arg-type]  # one of two words


def steps(count: int, **more: Any) -> list[dict[str, Any]]:  # fields of a step
    """`count` no-op steps, each with one value made by an expression."""
    return [
        {"id": f"s{number}", "type": "action", "action": "set", "inputs": {"value": "${n}"}, **more}
        for number in range(count)
    ]


N = [{"name": "n", "type": "integer", "default": 1}]
"""The input that the no-op steps read."""
