"""What happened, told once it is durable; metrics, audit, live pages and embedders only listen.

The seed's `workflow-event`s and the events of steps share one shape. A listener runs on the loop,
right after the commit, and must be quick; one that raises is reported and changes nothing.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, NamedTuple

from controller.logs import get_log

log = get_log("windlass.facts")


class FactType(StrEnum):
    """The seed's events, then those of steps, sources and schedules."""

    CREATED = "created"
    UPDATED = "updated"
    ARCHIVED = "archived"
    EXECUTED = "executed"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    PAUSED = "paused"
    RESUMED = "resumed"
    SCHEDULED = "scheduled"
    FIRED = "fired"
    MISFIRED = "misfired"
    STEP = "step"
    RECONCILED = "reconciled"
    DRIFTED = "drifted"


class Fact(NamedTuple):
    """One thing that happened. `at` is epoch milliseconds; `data` is plain JSON."""

    type: FactType
    at: int
    workflow: str | None = None
    execution: str | None = None
    step: str | None = None
    data: Mapping[str, Any] = {}  # nobody changes it, as the type says


Listener = Callable[[Fact], None]


class Bus:
    """Hands each fact to every listener, in the order they subscribed."""

    def __init__(self) -> None:
        self._listeners: tuple[Listener, ...] = ()

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Listen from now on; the returned function ends it."""
        self._listeners = (*self._listeners, listener)
        return lambda: self._leave(listener)

    def _leave(self, listener: Listener) -> None:
        left = list(self._listeners)
        left.remove(listener)
        self._listeners = tuple(left)

    def publish(self, fact: Fact) -> None:
        """Tell everybody."""
        for listener in self._listeners:
            try:
                listener(fact)
            except Exception:
                log.exception("listener failed", fact=str(fact.type))
