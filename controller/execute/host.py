"""What a worker gives to the executions it has in memory."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, Protocol

from controller.admission import Gate
from controller.clock import Clock
from controller.execute.logsink import LogSink
from controller.execute.perform import Performer
from controller.execute.secrets import Secrets
from controller.facts import Bus
from controller.store import Store
from controller.store.records import ExecutionRecord


class Ended(RuntimeError):
    """The worker begins nothing any more: what it has is let go of."""


class Leaving(Protocol):
    """An execution that leaves memory."""

    record: ExecutionRecord

    @property
    def lets_others_go_on(self) -> bool:
        """Whether somebody may go on now who could not before."""


class Host(Protocol):
    """The worker, as its executions see it.

    Attributes:
        owner: Whose the executions are, in the database.
        slots: Bounds how many steps are performed at once.
        stopping: The daemon stops: nothing new is begun.
        holds: Whether nobody else can have what is in memory here; nothing is begun without.
    """

    store: Store
    clock: Clock
    bus: Bus
    gate: Gate
    performer: Performer
    secrets: Secrets
    logs: LogSink
    owner: str
    slots: asyncio.Semaphore
    stopping: bool

    @property
    def holds(self) -> bool:
        """See above."""

    @property
    def crowded(self) -> bool:
        """So many are in memory that what only waits leaves at once."""

    @property
    def rushed(self) -> bool:
        """Many are taken on: who has gone on by a step lets them go on too, before the next."""

    async def held(self) -> None:
        """Return once `holds`; what somebody else took meanwhile is interrupted instead."""

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something beside the loop; the worker waits for it before it ends."""

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """`spawn`, for what may have to be cancelled; raises `Ended`, and closes the work."""

    def wake(self) -> None:
        """There may be executions to claim or signals to take."""

    def took(self, signals: Iterable[str]) -> None:
        """These have become events, durably; whoever looked before that still sees them."""

    def waits(self) -> None:
        """An execution only waits, and stays in memory."""

    def left(self, leaving: Leaving) -> None:
        """The execution has left memory; it may have been claimed here once more meanwhile."""
