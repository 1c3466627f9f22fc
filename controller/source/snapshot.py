"""What a look at a source finds: the files that changed since the last look, and nothing else."""

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

SUFFIXES = (".yaml", ".yml", ".json")
"""How the names of definition files end."""

LONGEST = 1_000
"""Bytes of a path, at most: PostgreSQL has no more than 2,700 for an entry of an index."""


class Stat(NamedTuple):
    """What tells a changed file from one that is the same, without reading it."""

    size: int
    mtime_ns: int
    inode: int


class Refusal(NamedTuple):
    """Why a file cannot be used: what a diagnostic of it says after "the file"."""

    message: str
    code: str = "unreadable-file"
    hint: str | None = None


class Found(NamedTuple):
    """A file that is not as known.

    Attributes:
        path: Below the root, with `/`.
        digest: Of the content: SHA-256 in hexadecimal, or Git's id of the blob.
        content: None when it cannot be used.
        refusal: Why it cannot: a symlink out of the root, too large, not readable.
    """

    path: str
    stat: Stat
    digest: str
    content: bytes | None = None
    refusal: Refusal | None = None


class Seen(Protocol):
    """A file as the last look left it."""

    @property
    def stat(self) -> Stat:
        """Its stat then."""

    @property
    def digest(self) -> str:
        """Of its content then; empty when it could not be used."""


Known = Mapping[str, Seen]
"""What the last look left, by path."""


@dataclass(frozen=True, slots=True)
class Commit:
    """The commit a snapshot is of.

    Attributes:
        committed_at: Epoch milliseconds.
        subject: The first line of its message.
        signer: Who signed it, where signatures are asked for.
    """

    id: str
    author: str
    subject: str
    committed_at: int
    signer: str | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The difference between what is known and what is there.

    Attributes:
        changed: Files that are new or different, by path.
        removed: Paths that are gone.
        unsettled: Something was being written: look again soon.
        commit: None for a directory.
    """

    changed: tuple[Found, ...] = ()
    removed: tuple[str, ...] = ()
    unsettled: bool = False
    commit: Commit | None = None

    @property
    def differs(self) -> bool:
        """Whether anything is not as known."""
        return bool(self.changed or self.removed)


def is_definition(path: str) -> bool:
    """Whether a path below the root is one of a definition file: hidden ones are left out."""
    return path.endswith(SUFFIXES) and not any(part.startswith(".") for part in path.split("/"))


def known_as(path: str) -> str:
    """What a path is known by: itself, unless no database takes it; see `misnamed`."""
    if path.isascii() and len(path) <= LONGEST:
        return path
    raw = os.fsencode(path)
    text = raw.decode("utf-8", "backslashreplace")
    if len(text.encode()) <= LONGEST:
        return text
    return f"{text[: LONGEST // 8]}…{hashlib.sha256(raw).hexdigest()}"


def misnamed(path: str) -> Refusal | None:
    """Why a file of this path is refused, if it is known by another."""
    if known_as(path) == path:
        return None
    size = len(os.fsencode(path))
    what = f"of {size:,} bytes; at most {LONGEST:,} are kept" if size > LONGEST else "not in UTF-8"
    return Refusal(f"has a path {what}", hint="rename it")


def too_large(size: int, largest: int) -> Refusal:
    """Why a file of this size is not read."""
    message = f"has {size:,} bytes; at most {largest:,} are read"
    return Refusal(message, "file-too-large", "split it, or raise WINDLASS_MAX_FILE_BYTES")


def by_path(found: Iterable[Found]) -> tuple[Found, ...]:
    """Files in the order of their paths."""
    return tuple(sorted(found, key=lambda each: each.path))
