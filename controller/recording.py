"""Definitions as rows: what a source applies and what a person creates is recorded the same way."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from controller.core.content import face_signature
from controller.core.definition import Schedule, ScheduledTrigger, Workflow
from controller.core.drift import policy_of
from controller.core.plan import Signature
from controller.core.timetable import Timetable, compile_timetable
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


def signatures_of(faces: Iterable[tuple[str, list[Any], list[Any]]]) -> dict[str, Signature]:
    """What subflow steps must know of recorded workflows: of (name, inputs, outputs)."""
    return {
        name: face_signature(name, {"inputs": inputs, "outputs": outputs})
        for name, inputs, outputs in faces
    }


def _schedule_id(workflow: str, config: Schedule) -> str:
    """The same text in the same workflow is the same schedule, wherever it stands in the list."""
    timing = [config.cron, config.at, config.timezone, config.inputs]
    return f"{workflow}/{hashlib.sha256(_sorted(timing).encode()).hexdigest()[:8]}"


_sorted = json.JSONEncoder(sort_keys=True).encode
