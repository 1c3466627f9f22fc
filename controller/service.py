"""WorkflowService: what a person or a program may ask for; the seed's API in Python.

Each verb decides, records, and rings at whoever executes; none of them executes anything. The
command line, HTTP and embedding programs all come through here.
"""

import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

from controller.admission import (
    Admission,
    Admitted,
    Gate,
    Wish,
    admit,
    cancel,
    derived_id,
    full,
    startable,
)
from controller.again import check_whole, keep_for_retry, pruned
from controller.catalog import Catalog
from controller.clock import Clock
from controller.core.definition import Schedule, WebhookTrigger
from controller.core.occasion import event_inputs
from controller.core.problem import NotFound, Refused
from controller.facts import Bus, Fact, FactType
from controller.fires import Planned, Upcoming, checked_timetable, planned, timetable_of, upcoming
from controller.history import ExecutionView, asks, deaf, identity_of, view
from controller.lookup import Lookup, check_limit
from controller.recording import first_run, schedule_record, schedules_of, workflow_record
from controller.store import Store, ledger
from controller.store.identity import new_id
from controller.store.records import (
    UNFINISHED,
    AuditRecord,
    CheckpointRecord,
    ExecutionRecord,
    ScheduleRecord,
    SignalRecord,
    VersionRecord,
    WorkflowRecord,
)
from controller.store.tables import Transaction
from controller.views import Validation

if TYPE_CHECKING:
    from controller.authoring import Author
    from controller.backfill import Backfill, Backfilled

ORIGIN = "api"
"""The owner of what is created by a person or a program rather than by a source."""


