"""The scratch directory, and what a dead controller left running in it.

A step in flight when its controller is killed runs again: it must not run beside itself. So each
controller has a home below the scratch directory, with a lock that the kernel lets go of when the
controller dies, however it dies; each attempt has a directory in that home, and its processes
carry the directory's name in their environment. A home without a living owner is ended by whoever
comes first: the next controller before it claims anything (`end_orphans`), or at once a shell that
waits beside each controller for its death (`Home.guard`).

What a step that has ended by itself started on purpose and detached is left alone: its directory is
gone. What is cancelled ends with all that it started (`ask`, `end_rest`), as after a crash.

This file is a program too, for the guard: standard library only, nothing of the controller.
"""

import fcntl
import os
import select
import shutil
import signal
import sys
import tempfile
import threading
from contextlib import suppress
from itertools import count
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

MARK = "WINDLASS_SCRATCH"
"""The variable that holds an attempt's directory."""

GONE = ".gone-"
"""How the name of a directory begins whose attempt has ended; it is nobody's any more."""

ROUNDS = 20
"""How often processes are looked for, because those found may have started others meanwhile."""

WAIT = 500
"""Milliseconds to wait for one process to disappear after SIGKILL."""

_GUARD = 'cd /; read -r _ || exec "$@"'
_REMOVE = 'chmod -R u+rwX "$1"; exec rm -rf "$1"'


def unusable(root: Path, *, begins: bool = False) -> str | None:
    """Why no attempt could have a directory below the scratch directory; None: it could.

    Found out by doing so: nothing else tells a full disk and whatever else there may be. What is
    above it is made only where a controller `begins`: later it is gone because somebody moved it.
    """
    try:
        root.mkdir(parents=begins, exist_ok=True)
        _try(root)
    except OSError as error:
        return f"the scratch directory {root} cannot be used: {error.strerror}"
    return None


def _try(root: Path) -> None:
    probe = Path(tempfile.mkdtemp(prefix=".new-", dir=root))
    try:
        (probe / "probe").write_bytes(b"written")
    finally:
        _remove(probe)


class Stat(NamedTuple):
    """Process group, session and start time of a process, as the kernel writes them."""

    group: str
    session: str
    started: str


class Home:
    """A controller's own place below the scratch directory `root`; made when first needed.

    Its path has no symbolic links: that is how the kernel tells where a process is.

    Attempts' directories are made and discarded on any thread.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._path: Path | None = None
        self._changing = threading.Lock()  # of what is below
        self._lock = -1
        self._guard: tuple[int, int] | None = None
        self._removals: SimpleQueue[str | None] | None = None
        self._numbers = count(1)

    def open(self) -> Path:
        """Where attempts have their directories; raises `OSError`."""
        with self._changing:
            if self._path is None:
                self._path = self._begin()
            return self._path

    def _begin(self) -> Path:
        self._root.mkdir(parents=True, exist_ok=True)
        root = self._root.resolve()
        new = Path(tempfile.mkdtemp(prefix=".new-", dir=root))
        try:
            self._lock = os.open(new / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            path = new.rename(root / f"home-{new.name.removeprefix('.new-')}")
        except OSError:
            _remove(new)
            raise
        self._removals = _start_remover()
        with suppress(OSError, NotImplementedError):  # then the next controller does it
            self._guard = _start_guard(root)
        return path

    def make(self, name: str) -> Path:
        """An attempt's directory, which is empty; raises `OSError`."""
        directory = self.open() / name
        try:
            directory.mkdir(0o700)
        except FileExistsError:  # of the same attempt, which this process has lost and got back
            _remove(directory)
            directory.mkdir(0o700, exist_ok=True)
        except FileNotFoundError:  # somebody has tidied up: begin again
            self._close(directory.parent)
            directory = self.open() / name
            directory.mkdir(0o700)
        return directory

    def discard(self, directory: Path) -> None:
        """Have an attempt's directory gone at once, whoever still has it open.

        It is removed a moment later: that may take as long as the system's next tick. What a crash
        leaves is removed with the home.
        """
        gone = f"{directory.parent}/{GONE}{next(self._numbers)}"
        with suppress(OSError):  # it is gone already
            os.rename(directory, gone)  # ruff: ignore[os-rename]  # half the cost, once an attempt
            if self._removals is not None:
                self._removals.put(gone)

    def close(self) -> None:
        """Give it back; nothing must be running in it."""
        self._close(self._path)

    def _close(self, path: Path | None) -> None:
        """Give it back if it is still this one."""
        with self._changing:
            if self._path is None or self._path != path:
                return
            if self._guard is not None:
                pid, pipe = self._guard
                self._guard = None
                with suppress(OSError):
                    os.write(pipe, b"\n")
                os.close(pipe)
                with suppress(ChildProcessError):
                    os.waitpid(pid, 0)
            if self._removals is not None:
                self._removals.put(None)
            _remove(self._path)
            os.close(self._lock)
            self._path = None


def _start_remover() -> "SimpleQueue[str | None]":
    """A thread that removes what it is given, until it is given nothing."""
    removals: SimpleQueue[str | None] = SimpleQueue()

    def serve() -> None:
        while (directory := removals.get()) is not None:
            _remove(directory)

    threading.Thread(target=serve, name="remover", daemon=True).start()
    return removals


