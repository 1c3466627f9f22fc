"""Waiting: for a database that does not answer, and for what is to come about by itself."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from controller.clock import Clock
from controller.core.problem import Unavailable

T = TypeVar("T")

AGAIN_AFTER = 1.0
"""Seconds between tries."""


LOOK = 0.02
"""Seconds between looks at what is to come about."""


async def until(clock: Clock, done: Callable[[], bool]) -> None:
    """Return when `done` is."""
    while not done():
        await clock.sleep(LOOK)


async def patiently(clock: Clock, work: Callable[[], Awaitable[T]]) -> T:
    """The result of `work`, which is done again while the database is unavailable."""
    while True:
        try:
            return await work()
        except Unavailable:
            await clock.sleep(AGAIN_AFTER)


def insist(
    clock: Clock,
    queue: Callable[[], asyncio.Future[T] | None],
    then: Callable[[asyncio.Future[T]], None],
) -> None:
    """`patiently`, for what nothing waits for: neither whoever asks, nor a worker that ends.

    Args:
        clock: Between the tries.
        queue: Tries; None: it is not wanted any more.
        then: Takes what came of it, unless that is that the database is unavailable.
    """

    def done(future: asyncio.Future[T]) -> None:
        if future.cancelled():
            return
        if isinstance(future.exception(), Unavailable):
            clock.call_later(1000 * AGAIN_AFTER, lambda: insist(clock, queue, then))
        else:
            then(future)

    queued = queue()
    if queued is not None:
        queued.add_done_callback(done)
