"""Every difference between SQLite and PostgreSQL, and what their errors mean to us.

SQLite: write-ahead log, `synchronous=FULL` (a commit that returned survives a power cut), writers
begin with `BEGIN IMMEDIATE` so that they queue at the start of a transaction instead of failing in
the middle. PostgreSQL: writers READ COMMITTED with row locks, readers one REPEATABLE READ snapshot.
"""

import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from itertools import count, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from pydantic_core import from_json, to_json
from sqlalchemy import (
    ARRAY,
    JSON,
    URL,
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Dialect,
    Engine,
    Select,
    Table,
    Text,
    TypeDecorator,
    and_,
    any_,
    bindparam,
    cast,
    create_engine,
    event,
    func,
    make_url,
    select,
    type_coerce,
)
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import NullPool
from sqlalchemy.types import TypeEngine

from controller.core.problem import Refused, Unavailable

if TYPE_CHECKING:
    from sqlalchemy.dialects.sqlite import Insert
    from sqlalchemy.sql.dml import ReturningInsert

T = TypeVar("T")

BUSY_SECONDS = 5.0
"""How long to wait for another process that writes, before it is `Unavailable`.

PostgreSQL ends a transaction that its owner has left open for as long: one that was stopped in the
middle of it, or whose machine is gone, must not keep its locks from everybody else.
"""

TURN_MILLISECONDS = 5
"""How long SQLite itself waits for its turn to write, before we ask again."""

CHANNEL = "windlass"
"""PostgreSQL's channel on which controllers tell each other to look again."""

DIRTY_PAGES = 16_384
"""Pages of 4 KiB that a transaction of SQLite may change before it writes any of them to its log.

By default half a thousand: a first look at ten thousand definitions then writes, and reads again,
many pages that are not finished yet. What this takes is given back at the end of the transaction.
"""

WAL_BYTES = 64 * 1024 * 1024
"""The write-ahead log is cut back to this size after a checkpoint."""

WAL_PAGES = WAL_BYTES // 4096
"""Pages in the log with which SQLite moves it by itself; the journal does before: `wal.py`."""

CACHED_KILOBYTES = 16_384
"""Pages that the writer keeps in memory, at most: rows that come at once belong to places all over
the indexes, and each page that is not there is read, and written to the log, once more."""


def decode(encoded: str | bytes) -> Any:  # ruff: ignore[any-type]  # JSON is any JSON value
    """The JSON value of a text; the fast parser first, the patient one for very deep values."""
    try:
        return from_json(encoded, cache_strings="keys")
    except ValueError:
        return json.loads(encoded)


def encode(value: object) -> str | None:
    """A JSON value as a column holds it; `bytes` are encoded already, None is NULL."""
    if value is None:
        return None
    return (value if isinstance(value, bytes) else to_json(value)).decode()


class Json(TypeDecorator[Any]):
    """JSON as text, on both databases: keys keep their order and an escaped NUL is allowed.

    See `encode`.
    """

    impl: TypeEngine[Any] | type[TypeEngine[Any]] = Text
    cache_ok: bool | None = True

    def process_bind_param(self, value: object, dialect: Dialect) -> str | None:
        """Encode."""
        del dialect
        return encode(value)

    def process_result_value(
        self,
        value: str | None,
        dialect: Dialect,
    ) -> Any:  # ruff: ignore[any-type]  # JSON is any JSON value
        """Decode."""
        del dialect
        return None if value is None else decode(value)


class Unsigned64(TypeDecorator[int]):
    """An inode: unsigned 64 bits, kept in a column that is signed."""

    impl: TypeEngine[Any] | type[TypeEngine[Any]] = BigInteger
    cache_ok: bool | None = True

    def process_bind_param(self, value: int | None, dialect: Dialect) -> int | None:
        """Fold the upper half into the negative numbers."""
        del dialect
        return value if value is None or value < 1 << 63 else value - (1 << 64)

    def process_result_value(self, value: int | None, dialect: Dialect) -> int | None:
        """Unfold."""
        del dialect
        return value if value is None or value >= 0 else value + (1 << 64)


def storable(line: str) -> str:
    """A text both databases take: NUL and lone surrogates become the replacement character."""
    if "\0" in line:
        line = line.replace("\0", "\ufffd")
    return line if line.isascii() else line.encode("utf-8", "replace").decode()


# ------------------------------------------------------------------------------------ connecting


class Engines(NamedTuple):
    """Where to write (one connection), to read (several), and to hear of others."""

    writer: Engine
    reader: Engine
    listener: Engine | None = None


