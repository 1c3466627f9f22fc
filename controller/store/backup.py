"""Copies of a SQLite database, made while others read and write it.

A copy is of one moment: the source is read within one transaction, which in a write-ahead log keeps
nobody from writing; without it every commit would make SQLite begin the copy again. It is made
under another name beside its target, checked as a database of ours, flushed, and only then renamed:
whatever ends the process, there is a whole copy under the target's name or none.
"""

import os
import re
import shutil
import sqlite3
import stat
import tempfile
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from errno import EACCES, EDQUOT, EEXIST, EISDIR, ELOOP, ENAMETOOLONG, ENOSPC, ENOTDIR, EPERM, EROFS
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import URL, func, select

from controller.core.problem import MAKE_ROOM, NotFound, Refused, Unavailable
from controller.store.connecting import BUSY_SECONDS, connect, masked, parse_url, place, sqlite_path
from controller.store.dialect import damage
from controller.store.failures import sqlite_problem
from controller.store.ledger_executions import ACTIVE
from controller.store.opening import recorded_revision, translated
from controller.store.tables import workflow_executions

PAGES = 2_048
"""Pages copied at a time; between two a person may interrupt."""

PART = ".part"
"""The end of the name of a copy that is not whole yet."""

_NAMED = re.compile(r"windlass-\d{8}T\d{6}\.\d{3}Z\.db")
_NOT_HERE = {EACCES, EPERM, EROFS, EEXIST, ENOTDIR, EISDIR, ELOOP, ENAMETOOLONG}
"""Errors of a place that stay until somebody names another one."""
_FULL = 13
_CANNOT_OPEN = 14
_CANNOT_WRITE = 778
"""SQLITE_IOERR_WRITE: while one file is copied to another, it is of the other."""


@dataclass(frozen=True, slots=True)
class Backup:
    """A database of ours, whole, in one file.

    Attributes:
        size: Bytes.
        executions: How many it holds, and how many of them are unfinished.
        schema: Its revision.
    """

    path: Path
    size: int
    executions: int
    unfinished: int
    schema: str


def file_name(now: int) -> str:
    """What a copy made now is called in a directory of copies; the names sort by time."""
    moment = datetime.fromtimestamp(now / 1000, UTC)
    return f"windlass-{moment:%Y%m%dT%H%M%S}.{now % 1000:03}Z.db"


def backup(
    url: str, target: Path, *, replace: bool = False, make_directory: bool = False
) -> Backup:
    """Copy the database to the file `target`, which nobody else may read.

    Args:
        url: The database; it is neither created nor migrated.
        target: A file in a directory.
        replace: Whether a regular file that is there may be replaced, once the new one is whole.
        make_directory: Whether the directory is made where there is none, for us alone.

    Raises:
        NotFound: There is no database, or no such directory.
        Refused: It is PostgreSQL, the target is there or cannot be written, the copy is damaged.
        Unavailable: The disk is full, or the database is kept locked.
    """
    parsed = parse_url(url)
    source = sqlite_path(parsed)
    if source is None:
        raise _by_its_own_tool(parsed, target.name)
    _check_free(target, replace=replace)
    if not source.is_file():
        hint = "name the right state directory"
        raise NotFound(f"there is no database at {source}", hint=hint)
    if target.exists() and target.samefile(source):
        raise Refused(f"{target} is the database itself", reason="exists")
    if make_directory:
        _make(target)
    with _whole_or_nothing(target) as part:
        copy_database(source, part)
        return examined(part, target)


def _check_free(target: Path, *, replace: bool) -> None:
    """Refuse what would be lost by a rename over it: a device, a link, a file not given up."""
    try:
        mode = target.lstat().st_mode
    except OSError:
        return  # what is wrong with the place is told by whoever writes there
    if not stat.S_ISREG(mode):
        hint = "give a file or a directory"
        raise Refused(f"{target} is not a regular file", reason="unwritable", hint=hint)
    if not replace:
        hint = "name another one, or replace it with --force"
        raise Refused(f"{target} is there already", reason="exists", hint=hint)


def _by_its_own_tool(url: URL, name: str) -> Refused:
    dump = Path(name).with_suffix(".dump").name
    return Refused(
        f"{place(url)} is PostgreSQL, which makes its own copies, also while controllers work",
        reason="postgresql",
        hint=f"pg_dump --format=custom --file={dump} --dbname='{_address(url)}'{_password(url)}",
    )


def not_ours_to_restore(url: URL, file: Path) -> Refused:
    """PostgreSQL restores by its own tool too."""
    return Refused(
        f"{place(url)} is PostgreSQL, which restores its own copies; stop every controller first",
        reason="postgresql",
        hint="pg_restore --clean --if-exists --no-owner --single-transaction"
        f" --dbname='{_address(url)}' '{file}'{_password(url)}",
    )


def _address(url: URL) -> str:
    plain = URL.create(
        "postgresql", url.username, None, url.host, url.port, url.database, url.query
    )
    return masked(plain).render_as_string()


def _password(url: URL) -> str:
    given = url.password or "password" in url.query
    said = ["the password in PGPASSWORD or in ~/.pgpass"] if given else []
    said += ["SSLPASSWORD is yours"] if "sslpassword" in url.query else []
    return f" ({'; '.join(said)})" if said else ""


# ----------------------------------------------------------------------------------- copying


