"""Executions: created once, listed, counted, ended; their signals."""

from collections.abc import Callable
from dataclasses import fields
from datetime import UTC, datetime

import pytest

from controller.store.identity import new_id
from controller.store.ledger_checkpoints import checkpoints, checkpoints_of, put_checkpoints
from controller.store.ledger_claims import claim
from controller.store.ledger_executions import (
    Place,
    active,
    cancel_pending,
    children,
    create,
    create_all,
    created,
    execution,
    executions,
    executions_like,
    fired,
    going,
    prepared,
    record_outcome,
    status_counts,
    unfinished_of_schedules,
)
from controller.store.ledger_signals import add_signal, consume, signals, signals_for
from controller.store.records import (
    CheckpointRecord,
    ExecutionRecord,
    NewExecution,
    Outcome,
)
from controller.store.retention import remove
from controller.store.tables import Transaction, execution_checkpoints
from tests.store.sample import NOW, new, signal


def test_an_execution_is_created_once(tx: Transaction) -> None:
    """The same id again changes nothing and says so."""
    assert create(tx, new("e", inputs={"x": 1}))
    assert not create(tx, new("e", inputs={"x": 2}))
    found = execution(tx, "e")
    assert found is not None
    assert (found.inputs, found.status, found.root_id) == ({"x": 1}, "pending", "e")
    assert execution(tx, "other") is None


def test_what_is_said_of_a_created_execution_is_what_is_read(tx: Transaction) -> None:
    """Nobody has to read a row again that was just written, be its inputs tuples or times."""
    inputs = {"a": (1, {"b": None}), "at": datetime(2026, 1, 2, tzinfo=UTC)}
    for each in (new("e", inputs=inputs), new("f", root_id="e", parent_id="e", depth=1)):
        create(tx, each)
        assert created(each) == execution(tx, each.id)


def test_one_fire_makes_one_execution(tx: Transaction) -> None:
    """(schedule, due time) is unique; two fires of a schedule, and two schedules, are not."""
    assert create(tx, new("a", schedule_id="s", due_at=NOW))
    assert not create(tx, new("b", schedule_id="s", due_at=NOW))
    assert create(tx, new("c", schedule_id="s", due_at=NOW + 1))
    assert create(tx, new("d", schedule_id="t", due_at=NOW))
    assert create(tx, new("e")), "executions of no schedule do not collide"
    assert create(tx, new("f"))


def test_an_execution_needs_its_definition(tx: Transaction) -> None:
    """A digest that nobody stored could never be executed."""
    with pytest.raises(Exception, match=r"FOREIGN KEY|foreign key"):
        create(tx, new("e", digest="unknown"))


def test_every_field_survives(tx: Transaction) -> None:
    """What was given is what is found."""
    given = NewExecution(
        id="e",
        workflow_id="w",
        workflow_version="2",
        digest="d",
        created_at=NOW,
        inputs={"text": "ü🙂\0", "list": [1, 2.5, None, True], "big": 2**70},
        trigger={"type": "scheduled", "due_at": NOW},
        policy={"attempts": 3},
        context={"labels": {}},
        parent_id="p",
        parent_step="a/1",
        root_id="r",
        depth=2,
        schedule_id="s",
        due_at=NOW,
        concurrency_key="w:k",
        concurrency_max=3,
        attempt_of="before",
    )
    create(tx, given)
    found = execution(tx, "e")
    assert found is not None
    for each in fields(given):
        assert getattr(found, each.name) == getattr(given, each.name), each.name


