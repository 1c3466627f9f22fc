"""What every test may use: coroutine tests, and a clock that stands still.

An `async def test_…` runs on a fresh loop (uvloop's when marked `uvloop`) under a hard limit of
`LIMIT` seconds, or of its `timeout` marker. Fixtures are plain functions; what must be opened and
closed on the loop is an `async with` in the test.

Hypothesis keeps its own profile (a fixed seed under continuous integration) without its deadline:
a busy machine is no failure. `--hypothesis-profile thorough` tries ten times as many examples.
"""

import asyncio
import functools
import inspect
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from hypothesis import settings

from tests.fake_clock import FakeClock
from tests.postgres import Postgres, serving

usual = settings.get_profile(settings.get_current_profile_name())
settings.register_profile("usual", usual, deadline=None)
settings.register_profile("thorough", usual, deadline=None, max_examples=1000, derandomize=False)
settings.load_profile("usual")

LIMIT = 60.0
"""Seconds a coroutine test may take, on a machine that is busy with other things too."""

AsyncTest = Callable[..., Coroutine[Any, Any, None]]


@pytest.fixture
def clock() -> FakeClock:
    """A clock that stands at 2026-01-01T00:00:00Z until the test advances it."""
    return FakeClock()


def _limit(item: pytest.Function) -> float:
    marker = item.get_closest_marker("timeout")
    return float(marker.args[0]) if marker and marker.args else LIMIT


def _loop_factory(item: pytest.Function) -> Callable[[], asyncio.AbstractEventLoop]:
    if item.get_closest_marker("uvloop") is None:
        return asyncio.new_event_loop
    import uvloop  # ruff: ignore[import-outside-top-level]  # few tests need it

    return uvloop.new_event_loop


def _as_plain(test: AsyncTest, item: pytest.Function) -> Callable[..., None]:
    """The same test as a function that drives a loop of its own until the coroutine is done."""

    async def bounded(**arguments: object) -> None:
        limit = _limit(item)
        guard = asyncio.timeout(limit)
        try:
            async with guard:
                await test(**arguments)
        except TimeoutError:
            if guard.expired():
                pytest.fail(f"took longer than {limit} s")
            raise

    @functools.wraps(test)
    def plain(**arguments: object) -> None:
        with asyncio.Runner(loop_factory=_loop_factory(item)) as runner:
            runner.run(bounded(**arguments))

    return plain


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run coroutine tests; leave the others, and Hypothesis's own wrapper, to pytest."""
    test = pyfuncitem.obj
    given = getattr(test, "hypothesis", None)
    if given is not None:
        if inspect.iscoroutinefunction(given.inner_test):
            given.inner_test = _as_plain(given.inner_test, pyfuncitem)
        return None
    if not inspect.iscoroutinefunction(test):
        return None
    names = inspect.signature(test).parameters
    _as_plain(test, pyfuncitem)(**{name: pyfuncitem.funcargs[name] for name in names})
    return True


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A real PostgreSQL, started when the first test needs it."""
    with serving() as server:
        yield server
