"""What a revision writes: all of it in one transaction, or nothing."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from controller.core.drift import Drift, Fate
from controller.recording import schedules_of, workflow_record
from controller.source.library import ExaminedFile, Json
from controller.source.revision import CompiledWorkflow, Revision
from controller.store import ledger
from controller.store.records import (
    FileRecord,
    RevisionRecord,
    SourceRecord,
)
from controller.store.rows import Row
from controller.store.tables import Transaction

Rows = tuple[Row, Row, tuple[Row, ...]]
"""Of a workflow: its own, its version's, its schedules'."""


@dataclass(frozen=True, slots=True)
class Application:
    """Everything one transaction writes.

    Attributes:
        workflows: By name.
        history: The revision, where it is another one than before.
        reaches: What other sources see of its workflows may be another.
        uses_approval: There is an approval, which is for this revision, or for none any more.
    """

    source: SourceRecord
    workflows: Mapping[str, Rows]
    pruned: tuple[str, ...]
    files: tuple[Row, ...]
    removed: tuple[str, ...]
    history: RevisionRecord | None
    now: int
    reaches: bool
    uses_approval: bool

    @property
    def changes(self) -> bool:
        """Whether it writes more than a status."""
        return bool(
            self.workflows
            or self.pruned
            or self.files
            or self.removed
            or self.history
            or self.uses_approval
        )


class Overtaken(Exception):
    """Somebody else has taken one of its names since the revision was compared."""


def apply_revision(tx: Transaction, application: Application) -> list[str]:
    """A verb for the store; the revisions that the history does not keep any more.

    Raises:
        Overtaken: Nothing is written, and the revision is to be compared again.
    """
    source, now = application.source, application.now
    ledger.take_turns(tx)
    if ledger.taken(tx, source.id, (*application.workflows, *application.pruned)):
        raise Overtaken
    compiled = [rows[:2] for rows in application.workflows.values()]
    ledger.put_workflows(tx, compiled, source.revision)
    schedules = {name: found for name, (_, _, found) in application.workflows.items()}
    ledger.put_schedules(tx, source.id, schedules, now=now)
    ledger.archive(tx, application.pruned, now)
    ledger.put_files(tx, source.id, application.files, application.removed)
    ledger.put_source(tx, source)
    if application.uses_approval:
        ledger.put_wish(tx, source.id, {"approved": None})
    if application.reaches:
        ledger.wake_others(tx, source.id, now)
    ledger.announce(tx)  # other controllers fire its schedules too
    return ledger.add_revision(tx, application.history) if application.history else []


def application_of(
    source: SourceRecord,
    revision: Revision,
    difference: Drift,
    history: RevisionRecord | None,
    now: int,
    *,
    uses_approval: bool,
) -> Application:
    """What to write for a revision."""
    apply = difference.of(Fate.CREATED) + difference.of(Fate.UPDATED)
    return Application(
        source=source,
        workflows={name: _rows(name, revision, source.id, now) for name in apply},
        pruned=tuple(difference.of(Fate.PRUNED)),
        files=tuple(
            revision.rows.get(path) or file_row(each) for path, each in revision.files.items()
        ),
        removed=revision.removed,
        history=history,
        now=now,
        reaches=_reaches(revision, difference),
        uses_approval=uses_approval,
    )


def _reaches(revision: Revision, difference: Drift) -> bool:
    """Whether names come or go, or what callers see of them changes."""
    if difference.of(Fate.CREATED) or difference.of(Fate.PRUNED):
        return True
    before, now = _faces(revision.before.values()), _faces(revision.files.values())
    return any(before.get(name) != now.get(name) for name in difference.of(Fate.UPDATED))


def _faces(files: Iterable[ExaminedFile | None]) -> dict[str, Json]:
    return {
        each["name"]: each["face"]
        for file in files
        for each in (file.definitions if file is not None else ())
        if each["kind"] == "workflow"
    }


def _rows(name: str, revision: Revision, source: str, now: int) -> Rows:
    if name in revision.ready:
        rows: Rows = revision.ready[name].rows
        return rows
    return rows_of(revision.workflows[name], source, now)


def rows_of(compiled: CompiledWorkflow, source: str, now: int) -> Rows:
    """A compiled workflow as rows; what revision they are of is said when they are written."""
    record, version = workflow_record(
        compiled.definition,
        compiled.content,
        compiled.digest,
        origin=source,
        path=compiled.path,
        revision=None,
        now=now,
    )
    return (
        ledger.stored_workflow(record),
        ledger.stored_version(version),
        tuple(map(ledger.stored_schedule, schedules_of(compiled.definition, source, now))),
    )


def file_row(file: ExaminedFile) -> Row:
    """A file as a row."""
    record = FileRecord(
        path=file.path,
        digest=file.digest,
        size=file.stat.size,
        mtime_ns=file.stat.mtime_ns,
        inode=file.stat.inode,
        status=file.status,
        problems=list(file.problems),
        definitions=list(file.definitions),
    )
    return ledger.stored_file(record)


def invalid_paths(files: Iterable[ExaminedFile]) -> tuple[str, ...]:
    """The paths of files with a problem, sorted."""
    return tuple(sorted(each.path for each in files if each.status == "invalid"))


def first_problem(problems: Iterable[Json]) -> str | None:
    """The first error among problems, in one line."""
    for each in problems:
        if each["severity"] == "error":
            return f"{each['path']}:{each['line']}: {each['message']}"
    return None
