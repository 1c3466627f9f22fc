"""SQLite's write-ahead log: its room, when it is moved into the file, and when it is cut back.

What a commit writes goes to the end of the log. While the log has to grow for it, a commit takes
about twice as long: the file system records the new length, and waits for that too. So the writer
gives it room before its first commit; once moved into the file, the log is written from its start
again. Nobody but SQLite may touch what it has written there: `make_room` is for whoever holds the
right to write, and puts nothing where something is.
"""

import os
import sqlite3
from contextlib import suppress
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from controller.core.problem import Refused
from controller.store.connecting import BUSY_SECONDS, TURN_MILLISECONDS
from controller.store.dialect import by_driver, is_sqlite

ROOM = 2 * 1024 * 1024
"""Bytes that the log has from the start: about what commits of one row each write to it before the
journal moves it (`SOME_ROWS`, two pages a row). To make them takes a few milliseconds, once."""


def use_write_ahead_log(engine: Engine) -> None:
    """Make a SQLite file keep a write-ahead log; it is a property of the file and stays."""
    with engine.connect() as connection:
        driver = connection.connection.driver_connection
        if driver is None or _pragma(driver, "journal_mode") == "wal":
            return
        _pragma(driver, f"busy_timeout={int(BUSY_SECONDS * 1000)}")
        changed = _pragma(driver, "journal_mode=WAL")
        _pragma(driver, f"busy_timeout={TURN_MILLISECONDS}")
        if changed != "wal":
            raise Refused(
                f"{engine.url.database}: this file system cannot hold a write-ahead log",
                reason="database-filesystem",
                hint="put the state directory on a local disk",
            )


def make_room(tx: Connection) -> None:
    """Let the log be as long as it will soon be, in a transaction that writes.

    Zeros are no part of a log: whoever recovers it stops before them. A disk without room for
    them keeps what it has; what is committed goes where it would have gone.
    """
    log = None if not is_sqlite(tx) else by_driver(tx, _log_of)
    if log is None:
        return
    with suppress(OSError):
        descriptor = os.open(log, os.O_WRONLY | os.O_CLOEXEC)
        try:
            was = os.fstat(descriptor).st_size
            if was < ROOM:
                _fill(descriptor, was)
        finally:
            os.close(descriptor)


def _fill(descriptor: int, was: int) -> None:
    try:
        at = was
        while at < ROOM:
            at += os.pwrite(descriptor, bytes(ROOM - at), at)
    except OSError:
        os.ftruncate(descriptor, was)


def _log_of(driver: sqlite3.Connection) -> str | None:
    """The log of a database that is a file."""
    [file] = [row[2] for row in driver.execute("PRAGMA database_list") if row[1] == "main"]
    return f"{file}-wal" if file else None


def changed_rows(connection: Connection) -> int:
    """Rows that SQLite has changed on this connection; PostgreSQL takes care of its log by itself.

    A page more or less in the log for each: SQLite tells nobody how long it is.
    """
    if not is_sqlite(connection):
        return 0
    driver: Any = connection.connection.driver_connection
    count: int = driver.total_changes
    return count


def move_log(connection: Connection) -> None:
    """Move SQLite's log into the file, as far as nobody reads what is in it; nobody waits for that.

    What goes wrong is for the next commit to say.
    """
    with suppress(DBAPIError):
        by_driver(connection, lambda driver: _pragma(driver, "wal_checkpoint(PASSIVE)"))


def cut_back(engine: Engine) -> bool:
    """Move SQLite's log into the file and empty it; False: somebody reads what is still in it."""
    with engine.connect() as connection:
        return by_driver(connection, lambda driver: not _pragma(driver, "wal_checkpoint(TRUNCATE)"))


def _pragma(driver: Any, pragma: str) -> object:  # ruff: ignore[any-type]  # a DBAPI connection
    return driver.execute(f"PRAGMA {pragma}").fetchone()[0]
