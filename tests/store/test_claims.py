"""Claims: who gets what, in which order, and what sets an execution free again."""

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from sqlalchemy import create_engine

from controller.store.ledger_claims import (
    adopt,
    claim,
    claimable,
    heartbeat,
    holds,
    next_wake,
    release,
)
from controller.store.ledger_definitions import put_version
from controller.store.ledger_executions import cancel_pending, create, execution, record_outcome
from controller.store.ledger_signals import add_signal, signals
from controller.store.records import NEVER, Batch, ExecutionRecord, Outcome
from controller.store.tables import Transaction, metadata
from tests.store.sample import NOW, new, signal, version

LEASE = 1000


def take(tx: Transaction, owner: str = "me", now: int = NOW, limit: int = 99) -> list[str]:
    """The ids `owner` gets."""
    claimed = claim(tx, owner, lease_until=now + LEASE, now=now, limit=limit)
    return [each.id for each in claimed]


def park(tx: Transaction, execution_id: str, wake_at: int | None, status: str = "running") -> None:
    """Its owner gives it up until then."""
    assert record_outcome(tx, execution_id, Outcome(status, wake_at=wake_at), "me")


def found(tx: Transaction, execution_id: str) -> ExecutionRecord:
    """The execution, which is there."""
    record = execution(tx, execution_id)
    assert record is not None
    return record


def test_the_oldest_are_claimed_first_and_once(tx: Transaction) -> None:
    """Up to the limit; what somebody has, nobody else gets."""
    for number in (3, 1, 2, 0):
        create(tx, new(f"e{number}", NOW + number))
    assert take(tx, limit=3) == ["e0", "e1", "e2"]
    assert take(tx, "you") == ["e3"]
    assert take(tx) == take(tx, "you") == []
    record = found(tx, "e0")
    assert (record.status, record.owner, record.started_at) == ("running", "me", NOW)
    assert record.lease_until == NOW + LEASE


def test_a_claim_stays_in_its_tree(tx: Transaction) -> None:
    """With `root`, what others wait for is left alone."""
    create(tx, new("a"))
    create(tx, new("b"))
    create(tx, new("c", root_id="b", parent_id="b"))
    assert claimable(tx, "me", NOW, "b")
    claimed = claim(tx, "me", lease_until=NOW + LEASE, now=NOW, limit=9, root="b")
    assert [each.id for each in claimed] == ["b", "c"]
    assert not claimable(tx, "me", NOW, "b")
    assert claimable(tx, "me", NOW)


def test_a_key_has_so_many_places(tx: Transaction) -> None:
    """No more than `concurrency_max` of a key at once, and the full one lets others pass."""
    for number in range(4):
        create(tx, new(f"k{number}", NOW + number, concurrency_key="k", concurrency_max=2))
    create(tx, new("free", NOW + 9))
    create(tx, new("other", NOW + 9, concurrency_key="o", concurrency_max=1))
    assert take(tx) == ["k0", "k1", "free", "other"]
    assert take(tx) == []
    record_outcome(tx, "k0", Outcome("completed", completed_at=NOW))
    assert take(tx) == ["k2"]


def test_a_queue_goes_one_after_another(tx: Transaction) -> None:
    """Whatever keys its executions have; who is at its head stays so until it has ended."""
    for number in range(3):
        key = {} if number == 1 else {"concurrency_key": f"k{number}", "concurrency_max": 5}
        create(tx, new(f"q{number}", NOW + number, queue="q", **key))
    create(tx, new("full", NOW + 4, queue="r", concurrency_key="o", concurrency_max=0))
    create(tx, new("other", NOW + 5, queue="r"))
    assert take(tx) == ["q0", "other"]
    park(tx, "q0", NEVER, "paused")
    assert take(tx) == []
    record_outcome(tx, "q0", Outcome("completed", completed_at=NOW))
    assert (take(tx), take(tx)) == (["q1"], [])


