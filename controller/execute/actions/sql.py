"""`sql`: one statement, with parameters only; SQLite files, and PostgreSQL where its driver is.

A statement takes a thread for as long as it runs. Cancelled, it is interrupted and waited for:
what is reported as cancelled must not commit afterwards.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from functools import partial
from typing import Any, Protocol

from controller.execute.action import BUILT_IN, ActionFailed, Call, Lease, NotNow, Result, under
from controller.execute.scripts import Scripts

MOST_ROWS = 10_000
WAIT = 30
"""Seconds for a connection, or for the lock of a SQLite file."""

THREADS = 32
"""Statements at once."""

Parameters = Mapping[str, Any] | Sequence[Any]


class Statement(Protocol):
    """A statement that is executed on a thread and may be interrupted from another one."""

    def execute(self, query: str, parameters: Parameters, limit: int) -> Result:
        """Execute and commit; raises `ActionFailed`, or `NotNow` before it is executed."""

    def interrupt(self) -> None:
        """Have it end soon; harmless before and after."""


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
                await asyncio.to_thread(statement.interrupt)
                await work
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


class _Sqlite:
    def __init__(self, path: str, lease: Lease) -> None:
        self._path = path
        self._lease = lease
        self._connection: sqlite3.Connection | None = None
        self._stopped = False

    def execute(self, query: str, parameters: Parameters, limit: int) -> Result:
        try:
            connection = sqlite3.connect(self._path, timeout=WAIT, check_same_thread=False)
            with closing(connection), connection:
                self._connection = connection
                _go_on(self._lease, stopped=self._stopped)
                return _result(connection.execute(query, parameters), limit)
        except (sqlite3.Error, OverflowError) as error:
            raise ActionFailed("sql", str(error)) from None

    def interrupt(self) -> None:
        self._stopped = True
        if self._connection is not None:
            with suppress(sqlite3.ProgrammingError):  # closed already
                self._connection.interrupt()


class _Postgres:
    def __init__(self, url: str, lease: Lease) -> None:
        self._url = url
        self._lease = lease
        self._cancel: Callable[[], object] | None = None
        self._stopped = False

    def execute(self, query: str, parameters: Parameters, limit: int) -> Result:
        try:
            import psycopg  # ruff: ignore[import-outside-top-level]  # an extra
        except ImportError:
            message = "PostgreSQL needs the extra: pip install 'windlass[postgres]'"
            raise ActionFailed("not_found", message) from None
        try:
            with psycopg.connect(self._url, connect_timeout=WAIT) as connection:
                self._cancel = connection.cancel
                _go_on(self._lease, stopped=self._stopped)
                return _result(connection.execute(query.encode(), parameters or None), limit)
        except psycopg.Error as error:
            raise ActionFailed("sql", str(error)) from None

    def interrupt(self) -> None:
        self._stopped = True
        if self._cancel is not None:
            self._cancel()


def _go_on(lease: Lease, *, stopped: bool) -> None:
    """To connect took as long as it liked, and the machine may have slept meanwhile."""
    if stopped:
        raise ActionFailed("cancelled", "stopped before it began")
    if not lease.holds:
        raise NotNow


def _result(cursor: Any, limit: int) -> Result:  # ruff: ignore[any-type]  # two drivers' cursors
    if cursor.description is None:
        return {"rows": [], "row_count": cursor.rowcount}
    names = [column[0] for column in cursor.description]
    found = cursor.fetchmany(limit + 1)
    if len(found) > limit:
        raise ActionFailed("too_large", f"there are more than {limit} rows")
    rows = [dict(zip(names, map(_plain, row), strict=True)) for row in found]
    return {"rows": rows, "row_count": len(rows)}


def _plain(value: Any) -> Any:  # ruff: ignore[any-type]  # a value of a database
    if value is None or isinstance(value, str | int | float | bool | list | dict):
        return value
    return value.hex() if isinstance(value, bytes) else str(value)


def build(_scripts: Scripts) -> Sql:
    """The action."""
    return Sql()
