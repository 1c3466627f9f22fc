"""What the service shows of definitions: validations, plans of a sync, sources with their files."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from controller.core.definition import ScheduledTrigger, Workflow
from controller.core.drift import Drift, Fate, Recorded, Wanted, drift
from controller.core.timetable import compile_timetable
from controller.source.parse import Diagnostic
from controller.source.revision import Revision
from controller.store.records import FileRecord, SourceRecord, WorkflowHead

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
    """A source and its files, as the last reconcile left them."""

    source: SourceRecord
    files: list[FileRecord]


@dataclass(frozen=True, slots=True)
class PlannedChange:
    """What would become of one workflow."""

    kind: Fate
    name: str
    path: str | None
    owner: str | None = None


@dataclass(frozen=True, slots=True)
class SyncPlan:
    """What a reconcile would do.

    Attributes:
        changes: Workflows that would not stay as they are.
        diagnostics: Everything wrong with the files.
        next_fires: For workflows that would change, their next due times, epoch milliseconds.
    """

    changes: list[PlannedChange]
    diagnostics: list[Diagnostic]
    next_fires: Mapping[str, list[int]]

    @property
    def exit_status(self) -> int:
        """0: nothing to do, 2: changes, 1: problems (LANGUAGE, "GitOps")."""
        if any(each.severity == "error" for each in self.diagnostics):
            return 1
        return 2 if self.changes else 0


def diagnostics_of(revision: Revision) -> list[Diagnostic]:
    """The diagnostics of all files that were looked at, by path and place."""
    found = [Diagnostic(**problem) for file in revision.files.values() for problem in file.problems]
    return sorted(found, key=lambda each: (each.path, each.line, each.column))


def wanted(revision: Revision) -> list[Wanted]:
    """Every workflow of a revision, as drift compares it."""
    found = [
        Wanted(each.definition.name, each.path, each.digest, each.definition.status)
        for each in revision.workflows.values()
    ]
    found += [
        Wanted(name, path, digest, status)
        for name, (path, digest, status) in revision.standing.items()
    ]
    seen = {each.name for each in found}
    found += [
        Wanted(name, path, None) for name, path in revision.invalid.items() if name not in seen
    ]
    return found


def recorded(heads: Mapping[str, WorkflowHead]) -> dict[str, Recorded]:
    """Every workflow of the database, as drift compares it."""
    return {
        name: Recorded(head.digest, head.origin, head.status, head.path)
        for name, head in heads.items()
    }


def sync_plan(
    origin: str, revision: Revision, heads: Mapping[str, WorkflowHead], now: int
) -> SyncPlan:
    """What applying a revision for an origin would do."""
    difference: Drift = drift(origin, wanted(revision), recorded(heads))
    kept = {Fate.UNCHANGED, Fate.INVALID}
    changes = [
        PlannedChange(fate, name, _path(name, revision, heads), difference.owner.get(name))
        for name, fate in sorted(difference.fates.items())
        if fate not in kept
    ]
    fires = {
        each.name: next_fires(revision.workflows[each.name].definition, now)
        for each in changes
        if each.name in revision.workflows
    }
    return SyncPlan(
        changes, diagnostics_of(revision), {name: due for name, due in fires.items() if due}
    )


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


def _path(name: str, revision: Revision, heads: Mapping[str, WorkflowHead]) -> str | None:
    compiled: Any = revision.workflows.get(name)
    if compiled is not None:
        return str(compiled.path)
    head = heads.get(name)
    return head.path if head is not None else None
