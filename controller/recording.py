"""Definitions as rows: what a source applies and what a person creates is recorded the same way."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from controller.core.content import face_signature
from controller.core.definition import Schedule, ScheduledTrigger, Workflow
from controller.core.drift import policy_of
from controller.core.plan import Signature
from controller.core.timetable import Timetable, compile_timetable
from controller.source.library import ExaminedFile, Library
from controller.source.snapshot import Stat
from controller.store.ledger_sources import FileValues
from controller.store.records import ScheduleRecord, VersionRecord, WorkflowRecord


def workflow_record(  # ruff: ignore[too-many-arguments]  # what the row has, by keyword
    workflow: Workflow,
    content: Mapping[str, Any],
    digest: str,
    *,
    origin: str,
    path: str | None,
    revision: str | None,
    now: int,
) -> tuple[WorkflowRecord, VersionRecord]:
    """The rows of a compiled workflow."""
    document = content["workflow"]
    record = WorkflowRecord(
        id=workflow.name,
        name=workflow.name,
        description=workflow.description,
        version=workflow.version,
        status=workflow.status,
        digest=digest,
        origin=origin,
        path=path,
        triggers=document.get("triggers") or [],
        inputs=document.get("inputs") or [],
        outputs=document.get("outputs") or [],
        steps=document.get("steps") or [],
        error_handler=document.get("error_handler"),
        metadata=document.get("metadata") or {},
        labels=dict(workflow.labels),
        created_at=now,
        updated_at=now,
        revision=revision,
    )
    version = VersionRecord(
        digest=digest,
        workflow_id=workflow.name,
        version=workflow.version,
        content=dict(content),
        revision=revision,
        created_at=now,
    )
    return record, version


def schedules_of(workflow: Workflow, origin: str, now: int) -> tuple[ScheduleRecord, ...]:
    """The rows of its scheduled triggers; one that moves in the list stays the same schedule."""
    found: dict[str, ScheduleRecord] = {}
    for trigger in workflow.triggers:
        if isinstance(trigger, ScheduledTrigger):
            record = schedule_record(workflow.name, trigger.config, origin, now)
            found.setdefault(record.id, record)
    if workflow.status != "active":
        return ()
    return tuple(found.values())


def schedule_record(
    workflow: str, config: Schedule, origin: str, now: int, *, schedule_id: str | None = None
) -> ScheduleRecord:
    """The row of a schedule whose timing is valid."""
    timetable, _ = compile_timetable(config, workflow=workflow, now=now)
    if timetable is None:
        raise ValueError("only a valid schedule is recorded")
    upcoming = None if config.paused else first_run(timetable, now)
    return ScheduleRecord(
        id=schedule_id or _schedule_id(workflow, config),
        workflow_id=workflow,
        schedule_type="once" if timetable.is_once else "recurring",
        cron_expression=config.cron,
        at=timetable.once,
        timezone=config.timezone,
        next_run_at=upcoming,
        last_run_at=None,
        inputs=dict(config.inputs),
        metadata={},
        policy=policy_of(config),
        origin=origin,
        active=upcoming is not None,
        reason="paused" if config.paused else "ended" if upcoming is None else None,
        created_at=now,
        updated_at=now,
    )


def first_run(timetable: Timetable, after: int) -> int | None:
    """When a schedule fires first after a moment, its jitter included."""
    due = timetable.next_after(after)
    return None if due is None else due + timetable.delay(due)


def library_of(files: Iterable[FileValues], *, moved: bool) -> Library:
    """The files as the last look left them; `moved`: of another place, where none is the same."""
    library = Library()
    for path, digest, size, mtime_ns, inode, status, problems, definitions in files:
        stat = Stat(0, 0, 0) if moved else Stat(size, mtime_ns, inode)
        examined = ExaminedFile(path, stat, digest, status, tuple(problems), tuple(definitions))
        library.put(examined)
    return library


class Others(NamedTuple):
    """Workflows of other origins, by name.

    Attributes:
        signatures: What subflow steps must know of them.
        owners: Whose they are.
    """

    signatures: Mapping[str, Signature]
    owners: Mapping[str, str]

    @classmethod
    def of(cls, faces: Iterable[tuple[str, str, list[Any], list[Any]]]) -> "Others":
        """Recorded ones: of (name, origin, inputs, outputs)."""
        found = tuple(faces)
        signatures = {
            name: face_signature(name, {"inputs": inputs, "outputs": outputs})
            for name, _, inputs, outputs in found
        }
        return cls(signatures, {name: origin for name, origin, _, _ in found})

    def unlike(self, before: "Others") -> set[str]:
        """Names that have come, gone, or are another's or another for who starts them."""
        mine, theirs = self.signatures, before.signatures
        return {
            name
            for name in self.owners.keys() | before.owners.keys()
            if self.owners.get(name) != before.owners.get(name)
            or mine.get(name) != theirs.get(name)
        }


NOBODY = Others({}, {})


def _schedule_id(workflow: str, config: Schedule) -> str:
    """The same text in the same workflow is the same schedule, wherever it stands in the list."""
    timing = [config.cron, config.at, config.timezone, config.inputs]
    return f"{workflow}/{hashlib.sha256(_sorted(timing).encode()).hexdigest()[:8]}"


_sorted = json.JSONEncoder(sort_keys=True).encode
