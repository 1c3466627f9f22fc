"""Repairs: each judges again what it mends, and is one transaction with its entry in the audit log.

Nobody may be at work. On SQLite the controller's lock is held all the while; on PostgreSQL a
transaction that finds a controller at work mends nothing, and what it mends it has locked. Whoever
owns an execution and is only asleep is fenced as by any other controller: the taking-over is an
event, and the number of what the sleeper still wants to record is taken.
"""

from collections.abc import Callable, Mapping
from typing import Any

from controller.admission import to_parent
from controller.core.execution import ExecutionState
from controller.core.plan import Plan
from controller.core.problem import Refused
from controller.doctor.executions import Around, judge, replayed, told, unanswered
from controller.doctor.finding import KINDS, Finding
from controller.doctor.schedules import judge_schedule, next_run
from controller.fires import timetable_of
from controller.history import wake_of
from controller.store import ledger
from controller.store.doctor import Case, Lease, all_leases, cases, schedules
from controller.store.mending import (
    FREE,
    amend,
    amend_schedule,
    remove_events,
    remove_lease,
    send_again,
    settle,
)
from controller.store.records import FINAL, AuditRecord
from controller.store.tables import Transaction

BY = "windlass doctor"
"""Who repairs, where an owner is named."""


def mend_execution(
    tx: Transaction, execution_id: str, plan: Plan | None, around: Around
) -> Finding | None:
    """Mend one thing that is wrong with an execution; None: there is nothing that can be."""
    check_alone(tx, around)
    for case in cases(tx, [execution_id], lock=True):
        for finding in judge(case, plan, around):
            if KINDS[finding.kind].mendable and _MENDS[finding.kind](tx, case, plan, around):
                _record(tx, finding, around)
                return finding
    return None


def mend_schedule(tx: Transaction, schedule_id: str, around: Around) -> Finding | None:
    """Put a schedule's next time right; None: it is, or cannot be."""
    check_alone(tx, around)
    for record in schedules(tx, [schedule_id], lock=True):
        for finding in judge_schedule(record, around):
            if not KINDS[finding.kind].mendable:
                continue
            timetable = timetable_of(record, around.now) if record.active else None
            upcoming = None if timetable is None else next_run(record, timetable)
            values: dict[str, Any] = {"next_run_at": upcoming, "active": upcoming is not None}
            if record.active and upcoming is None:
                values["reason"] = "ended"
            amend_schedule(tx, schedule_id, values)
            _record(tx, finding, around)
            return finding
    return None


def mend_lease(tx: Transaction, lease: Lease, around: Around) -> Finding | None:
    """Remove a lease that nobody has."""
    check_alone(tx, around)
    finding = Finding("lease-left-over", lease.name, f"owner {lease.owner}")
    if not remove_lease(tx, lease):
        return None
    _record(tx, finding, around)
    return finding


def check_alone(tx: Transaction, around: Around) -> None:
    """Raise `Refused` where another controller is at work; on SQLite the lock has said so."""
    if not around.shared:
        return
    living = [each for each in all_leases(tx) if each.lease_until >= around.now]
    for each in living:
        if each.name.startswith("controller/"):
            raise Refused(
                f"{each.owner} is at work on the database",
                reason="database-locked",
                hint="stop every controller, and repair then",
            )


def _record(tx: Transaction, finding: Finding, around: Around) -> None:
    detail = {"finding": finding.kind, "detail": finding.detail}
    ledger.audit(tx, AuditRecord(around.now, "local", "repair", finding.subject, detail))


# -- executions -------------------------------------------------------------------------------

Mend = Callable[[Transaction, Case, Plan | None, Around], bool]


def _free(tx: Transaction, case: Case, _plan: Plan | None, around: Around) -> bool:
    """Nobody has it: whoever looks next goes on with it, or it has ended."""
    return _amend(tx, case, FREE, around)


def _amend(tx: Transaction, case: Case, values: Mapping[str, Any], around: Around) -> bool:
    """Change the row; False: its owner, who is to lose it, has just recorded something."""
    record = case.record
    loses = "owner" in values and record.owner is not None and record.completed_at is None
    if loses and not ledger.fence(tx, [record.id], BY, around.now):
        return False
    amend(tx, record.id, values)
    return True


def _as_pending(tx: Transaction, case: Case, _plan: Plan | None, _around: Around) -> bool:
    if case.record.completed_at is not None:
        return False
    amend(tx, case.record.id, {"status": "pending"})
    return True


def _as_told(tx: Transaction, case: Case, plan: Plan | None, around: Around) -> bool:
    """Make the row what the events say; who waits for its end is told."""
    state = _state(case, plan)
    outcome = told(state)
    ends = outcome.status in FINAL
    names = ("status", "outputs", "error", "completed_at", "duration")
    values: dict[str, Any] = {name: getattr(outcome, name) for name in names}
    if not ends:
        return _amend(tx, case, values, around)
    if not _amend(tx, case, values | FREE | {"current_step": outcome.current_step}, around):
        return False
    settle(tx, case.record.id, around.now)
    signal = to_parent(case.record, outcome.status, outcome.outputs, outcome.error, around.now)
    if signal is not None:
        ledger.add_signal(tx, signal)
    return True


def _without_late(tx: Transaction, case: Case, plan: Plan | None, around: Around) -> bool:
    """Take out what changes nothing, and what follows it; the audit log keeps it."""
    first = min(replayed(case, _known(plan)).late)
    rows = [row for row in case.events if row.seq >= first]
    for row in rows:
        gone = {"seq": row.seq, "type": row.type, "step": row.step_id, "attempt": row.attempt}
        detail = gone | {"context": row.context, "created_at": row.created_at}
        ledger.audit(tx, AuditRecord(around.now, "local", "remove-event", case.record.id, detail))
    remove_events(tx, case.record.id, [row.seq for row in rows])
    return True


def _awake(tx: Transaction, case: Case, plan: Plan | None, _around: Around) -> bool:
    amend(tx, case.record.id, {"wake_at": wake_of(_state(case, plan))})
    return True


def _answer(tx: Transaction, case: Case, plan: Plan | None, around: Around) -> bool:
    """Tell of the child again, as it told when it ended; or wake who has to begin it."""
    for child in unanswered(case, _state(case, plan), around):
        record = ledger.execution(tx, child)
        if record is None:
            amend(tx, case.record.id, {"wake_at": None})
            continue
        signal = to_parent(record, record.status, record.outputs, record.error, around.now)
        if signal is not None:
            send_again(tx, signal)
    return True


def _settle(tx: Transaction, case: Case, _plan: Plan | None, around: Around) -> bool:
    settle(tx, case.record.id, around.now)
    return True


def _state(case: Case, plan: Plan | None) -> ExecutionState:
    return replayed(case, _known(plan)).state


def _known(plan: Plan | None) -> Plan:
    if plan is None:
        raise ValueError("what is judged by its plan has one")
    return plan


_MENDS: Mapping[str, Mend] = {
    "event-after-end": _without_late,
    "execution-unlike-events": _as_told,
    "execution-contradictory": _as_pending,
    "execution-ownership": _free,
    "execution-left-owned": _free,
    "execution-unclaimed": _free,
    "execution-asleep": _awake,
    "execution-unanswered": _answer,
    "signal-unsettled": _settle,
}
