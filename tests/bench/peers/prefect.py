"""Prefect: flows in one's own program, and a server of its own with SQLite, its default."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.bench.peers import install
from tests.bench.peers.process import answers, environment, figures_of, start_and_idle, started
from tests.bench.peers.system import (
    FEWER_ROUNDS,
    PROCESSES,
    SEQUENCE,
    STEPS,
    WIDTH,
    Figures,
    System,
    lateness,
    rounds,
)
from tests.crash.daemon import free_port

if TYPE_CHECKING:
    import subprocess

PROGRAM = str(Path(__file__).with_name("prefect_program.py"))

FEWER = 10
"""Executions of T2 and T4, all of them at once: it takes a second for a handful of steps."""

FEWER_SCHEDULES = 10
EVERY = 60
"""Seconds: each start is a process of several seconds of processor time."""


class _Prefect:
    def __init__(self, python: Path) -> None:
        self._command = [str(python), "-P", PROGRAM]
        self._program = str(python.with_name("prefect"))

    def _environment(self, home: Path, **more: str) -> dict[str, str]:
        return environment(
            home,
            PREFECT_HOME=str(home),
            PREFECT_SERVER_ANALYTICS_ENABLED="false",
            PREFECT_LOGGING_LEVEL="ERROR",
            PREFECT_LOGGING_TO_API_ENABLED="false",
            **more,
        )

    @contextmanager
    def _serving(self, home: Path) -> "Generator[tuple[subprocess.Popen[bytes], dict[str, str]]]":
        """A server, and the environment of who uses it."""
        port = str(free_port())
        command = [self._program, "server", "start", "--host", "127.0.0.1", "--port", port]
        url = f"http://127.0.0.1:{port}/api"

        def ready(_log: Path) -> bool:
            return answers(f"{url}/health")

        with started(command, home, self._environment(home), ready) as process:
            yield process, self._environment(home, PREFECT_API_URL=url)

    def _once(self, home: Path, work: str, *sizes: int) -> Any:
        with self._serving(home) as (_, env):
            return figures_of([*self._command, work, *map(str, sizes)], home, env)

    def rounds(self, folder: Path, work: str, *sizes: int) -> Figures:
        return rounds(folder, lambda home: float(self._once(home, work, *sizes)), FEWER_ROUNDS)

    def t6(self, folder: Path) -> Figures:
        sizes = [str(FEWER_SCHEDULES), str(EVERY)]
        with self._serving(folder) as (_, env):
            place = folder / "served"
            place.mkdir()
            with started([*self._command, "serve", *sizes], place, env, lambda _: True):
                count = [str(FEWER_SCHEDULES), str(FEWER_ROUNDS)]
                within = EVERY * (FEWER_ROUNDS + 4)
                return lateness(figures_of([*self._command, "t6", *count], folder, env, within))

    def t8(self, folder: Path) -> Figures:
        @contextmanager
        def start() -> "Generator[subprocess.Popen[bytes]]":
            with self._serving(folder) as (process, _):
                yield process

        return start_and_idle(start)

    def system(self, name: str) -> System:
        some = f"{FEWER} executions, {FEWER} at once, {FEWER_ROUNDS} rounds"
        works: dict[str, Callable[[Path], Figures]] = {
            "t1": lambda folder: self.rounds(folder, "t1", SEQUENCE),
            "t2": lambda folder: self.rounds(folder, "t2", FEWER, STEPS, FEWER),
            "t3": lambda folder: self.rounds(folder, "t3", WIDTH),
            "t4": lambda folder: self.rounds(folder, "t4", FEWER, PROCESSES, FEWER),
            "t6": self.t6,
            "t8": self.t8,
        }
        few = f"{FEWER_ROUNDS} rounds"
        notes = {"t1": few, "t2": some, "t3": few, "t4": some}
        notes["t6"] = f"{FEWER_SCHEDULES} schedules, every {EVERY} s, {FEWER_ROUNDS} rounds"
        return System(name, works, notes)


@contextmanager
def systems(cache: Path) -> Generator[list[System]]:
    """Installed where needed."""
    python = install.python("prefect", cache)
    yield [_Prefect(python).system(f"Prefect {install.version('prefect')}")]
