"""T4: a hundred executions of five processes, `true`."""

from collections.abc import Iterable
from pathlib import Path

from tests.bench.engine import Bench, measure, row
from tests.bench.limits import Limits
from tests.bench.table import Row

EXECUTIONS = 100
STEPS = 5


async def _body(bench: Bench) -> float:
    steps = [
        {"id": f"s{number}", "type": "action", "action": "shell", "inputs": {"command": ["true"]}}
        for number in range(STEPS)
    ]
    await bench.app.service.create_workflow({"name": "w", "steps": steps})
    return EXECUTIONS * STEPS / await bench.execute("w", EXECUTIONS, {})


def rows(limits: Limits, folder: Path) -> Iterable[Row]:
    """Processes a second, beside posix_spawn one at a time."""
    yield row(
        "T4 executions x 5 processes",
        "steps/s",
        measure(folder, _body),
        target=900,
        limit=limits.spawns,
    )
