"""What the service shows of definitions: validations, plans of a sync, sources with their files."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from controller.core.definition import ScheduledTrigger, Workflow
from controller.core.difference import Difference
from controller.core.drift import Drift, Fate, Wanted, drift
from controller.core.plain import plain
from controller.core.timetable import compile_timetable
from controller.source.library import Library
from controller.source.parse import Diagnostic
from controller.source.revision import Revision
from controller.source.snapshot import Commit
from controller.source.spec import SourceSpec
from controller.store.records import (
    FileRecord,
    SourceRecord,
    SourceWish,
    WorkflowHead,
)

FIRES_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Validation:
    """Whether files may be applied, and everything wrong with them."""

    valid: bool
    diagnostics: list[Diagnostic]
    definitions: list[dict[str, str]]

    @classmethod
    def of(cls, revision: Revision) -> "Validation":
        """The validation of a revision's files."""
        diagnostics = diagnostics_of(revision)
        definitions = [
            {"kind": each["kind"], "name": each["name"], "path": path}
            for path, file in sorted(revision.files.items())
            for each in (file.definitions if file.status == "valid" else ())
        ]
        valid = all(each.severity != "error" for each in diagnostics)
        return cls(valid, diagnostics, definitions)


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """A source and its files, as the last reconcile left them, and what people want of it."""

    source: SourceRecord
    files: list[FileRecord]
    wish: SourceWish


@dataclass(frozen=True, slots=True)
class PlannedChange:
    """What would become of one workflow.

    Attributes:
        differences: What its definition says otherwise than the one that is live.
        next_fires: Its next due times, epoch milliseconds.
        running: Executions that have not ended; they keep the version they started with.
    """

    kind: Fate
    name: str
    path: str | None
    owner: str | None = None
    differences: tuple[Difference, ...] = ()
    next_fires: tuple[int, ...] = ()
    running: int = 0


@dataclass(frozen=True, slots=True)
class SyncPlan:
    """What a reconcile would do.

    Attributes:
        source: Whose workflows it would change.
        revision: The commit that was planned; None: the files of a directory.
        changes: Workflows that would not stay as they are.
        diagnostics: Everything wrong with the files.
        refusal: Why the source's policy would not apply it, if it would not.
    """

    source: str
    revision: str | None
    changes: list[PlannedChange]
    diagnostics: list[Diagnostic]
    refusal: str | None = None

    @property
    def exit_status(self) -> int:
        """0: nothing to do, 2: changes, 1: problems (LANGUAGE, "GitOps")."""
        if self.refusal or any(each.severity == "error" for each in self.diagnostics):
            return 1
        return 2 if self.changes else 0


def diagnostics_of(revision: Revision) -> list[Diagnostic]:
    """The diagnostics of all files that were looked at, by path and place."""
    found = [Diagnostic(**problem) for file in revision.files.values() for problem in file.problems]
    return sorted(found, key=lambda each: (each.path, each.line, each.column))


def drift_of(
    spec: SourceSpec,
    revision: Revision,
    library: Library,
    heads: Mapping[str, WorkflowHead],
    altered: Collection[str] = (),
) -> Drift:
    """What a revision changes: of workflows in files that were looked at, and of those in no file.

    Args:
        spec: Whose files they are.
        revision: What they say.
        library: What all of its files say.
        heads: The workflows of the database, at least those of files that were looked at.
        altered: Names whose rows are known to differ in what is not compared here.
    """
    names = revision.touched | {
        name
        for name, head in heads.items()
        if head.origin == spec.name and not library.definers(("workflow", name))
    }
    wanted = [found for name in names if (found := _wanted(name, revision, library)) is not None]
    recorded = {name: heads[name] for name in names & heads.keys()}
    return drift(spec.name, wanted, recorded, prune=spec.prune, altered=altered)


def _wanted(name: str, revision: Revision, library: Library) -> Wanted | None:
    """A workflow as the source has it; None: it has none of this name."""
    if name in revision.workflows:
        each = revision.workflows[name]
        return Wanted(name, each.path, each.digest, each.definition.status)
    if name in revision.ready:
        ahead = revision.ready[name]
        return Wanted(name, ahead.path, ahead.digest, ahead.status)
    found = library.definition(("workflow", name))
    if found is None or library.files[found[0]].status == "invalid":
        path = found[0] if found is not None else revision.invalid.get(name)
        return Wanted(name, path, None) if path is not None else None
    path, definition = found
    return Wanted(name, path, definition["digest"], definition["status"])


def commit_json(commit: Commit | None) -> dict[str, Any] | None:
    """A commit as rows and answers have it."""
    return asdict(commit) if commit is not None else None


def next_fires(workflow: Workflow, now: int) -> list[int]:
    """The next due times of all its schedules together."""
    found: set[int] = set()
    for trigger in workflow.triggers:
        if isinstance(trigger, ScheduledTrigger) and not trigger.config.paused:
            timetable, _ = compile_timetable(trigger.config, workflow=workflow.name, now=now)
            moment = now
            for _ in range(FIRES_SHOWN if timetable is not None else 0):
                following = timetable.next_after(moment) if timetable is not None else None
                if following is None:
                    break
                found.add(following)
                moment = following
    return sorted(found)[:FIRES_SHOWN]


def as_json(status: SourceStatus) -> dict[str, Any]:
    """A source as HTTP shows it; the lines that problems quote are left to who may read files."""
    shown: dict[str, Any] = plain(status)
    for problem in (*(shown["source"]["problems"] or ()), *_problems(shown["files"])):
        problem.pop("excerpt", None)
        problem.pop("caret", None)
    return shown


def _problems(files: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for file in files:
        yield from file["problems"]
