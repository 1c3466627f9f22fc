"""When the garbage collector does not look, because what is being made stays.

It looks at all that is new for every few thousand objects more, and finds nothing there.
"""

import gc
from collections.abc import Generator
from contextlib import contextmanager

_blocks = 0


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
