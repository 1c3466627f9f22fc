"""Schedules: what is due, what comes next, and whose they are."""

from dataclasses import replace

from controller.store import ledger
from controller.store.ledger_schedules import (
    add_schedule,
    cancel_schedule,
    deactivate,
    due,
    next_due,
    pause_schedule,
    resume_schedule,
    schedules,
)
from controller.store.ledger_schedules import advance as advance_many
from controller.store.ledger_schedules import schedule as find
from controller.store.records import ScheduleRecord
from controller.store.tables import Transaction
from tests.store.sample import NOW, put_schedules, schedule


def found(tx: Transaction, schedule_id: str) -> ScheduleRecord:
    """The schedule, which is there."""
    record = find(tx, schedule_id)
    assert record is not None
    return record


def advance(
    tx: Transaction,
    schedule_id: str,
    *,
    last_run_at: int | None,
    next_run_at: int | None,
    reason: str | None = None,
) -> bool:
    """Whether the one schedule went on."""
    return advance_many(tx, [(schedule_id, last_run_at, next_run_at, reason)]) == 1


def test_a_schedule_is_added_once(tx: Transaction) -> None:
    """The same id again changes nothing."""
    assert add_schedule(tx, schedule(inputs={"x": 1}, metadata={"m": 1}))
    assert not add_schedule(tx, schedule(inputs={"x": 2}))
    assert found(tx, "s") == schedule(inputs={"x": 1}, metadata={"m": 1})
    assert find(tx, "other") is None


def test_the_longest_overdue_comes_first(tx: Transaction) -> None:
    """What is due now is due; what has no next time never is."""
    for name, after in (("a", 30), ("b", 10), ("c", 20)):
        add_schedule(tx, schedule(name, next_run_at=NOW + after))
    add_schedule(tx, schedule("never", next_run_at=None, active=False))
    assert next_due(tx) == NOW + 10
    assert [each.id for each in due(tx, NOW + 20, 9)] == ["b", "c"]
    assert [each.id for each in due(tx, NOW + 99, 1)] == ["b"]
    assert due(tx, NOW + 9, 9) == []


def test_a_schedule_goes_on_until_it_has_no_next_time(tx: Transaction) -> None:
    """It fires, it leaves a fire out and says why, it stops."""
    add_schedule(tx, schedule())
    assert advance(tx, "s", last_run_at=NOW + 1000, next_run_at=NOW + 2000)
    assert advance(tx, "s", last_run_at=None, next_run_at=NOW + 3000, reason="overlap")
    record = found(tx, "s")
    assert (record.last_run_at, record.next_run_at) == (NOW + 1000, NOW + 3000)
    assert (record.active, record.reason) == (True, "overlap")
    assert advance(tx, "s", last_run_at=NOW + 3000, next_run_at=None)
    assert not found(tx, "s").active
    assert next_due(tx) is None
    assert not advance(tx, "s", last_run_at=NOW, next_run_at=NOW), "it was stopped"


def test_a_cancelled_schedule_is_not_due(tx: Transaction) -> None:
    """Once; the second time says that there was nothing to cancel."""
    add_schedule(tx, schedule())
    assert cancel_schedule(tx, "s", NOW + 1)
    assert not cancel_schedule(tx, "s", NOW + 2)
    assert not cancel_schedule(tx, "other", NOW)
    assert due(tx, NOW + 10_000, 9) == []
    assert found(tx, "s").reason == "cancelled"


def test_a_paused_schedule_is_not_due_until_it_is_resumed(tx: Transaction) -> None:
    """It is listed among those that pause; what was due meanwhile counts as dealt with."""
    add_schedule(tx, schedule())
    assert not resume_schedule(tx, "s", NOW + 1, NOW), "it does not pause"
    assert pause_schedule(tx, "s", NOW + 1)
    assert not pause_schedule(tx, "s", NOW + 2), "it pauses already"
    assert due(tx, NOW + 10_000, 9) == []
    assert schedules(tx) == []
    assert [(each.id, each.reason) for each in schedules(tx, paused=True)] == [("s", "paused")]
    assert not advance(tx, "s", last_run_at=NOW, next_run_at=NOW), "a fire does not resume it"
    assert resume_schedule(tx, "s", NOW + 9000, NOW + 3)
    record = found(tx, "s")
    assert (record.active, record.reason, record.next_run_at) == (True, None, NOW + 9000)
    assert (record.last_run_at, record.updated_at) == (NOW + 3, NOW + 3)
    assert not resume_schedule(tx, "s", NOW + 9000, NOW + 4)


def test_a_stopped_schedule_neither_pauses_nor_resumes(tx: Transaction) -> None:
    """Cancelled is for good; one that has no time left when it is resumed has ended."""
    add_schedule(tx, schedule())
    cancel_schedule(tx, "s", NOW + 1)
    assert not pause_schedule(tx, "s", NOW + 2)
    assert not resume_schedule(tx, "s", NOW + 9000, NOW + 3)
    assert found(tx, "s").reason == "cancelled"
    assert schedules(tx, paused=True) == []
    add_schedule(tx, schedule("late"))
    assert pause_schedule(tx, "late", NOW)
    assert resume_schedule(tx, "late", None, NOW + 1)
    assert (found(tx, "late").active, found(tx, "late").reason) == (False, "ended")


