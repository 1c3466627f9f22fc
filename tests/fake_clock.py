"""A clock that stands still until a test moves it.

`await clock.advance(ms)` runs every timer that falls due, one after another and each at its own
instant, and after each lets everything on the loop go as far as it can. So a day of schedules
takes a millisecond, and two runs of a test are the same.

What happens on other threads (the store's writer) is not time: wait for that with
`tests.eventually`, or await the future itself.
"""

import asyncio
import heapq
import itertools
import operator
from collections.abc import Callable

START = 1_767_225_600_000
"""2026-01-01T00:00:00Z, where a `FakeClock` begins unless told otherwise."""

_PATIENCE = 100_000
"""Turns of the loop after which a settling loop counts as one that never settles."""

_BLIND_TURNS = 50
"""Turns given to a loop that does not show its queue (uvloop)."""


class FakeTimer:
    """A call that has been arranged; `due` is monotonic microseconds."""

    __slots__ = ("callback", "cancelled", "due", "wall")

    def __init__(self, due: int, callback: Callable[[], None], *, wall: bool) -> None:
        self.due = due
        self.callback = callback
        self.wall = wall
        self.cancelled = False

    def cancel(self) -> None:
        """Forget the call; harmless when it has already happened."""
        self.cancelled = True
        self.callback = _nothing  # whatever it would have called is not kept


def _nothing() -> None:
    """What a call that was cancelled does."""


class FakeClock:
    """`controller.clock.Clock`, driven by hand."""

    def __init__(self, start: int = START) -> None:
        self._elapsed = 0  # monotonic, microseconds
        self._origin = start * 1000  # wall time at elapsed 0, epoch microseconds
        self._order = itertools.count()
        self._timers: list[tuple[int, int, FakeTimer]] = []

    def now(self) -> int:
        """Wall time, epoch milliseconds, UTC."""
        return (self._origin + self._elapsed) // 1000

    def monotonic(self) -> float:
        """Seconds since this clock was made; `jump` does not move it."""
        return self._elapsed / 1_000_000

    async def sleep(self, seconds: float) -> None:
        """Return once the clock has been advanced by `seconds`; at once, after a turn, for 0."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken = asyncio.get_running_loop().create_future()
        timer = self._arm(
            self._elapsed + round(seconds * 1_000_000),
            lambda: None if woken.done() else woken.set_result(None),
            wall=False,
        )
        try:
            await woken
        finally:
            timer.cancel()

    def call_at(self, when: int, callback: Callable[[], None]) -> FakeTimer:
        """Call `callback` once wall time reaches `when` (epoch ms), or in the next advance."""
        return self._arm(when * 1000 - self._origin, callback, wall=True)

    def call_later(self, milliseconds: float, callback: Callable[[], None]) -> FakeTimer:
        """Call `callback` once so much time has passed; `jump` does not move it."""
        return self._arm(self._elapsed + round(milliseconds * 1000), callback, wall=False)

    def _arm(self, due: int, callback: Callable[[], None], *, wall: bool) -> FakeTimer:
        timer = FakeTimer(due, callback, wall=wall)
        heapq.heappush(self._timers, (due, next(self._order), timer))
        return timer

    async def advance(self, milliseconds: float) -> None:
        """Let this much time pass; timers due on the way run in order, each at its instant.

        `advance(0)` runs what is due now.
        """
        target = self._elapsed + round(milliseconds * 1000)
        await settle()
        while self._timers and self._timers[0][0] <= target:
            due, _, timer = heapq.heappop(self._timers)
            if timer.cancelled:
                continue
            self._elapsed = max(self._elapsed, due)
            timer.callback()
            await settle()
        self._elapsed = target
        await settle()

    def jump(self, milliseconds: int) -> None:
        """Set the wall clock forward or back, as an operator or NTP would; no time passes."""
        self._origin += milliseconds * 1000
        moved = [
            (timer.due - milliseconds * 1000 if timer.wall else timer.due, order, timer)
            for _, order, timer in self._timers
        ]
        for due, _, timer in moved:
            timer.due = due
        heapq.heapify(moved)
        self._timers = moved

    def pending(self) -> list[int]:
        """Wall times (epoch ms) at which timers are armed, earliest first."""
        return [
            (self._origin + due) // 1000
            for due, _, timer in sorted(self._timers, key=operator.itemgetter(slice(2)))
            if not timer.cancelled
        ]


async def settle() -> None:
    """Return when nothing on this loop is ready to go on; fail if that never comes about."""
    queue = getattr(asyncio.get_running_loop(), "_ready", None)
    if queue is None:
        for _ in range(_BLIND_TURNS):
            await asyncio.sleep(0)
        return
    for _ in range(_PATIENCE):
        await asyncio.sleep(0)
        if not queue:
            return
    raise AssertionError(f"the loop did not settle within {_PATIENCE} turns: something spins")