def test_the_newest_come_first_page_by_page(tx: Transaction) -> None:
    """`before` is where the page before ended, also among those of one millisecond."""
    for number in range(10):
        create(tx, new(f"e{number}", NOW + number // 3))
    assert paged(tx, lambda _: None) == [f"e{number}" for number in reversed(range(10))]


def paged(tx: Transaction, between: Callable[[ExecutionRecord], None]) -> list[str]:
    """All executions in pages of four; something happens after each, given its last one."""
    ids: list[str] = []
    before: Place | None = None
    for _ in range(4):
        for last in (found := executions(tx, limit=4, before=before)):
            before = Place(last.created_at, last.id)
            ids.append(last.id)
        if found:
            between(found[-1])
    return ids


def test_what_comes_and_goes_moves_no_page(tx: Transaction) -> None:
    """What was there and stays is on one page, what comes on none, whatever is pruned."""
    for number in range(10):
        create(tx, new(f"e{number}", NOW + number // 3))
    come = iter(range(100))

    def change(last: ExecutionRecord) -> None:
        create(tx, new(f"later{next(come)}", NOW + 50))
        create(tx, new(f"later{next(come)}", NOW + 50))
        remove(tx, [last.id])

    assert paged(tx, change) == [f"e{number}" for number in reversed(range(10))]


def test_executions_are_chosen_by_workflow_status_and_tree(tx: Transaction) -> None:
    """Each filter, and two together."""
    create(tx, new("a"))
    create(tx, new("b", workflow_id="v"))
    create(tx, new("c", workflow_id="v", root_id="a", parent_id="a"))
    record_outcome(tx, "b", Outcome("failed", completed_at=NOW))

    def ids(found: list[ExecutionRecord]) -> list[str]:
        return sorted(each.id for each in found)

    assert ids(executions(tx, "v")) == ["b", "c"]
    assert ids(executions(tx, status="pending")) == ["a", "c"]
    assert ids(executions(tx, "v", "failed")) == ["b"]
    assert ids(executions(tx, root="a")) == ["a", "c"]
    assert [each.id for each in children(tx, "a")] == ["c"]


def test_executions_are_found_by_how_their_id_begins(tx: Transaction) -> None:
    """In order, up to the limit; what looks like a pattern is a character."""
    for name in ("019-a", "019-b", "019_c", "018", "0190"):
        create(tx, new(name))
    found = [each.id for each in executions_like(tx, "019-", limit=9)]
    assert found == ["019-a", "019-b"]
    assert [each.id for each in executions_like(tx, "019-b", limit=9)] == ["019-b"]
    assert executions_like(tx, "%", limit=9) == []
    assert len(executions_like(tx, "", limit=2)) == 2


def test_the_unfinished_executions_of_a_schedule(tx: Transaction) -> None:
    """In the order they were due; not those that ended, and not another schedule's."""
    for name, due_at in (("b", 2), ("a", 1), ("c", 3)):
        create(tx, new(name, schedule_id="s", due_at=due_at))
    create(tx, new("d", schedule_id="t", due_at=1))
    record_outcome(tx, "a", Outcome("completed", completed_at=NOW))
    create(tx, new("e", schedule_id="s", due_at=4, trigger={"backfill": True}))
    going = [("b", "pending"), ("c", "pending")]
    assert unfinished_of_schedules(tx, ["s", "u"]) == {"s": going}


def test_many_are_created_at_once(tx: Transaction) -> None:
    """Those whose id or fire is there already are left as they are, and not named."""
    create(tx, new("a", schedule_id="s", due_at=1))
    many = [
        new("a", schedule_id="s", due_at=9),
        new("b", schedule_id="s", due_at=1),
        new("c", schedule_id="s", due_at=2),
        new("d"),
    ]
    assert create_all(tx, [prepared(each) for each in many]) == {"c", "d"}
    assert fired(tx, "s", [1, 2, 9]) == {1: "a", 2: "c"}
    assert fired(tx, "s", []) == fired(tx, "t", [1]) == {}
    assert create_all(tx, []) == set()


def test_a_new_execution_may_begin_with_a_history(tx: Transaction) -> None:
    """Another one's events, numbered from the start."""
    for name in ("a", "b"):
        create(tx, new(name))
    events = [CheckpointRecord("a", seq, "x", "s", 1, {"n": seq}, NOW) for seq in (3, 5)]
    put_checkpoints(tx, "b", events)
    put_checkpoints(tx, "b", [])
    found = [(each.seq, each.context["n"]) for each in checkpoints(tx, "b")]
    assert found == [(0, 3), (1, 5)]


def test_executions_are_counted(tx: Transaction) -> None:
    """By status, of all and of one workflow; those that have not ended, by workflow."""
    for name in ("a", "b", "c"):
        create(tx, new(name, concurrency_key="k", concurrency_max=1))
    create(tx, new("d", workflow_id="v"))
    record_outcome(tx, "a", Outcome("completed", completed_at=NOW))
    assert status_counts(tx) == {"completed": 1, "pending": 3}
    assert status_counts(tx, "v") == {"pending": 1}
    assert status_counts(tx, "w") == {"completed": 1, "pending": 2}
    assert going(tx) == {"v": 1, "w": 2}
    assert [each.id for each in active(tx, "k")] == ["b", "c"]


def test_only_what_nobody_started_is_cancelled_at_once(tx: Transaction) -> None:
    """Pending: cancelled. Claimed, ended or unknown: False, and nothing changes."""
    create(tx, new("a"))
    create(tx, new("b"))
    assert cancel_pending(tx, "a", NOW + 5)
    found = execution(tx, "a")
    assert found is not None
    assert (found.status, found.completed_at) == ("cancelled", NOW + 5)
    claim(tx, "me", lease_until=NOW + 10, now=NOW, limit=9)
    assert not cancel_pending(tx, "a", NOW)
    assert not cancel_pending(tx, "b", NOW)
    assert not cancel_pending(tx, "nowhere", NOW)


def test_checkpoints_are_read_from_anywhere(tx: Transaction) -> None:
    """All, those after a number, and those of many executions at once."""
    for name in ("a", "b", "c"):
        create(tx, new(name))
    rows = [
        {
            "execution_id": name,
            "seq": seq,
            "type": "completed",
            "step_id": None,
            "attempt": 1,
            "context": {"n": seq},
            "created_at": NOW,
        }
        for name in ("a", "b")
        for seq in (2, 0, 1)
    ]
    tx.execute(execution_checkpoints.insert(), rows)
    assert [each.seq for each in checkpoints(tx, "a")] == [0, 1, 2]
    assert [each.context for each in checkpoints(tx, "a", 1)] == [{"n": 2}]
    found = checkpoints_of(tx, ["b", "c", "a"])
    assert {name: len(each) for name, each in found.items()} == {"b": 3, "c": 0, "a": 3}
    assert checkpoints_of(tx, []) == {}


def test_signals_wait_in_the_order_they_were_sent(tx: Transaction) -> None:
    """Whatever their ids and times; each once; consumed ones are gone."""
    create(tx, new("a"))
    create(tx, new("b"))
    assert add_signal(tx, signal("g2", "a", created_at=NOW + 9))
    assert add_signal(tx, signal("g1", "a", payload={"x": 1}))
    assert add_signal(tx, signal("g3", "b"))
    assert not add_signal(tx, signal("g1", "b")), "sent before"
    assert not add_signal(tx, signal("g4", "nowhere"))
    assert [each.id for each in signals(tx, ["a", "b"])] == ["g2", "g1", "g3"]
    assert consume(tx, ["g2"], NOW) == 1
    assert consume(tx, ["g2"], NOW) == 0
    assert [each.id for each in signals(tx, ["a"])] == ["g1"]
    claim(tx, "me", lease_until=NOW + 10, now=NOW, limit=1)
    assert [each.id for each in signals_for(tx, "me")] == ["g1"]


def test_nothing_waits_for_an_execution_that_ended(tx: Transaction) -> None:
    """What was sent before its end is settled; what is sent after goes nowhere."""
    create(tx, new("a"))
    add_signal(tx, signal("g1", "a"))
    record_outcome(tx, "a", Outcome("completed", completed_at=NOW))
    assert signals(tx, ["a"]) == []
    assert not add_signal(tx, signal("g2", "a"))


def test_ids_sort_by_time_and_are_unique() -> None:
    """Version 7: later milliseconds sort later, and so do later ids of one millisecond."""
    ids = [new_id(NOW + step) for step in range(5) for _ in range(500)]
    assert ids == sorted(ids)
    assert len(set(ids)) == len(ids)
    assert all(len(each) == 36 and each[14] == "7" and each[19] in "89ab" for each in ids)
    assert int(ids[0].replace("-", "")[:12], 16) == NOW
    assert new_id(0) < new_id(1) < ids[0], "also when the clock is set back"
