"""Processes begun on threads, while the loop goes on.

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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from controller.execute.action import NotNow
from controller.execute.pool import POOL

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
        sandboxed: Its leader is a sandbox.
        warnings: What there is to say of how it begins.
    """

    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: Path
    may: Callable[[], bool]
    stdin: bytes | None = None
    sandboxed: bool = False
    warnings: tuple[str, ...] = ()


class Launched(NamedTuple):
    """A process that has begun: close the descriptors, and reap it.

    Attributes:
        stdout: To read what it writes, without waiting; `stderr` likewise.
        pidfd: Can be read when it has ended; -1 where the system has none.
    """

    pid: int
    stdout: int
    stderr: int
    pidfd: int
    command: Command


Begin = Callable[[Command, int, int, int], int]
"""A way to begin a process with three descriptors; its id, `NotNow`, `OSError` or `ValueError`."""


class Launcher:
    """Begins processes for whoever asks on a loop.

    Args:
        begin: The way to do it; None: the best there is.
    """

    def __init__(self, begin: Begin | None = None) -> None:
        self._begin = begin

    def launch(self, make: Callable[[], Command]) -> asyncio.Future[Launched]:
        """Make a command and begin it, both on a thread; see `Pool.do`.

        Raises:
            NotNow: As the command says.
            OSError: It cannot be begun; its `filename` says what, `strerror` why.
        """
        work = partial(_launch, self._begin or best(), make)
        return POOL.do(work, lost=_abandon)


LAUNCHER = Launcher()
"""Of this process."""


def _launch(begin: Begin, make: Callable[[], Command]) -> Launched:
    """Nothing is left open, or running, when that fails."""
    command = make()
    ours: list[int] = []
    childs: list[int] = []
    try:
        pid = _begun(begin, command, ours, childs)
    except BaseException as error:
        _close(ours)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = command.argv[0]
        raise
    finally:
        _close(childs)
    stdout, stderr, pidfd = ours
    return Launched(pid, stdout, stderr, pidfd, command)


def _begun(begin: Begin, command: Command, ours: list[int], childs: list[int]) -> int:
    """Its id; descriptors are added as they are opened."""
    for _ in ("stdout", "stderr"):
        reading, writing = os.pipe()
        ours.append(reading)
        childs.append(writing)
        os.set_blocking(reading, False)
    stdout, stderr = childs
    stdin = _null() if command.stdin is None else _file(command.stdin, childs)
    try:
        pid = begin(command, stdin, stdout, stderr)
    except ValueError as error:
        raise OSError(errno.EINVAL, str(error)) from None
    ours.append(_pidfd(pid))
    return pid


def _pidfd(pid: int) -> int:
    """What tells of its end; ends it where there is no descriptor left for that."""
    if not hasattr(os, "pidfd_open"):  # macOS
        return -1
    try:
        return os.pidfd_open(pid)
    except OSError:
        _end(pid)
        raise


def _abandon(launched: Launched) -> None:
    """End a process that nobody knows of."""
    _end(launched.pid)
    _close((launched.stdout, launched.stderr, launched.pidfd))


def _close(descriptors: Iterable[int]) -> None:
    for each in descriptors:
        if each >= 0:
            os.close(each)


def _end(pid: int) -> None:
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


@cache
def _null() -> int:
    return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)


def _file(content: bytes, opened: list[int]) -> int:
    """What a process reads: a file, so that nobody has to wait while it does."""
    if hasattr(os, "memfd_create"):
        number = os.memfd_create("stdin")
        opened.append(number)
    else:  # macOS
        number, name = tempfile.mkstemp()
        opened.append(number)
        Path(name).unlink()
    with open(number, "wb", closefd=False) as file:
        file.write(content)
    os.lseek(number, 0, os.SEEK_SET)
    return number


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
        library = ctypes.CDLL(None)  # releases it
        self._spawn, self._spawn_found = library.posix_spawn, library.posix_spawnp
        self._actions = quick.posix_spawn_file_actions_init
        self._getenv = quick.getenv
        self._getenv.restype = ctypes.c_char_p
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
        for spawn, program in self._ways(command):
            if not command.may():
                raise NotNow
            failed = spawn(ctypes.byref(pid), program, actions, self._attributes, argv, env)
            if failed == 0:
                return pid.value
            why = failed if why in _MISSING else why
        raise OSError(why, os.strerror(why))

    def _ways(self, command: Command) -> Iterator[tuple[Any, bytes]]:
        """What to call with which program: where it is, or may be.

        The library looks for it with the PATH that we have; with another one, we do.
        """
        name, path = command.argv[0], command.env.get("PATH")
        if os.sep in name or path is None or os.fsencode(path) != self._getenv(b"PATH"):
            yield from ((self._spawn, each) for each in _programs(command))
        else:
            yield self._spawn_found, os.fsencode(name)


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
