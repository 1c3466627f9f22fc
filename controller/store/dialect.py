"""Every statement, and part of one, in which SQLite and PostgreSQL differ."""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from itertools import count, repeat
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import (
    ARRAY,
    JSON,
    Column,
    ColumnElement,
    Connection,
    Select,
    Table,
    Text,
    and_,
    any_,
    bindparam,
    cast,
    func,
    select,
    type_coerce,
)
from sqlalchemy.exc import DBAPIError

from controller.core.problem import Unavailable
from controller.store.values import Json

if TYPE_CHECKING:
    from sqlalchemy.dialects.sqlite import Insert
    from sqlalchemy.sql.dml import ReturningInsert

T = TypeVar("T")

CHANNEL = "windlass"
"""PostgreSQL's channel on which controllers tell each other to look again."""

ID_LENGTH = 36
"""Characters of an id."""


def is_sqlite(tx: Connection) -> bool:
    """Whether this transaction is one of SQLite."""
    return tx.dialect.name == "sqlite"


def by_driver(tx: Connection, work: Callable[[Any], T]) -> T:
    """Do with SQLite's own connection what every commit does; its errors become SQLAlchemy's.

    What SQLAlchemy does around a statement takes longer than to insert a row.
    """
    try:
        return work(tx.connection.driver_connection)
    except sqlite3.Error as error:
        raise DBAPIError.instance(None, None, error, sqlite3.Error) from error


@cache
def inserting(name: str, table: Table) -> "Insert":
    """An insert which may say what to do when a unique key is taken."""
    if name == "sqlite":
        from sqlalchemy.dialects.sqlite import insert  # ruff: ignore[import-outside-top-level]  # one of two
    else:
        from sqlalchemy.dialects.postgresql import insert  # type: ignore[assignment]  # ruff: ignore[import-outside-top-level]  # the other; both have the same methods
    return insert(table)


@cache
def _insert_or_ignore(name: str, table: Table) -> "Insert":
    statement = inserting(name, table).on_conflict_do_nothing()
    return statement.execution_options(preserve_rowcount=True)  # psycopg forgets it otherwise


def insert_or_ignore(tx: Connection, table: Table, row: dict[str, Any]) -> bool:
    """Insert, unless a unique key of the table is taken; whether it was inserted."""
    return tx.execute(_insert_or_ignore(tx.dialect.name, table), row).rowcount == 1


def insert_selected(
    name: str, table: Table, columns: Sequence[str], rows: Select[Any], returned: Column[Any]
) -> "ReturningInsert[Any]":
    """A statement that inserts what a select gives, where the unique keys are free."""
    selected = inserting(name, table).from_select(list(columns), rows)
    return selected.on_conflict_do_nothing().returning(returned)


def begins(tx: Connection, column: Column[str], prefix: str) -> ColumnElement[bool]:
    """Whether an id, of letters and digits, begins so.

    LIKE alone uses no index: on SQLite never, on PostgreSQL unless it sorts by bytes. Sorted by a
    language, what begins with a text still lies between it and itself with many a z.
    """
    if is_sqlite(tx):
        return and_(column >= prefix, column < prefix + chr(0x10FFFF))
    between = column.between(prefix, prefix + "z" * ID_LENGTH)
    return and_(between, column.startswith(prefix, autoescape=True))


def json_part(name: str, column: Column[Any], *path: str) -> ColumnElement[str]:
    """A part of a `Json` column, as text: an object or a list just as it was encoded."""
    whole = type_coerce(column, Text)
    if name == "sqlite":
        return func.json_extract(whole, ".".join(("$", *path)))
    return func.json_extract_path_text(cast(whole, JSON), *path)


def marks(name: str) -> Iterator[str]:
    """Parameters in their order, as statements that are text have them."""
    return repeat("?") if name == "sqlite" else (f"${number}" for number in count(1))


def among(name: str, column: Column[Any], keys: str) -> ColumnElement[bool]:
    """Whether a column is one of any number of keys, which are one parameter of that name.

    Of an expanding IN, SQLAlchemy would write the text anew each time.
    """
    if name == "sqlite":
        given = func.json_each(bindparam(keys, type_=Json)).table_valued("value", name="names")
        return column.in_(select(given.c.value))
    return column == any_(bindparam(keys, type_=ARRAY(column.type)))


