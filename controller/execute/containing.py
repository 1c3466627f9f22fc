"""A bug of ours ends the execution in which it shows, and no other.

All executions share one loop: they are called by a turn of the worker, by timers, by commits that
are durable, by actions that have ended. Whatever is raised there comes back to its own execution.
"""

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from controller.admission import to_parent
from controller.execute.host import Host
from controller.store.records import Batch, ExecutionRecord, Outcome


class Breakable(Protocol):
    """What a bug may show in."""

    def broke(self, error: Exception) -> None:
        """This was raised where nothing is expected to be; raises nothing."""


B = TypeVar("B", bound=Breakable)
P = ParamSpec("P")


def contained(
    call: Callable[Concatenate[B, P], None],
) -> Callable[Concatenate[B, P], None]:
    """The same method, which raises nothing: see `Breakable.broke`."""

    @wraps(call)
    def guarded(self: B, /, *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            call(self, *args, **kwargs)
        except Exception as error:  # ruff: ignore[blind-except]  # what nobody has thought of
            self.broke(error)

    return guarded


def hopeless(record: ExecutionRecord, kind: str, message: str, host: Host) -> Batch:
    """What is recorded of one that has no event to end with: it has failed, and says why."""
    now = host.clock.now()
    error = {"step": None, "type": kind, "message": message}
    outcome = Outcome("failed", error=error, completed_at=now, duration=0)
    told = to_parent(record, outcome.status, None, error, now)
    return Batch(record.id, outcome=outcome, owner=host.owner, notify=(told,) if told else ())
