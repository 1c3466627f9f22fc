"""`sql`: one statement, with parameters only; SQLite files, and PostgreSQL where its driver is.

A statement takes a thread for as long as it runs. Cancelled, it is interrupted and waited for if it
has begun, otherwise it never begins: what is reported as cancelled must not commit afterwards.
"""

import asyncio
import math
import os
import re
import socket
import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from controller.execute.action import BUILT_IN, ActionFailed, Call, Lease, NotNow, Result, under
from controller.execute.scripts import Scripts

if TYPE_CHECKING:
    from psycopg import Connection

MOST_ROWS = 10_000
WAIT = 30
"""Seconds for a connection, or for the lock of a SQLite file."""

LOOK = 1
"""Seconds after which who waits for such a lock looks whether it is still wanted."""

PATIENCE = 5
"""Seconds that a server has to take note of a cancellation, and then to end the statement."""

THREADS = 32
"""Statements at once."""

Parameters = Mapping[str, Any] | Sequence[Any]
T = TypeVar("T")

_WITH = re.compile(r"(?:\s|--[^\n]*\n|/\*.*?\*/)*with\b", re.IGNORECASE | re.DOTALL)
"""What may change something, and the driver of SQLite begins no transaction for."""


_GIVES = re.compile(
    r"^(?:[\s(]|--[^\n]*\n|/\*.*?\*/)*+(?:select|with|values|table)\b|\breturning\b",
    re.IGNORECASE | re.DOTALL,
)
"""What may give any number of rows."""


class Statement(Protocol):
    """A statement that is executed on a thread and may be interrupted from another one."""

    def execute(self, query: str, parameters: Parameters, limit: int) -> Result:
        """Execute and commit; raises `ActionFailed`, or `NotNow` before it is executed."""

    def interrupt(self) -> bool:
        """Have it end soon, or never begin; whether it has begun. Harmless afterwards."""