def execute_text(tx: Connection, statement: str, values: Sequence[Any]) -> int:
    """Execute a statement as it is, see `kept.py`; how many rows it changed."""
    if is_sqlite(tx):
        changed: int = by_driver(tx, lambda driver: driver.execute(statement, values).rowcount)
        return changed
    from controller.store import straight  # ruff: ignore[import-outside-top-level]  # one of two

    return straight.change(tx, statement, values)


def rows_of_text(tx: Connection, statement: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
    """The rows of a statement as it is."""
    if is_sqlite(tx):
        return by_driver(tx, lambda driver: driver.execute(statement, values).fetchall())
    from controller.store import straight  # ruff: ignore[import-outside-top-level]  # one of two

    return straight.rows(tx, statement, values)


def transaction(tx: Connection, *, alone: bool) -> AbstractContextManager[object]:
    """What is written in the block; `alone`: one statement is all of it.

    PostgreSQL makes that a transaction by itself: BEGIN and COMMIT would be a round trip each. It
    closes connections that are idle, or when it starts again: one of which that is known, or found
    at the BEGIN, is replaced, for nothing has been done on it.
    """
    if is_sqlite(tx):
        return tx.begin()
    from controller.store import straight  # ruff: ignore[import-outside-top-level]  # one of two

    if straight.is_closed(tx):
        tx.invalidate()
    driver: Any = tx.connection.driver_connection
    if driver.autocommit is not alone:
        driver.autocommit = alone
    if alone:
        return nullcontext()
    try:
        return straight.begin(tx)
    except DBAPIError as error:
        if not error.connection_invalidated:
            raise
    return straight.begin(tx)


def serialise(tx: Connection, number: int) -> None:
    """Let one transaction at a time past this point; SQLite's writers take turns anyway."""
    if not is_sqlite(tx):
        rows_of_text(tx, "SELECT pg_advisory_xact_lock($1)", (number,))


def only_one(tx: Connection, number: int) -> bool:
    """Whether no other transaction has come here that has not ended; SQLite has one at a time."""
    asked = "SELECT pg_try_advisory_xact_lock($1)"
    return is_sqlite(tx) or bool(rows_of_text(tx, asked, (number,))[0][0])


def announce(tx: Connection) -> None:
    """Tell every controller, once this is committed, to look again; SQLite has only one."""
    if not is_sqlite(tx):
        execute_text(tx, f"NOTIFY {CHANNEL}", ())


def listen(connection: Connection) -> None:
    """Hear what is announced from now on; on a connection of `Engines.listener`."""
    connection.exec_driver_sql(f"LISTEN {CHANNEL}")


def heard(connection: Connection) -> bool:
    """Whether something was announced since the last look; `Unavailable`: it is lost."""
    driver: Any = connection.connection.driver_connection
    try:
        return bool(list(driver.notifies(timeout=0)))
    except connection.dialect.loaded_dbapi.Error as error:
        raise Unavailable(f"the connection was lost ({str(error).strip()})") from error


def descriptor(connection: Connection) -> int:
    """What becomes readable when there is something to hear."""
    driver: Any = connection.connection.driver_connection
    number: int = driver.fileno()
    return number


def damage(tx: Connection) -> list[str]:
    """What the database itself finds wrong with its file; PostgreSQL watches over its own."""
    if not is_sqlite(tx):
        return []
    found = file_damage(tx)
    for child, number, parent, _ in tx.exec_driver_sql("PRAGMA foreign_key_check"):
        found.append(f"{child}: row {number} belongs to nothing in {parent}")
    return found


def file_damage(tx: Connection, *, indexes: bool = True) -> list[str]:
    """What SQLite finds wrong with its pages, and with its `indexes` against their tables."""
    if not is_sqlite(tx):
        return []
    check = "integrity_check" if indexes else "quick_check"
    checked = [str(row[0]) for row in tx.exec_driver_sql(f"PRAGMA {check}(20)")]
    return [f"the file is damaged: {line}" for line in checked if line != "ok"]


def file_size(tx: Connection) -> int:
    """Bytes of all pages of a SQLite database, those in its log too; 0 on PostgreSQL."""
    if not is_sqlite(tx):
        return 0
    pages, each = (
        tx.exec_driver_sql(f"PRAGMA {what}").scalar() for what in ("page_count", "page_size")
    )
    return int(pages or 0) * int(each or 0)
