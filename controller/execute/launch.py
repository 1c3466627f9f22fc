"""Processes begun on threads of their own, while the loop goes on.

Until a new process has become its program, whoever began it is suspended: a third of a millisecond
on an idle machine, several on a busy one. The C library's `posix_spawn` is called here with
Python's lock released, which neither `subprocess` nor `os.posix_spawn` does, and it takes a working
directory. Where the library is too old for that, `subprocess.Popen` does it on the same threads.
"""

import asyncio
import ctypes
import errno
import os
import signal
import subprocess  # ruff: ignore[suspicious-subprocess-import]  # processes are what this is about
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import cache, partial
from pathlib import Path
from queue import SimpleQueue
from typing import IO, NamedTuple

THREADS = 8
"""How many processes may be on their way to their programs at once."""

_SET_SIGNALS, _SET_SESSION = 0x04, 0x80
"""POSIX_SPAWN_SETSIGDEF and POSIX_SPAWN_SETSID of glibc's <spawn.h>."""

_IGNORED = (signal.SIGPIPE, signal.SIGXFSZ)
"""What Python ignores and no program expects to be ignored."""

_ATTRIBUTES, _ACTIONS, _SIGNALS = 1024, 512, 128
"""Bytes for posix_spawnattr_t (336), posix_spawn_file_actions_t (80) and sigset_t (128)."""

_MISSING = frozenset({errno.ENOENT, errno.ENOTDIR})
"""Errors after which the next directory of the PATH is tried."""


class Command(NamedTuple):
    """What to begin, in a session and a process group of its own.

    Attributes:
        may: Asked by the thread that begins it, at the last moment: the whole machine may have been
            asleep, or this process stopped, since it was asked for.
        stdin: What it reads; None: nothing.
    """

    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: Path
    may: Callable[[], bool]
    stdin: bytes | None = None


class NotNow(Exception):
    """The process was not begun: `Command.may` said no."""


class Launched(NamedTuple):
    """A process that has begun, and descriptors to read what it writes; close and reap them."""

    pid: int
    stdout: int
    stderr: int


Begin = Callable[[Command, int, int, int], int]
"""A way to begin a process with three descriptors; its id, `NotNow`, `OSError` or `ValueError`."""


class Launcher:
    """Begins processes for whoever asks on a loop.

    Its threads are made when first needed and never end: who asked to die with its parent, as
    bubblewrap does, dies with the thread that began it.

    Args:
        begin: The way to do it; None: the best there is.
    """

    def __init__(self, begin: Begin | None = None) -> None:
        self._begin = begin
        self._queue: SimpleQueue[tuple[Command, asyncio.Future[Launched]]] = SimpleQueue()
        self._threads = 0

    def launch(self, command: Command) -> asyncio.Future[Launched]:
        """Begin a process; what is returned fails with `NotNow`, `OSError` or `ValueError`.

        Whoever stops waiting must still wait: the process begins all the same. Do not cancel it.
        """
        if self._threads < THREADS:
            self._threads += 1
            threading.Thread(target=self._serve, name="launcher", daemon=True).start()
        future: asyncio.Future[Launched] = asyncio.get_running_loop().create_future()
        self._queue.put((command, future))
        return future

    def _serve(self) -> None:
        begin = self._begin or best()
        while True:
            command, future = self._queue.get()
            launched = None
            try:
                launched = _launch(begin, command)
                tell = partial(future.set_result, launched)
            except Exception as error:  # ruff: ignore[blind-except]  # it belongs to whoever asked
                tell = partial(future.set_exception, error)
            try:
                future.get_loop().call_soon_threadsafe(tell)
            except RuntimeError:  # the loop is closed: nobody will ever wait for it
                if launched is not None:
                    _abandon(launched)


LAUNCHER = Launcher()
"""Of this process; where it does nothing it has no threads."""


def _launch(begin: Begin, command: Command) -> Launched:
    """Begin a process with pipes; nothing is left open when that fails."""
    with ExitStack() as childs, ExitStack() as ours:
        pipes = []
        for _ in ("stdout", "stderr"):
            reading, writing = os.pipe()
            ours.callback(os.close, reading)
            childs.callback(os.close, writing)
            pipes.append((reading, writing))
        (out, child_out), (error, child_error) = pipes
        stdin = _null() if command.stdin is None else childs.enter_context(_file(command.stdin))
        number = stdin if isinstance(stdin, int) else stdin.fileno()
        pid = begin(command, number, child_out, child_error)
        ours.pop_all()
        return Launched(pid, out, error)


def _abandon(launched: Launched) -> None:
    """End a process that nobody knows of."""
    os.killpg(launched.pid, signal.SIGKILL)
    os.waitpid(launched.pid, 0)
    os.close(launched.stdout)
    os.close(launched.stderr)


