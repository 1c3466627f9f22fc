"""Dagu: one program, files. What needs no scheduler is started by its command, its quickest way."""

import re
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench.peers import install
from tests.bench.peers.process import answers, environment, run, start_and_idle, started
from tests.bench.peers.system import (
    AT_ONCE,
    FEWER_ROUNDS,
    PROCESS_EXECUTIONS,
    PROCESSES,
    SCHEDULES,
    SEQUENCE,
    STEPS,
    WIDTH,
    Figures,
    System,
    lateness,
    rounds,
)
from tests.crash.daemon import free_port
from tests.eventually import wait_until

if TYPE_CHECKING:
    import subprocess

FEWER = 100
"""Executions of T2."""

NOTHING = 'type: jq, command: ".", script: "1"'
"""What is nearest to a no-op: in its own process, quicker than `true`."""

TRUE = 'command: "true", shell: direct'
"""A process without a shell."""

ATTEMPT = re.compile(r"attempt_(\d{8}_\d{6})_(\d{3})Z_")
"""The folder of an execution's attempt says when it began, in UTC."""


def definition(count: int, does: str, *, chained: bool = True, cron: str = "") -> str:
    """A workflow of so many steps, one after another or side by side."""
    lines = ["type: graph", "maxActiveRuns: -1", "maxActiveSteps: 0"]
    lines += [f'schedule: "{cron}"'] if cron else []
    lines.append("steps:")
    for number in range(count):
        after = f", depends: [s{number - 1}]" if chained and number else ""
        lines.append(f"  - {{name: s{number}, {does}{after}}}")
    return "\n".join(lines) + "\n"


class _Dagu:
    def __init__(self, program: Path) -> None:
        self._program = str(program)

    def _environment(self, home: Path) -> dict[str, str]:
        return environment(
            home,
            DAGU_HOME=str(home),
            DAGU_SKIP_EXAMPLES="true",
            DAGU_SCHEDULER_PORT=str(free_port()),
        )

    def _write(self, home: Path, names: Iterable[str], text: str) -> None:
        (home / "dags").mkdir(exist_ok=True)
        for name in names:
            (home / "dags" / f"{name}.yaml").write_text(text)

    def _seconds(self, home: Path, text: str, executions: int) -> float:
        """From the first start to the last end, `AT_ONCE` at a time.

        Each is a workflow of its own: several of one at once are in each other's way.
        """
        names = [f"w{number}" for number in range(executions)]
        self._write(home, names, text)
        command = ["xargs", "-P", str(AT_ONCE), "-n", "1", self._program, "start", "-q"]
        begin = time.perf_counter()
        run(command, home, self._environment(home), "\n".join(names))
        seconds = time.perf_counter() - begin
        if (there := len(_began(home))) != executions:
            raise AssertionError(f"{there} executions of {executions}")
        return seconds

    def t1(self, folder: Path) -> Figures:
        text = definition(SEQUENCE, NOTHING)
        return rounds(folder, lambda home: self._seconds(home, text, 1) / SEQUENCE * 1000)

    def t2(self, folder: Path) -> Figures:
        text = definition(STEPS, NOTHING)
        return rounds(folder, lambda home: FEWER * STEPS / self._seconds(home, text, FEWER))

    def t3(self, folder: Path) -> Figures:
        text = definition(WIDTH, NOTHING, chained=False)
        figures = []
        for number in range(FEWER_ROUNDS):  # each starts the program anew: nothing to warm up
            home = folder / str(number)
            home.mkdir()
            figures.append(self._seconds(home, text, 1))
        return {"": figures}

    def t4(self, folder: Path) -> Figures:
        text = definition(PROCESSES, TRUE)
        count = PROCESS_EXECUTIONS
        return rounds(folder, lambda home: count * PROCESSES / self._seconds(home, text, count))

    def t6(self, folder: Path) -> Figures:
        text = definition(1, NOTHING, cron="* * * * *")
        self._write(folder, (f"w{number}" for number in range(SCHEDULES)), text)
        with self._serving(folder):

            def whole() -> list[list[float]]:
                late: dict[float, list[float]] = {}
                for began in _began(folder):
                    late.setdefault(began // 60, []).append(began % 60)
                return [each for _, each in sorted(late.items()) if len(each) == SCHEDULES]

            def enough() -> list[list[float]]:
                found = whole()
                return found if len(found) > FEWER_ROUNDS else []

            found = wait_until(enough, "enough are whole", within=60 * (FEWER_ROUNDS + 3))
        return lateness(found[1 : FEWER_ROUNDS + 1])

    def t8(self, folder: Path) -> Figures:
        self._write(folder, ["w"], definition(1, NOTHING))
        return start_and_idle(lambda: self._serving(folder))

    def _serving(self, home: Path) -> "AbstractContextManager[subprocess.Popen[bytes]]":
        port = str(free_port())
        command = [self._program, "start-all", "--host", "127.0.0.1", "--port", port]
        url = f"http://127.0.0.1:{port}/api/v1/health"
        return started(command, home, self._environment(home), lambda _: answers(url))


def _began(home: Path) -> list[float]:
    """When each execution began, seconds since the epoch."""
    found = []
    for place in (home / "data" / "dag-runs").glob("*/dag-runs/*/*/*/*/attempt_*"):
        if (hit := ATTEMPT.match(place.name)) is not None:
            second = datetime.strptime(hit[1], "%Y%m%d_%H%M%S").replace(tzinfo=UTC)
            found.append(second.timestamp() + int(hit[2]) / 1000)
    return found


@contextmanager
def systems(cache: Path) -> Generator[list[System]]:
    """Installed where needed."""
    dagu = _Dagu(install.npm("dagu", cache) / "dagu")
    works: dict[str, Callable[[Path], Figures]] = {
        name: getattr(dagu, name) for name in ("t1", "t2", "t3", "t4", "t6", "t8")
    }
    notes = {
        "t2": f"{FEWER} executions",
        "t3": f"{FEWER_ROUNDS} rounds",
        "t6": f"every minute, {FEWER_ROUNDS} rounds",
    }
    yield [System(f"Dagu {install.version('dagu')}", works, notes)]
