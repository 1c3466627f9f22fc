"""Sources: how their last reconcile went, their files, their revisions, and what people wish."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    Select,
    Text,
    bindparam,
    case,
    delete,
    false,
    func,
    or_,
    select,
    type_coerce,
    update,
)

from controller.store.bulk import insert_rows, into, upsert
from controller.store.dialect import among, insert_or_ignore
from controller.store.kept import all_records, all_rows, find_value
from controller.store.records import (
    FileRecord,
    RevisionRecord,
    SourceRecord,
    SourceWish,
    WorkflowHead,
)
from controller.store.rows import Row, chunks, every, names, one, pick, pick_stored, row_of, stored
from controller.store.tables import Transaction, source_revisions, source_wishes
from controller.store.tables import source_files as _files
from controller.store.tables import sources as _sources
from controller.store.tables import workflow_schedules as _schedules
from controller.store.tables import workflows as _workflows

if TYPE_CHECKING:
    from controller.core.drift import Terms

_r = source_revisions.c

Face = tuple[str, str, list[Any], list[Any]]
"""A workflow's name, who owns it, its inputs and outputs."""

REVISIONS_KEPT = 200
"""Revisions of a source that its history keeps."""


def source(tx: Transaction, source_id: str) -> SourceRecord | None:
    """The source, or None."""
    return one(tx, SourceRecord, pick(SourceRecord, _sources).where(_sources.c.id == source_id))


def sources(tx: Transaction) -> list[SourceRecord]:
    """Every source, by id."""
    return every(tx, SourceRecord, pick(SourceRecord, _sources).order_by(_sources.c.id))


def put_source(tx: Transaction, record: SourceRecord) -> None:
    """Create or replace it."""
    upsert(tx, _sources, names(SourceRecord), [stored(_sources, record)])


def remove_source(tx: Transaction, source_id: str) -> None:
    """Forget a source: its status, files, history and wishes; its workflows are not touched."""
    for table in (_files, source_revisions, source_wishes):
        tx.execute(delete(table).where(table.c.source_id == source_id))
    tx.execute(delete(_sources).where(_sources.c.id == source_id))


# -- files ------------------------------------------------------------------------------------


FileValues = tuple[str, str, int, int, int, str, list[Any], list[Any]]
"""What a `FileRecord` has, in the order of its fields."""


def source_files(tx: Transaction, source_id: str) -> dict[str, FileRecord]:
    """The source's files by path."""
    return {each[0]: FileRecord(*each) for each in file_values(tx, source_id)}


def file_values(tx: Transaction, source_id: str) -> Sequence[FileValues]:
    """The same as plain values, for whoever makes something else of thousands."""
    chosen = pick(FileRecord, _files).where(_files.c.source_id == source_id)
    found: Sequence[Any] = tx.execute(chosen.order_by(_files.c.path)).all()
    return found


def file_of(tx: Transaction, source_id: str, path: str) -> FileRecord | None:
    """One file of the source, or None."""
    chosen = pick(FileRecord, _files).where(_files.c.source_id == source_id, _files.c.path == path)
    return one(tx, FileRecord, chosen)


def stored_file(record: FileRecord) -> Row:
    """As `put_files` takes it."""
    return stored(_files, record)


def put_files(
    tx: Transaction, source_id: str, upserts: Iterable[Row], deletes: Sequence[str]
) -> None:
    """Record what was read, and forget the paths that are gone."""
    for some in chunks(deletes):
        tx.execute(delete(_files).where(_files.c.source_id == source_id, _files.c.path.in_(some)))
    columns = (*names(FileRecord), "source_id")
    upsert(tx, _files, columns, [(*each, source_id) for each in upserts])


# -- what it owns -----------------------------------------------------------------------------


def owned(tx: Transaction, source_id: str) -> list[WorkflowHead]:
    """The workflows that a source owns and that are not archived."""
    standing = _workflows.c.origin == source_id, _workflows.c.status != "archived"
    return every(tx, WorkflowHead, pick(WorkflowHead, _workflows).where(*standing))


def count_workflows(tx: Transaction, source_id: str, since: int | None) -> tuple[int, int]:
    """How many there are, and how many were archived after a moment and stayed so; None: never."""
    c = _workflows.c
    lately = false() if since is None else c.updated_at > since
    counts = (
        func.count().filter(c.status != "archived"),
        func.count().filter(c.status == "archived", lately),
    )
    standing, gone = tx.execute(select(*counts).where(c.origin == source_id)).one()
    return standing, gone


def taken(tx: Transaction, source_id: str, names: Sequence[str]) -> list[str]:
    """Those of the names that somebody else owns."""
    if all(row[0] == source_id for row in all_rows(tx, _OWNERS, {})):
        return []
    given = {"source": source_id, "names": list(names)}
    return [row[0] for row in all_rows(tx, _taken(tx.dialect.name), given)]


@cache
def _taken(name: str) -> Select[tuple[str]]:
    c = _workflows.c
    theirs = c.origin != bindparam("source"), c.status != "archived"
    return select(c.id).where(among(name, c.id, "names"), *theirs).order_by(c.id)


def standing_schedules(tx: Transaction, source_id: str) -> "dict[str, list[Terms]]":
    """What is recorded of the schedules a source gave its workflows, by workflow.

    Left out are those that were stopped; one that pauses, has come to its end or left out a fire
    is as its definition says.
    """
    found: dict[str, list[Terms]] = {}
    for name, cron, at, zone, inputs, policy in all_rows(tx, _STANDING, {"source": source_id}):
        found.setdefault(name, []).append((cron, at, zone, inputs, policy))
    return found


