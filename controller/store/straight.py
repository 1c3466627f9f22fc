"""Statements straight to PostgreSQL through libpq, prepared: those that commits and looks repeat.

What SQLAlchemy and psycopg's cursor do around a statement takes half as long again as all that the
server does for a commit of one row; and a cursor gives up Python's lock several times until it has
an answer, and must wait to get it back each time, where libpq by itself gives it up once.
"""

from collections.abc import Callable, Sequence
from select import POLLIN, poll
from typing import Any, Self, TypeVar, cast

from psycopg import Connection as Driver
from psycopg import Error
from psycopg.adapt import PyFormat, Transformer
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus, TransactionStatus
from psycopg.pq.abc import PGresult
from sqlalchemy import Connection, RootTransaction
from sqlalchemy.exc import DBAPIError

T = TypeVar("T")

_GOOD = {ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK}


class Line:
    """A connection, and what is prepared on it: kept with it, and gone with it."""

    def __init__(self, driver: Driver[Any]) -> None:
        self._driver = driver
        self._libpq = driver.pgconn
        self._adapter = Transformer.from_context(driver)
        self._prepared: dict[str, bytes] = {}
        self._unasked = poll()
        self._unasked.register(self._libpq.socket, POLLIN)

    @classmethod
    def of(cls, tx: Connection) -> Self:
        """The line that a transaction is on."""
        kept, driver = tx.connection.info, tx.connection.driver_connection
        found: Self | None = kept.get(cls)
        if found is None:
            found = kept[cls] = cls(cast("Driver[Any]", driver))
        return found

    def change(self, statement: str, values: Sequence[Any]) -> int:
        """Execute, with values for `$1`, `$2`, …; how many rows it changed."""
        return self._execute(statement, values).command_tuples or 0

    def rows(self, statement: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Execute, with values for `$1`, `$2`, …; what it gives."""
        result = self._execute(statement, values)
        self._adapter.set_pgresult(result)
        return self._adapter.load_rows(0, result.ntuples, tuple)

    def begin(self) -> None:
        """Begin a transaction, rather than with its first statement."""
        self._good(self._libpq.exec_(_begin(self._driver)))

    def is_closed(self) -> bool:
        """Whether the server has spoken unasked, as it does when it ends a connection, or hung up.

        No round trip: a loss of which nothing has arrived here is found by the next statement.
        """
        return self._driver.closed or bool(self._unasked.poll(0))

    def _execute(self, statement: str, values: Sequence[Any]) -> PGresult:
        """In the transaction, which begins with its first statement; raises psycopg's errors."""
        driver, libpq = self._driver, self._libpq
        if not driver.autocommit and libpq.transaction_status == TransactionStatus.IDLE:
            self.begin()
        name = self._prepared.get(statement) or self._prepare(statement)
        given: Any = self._adapter.dump_sequence(values, [PyFormat.TEXT] * len(values))
        return self._good(libpq.exec_prepared(name, given))

    def _prepare(self, statement: str) -> bytes:
        """Of what types its values are is left to the server, so it is one for all of them."""
        name = b"straight%d" % len(self._prepared)
        self._good(self._libpq.prepare(name, statement.encode()))
        self._prepared[statement] = name
        return name

    def _good(self, result: PGresult) -> PGresult:
        if result.status not in _GOOD:
            raise error_from_result(result, self._driver.info.encoding)
        return result


def _begin(driver: Driver[Any]) -> bytes:
    """As psycopg begins."""
    level, read_only = driver.isolation_level, driver.read_only
    how = f" ISOLATION LEVEL {level.name.replace('_', ' ')}" if level is not None else ""
    return f"BEGIN{how}{' READ ONLY' if read_only else ''}".encode()


def begin(tx: Connection) -> RootTransaction:
    """Begin at once; raises what SQLAlchemy would, and has begun nothing then."""
    began = tx.begin()
    try:
        _on(tx, Line.begin)
    except BaseException:
        began.rollback()
        raise
    return began


def is_closed(tx: Connection) -> bool:
    """Whether the connection of a transaction that is to begin is known to be closed."""
    return not tx.invalidated and Line.of(tx).is_closed()


def change(tx: Connection, statement: str, values: Sequence[Any]) -> int:
    """Execute; how many rows it changed. Raises what SQLAlchemy would."""
    return _on(tx, lambda line: line.change(statement, values))


def rows(tx: Connection, statement: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Execute; what it gives. Raises what SQLAlchemy would."""
    return _on(tx, lambda line: line.rows(statement, values))


def _on(tx: Connection, work: Callable[[Line], T]) -> T:
    """Errors become SQLAlchemy's, which knows, too, when the connection is lost."""
    try:
        return work(Line.of(tx))
    except Error as error:
        driver: Any = tx.connection.driver_connection
        lost: bool = driver.closed
        if lost:
            tx.invalidate(error)
        raise DBAPIError.instance(None, None, error, Error, connection_invalidated=lost) from error
