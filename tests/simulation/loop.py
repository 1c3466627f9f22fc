"""An event loop that is one simulated process: it goes a step at a time, when it is told to.

Whoever stops telling it has stopped the process (SIGSTOP, `kill -9`). Its time is made up, what
runs on threads elsewhere runs here at a moment of its own, and of the tasks that could go on now
the seed chooses one; everything else keeps the order in which it was arranged, as asyncio promises.
"""

import asyncio
import heapq
import inspect
import itertools
from asyncio import events
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager, suppress
from contextvars import Context
from random import Random
from typing import Any

LOOK_AHEAD = 4
"""So many ready calls are looked at for a task that may overtake the others."""


class Loop(asyncio.BaseEventLoop):
    """One process.

    Args:
        elapsed: Seconds of the simulated world.
        chance: Decides who goes next, and how long a thread takes.
        idle: Lets time pass until then, with nobody doing anything.

    Attributes:
        faults: What nobody caught, as asyncio tells it: a bug.
    """

    def __init__(
        self, elapsed: Callable[[], float], chance: Random, idle: Callable[[float], None]
    ) -> None:
        super().__init__()
        self.idle = idle
        self.faults: list[str] = []
        self._elapsed = elapsed
        self._chance = chance
        self._ready: list[asyncio.Handle] = []  # in place of asyncio's own
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._order = itertools.count()
        self._tasks: list[asyncio.Task[Any]] = []

    # -- for the world ----------------------------------------------------------------------

    def is_ready(self) -> bool:
        """Whether something can go on without time passing."""
        self._move_due()
        return bool(self._ready)

    def next_due(self) -> float | None:
        """When the next timer is due; None: there is none."""
        while self._timers and self._timers[0][2].cancelled():
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def step(self) -> None:
        """Let one of the ready calls go on to its next await."""
        handle = self._ready.pop(self._chosen())
        if not handle.cancelled():
            with self.running():
                handle._run()

    @contextmanager
    def running(self) -> Generator[None]:
        """What happens in the block, this process does."""
        events._set_running_loop(self)
        try:
            yield
        finally:
            events._set_running_loop(None)

    def _chosen(self) -> int:
        """The first, or a task that may go before those that are ready since longer."""
        tasks = 0
        for handle in self._ready[:LOOK_AHEAD]:
            if not isinstance(getattr(handle._callback, "__self__", None), asyncio.Task):  # type: ignore[attr-defined]  # asyncio's own
                break
            tasks += 1
        return self._chance.randrange(tasks) if tasks > 1 else 0

    def _move_due(self) -> None:
        while (due := self.next_due()) is not None and due <= self._elapsed():
            self._ready.append(heapq.heappop(self._timers)[2])

    def end(self) -> None:
        """Let go of what nobody will go on with; whatever that says is of no account any more."""
        with self.running():
            for task in self._tasks:
                if not task.done():
                    task._log_destroy_pending = False  # type: ignore[attr-defined]  # asyncio's own
                    with suppress(BaseException):
                        _close(task.get_coro())
        self._closed = True
        self._ready.clear()
        self._timers.clear()

    # -- for asyncio ------------------------------------------------------------------------

    def time(self) -> float:
        """Seconds of the world."""
        return self._elapsed()

    def call_soon(  # type: ignore[override]  # asyncio's, in fewer words
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """Arrange a call behind those arranged before."""
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]  # one thread

    def call_later(  # type: ignore[override]  # asyncio's, in fewer words
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Arrange a call in so many seconds."""
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]  # asyncio's, in fewer words
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Arrange a call for a time."""
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._order), handle))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Left in the heap until its time has come."""

    def create_future(self) -> asyncio.Future[Any]:
        """A future of this loop."""
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]  # asyncio's, in fewer words
        self, coro: Coroutine[Any, Any, Any], *, name: str | None = None, **more: Any
    ) -> asyncio.Task[Any]:
        """A task of this loop."""
        task = asyncio.Task(coro, loop=self, name=name, **more)
        self._tasks.append(task)
        return task

    def run_in_executor(  # type: ignore[override]  # asyncio's, in fewer words
        self, executor: object, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """What a thread would do, done at a moment of its own."""
        del executor
        future = self.create_future()
        self.call_later(self._chance.choice((0, 0, 0.001, 0.01)), _work, future, func, args)
        return future

    def get_debug(self) -> bool:
        """Never."""
        return False

    def is_running(self) -> bool:
        """Whenever somebody asks."""
        return True

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Somebody's bug."""
        error = context.get("exception")
        self.faults.append(f"{context.get('message')}: {error!r}")


def _close(coroutine: Any) -> None:
    """End a coroutine, and one that has not begun with those that were handed to it."""
    if inspect.iscoroutine(coroutine) and inspect.getcoroutinestate(coroutine) == "CORO_CREATED":
        for each in inspect.getcoroutinelocals(coroutine).values():
            if inspect.iscoroutine(each):
                _close(each)
    coroutine.close()


def _work(future: asyncio.Future[Any], func: Callable[..., Any], args: tuple[Any, ...]) -> None:
    try:
        result = func(*args)
    except Exception as error:  # ruff: ignore[blind-except]  # whoever awaits gets it
        if not future.done():
            future.set_exception(error)
    else:
        if not future.done():
            future.set_result(result)
