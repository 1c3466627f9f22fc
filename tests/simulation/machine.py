"""A simulated process: the product's own controller, wired by its own `App`, on its own loop."""

from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from controller.app import App
from controller.clock import SystemClock
from controller.core.problem import NotFound, Refused, Unavailable
from controller.execute.patience import patiently
from controller.execute.taking import take_over
from controller.facts import Fact
from controller.schedule import Scheduler
from controller.settings import Settings
from tests.fake_clock import START
from tests.simulation.disk import Disk
from tests.simulation.loop import Loop
from tests.simulation.outside import Outside

if TYPE_CHECKING:
    import asyncio

    from controller.store.lock import ControllerLock

HEARTBEAT = 3_000
"""Milliseconds: a lease lasts three of them."""


class MachineClock(SystemClock):
    """The product's clock on a machine that is simulated: `skew` is what it is ahead, seconds."""

    def __init__(self, loop: Loop) -> None:
        super().__init__()
        self.skew = 0.0
        self._time = loop.time

    def now(self) -> int:
        """Wall time, epoch milliseconds, UTC."""
        return START + round((self._time() + self.skew) * 1000)

    def monotonic(self) -> float:
        """Seconds that never go backwards."""
        return self._time()


class Machine:
    """One life of a controller.

    Args:
        alone: There is one controller, which takes over by its lock; else they have leases.
        ahead: Milliseconds before a fire at which it is written.
        say: Takes a line of the history.

    Attributes:
        asleep_until: It is stopped until then, seconds of the world.
        steps: How often its loop went on.
    """

    def __init__(  # ruff: ignore[too-many-arguments]  # wired once, in world.py
        self,
        name: str,
        loop: Loop,
        disk: Disk,
        outside: Outside,
        *,
        alone: bool,
        ahead: float,
        say: Callable[[str], None],
    ) -> None:
        self.name = name
        self.loop = loop
        self.disk = disk
        self.clock = MachineClock(loop)
        self.asleep_until = 0.0
        self._say = say
        store = disk.store
        if not alone:
            store.path = None
        settings = Settings(
            state_dir=Path("/nonexistent"), checkpoint_interval=HEARTBEAT, max_gotos=2
        )
        self.app = App(settings, store, self.clock)
        self.app.owner = name
        self.app.registry._loaded["http"] = outside
        self.worker = self.app.worker()
        self.scheduler = Scheduler(
            store=store,
            clock=self.clock,
            bus=self.app.bus,
            gate=self.app.gate,
            executor=self.worker,
            ahead_of_each=ahead,
        )
        self._working: asyncio.Task[None] | None = None
        self.app.bus.subscribe(self._tell)
        self.app.on_ring(self.worker.wake)
        self.app.on_ring(self.scheduler.look_again)

    def start(self, predecessor: str | None) -> None:
        """Begin, as the daemon does."""
        self._begin(self._run(predecessor))

    async def _run(self, predecessor: str | None) -> None:
        holder = SimpleNamespace(owner=predecessor) if predecessor else None
        lock = cast("ControllerLock", SimpleNamespace(predecessor=holder))
        while True:
            try:
                await self.app.prepare(lock)
            except Unavailable:  # the daemon ends; whoever started it starts it again
                await self.clock.sleep(1)
            else:
                break
        self._working = self.loop.create_task(self.worker.run())
        self._begin(self.scheduler.run())
        await self.worker.first.wait()
        await patiently(self.clock, lambda: take_over(self.app.store, self.app.owner))
        self.worker.wake()

    def stop(self, grace: float, gone: Callable[[], None]) -> None:
        """End, as the daemon does when it is asked to; `grace`: seconds."""
        self._begin(self._stop(round(grace * 1000), gone))

    async def _stop(self, grace: int, gone: Callable[[], None]) -> None:
        self.scheduler.stop()
        if self._working is not None:
            await self.worker.stop(grace)
            await self._working
        gone()

    def ask(
        self, what: str, call: Callable[[], Awaitable[Any]], done: Callable[[Any], None]
    ) -> None:
        """Somebody asks; what is refused, and what is not known to be done, is told."""

        async def asked() -> None:
            try:
                answer = await call()
            except (Refused, NotFound, Unavailable) as error:
                self._say(f"{self.name} {what}: {type(error).__name__}: {error}")
                done(None)
            else:
                self._say(f"{self.name} {what}: done")
                done(answer)

        self._begin(asked())

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something beside; the loop keeps hold of it."""
        task = self.loop.create_task(work)
        del task

    def _tell(self, fact: Fact) -> None:
        step = f".{fact.step}" if fact.step else ""
        self._say(f"{self.name} tells {fact.type} {fact.workflow} {fact.execution}{step}")
