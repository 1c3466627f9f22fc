"""What is wrong with the files: the database's own, and what commands left beside it."""

import stat
from collections.abc import Iterator
from pathlib import Path

from controller.doctor.finding import Finding
from controller.store.backup import dead_parts
from controller.store.direct import Direct
from controller.store.restore import KEPT, LOG, STAGED

LARGE_LOG = 256 * 1024 * 1024
"""Bytes: SQLite cuts its log back to a quarter of this whenever nobody reads what is in it."""


def judge_files(
    database: Path | None, state_dir: Path, backups: Path, *, alone: bool
) -> Iterator[Finding]:
    """What is wrong with the files.

    Args:
        database: SQLite's file, or None.
        state_dir: The state directory.
        backups: Where copies are made when nobody says otherwise.
        alone: Nobody restores now.
    """
    if database is not None:
        log = database.with_name(database.name + LOG)
        if log.exists() and (size := log.stat().st_size) > LARGE_LOG:
            yield Finding("wal-large", str(log), f"{size:,} bytes")
        for kept in sorted(database.parent.glob(f"{database.name}{KEPT}*")):
            yield Finding("restore-kept", str(kept), f"{kept.stat().st_size:,} bytes")
        if alone:
            for staged in sorted(database.parent.glob(f"{database.name}{STAGED}*")):
                yield Finding("file-left-over", str(staged))
    places = {each.absolute() for each in (state_dir, backups) if each.is_dir()}
    for part in (each for place in sorted(places) for each in dead_parts(place)):
        yield Finding("file-left-over", str(part))
    for path, mode in _open_to_others(database, state_dir):
        yield Finding("files-open-to-others", str(path), f"mode {mode:03o}")


def _open_to_others(database: Path | None, state_dir: Path) -> Iterator[tuple[Path, int]]:
    """Nobody else reads the database, or puts anything beside it; with the permissions."""
    watched = [(state_dir, stat.S_IWOTH)] if state_dir.is_dir() else []
    if database is not None:
        log = database.with_name(database.name + LOG)
        held = log.exists() and log.stat().st_size > 0  # an empty one goes with those who made it
        watched += [(each, stat.S_IRWXO) for each in (database, *([log] if held else ()))]
    for path, forbidden in watched:
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & forbidden:
            yield path, mode


def mend_file(finding: Finding, database: Direct) -> bool:
    """Mend what was found of one file; whether it is."""
    path = Path(finding.subject)
    if finding.kind == "wal-large":
        return database.cut_back()
    if finding.kind == "file-left-over":
        path.unlink(missing_ok=True)
    elif finding.kind == "files-open-to-others":
        closed = ~stat.S_IWOTH if path.is_dir() else ~stat.S_IRWXO
        path.chmod(stat.S_IMODE(path.stat().st_mode) & closed)
    else:
        return False
    return True
