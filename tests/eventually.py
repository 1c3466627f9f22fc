"""The one place where a test may wait on real time: for threads, processes and sockets.

Everything that waits on the clock goes through `FakeClock` instead.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

_STEP = 0.005

_BUSY = 3
"""A machine busy with other things may be so many times slower than what `within` is meant for."""


async def eventually(probe: Callable[[], T], what: str = "", *, within: float = 5.0) -> T:
    """Return the first true value of `probe()`; fail after `within` seconds, saying `what`.

    A quick machine's seconds: what matters is that it happens, and how soon is for benchmarks.
    """
    end = time.monotonic() + within * _BUSY
    while not (value := probe()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {_BUSY} x {within} s: {what or probe}")
        await asyncio.sleep(_STEP)
    return value


async def answered(
    ask: Callable[[], Awaitable[T]], wanted: Callable[[T], object], what: str = ""
) -> T:
    """`eventually` for what has to be asked for: the first answer that is `wanted`."""
    end = time.monotonic() + 5.0 * _BUSY
    while not wanted(answer := await ask()):
        if time.monotonic() > end:
            raise AssertionError(f"not in time: {what or ask}")
        await asyncio.sleep(_STEP)
    return answer


def wait_until(probe: Callable[[], T], what: str = "", *, within: float = 5.0) -> T:
    """`eventually` for a test without a loop."""
    end = time.monotonic() + within * _BUSY
    while not (value := probe()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {_BUSY} x {within} s: {what or probe}")
        time.sleep(_STEP)
    return value
