"""Processes of steps: spawned cheaply, read live, ended with everything they started.

A pidfd tells the loop when a process has ended; how one begins is told in `launch.py`, and
`asyncio.create_subprocess_*` does neither: it forks under uvloop, which from a large parent takes
tens of milliseconds. Each process leads a session and a group of its own. When the leader
ends, what it left behind in the group is killed; cancelled, whatever it started, in a group or a
session of its own too (`timeout` makes one). What happens to it when the daemon is killed is told
in `scratch.py`.
"""

import asyncio
import errno
import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from controller.clock import Clock
from controller.execute.action import ActionFailed, Lease, NotNow
from controller.execute.launch import LAUNCHER, Command, Launched
from controller.execute.output import Cut, Lines, Stream, anywhere
from controller.execute.pool import POOL
from controller.execute.scratch import MARK, ask, end_rest

T = TypeVar("T")

READ = 32_768
"""Bytes taken from a pipe in one turn of the loop, so that a flood keeps nobody else waiting."""

LINGER = 500
"""Milliseconds that pipes may stay open after the process has ended."""


@dataclass(frozen=True, slots=True)
class Spawn:
    """What to start.

    Attributes:
        make: Says what to begin; called on a thread, which may wait for the disk.
        on_line: Called for each line, with the stream's name and the text; must not raise.
        grace: Milliseconds between SIGTERM and SIGKILL.
        forced: Whether to skip the grace.
        lease: It starts only while this holds.
        cut: See `Lines`.
    """

    make: Callable[[], Command]
    on_line: Callable[[str, str], None]
    grace: int
    forced: Callable[[], bool]
    lease: Lease
    cut: Cut = anywhere


@dataclass(frozen=True, slots=True)
class Ended:
    """How it ended; a negative exit code is the signal that ended it."""

    exit_code: int
    stdout: str
    truncated: bool
    last_error: str


async def run_process(spawn: Spawn, clock: Clock) -> Ended:
    """Start a process and wait for its end; cancelled, end it first.

    Raises:
        ActionFailed: It cannot be started: `not_found`, `permission` or `spawn`; or what
            `Spawn.make` raises.
    """
    launched, wanted = await _launched(spawn)
    running = _Running(launched, spawn, clock)
    for warning in launched.command.warnings:
        spawn.on_line("stderr", warning)
    try:
        running.watch()
        await running.wait(wanted=wanted)
    except asyncio.CancelledError:
        await running.end()
        raise
    except OSError as error:
        running.give_up()
        raise ActionFailed("spawn", f"cannot watch a process: {error}") from None
    finally:
        running.close()
    return running.result()


async def _launched(spawn: Spawn) -> tuple[Launched, bool]:
    """The process, and whether it is still wanted: cancelled, it begins all the same."""
    launching = LAUNCHER.launch(spawn.make)
    wanted = True
    while True:
        try:
            return await asyncio.shield(launching), wanted
        except asyncio.CancelledError:
            wanted = False
        except NotNow:
            if not wanted:
                raise asyncio.CancelledError from None
            await spawn.lease.held()
            launching = LAUNCHER.launch(spawn.make)
        except (OSError, ActionFailed) as error:
            if wanted:
                raise _refusal(error) from None
            raise asyncio.CancelledError from None


def _refusal(error: OSError | ActionFailed) -> ActionFailed:
    if isinstance(error, ActionFailed):
        return error
    if isinstance(error, FileNotFoundError):
        return ActionFailed("not_found", f"{error.filename}: not found")
    if isinstance(error, PermissionError):
        return ActionFailed("permission", f"{error.filename}: {error.strerror}")
    why = error.strerror
    if error.errno == errno.E2BIG:
        why = "a value is too large for the environment or a command line (128 KiB each)"
    return ActionFailed("spawn", f"cannot start {error.filename}: {why}")


