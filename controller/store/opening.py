"""Opening a database: is it one of ours, and does it have the newest schema?

Nothing is changed before that is known. What cannot be used is refused with what to do about it.
Our schema's revision stands in a table of its own name, so that another program's alembic is never
taken for ours. A database with the newest revision is opened without importing alembic.
"""

import os
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import URL, inspect, text
from sqlalchemy.exc import DBAPIError

from controller.core.problem import NotFound, Refused
from controller.store import connecting, dialect, failures
from controller.store.connecting import Engines
from controller.store.tables import Transaction
from controller.store.wal import use_write_ahead_log

if TYPE_CHECKING:
    from alembic.config import Config

SCHEMA_TABLE = "windlass_schema"
"""Where alembic keeps the revision."""

REVISIONS = ("0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008")
"""The schema's revisions, oldest first: those under migrations/versions."""

HEAD = REVISIONS[-1]

_MIGRATION_LOCK = 0x57494E45

_upgrading = threading.Lock()
"""One database of this process at a time: what alembic works on is global to it."""

_SQLITE_HEADER = b"SQLite format 3\0"


def prepare(engines: Engines, url: URL, *, create: bool) -> None:
    """Make the database ready to be used, or raise `Refused` or `Unavailable` and leave it alone.

    Args:
        engines: Not connected yet.
        url: What they connect to.
        create: Whether to make a database where there is none; otherwise that is `NotFound`.
    """
    where = connecting.place(url)
    path = connecting.sqlite_path(url)
    if path is not None:
        check_file(path, create=create)
    with translated(where):
        with engines.reader.connect() as tx, tx.begin():
            revision = recorded_revision(tx, where)
        if revision is None and not create:
            raise absent(where)
        if path is not None:
            use_write_ahead_log(engines.writer)
        if revision != HEAD:
            with engines.writer.connect() as tx, tx.begin():
                _migrate(tx, where)


@contextmanager
def translated(where: str, *, in_use: bool = False) -> Generator[None]:
    """Turn what the database says about itself into `Refused` or `Unavailable`.

    Args:
        where: The database as messages name it.
        in_use: Whether it was opened before.
    """
    try:
        yield
    except DBAPIError as error:
        found = failures.problem_in_use if in_use else failures.problem_of
        problem = found(error, where)
        if problem is None:
            raise
        raise problem from error


def absent(where: str) -> NotFound:
    """There is none, or nothing in it."""
    return NotFound(
        f"there is no database at {where}",
        hint="start the controller once with `windlass run`, or name the right state directory",
    )


def check_file(path: Path, *, create: bool) -> None:
    """Look at the file before SQLite does."""
    if path.is_dir():
        raise _not_a_database(path, "is a directory")
    try:
        if not path.exists():
            _make_file(path, create=create)
        with path.open("rb") as file:
            header = file.read(len(_SQLITE_HEADER))
    except OSError as error:
        raise Refused(
            f"{path} cannot be opened: {error.strerror}",
            reason="database-access",
            hint="give the user Windlass runs as the right to read and write it",
        ) from error
    if header not in {b"", _SQLITE_HEADER}:
        raise _not_a_database(path, "is not a database")
    if not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)):
        raise failures.read_only(str(path))


def _make_file(path: Path, *, create: bool) -> None:
    """An empty file is an empty database; inputs are nobody else's business."""
    if not create:
        raise absent(str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)


def _not_a_database(path: Path, what: str) -> Refused:
    return Refused(
        f"{path} {what}",
        reason="not-a-database",
        hint="name another file in WINDLASS_DATABASE_URL, or move this one away",
    )


def recorded_revision(tx: Transaction, where: str) -> str | None:
    """The schema's revision; None when the database is empty."""
    tables = set(inspect(tx).get_table_names())
    if SCHEMA_TABLE in tables:
        revision: str | None = tx.scalar(text(f"SELECT version_num FROM {SCHEMA_TABLE}"))  # ruff: ignore[hardcoded-sql-expression]  # a constant
        if revision is not None and revision not in REVISIONS:
            raise Refused(
                f"{where} was written by a newer Windlass: its schema is {revision},"
                f" and this one knows {HEAD}",
                reason="newer-schema",
                hint="install that version again, or restore the backup made before it",
            )
        return revision
    if tables:
        raise Refused(
            f"{where} belongs to another program: it has tables, but none of Windlass"
            f" ({', '.join(sorted(tables)[:3])} …)",
            reason="foreign-database",
            hint="name another database in WINDLASS_DATABASE_URL",
        )
    return None


def _migrate(tx: Transaction, where: str) -> None:
    """Bring the schema to `HEAD` within the transaction; another process may have just done so."""
    dialect.serialise(tx, _MIGRATION_LOCK)
    if recorded_revision(tx, where) == HEAD:
        return
    from alembic import command  # ruff: ignore[import-outside-top-level]  # start-up time

    with _upgrading:
        command.upgrade(migrations(tx), HEAD)


def migrations(tx: Transaction) -> "Config":
    """What alembic goes by, within the transaction."""
    from alembic.config import Config  # ruff: ignore[import-outside-top-level]  # start-up time

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = tx
    config.attributes["version_table"] = SCHEMA_TABLE
    return config
