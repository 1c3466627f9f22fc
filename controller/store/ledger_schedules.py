"""Schedules: what is due, and what comes next.

A schedule that will not fire has no `next_run_at`; the index of due times holds only those that
have one.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    Select,
    Text,
    Update,
    bindparam,
    func,
    or_,
    select,
    update,
)

from controller.store.bulk import upsert
from controller.store.dialect import among, insert_or_ignore
from controller.store.kept import all_records, all_rows, change
from controller.store.records import ScheduleRecord
from controller.store.rows import (
    Row,
    chunks,
    every,
    names,
    one,
    pick,
    pick_stored,
    restored,
    row_of,
    stored,
)
from controller.store.tables import Transaction, workflow_schedules, workflows

_s = workflow_schedules.c
_w = workflows.c
MANY = 1_000
"""Workflows from which on all schedules of their origin are looked at, rather than theirs."""

CANCELLED = "cancelled"
"""The reason of a schedule that a person stopped for good."""

STOPPED = ("removed", CANCELLED, "archived")
"""The reasons of a schedule that somebody stopped."""

PAUSED = "paused"
"""The reason of a schedule that somebody, or its definition, let pause."""

ENDED = "ended"
"""The reason of a schedule that has no next time."""

HELD = {"held": True}
"""In the metadata of a schedule that a person, not its definition, lets pause."""

_TIMING = ("schedule_type", "cron_expression", "at", "timezone")
_BOUNDS = ("start", "end", "jitter")
"""What of a policy says when it fires."""


class Standing(NamedTuple):
    """A schedule as it is now, and its workflow: every change moves one of these.

    Attributes:
        status: Of the workflow, as `digest`; None: there is no such workflow.
    """

    id: str
    next_run_at: int | None
    last_run_at: int | None
    updated_at: int
    status: str | None
    digest: str | None


def schedule(tx: Transaction, schedule_id: str) -> ScheduleRecord | None:
    """The schedule, active or not, or None."""
    chosen = pick(ScheduleRecord, workflow_schedules).where(_s.id == schedule_id)
    return one(tx, ScheduleRecord, chosen)


def schedules(
    tx: Transaction,
    workflow: str | None = None,
    *,
    active: bool | None = True,
    paused: bool = False,
) -> list[ScheduleRecord]:
    """By workflow and id; `paused`: with those that only pause; `active=None`: all there are."""
    chosen = pick(ScheduleRecord, workflow_schedules).order_by(_s.workflow_id, _s.id)
    if workflow is not None:
        chosen = chosen.where(_s.workflow_id == workflow)
    if active is not None:
        wanted = _s.active.is_(active)
        chosen = chosen.where(or_(wanted, _s.reason == PAUSED) if paused else wanted)
    return every(tx, ScheduleRecord, chosen)


def add_schedule(tx: Transaction, record: ScheduleRecord) -> bool:
    """Add it; False: its id is there already."""
    return insert_or_ignore(tx, workflow_schedules, row_of(record))


def stored_schedule(record: ScheduleRecord) -> Row:
    """As `put_schedules` takes it."""
    return stored(workflow_schedules, record)


def put_schedules(
    tx: Transaction,
    origin: str,
    wanted: Mapping[str, Sequence[Row]],
    *,
    now: int,
    heed: bool = False,
) -> None:
    """Make these the schedules that `origin` has for each of the workflows; others are stopped.

    Those are meant that stand in definitions: what a person adds to a workflow is left alone. One
    that pauses or has come to its end is stopped too: no definition has it any more.

    A schedule that was and stays active with the same timing keeps when it fires next, and one that
    came to its end with the same timing stays ended; with another timing, what was due and had not
    fired yet is looked at no later than it would have been. Any known one keeps when it was created
    and last fired, but one that comes back counts as dealt with until now. A record that is not
    active says why: `paused`, `ended`.

    Args:
        tx: The transaction.
        origin: Whose they are.
        wanted: By workflow.
        now: Epoch milliseconds.
        heed: What a person let pause or cancelled stays so; nobody may, of a source's.
    """
    known = _known(tx, origin, wanted)
    rows = []
    for row in (each for found in wanted.values() for each in found):
        before = known.pop(row[_ID], None) if known else None
        rows.append(row if before is None else _instead_of(before, row, now, heed=heed))
    upsert(tx, workflow_schedules, names(ScheduleRecord), rows, keep=("created_at",))
    for some in chunks(list(known)):
        _stop(tx, "removed", now, _s.id.in_(some), _NOT_STOPPED)


def _known(tx: Transaction, origin: str, workflows: Collection[str]) -> dict[str, ScheduleRecord]:
    """The schedules that an origin has for some workflows, by id."""
    asked: dict[str, Any] = {"origin": origin}
    if few := len(workflows) < MANY:
        asked["workflows"] = list(workflows)
    chosen = _owned(tx.dialect.name, few=few)
    found = all_records(tx, ScheduleRecord, workflow_schedules, chosen, asked)
    defined = (each for each in found if each.id.startswith(f"{each.workflow_id}/"))
    return {each.id: each for each in defined if each.workflow_id in workflows}


@cache
def _owned(name: str, *, few: bool) -> Select[Any]:
    owned = pick_stored(ScheduleRecord, workflow_schedules).where(_s.origin == bindparam("origin"))
    return owned.where(among(name, _s.workflow_id, "workflows")) if few else owned


_ID = names(ScheduleRecord).index("id")


def _instead_of(before: ScheduleRecord, row: Row, now: int, *, heed: bool) -> Row:
    """The row of a schedule that is known already."""
    record = restored(ScheduleRecord, workflow_schedules, row)
    if heed and (before.reason == CANCELLED or before.metadata == HELD):
        return stored_schedule(replace(record, **_kept(before)))
    comes_back = record.active and not before.active
    dealt = {"last_run_at": now if comes_back else before.last_run_at}
    return stored_schedule(replace(record, **dealt | _continued(before, record, now)))


def _continued(before: ScheduleRecord, record: ScheduleRecord, now: int) -> dict[str, Any]:
    """What stays as it was."""
    if record.reason == PAUSED:
        return {}
    same = _timing(before) == _timing(record)
    if before.active and before.next_run_at is not None:
        upcoming = before.next_run_at
        if not same and upcoming - (before.policy.get("jitter") or 0) > now:
            return {}
        if not same and record.next_run_at is not None:
            upcoming = min(upcoming, record.next_run_at)
        return {"next_run_at": upcoming, "active": True, "reason": before.reason if same else None}
    return _kept(before) if same and before.reason not in {*STOPPED, PAUSED} else {}


def _kept(before: ScheduleRecord) -> dict[str, Any]:
    """It does not fire, and goes on so."""
    return {
        "last_run_at": before.last_run_at,
        "next_run_at": None,
        "active": False,
        "reason": PAUSED if before.metadata == HELD else before.reason,  # if it was stopped since
        "metadata": before.metadata,
    }


def _timing(record: ScheduleRecord) -> tuple[Any, ...]:
    """When it fires, as its text says it."""
    bounds = (record.policy.get(each) for each in _BOUNDS)
    return *(getattr(record, each) for each in _TIMING), *bounds


def cancel_schedule(tx: Transaction, schedule_id: str, now: int) -> bool:
    """Stop it for good; False: it is not there, or is stopped already."""
    going = or_(_s.active.is_(True), _s.reason == PAUSED)
    return _stop(tx, CANCELLED, now, _s.id == schedule_id, going, metadata={}) == 1


def pause_schedule(tx: Transaction, schedule_id: str, now: int) -> bool:
    """Let it fire no more until it is resumed; False: it is not there, or does not fire anyway."""
    return _stop(tx, PAUSED, now, _s.id == schedule_id, _s.active.is_(True), metadata=HELD) == 1


def resume_schedule(tx: Transaction, schedule_id: str, next_run_at: int | None, now: int) -> bool:
    """Let it fire again, next at `next_run_at` (None: it has ended); False: it does not pause.

    What was due meanwhile counts as dealt with: nothing is made up for a pause.
    """
    ended = next_run_at is None
    values: dict[str, Any] = {
        "next_run_at": next_run_at,
        "last_run_at": now,
        "active": not ended,
        "reason": ENDED if ended else None,
        "metadata": {},
        "updated_at": now,
    }
    pausing = _s.id == schedule_id, _s.active.is_(False), _s.reason == PAUSED
    return tx.execute(update(workflow_schedules).where(*pausing).values(values)).rowcount == 1


def deactivate(tx: Transaction, workflows: Sequence[str], reason: str, now: int) -> int:
    """Stop every schedule of these workflows; how many were not stopped before."""
    return _stop(tx, reason, now, _s.workflow_id.in_(workflows), _NOT_STOPPED)


_NOT_STOPPED = or_(_s.active.is_(True), _s.reason.is_(None), _s.reason.not_in(STOPPED))


def _stop(
    tx: Transaction,
    reason: str,
    now: int,
    *which: ColumnElement[bool],
    **more: Mapping[str, Any],
) -> int:
    stopped = {"active": False, "next_run_at": None, "reason": reason, "updated_at": now}
    changed = update(workflow_schedules).where(*which).values(stopped | more)
    return tx.execute(changed).rowcount


def due(tx: Transaction, now: int, limit: int) -> list[ScheduleRecord]:
    """Those whose time has come, the longest overdue first."""
    chosen = pick(ScheduleRecord, workflow_schedules).where(_s.next_run_at <= now)
    return every(tx, ScheduleRecord, chosen.order_by(_s.next_run_at, _s.id).limit(limit))


def standing(tx: Transaction, ids: Sequence[str]) -> dict[str, Standing]:
    """These schedules as they are now; nobody else changes them before the transaction ends."""
    rows = all_rows(tx, _standing(tx.dialect.name), {"ids": sorted(ids)})
    return {row[0]: Standing._make(row) for row in rows}


@cache
def _standing(name: str) -> Select[Any]:
    return (
        select(_s.id, _s.next_run_at, _s.last_run_at, _s.updated_at, _w.status, _w.digest)
        .select_from(workflow_schedules.outerjoin(workflows, _w.id == _s.workflow_id))
        .where(among(name, _s.id, "ids"))
        .order_by(_s.id)
        .with_for_update(of=workflow_schedules)
    )


def dealt_later(tx: Transaction, moment: int, limit: int) -> list[ScheduleRecord]:
    """Those that fire, or have come to their end, and are dealt with until after a moment."""
    chosen = pick(ScheduleRecord, workflow_schedules).where(_s.last_run_at > moment)
    going = or_(_s.active.is_(True), _s.reason.not_in((*STOPPED, PAUSED)))
    return every(tx, ScheduleRecord, chosen.where(going).order_by(_s.id).limit(limit))


def rewind(tx: Transaction, steps: Sequence[tuple[ScheduleRecord, int | None]], now: int) -> int:
    """Let each go on from now, next at its time (None: it has ended); how many did.

    One that somebody changed meanwhile is left as it is.
    """
    rewound = 0
    for before, upcoming in steps:
        same = _s.id == before.id, _s.last_run_at == before.last_run_at
        values = {
            "last_run_at": now,
            "next_run_at": upcoming,
            "active": upcoming is not None,
            "reason": before.reason if upcoming is None else None,
        }
        rewound += tx.execute(update(workflow_schedules).where(*same).values(values)).rowcount
    return rewound


def next_due(tx: Transaction) -> int | None:
    """When the next schedule is due, epoch milliseconds; None: none is."""
    soonest: int | None = tx.scalar(
        select(func.min(_s.next_run_at)).where(_s.next_run_at.is_not(None))
    )
    return soonest


Step = tuple[str, int | None, int | None, str | None]
"""How a schedule goes on: (id, last_run_at, next_run_at, reason); see `advance`."""


def advance(tx: Transaction, steps: Sequence[Step]) -> int:
    """They fired, or a fire was left out (`reason`); without a next time one stops.

    `last_run_at` None leaves it as it is. How many went on: one that was stopped meanwhile stays
    so. Those that go on alike, as most that are due together do, are one statement: SQLite's driver
    lets other threads go first at each row that it is given by itself.
    """
    alike: dict[tuple[int | None, int | None, str | None], list[str]] = defaultdict(list)
    for schedule_id, last, upcoming, reason in steps:
        alike[last, upcoming, reason].append(schedule_id)
    advanced = 0
    for (last, upcoming, reason), ids in alike.items():
        ended = upcoming is None
        step = {
            "dealt": last,
            "upcoming": upcoming,
            "going": not ended,
            "why": reason or (ENDED if ended else None),
        }
        advanced += change(tx, _advance(tx.dialect.name), step | {"schedules": ids})
    return advanced


@cache
def _advance(name: str) -> Update:
    return (
        update(workflow_schedules)
        .where(among(name, _s.id, "schedules"), _s.active.is_(True))
        .values(
            last_run_at=func.coalesce(bindparam("dealt", type_=BigInteger), _s.last_run_at),
            next_run_at=bindparam("upcoming", type_=BigInteger),
            active=bindparam("going", type_=Boolean),
            reason=bindparam("why", type_=Text),
        )
    )
