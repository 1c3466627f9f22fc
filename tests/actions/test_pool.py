"""What threads do for a loop: told once it is done, whoever stopped waiting."""

import asyncio
import threading

import pytest

from controller.execute.pool import THREADS, Pool, settled
from tests.eventually import wait_until


async def test_what_is_done_is_told() -> None:
    """What it gave, what it raised; on threads of its own, no more than there are to be."""
    pool = Pool()
    names = await asyncio.gather(
        *(pool.do(lambda: threading.current_thread().ident) for _ in range(5 * THREADS))
    )
    assert threading.get_ident() not in names
    assert len(set(names)) <= THREADS
    with pytest.raises(ZeroDivisionError):
        await pool.do(lambda: 1 // 0)


async def test_who_is_cancelled_waits_until_it_is_done() -> None:
    """Asked once or twice: what is on its way cannot be taken back."""
    free = threading.Event()
    done: list[bool] = []
    waiting = asyncio.create_task(settled(Pool().do(lambda: done.append(free.wait(10)))))
    for _ in range(2):
        await asyncio.sleep(0)
        waiting.cancel()
    await asyncio.sleep(0)
    assert not waiting.done()
    free.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert done == [True]


async def test_who_is_cancelled_need_not_hear_of_a_failure() -> None:
    """Cancelled is what it is then, and nobody complains that a failure was not looked at."""
    free = threading.Event()
    waiting = asyncio.create_task(settled(Pool().do(lambda: free.wait(10) and 1 // 0)))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.sleep(0)
    free.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting


def test_what_nobody_can_be_told_of_is_given_back() -> None:
    """The loop is closed meanwhile."""
    free = threading.Event()
    given: list[int] = []

    def work() -> int:
        assert free.wait(10)
        return 7

    async def ask() -> None:  # ruff: ignore[unused-async]  # on a loop
        _ = Pool().do(work, lost=given.append)

    asyncio.run(ask())
    free.set()
    wait_until(lambda: given == [7], "it is given back")