@cache
def _null() -> int:
    return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)


def _file(content: bytes) -> IO[bytes]:
    """What a process reads: a file, so that nobody has to wait while it does."""
    if hasattr(os, "memfd_create"):
        file = os.fdopen(os.memfd_create("stdin"), "w+b")
    else:  # macOS
        file = tempfile.TemporaryFile()  # ruff: ignore[open-file-with-context-handler]  # given to the caller
    file.write(content)
    file.seek(0)
    return file


@cache
def best() -> Begin:
    """The library's own way where it knows working directories (glibc 2.34), or Python's."""
    try:
        return Native()
    except (AttributeError, OSError):
        return by_popen


def by_popen(command: Command, stdin: int, stdout: int, stderr: int) -> int:
    """By `subprocess`: everything else of this process waits meanwhile."""
    if not command.may():
        raise NotNow
    process = subprocess.Popen(  # ruff: ignore[subprocess-without-shell-equals-true]  # an author's command
        command.argv,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        env=command.env,
        cwd=command.cwd,
        start_new_session=True,
    )
    process.returncode = 0  # or it would be reaped when the next one begins
    return process.pid


class Native:
    """By `posix_spawn` of the C library; raises `AttributeError` where it has too little."""

    def __init__(self) -> None:
        quick = ctypes.PyDLL(None)  # keeps Python's lock, for what only fills in a structure
        self._spawn = ctypes.CDLL(None).posix_spawn  # releases it
        self._actions = quick.posix_spawn_file_actions_init
        self._destroy = quick.posix_spawn_file_actions_destroy
        self._duplicate = quick.posix_spawn_file_actions_adddup2
        self._enter = quick.posix_spawn_file_actions_addchdir_np
        self._close_from = quick.posix_spawn_file_actions_addclosefrom_np
        ignored = ctypes.create_string_buffer(_SIGNALS)
        quick.sigemptyset(ignored)
        for each in _IGNORED:
            quick.sigaddset(ignored, int(each))
        self._attributes = ctypes.create_string_buffer(_ATTRIBUTES)
        quick.posix_spawnattr_init(self._attributes)
        quick.posix_spawnattr_setsigdefault(self._attributes, ignored)
        flags = ctypes.c_short(_SET_SIGNALS | _SET_SESSION)
        quick.posix_spawnattr_setflags(self._attributes, flags)

    def __call__(self, command: Command, stdin: int, stdout: int, stderr: int) -> int:
        """See `Begin`."""
        argv = _texts(command.argv)
        env = _texts([f"{name}={value}" for name, value in command.env.items()])
        cwd = os.fspath(command.cwd)
        actions = ctypes.create_string_buffer(_ACTIONS)
        self._actions(actions)
        try:
            # a pipe may have a number below 3, but none that is taken before its turn
            for number, descriptor in enumerate((stdin, stdout, stderr)):
                self._duplicate(actions, descriptor, number)
            self._enter(actions, os.fsencode(cwd))
            self._close_from(actions, 3)
            return self._first(command, actions, argv, env)
        except OSError as error:
            entered = Path(cwd).is_dir() and os.access(cwd, os.X_OK)
            error.filename = command.argv[0] if entered else cwd
            raise
        finally:
            self._destroy(actions)

    def _first(
        self,
        command: Command,
        actions: "ctypes.Array[ctypes.c_char]",
        argv: "ctypes.Array[ctypes.c_char_p]",
        env: "ctypes.Array[ctypes.c_char_p]",
    ) -> int:
        """Begin the first of these that can be; that one of them is there and cannot says more."""
        pid = ctypes.c_int()
        why = errno.ENOENT
        for program in _programs(command):
            if not command.may():
                raise NotNow
            failed = self._spawn(ctypes.byref(pid), program, actions, self._attributes, argv, env)
            if failed == 0:
                return pid.value
            why = failed if why in _MISSING else why
        raise OSError(why, os.strerror(why))


def _texts(texts: Sequence[str]) -> "ctypes.Array[ctypes.c_char_p]":
    """As C has them; raises `ValueError` for what it cannot have."""
    encoded = os.fsencode("\0".join(texts)).split(b"\0")
    if len(encoded) != len(texts):
        raise ValueError("embedded null byte")
    return (ctypes.c_char_p * (len(encoded) + 1))(*encoded, None)


def _programs(command: Command) -> Iterator[bytes]:
    """Where the program may be, seen from the directory and with the PATH that it will have."""
    name, cwd = command.argv[0], os.fspath(command.cwd)
    if os.sep in name:
        yield os.fsencode(name)
        return
    for folder in command.env.get("PATH", os.defpath).split(os.pathsep):
        path = f"{folder or os.curdir}/{name}"
        if os.path.lexists(f"{cwd}/{path}" if path[0] != os.sep else path):
            yield os.fsencode(path)
