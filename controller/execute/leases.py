"""Until when nobody else can have what a worker has in memory."""

import asyncio

from controller.clock import Clock

LEASE = 3
"""A lease lasts so many heartbeats."""


class Leases:
    """Those of one worker, which renews all of them at once.

    Args:
        heartbeat: Milliseconds between renewals.
    """

    def __init__(self, clock: Clock, heartbeat: int) -> None:
        self._clock = clock
        self._heartbeat = heartbeat
        self._renew_at = 0.0  # monotonic seconds, as is the next
        self._held_until = 0.0
        self._renewed = asyncio.Event()

    @property
    def hold(self) -> bool:
        """Whether nobody else can have what they are for."""
        return self._clock.monotonic() < self._held_until

    @property
    def late(self) -> bool:
        """Whether it is time to renew them."""
        return self._clock.monotonic() >= self._renew_at

    async def held(self) -> None:
        """Wait until they hold."""
        while not self.hold:
            self._renewed.clear()
            await self._renewed.wait()

    def until(self, now: int) -> int:
        """When those end that are written now, epoch milliseconds."""
        return now + LEASE * self._heartbeat

    def written(self, since: float) -> None:
        """They begin at `since`, monotonic seconds, or a little later."""
        self._renew_at = since + self._heartbeat / 1000
        self._held_until = since + LEASE * self._heartbeat / 1000
        self._renewed.set()
