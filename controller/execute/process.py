"""Processes of steps: spawned cheaply, read live, ended with everything they started.

`subprocess.Popen` uses vfork as long as nothing is to be done in the child, and a pidfd tells the
loop when it has ended; `asyncio.create_subprocess_*` forks under uvloop, which from a large parent
takes tens of milliseconds. Each process leads a group of its own. When the leader ends, what it
left behind is killed; when the daemon was killed, what it left behind is found at the next start by
a mark in its environment (`end_orphans`), because a step in flight runs again, and must not run
beside itself.
"""

import asyncio
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from controller.clock import Clock
from controller.execute.action import ActionFailed

MARK = "WINDLASS_SCRATCH"
"""The variable that says whose child a process is."""

KEPT = 262_144
"""Bytes of stdout that become an output; more is counted and dropped."""

LINE = 16_384
"""Bytes of one log line; a longer one comes in pieces."""

READ = 65_536
LINGER = 500
"""Milliseconds that pipes may stay open after the process has ended."""


@dataclass(frozen=True, slots=True)
class Spawn:
    """What to start.

    Attributes:
        on_line: Called for each line, with the stream's name and the text.
        grace: Milliseconds between SIGTERM and SIGKILL.
        forced: Whether to skip the grace.
    """

    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: Path
    on_line: Callable[[str, str], None]
    grace: int
    forced: Callable[[], bool]
    stdin: bytes | None = None


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
        ActionFailed: It cannot be started: `not_found`, `permission` or `spawn`.
    """
    process = _start(spawn)
    running = _Running(process, spawn, clock)
    try:
        await asyncio.shield(running.ended)
    except asyncio.CancelledError:
        await running.end()
        raise
    finally:
        running.close()
    return running.result()


def end_orphans(scratch: Path) -> int:
    """Kill what an earlier daemon with this scratch directory left running; how many processes."""
    mark = f"{MARK}={scratch}".encode()
    found = 0
    for entry in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError, ValueError):
            pid = int(entry.parent.name)
            if pid != os.getpid() and mark in entry.read_bytes().split(b"\0"):
                os.kill(pid, signal.SIGKILL)
                found += 1
    return found


def _start(spawn: Spawn) -> "subprocess.Popen[bytes]":
    stdin: IO[bytes] | int = subprocess.DEVNULL
    try:
        if spawn.stdin is not None:
            stdin = tempfile.TemporaryFile(dir=spawn.cwd)
            stdin.write(spawn.stdin)
            stdin.seek(0)
        return subprocess.Popen(  # noqa: S603  # the argument vector is the author's, not text
            spawn.argv,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=spawn.env,
            cwd=spawn.cwd,
            start_new_session=True,
            bufsize=0,
        )
    except FileNotFoundError as error:
        missing = error.filename or spawn.argv[0]
        raise ActionFailed("not_found", f"{missing}: not found") from None
    except PermissionError as error:
        raise ActionFailed("permission", f"{error.filename}: {error.strerror}") from None
    except (OSError, ValueError) as error:
        raise ActionFailed("spawn", f"cannot start {spawn.argv[0]}: {error}") from None
    finally:
        if not isinstance(stdin, int):
            stdin.close()


@dataclass(slots=True)
class _Stream:
    """One of its pipes: bytes in, lines out."""

    name: str
    file: IO[bytes]
    rest: bytes = b""
    kept: list[bytes] = field(default_factory=list)
    size: int = 0
    open: bool = True


class _Running:
    """A process with its pipes on the loop."""

    def __init__(self, process: "subprocess.Popen[bytes]", spawn: Spawn, clock: Clock) -> None:
        self._process = process
        self._spawn = spawn
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self._exit: int | None = None
        self._last_error = ""
        assert process.stdout is not None and process.stderr is not None  # noqa: S101, PT018  # pipes were asked for
        self._streams = [_Stream("stdout", process.stdout), _Stream("stderr", process.stderr)]
        for stream in self._streams:
            os.set_blocking(stream.file.fileno(), False)  # noqa: FBT003  # the function's signature
            self._loop.add_reader(stream.file.fileno(), self._read, stream)
        self._watch = os.pidfd_open(process.pid)
        self._loop.add_reader(self._watch, self._exited)
        self._linger: asyncio.TimerHandle | None = None

    def result(self) -> Ended:
        """How it ended."""
        out = self._streams[0]
        text = b"".join(out.kept)[:KEPT].decode(errors="replace")
        return Ended(self._exit or 0, text, out.size > KEPT, self._last_error)

    async def end(self) -> None:
        """SIGTERM to the whole group, SIGKILL after the grace; returns when it has ended."""
        self._signal(signal.SIGKILL if self._spawn.forced() else signal.SIGTERM)
        timer = self._clock.call_at(
            self._clock.now() + self._spawn.grace, lambda: self._signal(signal.SIGKILL)
        )
        while not self.ended.done():
            try:
                await asyncio.shield(self.ended)
            except asyncio.CancelledError:
                self._signal(signal.SIGKILL)  # asked again: no more grace
        timer.cancel()

    def close(self) -> None:
        """Give back every descriptor."""
        if self._linger is not None:
            self._linger.cancel()
        for stream in self._streams:
            self._shut(stream)
        if self._watch >= 0:
            self._loop.remove_reader(self._watch)
            os.close(self._watch)
            self._watch = -1

    def _signal(self, number: int) -> None:
        if self._exit is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    def _exited(self) -> None:
        """The leader has ended; while it is not reaped its group cannot be another's."""
        self._signal(signal.SIGKILL)
        self._loop.remove_reader(self._watch)
        os.close(self._watch)
        self._watch = -1
        self._exit = self._process.wait()
        if any(stream.open for stream in self._streams):
            # whoever escaped the group may hold the pipes for ever
            self._linger = self._loop.call_later(LINGER / 1000, self._finish)
        self._maybe_finish()

    def _read(self, stream: _Stream) -> None:
        try:
            data = os.read(stream.file.fileno(), READ)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._feed(stream, data)
        else:
            self._shut(stream)
            self._maybe_finish()

    def _feed(self, stream: _Stream, data: bytes) -> None:
        if stream.name == "stdout" and stream.size < KEPT:
            stream.kept.append(data)
        stream.size += len(data)
        *lines, stream.rest = (stream.rest + data).split(b"\n")
        for line in lines:
            self._line(stream, line)
        while len(stream.rest) >= LINE:
            self._line(stream, stream.rest[:LINE])
            stream.rest = stream.rest[LINE:]

    def _line(self, stream: _Stream, line: bytes) -> None:
        for begin in range(0, max(len(line), 1), LINE):
            text = line[begin : begin + LINE].decode(errors="replace").rstrip("\r")
            if stream.name == "stderr" and text.strip():
                self._last_error = text
            self._spawn.on_line(stream.name, text)

    def _shut(self, stream: _Stream) -> None:
        if stream.open:
            stream.open = False
            self._loop.remove_reader(stream.file.fileno())
            stream.file.close()
            if stream.rest:
                self._line(stream, stream.rest)
                stream.rest = b""

    def _maybe_finish(self) -> None:
        if self._exit is not None and not any(stream.open for stream in self._streams):
            self._finish()

    def _finish(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)