class WorkflowService(Lookup):  # ruff: ignore[too-many-public-methods]  # the verbs of the seed
    """Verbs over one store.

    Args:
        secrets: What requests may be signed with.
        ring: Tells whoever executes and schedules to look again.
        by: Who asks, for the audit log.
    """

    def __init__(  # ruff: ignore[too-many-arguments]  # wired once, by keyword, in app.py
        self,
        *,
        store: Store,
        clock: Clock,
        bus: Bus,
        catalog: Catalog,
        gate: Gate,
        author: "Callable[[], Author]",
        secrets: Mapping[str, str],
        ring: Callable[[], None],
        by: str = "local",
    ) -> None:
        super().__init__(store)
        self._clock = clock
        self._bus = bus
        self._catalog = catalog
        self._gate = gate
        self._author = author
        self._secrets = secrets
        self._ring = ring
        self._by = by

    def subscribe(self, listener: Callable[[Fact], None]) -> Callable[[], None]:
        """Hear every `workflow-event`; the returned function ends it."""
        return self._bus.subscribe(listener)

    # -- workflows --------------------------------------------------------------------------

    async def create_workflow(
        self, definition: Mapping[str, Any] | str, *, name: str | None = None
    ) -> WorkflowRecord:
        """Record a workflow that no source owns, with the actions defined beside it.

        Args:
            definition: A document as plain data, or YAML text with one workflow.
            name: Instead of the name in the definition.

        Raises:
            InvalidDefinition: With every problem.
            Refused: The name is taken, by a source or by another creation.
        """
        return await self._put(definition, name, replace=False)

    async def create_workflow_from_file(
        self, path: Path | str, *, name: str | None = None
    ) -> WorkflowRecord:
        """`create_workflow` from a YAML or JSON file."""
        from controller.authoring import read_file  # ruff: ignore[import-outside-top-level]  # start-up time

        place = Path(path)
        return await self._put(read_file(place), name, replace=False, path=place)

    async def update_workflow(
        self, workflow_id: str, definition: Mapping[str, Any] | str
    ) -> WorkflowRecord:
        """Replace the definition of a workflow that no source owns."""
        await self._owned(workflow_id)
        return await self._put(definition, workflow_id, replace=True)

    async def delete_workflow(self, workflow_id: str) -> None:
        """Archive a workflow and its schedules; its executions and versions stay."""
        await self._owned(workflow_id)
        now = self._clock.now()
        await self._store.write(ledger.archive, [workflow_id], now)
        await self._audit("delete", workflow_id)
        self._bus.publish(Fact(FactType.ARCHIVED, now, workflow_id))
        self._ring()

    async def export_workflow(self, workflow_id: str) -> str:
        """The workflow as YAML, followed by the actions it defines for itself."""
        from controller.source.export import to_yaml  # ruff: ignore[import-outside-top-level]  # start-up time

        record = await self.get_workflow(workflow_id)
        version = await self._catalog.version(record.digest)
        return to_yaml([version.content["workflow"], *version.content["actions"].values()])

    async def validate_workflow(self, path: Path | str) -> Validation:
        """Check a file or a directory as a source of its own, against what is recorded.

        Actions and workflows that are recorded count as known, so a file can be checked before it
        is put beside the others.
        """
        return await self._author().validate(Path(path), self._clock.now())

    # -- executions -------------------------------------------------------------------------

    async def execute_workflow(
        self,
        workflow_id: str,
        inputs: Mapping[str, Any] | None = None,
        *,
        by: str = "manual",
    ) -> ExecutionRecord:
        """Create an execution; whoever executes takes it from there.

        Raises:
            NotFound: There is no such workflow.
            InvalidInputs: With every problem of the inputs.
            Refused: The workflow is not active, or its concurrency is full.
        """
        now = self._clock.now()
        wish = Wish(new_id(now), workflow_id, inputs or {}, {"type": by, "by": self._by}, now)
        return await self._admit(wish)

    async def _admit(self, wish: Wish) -> ExecutionRecord:
        admission = await self._gate.check(wish)
        audit = self._record("execute", wish.workflow, {"execution": wish.id})
        admitted = await self._store.write(admit_on_record, admission, audit)
        if admitted is Admitted.FULL:
            raise full(wish.workflow)
        self._ring()
        if admitted is Admitted.CREATED:
            return ledger.created(admission.execution)
        return await self.get_execution(wish.id)

    async def receive_webhook(
        self, workflow_id: str, body: bytes, *, signature: str | None, delivery: str | None
    ) -> ExecutionRecord:
        """Execute a workflow with a trigger of type `webhook`, for a request.

        Args:
            workflow_id: Its name.
            body: The request's, JSON; what the trigger's inputs see as `event.data`.
            signature: `sha256=` and the HMAC-SHA256 of the body in hexadecimal, where the trigger
                names a secret (GitHub's `X-Hub-Signature-256`).
            delivery: The sender's own name of the request: sent twice, it executes once.

        Raises:
            NotFound: There is no such workflow, or it has no such trigger.
            Refused: The signature is wrong, the body is not JSON, the inputs do not fit.
        """
        head = startable(await self._store.read(ledger.head, workflow_id), workflow_id)
        version = await self._catalog.version(head.digest)
        triggers = [each for each in version.workflow.triggers if isinstance(each, WebhookTrigger)]
        if not triggers:
            raise NotFound(f"workflow {workflow_id!r} has no webhook trigger")
        config = triggers[0].config
        if config.secret is not None:
            check_signature(self._secrets.get(config.secret), body, signature)
        try:
            data = from_json(body or b"null", allow_inf_nan=False)
        except ValueError as error:
            raise Refused(f"the request is not JSON: {error}", reason="not-json") from None
        now = self._clock.now()
        known = derived_id("webhook", workflow_id, delivery) if delivery else new_id(now)
        inputs = event_inputs(config.inputs, "webhook", data)
        return await self._admit(Wish(known, workflow_id, inputs, {"type": "webhook"}, now))

    async def get_workflow_status(self, execution_id: str) -> ExecutionView:
        """The execution with all its steps: the fold of its checkpoints."""
        record = await self.get_execution(execution_id)
        rows = await self._store.read(ledger.checkpoints, record.id)
        revision = record.context.get("revision")
        applied = await self._store.read(ledger.revision, revision) if revision else None
        try:
            found = view(record, await self._catalog.plan_of(record), rows)
        except (NotFound, Refused, ValueError) as error:  # its version is not usable any more
            found = ExecutionView(record, (), problem=f"its steps cannot be told: {error}")
        return replace(found, commit=applied.commit if applied else None)

    async def cancel_execution(self, execution_id: str, *, force: bool = False) -> None:
        """End it: what runs is asked to stop; with `force`, killed and not waited for."""
        record = await self._unfinished(execution_id, "cancel")
        await self._store.write(cancel, record.id, self._clock.now(), force=force)
        await self._audit("cancel", record.workflow_id, {"execution": record.id, "force": force})
        self._ring()

    async def pause_execution(self, execution_id: str) -> None:
        """Start no new step until it is resumed; what runs finishes."""
        await self._send(await self._unfinished(execution_id, "pause"), "pause", {})

    async def resume_execution(self, execution_id: str) -> None:
        """Go on with a paused execution."""
        record = await self._unfinished(execution_id, "resume")
        await self._send(record, "resume", {})

    async def send_signal(self, execution_id: str, name: str, payload: Any = None) -> None:  # ruff: ignore[any-type]  # any JSON value
        """Give a waiting step what it waits for.

        Raises:
            Refused: An approval is waited for, and the payload does not say `approved`, true or
                false; or it is not known what is waited for, and the execution cannot go on.
        """
        record = await self._unfinished(execution_id, "signal")
        step = await self._asking(record, name)
        answer = payload.get("approved") if isinstance(payload, Mapping) else None
        if step is not None and not isinstance(answer, bool):
            raise Refused(
                f"step {step!r} waits for an approval: the payload must say whether it is approved",
                reason="not-an-answer",
                hint='send {"approved": true} or {"approved": false}',
            )
        await self._send(record, "signal", {"name": name, "payload": payload})

    async def retry_execution(
        self, execution_id: str, *, from_step: str | None = None
    ) -> ExecutionRecord:
        """Try a finished execution again: a new one that keeps the steps that need no repeating.

        Args:
            execution_id: A failed or cancelled execution; with `from_step`, a completed one too.
            from_step: Do this step of the top list, and all that follows from it, again.

        Raises:
            NotFound: There is no such execution, or no such step; or it is pruned meanwhile.
            Refused: There is nothing to retry, the workflow is not active, or its concurrency is
                full.
        """
        record = await self.get_execution(execution_id)
        if record.status in UNFINISHED:
            raise Refused(
                f"execution {record.id} has not ended",
                reason="not-finished",
                hint="cancel it first",
            )
        if record.status == "completed" and from_step is None:
            raise Refused(
                f"execution {record.id} completed: there is nothing to retry",
                reason="completed",
                hint="name a step: --from STEP",
            )
        plan = await self._catalog.plan_of(record)
        rows = await self._store.read(ledger.checkpoints, record.id)
        check_whole(record, plan, rows)
        kept = keep_for_retry(plan, identity_of(record, 0), rows, from_step)
        startable(await self._store.read(ledger.head, record.workflow_id), record.workflow_id)
        now = self._clock.now()
        wish = Wish(
            new_id(now),
            record.workflow_id,
            record.inputs,
            {**record.trigger, "type": "manual", "by": self._by, "retry_of": record.id},
            now,
            digest=record.digest,
            attempt_of=record.id,
        )
        admission = await self._gate.check(wish)
        audit = self._record("retry", record.workflow_id, {"execution": wish.id, "of": record.id})
        admitted = await self._store.write(admit_on_record, admission, audit, kept)
        if admitted is Admitted.FULL:
            raise full(record.workflow_id)
        self._ring()
        return await self.get_execution(wish.id)

    # -- schedules --------------------------------------------------------------------------

    async def schedule_workflow(
        self,
        workflow_id: str,
        *,
        cron: str | None = None,
        at: str | None = None,
        timezone: str = "UTC",
        inputs: Mapping[str, Any] | None = None,
    ) -> ScheduleRecord:
        """Execute a workflow at a time (`at`, ISO 8601), or again and again (`cron`).

        A time that has passed is recorded and never fires: its `next_run_at` is None.

        Raises:
            Refused: Neither or both are given, the text is wrong, or it can never fire.
        """
        startable(await self._store.read(ledger.head, workflow_id), workflow_id)
        if (cron is None) == (at is None):
            message = "a schedule has either a cron expression or a time"
            raise Refused(message, reason="bad-schedule", hint="give --cron or --at")
        now = self._clock.now()
        config = Schedule(cron=cron, at=at, timezone=timezone, inputs=dict(inputs or {}))
        checked_timetable(config, workflow_id, now)
        probe = Wish("", workflow_id, config.inputs, {}, now)
        await self._gate.check(probe)
        record = schedule_record(workflow_id, config, ORIGIN, now, schedule_id=new_id(now))
        await self._store.write(ledger.add_schedule, record)
        await self._audit("schedule", workflow_id, {"schedule": record.id})
        data = {"schedule": record.id, "next_run_at": record.next_run_at}
        self._bus.publish(Fact(FactType.SCHEDULED, now, workflow_id, data=data))
        self._ring()
        return record

    async def cancel_scheduled_workflow(self, schedule_id: str) -> None:
        """Stop a schedule for good; one that a source owns is changed there."""
        record = await self._own_schedule(schedule_id)
        await self._store.write(ledger.cancel_schedule, schedule_id, self._clock.now())
        await self._audit("cancel-schedule", record.workflow_id, {"schedule": schedule_id})
        self._ring()

    async def pause_schedule(self, schedule_id: str) -> None:
        """Let a schedule fire no more until it is resumed; what it started goes on."""
        record = await self._own_schedule(schedule_id)
        if not await self._store.write(ledger.pause_schedule, schedule_id, self._clock.now()):
            message = f"schedule {schedule_id} does not fire: it is {record.reason}"
            raise Refused(message, reason="not-active")
        await self._audit("pause-schedule", record.workflow_id, {"schedule": schedule_id})
        self._ring()

    async def resume_schedule(self, schedule_id: str) -> ScheduleRecord:
        """Let a paused schedule fire again; what was due meanwhile is left to a backfill."""
        record = await self._own_schedule(schedule_id)
        now = self._clock.now()
        timetable = timetable_of(record, now)
        upcoming = None if timetable is None else first_run(timetable, now)
        if not await self._store.write(ledger.resume_schedule, schedule_id, upcoming, now):
            message = f"schedule {schedule_id} is not paused"
            raise Refused(message, reason="not-paused", hint="see `windlass schedule:list --all`")
        await self._audit("resume-schedule", record.workflow_id, {"schedule": schedule_id})
        self._ring()
        return await self._schedule(schedule_id)

    async def next_fires(
        self, workflow_id: str, *, after: int | None = None, count: int = 5
    ) -> list[Upcoming]:
        """The next due times of a workflow's active schedules together, without their jitter.

        Args:
            workflow_id: Its name; raises `NotFound`.
            after: Epoch milliseconds; None: now.
            count: How many.
        """
        check_limit(count)
        await self.get_workflow(workflow_id)
        now = self._clock.now()
        records = await self._store.read(ledger.schedules, workflow_id)
        return upcoming(planned(records, now), now if after is None else after, count)

    def next_fires_of(
        self, cron: str, *, timezone: str = "UTC", after: int | None = None, count: int = 5
    ) -> list[Upcoming]:
        """`next_fires` of an expression that nobody has recorded; raises `Refused` if it is wrong.

        `H` spreads by a workflow's name; without one it is what it is for an empty name.
        """
        check_limit(count)
        now = self._clock.now()
        table = checked_timetable(Schedule(cron=cron, timezone=timezone), "", now)
        thought = Planned(None, None, cron, table)
        return upcoming([thought], now if after is None else after, count)

    async def backfill(self, wish: "Backfill") -> "Backfilled":
        """Create an execution for each due time of a range that did not fire; see `backfill.py`."""
        from controller.backfill import backfill  # ruff: ignore[import-outside-top-level]  # start-up time

        now = self._clock.now()
        done = await backfill(self._store, self._gate, wish, now, self._by)
        for each in done.fires:
            if each.result == "created":
                data = {"schedule": each.schedule_id, "due_at": each.due_at, "reason": "backfill"}
                which = each.workflow_id, each.execution_id
                self._bus.publish(Fact(FactType.FIRED, now, *which, data=data))
        self._ring()
        return done

    async def _schedule(self, schedule_id: str) -> ScheduleRecord:
        record = await self._store.read(ledger.schedule, schedule_id)
        if record is None:
            raise NotFound(
                f"there is no schedule {schedule_id!r}", hint="see `windlass schedule:list`"
            )
        return record

    async def _own_schedule(self, schedule_id: str) -> ScheduleRecord:
        """Raise `Refused` where a source owns the schedule."""
        record = await self._schedule(schedule_id)
        if record.origin != ORIGIN:
            raise Refused(
                f"schedule {schedule_id} belongs to the source {record.origin!r}",
                reason="owned-elsewhere",
                hint="change the file it comes from",
            )
        return record

    # -- parts ------------------------------------------------------------------------------

    async def _put(
        self,
        definition: Mapping[str, Any] | str | bytes,
        name: str | None,
        *,
        replace: bool,
        path: Path | None = None,
    ) -> WorkflowRecord:
        now = self._clock.now()
        compiled = await self._author().compile_one(definition, now, name=name, path=path)
        workflow = compiled.definition
        record, version = workflow_record(
            workflow,
            compiled.content,
            compiled.digest,
            origin=ORIGIN,
            path=None,
            revision=None,
            now=now,
        )
        schedules = schedules_of(workflow, ORIGIN, now)
        await self._store.write_out(None, _put_owned, record, version, schedules, replace=replace)
        await self._audit("update" if replace else "create", workflow.name)
        kind = FactType.UPDATED if replace else FactType.CREATED
        self._bus.publish(Fact(kind, now, workflow.name))
        self._ring()
        return await self.get_workflow(workflow.name)

    async def _owned(self, workflow_id: str) -> None:
        """Raise `Refused` where a source owns the workflow."""
        record = await self.get_workflow(workflow_id)
        _refuse_foreign(record.name, record.origin)

    async def _unfinished(self, execution_id: str, wish: str) -> ExecutionRecord:
        record = await self.get_execution(execution_id)
        if record.status not in UNFINISHED:
            raise Refused(
                f"execution {record.id} has ended ({record.status}): there is nothing to {wish}",
                reason="finished",
            )
        return record

    async def _asking(self, record: ExecutionRecord, signal: str) -> str | None:
        """The step that waits for an approval by this signal, if any."""
        try:
            plan = await self._catalog.plan_of(record)
        except (NotFound, Refused, ValueError) as error:
            raise deaf(record.id, str(error)) from error
        rows = await self._store.read(ledger.checkpoints, record.id)
        return asks(record, plan, rows, signal)

    async def _send(self, record: ExecutionRecord, kind: str, payload: Mapping[str, Any]) -> None:
        now = self._clock.now()
        signal = SignalRecord(new_id(now), record.id, kind, dict(payload), now)
        if not await self._store.write(ledger.add_signal, signal):
            raise Refused(f"execution {record.id} has ended", reason="finished")
        await self._audit(kind, record.workflow_id, {"execution": record.id})
        self._ring()

    async def _audit(self, verb: str, target: str, detail: Mapping[str, Any] | None = None) -> None:
        await self._store.write(ledger.audit, self._record(verb, target, detail))

    def _record(self, verb: str, target: str, detail: Mapping[str, Any] | None) -> AuditRecord:
        return AuditRecord(self._clock.now(), self._by, verb, target, dict(detail or {}))


