"""What the ledger takes and gives: one frozen record a row.

Times are epoch milliseconds, durations milliseconds. JSON columns hold plain JSON-like values. The
order of a record's fields is that in which the ledger selects its columns; tests hold both to it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

JsonObject = dict[str, Any]
JsonArray = list[Any]
UNFINISHED = ("pending", "running", "paused")
FINAL = ("completed", "failed", "cancelled")
"""The execution statuses after which nothing is recorded."""

NEVER = 253_402_300_799_999
"""A `wake_at` (the last millisecond of the year 9999): parked until somebody sends a signal."""

CheckpointRow = tuple[int, str, str | None, int, str, int]
"""(seq, type, step_id, attempt, the event's data as encoded JSON, created_at)."""


class Fenced(Exception):
    """Another owner recorded this execution's next event: let go of it, and record nothing more."""


class WorkflowHead(NamedTuple):
    """What a reconcile or a lookup needs to know of every workflow."""

    name: str
    digest: str
    origin: str
    status: str
    path: str | None = None
    revision: str | None = None


@dataclass(frozen=True, slots=True)
class WorkflowRecord:
    """A workflow as it stands.

    Attributes:
        id: The workflow's name; both are kept because the seed's table has both.
        status: `active`, `inactive` or `archived`.
        digest: Of the compiled definition that new executions are pinned to.
        origin: Who owns it: `api`, or the id of a source.
        path: Of the file below the source's root, or None.
        revision: Of the source when this version of it was applied, or None.
    """

    id: str
    name: str
    description: str
    version: str
    status: str
    digest: str
    origin: str
    path: str | None
    triggers: JsonArray
    inputs: JsonArray
    outputs: JsonArray
    steps: JsonArray
    error_handler: JsonObject | None
    metadata: JsonObject
    labels: dict[str, str]
    created_at: int
    updated_at: int
    revision: str | None = None


@dataclass(frozen=True, slots=True)
class VersionRecord:
    """A definition as it was compiled: never edited, only added.

    Attributes:
        content: The documents needed to compile it again: the workflow, and the actions it uses.
        revision: Of the source it came from, or None.
    """

    digest: str
    workflow_id: str
    version: str
    content: JsonObject
    revision: str | None
    created_at: int


@dataclass(frozen=True, slots=True)
class NewExecution:
    """An execution to be created as `pending`.

    Attributes:
        trigger: Why it exists: {type, due_at, event, schedule_id, by}.
        policy: The settings it is pinned to.
        root_id: The execution at the top of its tree; None: itself.
        due_at: With `schedule_id`, unique: one fire makes one execution.
        concurrency_key: Executions with one key share `concurrency_max` places.
        queue: Executions of one queue go one after another, whatever their keys are.
        attempt_of: The execution that this one tries again.
    """

    id: str
    workflow_id: str
    workflow_version: str
    digest: str
    created_at: int
    inputs: JsonObject = field(default_factory=dict)
    trigger: JsonObject = field(default_factory=dict)
    policy: JsonObject = field(default_factory=dict)
    context: JsonObject = field(default_factory=dict)
    parent_id: str | None = None
    parent_step: str | None = None
    root_id: str | None = None
    depth: int = 0
    schedule_id: str | None = None
    due_at: int | None = None
    concurrency_key: str | None = None
    concurrency_max: int | None = None
    queue: str | None = None
    attempt_of: str | None = None


@dataclass(frozen=True, slots=True)
class ExecutionRecord:
    """An execution's row: its identity and its ends. What happened between is in its checkpoints.

    Attributes:
        status: `pending`, `running`, `completed`, `failed`, `cancelled` or `paused`.
        owner: Who executes it, until `lease_until`.
        wake_at: Parked: not claimed before, unless a signal comes. See `NEVER`.
        claims: How often somebody took it on; after the first, a step may have been interrupted.
    """

    id: str
    workflow_id: str
    workflow_version: str
    digest: str
    status: str
    inputs: JsonObject
    outputs: JsonObject | None
    error: JsonObject | None
    started_at: int | None
    completed_at: int | None
    duration: int | None
    current_step: str | None
    context: JsonObject
    created_at: int
    trigger: JsonObject
    owner: str | None
    lease_until: int | None
    wake_at: int | None
    parent_id: str | None
    parent_step: str | None
    root_id: str
    depth: int
    schedule_id: str | None
    due_at: int | None
    concurrency_key: str | None
    concurrency_max: int | None
    queue: str | None
    policy: JsonObject
    attempt_of: str | None
    claims: int


class CheckpointRecord(NamedTuple):
    """One recorded event; `context` is its data. Many are read at once: a tuple is made faster."""

    execution_id: str
    seq: int
    type: str
    step_id: str | None
    attempt: int
    context: JsonObject
    created_at: int


@dataclass(frozen=True, slots=True)
class SignalRecord:
    """A wish or a message for an execution, waiting to become one of its events.

    Attributes:
        type: `cancel`, `pause`, `resume`, `signal`, `child` or `retry`.
    """

    id: str
    execution_id: str
    type: str
    payload: JsonObject
    created_at: int
    consumed_at: int | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an execution's row changes when it ends, parks or pauses; every field is written.

    Attributes:
        status: A final status ends the execution: it ends exactly once.
        wake_at: Parking only. None: claim it at once; `NEVER`: only a signal wakes it.
        release: Give up ownership. An execution that ends has no owner in any case.
    """

    status: str
    outputs: JsonObject | None = None
    error: JsonObject | None = None
    completed_at: int | None = None
    duration: int | None = None
    current_step: str | None = None
    wake_at: int | None = None
    release: bool = True


@dataclass(slots=True)
class Batch:
    """What one execution records at once; all of it is durable, or none.

    An owner has one batch in flight for an execution: the next is appended when this one resolved.

    Attributes:
        checkpoints: New events; a seq that exists already means another owner: `Fenced`.
        outcome: The change of the execution's row, if any.
        owner: When given, `outcome` applies only while this owner holds the execution.
        signals: Ids of the signals that became events here: consumed. One that was consumed
            before is not consumed again: `Fenced`.
        notify: Signals to send, such as telling a parent that its child ended. One to an execution
            that has ended, or that was sent before, goes nowhere.
        logs: Lines of its log.
    """

    execution_id: str
    checkpoints: list[CheckpointRow] = field(default_factory=list)
    outcome: Outcome | None = None
    owner: str | None = None
    signals: tuple[str, ...] = ()
    notify: Sequence[SignalRecord] = ()
    logs: Sequence["LogRecord"] = ()


@dataclass(frozen=True, slots=True)
class ScheduleRecord:
    """One schedule of a workflow.

    Attributes:
        id: Of one that stands in its workflow's definition, `WORKFLOW/…`.
        schedule_type: `once` (`at`), `recurring` (`cron_expression`).
        policy: {overlap, catchup, jitter, start, end}.
        next_run_at: None when it will not fire.
        reason: Why it is not active, or why its last fire was left out.
    """

    id: str
    workflow_id: str
    schedule_type: str
    cron_expression: str | None
    at: int | None
    timezone: str
    next_run_at: int | None
    last_run_at: int | None
    inputs: JsonObject
    metadata: JsonObject
    policy: JsonObject
    origin: str
    active: bool
    reason: str | None
    created_at: int
    updated_at: int


class Claimant(NamedTuple):
    """Who takes on executions as they are created, until when, and how many at most."""

    owner: str
    lease_until: int
    room: int


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One line of an execution's log; `id` is given by the database (0: not yet)."""

    execution_id: str
    level: str
    message: str
    timestamp: int
    step_id: str | None = None
    attempt: int = 0
    context: JsonObject | None = None
    id: int = 0


@dataclass(frozen=True, slots=True)
class SourceRecord:
    """A place definitions come from, and how its last reconcile went.

    Attributes:
        type: `git` or `directory`.
        revision: The one that was applied last.
        phase: `ready`, `degraded`, `rejected`, `held`, `suspended`, `failed` or `removed`.
        reason: Of any phase but `ready`: a stable word, such as `unsigned`.
        observed: The revision that was seen last, applied or not.
        commit: What was applied last: {id, author, subject, committed_at, signer}.
        problems: Diagnostics of a revision that was rejected.
        failures: Looks in a row that failed.
        next_at: When it is looked at again without a hint.
        counted_from: Since when workflows that went count with those of a revision that waits.
        approved_at: When a revision was applied that had waited for an approval.
    """

    id: str
    type: str
    location: str
    revision: str | None
    phase: str
    reason: str | None
    message: str | None
    checked_at: int | None
    applied_at: int | None
    observed: str | None = None
    commit: JsonObject | None = None
    problems: JsonArray | None = None
    failures: int = 0
    next_at: int | None = None
    counted_from: int | None = None
    approved_at: int | None = None


@dataclass(frozen=True, slots=True)
class SourceWish:
    """What people want of a source; `held` keeps it from following.

    Attributes:
        held: {reason: `suspended` or `rollback`, revision, by, at}, or None.
        approved: The revision that may prune as much as it does; None again once any is applied.
        requested_at: When somebody last asked to look at once, a person or another source.
    """

    source_id: str
    held: JsonObject | None = None
    approved: str | None = None
    requested_at: int | None = None


@dataclass(frozen=True, slots=True)
class RevisionRecord:
    """A revision that was applied, by `sync` or `rollback`; `number` counts from 1.

    Attributes:
        counts: How many workflows met each fate.
        rewritten: It does not come after the revision that was applied before it.
    """

    source_id: str
    number: int
    revision: str
    kind: str
    applied_at: int
    commit: JsonObject | None
    counts: dict[str, int]
    rewritten: bool


@dataclass(frozen=True, slots=True)
class FileRecord:
    """A file of a source as it was last read.

    Attributes:
        digest: SHA-256 of the content, hexadecimal, or Git's id of the blob.
        status: `valid` or `invalid`.
        definitions: What it defines in force: [{kind, name, …}].
    """

    path: str
    digest: str
    size: int
    mtime_ns: int
    inode: int
    status: str
    problems: JsonArray
    definitions: JsonArray


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """Who did what to what; `id` is given by the database (0: not yet)."""

    at: int
    principal: str
    verb: str
    target: str | None
    detail: JsonObject
    id: int = 0
