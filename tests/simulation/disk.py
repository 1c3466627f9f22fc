"""The database of one seed, and a process's way to it, which fails when a fault says so.

The file is a real one, with the real schema and the product's own connections; a template is made
once and copied. A commit takes made-up time, and may fail before or after it was done, or with the
process.
"""

import contextlib
import functools
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, event
from sqlalchemy.exc import OperationalError

from controller.store.connecting import Engines, connect, parse_url, place
from controller.store.journal import Journal
from controller.store.opening import prepare
from controller.store.store import Store
from tests.simulation.loop import Loop

_TMPFS = Path("/dev/shm")  # ruff: ignore[hardcoded-temp-file]  # memory, where there is such a thing

_NOTES = """
CREATE TABLE noted (number INTEGER PRIMARY KEY, execution_id TEXT, seq INTEGER);
CREATE TRIGGER note AFTER INSERT ON execution_checkpoints BEGIN
  INSERT INTO noted (execution_id, seq) VALUES (new.execution_id, new.seq);
END;
"""
"""Keeps the order in which checkpoints were recorded, for those who watch."""


class Crashed(BaseException):
    """The process is gone, in the middle of what it did."""


@functools.cache
def _template() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "template.db"
        url = parse_url(f"sqlite:///{path}")
        engines = connect(url, 1)
        prepare(engines, url, create=True)
        for engine in (engines.reader, engines.writer):
            engine.dispose()
        raw = sqlite3.connect(path)
        raw.executescript(_NOTES)
        raw.close()
        return path.read_bytes()


@contextlib.contextmanager
def database() -> Generator[Path]:
    """A new database, for as long as the block lasts."""
    folder = Path(tempfile.mkdtemp(dir=_TMPFS if _TMPFS.is_dir() else None))
    try:
        path = folder / "windlass.db"
        path.write_bytes(_template())
        yield path
    finally:
        shutil.rmtree(folder)


@functools.cache
def _shared() -> Engine:
    """What is compiled for one process, all have: to compile takes longer than to execute."""
    return connect(parse_url("sqlite:////nonexistent/windlass.db"), 1).writer


def _connected(url: URL) -> Engines:
    engines = connect(url, 1)
    for engine in engines[:2]:
        engine.dialect = engine.pool._dialect = _shared().dialect
        engine._compiled_cache = _shared()._compiled_cache
    return engines


class _Journal(Journal):
    """On the loop's own thread: who waits there passes the time."""

    def _wait(self, moment: float) -> None:
        assert isinstance(self._loop, Loop)
        self._loop.idle(moment)


class Disk:
    """One process's connections.

    Args:
        on_commit: Called before a commit is made; says what becomes of it, see `_commit`.
        on_read: Called before a snapshot is read; True: the database does not answer.
        committed: Called after each commit that was made.
        delay: How many seconds the next commit takes.

    Attributes:
        crashed: The process is gone.
    """

    def __init__(
        self,
        path: Path,
        loop: Loop,
        *,
        on_commit: Callable[[], str],
        on_read: Callable[[], bool],
        committed: Callable[[], None],
        delay: Callable[[], float],
    ) -> None:
        self._loop = loop
        self._on_commit = on_commit
        self._on_read = on_read
        self._committed = committed
        self._delay = delay
        self._busy = False
        self.crashed = False
        url = parse_url(f"sqlite:///{path}")
        self._engines = _connected(url)
        event.listen(self._engines.writer, "commit", self._commit)
        event.listen(self._engines.reader, "begin", self._read)
        self._pool = ThreadPoolExecutor(1)  # never used: the loop does what threads do
        self.journal = _Journal(self._engines.writer, place(url), loop.time)
        self.store = Store(url, Engines(*self._engines[:2]), self.journal, self._pool, loop.time)

    def turn(self) -> None:
        """The process went on: begin to write what it queued."""
        if not self._busy and self.journal.waiting:
            self._busy = True
            self._loop.call_later(self._delay(), self._serve)

    def close(self) -> None:
        """Let go of the file; what is checked out would stay in memory, and all it leads to."""
        self._pool.shutdown()
        if self.journal._connection is not None:
            self.journal._connection.close()
        for engine in self._engines[:2]:
            engine.dispose()

    def _serve(self) -> None:
        try:
            self.journal.serve()
        except Crashed:
            self.crashed = True
        self._busy = False

    def _commit(self, connection: Connection) -> None:
        """`done`, `failed`, `unsure` (done, reported as failed), `crash-before`, `crash-after`."""
        fate = self._on_commit()
        driver: Any = connection.connection.driver_connection
        if fate in {"done", "unsure", "crash-after"}:
            driver.commit()
            self._committed()
        driver.rollback()
        if fate in {"crash-before", "crash-after"}:
            raise Crashed
        if fate != "done":
            raise _lost("COMMIT")

    def _read(self, _connection: Connection) -> None:
        if self._on_read():
            raise _lost("BEGIN")


def _lost(statement: str) -> OperationalError:
    cause = sqlite3.OperationalError("disk I/O error")
    cause.sqlite_errorcode = sqlite3.SQLITE_IOERR
    return OperationalError(statement, None, cause)
