"""Workflows as they stand, and the versions of their definitions that executions are pinned to."""

from collections.abc import Sequence
from functools import cache
from typing import Any

from sqlalchemy import Select, Text, bindparam, func, or_, select, type_coerce, update

from controller.store.bulk import insert_missing, upsert
from controller.store.dialect import among, insert_or_ignore, json_part, serialise
from controller.store.kept import all_rows
from controller.store.ledger_schedules import deactivate
from controller.store.records import VersionRecord, WorkflowHead, WorkflowRecord
from controller.store.rows import Row, chunks, every, names, one, pick, row_of, stored
from controller.store.tables import Transaction, workflow_versions
from controller.store.tables import workflows as _workflows

_w = _workflows.c

_FIXED = ("version", "content", "revision", "created_at")
"""A version that is there already stays as it is."""

_NAMES_LOCK = 0x57494E4E
"""The advisory lock under which it is decided on PostgreSQL whose a name is."""


def take_turns(tx: Transaction) -> None:
    """From here to the end of this transaction nobody else decides whose a workflow's name is.

    What is read after it is as whoever went before has left it. Let its transaction end with it
    (`Store.write_out`): two that take this turn and others in different order would wait for each
    other.
    """
    serialise(tx, _NAMES_LOCK)


def catalog(tx: Transaction) -> dict[str, WorkflowHead]:
    """Every workflow, archived ones too, by name."""
    return {row[0]: WorkflowHead(*row) for row in all_rows(tx, _CATALOG, {})}


_CATALOG = pick(WorkflowHead, _workflows)


def head(tx: Transaction, name: str) -> WorkflowHead | None:
    """What a lookup needs to know of the workflow, archived or not, or None."""
    found = all_rows(tx, _HEAD, {"workflow": name})
    return WorkflowHead(*found[0]) if found else None


_HEAD = pick(WorkflowHead, _workflows).where(_w.id == bindparam("workflow"))


def heads(tx: Transaction, names: Sequence[str]) -> dict[str, WorkflowHead]:
    """What lookups need to know of several workflows, by name."""
    found = all_rows(tx, _heads(tx.dialect.name), {"names": list(names)})
    return {row[0]: WorkflowHead(*row) for row in found}


@cache
def _heads(name: str) -> Select[Any]:
    return pick(WorkflowHead, _workflows).where(among(name, _w.id, "names"))


def waiting_for_events(tx: Transaction) -> list[str]:
    """Names of active workflows with a trigger of type `event`."""
    wants = type_coerce(_w.triggers, Text).contains('"event"', autoescape=True)
    chosen = select(_w.id).where(_w.status == "active", wants).order_by(_w.id)
    return list(tx.scalars(chosen))


def retention_rules(tx: Transaction) -> dict[str, dict[str, int | None]]:
    """What workflows say of their own retention: {days, keep_last} by name."""
    content = workflow_versions.c.content
    says = type_coerce(content, Text).contains('"retention"', autoescape=True)
    chosen = select(_w.id, content).join(workflow_versions, workflow_versions.c.digest == _w.digest)
    found = {row[0]: row[1]["workflow"].get("retention") for row in tx.execute(chosen.where(says))}
    return {name: rule for name, rule in found.items() if rule}


def workflow(tx: Transaction, name: str) -> WorkflowRecord | None:
    """The workflow, archived or not, or None."""
    return one(tx, WorkflowRecord, pick(WorkflowRecord, _workflows).where(_w.id == name))


def workflows(
    tx: Transaction, status: str | None = None, text: str | None = None, limit: int | None = None
) -> list[WorkflowRecord]:
    """By name; without a status all but the archived; `text` is sought in names, words, labels."""
    chosen = pick(WorkflowRecord, _workflows).order_by(_w.id).limit(limit)
    chosen = chosen.where(_w.status != "archived" if status is None else _w.status == status)
    if text is not None:
        places = (_w.name, _w.description, type_coerce(_w.labels, Text))
        chosen = chosen.where(or_(*(each.icontains(text, autoescape=True) for each in places)))
    return every(tx, WorkflowRecord, chosen)


