"""What a revision writes: all of it in one transaction, or nothing."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import starmap

from controller.core.drift import Drift, Fate
from controller.recording import schedules_of, workflow_record
from controller.source.library import ExaminedFile, Library
from controller.source.revision import CompiledWorkflow, Revision
from controller.source.snapshot import Stat
from controller.store import ledger
from controller.store.records import (
    FileRecord,
    RevisionRecord,
    ScheduleRecord,
    SourceRecord,
    VersionRecord,
    WorkflowRecord,
)
from controller.store.tables import Transaction

Rows = tuple[WorkflowRecord, VersionRecord, tuple[ScheduleRecord, ...]]


@dataclass(frozen=True, slots=True)
class Application:
    """Everything one transaction writes.

    Attributes:
        history: The revision, where it is another one than before.
    """

    source: SourceRecord
    workflows: tuple[Rows, ...]
    pruned: tuple[str, ...]
    files: tuple[FileRecord, ...]
    removed: tuple[str, ...]
    history: RevisionRecord | None
    now: int

    @property
    def changes(self) -> bool:
        """Whether it writes more than a status."""
        return bool(self.workflows or self.pruned or self.files or self.removed or self.history)


def apply_revision(tx: Transaction, application: Application) -> list[str]:
    """A verb for the store; the revisions that the history does not keep any more."""
    source, now = application.source, application.now
    compiled = [(record, version) for record, version, _ in application.workflows]
    ledger.put_workflows(tx, compiled, source.revision)
    schedules = {record.name: found for record, _, found in application.workflows}
    ledger.put_schedules(tx, source.id, schedules, now=now)
    ledger.archive(tx, application.pruned, now)
    ledger.put_files(tx, source.id, application.files, application.removed)
    ledger.put_source(tx, source)
    ledger.announce(tx)  # other controllers fire its schedules too
    return ledger.add_revision(tx, application.history) if application.history else []


def application_of(
    source: SourceRecord,
    revision: Revision,
    difference: Drift,
    history: RevisionRecord | None,
    now: int,
) -> Application:
    """What to write for a revision."""
    files = owned_files(revision, difference)
    apply = difference.of(Fate.CREATED) + difference.of(Fate.UPDATED)
    return Application(
        source=source,
        workflows=tuple(_rows(name, revision, source.id, now) for name in apply),
        pruned=tuple(difference.of(Fate.PRUNED)),
        files=tuple(file_record(each) for each in files.values()),
        removed=revision.removed,
        history=history,
        now=now,
    )


def owned_files(revision: Revision, difference: Drift) -> Mapping[str, ExaminedFile]:
    """The files looked at; one that names what somebody else owns is invalid, and says who."""
    files = dict(revision.files)
    for name, owner in difference.owner.items():
        compiled = revision.workflows.get(name)
        if compiled is not None:
            files[compiled.path] = _refused(files[compiled.path], name, owner)
    return files


def _refused(file: ExaminedFile, name: str, owner: str) -> ExaminedFile:
    problem = {
        "path": file.path,
        "line": 1,
        "column": 1,
        "code": "owned-elsewhere",
        "message": f"the workflow `{name}` belongs to {owner!r}",
        "hint": "rename it, or delete the other one first",
        "severity": "error",
        "excerpt": "",
    }
    return ExaminedFile(
        file.path, file.stat, file.digest, "invalid", (*file.problems, problem), file.definitions
    )


def _rows(name: str, revision: Revision, source: str, now: int) -> Rows:
    if name in revision.ready:
        record, version, schedules = revision.ready[name].rows
        return (
            WorkflowRecord(*record),
            VersionRecord(*version),
            tuple(starmap(ScheduleRecord, schedules)),
        )
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
    return record, version, schedules_of(compiled.definition, source, now)


def file_record(file: ExaminedFile) -> FileRecord:
    """A file as a row."""
    return FileRecord(
        path=file.path,
        digest=file.digest,
        size=file.stat.size,
        mtime_ns=file.stat.mtime_ns,
        inode=file.stat.inode,
        status=file.status,
        problems=list(file.problems),
        definitions=list(file.definitions),
    )


def library_of(rows: Iterable[FileRecord], *, moved: bool) -> Library:
    """The files as the last look left them; `moved`: of another place, where none is the same."""
    return Library(
        ExaminedFile(
            path=each.path,
            stat=Stat(0, 0, 0) if moved else Stat(each.size, each.mtime_ns, each.inode),
            digest=each.digest,
            status=each.status,
            problems=tuple(each.problems),
            definitions=tuple(each.definitions),
        )
        for each in rows
    )


def invalid_paths(files: Iterable[ExaminedFile]) -> tuple[str, ...]:
    """The paths of files with a problem, sorted."""
    return tuple(sorted(each.path for each in files if each.status == "invalid"))


def first_problem(files: Sequence[ExaminedFile]) -> str | None:
    """The first error of the first file that has one, in one line."""
    for file in files:
        for each in file.problems:
            if each["severity"] == "error":
                return f"{each['path']}:{each['line']}: {each['message']}"
    return None
