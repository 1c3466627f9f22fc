"""A copy put in the place of a SQLite database.

Nothing is replaced before the copy has proved itself: it is copied beside the database, opened as
any database is — which refuses what is not ours or is newer, and migrates what is older — and
checked. What was there is kept under another name, with everything that was committed to it. The
change itself is one rename, and a log of the old database never stands beside the new one: SQLite
would take it for the new one's.
"""

import os
import sqlite3
import threading
from collections.abc import Generator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import URL

from controller.core.problem import NotFound, Refused
from controller.store.backup import (
    Backup,
    copy_database,
    examined,
    flush,
    not_ours_to_restore,
    opened,
    said_of,
)
from controller.store.connecting import connect, parse_url, sqlite_path
from controller.store.ledger_logs import audit
from controller.store.lock import ControllerLock
from controller.store.opening import prepare, translated
from controller.store.records import AuditRecord

STAGED = ".restoring"
"""The end of the name of a copy that is not in the database's place yet."""

KEPT = ".before-restore-"
"""What the name of a database that was replaced has after the database's."""

LOG = "-wal"
_BESIDE = (LOG, "-shm", "-journal")
_TAKEN = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
"""Somebody reads or writes it."""
_TRIES = 50
_PAUSE_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Restored:
    """What is in the database's place now, and where what was there is kept, if there was any."""

    database: Backup
    kept: Path | None


def restore(file: Path, url: str, *, now: int, by: str, replace: bool = False) -> Restored:
    """Put the copy in the place of the database, as the only controller for as long as it takes.

    Args:
        file: A copy; it stays as it is.
        url: The database, there or not.
        now: Epoch milliseconds.
        by: Who asks, for the audit log.
        replace: Whether a database that is there may be replaced.

    Raises:
        NotFound: There is no such file, or no directory for the database.
        Refused: A controller or a command uses the database, one is there, or the copy cannot be
            used: it is PostgreSQL's, foreign, newer than we are, damaged.
        Unavailable: The disk is full.
    """
    parsed = parse_url(url)
    path = sqlite_path(parsed)
    if path is None:
        raise not_ours_to_restore(parsed, file)
    if not file.is_file():
        raise NotFound(f"there is no file {file}")
    if not path.parent.is_dir():
        raise NotFound(f"there is no directory {path.parent}", hint="make it first")
    with ControllerLock(path, "restore").acquire(now):
        if path.exists():
            _check_replaceable(file, path, replace=replace)
        staged = path.with_name(path.name + STAGED)
        try:
            _stage(file, staged, AuditRecord(now, by, "restore", str(path), {"from": str(file)}))
            found = examined(staged, path)
            kept = _swap(staged, path, now) if path.exists() else None
            if kept is None:
                _place(staged, path)
        finally:
            _remove(staged)
    return Restored(found, kept)


def _check_replaceable(file: Path, path: Path, *, replace: bool) -> None:
    if path.samefile(file):
        raise Refused(f"{file} is the database itself", reason="exists")
    if not replace:
        raise Refused(
            f"there is a database at {path}",
            reason="exists",
            hint="replace it with --force; it is kept under another name",
        )


def _stage(file: Path, staged: Path, record: AuditRecord) -> None:
    """A copy beside the database, opened and migrated; `file` keeps what it has."""
    _remove(staged)
    staged.touch(mode=0o600)
    if os.geteuid() == 0:  # the service, whoever it runs as, must be able to open it
        owner = staged.parent.stat()
        os.chown(staged, owner.st_uid, owner.st_gid)
    with _as_a_copy():
        copy_database(file, staged)
        examined(staged, file)
    url = URL.create("sqlite+pysqlite", database=str(staged))
    engines = connect(url, 1)
    try:
        prepare(engines, url, create=False)
        with translated(str(staged)), engines.writer.connect() as tx, tx.begin():
            audit(tx, record)
    finally:
        engines.reader.dispose()
        engines.writer.dispose()
    with said_of(staged), closing(_alone(staged)):
        pass  # on a full disk a log may be left, without which the file is not whole


@contextmanager
def _as_a_copy() -> Generator[None]:
    """What is damaged is a copy itself: none of it is to be had from a backup."""
    try:
        yield
    except Refused as error:
        if error.reason not in {"database-damaged", "damaged"}:
            raise
        hint = "give an older copy, or another one"
        raise Refused(str(error), reason=error.reason, hint=hint) from None


def _swap(staged: Path, path: Path, now: int) -> Path:
    """Put it in the place of the database, which is kept under the name that is returned."""
    moment = datetime.fromtimestamp(now / 1000, UTC)
    kept = path.with_name(f"{path.name}{KEPT}{moment:%Y%m%dT%H%M%S}.{now % 1000:03}Z")
    if not _is_whole(path):
        os.link(path, kept)
        for end in _BESIDE:  # a damaged database keeps its log; SQLite finds it by its name
            log = path.with_name(path.name + end)
            if log.exists():
                log.replace(kept.with_name(kept.name + end))
        _place(staged, path)
        return kept
    with said_of(path), closing(_alone(path)) as held:
        held.execute("BEGIN EXCLUSIVE")
        os.link(path, kept)
        _place(staged, path)
    return kept


def _is_whole(path: Path) -> bool:
    """Whether SQLite can still read it; a writer would throw away a log it cannot use."""
    try:
        with closing(opened(path, "ro")) as database:
            database.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except sqlite3.DatabaseError:
        return False
    return True


def _alone(path: Path) -> sqlite3.Connection:
    """The database as one file without a log, which only whoever has it alone can make of it."""
    database = opened(path)
    for _ in range(_TRIES):
        try:
            if database.execute("PRAGMA journal_mode=DELETE").fetchone()[0] == "delete":
                return database
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in _TAKEN:
                database.close()
                raise
        threading.Event().wait(_PAUSE_SECONDS)
    database.close()
    raise Refused(
        f"{path} is in use by another process, such as a command that waits",
        reason="database-locked",
        hint="let it end, or stop it",
    )


def _place(staged: Path, path: Path) -> None:
    flush(staged)
    staged.replace(path)
    flush(path.parent)


def _remove(staged: Path) -> None:
    for end in ("", *_BESIDE):
        staged.with_name(staged.name + end).unlink(missing_ok=True)
