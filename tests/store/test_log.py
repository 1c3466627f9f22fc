"""SQLite's write-ahead log: it has room, and is moved into the file when there is time."""

import asyncio
import errno
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from controller.store import journal, wal
from controller.store.ledger_checkpoints import checkpoints
from controller.store.ledger_logs import audit
from controller.store.records import AuditRecord, Batch
from controller.store.store import Store
from controller.store.tables import Transaction
from tests.eventually import eventually
from tests.store.sample import batch, event, opened

LARGE = "x" * 4_000
"""A row with it takes about a page."""


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A file."""
    return tmp_path / "windlass.db"


def pages(database: Path) -> int:
    """Of the file itself: what is in the log only does not count."""
    return database.stat().st_size // 4_096


def record(tx: Transaction, rows: int) -> None:
    """Add rows of a page each."""
    for number in range(rows):
        audit(tx, AuditRecord(number, "a", "b", None, {"text": LARGE}))


def log_size(database: Path) -> int:
    """Bytes of the log's file, used or not."""
    return database.with_name(f"{database.name}-wal").stat().st_size


async def moved(store: Store, database: Path) -> int:
    """The pages of the file when all that is in the log is moved."""
    await store.write(record, journal.SOME_ROWS)
    await eventually(lambda: pages(database) > journal.SOME_ROWS // 2, "the log is moved")
    await store.write(record, 0)  # not before that has ended: one thread does both
    return pages(database)


async def test_the_log_is_moved_when_there_is_time(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit with far more pages than SQLite leaves in its log moves none of them."""
    async with opened(f"sqlite:///{database}") as store:
        before = await moved(store, database)
        monkeypatch.setattr(journal, "CALM", 3_600)
        await store.write(record, 1_500)
        assert pages(database) == before
        monkeypatch.setattr(journal, "CALM", 0)
        await store.write(record, 1)
        await eventually(lambda: pages(database) > before + 1_500, "the log is moved")


async def test_few_rows_stay_in_the_log(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A controller with little to do writes them once: nobody moves them for nothing."""
    monkeypatch.setattr(journal, "CALM", 0)
    async with opened(f"sqlite:///{database}") as store:
        before = await moved(store, database)
        for _ in range(journal.SOME_ROWS // 2):
            await store.write(record, 1)
        assert pages(database) == before


async def test_the_log_is_moved_at_last_though_there_is_no_time(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever always has something to write does not make it grow for ever."""
    monkeypatch.setattr(journal, "CALM", 3_600)
    monkeypatch.setattr(journal, "MOST_ROWS", 1_000)
    async with opened(f"sqlite:///{database}") as store:
        before = pages(database)
        await asyncio.gather(*(store.write_out(None, record, 100) for _ in range(30)))
        assert pages(database) > before + 1_000


async def test_a_log_that_cannot_be_moved_costs_nothing(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full: what is committed is there all the same, and the next commit works."""

    def fails(_driver: object, pragma: str) -> object:
        asked.append(pragma)
        raise sqlite3.OperationalError("disk I/O error")

    asked: list[str] = []
    async with opened(f"sqlite:///{database}", "e") as store:
        monkeypatch.setattr(wal, "_pragma", fails)
        await store.append(Batch("e", checkpoints=[event(n) for n in range(journal.SOME_ROWS)]))
        await eventually(lambda: asked, "it is tried")
        await store.append(batch("e", journal.SOME_ROWS))
        assert len(await store.read(checkpoints, "e")) == journal.SOME_ROWS + 1


async def test_a_commit_does_not_make_the_log_longer(database: Path) -> None:
    """It has its room from the first one on, so the file system has nothing to record."""
    async with opened(f"sqlite:///{database}", "e") as store:
        assert log_size(database) == wal.ROOM
        for number in range(20):
            await store.append(batch("e", number))
        assert log_size(database) == wal.ROOM
        # a copy of both files is what a machine that loses its power finds
        for each in database.parent.glob("windlass.db*"):
            shutil.copy(each, each.with_name(each.name.replace("windlass", "copy")))
    async with opened(f"sqlite:///{database.with_name('copy.db')}") as store:
        assert len(await store.read(checkpoints, "e")) == 20


async def test_what_others_have_in_the_log_stays(database: Path) -> None:
    """Room is made behind it."""
    async with opened(f"sqlite:///{database}", "e"):
        pass
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("CREATE TABLE theirs (number INTEGER, text TEXT)")
        for number in range(100):
            other.execute("INSERT INTO theirs VALUES (?, ?)", (number, LARGE))
        assert 100 * 4_096 < log_size(database) < wal.ROOM
        async with opened(f"sqlite:///{database}") as store:
            await store.append(batch("e", 0))
            assert log_size(database) == wal.ROOM
        assert other.execute("SELECT count(*) FROM theirs").fetchone() == (100,)
    with closing(sqlite3.connect(database)) as other:
        assert other.execute("SELECT count(*) FROM theirs").fetchone() == (100,)
        assert other.execute("PRAGMA integrity_check").fetchone() == ("ok",)


async def test_nobody_writes_while_room_is_made(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody's commit would be where the zeros go."""
    write, refused = os.pwrite, []

    def watched(descriptor: int, data: bytes, at: int) -> int:
        with closing(sqlite3.connect(database, timeout=0, isolation_level=None)) as other:
            try:
                other.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                refused.append(str(error))
        return write(descriptor, data, at)

    monkeypatch.setattr(os, "pwrite", watched)
    async with opened(f"sqlite:///{database}", "e"):
        assert refused == ["database is locked"]


async def test_a_disk_without_the_room_keeps_what_it_has(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was taken of it is given back, and the commit goes where it would have gone."""
    write, left = os.pwrite, [wal.ROOM // 2]

    def full(descriptor: int, data: bytes, at: int) -> int:
        if not left:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data[: left.pop()], at)

    monkeypatch.setattr(os, "pwrite", full)
    async with opened(f"sqlite:///{database}", "e") as store:
        assert left == []
        assert log_size(database) < wal.ROOM // 2
        await store.append(batch("e", 0))
        assert len(await store.read(checkpoints, "e")) == 1
