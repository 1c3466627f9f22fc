"""T9: `kill -9` amid executions of twenty steps, and what the next controller makes of them.

Times are those of the checkpoints, from the moment the second controller is started: an execution
has resumed when it has recorded its first event after the restart. Whether a step is done again is
what the steps themselves say: each writes a line, and what was recorded as completed before the
restart must not write another one.
"""

import asyncio
import shutil
import sqlite3
import statistics
import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from controller.app import open_app, run_main
from controller.settings import Settings
from tests.bench.engine import N, row, steps
from tests.bench.limits import Limits
from tests.bench.table import Row
from tests.crash.daemon import Daemon
from tests.eventually import wait_until

STEPS = 20
IN_FLIGHT = 10_000
WRITING = 50
ROUNDS = 3
RESUMED_ROUNDS = 5

CREATORS = 50
PATIENCE = 120.0

UNSTARTED = (
    "SELECT EXISTS(SELECT 1 FROM workflow_executions"
    " WHERE started_at IS NULL AND completed_at IS NULL)"
)
WAITING = (
    "SELECT claims < 2 AND completed_at IS NULL FROM workflow_executions"
    " ORDER BY created_at DESC, id DESC LIMIT 1"
)
"""Whether the last one still waits for its controller: asked often, so it has to cost nothing."""

EVENTS = "SELECT count(*) FROM execution_checkpoints"
FIRST = "SELECT min(created_at) FROM execution_checkpoints WHERE created_at >= ?"
RESUMED = (
    "SELECT count(*), max(first) FROM (SELECT min(created_at) AS first"
    " FROM execution_checkpoints WHERE created_at >= ? GROUP BY execution_id)"
)
COMPLETED = "SELECT execution_id, step_id FROM execution_checkpoints WHERE type = 'completed'"
ENDED = "SELECT count(*) FROM workflow_executions WHERE completed_at IS NOT NULL"


async def _create(state: Path, each: list[dict[str, Any]], count: int) -> None:
    async with open_app(Settings(state_dir=state)) as app:
        await app.service.create_workflow({"name": "w", "inputs": N, "steps": each})

        async def some() -> None:
            for _ in range(count // CREATORS):
                await app.service.execute_workflow("w", {})

        await asyncio.gather(*(some() for _ in range(CREATORS)))


class _Place:
    """A directory, its database, and its controller, which is not started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / ".windlass"
        many = {"WINDLASS_MAX_CONCURRENT_WORKFLOWS": str(IN_FLIGHT)}
        self.daemon = Daemon(folder, extra=many)

    def ask(self, query: str, *given: object) -> list[Any]:
        """What the database has."""
        with closing(sqlite3.connect(self.state / "windlass.db")) as database:
            return database.execute(query, given).fetchall()

    def copied(self, folder: Path) -> "_Place":
        """Another one that is the same, but for the socket, which nobody listens at."""
        shutil.copytree(self.folder, folder, ignore=shutil.ignore_patterns("doorbell"))
        return _Place(folder)


def _killed(folder: Path, each: list[dict[str, Any]], count: int) -> _Place:
    """A place with `count` executions, whose controller was killed when a third was done."""
    (folder / "definitions").mkdir(parents=True)
    place = _Place(folder)
    run_main(_create(place.state, each, count))

    def amid() -> bool:
        if place.ask(UNSTARTED) == [(1,)]:
            return False
        [[events]] = place.ask(EVENTS)
        return bool(events >= count * STEPS // 3)

    with place.daemon:
        wait_until(amid, "a third is done", within=PATIENCE)
        place.daemon.kill()
    return place


def _resume(killed: _Place) -> tuple[float, float]:
    """Seconds to the first event after the restart, and to the last execution's first one."""
    [[ended]] = killed.ask(ENDED)
    begin = time.time()
    since = int(begin * 1000)
    with killed.daemon:
        last: list[float] = []

        def resumed() -> bool:
            [[count, at]] = killed.ask(RESUMED, since)
            last[:] = [at]
            return bool(count == IN_FLIGHT - ended)

        wait_until(lambda: killed.ask(WAITING) == [(0,)], "the last is claimed", within=PATIENCE)
        wait_until(resumed, "all have resumed", within=PATIENCE)
        [[first]] = killed.ask(FIRST, since)
        killed.daemon.kill()
    return first / 1000 - begin, last[0] / 1000 - begin


def _again(folder: Path) -> float:
    """How many steps ran again of those that were recorded as completed before the restart."""
    log = folder / "lines"
    script = f'echo "$WINDLASS_EXECUTION $WINDLASS_STEP" >> {log}'
    inputs = {"command": ["sh", "-c", script]}
    each = [
        {"id": f"s{number}", "type": "action", "action": "shell", "inputs": inputs}
        for number in range(STEPS)
    ]
    killed = _killed(folder, each, WRITING)
    recorded = {tuple(found) for found in killed.ask(COMPLETED)}
    before = len(log.read_text().splitlines())
    with killed.daemon:
        wait_until(lambda: killed.ask(ENDED) == [(WRITING,)], "all is done", within=PATIENCE)
        killed.daemon.stop()
    after = [tuple(line.split()) for line in log.read_text().splitlines()[before:]]
    return float(sum(step in recorded for step in after))


def _ready(folder: Path) -> float:
    """Seconds until a controller with nothing to do is ready: what the first step waits for."""
    (folder / "definitions").mkdir(parents=True)
    daemon = Daemon(folder)
    begin = time.perf_counter()
    with daemon:
        seconds = time.perf_counter() - begin
        daemon.stop()
    return seconds


def rows(limits: Limits, folder: Path) -> Iterable[Row]:
    """Seconds after the restart, beside those of a start, and a count that has to be zero."""
    del limits
    starts = [_ready(folder / f"start-{number}") for number in range(ROUNDS)]
    start = statistics.median(starts)
    killed = _killed(folder / "killed", steps(STEPS), IN_FLIGHT)
    rounds = range(RESUMED_ROUNDS)
    found = [_resume(killed.copied(folder / f"resume-{number}")) for number in rounds]
    firsts = [first for first, _ in found]
    yield row("T9 first step after kill -9", "s", firsts, target=0.6, limit=start)
    what = f"T9 {IN_FLIGHT:,} in flight, all resumed"
    yield row(what, "s", [last for _, last in found], target=3, limit=start)
    again = [_again(folder / f"again-{number}") for number in range(ROUNDS)]
    yield row("T9 recorded steps run again", "steps", again, target=0)
