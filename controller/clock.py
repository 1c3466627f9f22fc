"""The only module that reads the time.

Wall time is an `int` of epoch milliseconds (the unit of the definitions and of every column); the
monotonic clock is in seconds, as asyncio has it. Everything that waits asks a `Clock`, so that
tests drive time instead of sleeping.

What is recorded as due — a fire, a deadline, the end of a `sleep` — is wall time: `call_at`. How
long something may take or is let alone — a grace, a timeout, a poll, a lease that is kept — is not:
`call_later`, `sleep` and `monotonic` do not follow a wall clock that is set forward or back.
"""

import asyncio
import heapq
import time
from collections.abc import Callable
from itertools import count
from typing import Protocol

LOOK_AGAIN = 60_000
"""Milliseconds after which the wall clock is looked at again: it may have been set."""

SINCE_START = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""The clock of differences. Linux's own monotonic one stands still while the machine sleeps, and
with it a lease that somebody else sees run out; macOS's goes on."""

FEW = 64
"""Alarms that were called off and may stay, however few others there are."""


class Timer(Protocol):
    """A call that has been arranged and can be called off."""

    def cancel(self) -> None:
        """Forget the call; harmless when it has already happened."""


class Clock(Protocol):
    """Where the time comes from."""

    def now(self) -> int:
        """Wall time, epoch milliseconds, UTC."""

    def monotonic(self) -> float:
        """Seconds that never go backwards and go on while the machine sleeps.

        Only differences mean anything.
        """

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""

    def call_at(self, when: int, callback: Callable[[], None]) -> Timer:
        """Call `callback` on the loop once wall time reaches `when` (epoch milliseconds)."""

    def call_later(self, milliseconds: float, callback: Callable[[], None]) -> Timer:
        """Call `callback` on the loop after so long, wherever the wall clock is set meanwhile."""


class SystemClock:
    """The machine's own clock."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._alarms = Alarms(self)

    def now(self) -> int:
        """Wall time, epoch milliseconds, UTC."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Seconds that never go backwards and go on while the machine sleeps."""
        return time.clock_gettime(SINCE_START)

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""
        await asyncio.sleep(seconds)

    def call_at(self, when: int, callback: Callable[[], None]) -> Timer:
        """Call `callback` once wall time reaches `when`.

        A loop timer counts monotonic time, so a wall clock set forward or a machine that slept
        would make a long timer late: it looks at the wall clock again at least every minute.
        """
        loop = asyncio.get_running_loop()
        if loop is not self._loop:  # the one before is over
            self._loop, self._alarms = loop, Alarms(self)
        return self._alarms.add(when, callback)

    def call_later(self, milliseconds: float, callback: Callable[[], None]) -> Timer:
        """Call `callback` after so long."""
        return asyncio.get_running_loop().call_later(milliseconds / 1000, callback)


class Alarm:
    """A call at a wall time, until it is made or called off."""

    __slots__ = ("_alarms", "_callback")

    def __init__(self, alarms: "Alarms", callback: Callable[[], None]) -> None:
        self._alarms = alarms
        self._callback: Callable[[], None] | None = callback

    @property
    def stands(self) -> bool:
        """Whether the call is still to be made."""
        return self._callback is not None

    def cancel(self) -> None:
        """Forget the call."""
        if self._callback is not None:
            self._callback = None
            self._alarms.called_off()

    def ring(self) -> None:
        """Make the call."""
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()


class Alarms:
    """What is due at wall times on one loop: one timer for all of them.

    Each execution has a deadline, which hardly ever comes: an entry of a heap costs a fifth of a
    timer, and stays until as many have been called off as have not.

    Args:
        clock: Tells the wall time, and calls later.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._number = count()
        self._heap: list[tuple[int, int, Alarm]] = []
        self._off = 0
        self._timer: Timer | None = None

    def __len__(self) -> int:
        """Those that are kept, called off or not."""
        return len(self._heap)

    def add(self, when: int, callback: Callable[[], None]) -> Alarm:
        """See `Clock.call_at`."""
        alarm = Alarm(self, callback)
        heapq.heappush(self._heap, (when, next(self._number), alarm))
        if self._heap[0][2] is alarm:
            self._arm()
        return alarm

    def called_off(self) -> None:
        """One was, which may be on its way already."""
        self._off += 1
        if self._off > FEW and 2 * self._off > len(self._heap):
            self._heap = [each for each in self._heap if each[2].stands]
            heapq.heapify(self._heap)
            self._off = 0

    def _arm(self) -> None:
        """Look when the first is due, or the clock may have been set."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._heap:
            wait = max(0, self._heap[0][0] - self._clock.now())
            self._timer = self._clock.call_later(min(wait, LOOK_AGAIN), self._look)

    def _look(self) -> None:
        """Each that is due is a call of the loop's own: one that raises is told, and no more."""
        now, loop = self._clock.now(), asyncio.get_running_loop()
        while self._heap and self._heap[0][0] <= now:
            loop.call_soon(heapq.heappop(self._heap)[2].ring)
        self._arm()
