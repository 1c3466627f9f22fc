"""File events, as a hint: which files may have changed, and which are being written.

What an event says is not believed; events can be lost, doubled or late. The watch only says where
to look, after a short quiet, and the periodic look at everything finds what it missed. Two things
it knows better than a look does: that a save is complete (the file was closed, or renamed into
place), so that it is taken at once; and that a file is open for writing, so that it is not taken
half.

A root that was renamed and made anew leaves a watch on something that is no longer there: `check`
compares its identity, and the folder above it is watched for that, and above each symbolic link on
the way to it: a release that takes the place of another is seen at once. A ConfigMap's `..data`
swap is an event of the root. Where there are no events — inotify's limits, file systems of other
machines — `polls` says so.
"""

import asyncio
import errno
import logging
import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controller.logs import get_log
from controller.source.directory import identity, links
from controller.source.snapshot import is_definition

AT_ONCE = 0.003
"""Seconds to wait after a complete save for others that belong to it."""

QUIET = 0.05
"""Seconds without an event before we look at what may not be complete."""

PATIENCE = 0.5
"""Seconds after which we look even though events go on."""

OPEN_FOR = 60.0
"""Seconds after its last write that a file counts as open, should nobody say it was closed."""

REMOTE = {
    "9p", "afs", "ceph", "cifs", "fuse.glusterfs", "fuse.rclone", "fuse.s3fs", "fuse.sshfs",
    "glusterfs", "lustre", "ncpfs", "nfs", "nfs4", "smb3", "smbfs", "virtiofs",
}  # fmt: skip
"""File systems whose changes may be made elsewhere, unseen by the kernel here."""

log = get_log("windlass.watch")


@dataclass(frozen=True, slots=True)
class Hint:
    """Where to look.

    Attributes:
        near: Only there; None: everywhere.
        writing: Paths that are open for writing.
    """

    near: frozenset[str] | None = None
    writing: frozenset[str] = frozenset()


EVERYWHERE = Hint()


