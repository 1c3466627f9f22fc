"""T4: a hundred executions of five processes, `true`: as they are, and each in a sandbox.

How long it takes to make a directory for each depends on the file system more than on anything
else, so there is a row without one, where there is memory to have them in.
"""

import os
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from controller.core.definition import Sandbox
from controller.execute.sandbox import Sandboxer, probe
from controller.execute.scripts import SHELL
from tests.bench.engine import Bench, measure, part, row
from tests.bench.limits import Limits, PostgresLimits, rate
from tests.bench.table import Row

MEMORY = Path("/dev/shm")  # ruff: ignore[hardcoded-temp-file]  # where there is such a thing

EXECUTIONS = 100
STEPS = 5

PLAIN = "{{id: s{number}, type: action, action: shell, inputs: {{command: ['true']}}}}"

BOXED = "{{id: s{number}, type: action, action: boxed}}"

ACTION = """---
kind: action
name: boxed
run: {shell: "true"}
sandbox: {network: false}
"""


def _definition(step: str) -> str:
    steps = "\n".join(f"  - {step.format(number=number)}" for number in range(STEPS))
    return f"name: w\nsteps:\n{steps}\n"


def _measured(
    folder: Path,
    definition: str,
    postgres: PostgresLimits | None = None,
    scratch: Path | None = None,
) -> list[float]:
    async def body(bench: Bench) -> float:
        await bench.app.service.create_workflow(definition)
        return EXECUTIONS * STEPS / await bench.execute("w", EXECUTIONS, {})

    return measure(folder, body, postgres, scratch)


def _boxed_spawns(directory: Path) -> float:
    """Sandboxed processes a second, one at a time."""
    sandbox = Sandbox.model_validate({"network": False})
    inner = (*SHELL, "-c", "true")
    argv = list(Sandboxer("required").wrap(inner, sandbox, directory).argv)

    def spawn() -> None:
        os.waitpid(os.posix_spawn(argv[0], argv, os.environ), 0)

    return rate(spawn)


def _compared(what: str, steps: list[float], spawns: float) -> Iterable[Row]:
    """Steps a second, and what part that is of the processes that the machine begins."""
    yield row(what, "steps/s", steps, target=900, limit=spawns)
    yield part(f"{what} ÷ posix_spawn", steps, spawns, better="more", target=0.6)


def rows(limits: Limits, folder: Path) -> Iterable[Row]:
    """Processes a second, beside posix_spawn of the same, one at a time."""
    what = "T4 executions x 5 processes"
    yield from _compared(what, _measured(folder / "plain", _definition(PLAIN)), limits.spawns)
    if MEMORY.is_dir():
        with tempfile.TemporaryDirectory(dir=MEMORY) as memory:
            quick = _measured(folder / "memory", _definition(PLAIN), scratch=Path(memory))
            yield row(f"{what}, directories in memory", "steps/s", quick, target=None)
    if limits.postgres is not None:
        again = _measured(folder / "postgres", _definition(PLAIN), limits.postgres)
        yield from _compared(f"{what}, PostgreSQL", again, limits.spawns)
    if probe().bwrap is None:
        print(f"T4 sandboxed is not measured: {probe().reason}", file=sys.stderr)
        return
    boxed = _measured(folder / "boxed", _definition(BOXED) + ACTION)
    limit = _boxed_spawns(folder)
    yield row(f"{what}, sandboxed", "steps/s", boxed, target=200, limit=limit)
