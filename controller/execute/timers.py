"""The timers of one execution: what becomes due while it is in memory is reported."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from controller.clock import Clock
from controller.core.execution import Arm, Event, EventType

if TYPE_CHECKING:
    from controller.clock import Timer


class Timers:
    """One of each kind for each step.

    Args:
        report: Takes the event that something is due.
    """

    def __init__(self, clock: Clock, report: Callable[[Event], None]) -> None:
        self._clock = clock
        self._report = report
        self._armed: dict[tuple[str | None, str], Timer] = {}

    def arm(self, command: Arm) -> None:
        """Report `due` when it is; instead of the one of this kind that was armed before."""
        key = (command.step, command.timer)
        earlier = self._armed.pop(key, None)
        if earlier is not None:
            earlier.cancel()

        def due() -> None:
            self._armed.pop(key, None)
            now = max(self._clock.now(), command.due)
            data = {"timer": command.timer}
            self._report(Event(EventType.DUE, now, command.step, command.attempt, data))

        self._armed[key] = self._clock.call_at(command.due, due)

    def cancel(self) -> None:
        """Report nothing any more."""
        for timer in self._armed.values():
            timer.cancel()
        self._armed.clear()
