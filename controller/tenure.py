"""What only one controller does at a time, where there may be several: by a lease it renews.

A tenure is had, lost and had again; whoever works under it asks `held` before it begins, and writes
through `write`, which takes nothing from one who has lost it. Controllers whose clocks differ by
less than a lease never have it at the same time for long, and never write at the same time.
"""

import asyncio
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

from controller.clock import Clock
from controller.core.problem import Unavailable
from controller.logs import get_log
from controller.store import Store, ledger
from controller.store.tables import Transaction

T = TypeVar("T")
P = ParamSpec("P")

BEATS = 3
"""A lease lasts so many heartbeats."""

log = get_log("windlass.tenure")


class Tenure:
    """One lease, taken whenever it is free, and renewed.

    Args:
        name: `source/…` or `controller/…`.
        owner: This controller.
        heartbeat: Milliseconds between renewals.

    Attributes:
        decided: Set once it is known whether it is ours.
        changed: Called whenever that changes.
    """

    def __init__(
        self, store: Store, clock: Clock, *, name: str, owner: str, heartbeat: int
    ) -> None:
        self.name = name
        self.decided = asyncio.Event()
        self.changed: Callable[[], None] = lambda: None
        self._store = store
        self._clock = clock
        self._owner = owner
        self._heartbeat = heartbeat
        self._had = False
        self._until = 0.0
        self._woken = asyncio.Event()
        self._stopping = False

    @property
    def held(self) -> bool:
        """Whether it is ours, and nobody else can take it now."""
        return self._had and self._clock.monotonic() < self._until

    async def write(
        self, verb: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """`Store.write_out`, while nobody else has taken it; raises `Fenced` when somebody has."""

        def fenced(tx: Transaction) -> T:
            ledger.hold_lease(tx, self.name, self._owner)
            return verb(tx, *args, **kwargs)

        return await self._store.write_out(None, fenced)

    def look_again(self) -> None:
        """Somebody may have let go of it."""
        if not self._had:
            self._woken.set()

    def stop(self) -> None:
        """End the loop."""
        self._stopping = True
        self._woken.set()

    async def run(self) -> None:
        """Take and renew until stopped; then let go of it."""
        while not self._stopping:
            self._woken.clear()
            try:
                await self._try()
            except Unavailable as error:
                log.warning("lease not renewed", lease=self.name, error=str(error))
            timer = self._clock.call_later(self._heartbeat, self._woken.set)
            await self._woken.wait()
            timer.cancel()
        await self._store.write(_give_up, self.name, self._owner)

    async def _try(self) -> None:
        begun, now = self._clock.monotonic(), self._clock.now()
        span = BEATS * self._heartbeat
        had, self._had = (
            self._had,
            await self._store.write(
                ledger.take_lease, self.name, self._owner, now=now, until=now + span
            ),
        )
        if self._had:
            self._until = begun + span / 1000
        if had is not self._had:
            log.info("lease taken" if self._had else "lease lost", lease=self.name)
        if had is not self._had or not self.decided.is_set():
            self.decided.set()
            self.changed()


def _give_up(tx: Transaction, name: str, owner: str) -> None:
    ledger.give_up_lease(tx, name, owner)
    ledger.announce(tx)
