"""Retention: what goes, and what stays."""

from sqlalchemy import func, insert, select

from controller.store.connecting import connect, parse_url
from controller.store.ledger_checkpoints import checkpoints
from controller.store.ledger_definitions import put_version, put_workflow, version
from controller.store.ledger_executions import create, executions, record_outcome
from controller.store.ledger_logs import add_logs, audit, audits, logs
from controller.store.ledger_schedules import (
    add_schedule,
    advance,
    cancel_schedule,
    pause_schedule,
    schedules,
)
from controller.store.ledger_signals import add_signal
from controller.store.records import AuditRecord, LogRecord, Outcome
from controller.store.retention import (
    DAY,
    Keep,
    days_before,
    expired,
    is_going,
    prune,
    remove,
    remove_audits,
    remove_logs,
    remove_schedules,
    remove_versions,
    workflows_executed,
)
from controller.store.tables import (
    Transaction,
    execution_checkpoints,
    metadata,
)
from tests.store.sample import NOW, new, populate, put_schedules, schedule, signal
from tests.store.sample import version as definition
from tests.store.sample import workflow as defined

FOREVER = Keep()


def ended(tx: Transaction, execution_id: str, at: int, **given: object) -> None:
    """An execution that was created and ended then, with something of everything."""
    create(tx, new(execution_id, at, **given))
    add_signal(tx, signal(f"g-{execution_id}", execution_id))
    record_outcome(tx, execution_id, Outcome("completed", completed_at=at))
    add_logs(tx, [LogRecord(execution_id, "info", "x", at) for _ in range(3)])
    record(tx, execution_id, 4)


def record(tx: Transaction, execution_id: str, events: int) -> None:
    """Checkpoints 0, 1, 2, …."""
    row = {"execution_id": execution_id, "type": "x", "attempt": 1, "context": {}, "created_at": 1}
    tx.execute(insert(execution_checkpoints), [row | {"seq": seq} for seq in range(events)])


def left(tx: Transaction) -> list[str]:
    """The executions that are there."""
    return sorted(each.id for each in executions(tx, limit=99))


def rows(tx: Transaction) -> int:
    """Rows of all tables but the definitions."""
    counted = [
        tx.scalar(select(func.count()).select_from(table)) or 0
        for table in metadata.sorted_tables
        if table.name != "workflow_versions"
    ]
    return sum(counted)


def test_the_old_go_with_all_they_had(tx: Transaction) -> None:
    """Older than the days of their workflow, counted from their end; nothing of them stays."""
    ended(tx, "old", NOW - 10 * DAY)
    ended(tx, "young", NOW - DAY)
    ended(tx, "kept", NOW - 10 * DAY, workflow_id="v")
    assert workflows_executed(tx) == ["v", "w"]
    assert expired(tx, "w", FOREVER, NOW) == []
    assert expired(tx, "w", Keep(days=5), NOW) == ["old"]
    assert expired(tx, "v", Keep(days=50), NOW) == []
    before = rows(tx)
    assert prune(tx, NOW, Keep(days=5), {"v": Keep(days=50)}) == 1
    assert left(tx) == ["kept", "young"]
    assert before - rows(tx) == 1 + 1 + 3 + 4
    assert prune(tx, NOW, Keep(days=5), {"v": Keep(days=50)}) == 0


