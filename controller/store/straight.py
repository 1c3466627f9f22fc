"""A statement straight to PostgreSQL through libpq, where one is all of a transaction.

A step that follows another costs such a commit of one row. What SQLAlchemy and psycopg's cursor do
around it takes half as long again as all that the server does for it.
"""

from collections.abc import Sequence
from typing import Any, Self, cast

from psycopg import Connection as Driver
from psycopg import Error
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

Value = str | int | None

TEXT, BINARY = 0, 1
"""How a parameter is sent: a number as its digits, a text with its length, whatever is in it."""


class Line:
    """A connection's statements; kept with it, and gone with it."""

    def __init__(self, driver: Driver[Any]) -> None:
        self._libpq = driver.pgconn
        self._encoding = driver.info.encoding
        self._prepared: dict[str, bytes] = {}

    @classmethod
    def of(cls, tx: Connection) -> Self:
        """The line of the connection that a transaction is on."""
        kept, driver = tx.connection.info, tx.connection.driver_connection
        found: Self | None = kept.get(cls)
        if found is None:
            found = kept[cls] = cls(cast("Driver[Any]", driver))
        return found

    def execute(self, statement: str, values: Sequence[Value]) -> int:
        """Execute, prepared the first time; how many rows it changed. Raises psycopg's errors."""
        name = self._prepared.get(statement) or self._prepare(statement)
        given = [self._bytes(each) for each in values]
        formats = [BINARY if isinstance(each, str) else TEXT for each in values]
        result = self._libpq.exec_prepared(name, given, formats)  # type: ignore[arg-type]  # None is NULL
        if result.status != ExecStatus.COMMAND_OK:
            raise error_from_result(result, self._encoding)
        return result.command_tuples or 0

    def _bytes(self, value: Value) -> bytes | None:
        if isinstance(value, str):
            return value.encode(self._encoding)
        return None if value is None else b"%d" % value

    def _prepare(self, statement: str) -> bytes:
        name = b"straight%d" % len(self._prepared)
        first, *rest = statement.split("%s")
        numbered = first + "".join(f"${place}{text}" for place, text in enumerate(rest, 1))
        result = self._libpq.prepare(name, numbered.encode(self._encoding))
        if result.status != ExecStatus.COMMAND_OK:
            raise error_from_result(result, self._encoding)
        self._prepared[statement] = name
        return name


def execute(tx: Connection, statement: str, values: Sequence[Value]) -> int:
    """Execute a statement that needs no transaction begun; how many rows it changed.

    Raises `DBAPIError`, as SQLAlchemy would; then it knows, too, when the connection is lost.
    """
    try:
        return Line.of(tx).execute(statement, values)
    except Error as error:
        driver: Any = tx.connection.driver_connection
        lost: bool = driver.closed
        if lost:
            tx.invalidate(error)
        raise DBAPIError.instance(
            statement, None, error, Error, connection_invalidated=lost
        ) from error