_s = _schedules.c
_STANDING = select(
    _s.workflow_id,
    _s.cron_expression,
    _s.at,
    _s.timezone,
    type_coerce(_s.inputs, Text).label("inputs"),
    type_coerce(_s.policy, Text).label("policy"),
).where(
    _s.origin == bindparam("source"),
    or_(_s.active, _s.reason.is_(None), _s.reason == "paused", _s.reason == "ended"),
)


def faces(tx: Transaction, besides: str | None = None) -> list[Face]:
    """Every standing workflow, or those that another origin than `besides` owns."""
    c = _workflows.c
    owners = [row[0] for row in all_rows(tx, _OWNERS, {}) if row[0] != besides]
    if not owners:
        return []
    standing = c.origin.in_(owners), c.status != "archived"
    chosen = select(c.name, c.origin, c.inputs, c.outputs).where(*standing)
    return [(row[0], row[1], row[2], row[3]) for row in tx.execute(chosen)]


_OWNERS = select(_workflows.c.origin).distinct()


# -- revisions --------------------------------------------------------------------------------


def add_revision(tx: Transaction, record: RevisionRecord) -> list[str]:
    """Add to the history, numbered here; the revisions that it does not keep any more."""
    number, dropped = next_revision(tx, record.source_id)
    row = stored(source_revisions, replace(record, number=number))
    insert_rows(tx, into(source_revisions, names(RevisionRecord)), [row])
    if dropped:
        of = _r.source_id == record.source_id
        tx.execute(delete(source_revisions).where(of, _r.number <= number - REVISIONS_KEPT))
        dropped -= set(tx.scalars(select(_r.revision).where(of, _r.revision.in_(dropped))))
    return sorted(dropped)


def next_revision(tx: Transaction, source_id: str) -> tuple[int, set[str]]:
    """The number of the next revision, and those that go when it comes."""
    number = int(find_value(tx, _LAST, {"source": source_id}) or 0) + 1
    old = all_rows(tx, _OLD, {"source": source_id, "number": number - REVISIONS_KEPT})
    return number, {row[0] for row in old}


_OF_SOURCE = _r.source_id == bindparam("source")
_LAST = select(func.max(_r.number)).where(_OF_SOURCE)
_OLD = select(_r.revision).where(_OF_SOURCE, _r.number <= bindparam("number"))


def revisions(tx: Transaction, source_id: str, limit: int = 20) -> list[RevisionRecord]:
    """What was applied, newest first."""
    chosen = pick(RevisionRecord, source_revisions).where(_r.source_id == source_id)
    return every(tx, RevisionRecord, chosen.order_by(_r.number.desc()).limit(limit))


def revision(tx: Transaction, revision: str) -> RevisionRecord | None:
    """The last time a revision was applied, by any source, or None."""
    chosen = pick(RevisionRecord, source_revisions).where(_r.revision == revision)
    return one(tx, RevisionRecord, chosen.order_by(_r.applied_at.desc()))


def revisions_like(tx: Transaction, source_id: str, prefix: str) -> list[str]:
    """Applied revisions of a source that begin with a text."""
    chosen = select(_r.revision).where(
        _r.source_id == source_id, _r.revision.startswith(prefix, autoescape=True)
    )
    return sorted(set(tx.scalars(chosen)))


# -- wishes -----------------------------------------------------------------------------------


def wish(tx: Transaction, source_id: str) -> SourceWish:
    """What people want of a source."""
    found = all_records(tx, SourceWish, source_wishes, _WISH, {"source": source_id})
    return found[0] if found else SourceWish(source_id)


_WISH = pick_stored(SourceWish, source_wishes).where(
    source_wishes.c.source_id == bindparam("source")
)


def wishes(tx: Transaction) -> dict[str, SourceWish]:
    """Every wish, by source."""
    return {each.source_id: each for each in every(tx, SourceWish, pick(SourceWish, source_wishes))}


def add_wishes(tx: Transaction, source_ids: Iterable[str]) -> None:
    """Let each have what `wake_others` changes; what is wished of one already stays."""
    for each in source_ids:
        insert_or_ignore(tx, source_wishes, row_of(SourceWish(each)))


def wake_others(tx: Transaction, source_id: str, now: int) -> None:
    """Have all others looked at: what they see of a source's workflows is not as it was.

    A moment that is wished for already becomes a later one: each wish differs from the one before.
    """
    c = source_wishes.c
    moment = case((c.requested_at >= now, c.requested_at + 1), else_=now)
    wake = update(source_wishes).where(c.source_id != source_id)
    tx.execute(wake.values(requested_at=moment))


def put_wish(tx: Transaction, source_id: str, wanted: Mapping[str, object]) -> None:
    """Want something else of a source: some of `held`, `approved`, `requested_at`."""
    if not tx.scalar(
        select(source_wishes.c.source_id).where(source_wishes.c.source_id == source_id)
    ):
        wish = stored(source_wishes, SourceWish(source_id))
        upsert(tx, source_wishes, names(SourceWish), [wish])
    change = update(source_wishes).where(source_wishes.c.source_id == source_id)
    tx.execute(change.values(dict(wanted)))
