"""T1: one execution of a hundred no-op steps in a row."""

from collections.abc import Iterable
from pathlib import Path

from tests.bench.engine import Bench, N, measure, part, row, steps
from tests.bench.limits import Limits
from tests.bench.table import Row

STEPS = 100


async def _body(bench: Bench) -> float:
    await bench.app.service.create_workflow({"name": "w", "inputs": N, "steps": steps(STEPS)})
    await bench.execute("w", 1, {})
    return await bench.execute("w", 1, {}) / STEPS * 1000


def _compared(what: str, figures: list[float], commits: float) -> Iterable[Row]:
    """Milliseconds a step, and how many commits of one row take as long."""
    commit = 1000 / commits
    yield row(what, "ms/step", figures, target=0.5, limit=commit)
    yield part(f"{what} ÷ a commit", figures, commit, better="less", target=3)


def rows(limits: Limits, folder: Path) -> Iterable[Row]:
    """Milliseconds a step, beside the time of one commit."""
    what = "T1 100 steps in sequence"
    yield from _compared(what, measure(folder / "sqlite", _body), limits.commits)
    if limits.postgres is not None:
        figures = measure(folder / "postgres", _body, limits.postgres)
        yield from _compared(f"{what}, PostgreSQL", figures, limits.postgres.commits)