def _remove(directory: str | Path) -> None:
    """Whatever is in it; what stays all the same is removed with what comes after it."""
    try:
        os.rmdir(directory)  # ruff: ignore[os-rmdir]  # half the cost, once an attempt
    except OSError:  # there is something in it
        with suppress(RecursionError):
            shutil.rmtree(directory, ignore_errors=True)
        if os.path.lexists(directory):  # it is too deep for Python, or not to be written
            os.waitpid(_spawn_quietly(_REMOVE, "windlass-remove", str(directory)), 0)


def _spawn_quietly(script: str, *argv: str, stdin: int | None = None) -> int:
    """A shell that says nothing, in a session of its own; its process id."""
    quiet = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)]
    given = [] if stdin is None else [(os.POSIX_SPAWN_DUP2, stdin, 0)]
    return os.posix_spawn(
        "/bin/sh",
        ["/bin/sh", "-c", script, *argv],
        {"PATH": os.defpath},
        file_actions=[*quiet, *given],
        setsid=True,
    )


def end_orphans(root: Path) -> int:
    """End what controllers that are dead left running below `root`; how many processes.

    Blocks; does nothing to a controller that is alive, and may be done by several at once.
    """
    return sum(_end(home) for home in root.resolve().glob("home-*") if _is_dead(home))


def ask(leader: int, place: str | None, *, grouped: bool) -> dict[int, str]:
    """SIGTERM to what an attempt has started, but not to its leader; blocks.

    Args:
        leader: Its process, whose session it is.
        place: Its directory.
        grouped: Also to those of its leader's group.

    Returns:
        Who was asked: process id to start time.
    """
    asked = {}
    for pid, stat in processes().items():
        ours = stat.session == str(leader) or (place is not None and _lives_in(pid, f"{place}/"))
        if ours and pid != leader and (grouped or stat.group != str(leader)):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGTERM)
                asked[pid] = stat.started
    return asked


def end_rest(place: str | None, asked: dict[int, str]) -> None:
    """SIGKILL to who was asked, and to whatever else of the attempt there is; blocks."""
    for pid, started in asked.items():
        _kill(pid, started)
    if place is not None:
        _end_inhabitants(f"{place}/")


def _end(home: Path) -> int:
    ended = _end_inhabitants(f"{home}/")
    _remove(home)
    return len(ended)


def _end_inhabitants(place: str) -> dict[int, str]:
    ended: dict[int, str] = {}
    for _ in range(ROUNDS):
        found = _inhabitants(place)
        if not found:
            break
        for pid, started in found.items():
            _kill(pid, started)
        ended |= found
    return ended


def _start_guard(root: Path) -> tuple[int, int]:
    """A shell that waits for a line; when the pipe ends without one, we are dead."""
    reading, writing = os.pipe()
    program = (sys.executable, "-I", "-S", __file__, str(root))
    try:
        pid = _spawn_quietly(_GUARD, "windlass-guard", *program, stdin=reading)
    except BaseException:
        os.close(writing)
        raise
    finally:
        os.close(reading)
    return pid, writing


def _is_dead(home: Path) -> bool:
    """Whether nobody holds the lock; a home without one is being removed by somebody else."""
    try:
        lock = os.open(home / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return home.is_dir()
    except OSError:  # it is another user's, or we have no descriptors left: leave it
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(lock)
    return True


def _inhabitants(place: str) -> dict[int, str]:
    """Processes of attempts in this place that had not ended, and all of their sessions.

    Returns:
        Process id to start time: together they name a process for ever.
    """
    there = processes()
    sessions = {stat.session for pid, stat in there.items() if _lives_in(pid, place)}
    return {pid: stat.started for pid, stat in there.items() if stat.session in sessions}


def processes() -> dict[int, Stat]:
    """Every process but this one; none where there is no /proc."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        stat = _stat(int(entry.name))
        if stat is not None and int(entry.name) != os.getpid():
            found[int(entry.name)] = stat
    return found


def _stat(pid: int) -> Stat | None:
    """Of a process that has not ended (proc(5), fields 5, 6 and 22)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return Stat(fields[2], fields[3], fields[19]) if fields[0] not in "ZX" else None


def _lives_in(pid: int, place: str) -> bool:
    """By its mark, or (its environment may be another's) by its working directory.

    `place` is a home or an attempt's directory, with a slash at its end.
    """
    process = Path(f"/proc/{pid}")
    mark = f"{MARK}={place}".encode()
    with suppress(OSError):
        for entry in (process / "environ").read_bytes().split(b"\0"):
            if (entry + b"/").startswith(mark):
                return Path(os.fsdecode(entry[len(MARK) + 1 :])).is_dir()
    with suppress(OSError):
        where = str((process / "cwd").readlink())
        ended = where.startswith(f"{place}{GONE}") or where.endswith(" (deleted)")
        return f"{where}/".startswith(place) and not ended
    return False


def _kill(pid: int, started: str) -> None:
    """SIGKILL, and a short wait until it is gone."""
    with suppress(OSError):
        handle = os.pidfd_open(pid)
        try:
            now = _stat(pid)
            if now is not None and now.started == started:
                signal.pidfd_send_signal(handle, signal.SIGKILL)
                gone = select.poll()
                gone.register(handle, select.POLLIN)
                gone.poll(WAIT)
        finally:
            os.close(handle)


if __name__ == "__main__":
    end_orphans(Path(sys.argv[1]))
