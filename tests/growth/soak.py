"""A soak: a real daemon executes very many executions, and is as large at the end as it was.

`python -m tests.growth.soak [COUNT]` prints the line and says whether it is flat. Executions are
created as fast as they are executed; retention prunes them meanwhile, so the file stays as large as
what is kept. What is measured is looked at from outside: `/proc`, the files, `/metrics`.

Memory and file are lines fitted to the samples after a warm-up, in bytes for each execution.
"""

import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

import yaml

from controller.admission import Wish, admit
from controller.app import App, open_app, run_main
from controller.settings import Settings
from controller.store.identity import new_id
from controller.store.tables import PENDING, Transaction
from tests.crash.daemon import Daemon
from tests.eventually import eventually
from tests.growth.grown import workflow

COUNT = 200_000
KEEP = 5_000
"""Finished executions of the workflow that stay."""

AT_ONCE = 200
"""Executions created in one transaction."""

BACKLOG = 2_000
"""Executions that are created and not begun, at most."""

SAMPLES = 100
WARM_UP = 0.25
"""The part of the samples that is not looked at: caches fill, and nothing is pruned yet."""

NAPS = 20
"""One of so many waits for a second in the middle."""

MEMORY = 100.0
"""Bytes of memory an execution may leave behind; its id in a set of all is more than that."""

FILE = 40.0
"""Bytes of the database; an execution that is not pruned is over a thousand."""

HANDLES = 8
"""How many file handles more there may be at one time than at another."""


@dataclass(frozen=True, slots=True)
class Sample:
    """How large the daemon is when so many executions have been executed."""

    done: int
    memory: int
    handles: int
    file: int


@dataclass(frozen=True, slots=True)
class Line:
    """What many samples say: bytes for each execution, and the handles' range."""

    memory: float
    file: float
    handles: int

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> "Line":
        """Through the samples after the warm-up."""
        warm = samples[int(len(samples) * WARM_UP) :]
        done = [each.done for each in warm]
        handles = [each.handles for each in warm]
        return cls(
            statistics.linear_regression(done, [each.memory for each in warm]).slope,
            statistics.linear_regression(done, [each.file for each in warm]).slope,
            max(handles) - min(handles),
        )

    def faults(self, memory: float = MEMORY, file: float = FILE) -> list[str]:
        """In what it is not flat."""
        bounds = (
            ("memory, bytes an execution", self.memory, memory),
            ("file, bytes an execution", self.file, file),
            ("file handles, range", self.handles, HANDLES),
        )
        return [f"{what}: {is_:.1f} > {most:g}" for what, is_, most in bounds if is_ > most]


def soak(
    folder: Path, count: int, *, keep: int = KEEP, samples: int = SAMPLES, prune: str = "5s"
) -> list[Sample]:
    """Execute so many in a daemon of its own, which prunes so often; looks at it now and then."""
    definitions = folder / "definitions"
    definitions.mkdir(parents=True)
    retention = {"keep_last": keep}
    nap = {"id": "nap", "type": "action", "action": "sleep", "inputs": {"duration": "1s"}}
    quick = workflow("quick") | {"retention": retention}
    slow = workflow("slow") | {"retention": {"keep_last": keep // NAPS}}
    slow["steps"] = [nap, *slow["steps"]]
    for each in (quick, slow):
        (definitions / f"{each['name']}.yaml").write_text(yaml.safe_dump(each))
    daemon = Daemon(folder, extra={"WINDLASS_RETENTION_INTERVAL": prune})
    with daemon:
        found = run_main(_Feeder(folder, daemon).feed(count, samples))
        if daemon.stop() != 0:
            raise AssertionError(daemon.log.read_text()[-3000:])
    return found


class _Feeder:
    """Creates executions beside a daemon, as fast as it takes them."""

    def __init__(self, folder: Path, daemon: Daemon) -> None:
        self._state = folder / ".windlass"
        self._database = self._state / "windlass.db"
        self._daemon = daemon

    async def feed(self, count: int, samples: int) -> list[Sample]:
        found: list[Sample] = []
        async with open_app(Settings(state_dir=self._state)) as app, self._reading() as database:
            for created in range(0, count, AT_ONCE):
                await self._create(app)
                await eventually(lambda: _pending(database) < BACKLOG, "it takes them", within=60)
                if created % (count // samples) < AT_ONCE:
                    found.append(self._sample(database))
            await eventually(lambda: self._done() == count, "all have ended", within=120)
            return [*found, self._sample(database)]

    @asynccontextmanager
    async def _reading(self) -> AsyncGenerator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._database)) as database:
            yield database

    async def _create(self, app: App) -> None:
        now = app.clock.now()
        names = ["quick"] * (AT_ONCE - AT_ONCE // NAPS) + ["slow"] * (AT_ONCE // NAPS)
        wishes = [Wish(new_id(now), name, {}, {"type": "manual"}, now) for name in names]
        admissions = await app.gate.check_all(wishes)

        def admit_all(tx: Transaction) -> None:
            for each in admissions:
                if isinstance(each, Exception):
                    raise each
                admit(tx, each)

        await app.store.write(admit_all)
        app.ring()

    def _done(self) -> int:
        """Executions that have ended, as the daemon counts them."""
        lines = self._daemon.get("/metrics").decode().splitlines()
        ended = [line for line in lines if line.startswith("windlass_executions_total{")]
        return sum(int(float(line.rpartition(" ")[2])) for line in ended)

    def _sample(self, database: sqlite3.Connection) -> Sample:
        process = Path("/proc") / str(self._daemon.process.pid)
        status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
        return Sample(
            self._done(),
            int(status["VmRSS"].split()[0]) * 1024,
            len(list((process / "fd").iterdir())),
            _size(database),
        )


def _size(database: sqlite3.Connection) -> int:
    """Bytes of the file with what is in the log beside it, which is cut back by itself."""
    [pages], [bytes_each] = (
        database.execute(f"PRAGMA {of}").fetchone() for of in ("page_count", "page_size")
    )
    return int(pages) * int(bytes_each)


def _pending(database: sqlite3.Connection) -> int:
    asked = f"SELECT count(*) FROM workflow_executions WHERE {PENDING}"  # ruff: ignore[hardcoded-sql-expression]  # a constant
    [found] = database.execute(asked).fetchone()
    return int(found)


def main(count: int) -> int:
    """Soak, print the line, and say whether it is flat."""
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-") as folder:
        samples = soak(Path(folder), count)
    print("executions  memory, MB  handles  file, MB")
    for each in samples[:: max(1, len(samples) // 20)]:
        memory, file = each.memory / 2**20, each.file / 2**20
        print(f"{each.done:10,}  {memory:10.1f}  {each.handles:7}  {file:8.1f}")
    line = Line.of(samples)
    seconds = time.monotonic() - begin
    print(f"{count:,} executions in {seconds:.0f} s, {count / seconds:.0f}/s")
    print(f"memory {line.memory:+.1f} and file {line.file:+.1f} bytes an execution after the")
    print(f"warm-up (at most {MEMORY:g} and {FILE:g}); handles within {line.handles}")
    faults = line.faults()
    print("\n".join(f"NOT FLAT: {each}" for each in faults) or "flat")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if sys.argv[1:] else COUNT))
