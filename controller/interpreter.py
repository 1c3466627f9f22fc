"""What Python itself does otherwise for a while: when it collects, changes threads, and ends.

The collector looks at all that is new for every few thousand objects more, and finds nothing there
where what is being made stays.
"""

import gc
import signal
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

TURN = 0.0001
"""Seconds after which a thread lets another one go on while many executions begin."""

_blocks = 0
_rushes = 0
_turn = 0.0


@contextmanager
def uncollected() -> Generator[None]:
    """The collector looks at nothing while the block lasts; blocks may overlap."""
    global _blocks  # ruff: ignore[global-statement]  # a process has one collector
    _blocks += 1
    gc.disable()
    try:
        yield
    finally:
        _blocks -= 1
        if not _blocks:
            gc.enable()


@contextmanager
def rush() -> Generator[None]:
    """Many executions begin: none of them goes yet, and who records them waits for no long turn.

    SQLite's driver gives Python's lock up for each statement, and by default waits five
    milliseconds for it while the loop begins what is recorded. Blocks may overlap.
    """
    global _rushes, _turn  # ruff: ignore[global-statement]  # a process has one interpreter
    if not _rushes:
        _turn = sys.getswitchinterval()
        sys.setswitchinterval(TURN)
    _rushes += 1
    try:
        with uncollected():
            yield
    finally:
        _rushes -= 1
        if not _rushes:
            sys.setswitchinterval(_turn)


@contextmanager
def loading() -> Generator[None]:
    """What is made in the block stays for good: it is not looked at then or later.

    Thousands of definitions are millions of objects; looking at all of them again and again for
    every few that are new took a sixth of a cold start.
    """
    with uncollected():
        try:
            yield
        finally:
            gc.freeze()


@contextmanager
def thawed() -> Generator[None]:
    """What `loading` has kept from the collector in the block is looked at again afterwards."""
    try:
        yield
    finally:
        gc.unfreeze()


def ask_to_end(loop: "AbstractEventLoop", stop: Callable[[signal.Signals], object]) -> None:
    """What would end the process at once calls `stop` on its loop, for as long as that lasts.

    SIGTERM, and SIGHUP: the terminal was closed. Who ignores one of them, as `nohup` does, goes on.
    """
    for each in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(each) is not signal.SIG_IGN:
            loop.add_signal_handler(each, stop, each)