def parse_url(url: str) -> URL:
    """The URL with our driver; `Refused` for what is neither SQLite in a file nor PostgreSQL."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise Refused(
            f"not a database URL: {url!r}",
            reason="database-url",
            hint="sqlite:///path/to/windlass.db or postgresql://user@host/name",
        ) from None
    backend = parsed.get_backend_name()
    if backend == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    if backend == "sqlite" and parsed.database not in {None, "", ":memory:"}:
        return parsed.set(drivername="sqlite+pysqlite", query={})
    raise Refused(
        f"Windlass keeps its state in a SQLite file or in PostgreSQL, not in {backend}"
        f" {parsed.database or ''}".rstrip(),
        reason="database-url",
        hint="sqlite:///path/to/windlass.db or postgresql://user@host/name",
    )


def sqlite_path(url: URL) -> Path | None:
    """The database's file, or None on PostgreSQL."""
    return Path(url.database or "") if url.get_backend_name() == "sqlite" else None


def place(url: URL) -> str:
    """The database as messages name it: a path, or a URL without its password."""
    plain = url.set(drivername=url.get_backend_name())
    return str(sqlite_path(url) or plain.render_as_string(hide_password=True))


def connect(url: URL, readers: int) -> Engines:
    """Engines that have not connected yet."""
    if url.get_backend_name() == "sqlite":
        return _connect_sqlite(url, readers)
    try:
        writer = create_engine(url, pool_size=1, max_overflow=0, pool_pre_ping=True)
        reader = create_engine(
            url,
            pool_size=readers,
            max_overflow=0,
            pool_pre_ping=True,
            isolation_level="REPEATABLE READ",
        ).execution_options(postgresql_readonly=True)
        listener = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    except ImportError:
        raise Refused(
            "PostgreSQL needs the driver psycopg",
            reason="database-driver",
            hint="install Windlass with the extra `postgres`",
        ) from None
    for engine in (writer, reader):
        event.listen(engine, "connect", _set_up)
    return Engines(writer, reader, listener)


def _set_up(connection: Any, _record: object) -> None:  # ruff: ignore[any-type]  # a DBAPI connection
    """What is left open is ended; what is prepared is so by `straight.py`, and by nobody else.

    With its own, psycopg would drop all that is prepared at each rollback.
    """
    connection.prepare_threshold = None
    timeout = int(BUSY_SECONDS * 1000)
    connection.execute(f"SET idle_in_transaction_session_timeout = {timeout}")
    connection.commit()


def _connect_sqlite(url: URL, readers: int) -> Engines:
    arguments = {"timeout": BUSY_SECONDS, "check_same_thread": False, "isolation_level": None}
    writer = create_engine(url, pool_size=1, max_overflow=0, connect_args=arguments)
    reader = create_engine(url, pool_size=readers, max_overflow=0, connect_args=arguments)
    pragmas = "PRAGMA foreign_keys=ON; PRAGMA synchronous=FULL; PRAGMA temp_store=MEMORY;"
    turn = f"PRAGMA journal_size_limit={WAL_BYTES}; PRAGMA busy_timeout={TURN_MILLISECONDS};"
    cache = f"PRAGMA cache_size=-{CACHED_KILOBYTES}; PRAGMA cache_spill={DIRTY_PAGES};"
    log = f"PRAGMA wal_autocheckpoint={WAL_PAGES};"
    _arrange(writer, pragmas + turn + cache + log, _begin_to_write)
    _arrange(reader, f"{pragmas}PRAGMA query_only=ON;", lambda driver: driver.execute("BEGIN"))
    return Engines(writer, reader)


