"""A Git repository as a source: a bare mirror, fetched; the changed blobs read; no work tree.

    refresh → the commit that the reference names now (the network's part)
    look    → what differs from what is known, at that commit (the mirror's part)

What was applied keeps a reference of its own in the mirror, so that a force push or a vanished
branch takes nothing away that a rollback may need. A mirror that is damaged is thrown away and
fetched anew.
"""

import posixpath
import re
import secrets
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from controller.core.problem import Refused
from controller.core.semver import range_of
from controller.source.blobs import Blobs
from controller.source.git import Git, GitError
from controller.source.mirror import PLANS, Mirror
from controller.source.snapshot import (
    Commit,
    Found,
    Known,
    Refusal,
    Seen,
    Snapshot,
    Stat,
    by_path,
    is_definition,
    known_as,
    misnamed,
    too_large,
)
from controller.source.spec import SourceSpec

TARGET = "refs/windlass/target"
APPLIED = "refs/windlass/applied/"
SIGNED = "refs/windlass/signed/"
ALL = "refs/windlass/all/"

_COMMIT = re.compile(r"[0-9a-f]{7,64}")

_LINK, _MODULE, _ABSENT = "120000", "160000", "000000"
_LAST = 253_370_764_800
"""The beginning of the year 9999, in epoch seconds: what is later is no date."""
_HOPS = 10
"""Symbolic links that are followed from one to the next."""


class _Entry(NamedTuple):
    mode: str
    oid: str


