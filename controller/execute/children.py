"""Subflows: executions that a step of another one creates, waits for, and takes down with it."""

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any

from controller.admission import Wish, admit, cancel, derived_id
from controller.core.execution import StepState
from controller.core.expression import ExpressionError
from controller.core.problem import Refused, Unavailable
from controller.execute.action import ActionFailed
from controller.execute.host import Host
from controller.store.records import ExecutionRecord

AGAIN_AFTER = 1.0
"""Seconds between tries while the database cannot be written."""


class Children:
    """The children of one execution.

    A child's id follows from the step and the attempt that create it: creating it again after a
    crash creates nothing.

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
        failed: Callable[[str, int, ActionFailed], None],
        calm: Callable[[], None],
    ) -> None:
        self._record = record
        self._host = host
        self._max_depth = max_depth
        self._failed = failed
        self._calm = calm
        self._now = 0

    def __len__(self) -> int:
        """How many are being created or cancelled: until then, nobody would wake who waits."""
        return self._now

    def launch(self, step: StepState, names: Mapping[str, Any]) -> None:
        """Create the child of a step's attempt."""
        self._now += 1
        self._host.spawn(self._create(step, step.attempt, names))

    def stop(self, step: str, attempt: int, *, force: bool) -> None:
        """Cancel the child; it tells when it has ended."""
        self._now += 1
        self._host.spawn(self._cancel(self._id(step, attempt), force=force))

    @contextmanager
    def _counted(self) -> Generator[None]:
        try:
            yield
        finally:
            self._now -= 1
        self._calm()

    def _id(self, step: str, attempt: int) -> str:
        return derived_id("child", self._record.id, step, str(attempt))

    async def _create(self, step: StepState, attempt: int, names: Mapping[str, Any]) -> None:
        with self._counted():
            try:
                wish = self._wish(step, attempt, names)
                await self._patiently(wish)
            except ExpressionError as error:
                self._failed(step.key, attempt, ActionFailed("expression", str(error)))
            except Refused as error:
                self._failed(step.key, attempt, ActionFailed(error.reason, str(error)))
            else:
                self._host.wake()

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

    async def _patiently(self, wish: Wish) -> None:
        while True:
            try:
                await self._host.store.write(admit, await self._host.gate.check(wish))
            except Unavailable:
                await self._host.clock.sleep(AGAIN_AFTER)
            else:
                return

    async def _cancel(self, child: str, *, force: bool) -> None:
        with self._counted():
            await self._host.store.write(cancel, child, self._host.clock.now(), force=force)
            self._host.wake()
