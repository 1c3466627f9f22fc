"""Fires as they are recorded: claimed as they are created, and only what still is as it was."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text

from controller.admission import Admission
from controller.core.definition import Concurrency
from controller.fires import Fires, record_fires
from controller.store import ledger
from controller.store.connecting import connect, parse_url
from controller.store.ledger_definitions import set_status
from controller.store.records import Claimant, ExecutionRecord
from controller.store.tables import Transaction
from tests.eventually import eventually
from tests.store.sample import NOW, new, opened, put_workflows, schedule, version, workflow

DUE = NOW + 1000
LEASE = DUE + 90_000


def me(room: int = 9) -> Claimant:
    """A worker with so much room."""
    return Claimant("me", LEASE, room)


def fires(
    tx: Transaction, name: str, concurrency: Concurrency | None = None, **given: Any
) -> Fires:
    """A recorded schedule of the workflow `w`, which is due, and what a look at it found."""
    put_workflows(tx, [(workflow(), version())])
    record = schedule(name, next_run_at=DUE, **given)
    ledger.add_schedule(tx, record)
    key = {} if concurrency is None else {"concurrency_key": "w", "concurrency_max": 1}
    execution = new(f"e-{name}", DUE, schedule_id=name, due_at=DUE, **key)
    return Fires(record, DUE, DUE + 1000, 0).answered([Admission(execution, concurrency)])


def found(tx: Transaction, execution_id: str) -> ExecutionRecord:
    """The execution, which is there."""
    record = ledger.execution(tx, execution_id)
    assert record is not None
    return record


def test_what_is_claimed_as_it_is_created_is_as_if_it_was_claimed(tx: Transaction) -> None:
    """The same row, and the same record as is read from it."""
    given = {"inputs": {"x": 1}, "trigger": {"type": "manual"}, "context": {"a": [1]}}
    ledger.create(tx, new("a", NOW, **given))
    [one] = ledger.claim(tx, "me", lease_until=LEASE, now=DUE, limit=1)
    [two] = ledger.create_claimed(tx, [ledger.prepared(new("b", NOW, **given))], me(), DUE)
    assert two == found(tx, "b") == replace(one, id="b", root_id="b")
    assert ledger.create_claimed(tx, [ledger.prepared(new("b", NOW, **given))], me(), DUE) == []
    assert ledger.claim(tx, "you", lease_until=LEASE, now=DUE, limit=9) == []


def test_what_never_began_is_given_back_as_if_it_was_never_claimed(tx: Transaction) -> None:
    """Pending, and its next claim is its first: no step of it can have been interrupted."""
    ledger.create_claimed(tx, [ledger.prepared(new(each)) for each in "ab"], me(), DUE)
    ledger.give_back(tx, "you", ["a"])
    assert found(tx, "a").owner == "me"
    ledger.give_back(tx, "me", ["a"])
    assert found(tx, "b").owner == "me"
    record = found(tx, "a")
    assert (record.status, record.owner, record.started_at) == ("pending", None, None)
    [again] = ledger.claim(tx, "you", lease_until=LEASE, now=DUE, limit=9)
    assert (again.id, again.claims, again.owner) == ("a", 1, "you")


def test_as_many_begin_as_there_is_room_for(tx: Transaction) -> None:
    """The others are pending; every schedule goes on to its next time."""
    looked = [fires(tx, name) for name in "abc"]
    fired = record_fires(tx, looked, DUE, me(2))
    assert fired.verdicts == [["created"]] * 3
    assert [each.id for each in fired.begun] == ["e-a", "e-b"]
    assert fired.pending
    assert [found(tx, f"e-{name}").status for name in "abc"] == ["running", "running", "pending"]
    assert ledger.due(tx, DUE, 9) == []


def test_nothing_overtakes_who_waits_for_longer(tx: Transaction) -> None:
    """Where somebody could be claimed, fires queue behind him; where nobody is asked, too."""
    waiting = fires(tx, "a")
    ledger.create(tx, new("before"))
    fired = record_fires(tx, [waiting], DUE, me())
    assert (fired.begun, fired.pending) == ([], True)
    claimed = ledger.claim(tx, "me", lease_until=LEASE, now=DUE, limit=9)
    assert [each.id for each in claimed] == ["before", "e-a"]
    assert record_fires(tx, [fires(tx, "b")], DUE).begun == []


def test_who_waits_for_a_place_of_his_own_key_keeps_nobody(tx: Transaction) -> None:
    """He could not be claimed, so nothing overtakes him."""
    for name in ("one", "two"):
        ledger.create(tx, new(name, concurrency_key="k", concurrency_max=1))
    ledger.claim(tx, "me", lease_until=LEASE, now=DUE, limit=9)
    assert found(tx, "two").status == "pending"
    fired = record_fires(tx, [fires(tx, "a")], DUE, me())
    assert [each.id for each in fired.begun] == ["e-a"]


def test_the_places_of_a_workflow_are_counted_by_who_claims(tx: Transaction) -> None:
    """Two schedules of a workflow that may be at work once: neither begins without a claim."""
    once = Concurrency(max=1)
    fired = record_fires(tx, [fires(tx, name, once) for name in "ab"], DUE, me())
    assert (fired.begun, fired.pending) == ([], True)
    claimed = ledger.claim(tx, "me", lease_until=LEASE, now=DUE, limit=9)
    assert [each.id for each in claimed] == ["e-a"]


@pytest.mark.parametrize("on_full", ["skip", "cancel_oldest"])
def test_a_workflow_that_is_full_does_what_it_says(tx: Transaction, on_full: Any) -> None:
    """It is asked of each fire, though the fire could begin at once."""
    looked = [fires(tx, "a", Concurrency(max=1, on_full=on_full))]
    going = ledger.prepared(new("going", concurrency_key="w", concurrency_max=1))
    ledger.create_claimed(tx, [going], me(), NOW)
    fired = record_fires(tx, looked, DUE, me())
    asked = [each.type for each in ledger.signals(tx, ["going"])]
    if on_full == "skip":
        assert (fired.verdicts, fired.pending, asked) == ([["concurrency-full"]], False, [])
        assert ledger.execution(tx, "e-a") is None
    else:
        assert (fired.verdicts, fired.pending, asked) == ([["created"]], True, ["cancel"])
        assert found(tx, "e-a").status == "pending"
    assert fired.begun == []


def test_a_second_controller_fires_nothing_again(tx: Transaction) -> None:
    """What it has looked at has changed: it gets nothing, and changes nothing."""
    looked = [fires(tx, "a")]
    assert record_fires(tx, looked, DUE, me()).verdicts == [["created"]]
    fired = record_fires(tx, looked, DUE, Claimant("you", LEASE, 9))
    assert (fired.verdicts, fired.begun, fired.pending) == ([None], [], False)
    assert found(tx, "e-a").owner == "me"


@pytest.mark.parametrize("change", ["paused", "cancelled", "inactive", "edited"])
def test_what_changes_after_the_look_counts(tx: Transaction, change: str) -> None:
    """A schedule that no longer fires does not, and no version is executed that was replaced."""
    looked = [fires(tx, "a")]
    if change == "paused":
        ledger.pause_schedule(tx, "a", NOW + 1)
    elif change == "cancelled":
        ledger.cancel_schedule(tx, "a", NOW + 1)
    elif change == "inactive":
        set_status(tx, "w", "inactive", NOW + 1)
    else:
        put_workflows(tx, [(workflow(digest="other"), version("other"))])
    fired = record_fires(tx, looked, DUE, me())
    assert (fired.verdicts, fired.begun) == ([None], [])
    assert ledger.execution(tx, "e-a") is None


async def test_who_fires_and_who_claims_do_not_wait_for_each_other(postgres_url: str) -> None:
    """Places are counted before a schedule is kept from others: a claim may come before fires."""
    bound = Concurrency(max=1, on_full="skip")
    async with opened(postgres_url) as store:
        looked = await store.write(lambda tx: fires(tx, "s", bound))
        engine = connect(parse_url(postgres_url), 1).writer
        with engine.connect() as tx, tx.begin():
            ledger.count_places(tx)
            firing = asyncio.ensure_future(store.write(record_fires, [looked], DUE))
            waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
            await eventually(lambda: tx.scalar(waiting), "who fires waits for who claims")
            tx.execute(text("SET LOCAL lock_timeout = '500ms'"))
            assert ledger.standing(tx, ["s"]).keys() == {"s"}
        engine.dispose()
        assert (await firing).verdicts == [["created"]]
