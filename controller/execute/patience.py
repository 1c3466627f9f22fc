"""Waiting: for a database that does not answer, and for what is to come about by itself."""

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
