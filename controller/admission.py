"""Whether an execution may be created, and the one place where its row is composed.

A person, a schedule, an event and a subflow all come through here: the workflow is active, the
inputs fit, the concurrency has room or its `on_full` says what to do.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from controller.catalog import Catalog
from controller.core.concurrency import concurrency_key
from controller.core.definition import Concurrency, EventTrigger, Workflow
from controller.core.expression import ExpressionError, to_plain
from controller.core.inputs import check_inputs
from controller.core.occasion import event_inputs, wanted_event
from controller.core.policy import Policy, policy_to_json
from controller.core.problem import NotFound, Problem, Refused
from controller.store import Store, ledger
from controller.store.records import ExecutionRecord, NewExecution, SignalRecord, WorkflowHead
from controller.store.tables import Transaction


class InvalidInputs(Refused):
    """The inputs given do not fit those declared.

    Attributes:
        problems: All of them.
    """

    def __init__(self, workflow: str, problems: list[Problem]) -> None:
        lines = "; ".join(problem.message for problem in problems)
        hints = [problem.hint for problem in problems if problem.hint]
        super().__init__(
            f"workflow {workflow!r}: {lines}",
            reason="invalid-inputs",
            hint=hints[0] if hints else None,
        )
        self.problems = problems


class Admitted(StrEnum):
    """What became of a wish to create an execution."""

    CREATED = "created"
    EXISTS = "exists"  # the same fire, event or child was admitted before
    FULL = "concurrency-full"  # on_full: skip


@dataclass(frozen=True, slots=True)
class Wish:
    """An execution somebody wants.

    Attributes:
        id: Of the execution to be; the same wish always has the same id.
        trigger: `{type, …}`, see the column.
        digest: A pinned version; None: the workflow's current one.
        parent: (execution, step, root, depth) of the step that starts it as a subflow.
        context: What else to keep of it; `revision` of the source is added.
    """

    id: str
    workflow: str
    inputs: Mapping[str, Any]
    trigger: Mapping[str, Any]
    now: int
    digest: str | None = None
    schedule_id: str | None = None
    due_at: int | None = None
    parent: tuple[str, str, str, int] | None = None
    context: Mapping[str, Any] = field(default_factory=dict)
    attempt_of: str | None = None


@dataclass(frozen=True, slots=True)
class Admission:
    """A wish that fits, to be written with `admit`."""

    execution: NewExecution
    concurrency: Concurrency | None

    @property
    def waits(self) -> bool:
        """Whether it waits for a place where there is none, whoever has them."""
        return self.concurrency is None or self.concurrency.on_full == "queue"


class Gate:
    """Turns wishes into admissions.

    Args:
        policy: The settings that new executions are pinned to.
    """

    def __init__(self, store: Store, catalog: Catalog, policy: Policy) -> None:
        self._store = store
        self._catalog = catalog
        self._policy = policy_to_json(policy)

    async def check(self, wish: Wish) -> Admission:
        """Find the workflow and check the wish; raises `NotFound`, `Refused`, `InvalidInputs`."""
        return await self._checked(wish, await self._store.read(ledger.head, wish.workflow))

    async def check_all(self, wishes: Sequence[Wish]) -> list[Admission | Refused]:
        """`check` for many wishes with one look at their workflows; a refusal is an answer here."""
        heads = await self._store.read(ledger.heads, list({wish.workflow for wish in wishes}))
        found: list[Admission | Refused] = []
        for wish in wishes:
            try:
                found.append(await self._checked(wish, heads.get(wish.workflow)))
            except Refused as error:
                found.append(error)
        return found

    async def _checked(self, wish: Wish, head: WorkflowHead | None) -> Admission:
        active = startable(head, wish.workflow)
        version = await self._catalog.version(wish.digest or active.digest)
        workflow = version.workflow
        inputs, problems = check_inputs(workflow.inputs, dict(wish.inputs))
        if problems:
            raise InvalidInputs(wish.workflow, problems)
        try:
            inputs = to_plain(inputs)
        except ExpressionError as error:
            problem = Problem("wrong-type", f"an input cannot be recorded: {error}", ())
            raise InvalidInputs(wish.workflow, [problem]) from None
        return self._admission(wish, active, workflow, inputs)

    async def emit(
        self, event: str, data: Mapping[str, Any], key: str, now: int
    ) -> list[tuple[str, Refused]]:
        """Create an execution of each active workflow with a trigger for `event`.

        Args:
            event: The event's name.
            data: What expressions of the trigger see as `event.data`.
            key: Of what emits it: doing it again creates nothing new.
            now: Epoch milliseconds.

        Returns:
            The workflows of which none was created, and why: the others do not depend on them.
        """
        left_out: list[tuple[str, Refused]] = []
        for name, index, trigger in await self._listeners(event):
            try:
                if not wanted_event(trigger, event, data):
                    continue
                wish = Wish(
                    id=derived_id("event", key, name, str(index)),
                    workflow=name,
                    inputs=event_inputs(trigger.config.inputs, event, data),
                    trigger={"type": "event", "event": event, "by": key},
                    now=now,
                )
                if await self._store.write(admit, await self.check(wish)) is Admitted.FULL:
                    left_out.append((name, full(name)))
            except Refused as error:
                left_out.append((name, error))
        return left_out

    async def _listeners(self, event: str) -> list[tuple[str, int, EventTrigger]]:
        """Triggers for the event, with their workflows and their places there."""
        names = await self._store.read(ledger.waiting_for_events)
        heads = await self._store.read(ledger.heads, names)
        found: list[tuple[str, int, EventTrigger]] = []
        for name in names:
            if name not in heads or heads[name].status != "active":
                continue  # not any more
            version = await self._catalog.version(heads[name].digest)
            found += [
                (name, index, each)
                for index, each in enumerate(version.workflow.triggers)
                if isinstance(each, EventTrigger) and each.config.event == event
            ]
        return found

    def _admission(
        self, wish: Wish, head: WorkflowHead, workflow: Workflow, inputs: dict[str, Any]
    ) -> Admission:
        parent, parent_step, root, depth = wish.parent or (None, None, None, 0)
        new = NewExecution(
            id=wish.id,
            workflow_id=workflow.name,
            workflow_version=workflow.version,
            digest=wish.digest or head.digest,
            created_at=wish.now,
            inputs=inputs,
            trigger=dict(wish.trigger),
            policy=self._policy,
            context={**wish.context, **({"revision": head.revision} if head.revision else {})},
            parent_id=parent,
            parent_step=parent_step,
            root_id=root,
            depth=depth,
            schedule_id=wish.schedule_id,
            due_at=wish.due_at,
            concurrency_key=concurrency_key(workflow, inputs),
            concurrency_max=workflow.concurrency.max if workflow.concurrency else None,
            attempt_of=wish.attempt_of,
        )
        return Admission(new, workflow.concurrency)


def startable(head: WorkflowHead | None, name: str) -> WorkflowHead:
    """The workflow, if executions of it may be created; raises `NotFound` or `Refused`."""
    if head is None:
        raise NotFound(f"no workflow is called {name!r}", hint="see `windlass workflows:list`")
    if head.status != "active":
        how = {
            "inactive": "set `status: active` in its definition",
            "archived": "bring its definition back",
        }
        raise Refused(
            f"workflow {name!r} is {head.status}",
            reason=head.status,
            hint=how.get(head.status),
        )
    return head


def admit(tx: Transaction, admission: Admission) -> Admitted:
    """A verb for the store: create the execution, or leave it, as `on_full` says."""
    new, limit = admission.execution, admission.concurrency
    if limit is not None and not admission.waits and new.concurrency_key is not None:
        ledger.count_places(tx)
        active = ledger.active(tx, new.concurrency_key)
        if len(active) >= limit.max and ledger.execution(tx, new.id) is None:
            if limit.on_full == "skip":
                return Admitted.FULL
            for oldest in active[: len(active) - limit.max + 1]:
                cancel(tx, oldest.id, new.created_at, reason=f"replaced by {new.id}")
    return Admitted.CREATED if ledger.create(tx, new) else Admitted.EXISTS


def full(workflow: str) -> Refused:
    """What is said where an execution was to be created, and is `FULL`."""
    return Refused(
        f"workflow {workflow!r} has as many executions as its concurrency allows",
        reason=str(Admitted.FULL),
        hint="wait for one to end, or set `on_full: queue`",
    )


def cancel(
    tx: Transaction, execution_id: str, now: int, *, force: bool = False, reason: str | None = None
) -> None:
    """A verb for the store: cancel what is pending, ask what is not."""
    if ledger.cancel_pending(tx, execution_id, now):
        ended = ledger.execution(tx, execution_id)
        told = to_parent(ended, "cancelled", None, None, now) if ended is not None else None
        if told is not None:
            ledger.add_signal(tx, told)
        return
    ledger.add_signal(tx, cancel_signal(execution_id, now, force=force, reason=reason))


def cancel_signal(
    execution_id: str, now: int, *, force: bool, reason: str | None = None
) -> SignalRecord:
    """What asks an execution to end; the same asked again is the same signal."""
    which = derived_id("cancel", execution_id, str(force), str(now))
    payload = {"force": force, "reason": reason}
    return SignalRecord(which, execution_id, "cancel", payload, now)


def to_parent(
    child: ExecutionRecord,
    status: str,
    outputs: Mapping[str, Any] | None,
    error: Mapping[str, Any] | None,
    now: int,
) -> SignalRecord | None:
    """What an execution that ends tells the step that started it; None: nobody did."""
    if child.parent_id is None:
        return None
    payload = {
        "execution": child.id,
        "step": child.parent_step,
        "attempt": child.trigger.get("attempt"),
        "status": status,
        "outputs": outputs,
        "error": error,
    }
    return SignalRecord(derived_id("ended", child.id), child.parent_id, "child", payload, now)


def derived_id(*parts: str) -> str:
    """An id that follows from what it is for, so that doing a thing twice makes it once."""
    return hashlib.sha256("/".join(parts).encode()).hexdigest()[:32]
