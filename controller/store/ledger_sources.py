"""Sources, how their last reconcile went, and their files as they were last read."""

from collections.abc import Iterable, Sequence

from sqlalchemy import delete

from controller.store.dialect import upsert
from controller.store.records import FileRecord, SourceRecord
from controller.store.rows import chunks, every, one, pick, row_of
from controller.store.tables import Transaction
from controller.store.tables import source_files as _files
from controller.store.tables import sources as _sources


def source(tx: Transaction, source_id: str) -> SourceRecord | None:
    """The source, or None."""
    return one(tx, SourceRecord, pick(SourceRecord, _sources).where(_sources.c.id == source_id))


def sources(tx: Transaction) -> list[SourceRecord]:
    """Every source, by id."""
    return every(tx, SourceRecord, pick(SourceRecord, _sources).order_by(_sources.c.id))


def put_source(tx: Transaction, record: SourceRecord) -> None:
    """Create or replace it."""
    upsert(tx, _sources, [row_of(record)])


def source_files(tx: Transaction, source_id: str) -> dict[str, FileRecord]:
    """The source's files by path."""
    chosen = pick(FileRecord, _files).where(_files.c.source_id == source_id)
    return {each.path: each for each in every(tx, FileRecord, chosen.order_by(_files.c.path))}


def file_of(tx: Transaction, source_id: str, path: str) -> FileRecord | None:
    """One file of the source, or None."""
    chosen = pick(FileRecord, _files).where(_files.c.source_id == source_id, _files.c.path == path)
    return one(tx, FileRecord, chosen)


def put_files(
    tx: Transaction, source_id: str, upserts: Iterable[FileRecord], deletes: Sequence[str]
) -> None:
    """Record what was read, and forget the paths that are gone."""
    for some in chunks(deletes):
        tx.execute(delete(_files).where(_files.c.source_id == source_id, _files.c.path.in_(some)))
    upsert(tx, _files, [row_of(each) | {"source_id": source_id} for each in upserts])
