"""The steps' log lines, on their way to `workflow_logs`: in batches, in order, masked."""

from collections.abc import Callable, Iterable, Mapping
from traceback import format_exception
from typing import Any

from controller.clock import Clock, Timer
from controller.core.execution import Change, Failure
from controller.logs import get_log
from controller.store import Store, ledger
from controller.store.records import LogRecord
from controller.store.values import storable

LINGER = 100
"""Milliseconds a line may wait for others."""

BATCH = 500
"""Lines that go to the database at once, whatever the time."""

log = get_log("windlass.execute")


class LogSink:
    """Collects lines and hands them to the store.

    A line that cannot be written is given up with a message of the daemon's own log: a full disk
    must not keep a step from ending.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._lines: list[LogRecord] = []
        self._timer: Timer | None = None

    def of(
        self, execution: str, step: str, attempt: int, mask: Callable[[Any], Any]
    ) -> Callable[[str, str, Mapping[str, Any] | None], None]:
        """What an action calls: level, message, fields."""

        def line(level: str, message: str, fields: Mapping[str, Any] | None = None) -> None:
            self.add(
                LogRecord(
                    execution_id=execution,
                    level=level,
                    message=mask(message),
                    timestamp=self._clock.now(),
                    step_id=step,
                    attempt=attempt,
                    context=mask(dict(fields)) if fields else None,
                )
            )

        return line

    def bug(self, execution: str, error: Exception, mask: Callable[[str], str]) -> str:
        """Say in the daemon's own log where a bug showed that ends an execution; what it is."""
        trace = mask("".join(format_exception(error)))
        log.error("a bug ends an execution", execution=execution, trace=trace)
        return mask(storable(f"{type(error).__name__}: {error}"))

    def complain(self, message: str, **fields: Any) -> None:  # ruff: ignore[any-type]  # structured fields
        """Say something in the daemon's own log."""
        log.error(message, **fields)

    def add(self, line: LogRecord) -> None:
        """Take a line; it is on its way within `LINGER`."""
        self._lines.append(line)
        if len(self._lines) >= BATCH:
            self.flush()
        elif self._timer is None:
            self._timer = self._clock.call_later(LINGER, self.flush)

    def flush(self) -> None:
        """Send what there is; the journal keeps the order, so what comes later is later."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._lines:
            lines, self._lines = self._lines, []
            self._store.post(ledger.add_logs, lines)


def failures(execution: str, changes: Iterable[tuple[int, Change]]) -> tuple[LogRecord, ...]:
    """What went wrong with these changes, each with when it was, and what follows from it.

    They are recorded with the changes: whoever sees that it has ended sees why.
    """
    return tuple(_failure(execution, at, each, each.error) for at, each in changes if each.error)


def _failure(execution: str, at: int, change: Change, error: Failure) -> LogRecord:
    what = f"step {change.step}" if change.step is not None else "the execution"
    then = f"; it is {change.status}"
    if change.reason is not None:
        then += f" ({change.reason})"
    return LogRecord(
        execution_id=execution,
        level="warn" if change.status == "waiting" else "error",
        message=f"{what} failed: {error['type']}: {error['message']}{then}",
        timestamp=at,
        step_id=change.step,
        attempt=change.attempt,
    )