def test_a_key_behind_many_is_found_within_one_claim(tx: Transaction) -> None:
    """The limit counts what is claimed, not what is looked at."""
    for number in range(30):
        create(tx, new(f"k{number:02}", NOW + number, concurrency_key="k", concurrency_max=1))
    create(tx, new("last", NOW + 99))
    assert take(tx, limit=2) == ["k00", "last"]


def test_what_is_parked_or_paused_keeps_its_place(tx: Transaction) -> None:
    """Otherwise there would be too many when it goes on."""
    for name in ("a", "b", "c"):
        create(tx, new(name, concurrency_key="k", concurrency_max=2))
    assert take(tx) == ["a", "b"]
    park(tx, "a", NEVER)
    park(tx, "b", NEVER, "paused")
    assert take(tx) == []


def test_parked_until_a_time(tx: Transaction) -> None:
    """Free when `wake_at` comes, not before; and it is what `next_wake` says."""
    for name in ("a", "b"):
        create(tx, new(name))
    take(tx)
    assert next_wake(tx) is None
    park(tx, "a", NOW + 50)
    park(tx, "b", NOW + 70)
    assert next_wake(tx) == NOW + 50
    assert take(tx, now=NOW + 49) == []
    assert take(tx, now=NOW + 50) == ["a"]
    assert next_wake(tx) == NOW + 70
    assert found(tx, "a").wake_at is None, "a dead owner's execution is free at once"
    assert found(tx, "a").started_at == NOW, "it started only once"


def test_parked_until_a_signal(tx: Transaction) -> None:
    """`NEVER` is not a time to wake at; a signal frees it, paused or running."""
    for name in ("a", "b"):
        create(tx, new(name))
    take(tx)
    park(tx, "a", NEVER)
    park(tx, "b", NEVER, "paused")
    assert next_wake(tx) is None
    assert take(tx, now=NEVER - 1) == []
    add_signal(tx, signal("g1", "b", type="resume"))
    assert take(tx) == ["b"]
    assert found(tx, "b").status == "paused", "resuming is the owner's decision"
    add_signal(tx, signal("g2", "a"))
    assert take(tx, "you") == ["a"]
    assert [each.id for each in signals(tx, ["a"])] == ["g2"]


def test_the_longest_overdue_is_claimed_first(tx: Transaction) -> None:
    """Whatever was created first: a parked one waits since its `wake_at`."""
    for name in ("a", "b", "c"):
        create(tx, new(name))
    take(tx)
    for name, wait in (("a", 30), ("b", 10), ("c", 20)):
        park(tx, name, NOW + wait)
    assert take(tx, now=NOW + 50, limit=2) == ["b", "c"]


def test_what_was_never_claimed_cannot_park(tx: Transaction) -> None:
    """Pending is pending; it may end, such as when its definition is refused."""
    create(tx, new("a"))
    assert not record_outcome(tx, "a", Outcome("paused", wake_at=NEVER))
    with pytest.raises(ValueError, match="when"):
        record_outcome(tx, "a", Outcome("failed"))
    assert record_outcome(tx, "a", Outcome("failed", completed_at=NOW))
    assert take(tx) == []


def test_given_up_is_free_at_once(tx: Transaction) -> None:
    """`wake_at` None: it waits for nothing but an owner, and goes before what has not started."""
    create(tx, new("young", NOW + 1))
    take(tx)
    park(tx, "young", None)
    create(tx, new("old", NOW))
    assert take(tx, limit=1) == ["young"]


def test_a_lease_that_ran_out_frees_it_for_others(tx: Transaction) -> None:
    """Not for the owner itself, who still has it in hand; a heartbeat keeps it."""
    create(tx, new("a"))
    create(tx, new("b"))
    assert take(tx, limit=1) == ["a"]
    take(tx)
    late = NOW + LEASE + 1
    assert take(tx, "me", late) == []
    assert sorted(heartbeat(tx, "me", late + LEASE)) == ["a", "b"]
    assert take(tx, "you", late) == []
    assert heartbeat(tx, "nobody", late) == []
    assert take(tx, "you", late + LEASE + 1) == ["a", "b"]


