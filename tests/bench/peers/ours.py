"""Windlass, as `make bench` measures it; executions are created within the time, as peers' are."""

import sqlite3
from collections.abc import Awaitable, Callable, Generator, Iterable
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path

from controller import __version__
from controller.app import open_app, run_main
from controller.settings import Settings
from tests.bench import t1_sequence, t3_fanout, t8_start
from tests.bench.engine import Bench, N, measure, steps
from tests.bench.limits import Limits
from tests.bench.peers import killed
from tests.bench.peers.system import (
    AT_ONCE,
    EXECUTIONS,
    FEWER_ROUNDS,
    KILLED,
    KILLED_STEPS,
    PROCESS_EXECUTIONS,
    PROCESSES,
    SCHEDULES,
    STEPS,
    Figures,
    System,
    lateness,
)
from tests.bench.table import Row
from tests.crash.daemon import Daemon
from tests.eventually import wait_until

DUE = """name: w{number}
inputs:
  - {{name: n, type: integer, default: 1}}
steps:
  - {{id: s0, type: action, action: set, inputs: {{value: "${{n}}"}}}}
triggers:
  - {{type: scheduled, config: {{cron: "*/10 * * * * *"}}}}
"""


def _figures(row: Row) -> list[float]:
    """A row's median and spread, as figures that have them."""
    low, high = row.spread or (row.measured, row.measured)
    return [low, row.measured, high]


def _at_once(count: int, each: list[dict[str, object]]) -> Callable[[Bench], Awaitable[float]]:
    """Steps a second of so many executions."""

    async def body(bench: Bench) -> float:
        await bench.app.service.create_workflow({"name": "w", "inputs": N, "steps": each})
        return count * len(each) / await bench.create_and_execute("w", count, AT_ONCE)

    return body


def _true(number: int) -> dict[str, object]:
    inputs = {"command": ["true"]}
    return {"id": f"s{number}", "type": "action", "action": "shell", "inputs": inputs}


def _t6(folder: Path) -> Figures:
    """The controller itself; an execution's start is what it has recorded."""
    (folder / "definitions").mkdir()
    for number in range(SCHEDULES):
        (folder / "definitions" / f"w{number}.yaml").write_text(DUE.format(number=number))

    def whole() -> list[list[float]]:
        late: dict[int, list[float]] = {}
        with closing(sqlite3.connect(folder / ".windlass" / "windlass.db")) as database:
            query = "SELECT due_at, started_at FROM workflow_executions WHERE started_at > 0"
            for due, began in database.execute(query):
                late.setdefault(due, []).append((began - due) / 1000)
        return [each for _, each in sorted(late.items()) if len(each) == SCHEDULES]

    def enough() -> list[list[float]]:
        found = whole()
        return found if len(found) > FEWER_ROUNDS else []

    with Daemon(folder) as daemon:
        found = wait_until(enough, "enough are whole", within=10 * (FEWER_ROUNDS + 4))
        daemon.stop()
    return lateness(found[1 : FEWER_ROUNDS + 1])


def _step(number: int, log: Path) -> dict[str, object]:
    command = ["sh", "-c", killed.SCRIPT, "sh", "e${n}", str(number), str(log)]
    inputs = {"command": command}
    return {"id": f"s{number}", "type": "action", "action": "shell", "inputs": inputs}


async def _begin(folder: Path, log: Path) -> None:
    async with open_app(Settings(state_dir=folder / ".windlass")) as app:
        each = [_step(number, log) for number in range(KILLED_STEPS)]
        await app.service.create_workflow({"name": "w", "inputs": N, "steps": each})
        for number in range(KILLED):
            await app.service.execute_workflow("w", {"n": number})


@contextmanager
def _interrupted(folder: Path) -> Generator[killed.Start]:
    (folder / "definitions").mkdir()
    daemon = Daemon(folder)

    @contextmanager
    def start(log: Path | None) -> Generator[killed.Kill]:
        if log:
            run_main(_begin(folder, log))
        with daemon:
            yield daemon.kill

    yield start


def system(limits: Limits) -> System:
    """What the others are compared with."""

    def first(rows: Iterable[Row]) -> Figures:
        return {"": _figures(next(iter(rows)))}

    def t8(folder: Path) -> Figures:
        found = map(_figures, islice(t8_start.rows(limits, folder), 3))
        return dict(zip(("ready", "memory", "processor"), found, strict=True))

    noops, trues = steps(STEPS), [_true(number) for number in range(PROCESSES)]
    return System(
        f"Windlass {__version__}",
        {
            "t1": lambda folder: first(t1_sequence.rows(limits, folder)),
            "t2": lambda folder: {"": measure(folder, _at_once(EXECUTIONS, noops))},
            "t3": lambda folder: first(t3_fanout.rows(limits, folder)),
            "t4": lambda folder: {"": measure(folder, _at_once(PROCESS_EXECUTIONS, trues))},
            "t6": _t6,
            "t8": t8,
            "t9": lambda folder: killed.figures(folder, _interrupted),
        },
        {"t6": f"every 10 s, {FEWER_ROUNDS} rounds"},
    )