class Checkout:
    """The mirror of one source.

    Args:
        spec: A source with `url`.
        home: A directory of the mirror's own; made when it is needed.
        environment: `PATH` and the like.
        largest: Bytes; a larger file is refused unread.
    """

    def __init__(
        self, spec: SourceSpec, home: Path, environment: Mapping[str, str], largest: int
    ) -> None:
        self._spec = spec
        self._git = Git(home, environment, spec)
        self._mirror = Mirror(home, self._git)
        self._blobs = Blobs(self._git, largest)
        self._largest = largest
        self._plain: set[str] = set()  # commits without links

    def close(self) -> None:
        """End what runs."""
        self._git.close()

    # -- the network's part -----------------------------------------------------------------

    def refresh(self) -> Commit:
        """The commit that the reference names now; raises `GitError`."""
        with self._mirror.writing():
            self._follow(TARGET)
        return self.commit(f"{TARGET}^{{commit}}")

    def _follow(self, own: str) -> None:
        """Have a reference of ours name what the source follows."""
        if self._spec.commit is not None:
            self._fetch_commit(self._spec.commit, own)
        else:
            self._fetch(f"+{self._reference()}:{own}")

    def _reference(self) -> str:
        spec = self._spec
        tag = spec.tag if spec.semver is None else self._newest(spec.semver)
        if tag is not None:
            return f"refs/tags/{tag}"
        return f"refs/heads/{spec.branch}" if spec.branch is not None else "HEAD"

    def _newest(self, wanted: str) -> str:
        listed = self._remote("ls-remote", "--tags", "--refs", "--", self._url)
        tags = [
            line.partition("refs/tags/")[2]
            for line in listed.decode("utf-8", "replace").splitlines()
        ]
        allowed = range_of(wanted)
        newest = allowed.newest(tags) if allowed is not None else None
        if newest is None:
            message = f"no tag of {self._url} is in the range {wanted!r}"
            raise GitError(message, reason="ref-gone", hint="push a tag such as v1.2.3")
        return newest

    def _fetch_commit(self, commit: str, own: str) -> None:
        """The commit, if it is not here; servers that name no single commits give all they have."""
        if not self._has(commit):
            if not self._fetched(commit, own):
                both = (f"+refs/{each}/*:{ALL}{each}/*" for each in ("heads", "tags"))
                self._fetch(*both, prune=True)
            if not self._has(commit):
                message = f"{self._url} has no commit {commit}"
                raise GitError(message, reason="ref-gone", hint="check `commit`")
        self._git.local("update-ref", own, commit)

    def _fetch(self, *refspecs: str, prune: bool = False) -> None:
        """Fetch; `prune`: of what a pattern names, what is gone there goes here."""
        self._remote(
            "fetch", "--quiet", "--no-tags", "--force", "--no-write-fetch-head", "--no-auto-gc",
            "--no-recurse-submodules", "--update-shallow", "--refmap=",
            "--prune" if prune else "--no-prune", "--", self._url, *refspecs,
        )  # fmt: skip

    def _remote(self, *arguments: str) -> bytes:
        return self._git.remote(*arguments, seconds=self._spec.timeout / 1000)

    @property
    def _url(self) -> str:
        assert self._spec.url is not None  # ruff: ignore[assert]  # only for one with a URL
        return self._spec.url

    def discard(self) -> None:
        """Throw the mirror away; the next `refresh` fetches all of it."""
        self._mirror.discard()

    # -- the mirror's part ------------------------------------------------------------------

    def commit(self, revision: str) -> Commit:
        """Who made a commit, when, and what for; raises `GitError`."""
        shown = self._git.local("show", "-s", "--format=%H%x00%an%x00%ct%x00%s", revision, "--")
        id_, author, seconds, subject = shown.decode("utf-8", "replace").rstrip("\n").split("\0")
        moment = min(int(seconds), _LAST) if seconds.isdecimal() else 0  # whoever commits says it
        return Commit(id_, author, subject, moment * 1000)

    def resolve(self, revision: str) -> str:
        """The whole id of a commit that is named in short, or by a branch or tag of the mirror."""
        asked = ("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
        status, found, _ = self._git.ask(asked)
        if status:
            message = f"the mirror of {self._url} has no commit {revision!r}"
            hint = "`windlass sync:history` lists the revisions that were applied"
            raise Refused(message, reason="not-found", hint=hint)
        return found.decode().strip()

    def find(self, revision: str | None) -> str:
        """The id of a commit, or of a tag's own object, fetched where it is not here.

        Args:
            revision: A commit, a branch or a tag; None: what the source follows.
        """
        with self._mirror.writing(), self._own() as own:
            if revision is None:
                self._follow(own)
                return self._line("rev-parse", own)
            named = not _COMMIT.fullmatch(revision)
            if not named and self._has(revision):
                return self.resolve(revision)
            names = (revision, f"refs/heads/{revision}", f"refs/tags/{revision}")
            fetched = any(self._fetched(each, own) for each in (names if named else names[:1]))
            return self._line("rev-parse", own) if fetched else self.resolve(revision)

    @contextmanager
    def _own(self) -> Generator[str]:
        """A reference that nobody else has, for as long as it takes."""
        own = PLANS + secrets.token_hex(8)
        try:
            yield own
        finally:
            with suppress(GitError):  # left to whoever sweeps the mirror
                self._mirror.drop(own)

    def _fetched(self, name: str, own: str) -> bool:
        """Whether the repository gives out this reference or commit, which is now ours."""
        try:
            self._fetch(f"+{name}:{own}")
        except GitError as error:
            if error.reason != "ref-gone":
                raise
            return False
        return True

    def again(self, commit: str) -> str:
        """The id of a commit that was applied once, fetched where the mirror lost it."""
        with self._mirror.writing():
            try:
                if not self._has(commit):
                    self._fetch_commit(commit, f"{APPLIED}{commit}")
            except GitError as error:
                if error.reason != "ref-gone":
                    raise
        return self.resolve(commit)

    def tags_there(self, commit: str) -> tuple[str, ...]:
        """Tag objects of a commit that the repository has, which are here now."""
        listed = self._remote("ls-remote", "--tags", "--", self._url)
        lines = listed.decode("utf-8", "surrogateescape").splitlines()
        ids = {name: oid for oid, _, name in (line.partition("\t") for line in lines)}
        names = [name for name in ids if ids.get(f"{name}^{{}}") == commit]
        if names:
            with self._mirror.writing(), self._own() as own:
                self._fetch(*(f"+{name}:{own}/{place}" for place, name in enumerate(names)))
        return tuple(ids[name] for name in names)

    def follows(self, revision: str, before: str) -> bool:
        """Whether a commit comes after another; False: history was rewritten between them."""
        return self._git.ask(("merge-base", "--is-ancestor", before, revision))[0] == 0

    def keep(self, revision: str, forgotten: Sequence[str] = (), tag: str | None = None) -> None:
        """Keep a commit that was applied, whatever becomes of its branch, and let go of others.

        Args:
            revision: The commit.
            forgotten: Others, which may go.
            tag: The object that vouched for it.
        """
        gone = [each for each in forgotten if each != revision]
        lines = [f"update {APPLIED}{revision} {revision}"]
        lines += [f"update {SIGNED}{revision} {tag}"] if tag is not None else []
        lines += [f"delete {kind}{each}" for each in gone for kind in (APPLIED, SIGNED)]
        with self._mirror.writing():
            self._git.local("update-ref", "--stdin", given="\n".join([*lines, ""]).encode())

    def pack(self) -> None:
        """Put the mirror's many small files into few."""
        gc = ("-c", "gc.auto=1000", "-c", "gc.autoDetach=false", "gc", "--auto", "--quiet")
        with self._mirror.writing():
            self._git.local("pack-refs", "--all")
            self._git.local(*gc)

    def tags(self, commit: str) -> tuple[str, ...]:
        """Tag objects of a commit: the one that is followed, and the one that vouched for it."""
        refs = TARGET, f"{SIGNED}{commit}"
        listed = self._line("for-each-ref", "--format=%(objecttype) %(objectname)", *refs)
        found = [name for kind, name in map(str.split, listed.splitlines()) if kind == "tag"]
        peeled = {each: self._git.ask(("rev-parse", f"{each}^{{commit}}"))[1] for each in found}
        return tuple(each for each, of in peeled.items() if of.decode().strip() == commit)

    @property
    def git(self) -> Git:
        """The command, for whoever verifies signatures."""
        return self._git

    def look(self, commit: Commit, known: Known, base: str | None = None) -> Snapshot:
        """What differs from `known` at a commit; raises `GitError` and `Refused`.

        Args:
            commit: Where to look.
            known: What the last look left, by path.
            base: The commit that `known` is of, if it is one as a whole.
        """
        entries, gone = self._difference(commit.id, base) or self._whole(commit.id, known)
        changed = {
            path: each
            for path, each in entries.items()
            if self._differs(path, each, known.get(known_as(path)))
        }
        contents = dict(self._blobs.read({path: each.oid for path, each in changed.items()}))
        found = [self._found(path, each, contents.get(path)) for path, each in changed.items()]
        removed = tuple(sorted(known.keys() & set(map(known_as, gone))))
        return Snapshot(by_path(found), removed, commit=commit)

    def _whole(self, revision: str, known: Known) -> tuple[dict[str, _Entry], set[str]]:
        """Every definition file of a commit, and what is known of others."""
        entries = self._entries(revision)
        return entries, known.keys() - set(map(known_as, entries))

    def _difference(
        self, revision: str, base: str | None
    ) -> tuple[dict[str, _Entry], set[str]] | None:
        """The definition files that differ between two commits; None: look at all of them.

        A link may lead to a file that changed, so where there are links all are looked at.
        """
        if base is None or base not in self._plain:
            return None
        below = [
            f"{each}:{self._spec.path}" if self._spec.path else each for each in (base, revision)
        ]
        try:
            listed = self._git.local("diff-tree", "-r", "-z", "--raw", "--no-renames", *below)
        except GitError:
            return None
        fields = listed.decode("utf-8", "surrogateescape").split("\0")
        entries: dict[str, _Entry] = {}
        gone: set[str] = set()
        for head, path in zip(fields[::2], fields[1::2], strict=False):
            _, mode, _, oid, _ = head.split()
            if mode in {_LINK, _MODULE}:
                return None
            if is_definition(path):
                gone.add(path) if mode == _ABSENT else entries.update({path: _Entry(mode, oid)})
        self._plain.add(revision)
        return entries, gone

    def read(self, known: Known, paths: Sequence[str]) -> Mapping[str, bytes]:
        """Contents of files as they are known."""
        oids = {path: known[path].digest for path in paths if known[path].digest}
        return {path: each for path, each in self._blobs.read(oids) if isinstance(each, bytes)}

    def _found(self, path: str, entry: _Entry, content: bytes | int | None) -> Found:
        if (why := misnamed(path)) is not None:
            return Found(known_as(path), _stat(entry), "", refusal=why)
        if entry.mode == _LINK:
            refusal = Refusal("is a symbolic link that leads to no file of the source")
            return Found(path, _stat(entry), "", refusal=refusal)
        if isinstance(content, bytes):
            return Found(path, _stat(entry), entry.oid, content)
        size = content or 0
        return Found(path, _stat(entry, size), "", refusal=too_large(size, self._largest))

    def _differs(self, path: str, entry: _Entry, known: Seen | None) -> bool:
        if known is None or known.digest:
            return known is None or known.digest != entry.oid
        size = known.stat.size  # why it was refused holds, or it is read
        refused = size > self._largest or entry.mode == _LINK or misnamed(path) is not None
        return not refused or known.stat != _stat(entry, size)

    def _entries(self, revision: str) -> dict[str, _Entry]:
        """Every definition file of a commit; links stand for the file they lead to."""
        below = f"{revision}:{self._spec.path}" if self._spec.path else revision
        try:
            listed = self._git.local("ls-tree", "-r", "-z", "--full-tree", below)
        except GitError as error:
            if error.reason in {"not-found", "git"} and self._has(revision):
                message = f"there is no directory `{self._spec.path}` in {revision[:12]}"
                hint = "check `path`; what is applied stays"
                raise Refused(message, reason="path-gone", hint=hint) from None
            raise
        every = dict(_parsed(listed.decode("utf-8", "surrogateescape")))
        modules = sorted(path for path, each in every.items() if each.mode == _MODULE)
        if modules:
            message = f"`{known_as(modules[0])}` is a submodule, and its files would be left out"
            hint = "add the files themselves, or make it a source of its own"
            raise Refused(message, reason="submodule", hint=hint)
        links = {path for path, each in every.items() if each.mode == _LINK}
        found = {path: each for path, each in every.items() if is_definition(path)}
        if links & found.keys():
            targets = dict(self._blobs.read({path: every[path].oid for path in links}))
            found |= {path: _target(path, every, targets) for path in links & found.keys()}
        else:
            self._plain.add(revision)
        return found

    def _has(self, commit: str) -> bool:
        return self._git.ask(("cat-file", "-e", f"{commit}^{{commit}}"))[0] == 0

    def _line(self, *arguments: str) -> str:
        return self._git.local(*arguments).decode().strip()


def _parsed(listed: str) -> Iterable[tuple[str, _Entry]]:
    """Of `MODE TYPE OID`, a tab and the path for each file."""
    for line in listed.split("\0"):
        if line:
            head, _, path = line.partition("\t")
            mode, _, oid = head.split(" ")
            yield path, _Entry(mode, oid)


def _target(path: str, every: Mapping[str, _Entry], links: Mapping[str, bytes | int]) -> _Entry:
    """The file a link leads to, or the link itself where it leads to none of the source."""
    here = path
    for _ in range(_HOPS):
        content = links[here]
        aim = content.decode("utf-8", "surrogateescape") if isinstance(content, bytes) else ""
        here = posixpath.normpath(posixpath.join(posixpath.dirname(here), aim))
        found = every.get(here)
        if found is None or posixpath.isabs(aim):
            break
        if found.mode != _LINK:
            return found
    return every[path]


def _stat(entry: _Entry, size: int = 0) -> Stat:
    """A blob has no times; what tells one from another is its id, and one that is too large."""
    return Stat(size, 0, int(entry.oid[:15], 16))