def test_the_only_controller_adopts_what_others_had(tx: Transaction) -> None:
    """At its start it takes from owners that must be dead, not from itself."""
    for name in ("a", "b", "c"):
        create(tx, new(name))
    take(tx, "dead", limit=2)
    take(tx, "me")
    assert adopt(tx, "me") == 2
    assert take(tx) == ["a", "b"]
    assert adopt(tx, "me") == 0


def test_an_owner_that_stops_gives_up_all(tx: Transaction) -> None:
    """What it had is free, and nothing else is."""
    for name in ("a", "b", "c"):
        create(tx, new(name))
    take(tx, "me", limit=2)
    take(tx, "you")
    assert release(tx, "me") == 2
    assert take(tx, "other") == ["a", "b"]


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
def test_what_has_ended_is_never_claimed(tx: Transaction, status: str) -> None:
    """It has no owner, no time to wake, and no signal brings it back."""
    create(tx, new("a"))
    take(tx)
    park_at_end = Outcome(status, completed_at=NOW, wake_at=NOW, release=False)
    assert record_outcome(tx, "a", park_at_end)
    add_signal(tx, signal("g", "a"))
    assert take(tx, now=NOW + 10 * LEASE) == []
    record = found(tx, "a")
    assert (record.owner, record.lease_until, record.wake_at) == (None, None, None)


def test_an_outcome_may_keep_the_owner(tx: Transaction) -> None:
    """Pausing without letting go: `release=False`."""
    create(tx, new("a"))
    take(tx)
    assert record_outcome(tx, "a", Outcome("paused", release=False), "me")
    assert found(tx, "a").owner == "me"
    assert Batch("a").outcome is None


# ------------------------------------------------------------------------------- against a model


@dataclass
class Model:
    """An execution as the claim's rules see it."""

    key: str | None
    status: str = "pending"
    owner: str | None = None
    lease_until: int = 0
    wake_at: int | None = None
    waiting: int = 0


@dataclass
class World:
    """All of them, by id."""

    executions: dict[str, Model] = field(default_factory=dict)
    now: int = NOW

    def running(self, key: str) -> int:
        """Places of the key that are taken."""
        taken = ("running", "paused")
        return sum(e.key == key and e.status in taken for e in self.executions.values())

    def is_free(self, each: Model, owner: str) -> bool:
        """Whether it has started and `owner` may have it."""
        if each.status not in {"running", "paused"}:
            return False
        if each.owner is not None:
            return each.owner != owner and each.lease_until < self.now
        return each.wake_at is None or each.wake_at <= self.now or each.waiting > 0

    def claim(self, owner: str, limit: int, claimed: list[str]) -> None:
        """Hold what was claimed against the rules, one after another, without any index."""
        free = {name for name, each in self.executions.items() if self.is_free(each, owner)}
        first = min(limit, len(free))
        assert set(claimed[:first]) <= free
        expected = claimed[:first]
        for name, each in self.executions.items():
            places = each.key is None or self.running(each.key) < PLACES
            if len(expected) < limit and each.status == "pending" and places:
                expected.append(name)
                each.status = "running"
        assert claimed == expected
        assert len(set(claimed)) == len(claimed)
        for name in claimed:
            each = self.executions[name]
            each.owner, each.lease_until, each.wake_at = owner, self.now + LEASE, None


PLACES = 2
OWNERS = st.sampled_from(["me", "you"])
NUMBERS = st.integers(0, 30)