def version(tx: Transaction, digest: str) -> VersionRecord | None:
    """The definition with this digest, or None."""
    chosen = pick(VersionRecord, workflow_versions).where(workflow_versions.c.digest == digest)
    return one(tx, VersionRecord, chosen)


def put_version(tx: Transaction, record: VersionRecord) -> bool:
    """Keep a definition; False: it is there already, and stays as it is."""
    return insert_or_ignore(tx, workflow_versions, row_of(record))


def put_workflow(tx: Transaction, record: WorkflowRecord, compiled: VersionRecord) -> None:
    """Create or replace the workflow (`created_at` stays), and keep the version it points to."""
    put_workflows(tx, [(stored_workflow(record), stored_version(compiled))])


def altered(tx: Transaction, origin: str) -> set[str]:
    """Those of an origin's workflows whose rows are not what their versions say.

    Both are JSON as it was encoded once, so the texts are compared.
    """
    return set(tx.scalars(_altered(tx.dialect.name), {"origin": origin}))


_PARTS = {
    "description": "",
    "triggers": "[]",
    "inputs": "[]",
    "outputs": "[]",
    "steps": "[]",
    "error_handler": "",
    "metadata": "{}",
    "labels": "{}",
}
"""Columns that repeat a part of the version's content, and what they are where it has none."""


@cache
def _altered(dialect: str) -> Select[tuple[str]]:
    content = workflow_versions.c.content
    differences = [_w.version != workflow_versions.c.version] + [
        func.coalesce(type_coerce(_w[name], Text), "")
        != func.coalesce(json_part(dialect, content, "workflow", name), nothing)
        for name, nothing in _PARTS.items()
    ]
    return (
        select(_w.id)
        .join(workflow_versions, workflow_versions.c.digest == _w.digest)
        .where(_w.origin == bindparam("origin"), _w.status != "archived", or_(*differences))
    )


def stored_workflow(record: WorkflowRecord) -> Row:
    """As `put_workflows` takes it."""
    return stored(_workflows, record)


def stored_version(record: VersionRecord) -> Row:
    """As `put_workflows` takes it."""
    return stored(workflow_versions, record)


def put_workflows(
    tx: Transaction, compiled: Sequence[tuple[Row, Row]], revision: str | None = None
) -> None:
    """`put_workflow` for many; `revision`: that of all of them, whatever their rows say."""
    versions = [version for _, version in compiled]
    rows = [row for row, _ in compiled]
    if revision is not None:
        versions = [_of_revision(each, _VERSION, revision) for each in versions]
        rows = [_of_revision(each, _WORKFLOW, revision) for each in rows]
    insert_missing(tx, workflow_versions, _VERSION, versions)
    upsert(tx, _workflows, _WORKFLOW, rows, keep=("created_at",))


_WORKFLOW = names(WorkflowRecord)
_VERSION = names(VersionRecord)


def _of_revision(row: Row, columns: tuple[str, ...], revision: str) -> Row:
    place = columns.index("revision")
    return (*row[:place], revision, *row[place + 1 :])


def set_status(tx: Transaction, name: str, status: str, now: int) -> bool:
    """Make it `active`, `inactive` or `archived`; False: there is no such workflow."""
    change = update(_workflows).where(_w.id == name).values(status=status, updated_at=now)
    return tx.execute(change).rowcount == 1


def archive(tx: Transaction, names: Sequence[str], now: int) -> int:
    """Archive them and stop their schedules; how many were not archived before."""
    archived = 0
    for some in chunks(names):
        standing = _w.id.in_(some), _w.status != "archived"
        change = update(_workflows).where(*standing).values(status="archived", updated_at=now)
        archived += tx.execute(change).rowcount
        deactivate(tx, some, "archived", now)
    return archived
