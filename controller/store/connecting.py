"""How a database is connected to.

SQLite: write-ahead log, `synchronous=FULL` (a commit that returned survives a power cut), writers
begin with `BEGIN IMMEDIATE` so that they queue at the start of a transaction instead of failing in
the middle. PostgreSQL: writers READ COMMITTED with row locks, readers one REPEATABLE READ snapshot.
"""

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import NullPool

from controller.core.problem import Refused
from controller.store.dialect import by_driver

BUSY_SECONDS = 5.0
"""How long to wait for another process that writes, before it is `Unavailable`.

PostgreSQL ends a transaction that its owner has left open for as long: one that was stopped in the
middle of it, or whose machine is gone, must not keep its locks from everybody else.
"""

TURN_MILLISECONDS = 5
"""How long SQLite itself waits for its turn to write, before we ask again."""

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
    file = None if parsed.host else parsed.database
    if backend == "sqlite" and file not in {None, "", ":memory:"}:
        return parsed.set(drivername="sqlite+pysqlite", query={})
    raise Refused(
        f"Windlass keeps its state in a SQLite file or in PostgreSQL, not in {backend}"
        f" {parsed.database or ''}".rstrip(),
        reason="database-url",
        hint="sqlite:///path/to/windlass.db or postgresql://user@host/name",
    )


def sqlite_path(url: URL) -> Path | None:
    """The database's file, or None on PostgreSQL.

    It has one name, whatever links lead to it: its log and its lock stand beside that.
    """
    if url.get_backend_name() != "sqlite":
        return None
    return Path(os.path.realpath(url.database or ""))


def masked(url: URL) -> URL:
    """The URL without the passwords in its query: each a word that stands for it, or none."""
    shown = url.difference_update_query(["password"])
    hidden = {name: name.upper() for name in ("sslpassword",) if name in url.query}
    return shown.update_query_dict(hidden)


def place(url: URL) -> str:
    """The database as messages name it: a path, or a URL without its passwords."""
    if url.get_backend_name() == "sqlite":
        return str(Path(url.database or ""))
    plain = masked(url.set(drivername=url.get_backend_name()))
    return plain.render_as_string(hide_password=True)


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
