"""The one place where a test may wait on real time: for threads, processes and sockets.

Everything that waits on the clock goes through `FakeClock` instead.
"""

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_STEP = 0.005


async def eventually(probe: Callable[[], T], what: str = "", *, within: float = 5.0) -> T:
    """Return the first true value of `probe()`; fail after `within` seconds, saying `what`."""
    end = time.monotonic() + within
    while not (value := probe()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {within} s: {what or probe}")
        await asyncio.sleep(_STEP)
    return value


def wait_until(probe: Callable[[], T], what: str = "", *, within: float = 5.0) -> T:
    """`eventually` for a test without a loop."""
    end = time.monotonic() + within
    while not (value := probe()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {within} s: {what or probe}")
        time.sleep(_STEP)
    return value
