"""Subflows: executions that a step of another one creates, waits for, and takes down with it."""

import asyncio
from collections.abc import Callable, Collection, Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from controller.admission import (
    Admission,
    Admitted,
    Wish,
    admit,
    cancel,
    cancel_signal,
    derived_id,
    full,
    to_parent,
)
from controller.core.execution import FINAL, Command, ExecutionState, Status, StepState, Stop
from controller.core.problem import Refused
from controller.execute.action import ActionFailed
from controller.execute.host import Host
from controller.execute.patience import AGAIN_AFTER, LOOK, patiently
from controller.store import ledger
from controller.store.records import ExecutionRecord, SignalRecord
from controller.store.tables import Transaction


class Children:
    """The children of one execution.

    A child's id follows from the step and the attempt that create it: creating it again after a
    crash creates nothing. Who stops a child says so in the transaction that records why: nobody
    would know of it after a crash, for the step may have ended with that. A child that is not
    created by then never is, nor by an owner who has lost the parent. One of a next try is created
    when those of earlier tries have ended: cancelled, they take their time.

    Args:
        max_depth: How deep subflows may nest (pinned policy).
        failed: Reports that a step's child cannot be created.
        calm: Called when a child was created or cancelled.
    """

    def __init__(
        self,
        record: ExecutionRecord,
        host: Host,
        max_depth: int,
        failed: Callable[[str, int, Exception], None],
        calm: Callable[[], None],
    ) -> None:
        self._record = record
        self._host = host
        self._max_depth = max_depth
        self._failed = failed
        self._calm = calm
        self._now = 0
        self._stopped: dict[str, int] = {}  # child → when, epoch milliseconds

    def __len__(self) -> int:
        """How many are being created or cancelled: until then, nobody would wake who waits."""
        return self._now

    def launch(
        self, step: StepState, names: Mapping[str, Any], after: Collection[asyncio.Task[None]]
    ) -> None:
        """Create the child of a step's attempt, when what is to end before has ended."""
        self._now += 1
        self._host.spawn(self._create(step, step.attempt, names, after))

    def told(self, state: ExecutionState, commands: Iterable[Command]) -> tuple[SignalRecord, ...]:
        """What others are told with what is recorded: children to end, a parent of the end."""
        now, found = self._host.clock.now(), []
        for each in commands:
            if isinstance(each, Stop) and state.steps[each.step].plan.type == "subflow":
                child = self._id(each.step, each.attempt)
                self._stopped[child] = now
                found.append(cancel_signal(child, now, force=each.force))
        if state.status in FINAL:
            error = state.error if state.status is Status.FAILED else None
            ended = to_parent(self._record, state.status, state.outputs, error, now)
            found.extend([ended] if ended is not None else [])
        return tuple(found)

    def stop(self, step: str, attempt: int, *, force: bool) -> None:
        """Cancel the child, when that is recorded; it tells when it has ended."""
        self._now += 1
        self._host.spawn(self._cancel(step, attempt, force=force))

    @contextmanager
    def _counted(self) -> Generator[None]:
        try:
            yield
        finally:
            self._now -= 1
        self._calm()

    def _id(self, step: str, attempt: int) -> str:
        return derived_id("child", self._record.id, step, str(attempt))

    async def _create(
        self,
        step: StepState,
        attempt: int,
        names: Mapping[str, Any],
        after: Collection[asyncio.Task[None]],
    ) -> None:
        with self._counted():
            try:
                wish = self._wish(step, attempt, names)
                if attempt > 1 or after:
                    if not await self._earlier_ended(step.key, attempt, after):
                        return  # it is outstanding: whoever goes on with the parent creates it
                    wish = replace(wish, now=self._host.clock.now())
                created = await patiently(self._host.clock, lambda: self._admit(wish))
            except Exception as error:  # ruff: ignore[blind-except]  # whatever it is, the step fails
                self._failed(step.key, attempt, error)
            else:
                self._is_there(step.key, attempt, there=created)

    async def _earlier_ended(
        self, step: str, attempt: int, after: Collection[asyncio.Task[None]]
    ) -> bool:
        """Whether earlier tries have ended, or this one was stopped; False: the daemon stops."""
        if after:
            await asyncio.wait(after)
        clock, store, pause = self._host.clock, self._host.store, LOOK
        earlier = [self._id(step, each) for each in range(1, attempt)]
        while self._id(step, attempt) not in self._stopped:
            if self._host.stopping:
                return False
            if not await patiently(clock, lambda: store.read(self._has_to_wait, earlier)):
                break
            await clock.sleep(pause)
            pause = min(2 * pause, AGAIN_AFTER)
        return True

    def _has_to_wait(self, tx: Transaction, earlier: Collection[str]) -> bool:
        """A verb for the store: one of these goes on, and the parent is still this owner's."""
        if not ledger.any_going(tx, earlier):
            return False
        parent = ledger.execution(tx, self._record.id)
        now = (parent.owner, parent.claims) if parent is not None else None
        return now == (self._host.owner, self._record.claims)

    def _is_there(self, step: str, attempt: int, *, there: bool) -> None:
        """Somebody has to go on with the child; one that never was cannot tell that it ended."""
        if there:
            self._host.wake()
        else:
            self._failed(step, attempt, ActionFailed("cancelled", "stopped"))

    def _wish(self, step: StepState, attempt: int, names: Mapping[str, Any]) -> Wish:
        record, key = self._record, step.key
        if record.depth + 1 > self._max_depth:
            raise Refused(f"subflows are nested deeper than {self._max_depth}", reason="depth")
        return Wish(
            id=self._id(key, attempt),
            workflow=step.plan.subflow or "",
            inputs=step.plan.inputs.render(names) if step.plan.inputs is not None else {},
            trigger={"type": "subflow", "by": record.id, "step": key, "attempt": attempt},
            now=self._host.clock.now(),
            parent=(record.id, key, record.root_id, record.depth + 1),
        )

    async def _admit(self, wish: Wish) -> bool:
        admission = await self._host.gate.check(wish)
        admitted = await self._host.store.write(self._unless_stopped, admission)
        if admitted is Admitted.FULL:
            raise full(wish.workflow)
        return admitted is not None

    def _unless_stopped(self, tx: Transaction, admission: Admission) -> Admitted | None:
        """A verb for the store; the stop is recorded before or after this, never meanwhile.

        Whoever has the parent by now may have stopped the child, or ended the parent.
        """
        parent, host = self._record, self._host
        if admission.execution.id in self._stopped:
            return None
        if not ledger.holds(tx, host.owner, parent.id, parent.claims):
            return None
        return admit(tx, admission)

    async def _cancel(self, step: str, attempt: int, *, force: bool) -> None:
        store, clock, child = self._host.store, self._host.clock, self._id(step, attempt)
        now = self._stopped.setdefault(child, clock.now())  # set: as it was recorded
        with self._counted():
            try:
                there = await patiently(clock, lambda: store.write(_ended, child, now, force=force))
            except Exception as error:  # ruff: ignore[blind-except]  # the child was told already
                self._failed(step, attempt, error)
            else:
                self._is_there(step, attempt, there=there)


def _ended(tx: Transaction, child: str, now: int, *, force: bool) -> bool:
    """A verb for the store: cancel it; whether it is there."""
    cancel(tx, child, now, force=force)
    return ledger.execution(tx, child) is not None