class Claims(RuleBasedStateMachine):
    """Claim, release, park, signal and finish in any order: the ledger agrees with the model."""

    def __init__(self) -> None:
        super().__init__()
        self.engine = create_engine("sqlite://")
        self.tx = self.engine.connect()
        metadata.create_all(self.tx)
        put_version(self.tx, version())
        self.world = World()

    def teardown(self) -> None:
        """Forget the database."""
        self.tx.close()
        self.engine.dispose()

    def pick(self, number: int) -> str | None:
        """Some execution that has not ended."""
        names = list(self.world.executions)
        return names[number % len(names)] if names else None

    @rule(key=st.sampled_from([None, None, "k", "l"]))
    def created(self, key: str | None) -> None:
        """A new one, pending."""
        name = f"e{len(self.world.executions):03}"
        create(self.tx, new(name, NOW, concurrency_key=key, concurrency_max=key and PLACES))
        self.world.executions[name] = Model(key)

    @rule(owner=OWNERS, limit=st.integers(1, 4))
    def claimed(self, owner: str, limit: int) -> None:
        """What is free, then what is pending in the order it was created."""
        some = claimable(self.tx, owner, self.world.now)
        claimed = take(self.tx, owner, self.world.now, limit)
        assert some == bool(claimed)
        self.world.claim(owner, limit, claimed)

    @rule(owner=OWNERS)
    def released(self, owner: str) -> None:
        """All that the owner had."""
        release(self.tx, owner)
        for each in self.world.executions.values():
            if each.owner == owner:
                each.owner = None

    @rule(owner=OWNERS)
    def renewed(self, owner: str) -> None:
        """All that the owner has."""
        heartbeat(self.tx, owner, self.world.now + LEASE)
        for each in self.world.executions.values():
            if each.owner == owner:
                each.lease_until = self.world.now + LEASE

    @rule(number=NUMBERS, status=st.sampled_from(["completed", "running", "paused"]), wait=NUMBERS)
    def ended_or_parked(self, number: int, status: str, wait: int) -> None:
        """By whoever has it."""
        name = self.pick(number)
        each = self.world.executions.get(name or "")
        if name is None or each is None or each.owner is None:
            return
        wake = {0: None, 1: NEVER}.get(wait, self.world.now + wait * 100)
        outcome = Outcome(status, completed_at=self.world.now, wake_at=wake)
        assert record_outcome(self.tx, name, outcome, each.owner)
        each.status, each.owner, each.wake_at = status, None, wake
        if status == "completed":
            each.waiting = 0

    @rule(number=NUMBERS)
    def signalled(self, number: int) -> None:
        """Any, also one that ended."""
        name = self.pick(number)
        if name is not None:
            each = self.world.executions[name]
            awaits = each.status not in {"completed", "cancelled"}
            sent = signal(f"g{name}{self.world.now}{each.waiting}", name)
            assert add_signal(self.tx, sent) in {awaits, False}
            each.waiting = len(signals(self.tx, [name]))

    @rule(number=NUMBERS)
    def cancelled(self, number: int) -> None:
        """Only what nobody started."""
        name = self.pick(number)
        if name is not None:
            each = self.world.executions[name]
            assert cancel_pending(self.tx, name, self.world.now) == (each.status == "pending")
            if each.status == "pending":
                each.status, each.waiting = "cancelled", 0

    @rule(milliseconds=st.integers(1, 2 * LEASE))
    def time_passed(self, milliseconds: int) -> None:
        """The one clock."""
        self.world.now += milliseconds

    @invariant()
    def keys_are_kept(self) -> None:
        """Never more than there are places, and the rows say what the model says."""
        assert all(self.world.running(key) <= PLACES for key in ("k", "l"))
        for name, each in self.world.executions.items():
            record = found(self.tx, name)
            assert (record.status, record.owner) == (each.status, each.owner)


TestClaims = Claims.TestCase
TestClaims.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)


def test_a_claim_holds_until_the_next(tx: Transaction) -> None:
    """Not for who gave it up and has it again by another one, nor for anybody else."""
    create(tx, new("e"))
    assert take(tx) == ["e"]
    assert holds(tx, "me", "e", 1)
    assert not holds(tx, "you", "e", 1)
    assert release(tx, "me") == 1
    assert not holds(tx, "me", "e", 1)
    assert take(tx) == ["e"]
    assert not holds(tx, "me", "e", 1)
    assert holds(tx, "me", "e", 2)
