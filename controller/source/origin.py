"""Where a reconciler looks: a directory with its watch, or a checkout with its trust."""

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeVar

from controller.core.problem import Refused
from controller.source.checkout import Checkout
from controller.source.directory import Directory
from controller.source.git import GitError
from controller.source.snapshot import Commit, Known, Snapshot
from controller.source.spec import SourceSpec
from controller.source.trust import Trust
from controller.source.watch import EVERYWHERE, Hint, Watch

T = TypeVar("T")

POLL = 5_000
"""Milliseconds between looks where there are no file events."""

MAINTAIN = 100
"""Revisions after which a mirror is packed."""


@dataclass(frozen=True, slots=True)
class Look:
    """What was found.

    Attributes:
        revision: The commit; None: the files themselves are all that names it.
        snapshot: What differs from what is known.
        whole: Everything was looked at.
    """

    revision: str | None
    snapshot: Snapshot
    whole: bool = True


class Origin(Protocol):
    """One source. `look`, `at`, `read` and `applied` may take long: call them off the loop."""

    observed: str | None
    """The revision that was seen last, whether or not it may be applied."""

    def attend(self, changed: Callable[[], None]) -> None:
        """On the loop, before a look: arrange to be told of changes."""

    def interval(self, usual: int) -> int:
        """Milliseconds between looks without a hint."""

    def look(self, known: Known, base: str | None, now: int, *, whole: bool) -> Look:
        """What is there now; raises `Unavailable` and `Refused`."""

    def at(self, revision: str, known: Known, base: str | None) -> Look:
        """What was there at an earlier revision; raises `Unavailable` and `Refused`."""

    def find(self, revision: str | None) -> Look:
        """All of a revision, fetched if need be; None: of what is there now.

        Nothing changes for whoever keeps the source. Raises `Unavailable` and `Refused`.
        """

    def read(self, known: Known, paths: Sequence[str]) -> Mapping[str, bytes]:
        """Contents of files as they are known."""

    def follows(self, revision: str, before: str) -> bool:
        """Whether a revision comes after another."""

    def applied(self, revision: str, forgotten: Sequence[str]) -> None:
        """A revision is what stands; others need not be kept any longer."""

    def close(self) -> None:
        """End what runs, watch nothing."""


class FromDirectory:
    """A directory; it has no commits, and keeps nothing of what it was."""

    def __init__(self, spec: SourceSpec, largest: int) -> None:
        self.observed: str | None = None
        self._spec = spec
        self._directory = Directory(spec.root, largest)
        self._watch: Watch | None = None
        self._hint = EVERYWHERE

    def attend(self, changed: Callable[[], None]) -> None:
        """Watch the root that is there now."""
        if self._watch is None:
            self._watch = Watch(self._spec.root, changed, self._spec.watch)
        self._watch.check()
        self._hint = self._watch.take()

    def interval(self, usual: int) -> int:
        """Shorter where there are no file events."""
        polls = self._watch is not None and self._watch.polls
        return min(usual, self._spec.interval or POLL) if polls else usual

    def look(self, known: Known, base: str | None, now: int, *, whole: bool) -> Look:
        """What differs, at the files that an event named or at all of them."""
        del base
        near, writing = (None if whole else self._hint.near), self._hint.writing
        self._hint = Hint(frozenset(), writing)
        snapshot = self._directory.look(known, now * 1_000_000, near=near, writing=writing)
        return Look(None, snapshot, near is None)

    def at(self, revision: str, known: Known, base: str | None) -> Look:
        """Refused: only Git keeps what was."""
        del known, base
        message = f"a directory keeps no earlier revisions, such as {revision[:12]}"
        raise Refused(message, reason="no-history", hint="keep the definitions in Git")

    def find(self, revision: str | None) -> Look:
        """Refused, like `at`: there is one state, which a plan reads as it reads any directory."""
        return self.at(revision or "HEAD", {}, None)

    def read(self, known: Known, paths: Sequence[str]) -> Mapping[str, bytes]:
        """Contents as they are now, of files that can be used."""
        return self._directory.read(known, paths)

    def follows(self, revision: str, before: str) -> bool:
        """One state of a directory comes after another by happening later."""
        del revision, before
        return True

    def applied(self, revision: str, forgotten: Sequence[str]) -> None:
        """Nothing is kept."""

    def close(self) -> None:
        """Watch nothing."""
        if self._watch is not None:
            self._watch.close()


