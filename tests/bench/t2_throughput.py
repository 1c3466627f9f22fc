"""T2: many executions of ten no-op steps, fifty at once."""

from collections.abc import Iterable
from pathlib import Path

from tests.bench.engine import Bench, N, measure, row, steps
from tests.bench.limits import Limits
from tests.bench.table import Row

STEPS = 10
EXECUTIONS = 500


async def _body(bench: Bench) -> float:
    await bench.app.service.create_workflow({"name": "w", "inputs": N, "steps": steps(STEPS)})
    seconds = await bench.execute("w", EXECUTIONS, {})
    return EXECUTIONS * STEPS / seconds


def rows(limits: Limits, folder: Path) -> Iterable[Row]:
    """Durable steps a second, beside rows of one transaction, and commits of many connections."""
    what = "T2 executions x 10 steps, 50 at once"
    figures = measure(folder / "sqlite", _body)
    yield row(what, "steps/s", figures, target=10_000, limit=limits.rows)
    if limits.postgres is not None:
        figures = measure(folder / "postgres", _body, limits.postgres)
        what += ", PostgreSQL"
        yield row(what, "steps/s", figures, target=6_000, limit=limits.postgres.many)