def _begin_to_write(driver: Any) -> None:  # ruff: ignore[any-type]  # a DBAPI connection
    """Begin when it is our turn.

    Left to itself SQLite asks ever more rarely, ten times a second in the end: too rarely to find
    the moment between two transactions of a controller that has much to write.
    """
    for _ in range(int(BUSY_SECONDS * 1000) // TURN_MILLISECONDS - 1):
        try:
            driver.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise
        else:
            return
    driver.execute("BEGIN IMMEDIATE")


def _arrange(engine: Engine, pragmas: str, begin: Callable[[Any], object]) -> None:
    """Set up each new connection of `engine`, and say how its transactions begin."""

    @event.listens_for(engine, "connect")
    def connected(connection: Any, _record: object) -> None:  # ruff: ignore[any-type]  # a DBAPI connection
        connection.executescript(pragmas)

    @event.listens_for(engine, "begin")
    def began(connection: Connection) -> None:
        by_driver(connection, begin)


def by_driver(tx: Connection, work: Callable[[Any], T]) -> T:
    """Do with SQLite's own connection what every commit does; its errors become SQLAlchemy's.

    What SQLAlchemy does around a statement takes longer than to insert a row.
    """
    try:
        return work(tx.connection.driver_connection)
    except sqlite3.Error as error:
        raise DBAPIError.instance(None, None, error, sqlite3.Error) from error


# ------------------------------------------------------------------------------------ statements


ID_LENGTH = 36
"""Characters of an id."""


def is_sqlite(tx: Connection) -> bool:
    """Whether this transaction is one of SQLite."""
    return tx.dialect.name == "sqlite"


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

    PostgreSQL makes that a transaction by itself: BEGIN and COMMIT would be a round trip each.
    """
    if is_sqlite(tx):
        return tx.begin()
    driver: Any = tx.connection.driver_connection
    if driver.autocommit is not alone:
        driver.autocommit = alone
    return nullcontext() if alone else tx.begin()


def serialise(tx: Connection, number: int) -> None:
    """Let one transaction at a time past this point; SQLite's writers take turns anyway."""
    if not is_sqlite(tx):
        rows_of_text(tx, "SELECT pg_advisory_xact_lock($1)", (number,))


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


# ---------------------------------------------------------------------------------------- errors

_SQLITE_DUPLICATE = {1555, 2067}  # SQLITE_CONSTRAINT_PRIMARYKEY, _UNIQUE
_SQLITE_ORPHAN = 787  # SQLITE_CONSTRAINT_FOREIGNKEY
_MOVED = 1032  # SQLITE_READONLY_DBMOVED
_TOO_BIG = 18  # SQLITE_TOOBIG: a thousand million bytes
_AWAY = {
    5: "{where} is kept locked by another process",
    6: "{where} is kept locked by another process",
    7: "{where}: out of memory",
    10: "{where}: the disk does not take or give the data ({said})",
    13: "disk full: {where} cannot grow",
    14: "{where} cannot be opened ({said})",
}
"""SQLite's primary result codes after which trying again later makes sense."""


def is_collision(error: DBAPIError) -> bool:
    """Whether the row was there already, or what it belongs to is gone."""
    code = getattr(error.orig, "sqlite_errorcode", None)
    if code is not None:
        return code in _SQLITE_DUPLICATE or code == _SQLITE_ORPHAN
    return getattr(error.orig, "sqlstate", None) in {"23505", "23503"}


def is_too_big(error: DBAPIError) -> bool:
    """Whether a value would be longer than SQLite lets one be."""
    return getattr(error.orig, "sqlite_errorcode", None) == _TOO_BIG


def failure(error: DBAPIError, where: str) -> Unavailable | Refused | None:
    """What a database error asks of us; None when it is about the statement, not the database."""
    if (code := getattr(error.orig, "sqlite_errorcode", None)) is not None:
        return sqlite_failure(code, where, str(error.orig))
    state = getattr(error.orig, "sqlstate", None)
    return _postgres_failure(state, error, where)


def sqlite_failure(code: int, where: str, said: str) -> Unavailable | Refused | None:
    """`failure` of one of SQLite's result codes."""
    if code == _MOVED:
        return Refused(
            f"{where} was moved or deleted while it was open",
            reason="database-moved",
            hint="put it back, or start again with a new one",
        )
    primary = code & 0xFF
    if primary in _AWAY:
        return Unavailable(_AWAY[primary].format(where=where, said=said))
    if primary in {3, 8}:
        return read_only(where)
    if primary in {11, 26}:
        return Refused(
            f"{where} is damaged, or is not a database ({said})",
            reason="database-damaged",
            hint="restore it from a backup, or move it away to start with a new one",
        )
    return None


_POSTGRES_AWAY = {"08", "40", "53", "55", "57", "58"}
"""Classes of SQLSTATE: connection, rollback, resources, not ready, operator, system."""


def _postgres_failure(
    state: str | None, error: DBAPIError, where: str
) -> Unavailable | Refused | None:
    said = str(error.orig).strip().partition("\n")[0]
    if state == "53100":
        return Unavailable(f"disk full: {where} cannot grow ({said})")
    if state == "25006":
        return read_only(where)
    if state is not None and state[:2] in {"28", "3D", "42"}:
        return Refused(f"{where} refuses us ({said})", reason="database-access")
    left_open = state == "25P03"
    lost = (
        left_open
        or error.connection_invalidated
        or (state is None and type(error.orig).__name__ == "OperationalError")
    )
    if lost or (state is not None and state[:2] in _POSTGRES_AWAY):
        return Unavailable(f"{where} does not answer ({said})")
    return None


def read_only(where: str) -> Refused:
    """The database cannot be written, by this user or at all."""
    return Refused(
        f"{where} is read-only",
        reason="database-read-only",
        hint="give the user Windlass runs as the right to write the file and its folder",
    )
