"""DBOS: a library in one's own program, on SQLite (its default) and PostgreSQL (its advice)."""

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench.peers import install, killed
from tests.bench.peers.process import environment, figures_of, kill, start_and_idle, started
from tests.bench.peers.system import (
    AT_ONCE,
    FEWER_ROUNDS,
    KILLED,
    KILLED_STEPS,
    PROCESS_EXECUTIONS,
    PROCESSES,
    ROUNDS,
    SCHEDULES,
    SEQUENCE,
    STEPS,
    WIDTH,
    Figures,
    System,
    lateness,
    rounds,
)
from tests.postgres import Postgres, serving

if TYPE_CHECKING:
    import subprocess

PROGRAM = str(Path(__file__).with_name("dbos_program.py"))
FEWER = 100
"""Executions of T2: five times as many take half a minute."""

Place = Callable[[Path], AbstractContextManager[str]]
"""A fresh database for a folder: its URL."""


@contextmanager
def _sqlite(folder: Path) -> Generator[str]:
    yield f"sqlite:///{folder / 'dbos.sqlite'}"


@contextmanager
def _postgres(server: Postgres, _folder: Path) -> Generator[str]:
    with server.empty() as url:
        yield url


class _Dbos:
    """One way to store; everything else is the same."""

    def __init__(self, python: Path, place: Place) -> None:
        self._command = [str(python), "-P", PROGRAM]
        self._place = place

    def _once(self, work: str, *sizes: int, folder: Path) -> float:
        with self._place(folder) as url:
            command = [*self._command, url, work, *map(str, sizes)]
            return float(figures_of(command, folder, environment(folder)))

    def rounds(self, folder: Path, work: str, *sizes: int, count: int = ROUNDS) -> Figures:
        return rounds(folder, lambda place: self._once(work, *sizes, folder=place), count)

    def t6(self, folder: Path) -> Figures:
        with self._place(folder) as url:
            command = [*self._command, url, "t6", str(SCHEDULES), str(FEWER_ROUNDS)]
            return lateness(figures_of(command, folder, environment(folder)))

    def t8(self, folder: Path) -> Figures:
        with self._place(folder) as url:
            return start_and_idle(lambda: self._serving(folder, url))

    def _serving(
        self, folder: Path, url: str, *begin: str
    ) -> "AbstractContextManager[subprocess.Popen[bytes]]":
        command = [*self._command, url, "serve", *begin]
        return started(command, folder, environment(folder), lambda log: "ready" in log.read_text())

    def t9(self, folder: Path) -> Figures:
        return killed.figures(folder, self._interrupted)

    @contextmanager
    def _interrupted(self, folder: Path) -> Generator[killed.Start]:
        with self._place(folder) as url:

            @contextmanager
            def start(log: Path | None) -> Generator[killed.Kill]:
                begin = [killed.SCRIPT, str(log), str(KILLED), str(KILLED_STEPS)] if log else []
                with self._serving(folder, url, *begin) as process:
                    yield partial(kill, process)

            yield start

    def system(self, name: str) -> System:
        works: dict[str, Callable[[Path], Figures]] = {
            "t1": lambda folder: self.rounds(folder, "t1", SEQUENCE),
            "t2": lambda folder: self.rounds(folder, "t2", FEWER, STEPS, AT_ONCE),
            "t3": lambda folder: self.rounds(folder, "t3", WIDTH),
            "t4": lambda folder: self.rounds(folder, "t4", PROCESS_EXECUTIONS, PROCESSES, AT_ONCE),
            "t6": self.t6,
            "t8": self.t8,
            "t9": self.t9,
        }
        notes = {"t2": f"{FEWER} executions", "t6": f"every 10 s, {FEWER_ROUNDS} rounds"}
        return System(name, works, notes)


@contextmanager
def systems(cache: Path) -> Generator[list[System]]:
    """Installed where needed; its PostgreSQL is there as long as this is."""
    python = install.python("dbos", cache)
    name = f"DBOS {install.version('dbos')}"
    with serving() as server:
        yield [
            _Dbos(python, _sqlite).system(f"{name}, SQLite"),
            _Dbos(python, partial(_postgres, server)).system(f"{name}, PostgreSQL"),
        ]