def test_a_source_replaces_its_own_schedules(tx: Transaction) -> None:
    """Those of other workflows and origins stay, and added ones; what is gone is stopped."""
    add_schedule(tx, schedule("api", origin="api"))
    add_schedule(tx, schedule("added"))
    add_schedule(tx, schedule("other", workflow_id="v"))
    put_schedules(tx, "here", {"w": [schedule("w/a"), schedule("w/b")]}, now=NOW)
    put_schedules(tx, "here", {"w": [schedule("w/b"), schedule("w/c")]}, now=NOW + 1)
    assert [each.id for each in schedules(tx, "w")] == ["added", "api", "w/b", "w/c"]
    assert [each.id for each in schedules(tx, "v")] == ["other"]
    assert (found(tx, "w/a").reason, found(tx, "w/a").updated_at) == ("removed", NOW + 1)
    assert len(schedules(tx, active=None)) == 6


def test_what_no_definition_has_any_more_is_stopped(tx: Transaction) -> None:
    """What pauses or has ended too; what a person cancelled stays so, and comes back so."""
    ids = ("w/going", "w/paused", "w/ended", "w/held", "w/cancelled")
    still = {"active": False, "next_run_at": None}
    there = [schedule(each) for each in ids]
    there[1] = schedule("w/paused", **still, reason="paused")
    put_schedules(tx, "here", {"w": there}, now=NOW)
    advance(tx, "w/ended", last_run_at=NOW, next_run_at=None)
    for each in ("w/held", "w/cancelled"):
        pause_schedule(tx, each, NOW)
    cancel_schedule(tx, "w/cancelled", NOW)
    put_schedules(tx, "here", {"w": []}, now=NOW + 1)
    assert schedules(tx, paused=True) == []
    assert [found(tx, each).reason for each in ids] == ["removed"] * 4 + ["cancelled"]
    rows = {"w": [ledger.stored_schedule(schedule(each)) for each in ids]}
    ledger.put_schedules(tx, "here", rows, now=NOW + 2, heed=True)
    assert [found(tx, each).reason for each in ids] == [None, None, None, "paused", "cancelled"]
    assert resume_schedule(tx, "w/held", NOW + 9000, NOW + 3)


def test_what_pauses_can_be_stopped(tx: Transaction) -> None:
    """Cancelled, or with its workflow; what has ended by itself was not there to be cancelled."""
    for each in ("a", "b", "c"):
        add_schedule(tx, schedule(each))
        pause_schedule(tx, each, NOW)
    assert cancel_schedule(tx, "a", NOW + 1)
    assert not cancel_schedule(tx, "a", NOW + 2)
    assert resume_schedule(tx, "b", None, NOW + 1)
    assert not cancel_schedule(tx, "b", NOW + 2)
    assert deactivate(tx, ["w"], "archived", NOW + 3) == 2
    assert [found(tx, each).reason for each in ("a", "b", "c")] == [
        "cancelled", "archived", "archived",
    ]  # fmt: skip
    assert schedules(tx, paused=True) == []


def test_what_did_not_change_keeps_when_it_fires(tx: Transaction) -> None:
    """Other inputs leave the times alone; another timing brings its own next time."""
    put_schedules(tx, "here", {"w": [schedule("w/s")]}, now=NOW)
    advance(tx, "w/s", last_run_at=NOW + 1000, next_run_at=NOW + 2000)
    later = schedule("w/s", inputs={"x": 1}, next_run_at=NOW + 9000, created_at=NOW + 9)
    put_schedules(tx, "here", {"w": [later]}, now=NOW)
    record = found(tx, "w/s")
    assert (record.last_run_at, record.next_run_at) == (NOW + 1000, NOW + 2000)
    assert (record.inputs, record.created_at) == ({"x": 1}, NOW)

    other = replace(later, policy={"jitter": 1000})
    put_schedules(tx, "here", {"w": [other]}, now=NOW)
    assert found(tx, "w/s").next_run_at == NOW + 9000
    assert found(tx, "w/s").last_run_at == NOW + 1000


def test_a_schedule_that_comes_back_does_not_make_up_for_its_absence(tx: Transaction) -> None:
    """Removed or paused and then active again: the new record says when it fires next."""
    put_schedules(tx, "here", {"w": [schedule("w/s")]}, now=NOW)
    put_schedules(tx, "here", {"w": []}, now=NOW + 1)
    put_schedules(tx, "here", {"w": [schedule("w/s", next_run_at=NOW + 9000)]}, now=NOW + 2)
    assert (found(tx, "w/s").next_run_at, found(tx, "w/s").reason) == (NOW + 9000, None)
    paused = schedule("w/s", active=False, next_run_at=None, reason="paused")
    put_schedules(tx, "here", {"w": [paused]}, now=NOW + 3)
    assert next_due(tx) is None
    put_schedules(tx, "here", {"w": [schedule("w/s", next_run_at=NOW + 12_000)]}, now=NOW + 4)
    assert next_due(tx) == NOW + 12_000
    assert found(tx, "w/s").last_run_at == NOW + 4, "what was due before is dealt with"


def test_what_came_to_its_end_stays_ended(tx: Transaction) -> None:
    """A `once` that fired is put again by every reconcile: it does not fire again."""
    once = schedule("w/s", schedule_type="once", cron_expression=None, at=NOW + 1000)
    put_schedules(tx, "here", {"w": [once]}, now=NOW)
    advance(tx, "w/s", last_run_at=NOW + 1000, next_run_at=None)
    put_schedules(tx, "here", {"w": [once]}, now=NOW + 2000)
    assert next_due(tx) is None
    assert not found(tx, "w/s").active
