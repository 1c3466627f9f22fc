"""The only module that reads the time.

Wall time is an `int` of epoch milliseconds (the unit of the definitions and of every column); the
monotonic clock is in seconds, as asyncio has it. Everything that waits asks a `Clock`, so that
tests drive time instead of sleeping.

What is recorded as due — a fire, a deadline, the end of a `sleep` — is wall time: `call_at`. How
long something may take or is let alone — a grace, a timeout, a poll, a lease that is kept — is not:
`call_later`, `sleep` and `monotonic` do not follow a wall clock that is set forward or back.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """A call that has been arranged and can be called off."""

    def cancel(self) -> None:
        """Forget the call; harmless when it has already happened."""


class Clock(Protocol):
    """Where the time comes from."""

    def now(self) -> int:
        """Wall time, epoch milliseconds, UTC."""

    def monotonic(self) -> float:
        """Seconds that never go backwards; only differences mean anything."""

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""

    def call_at(self, when: int, callback: Callable[[], None]) -> Timer:
        """Call `callback` on the loop once wall time reaches `when` (epoch milliseconds)."""

    def call_later(self, milliseconds: float, callback: Callable[[], None]) -> Timer:
        """Call `callback` on the loop after so long, wherever the wall clock is set meanwhile."""


class SystemClock:
    """The machine's own clock."""

    def now(self) -> int:
        """Wall time, epoch milliseconds, UTC."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Seconds that never go backwards."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""
        await asyncio.sleep(seconds)

    def call_at(self, when: int, callback: Callable[[], None]) -> Timer:
        """Call `callback` once wall time reaches `when`.

        A loop timer counts monotonic time, so a wall clock set forward or a machine that slept
        would make a long timer late: it looks at the wall clock again at least every minute.
        """
        return _WallTimer(self, when, callback)

    def call_later(self, milliseconds: float, callback: Callable[[], None]) -> Timer:
        """Call `callback` after so long."""
        return asyncio.get_running_loop().call_later(milliseconds / 1000, callback)


class _WallTimer:
    """A timer towards a wall time, checked again at least every `LOOK_AGAIN` seconds."""

    LOOK_AGAIN = 60.0

    def __init__(self, clock: SystemClock, when: int, callback: Callable[[], None]) -> None:
        self._clock = clock
        self._when = when
        self._callback = callback
        self._loop = asyncio.get_running_loop()
        self._handle: asyncio.TimerHandle | None = None
        self._arm()

    def _arm(self) -> None:
        wait = max(0.0, (self._when - self._clock.now()) / 1000)
        self._handle = self._loop.call_later(min(wait, self.LOOK_AGAIN), self._look)

    def _look(self) -> None:
        if self._clock.now() >= self._when:
            self._callback()
        else:
            self._arm()

    def cancel(self) -> None:
        """Forget the call."""
        if self._handle is not None:
            self._handle.cancel()
