"""A directory as a source: which definition files differ from what is known.

A look is total: what cannot be read is in it as a problem, and a root that cannot be listed is
`Unavailable` — never an empty directory, which would prune everything. It takes no file that is
being written: one that an event says is open is left as it is known, and one that changed a moment
ago is taken when it is still the same a moment later. Until then, but not for ever, no other is
gone: it may have moved there.
"""

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from controller.core.problem import Unavailable
from controller.source.snapshot import (
    SUFFIXES,
    Found,
    Known,
    Refusal,
    Snapshot,
    Stat,
    by_path,
    known_as,
    misnamed,
    too_large,
)

FRESH = 100_000_000
"""Nanoseconds: a file that changed no longer ago may still be written."""

SETTLE = 0.1
"""Seconds after which such a file is looked at again."""

GONE = 100
"""Looks in a row that miss a file, after which it is gone though others are still being written."""


MOST_LINKS = 40
"""More of them the kernel does not follow either."""


File = Path | os.DirEntry[str]
"""A file that was listed, or that an event named."""


class Directory:
    """A directory and what was unsettled in it at the last look.

    Args:
        root: The directory.
        largest: Bytes; a larger file is refused unread.
    """

    def __init__(self, root: Path, largest: int) -> None:
        self.root = root
        self._largest = largest
        self._pending: dict[str, Stat] = {}
        self._missed: Counter[str] = Counter()

    def look(
        self,
        known: Known,
        now_ns: int,
        *,
        near: Collection[str] | None = None,
        writing: Collection[str] = (),
    ) -> Snapshot:
        """What differs from `known`; raises `Unavailable` when the root cannot be listed.

        Args:
            known: What the last look left, by path.
            now_ns: Wall time, nanoseconds.
            near: Look at these paths only, which are known to be complete; None: at everything.
            writing: Paths that are open for writing: as known.
        """
        real = Path(os.path.realpath(self.root))
        if not os.path.isdir(real):  # ruff: ignore[os-path-isdir]  # pathlib's raises for a long name
            raise Unavailable(f"the source {self.root} is not a directory, or is not there")
        there = dict(_walk(real) if near is None else _named(real, near))
        changed: list[Found] = []
        unsettled = False
        pending: dict[str, Stat] = {}
        for path, file in there.items():
            if path in writing:
                continue
            found = self._look_at(file, path, real, known)
            if found is None:
                continue
            if near is None and self._is_unsettled(found, now_ns):
                pending[path] = found.stat
                unsettled = True
            else:
                changed.append(found)
        where = known.keys() if near is None else known.keys() & set(map(known_as, near))
        gone = where - there.keys()
        gone -= set(writing)
        if near is None:
            self._pending = pending
            gone = self._gone(gone, unsettled=unsettled)
        return Snapshot(by_path(changed), tuple(sorted(gone)), unsettled)

    def _gone(self, missing: set[str], *, unsettled: bool) -> set[str]:
        """Those of the files that are not there which did not just move."""
        self._missed = Counter({path: self._missed[path] + 1 for path in missing})
        return {path for path in missing if not unsettled or self._missed[path] >= GONE}

    def read(self, known: Known, paths: Sequence[str]) -> Mapping[str, bytes]:
        """Contents of files that are known and could be used then, as far as they can be now."""
        real = Path(os.path.realpath(self.root))
        found = (self._look_at(real / path, path, real, {}) for path in paths if known[path].digest)
        return {each.path: each.content for each in found if each and each.content is not None}

    def _is_unsettled(self, found: Found, now_ns: int) -> bool:
        age = now_ns - found.stat.mtime_ns
        return abs(age) < FRESH and self._pending.get(found.path) != found.stat

    def _look_at(self, file: File, path: str, root: Path, known: Known) -> Found | None:
        """One file, read or refused; None: it is as known, or went away meanwhile."""
        before = known.get(path)
        try:
            there = os.stat(file)  # ruff: ignore[os-stat]  # an entry's own is slower
        except OSError as error:
            if not file.is_symlink() and isinstance(error, FileNotFoundError):
                return None
            return _refused(path, Stat(0, 0, 0), _because(error), known)
        seen = _stat(there)
        if before is not None and before.stat == seen and before.digest:
            return None
        try:
            content, found = _read(file, root, there, self._largest)
        except FileNotFoundError:
            return None
        except (OSError, _Unfit) as error:
            return _refused(path, seen, _because(error), known)
        return Found(path, _stat(found), hashlib.sha256(content).hexdigest(), content)


