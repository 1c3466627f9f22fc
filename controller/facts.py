"""What happened, told once it is durable; metrics, audit, live pages and embedders only listen.

The seed's `workflow-event`s and the events of steps share one shape. A listener runs on the loop,
right after the commit, and must be quick; one that raises is reported and changes nothing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

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


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that happened. `at` is epoch milliseconds; `data` is plain JSON."""

    type: FactType
    at: int
    workflow: str | None = None
    execution: str | None = None
    step: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)


Listener = Callable[[Fact], None]


class Bus:
    """Hands each fact to every listener, in the order they subscribed."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Listen from now on; the returned function ends it."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def publish(self, fact: Fact) -> None:
        """Tell everybody."""
        for listener in tuple(self._listeners):
            try:
                listener(fact)
            except Exception:
                log.exception("listener failed", fact=str(fact.type))
