"""What an execution tells: facts for those who watch."""

from collections.abc import Mapping
from typing import Any

from controller.core.execution import ACTIVE, FINAL, Change, ExecutionState, Identity, Status
from controller.execute.host import Host
from controller.facts import Fact, FactType

_FACT_OF = {
    Status.PAUSED: FactType.PAUSED,
    Status.RUNNING: FactType.RESUMED,
    Status.COMPLETED: FactType.COMPLETED,
    Status.FAILED: FactType.FAILED,
    Status.CANCELLED: FactType.CANCELLED,
}


class Teller:
    """Publishes the changes of one execution."""

    def __init__(self, identity: Identity, host: Host) -> None:
        self._identity = identity
        self._host = host

    def begun(self) -> None:
        """The execution has started, for the first time."""
        self._publish(FactType.EXECUTED, self._identity.started_at, {})

    def tell(self, state: ExecutionState, at: int, change: Change) -> None:
        """A change that is durable now."""
        if change.step is None:
            self.turned(at, change)
            return
        data, step = _said(change), state.steps[change.step]
        data["action"] = step.plan.action or step.plan.type
        if step.started_at is not None and change.status not in ACTIVE:
            data["duration"] = at - step.started_at
        self._publish(FactType.STEP, at, data, change.step)

    def turned(self, at: int, change: Change) -> None:
        """A change of the execution itself, which is durable now."""
        data = _said(change)
        if change.status in FINAL:
            data["duration"] = at - self._identity.started_at
        self._publish(_FACT_OF[change.status], at, data)

    def _publish(
        self, kind: FactType, at: int, data: Mapping[str, Any], step: str | None = None
    ) -> None:
        identity = self._identity
        self._host.bus.publish(Fact(kind, at, identity.workflow, identity.id, step, data))


def _said(change: Change) -> dict[str, Any]:
    data: dict[str, Any] = {"status": str(change.status), "attempt": change.attempt}
    if change.reason is not None:
        data["reason"] = str(change.reason)
    if change.error is not None:
        data["error"] = dict(change.error)
    return data
