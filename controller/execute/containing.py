"""A bug of ours ends the execution in which it shows, and no other.

All executions share one loop: they are called by a turn of the worker, by timers, by commits that
are durable, by actions that have ended. Whatever is raised there comes back to its own execution.

Its end is an event of it. Where there can be none it is `hopeless`, and ends by its row alone: in
one transaction with all that an end brings with it. A crash before that and it goes on, or comes
to the same again; after it and all of it is there, but for the telling.
"""

import asyncio
from collections.abc import Callable
from functools import partial, wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from controller.admission import cancel, to_parent
from controller.core.execution import Change, Failure, Status
from controller.core.problem import Refused
from controller.execute.host import Host, Leaving
from controller.execute.logsink import failures
from controller.execute.patience import insist
from controller.execute.telling import Teller
from controller.history import identity_of
from controller.store import ledger
from controller.store.records import UNFINISHED, ExecutionRecord, Fenced, Outcome
from controller.store.tables import Transaction


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


def farewell(error: BaseException, leaving: Leaving, host: Host) -> Callable[[], None]:
    """How an execution leaves that cannot record: free for others, or, by a bug, ended by its row.

    It leaves memory; what the database is told it is told again while that is unavailable.
    """
    record, said = leaving.record, host.secrets.mask(str(error))
    if not isinstance(error, Fenced):
        host.logs.complain("cannot record", execution=record.id, error=said)

    def free() -> None:
        insist(
            host.clock, partial(host.store.queue, let_go, record, host.owner), lambda _: host.wake()
        )
        host.left(leaving)

    def end() -> None:
        failure = Failure(step=None, type="bug", message=said)
        ending = partial(fail, record, failure, host, begun=True)
        insist(host.clock, ending, lambda _: host.left(leaving))

    return free if isinstance(error, Fenced | Refused) else end


def fail(
    record: ExecutionRecord, failure: Failure, host: Host, *, begun: bool
) -> asyncio.Future[bool]:
    """End by its row one that is `hopeless`, and tell that once it is durable.

    Args:
        record: As it was claimed.
        failure: Why.
        host: The worker, whose it is.
        begun: It was told that it has begun.

    Returns:
        Whether it was the worker's to end; raises, when awaited, what the store does.
    """
    now = host.clock.now()
    teller = Teller(identity_of(record, now), host)

    def tell(ending: asyncio.Future[bool]) -> None:
        if ending.cancelled() or ending.exception() is not None or not ending.result():
            return
        if not begun:
            teller.begun()
        teller.turned(now, Change(None, Status.FAILED, error=failure))
        host.wake()  # its parent is told, its subflows are to end

    ending = host.store.queue(hopeless, record, failure, host.owner, now)
    ending.add_done_callback(tell)
    return ending


def hopeless(
    tx: Transaction, record: ExecutionRecord, failure: Failure, owner: str, now: int
) -> bool:
    """A verb for the store: it fails, which no event of it says; False: the owner has lost it.

    Its subflows are cancelled and its parent is told, as where an event ends it.
    """
    if not ledger.holds(tx, owner, record.id, record.claims):
        return False
    lasted = now - identity_of(record, now).started_at
    end = Outcome(Status.FAILED, error=dict(failure), completed_at=now, duration=lasted)
    ledger.record_outcome(tx, record.id, end, owner)
    for child in ledger.children(tx, record.id):
        if child.status in UNFINISHED:
            cancel(tx, child.id, now)
    told = to_parent(record, end.status, None, end.error, now)
    if told is not None:
        ledger.add_signal(tx, told)
    ledger.add_logs(tx, failures(record.id, [(now, Change(None, Status.FAILED, error=failure))]))
    ledger.announce(tx)
    return True


def let_go(tx: Transaction, record: ExecutionRecord, owner: str) -> None:
    """A verb for the store: it is free, unless the owner has lost it, or claimed it again."""
    if ledger.holds(tx, owner, record.id, record.claims):
        ledger.release(tx, owner, [record.id])
        ledger.announce(tx)