class FromGit:
    """A repository."""

    def __init__(
        self, spec: SourceSpec, home: Path, environment: Mapping[str, str], largest: int
    ) -> None:
        self.observed: str | None = None
        self._checkout = Checkout(spec, home, environment, largest)
        self._trust = Trust(spec, home, self._checkout.git) if spec.verify else None
        self._follows_tags = spec.tag is not None or spec.semver is not None
        self._vouching: dict[str, str | None] = {}  # commit → the tag that is signed
        self._applied = 0

    def attend(self, changed: Callable[[], None]) -> None:
        """Whoever pushes tells us, by the webhook."""

    def interval(self, usual: int) -> int:
        """As it is set."""
        return usual

    def look(self, known: Known, base: str | None, now: int, *, whole: bool) -> Look:
        """Fetch, verify, and compare; the same commit as before is not looked at again."""
        del now
        commit = self._whole_mirror(self._checkout.refresh)
        self.observed = commit.id
        if self.observed == base:
            return Look(base, Snapshot(), whole)
        found = self._look(commit, known, base)
        return Look(found.revision, found.snapshot, whole)

    def at(self, revision: str, known: Known, base: str | None) -> Look:
        """A commit that was applied; nothing is fetched while the mirror has it.

        Where a tag vouched for it and was lost with the mirror, the repository may have the tag.
        """
        found = self._whole_mirror(lambda: self._checkout.again(revision))
        if found == base:
            return Look(found, Snapshot())
        commit = self._checkout.commit(found)
        try:
            return self._look(commit, known, base)
        except Refused:
            tags = self._checkout.tags_there(found) if self._follows_tags else ()
            if not tags:
                raise
            return self._look(commit, known, base, tags)

    def find(self, revision: str | None) -> Look:
        """A commit, a branch or a tag, of the mirror or of the repository; None: as it is set."""
        found = self._whole_mirror(lambda: self._checkout.find(revision))
        commit = self._checkout.commit(f"{found}^{{commit}}")
        return self._look(commit, {}, None, () if found == commit.id else (found,))

    def _look(
        self, commit: Commit, known: Known, base: str | None, tags: Sequence[str] = ()
    ) -> Look:
        if self._trust is not None:
            tags = (*tags, *self._checkout.tags(commit.id))
            signature = self._trust.check(commit.id, tags)
            self._vouching = {commit.id: signature.tag}
            commit = replace(commit, signer=signature.signer)
        snapshot = self._whole_mirror(lambda: self._checkout.look(commit, known, base))
        return Look(commit.id, snapshot)

    def _whole_mirror(self, ask: Callable[[], T]) -> T:
        """Ask; a mirror that is damaged is thrown away, so that the next look fetches it anew."""
        try:
            return ask()
        except GitError as error:
            if error.reason == "damaged":
                self._checkout.discard()
            raise

    def read(self, known: Known, paths: Sequence[str]) -> Mapping[str, bytes]:
        """Blobs of the mirror."""
        return self._checkout.read(known, paths)

    def follows(self, revision: str, before: str) -> bool:
        """Whether one is an ancestor of the other."""
        return self._checkout.follows(revision, before)

    def applied(self, revision: str, forgotten: Sequence[str]) -> None:
        """Keep it, and what vouched for it, against force pushes; let go of what was forgotten."""
        self._checkout.keep(revision, forgotten, self._vouching.get(revision))
        self._applied += 1
        if self._applied % MAINTAIN == 0:
            self._checkout.pack()

    def close(self) -> None:
        """End what runs."""
        self._checkout.close()


def origin_of(spec: SourceSpec, home: Path, environment: Mapping[str, str], largest: int) -> Origin:
    """The origin that a source's settings describe."""
    if spec.url is None:
        return FromDirectory(spec, largest)
    return FromGit(spec, home, environment, largest)


def unused_homes(homes: Path, specs: Mapping[str, SourceSpec]) -> list[str]:
    """Names of mirrors that no repository in the settings has."""
    there = [each.name for each in homes.iterdir()] if homes.is_dir() else []
    return [name for name in there if name not in specs or specs[name].url is None]


def remove_homes(homes: Path, names: Iterable[str]) -> None:
    """Remove the mirrors of sources that are followed no more; who comes back is fetched anew."""
    for name in names:
        shutil.rmtree(homes / name, ignore_errors=True)
