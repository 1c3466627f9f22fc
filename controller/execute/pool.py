"""Threads that do for a loop what would keep it waiting: begin a process, make a directory.

To make, rename or look into a directory takes microseconds or, on a busy disk, as long as that
likes; and each such call lets another thread have Python's lock, which the loop then waits for.
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

THREADS = 4
"""How many things may be on their way at once: more of them wait for each other in a directory."""

T = TypeVar("T")


class Pool:
    """Does things for whoever asks on a loop.

    Its threads are made when first needed and never end: who asked to die with its parent, as
    bubblewrap does, dies with the thread that began it.
    """

    def __init__(self) -> None:
        self._queue: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._threads = 0

    def do(
        self, work: Callable[[], T], *, lost: Callable[[T], object] | None = None
    ) -> "asyncio.Future[T]":
        """What it gives or raises; do not cancel that, it is done all the same.

        Args:
            work: Called on a thread.
            lost: Gets what it gave when the loop is closed by then, on the thread.
        """
        if self._threads < THREADS:
            self._threads += 1
            threading.Thread(target=self._serve, name="pool", daemon=True).start()
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._queue.put(partial(_do, work, lost, future))
        return future

    def _serve(self) -> None:
        while True:
            self._queue.get()()


POOL = Pool()
"""Of this process; where it does nothing it has no threads."""


async def settled(future: "asyncio.Future[T]") -> T:
    """What it gives; who is cancelled waits for it all the same, then that is raised."""
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        while not future.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait((future,))
        raise


def _do(work: Callable[[], T], lost: Callable[[T], object] | None, future: Any) -> None:  # ruff: ignore[any-type]  # a future of T
    result = None
    try:
        result = work()
        tell = partial(future.set_result, result)
    except Exception as error:  # ruff: ignore[blind-except]  # it belongs to whoever asked
        lost, tell = None, partial(future.set_exception, error)
    try:
        future.get_loop().call_soon_threadsafe(tell)
    except RuntimeError:  # the loop is closed: nobody will ever wait for it
        if lost is not None:
            lost(result)  # type: ignore[arg-type]  # it is there
