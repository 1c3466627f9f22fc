"""Ways to damage a database that has seen real work (`worked.py`), and what is found of each."""

from collections import Counter
from dataclasses import dataclass

from controller.doctor.finding import KINDS
from controller.store.records import NEVER


@dataclass(frozen=True)
class Damage:
    """One way.

    Attributes:
        kind: What is found, and nothing else is.
        subject: Of what: an execution by what became of it, or what the finding says.
        statements: SQL; `:name` is the id of the execution of that name.
        quick: A quick look finds it too.
        mended: `--repair` mends it.
    """

    name: str
    kind: str
    subject: str
    statements: tuple[str, ...]
    quick: bool
    mended: bool


def _of(
    subject: str,
    kind: str,
    name: str,
    *statements: str,
    quick: bool = True,
    mended: bool | None = None,
) -> Damage:
    can = KINDS[kind].mendable if mended is None else mended
    return Damage(name, kind, subject, statements, quick=quick, mended=can)


def _row(subject: str, change: str) -> str:
    """Change an execution's row."""
    known = subject.replace("-", "_").replace(" ", "_")
    return f"UPDATE workflow_executions SET {change} WHERE id = :{known}"  # ruff: ignore[hardcoded-sql-expression]  # a test's own


def _unlike(subject: str, name: str, change: str) -> Damage:
    return _of(subject, "execution-unlike-events", name, _row(subject, change))


def _lost(subject: str, name: str, which: str = "") -> Damage:
    events = "DELETE FROM execution_checkpoints WHERE execution_id ="
    return _of(subject, "execution-gap", name, f"{events} :{subject} {which}")


def _ownership(subject: str, name: str, change: str) -> Damage:
    return _of(subject, "execution-ownership", name, _row(subject, change))


def _event(subject: str, step: str, attempt: int = 1, context: str = '{"outputs": {}}') -> str:
    """Another event at the end."""
    values = f"'completed', '{step}', {attempt}, '{context}', 0 FROM execution_checkpoints"
    return f"{_ANOTHER} {values} WHERE execution_id = :{subject} GROUP BY execution_id"


_ANOTHER = (
    "INSERT INTO execution_checkpoints"
    " (execution_id, seq, type, step_id, attempt, context, created_at)"
    " SELECT execution_id, max(seq) + 1,"
)


def _schedule(name: str, which: str, change: str, kind: str = "schedule-time") -> Damage:
    return _of(which, kind, name, f"UPDATE workflow_schedules SET {change} WHERE {which}")  # ruff: ignore[hardcoded-sql-expression]  # a test's own


_UNLIKE = [
    _unlike("completed", "another end", "status = 'failed'"),
    _unlike("completed", "other outputs", """outputs = '{"length": 9}'"""),
    _unlike("failed", "no error", "error = NULL"),
    _unlike("everything", "another time", "completed_at = completed_at + 1"),
    _unlike("cancelled", "another duration", "duration = duration + 1"),
    _unlike("failed", "another step", "current_step = 'fine'"),
    _unlike("answered", "ended at no time", "completed_at = NULL"),
    _unlike("went-on", "not ended", "status = 'running', completed_at = NULL, duration = NULL"),
    _unlike("done", "ended so, and nothing else", "outputs = NULL, duration = NULL, error = '{}'"),
    _unlike("paused", "not paused", "status = 'running'"),
    _unlike("sleeping", "unknown status", "status = 'asleep'"),
    _unlike("waiting", "pending again", "status = 'pending'"),
    _unlike("asking", "a status of those that have ended", "status = 'completed'"),
]

_JOURNAL = [
    _lost("waiting", "no first event", "AND seq = 0"),
    _lost("everything", "no event in the middle", "AND seq = 3"),
    _lost("completed", "no last event", "AND seq = 1"),
    _lost("completed", "no event at all"),
    _of("waiting", "execution-gap", "an end that no event tells of",
        _row("waiting", "status = 'completed', completed_at = started_at, wake_at = NULL")),
    _of("completed", "event-after-end", "an event after the end", _event("completed", "two")),
    _of("sleeping", "event-out-of-place", "of a step that there is not",
        _event("sleeping", "nothing")),
    _of("sleeping", "event-out-of-place", "of an attempt that there was not",
        _event("sleeping", "nap", 7)),
    _of("completed", "execution-unreadable", "an event that is no JSON",
        "UPDATE execution_checkpoints SET context = '{' WHERE execution_id = :completed"),
    _of("completed", "execution-unreadable", "an event without its data",
        "UPDATE execution_checkpoints SET context = '{}' WHERE execution_id = :completed"),
    _of("completed", "execution-unreadable", "an unknown event",
        "UPDATE execution_checkpoints SET type = 'x' WHERE execution_id = :completed"),
]  # fmt: skip

