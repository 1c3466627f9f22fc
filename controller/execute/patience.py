"""Waiting for a database that does not answer, for what may be written again."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from controller.clock import Clock
from controller.core.problem import Unavailable

T = TypeVar("T")

AGAIN_AFTER = 1.0
"""Seconds between tries."""


async def patiently(clock: Clock, work: Callable[[], Awaitable[T]]) -> T:
    """The result of `work`, which is done again while the database is unavailable."""
    while True:
        try:
            return await work()
        except Unavailable:
            await clock.sleep(AGAIN_AFTER)