def test_the_newest_stay(tx: Transaction) -> None:
    """So many of each workflow; ids decide among those of one millisecond."""
    for number in range(5):
        ended(tx, f"w{number}", NOW - 5 + number // 2)
        ended(tx, f"v{number}", NOW - 5, workflow_id="v")
    while prune(tx, NOW, Keep(last=2), {"v": Keep(last=4)}, limit=2):
        pass
    assert left(tx) == ["v1", "v2", "v3", "v4", "w3", "w4"]
    while prune(tx, NOW, Keep(last=0), {"v": FOREVER}):
        pass
    assert left(tx) == ["v1", "v2", "v3", "v4"]


def test_any_bound_is_one(tx: Transaction) -> None:
    """Longer ago than there is time, or more than there can be, is for ever."""
    ended(tx, "old", 1)
    assert expired(tx, "w", Keep(days=10**15, last=10**20), NOW) == []
    assert expired(tx, "w", Keep(days=10**15, last=1), NOW) == []
    assert remove_audits(tx, days_before(NOW, 10**15)) == 0
    assert days_before(NOW, 2) == NOW - 2 * DAY


def test_what_has_not_ended_stays_with_its_whole_tree(tx: Transaction) -> None:
    """However old; and a child that ended stays until its root has."""
    create(tx, new("pending", 1))
    create(tx, new("root", 1))
    ended(tx, "child", 1, root_id="root", parent_id="root")
    ended(tx, "other root", 1)
    create(tx, new("grandchild", 1, root_id="other root", parent_id="other root"))
    assert prune(tx, NOW, Keep(days=0, last=0), {}) == 0
    record_outcome(tx, "root", Outcome("failed", completed_at=NOW))
    assert prune(tx, NOW, Keep(last=0), {}) == 1
    assert left(tx) == ["grandchild", "other root", "pending"]


def test_a_large_tree_goes_in_small_steps(tx: Transaction) -> None:
    """No call deletes more than it may; the root goes last, so that it is found until then."""
    ended(tx, "root", 1)
    for number in range(5):
        ended(tx, f"c{number}", 1, root_id="root", parent_id="root")
    total, steps = rows(tx), 0
    while roots := expired(tx, "w", Keep(days=1), NOW):
        assert roots == ["root"]
        removed = remove(tx, roots, rows=7)
        assert 0 < removed <= 7
        total, steps = total - removed, steps + 1
        assert rows(tx) == total
    assert (total, left(tx)) == (0, [])
    assert steps == 8


def test_of_a_large_tree_nothing_is_left_without_what_started_it(tx: Transaction) -> None:
    """What is deep goes first, whatever it is called; its root says that it goes, once it does."""
    ended(tx, "root", 1)
    for depth, name in enumerate(("a", "c", "b"), 1):
        above = "root" if depth == 1 else "ac"[depth - 2]
        ended(tx, name, 1, root_id="root", parent_id=above, depth=depth)
    met = []
    while roots := expired(tx, "w", Keep(days=1), NOW):
        remove(tx, roots, rows=1)
        there = {each.id: each for each in executions(tx, limit=99)}
        assert all(each.parent_id in there for each in there.values() if each.parent_id)
        assert all(is_going(each) for each in there.values() if each.id == "root")
        if len(there) not in met:
            met.append(len(there))
    assert met == [4, 3, 2, 1, 0]


def test_nobody_meets_an_execution_of_which_something_is_gone(tx: Transaction) -> None:
    """Of many trees that do not fit together, one call removes some, and nothing of the others."""
    for number in range(9):
        ended(tx, f"e{number}", number)
    each = rows(tx) // 9
    while roots := expired(tx, "w", Keep(days=1), NOW):
        assert 0 < remove(tx, roots, rows=3 * each + 2) <= 3 * each
        assert rows(tx) == each * len(left(tx))
        assert [len(checkpoints(tx, name)) for name in left(tx)] == [4] * len(left(tx))
    assert rows(tx) == 0


def test_two_controllers_leave_nothing_behind(postgres_url: str) -> None:
    """While one removes, the other removes nothing, and does not wait; then it goes on."""
    engines = connect(parse_url(postgres_url), 1), connect(parse_url(postgres_url), 1)
    with engines[0].writer.connect() as one, engines[1].writer.connect() as other:
        populate(one)
        ended(one, "a", 1)
        ended(one, "b", 1)
        one.commit()
        assert remove(one, ["a", "b"], rows=3) == 3
        other.exec_driver_sql("SET LOCAL lock_timeout = '5s'")
        assert remove(other, ["a", "b"], rows=3) == 0
        one.commit()
        other.commit()
        while remove(other, ["a", "b"], rows=3):
            pass
        assert rows(other) == 0
        other.commit()
    for each in engines:
        each.writer.dispose()
        each.reader.dispose()


def test_logs_and_audits_go_by_their_age(tx: Transaction) -> None:
    """Up to the limit, and only what is older."""
    add_logs(tx, [LogRecord("e", "info", "x", NOW + number) for number in range(5)])
    assert remove_logs(tx, NOW + 3, limit=2) == 2
    assert remove_logs(tx, NOW + 3) == 1
    assert [each.timestamp for each in logs(tx, "e")] == [NOW + 3, NOW + 4]
    for number in range(3):
        audit(tx, AuditRecord(NOW + number, "me", "x", None, {}))
    assert remove_audits(tx, NOW + 2) == 2
    assert len(audits(tx)) == 1


def test_a_definition_stays_while_anything_points_to_it(tx: Transaction) -> None:
    """The current one of a workflow, and those that executions are pinned to."""
    put_workflow(tx, defined(digest="current"), definition("current"))
    put_version(tx, definition("unused"))
    put_version(tx, definition("young", created_at=NOW + 1))
    ended(tx, "e", NOW)
    assert remove_versions(tx, NOW + 1) == 1
    assert version(tx, "unused") is None
    for digest in ("current", "young", "d"):
        assert version(tx, digest) is not None


def test_only_schedules_that_somebody_stopped_go(tx: Transaction) -> None:
    """One that came to its end would be new to the next reconcile, and fire again."""
    put_schedules(tx, "here", {"w": [schedule(f"w/{each}") for each in "abcd"]}, now=NOW)
    advance(tx, [("w/a", NOW, None, None)])
    cancel_schedule(tx, "w/b", NOW)
    cancel_schedule(tx, "w/c", NOW + 2)
    assert remove_schedules(tx, NOW + 1) == 1
    assert [each.id for each in schedules(tx, active=None)] == ["w/a", "w/c", "w/d"]


def test_an_added_schedule_goes_when_it_is_over(tx: Transaction) -> None:
    """By when it last fired, however long ago it was added; one that pauses or goes on stays."""
    for each in ("going", "left out", "once", "past", "paused"):
        add_schedule(tx, schedule(each))
    advance(tx, [("once", NOW + 5000, None, None), ("left out", NOW + 3000, None, "missed")])
    pause_schedule(tx, "paused", NOW)
    add_schedule(tx, schedule("never", active=False, next_run_at=None, reason="ended"))
    assert remove_schedules(tx, NOW) == 0
    assert remove_schedules(tx, NOW + 4000) == 2
    assert remove_schedules(tx, NOW + 6000) == 1
    assert [each.id for each in schedules(tx, active=None)] == ["going", "past", "paused"]