_ROWS = [
    _of("pending", "execution-contradictory", "running before it began",
        _row("pending", "status = 'running'")),
    _of("cancelled-pending", "execution-contradictory", "completed without having begun",
        _row("cancelled-pending", "status = 'completed'"), mended=False),
    _ownership("completed", "ended, and owned", "owner = 'x', lease_until = 1"),
    _ownership("failed", "ended, and to wake", "wake_at = 5"),
    _ownership("sleeping", "owned, and asleep", "owner = 'x', lease_until = 1"),
    _ownership("waiting", "an owner without a lease", "owner = 'x', wake_at = NULL"),
    _ownership("asking", "a lease without an owner", "lease_until = 1, wake_at = NULL"),
    _ownership("pending", "pending, and owned", "owner = 'x', lease_until = 1"),
    _ownership("retrying", "pending, and asleep", "wake_at = 1"),
    _of("resumed", "execution-left-owned", "owned by one that is gone",
        _row("resumed", "owner = 'gone', lease_until = 1, wake_at = NULL")),
    _of("sleeping", "execution-asleep", "it sleeps for ever",
        _row("sleeping", f"wake_at = {NEVER}")),
    _of("waiting", "execution-asleep", "it sleeps past its timeout",
        _row("waiting", "wake_at = wake_at + 1")),
    _of("done", "signal-unsettled", "a signal for one that has ended",
        "INSERT INTO signals (id, execution_id, type, payload, created_at)"
        " VALUES ('s', :done, 'pause', '{}', 0)"),
]  # fmt: skip

_OTHERS = [
    _schedule("no next time", "cron_expression = '0 * * * *'", "next_run_at = NULL"),
    _schedule("never", "cron_expression = '0 * * * *'", "next_run_at = 32503683600000"),
    _schedule("no such time", "cron_expression = '*/7 3-9 * * *'", "next_run_at = 1"),
    _schedule("no such delay", "cron_expression = '*/5 * * * *'", "next_run_at = next_run_at + 1"),
    _schedule("paused, and due", "reason = 'paused'", "next_run_at = 3600000"),
    _schedule("ended, and due", "reason = 'ended'", "next_run_at = 978307200000"),
    _schedule("once, another day", "at > 9999999999999", "next_run_at = next_run_at + 1"),
    _schedule("nowhere", "cron_expression = '*/5 * * * *'", "timezone = 'No/Where'",
              "schedule-invalid"),
    _of("controller/gone", "lease-left-over", "a controller that was killed",
        "INSERT INTO leases VALUES ('controller/gone', 'gone', 1)"),
    _of("source/gone", "lease-left-over", "a source that nobody has kept for days",
        "INSERT INTO leases VALUES ('source/gone', 'gone', 1)"),
    _of("executions of workflows that are not there", "orphan", "a workflow that is gone",
        "DELETE FROM workflows WHERE id = 'plain'", quick=False),
    _of("schedules of workflows that are not there", "orphan", "a schedule of nothing",
        "UPDATE workflow_schedules SET workflow_id = 'x' WHERE reason = 'ended'"),
    _of("executions whose parent is not there", "orphan", "a child without its parent",
        "DELETE FROM execution_checkpoints WHERE execution_id = :done",
        "DELETE FROM signals WHERE execution_id = :done",
        "UPDATE workflow_executions SET root_id = id WHERE parent_id = :done",
        "DELETE FROM workflow_executions WHERE id = :done", quick=False),
    _of("executions whose root is not there", "orphan", "a child without its root",
        "UPDATE workflow_executions SET root_id = 'x' WHERE parent_id = :done", quick=False),
    _of("checkpoints of executions that are not there", "orphan", "events of nothing",
        "DELETE FROM signals WHERE execution_id = :completed",
        "DELETE FROM workflow_executions WHERE id = :completed", quick=False),
    _of("signals of executions that are not there", "orphan", "a signal for nobody",
        "UPDATE signals SET execution_id = 'x' WHERE execution_id = :answered", quick=False),
]  # fmt: skip

DAMAGES = [*_UNLIKE, *_JOURNAL, *_ROWS, *_OTHERS]


def rounds() -> list[list[Damage]]:
    """All that can be mended, in as few databases as there are ways to damage one subject."""
    seen: Counter[str] = Counter()
    found: list[list[Damage]] = []
    for each in (each for each in DAMAGES if each.mended):
        if seen[each.subject] == len(found):
            found.append([])
        found[seen[each.subject]].append(each)
        seen[each.subject] += 1
    return found