def copy_database(source: Path, target: Path) -> None:
    """Copy into an empty file as of one moment, and make the copy one file without a log."""
    with said_of(source), closing(opened(source)) as origin:
        origin.execute("BEGIN")
        origin.execute("SELECT count(*) FROM sqlite_schema").fetchone()  # from here on it is fixed
        _check_room(origin, target)
        with said_of(target, writing=True), closing(opened(target)) as copy:
            copy.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;")
            origin.backup(copy, pages=PAGES, progress=_interruptible)
            copy.execute("PRAGMA journal_mode=DELETE")
    flush(target)


def opened(path: Path, mode: str = "rw") -> sqlite3.Connection:
    """A database that is there, by SQLite's `mode`; without a transaction unless one is begun."""
    address = f"file:{quote(str(path))}?mode={mode}"
    return sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS, isolation_level=None)


def _interruptible(_status: int, _remaining: int, _total: int) -> None:
    """Python looks at its signals whenever it is called."""


def _check_room(origin: sqlite3.Connection, target: Path) -> None:
    """Refuse before the disk is full: the database itself may be on it."""
    pages, size = (
        int(origin.execute(f"PRAGMA {each}").fetchone()[0]) for each in ("page_count", "page_size")
    )
    free = shutil.disk_usage(target.parent).free
    if pages * size > free:
        needed = f"the copy takes {pages * size:,} bytes, and {free:,} are free"
        raise Unavailable(f"disk full: {needed} in {target.parent}", hint=MAKE_ROOM)


@contextmanager
def said_of(path: Path, *, writing: bool = False) -> Generator[None]:
    """Turn what SQLite says into what to do; `writing`: the rest is of another file."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", None)
        written = code == _CANNOT_WRITE or (code or 0) & 0xFF in {_FULL, _CANNOT_OPEN}
        if code is None or (writing and not written):
            raise
        if code == _CANNOT_OPEN and not writing and not os.access(path.parent, os.W_OK):
            raise _on_read_only(path) from None
        problem = sqlite_problem(code, str(path), str(error))
        if problem is None:
            raise
        raise problem from error


def _on_read_only(path: Path) -> Refused:
    """Without looking at the log, which needs a file beside it, some of it would be missing."""
    return Refused(
        f"{path} cannot be read where nothing can be written: SQLite has its locks beside it",
        reason="database-read-only",
        hint=f"copy it, with {path.name}-wal if that is there, to another directory while nobody"
        " works on it, and name that with --database-url sqlite:///DIRECTORY/" + path.name,
    )


def flush(path: Path) -> None:
    """Have the file or directory on the disk before going on."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def examined(path: Path, shown: Path) -> Backup:
    """What is in the file; raises `Refused` unless it is a sound database of ours."""
    url = URL.create("sqlite+pysqlite", database=str(path))
    engines = connect(url, 1)
    try:
        with translated(str(shown)), engines.reader.connect() as tx, tx.begin():
            schema = recorded_revision(tx, str(shown))
            if schema is None:
                message = f"{shown} is empty: there is no Windlass in it"
                raise Refused(message, reason="not-a-database")
            _check_sound(damage(tx), shown)
            counted = select(func.count()).select_from(workflow_executions)
            unfinished = counted.where(workflow_executions.c.status.in_(ACTIVE))
            total, going = tx.scalar(counted) or 0, tx.scalar(unfinished) or 0
    finally:
        engines.reader.dispose()
        engines.writer.dispose()
    return Backup(shown, path.stat().st_size, total, going, schema)


def _check_sound(problems: list[str], shown: Path) -> None:
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise Refused(
            f"{shown}: {problems[0]}{more}",
            reason="damaged",
            hint="`windlass doctor --full` says what else is wrong; an older copy may be sound",
        )


# ----------------------------------------------------------------------------------- files


@contextmanager
def _whole_or_nothing(target: Path) -> Generator[Path]:
    """An empty file beside the target that becomes the target when the block ends well."""
    try:
        _remove_dead_parts(target.parent)
        descriptor, name = tempfile.mkstemp(PART, f".{target.name}.", target.parent)
    except OSError as error:
        raise _unwritable(target, error) from None
    part = Path(name)
    try:
        flock(descriptor, LOCK_EX)
        yield part
        part.replace(target)
        flush(target.parent)
    except OSError as error:
        raise _unwritable(target, error) from None
    finally:
        part.unlink(missing_ok=True)
        os.close(descriptor)


def _unwritable(target: Path, error: OSError) -> Exception:
    if isinstance(error, FileNotFoundError):
        return NotFound(f"there is no directory {target.parent}", hint="make it first")
    if error.errno in _NOT_HERE:
        message = f"cannot write {target}: {error.strerror}"
        return Refused(message, reason="unwritable", hint="name another place with --output")
    hint = MAKE_ROOM if error.errno in {ENOSPC, EDQUOT} else None
    return Unavailable(f"cannot write {target}: {error.strerror}", hint=hint)


def _make(target: Path) -> None:
    """The directory of the target."""
    try:
        target.parent.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise _unwritable(target, error) from None


def _remove_dead_parts(directory: Path) -> None:
    for part in dead_parts(directory, ".windlass-*"):
        with suppress(OSError):
            part.unlink()


def dead_parts(directory: Path, name: str = ".*") -> Iterator[Path]:
    """What copies that were killed have left; one that is being made is locked."""
    for part in directory.glob(f"{name}{PART}"):
        with suppress(OSError), part.open("rb") as file:
            flock(file, LOCK_EX | LOCK_NB)
            yield part


def remove_older(directory: Path, keep: int) -> list[Path]:
    """Remove all but the newest `keep` copies that `file_name` named; those removed."""
    named = sorted(each for each in directory.iterdir() if _NAMED.fullmatch(each.name))
    older = named[: max(len(named) - keep, 0)]
    for each in older:
        each.unlink()
    return older