class _Unfit(Exception):
    """A file is not read."""

    def __init__(self, why: Refusal) -> None:
        super().__init__(why)
        self.why = why


def _because(error: OSError | _Unfit) -> Refusal:
    if isinstance(error, _Unfit):
        return error.why
    return Refusal(f"cannot be read: {error.strerror}")


def _read(
    file: File, root: Path, seen: os.stat_result, largest: int
) -> tuple[bytes, os.stat_result]:
    """All of a file, and its stat then; raises `_Unfit` and `OSError`.

    What was seen of it may be so no more when it is opened: another file, even a pipe, may be in
    its place, and it may grow while it is read.
    """
    real = _inside(file, root)
    _check(seen, largest)
    descriptor = os.open(real, _FLAGS)
    try:
        content = part = os.read(descriptor, seen.st_size + 1)
        while (found := os.fstat(descriptor)).st_size != len(content) and part:
            _check(found, largest)
            part = os.read(descriptor, _MORE)
            content += part
        _check(found, largest)
        return content, found
    finally:
        os.close(descriptor)


_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
"""No link is followed that was not looked at, and no writer of a pipe waited for."""

_MORE = 65_536
"""Bytes that are read at once of a file that has grown meanwhile."""


def identity(root: Path) -> tuple[int, int] | None:
    """Device and inode of the directory: a watch on one that was replaced sees nothing."""
    try:
        found = root.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def links(root: Path) -> list[Path]:
    """The symbolic links on the way to a directory, each by where it really stands."""
    found: list[Path] = []
    to_go = list(root.absolute().parts[::-1])
    at = Path(to_go.pop())
    while to_go and len(found) < MOST_LINKS:
        at = Path(os.path.normpath(at / to_go.pop()))
        with suppress(OSError):  # no link
            target = at.readlink()
            found.append(at)
            to_go += target.parts[::-1]
            at = at.parent
    return found


def _walk(root: Path) -> Iterator[tuple[str, File]]:
    """Every definition file, with what its path is known by."""
    folders: list[tuple[File, str]] = [(root, "")]
    while folders:
        folder, prefix = folders.pop()
        for entry in _entries(folder):
            path = f"{prefix}{entry.name}"
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                folders.append((entry, f"{path}/"))
            elif entry.name.endswith(SUFFIXES):
                yield known_as(path), entry


def _entries(folder: File) -> Sequence[os.DirEntry[str]]:
    """What is in a folder; nothing, where it went away while we walked."""
    shown = known_as(os.fspath(folder))
    try:
        return list(os.scandir(folder))
    except FileNotFoundError:
        if isinstance(folder, os.DirEntry):
            return ()
        raise Unavailable(f"the source {shown} went away") from None
    except OSError as error:
        raise Unavailable(f"cannot list {shown}: {error.strerror}") from None


def _named(root: Path, paths: Collection[str]) -> Iterator[tuple[str, File]]:
    """Those of the paths that are there."""
    return ((known_as(path), root / path) for path in paths if os.path.lexists(root / path))


def _stat(found: os.stat_result) -> Stat:
    return Stat(found.st_size, found.st_mtime_ns, found.st_ino)


def _refused(path: str, seen: Stat, refusal: Refusal, known: Known) -> Found | None:
    """A file that cannot be used; None: that is known."""
    before = known.get(path)
    if before is not None and not before.digest and before.stat == seen:
        return None
    return Found(path, seen, "", refusal=refusal)


def _inside(file: File, root: Path) -> File:
    """The file, or what it leads to; raises `_Unfit` where that is not of the source."""
    why = misnamed(os.fspath(file).removeprefix(f"{root}{os.sep}"))
    if why is not None:
        raise _Unfit(why)
    if isinstance(file, os.DirEntry) and not file.is_symlink():
        return file  # it was listed below the root
    real = Path(os.path.realpath(file))
    if not real.is_relative_to(root):
        raise _Unfit(Refusal("is a symbolic link that leads out of the source"))
    return real


def _check(found: os.stat_result, largest: int) -> None:
    """Raises `_Unfit` for what is not a file, or too large a one."""
    if not stat.S_ISREG(found.st_mode):
        raise _Unfit(Refusal("is not a regular file"))
    if found.st_size > largest:
        raise _Unfit(too_large(found.st_size, largest))