class Watch:
    """Calls `changed` on the loop when something below `root` may have changed.

    Args:
        root: The directory, which need not be there.
        changed: Called on the running loop.
        mode: `auto`, `events` or `poll`.
    """

    def __init__(self, root: Path, changed: Callable[[], None], mode: str = "auto") -> None:
        self._root = root
        self._changed = changed
        self._mode = mode
        self._loop = asyncio.get_running_loop()
        self._observer: Any = None
        self._seen: tuple[int, int] | None = None
        self._replaced = False  # an inode's number is used again
        self._timer: asyncio.TimerHandle | None = None
        self._first: float | None = None
        self._events: deque[tuple[str, str, str, bool]] = deque()
        self._near: set[str] = set()
        self._everywhere = True
        self._created: set[str] = set()
        self._open: dict[str, float] = {}
        self.polls = mode == "poll"

    def check(self) -> None:
        """Watch the root that is there now, if it is another one than before."""
        found = identity(self._root)
        same = found == self._seen and not self._replaced
        if same and self._observer is not None and self._observer.is_alive():
            return
        self.close()
        self._replaced = False
        self._everywhere = True
        self._seen = found
        self.polls = self._mode == "poll" or (self._mode == "auto" and is_remote(self._root))
        if not self.polls:
            self._start()

    def take(self) -> Hint:
        """Where to look now; what happens from now on is for the next time."""
        now = self._loop.time()
        self._open = {path: at for path, at in self._open.items() if at + OPEN_FOR > now}
        near = None if self._everywhere else frozenset(self._near - self._open.keys())
        self._near, self._everywhere = set(), False
        self._created.clear()
        return Hint(near, frozenset(self._open))

    def close(self) -> None:
        """Watch nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._observer is not None:
            logging.getLogger("watchdog").removeHandler(self._overflow)
            self._observer.stop()
            self._observer = None

    # -- the observer -----------------------------------------------------------------------

    def _start(self) -> None:
        from watchdog.events import FileSystemEvent, FileSystemEventHandler  # ruff: ignore[import-outside-top-level]  # start-up time
        from watchdog.observers import Observer  # ruff: ignore[import-outside-top-level]  # start-up time

        watch = self

        class Handler(FileSystemEventHandler):
            def on_any_event(self, event: FileSystemEvent) -> None:
                watch._heard(
                    event.event_type,
                    os.fsdecode(event.src_path),
                    os.fsdecode(event.dest_path),
                    event.is_directory,
                )

        real = self._root.resolve()
        self._real = f"{real}{os.sep}"
        ways = links(self._root)
        self._ways = {str(each) for each in (real, *ways)}
        seen = {each.parent for each in ways if os.access(each.parent, os.R_OK)}
        try:
            observer = Observer()
            for parent in {real.parent, *seen}:
                observer.schedule(Handler(), str(parent), recursive=False)
            if self._seen is not None:
                observer.schedule(Handler(), str(real), recursive=True)
            observer.start()
        except OSError as error:
            self.polls = True
            log.warning(
                "no file events; looking from time to time instead",
                root=str(self._root),
                error=error.strerror or str(error),
                hint=_hint(error),
            )
            return
        self._observer = observer
        self._overflow = _Overflow(self._lost)
        logging.getLogger("watchdog").addHandler(self._overflow)
        logging.getLogger("watchdog.observers.inotify").addFilter(_is_told)

    def _heard(self, kind: str, path: str, to: str, folder: bool) -> None:  # ruff: ignore[boolean-type-hint-positional-argument]  # as the event has it
        """On the observer's thread: keep it, and wake the loop for the first of many."""
        self._events.append((kind, path, to, folder))
        if len(self._events) == 1:
            self._tell_loop(self._read)

    def _lost(self) -> None:
        self._tell_loop(self._overflowed)

    def _tell_loop(self, what: Callable[[], None]) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(what)

    # -- what events mean -------------------------------------------------------------------

    def _overflowed(self) -> None:
        self._everywhere = True
        self._open.clear()
        self._look_in(QUIET)

    def _read(self) -> None:
        waits: list[float] = []
        while self._events:
            kind, path, to, folder = self._events.popleft()
            wait = self._event(kind, path, to, folder=folder)
            if wait is not None:
                waits.append(wait)
        if waits:
            self._look_in(min(waits) if len(waits) == 1 else max(waits))

    def _event(self, kind: str, path: str, to: str, *, folder: bool) -> float | None:
        """Take an event in; seconds after which to look, or None."""
        inside = [each[len(self._real) :] for each in (path, to) if each.startswith(self._real)]
        if path in self._ways or to in self._ways:
            wait = self._wide(kind)
            self._replaced = self._replaced or wait is not None
            return wait
        if not inside:
            return None
        if folder or any(each.rsplit("/", 1)[-1].startswith("..") for each in inside):
            return self._wide(kind)
        paths = [each for each in inside if is_definition(each)]
        return self._file(kind, paths) if paths else None

    def _wide(self, kind: str) -> float | None:
        """A folder, or a link to one, came or went: look at everything."""
        if kind not in {"created", "deleted", "moved"}:
            return None
        self._everywhere = True
        return QUIET

    def _file(self, kind: str, paths: list[str]) -> float | None:
        now = self._loop.time()
        match kind:
            case "opened":  # a file that is made anew; one that is only read tells nothing
                self._open.update(dict.fromkeys(self._created.intersection(paths), now))
                return None
            case "closed_no_write":
                return None
            case "modified":
                self._open.update(dict.fromkeys(paths, now))
                return None
            case "created":
                self._created.update(paths)
            case _:
                pass
        if kind == "moved" and paths[0] in self._open:
            self._open[paths[-1]] = now
        for path in paths if kind in {"closed", "deleted"} else ():
            self._open.pop(path, None)
        self._near.update(paths)
        return AT_ONCE if kind in {"closed", "moved"} else QUIET

    def _look_in(self, seconds: float) -> None:
        now = self._loop.time()
        self._first = now if self._first is None else self._first
        if self._timer is not None:
            self._timer.cancel()
        wait = min(seconds, max(0.0, self._first + PATIENCE - now))
        self._timer = self._loop.call_later(wait, self._look)

    def _look(self) -> None:
        self._timer = None
        self._first = None
        self._changed()


class _Overflow(logging.Handler):
    """Hears watchdog say that the kernel dropped events, which it only logs."""

    def __init__(self, lost: Callable[[], None]) -> None:
        super().__init__(logging.WARNING)
        self._told = lost

    def emit(self, record: logging.LogRecord) -> None:
        """Told once for each time."""
        if "overflow" in record.getMessage():
            self._told()


def _is_told(record: logging.LogRecord) -> bool:
    """Whether this is for people: to watchdog an event while it is closed is an error."""
    return "when the thread is inactive" not in record.getMessage()


def _hint(error: OSError) -> str:
    if error.errno in {errno.ENOSPC, errno.EMFILE}:
        return "fs.inotify.max_user_watches and max_user_instances may be too low"
    return "there are events once it is there when the controller starts"


def is_remote(root: Path, mounts: Path = Path("/proc/self/mounts")) -> bool:
    """Whether a directory lies on a file system whose changes may be made on another machine."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    real = os.path.realpath(root)
    best, kind = "", ""
    for line in lines:
        fields = line.split(" ")
        at = fields[1].replace("\\040", " ").rstrip("/")
        if len(at) >= len(best) and (real == at or real.startswith(f"{at}/")):
            best, kind = at, fields[2]
    return kind in REMOTE