class _Running:
    """A process with its pipes on the loop."""

    def __init__(self, launched: Launched, spawn: Spawn, clock: Clock) -> None:
        self._pid = launched.pid
        self._sandboxed = launched.command.sandboxed
        self._place = launched.command.env.get(MARK)
        self._spawn = spawn
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self._exit: int | None = None
        self._out = Lines(partial(spawn.on_line, "stdout"), spawn.cut)
        self._error = Lines(partial(spawn.on_line, "stderr"), spawn.cut)
        self._streams = (Stream(launched.stdout, self._out), Stream(launched.stderr, self._error))
        self._watch = launched.pidfd
        self._linger: asyncio.TimerHandle | None = None

    def watch(self) -> None:
        """Have the loop tell what it says and when it ends; raises `OSError`."""
        if self._watch >= 0:
            self._loop.add_reader(self._watch, self._exited)
        else:  # macOS
            threading.Thread(target=self._wait, daemon=True).start()
        for stream in self._streams:
            self._loop.add_reader(stream.fd, self._read, stream)

    async def wait(self, *, wanted: bool) -> None:
        """Until it has ended; what is not wanted any more is cancelled at once."""
        if not wanted:
            raise asyncio.CancelledError
        await asyncio.shield(self.ended)

    def result(self) -> Ended:
        """How it ended."""
        text, truncated = self._out.kept()
        return Ended(self._exit or 0, text, truncated, self._error.last)

    async def end(self) -> None:
        """SIGTERM to all of it, SIGKILL after the grace; returns when everything has ended."""
        kill = partial(self._signal, signal.SIGKILL)
        timer = self._clock.call_later(self._spawn.grace, kill)
        if self._spawn.forced():
            kill()
        elif not self._sandboxed:  # a sandbox would die of it at once and take down what is in it
            self._signal(signal.SIGTERM)
        others = POOL.do(partial(ask, self._pid, self._place, grouped=self._sandboxed))
        await self._despite(self.ended)
        timer.cancel()
        asked = await self._despite(others)
        await self._despite(POOL.do(partial(end_rest, self._place, asked)))

    async def _despite(self, future: "asyncio.Future[T]") -> T:
        """What it gives; who asks again meanwhile ends the grace."""
        while not future.done():
            try:
                await asyncio.shield(future)
            except asyncio.CancelledError:
                self._signal(signal.SIGKILL)
        return future.result()

    def give_up(self) -> None:
        """End it without the loop."""
        self._signal(signal.SIGKILL)
        self._reap()

    def close(self) -> None:
        """Give back every descriptor."""
        if self._linger is not None:
            self._linger.cancel()
        for stream in self._streams:
            self._shut(stream)
        self._unwatch()

    def _unwatch(self) -> None:
        if self._watch >= 0:
            self._loop.remove_reader(self._watch)
            os.close(self._watch)
            self._watch = -1

    def _signal(self, number: int) -> None:
        if self._exit is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._pid, number)

    def _reap(self) -> None:
        """Wait for the leader, which has ended or is about to."""
        self._exit = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])

    def _wait(self) -> None:
        """On a thread, where there is no pidfd."""
        os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOWAIT)
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._exited)

    def _exited(self) -> None:
        """The leader has ended; while it is not reaped its group cannot be another's."""
        self._signal(signal.SIGKILL)
        self._unwatch()
        self._reap()
        if any(stream.open for stream in self._streams):
            # whoever escaped the group may hold the pipes for ever
            self._linger = self._loop.call_later(LINGER / 1000, self._finish)
        self._maybe_finish()

    def _read(self, stream: Stream) -> None:
        try:
            data = os.read(stream.fd, READ)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            stream.lines.feed(data)
            return
        try:
            self._shut(stream)
        finally:
            self._maybe_finish()

    def _shut(self, stream: Stream) -> None:
        if stream.open:
            self._loop.remove_reader(stream.fd)
            stream.close()

    def _maybe_finish(self) -> None:
        if self._exit is not None and not any(stream.open for stream in self._streams):
            self._finish()

    def _finish(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)