def admit_on_record(
    tx: Transaction,
    admission: Admission,
    audit: AuditRecord,
    history: Sequence[CheckpointRecord] = (),
) -> Admitted:
    """A verb for the store: create an execution, with who wanted it in the audit log.

    It begins with the checkpoints of `history`, which are another one's; raises `NotFound` where
    that one is gone.
    """
    before = admission.execution.attempt_of
    if before is not None and ledger.execution(tx, before) is None:
        raise pruned(before)
    admitted = admit(tx, admission)
    if admitted is not Admitted.FULL:
        ledger.audit(tx, audit)
    if admitted is Admitted.CREATED:
        ledger.put_checkpoints(tx, admission.execution.id, history)
    return admitted


def _put_owned(
    tx: Transaction,
    record: WorkflowRecord,
    version: VersionRecord,
    schedules: tuple[ScheduleRecord, ...],
    *,
    replace: bool,
) -> None:
    """A verb for the store: record a workflow of ours, unless its name is taken."""
    ledger.take_turns(tx)
    known = ledger.head(tx, record.name)
    if known is not None and known.status != "archived":
        _refuse_foreign(known.name, known.origin)
        if not replace:
            raise Refused(
                f"there is a workflow {record.name!r} already",
                reason="exists",
                hint="give it another name with --name, or delete the other one first",
            )
    ledger.put_workflow(tx, record, version)
    rows = [ledger.stored_schedule(each) for each in schedules]
    ledger.put_schedules(tx, ORIGIN, {record.name: rows}, now=record.updated_at, heed=True)


def _refuse_foreign(name: str, origin: str) -> None:
    if origin != ORIGIN:
        raise Refused(
            f"workflow {name!r} belongs to the source {origin!r}",
            reason="owned-elsewhere",
            hint="change its file there",
        )


def check_signature(secret: str | None, body: bytes, signature: str | None) -> None:
    """Raise `Refused` unless the body is signed with the secret; a missing secret signs nothing."""
    given = (signature or "").removeprefix("sha256=")
    due = hmac.new((secret or "").encode(), body, hashlib.sha256).hexdigest()
    if not secret or not hmac.compare_digest(given.encode(), due.encode()):
        raise Refused("the request is not signed as the trigger asks", reason="signature")
