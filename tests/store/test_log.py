"""SQLite's write-ahead log: moved into the file when there is time, and not amid a commit."""

import asyncio
import sqlite3
from pathlib import Path

import pytest

from controller.store import dialect, journal
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
        await asyncio.gather(*(store.write_out(record, 100) for _ in range(30)))
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
        monkeypatch.setattr(dialect, "_pragma", fails)
        await store.append(Batch("e", checkpoints=[event(n) for n in range(journal.SOME_ROWS)]))
        await eventually(lambda: asked, "it is tried")
        await store.append(batch("e", journal.SOME_ROWS))
        assert len(await store.read(checkpoints, "e")) == journal.SOME_ROWS + 1
