"""T3: one execution with a thousand parallel no-op steps, and with ten thousand."""

from collections.abc import Iterable
from pathlib import Path

from tests.bench.engine import Bench, N, measure, row, steps
from tests.bench.limits import Limits, PostgresLimits
from tests.bench.table import Row


def _fan(width: int) -> list[dict[str, object]]:
    loop = {"over": "${items}", "as": "n", "parallel": width, "steps": steps(1)}
    return [{"id": "fan", "type": "loop", "loop": loop}]


async def _execute(bench: Bench, width: int) -> float:
    inputs = [{"name": "items", "type": "array", "required": True}]
    await bench.app.service.create_workflow({"name": "w", "inputs": inputs, "steps": _fan(width)})
    return await bench.execute("w", 1, {"items": list(range(width))})


async def _listed(bench: Bench) -> float:
    fan = steps(1_000, depends_on=[])
    await bench.app.service.create_workflow({"name": "w", "inputs": N, "steps": fan})
    return await bench.execute("w", 1, {})


def rows(limits: Limits, folder: Path) -> Iterable[Row]:
    """Seconds; ten thousand should take ten times as long as one thousand."""
    yield from _rows(folder / "sqlite", "", None)
    if limits.postgres is not None:
        yield from _rows(folder / "postgres", ", PostgreSQL", limits.postgres)


def _rows(folder: Path, where: str, postgres: PostgresLimits | None) -> Iterable[Row]:
    listed = measure(folder / "a", _listed, postgres)
    yield row(f"T3 1,000 steps side by side{where}", "s", listed, target=0.15)
    small = measure(folder / "b", lambda bench: _execute(bench, 1_000), postgres)
    yield row(f"T3 loop, 1,000 at once{where}", "s", small, target=0.15)
    large = measure(folder / "c", lambda bench: _execute(bench, 10_000), postgres)
    yield row(f"T3 loop, 10,000 at once{where}", "s", large, target=1.5)
