"""Statements whose text is kept, for those that a commit or a look executes again and again.

SQLAlchemy looks for the text of a statement among those it has made, goes through its parameters
and wraps what comes back: ten times what SQLite needs for it. A statement that is built once, and
has as many parameters each time, is made text once here, and executed by the driver.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Connection, Dialect, Select, Table, Update, func, select
from sqlalchemy.exc import DBAPIError

from controller.store.dialect import execute_text, is_sqlite, rows_of_text
from controller.store.failures import is_too_big
from controller.store.rows import restored
from controller.store.values import decode

T = TypeVar("T")


class _Text(NamedTuple):
    """A statement as a driver takes it.

    Attributes:
        names: Of its parameters, in order.
        ready: What those are that the statement itself has.
        made: What makes of a given one what the driver takes, where it is not taken as it is.
    """

    text: str
    names: Sequence[str]
    ready: Mapping[str, Any]
    made: Mapping[str, Callable[[Any], Any]]

    def values(self, given: Mapping[str, Any]) -> tuple[Any, ...]:
        """The parameters."""
        all_of_them = {**self.ready, **given}
        for name, make in self.made.items():
            all_of_them[name] = make(all_of_them[name])
        return tuple([all_of_them[name] for name in self.names])


@cache
def _dialect(name: str) -> Dialect:
    """One for all connections, so that a statement is made text once."""
    of: Any  # SQLAlchemy's own are not typed
    if name == "sqlite":
        from sqlalchemy.dialects.sqlite.pysqlite import dialect as of  # ruff: ignore[import-outside-top-level]  # one of two
    else:
        from sqlalchemy.dialects.postgresql.psycopg import dialect as of  # ruff: ignore[import-outside-top-level]  # the other
    made: Dialect = of(paramstyle="qmark" if name == "sqlite" else "numeric_dollar")
    return made


@cache
def _text(statement: Select[Any] | Update, name: str) -> _Text:
    dialect = _dialect(name)
    compiled: Any = statement.compile(dialect=dialect)  # as SQLAlchemy's own are not typed
    types = {name: bind.type.dialect_impl(dialect) for name, bind in compiled.binds.items()}
    made = {name: of.bind_processor(dialect) for name, of in types.items()}
    ready = {name: bind.value for name, bind in compiled.binds.items() if not bind.required}
    needed = {name: make for name, make in made.items() if make is not None}
    return _Text(str(compiled), compiled.positiontup, ready, needed)


def find_value(tx: Connection, statement: Select[Any], given: Mapping[str, Any]) -> Any:  # ruff: ignore[any-type]  # a column's
    """The first column of the first row, a text or a number; None: there is no row."""
    kept = _text(statement, tx.dialect.name)
    rows = rows_of_text(tx, kept.text, kept.values(given))
    return rows[0][0] if rows else None


def change(tx: Connection, statement: Update, given: Mapping[str, Any]) -> int:
    """Update; how many rows."""
    kept = _text(statement, tx.dialect.name)
    return execute_text(tx, kept.text, kept.values(given))


def all_rows(
    tx: Connection, statement: Select[Any], given: Mapping[str, Any]
) -> Sequence[Sequence[Any]]:
    """The rows of a select, of texts and numbers.

    SQLite's driver gives up Python's lock for each row, so they come packed into one, unless that
    would be longer than SQLite lets a row be.
    """
    if is_sqlite(tx):
        try:
            rows: list[list[Any]] = decode(find_value(tx, _packed(statement), given))
        except DBAPIError as error:
            if not is_too_big(error):
                raise
        else:
            return rows
    kept = _text(statement, tx.dialect.name)
    return rows_of_text(tx, kept.text, kept.values(given))


def all_records(
    tx: Connection, kind: type[T], table: Table, statement: Select[Any], given: Mapping[str, Any]
) -> list[T]:
    """The records of a select of `pick_stored`."""
    return [restored(kind, table, row) for row in all_rows(tx, statement, given)]


@cache
def _packed(statement: Select[Any]) -> Select[Any]:
    rows = statement.subquery("packed")
    return select(func.json_group_array(func.json_array(*rows.c)))