class Sql:
    """See `BUILT_IN["sql"]`."""

    signature = BUILT_IN["sql"]

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, "sql")

    async def perform(self, call: Call, inputs: dict[str, Any]) -> Result:
        """Execute the statement and commit: `rows` as objects, and how many there are."""
        parameters = inputs.get("parameters") or {}
        if not isinstance(parameters, dict | list):
            raise ActionFailed("invalid_inputs", "`parameters` is an object or a list")
        asked = inputs.get("max_rows")
        limit = MOST_ROWS if asked is None else asked
        if not 1 <= limit <= MOST_ROWS:
            raise ActionFailed("invalid_inputs", f"`max_rows` is from 1 to {MOST_ROWS}")
        statement = _statement(inputs["url"], call.lease)
        execute = partial(statement.execute, inputs["query"], parameters, limit)
        return await under(call.lease, lambda: self._executed(statement, execute))

    async def _executed(self, statement: Statement, execute: Callable[[], Result]) -> Result:
        work = asyncio.get_running_loop().run_in_executor(self._threads, execute)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            with suppress(ActionFailed, NotNow, asyncio.CancelledError):
                if await asyncio.to_thread(statement.interrupt):
                    await work
                work.cancel()  # a thread that still connects is on its own
            raise

    async def close(self) -> None:
        """Let the threads go."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._threads = ThreadPoolExecutor(THREADS, "sql")


def _statement(url: str, lease: Lease) -> Statement:
    if url.startswith("sqlite:///"):
        return _Sqlite(url.removeprefix("sqlite:///"), lease)
    if url.startswith(("postgresql://", "postgres://")):
        return _Postgres(url, lease)
    raise ActionFailed("invalid_inputs", "`url` begins with sqlite:/// or postgresql://")


class _Start:
    """The moment in which a statement begins, unless it was stopped before."""

    def __init__(self, lease: Lease) -> None:
        self._lease = lease
        self._deciding = threading.Lock()
        self._begun = False
        self.stopped = False

    def begin(self) -> None:
        """To connect took as long as it liked, and the machine may have slept meanwhile."""
        with self._deciding:
            if self.stopped:
                raise ActionFailed("cancelled", "stopped before it began")
            if not self._lease.holds:
                raise NotNow
            self._begun = True

    def stop(self) -> bool:
        """Whether it has begun; if not, it never will."""
        with self._deciding:
            self.stopped = True
            return self._begun


class _Sqlite:
    def __init__(self, path: str, lease: Lease) -> None:
        self._path = path
        self._start = _Start(lease)
        self._connection: sqlite3.Connection | None = None

    def execute(self, query: str, parameters: Parameters, limit: int) -> Result:
        try:
            return self._execute(query, parameters, limit)
        except (sqlite3.Error, OverflowError) as error:
            raise ActionFailed("sql", str(error)) from None

    def _execute(self, query: str, parameters: Parameters, limit: int) -> Result:
        connection = sqlite3.connect(self._path, timeout=LOOK, check_same_thread=False)
        with closing(connection):
            self._connection = connection
            self._start.begin()
            if _WITH.match(query):
                connection.execute("begin")
            execute = partial(connection.execute, query, parameters)
            with closing(self._patiently(execute)) as cursor:  # or the file stays locked
                result = _result(cursor, limit)
            self._patiently(connection.commit)
            return result

    def _patiently(self, work: Callable[[], T]) -> T:
        """What it gives; who waits for a lock cannot be interrupted, and looks up now and then."""
        for _ in range(round(WAIT / LOOK) - 1):
            try:
                return work()
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or self._start.stopped:
                    raise
        return work()

    def interrupt(self) -> bool:
        begun = self._start.stop()
        if begun and self._connection is not None:
            with suppress(sqlite3.ProgrammingError):  # closed already
                self._connection.interrupt()
        return begun


class _Postgres:
    def __init__(self, url: str, lease: Lease) -> None:
        self._url = url
        self._start = _Start(lease)
        self._connection: Connection[Any] | None = None
        self._closing = threading.Lock()
        self._ended = threading.Event()

    def execute(self, query: str, parameters: Parameters, limit: int) -> Result:
        try:
            import psycopg  # ruff: ignore[import-outside-top-level]  # an extra
        except ImportError:
            message = "PostgreSQL needs the extra: pip install 'windlass[postgres]'"
            raise ActionFailed("not_found", message) from None
        try:
            connection = self._connection = psycopg.connect(self._url, connect_timeout=WAIT)
            return self._execute(connection, query, parameters, limit)
        except psycopg.Error as error:
            raise ActionFailed("sql", str(error)) from None

    def _execute(
        self, connection: "Connection[Any]", query: str, parameters: Parameters, limit: int
    ) -> Result:
        try:
            self._start.begin()
            result = _streamed(connection, query, parameters, limit)
            if result is None:
                result = _result(connection.execute(query.encode(), parameters or None), limit)
            connection.commit()
            return result
        finally:
            self._close(connection)

    def _close(self, connection: "Connection[Any]") -> None:
        """What is not committed by now never is."""
        with self._closing:
            self._connection = None
            connection.close()
        self._ended.set()

    def interrupt(self) -> bool:
        begun, connection = self._start.stop(), self._connection
        if begun and connection is not None:
            with suppress(Exception):  # whatever keeps it from being told, it is cut off
                connection.cancel_safe(timeout=PATIENCE)
                self._ended.wait(PATIENCE)
            self._cut()
        return begun

    def _cut(self) -> None:
        """Give up a server that does not answer: who waits for it fails."""
        with self._closing, suppress(OSError):
            if self._connection is not None:
                with socket.socket(fileno=os.dup(self._connection.fileno())) as wire:
                    wire.shutdown(socket.SHUT_RDWR)


def _streamed(
    connection: "Connection[Any]", query: str, parameters: Parameters, limit: int
) -> Result | None:
    """The rows, taken one by one; None: it gives none, and has done nothing.

    Executed otherwise, all there are would be in memory before the first one is looked at.
    """
    if not _GIVES.search(query):
        return None
    import psycopg  # ruff: ignore[import-outside-top-level]  # an extra

    with connection.cursor() as cursor:
        rows: Any = cursor.stream(query.encode(), parameters or None)  # a generator
        try:
            with closing(rows):
                found = list(islice(rows, limit + 1))
        except psycopg.ProgrammingError as error:
            if error.sqlstate is not None:
                raise
            connection.rollback()  # the driver's own: such as `select … into`, and how many is lost
            return None
        return _listed(cursor, found, limit)


def _result(cursor: Any, limit: int) -> Result:  # ruff: ignore[any-type]  # two drivers' cursors
    if cursor.description is None:
        return {"rows": [], "row_count": cursor.rowcount}
    return _listed(cursor, cursor.fetchmany(limit + 1), limit)


def _listed(cursor: Any, found: Sequence[Any], limit: int) -> Result:  # ruff: ignore[any-type]  # two drivers' cursors
    names = [column[0] for column in cursor.description or ()]
    if len(found) > limit:
        raise ActionFailed("too_large", f"there are more than {limit} rows")
    rows = [dict(zip(names, map(_plain, row), strict=True)) for row in found]
    return {"rows": rows, "row_count": len(rows)}


def _plain(value: Any) -> Any:  # ruff: ignore[any-type]  # a value of a database
    """As JSON: what it does not have becomes text, before anything is committed."""
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if value is None or isinstance(value, str | int) or _is_finite(value):
        return value
    return value.hex() if isinstance(value, bytes) else str(value)


def _is_finite(value: object) -> bool:
    return isinstance(value, float) and math.isfinite(value)


def build(_scripts: Scripts) -> Sql:
    """The action."""
    return Sql()
