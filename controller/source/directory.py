"""Snapshots of a directory: which definition files there are, and the bytes of those that changed.

A snapshot is total: what cannot be read is in it as a problem, and a root that cannot be listed is
`Unavailable` — never an empty directory, which would prune everything.
"""

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

from controller.core.problem import Unavailable

SUFFIXES = (".yaml", ".yml", ".json")


@dataclass(frozen=True, slots=True)
class Stat:
    """What tells a changed file from one that is the same, without reading it."""

    size: int
    mtime_ns: int
    inode: int


@dataclass(frozen=True, slots=True)
class Found:
    """A file of a snapshot.

    Attributes:
        path: Below the root, with `/`.
        content: None when it is as known, or cannot be used.
        digest: SHA-256 of the content, hexadecimal; of a file as known, the known one.
        refusal: Why it is not read: a symlink out of the root, too large, not readable.
    """

    path: str
    stat: Stat
    digest: str
    content: bytes | None = None
    refusal: str | None = None


Known = Mapping[str, tuple[Stat, str]]
"""What the last snapshot found, by path: the stat and the digest."""


def snapshot(root: Path, known: Known, *, largest: int) -> list[Found]:
    """Every definition file below `root`, by path; hidden files and folders are left out.

    Args:
        root: The directory; `Unavailable` when it cannot be listed.
        known: Files whose stat is unchanged are not read again.
        largest: Bytes; a larger file is refused unread.
    """
    real = Path(os.path.realpath(root))
    if not real.is_dir():
        raise Unavailable(f"the source {root} is not a directory, or is not there")
    return [
        _look(entry, path, real, known.get(path), largest)
        for path, entry in sorted(_walk(real, ""), key=itemgetter(0))
    ]


def identity(root: Path) -> tuple[int, int] | None:
    """Device and inode of the directory: a watch on one that was replaced sees nothing."""
    try:
        found = root.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _walk(folder: Path, prefix: str) -> Iterator[tuple[str, Path]]:
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        raise Unavailable(f"cannot list {folder}: {error.strerror}") from None
    for entry in entries:
        if entry.name.startswith("."):
            continue
        path = f"{prefix}{entry.name}"
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path), f"{path}/")
        elif entry.name.endswith(SUFFIXES):
            yield path, Path(entry.path)


def _look(file: Path, path: str, root: Path, known: tuple[Stat, str] | None, largest: int) -> Found:
    """One file: as known, read, or refused. What is half written is caught by looking again."""
    try:
        found = file.stat()
    except OSError as error:
        return Found(path, Stat(0, 0, 0), "", refusal=f"cannot be read: {error.strerror}")
    seen = Stat(found.st_size, found.st_mtime_ns, found.st_ino)
    refusal = _refusal(file, root, found, largest)
    if refusal is not None:
        return Found(path, seen, "", refusal=refusal)
    if known is not None and known[0] == seen:
        return Found(path, seen, known[1])
    try:
        content = file.read_bytes()
    except OSError as error:
        return Found(path, seen, "", refusal=f"cannot be read: {error.strerror}")
    return Found(path, seen, hashlib.sha256(content).hexdigest(), content)


def _refusal(file: Path, root: Path, found: os.stat_result, largest: int) -> str | None:
    """Why a file is not read, before it is opened."""
    if not _within(file, root):
        return "is a symbolic link that leads out of the source"
    if not stat.S_ISREG(found.st_mode):
        return "is not a regular file"
    if found.st_size > largest:
        return f"has {found.st_size:,} bytes; at most {largest:,} are read"
    return None


def _within(file: Path, root: Path) -> bool:
    if not file.is_symlink():
        return True
    return Path(os.path.realpath(file)).is_relative_to(root)
