"""The product, broken on purpose: one guarantee at a time, by putting something else in its place.

Each says which invariants it may break; the simulator has to find it within its seeds.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
from sqlalchemy import func, select, update

from controller.catalog import Catalog
from controller.core.decide import outstanding
from controller.core.execution import Arm
from controller.core.plan import Plan
from controller.execute.attempts import Attempts
from controller.execute.running import Running
from controller.execute.worker import Worker
from controller.history import recalled
from controller.store import journal, ledger, ledger_executions
from controller.store.journal import Journal
from controller.store.records import ExecutionRecord
from controller.store.tables import execution_checkpoints, workflow_executions


class Mutation(NamedTuple):
    """How to break the product, what that may break, and from which seed on to look.

    What is rare is among the seeds of the thorough test.
    """

    apply: Callable[[pytest.MonkeyPatch], None]
    breaks: frozenset[str]
    first: int = 0


def _acts_first(patch: pytest.MonkeyPatch) -> None:
    """What follows from an event is done before the event is durable."""
    append = Running._append

    def at_once(self: Running, batch: Any, then: Callable[[], None]) -> None:
        append(self, batch, lambda: None)
        asyncio.get_running_loop().call_soon(then)

    patch.setattr(Running, "_append", at_once)


def _ignores_leases(patch: pytest.MonkeyPatch) -> None:
    """Others' leases count as run out: two may take it from each other for ever."""
    claim = ledger.claim

    def greedy(tx: Any, owner: str, *, now: int, **more: Any) -> Any:
        return claim(tx, owner, now=now + 3_600_000, **more)

    patch.setattr(ledger, "claim", greedy)
    patch.setattr(ledger, "claimable", lambda *_: True)
    patch.setattr(Worker, "holds", property(lambda _: True))


def _forgets(patch: pytest.MonkeyPatch) -> None:
    """The fold leaves out the last event."""

    def short(plan: Plan, identity: Any, rows: Any) -> Any:
        return recalled(plan, identity, list(rows)[:-1])

    patch.setattr("controller.execute.running.recalled", short)


def _repeats(patch: pytest.MonkeyPatch) -> None:
    """What must not be repeated is."""
    patch.setattr(Attempts, "may_repeat", lambda *_: True)


def _follows(patch: pytest.MonkeyPatch) -> None:
    """An execution goes on with its workflow's newest version."""
    plan_of = Catalog.plan_of

    async def newest(self: Catalog, record: ExecutionRecord) -> Plan:
        head = await self._store.read(ledger.head, record.workflow_id)
        return await plan_of(self, replace(record, digest=head.digest) if head else record)

    patch.setattr(Catalog, "plan_of", newest)


def _acknowledges(patch: pytest.MonkeyPatch) -> None:
    """What could not be written is reported as written."""
    patch.setattr(journal, "_fail", lambda *_: None)


def _forgets_errors(patch: pytest.MonkeyPatch) -> None:
    """The row does not say why the execution failed."""
    outcome = Running._outcome

    def silent(self: Running) -> Any:
        made = outcome(self)
        return type(made)(made.status, None, None, made.completed_at, made.duration)

    patch.setattr(Running, "_outcome", silent)


def _unfenced(patch: pytest.MonkeyPatch) -> None:
    """Whoever comes late is recorded behind what others have recorded meanwhile, and believed."""
    append, kind = Journal._append, ledger_executions._kind

    def renumbered(self: Journal, tx: Any, batches: Any) -> int:
        c = execution_checkpoints.c
        for batch in batches:
            last = tx.scalar(select(func.max(c.seq)).where(c.execution_id == batch.execution_id))
            batch.checkpoints[:] = [
                (last + 1 + number if last is not None else number, *row[1:])
                for number, row in enumerate(batch.checkpoints)
            ]
        return append(self, tx, batches)

    patch.setattr(Journal, "_append", renumbered)
    patch.setattr(ledger_executions, "_kind", lambda each: (*kind(each)[:2], False))


def _misses_fires(patch: pytest.MonkeyPatch) -> None:
    """A schedule moves on without its execution."""
    patch.setattr("controller.fires._create", lambda *_: (set(), []))


def _skips_numbers(patch: pytest.MonkeyPatch) -> None:
    """Whoever goes on leaves out a number."""
    begin = Running.__init__

    def late(self: Running, record: Any, plan: Plan, events: Any, host: Any) -> None:
        begin(self, record, plan, events, host)
        self._seq += bool(events)

    patch.setattr(Running, "__init__", late)


def _drops_timers(patch: pytest.MonkeyPatch) -> None:
    """Whoever goes on arms no timer, neither of steps nor of the whole."""

    def without(state: Any) -> Any:
        return [each for each in outstanding(state) if not isinstance(each, Arm)]

    patch.setattr("controller.execute.running.outstanding", without)


def _leaves_signals(patch: pytest.MonkeyPatch) -> None:
    """An execution that ends leaves signals to nobody."""
    patch.setattr(ledger_executions, "_settle_signals", lambda *_: None)


def _ends_again(patch: pytest.MonkeyPatch) -> None:
    """Whoever cancels does not look whether it has ended."""

    def cancel(tx: Any, execution_id: str, now: int) -> bool:
        change = update(workflow_executions).where(workflow_executions.c.id == execution_id)
        tx.execute(change.values(status="cancelled", completed_at=now))
        return True

    patch.setattr(ledger, "cancel_pending", cancel)


def _overlaps(patch: pytest.MonkeyPatch) -> None:
    """A step's next try does not wait until the one before has ended."""
    patch.setattr(Attempts, "earlier", lambda *_: frozenset())


def _leaves_early(patch: pytest.MonkeyPatch) -> None:
    """Who lets go of an execution does not wait until what it performs has ended."""
    calm = Running._calm

    def at_once(self: Running) -> None:
        if self._farewell is None:
            calm(self)
        elif not self._left:
            self._left = True
            self._farewell()

    patch.setattr(Running, "_calm", at_once)


MUTATIONS = {
    "acts first": Mutation(_acts_first, frozenset({"record, then act", "never twice"})),
    "ignores leases": Mutation(
        _ignores_leases,
        frozenset({"one owner", "one try at a time", "nothing after the end", "ends"}),
    ),
    "forgets": Mutation(
        _forgets, frozenset({"fold = record", "completed once", "record, then act", "never twice"})
    ),
    "repeats": Mutation(_repeats, frozenset({"never twice"})),
    "follows": Mutation(_follows, frozenset({"pinned", "fold = record"})),
    "acknowledges": Mutation(
        _acknowledges, frozenset({"nothing lost", "no gaps", "record, then act", "one owner"}), 60
    ),
    "forgets errors": Mutation(_forgets_errors, frozenset({"fold = record", "one owner"})),
    "unfenced": Mutation(_unfenced, frozenset({"one owner", "nothing after the end"}), 60),
    "misses fires": Mutation(_misses_fires, frozenset({"each fire once"})),
    "skips numbers": Mutation(_skips_numbers, frozenset({"no gaps"})),
    "drops timers": Mutation(_drops_timers, frozenset({"ends"})),
    "leaves signals": Mutation(_leaves_signals, frozenset({"signals taken"})),
    "overlaps": Mutation(_overlaps, frozenset({"one try at a time"})),
    "leaves early": Mutation(_leaves_early, frozenset({"one try at a time"}), 880),
    "ends again": Mutation(
        _ends_again, frozenset({"ends once", "nothing after the end", "fold = record"})
    ),
}
