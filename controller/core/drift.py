"""What a revision changes: the documents wanted against the workflows recorded."""

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from pydantic_core import to_json

if TYPE_CHECKING:
    from controller.core.definition import Schedule


class Fate(StrEnum):
    """What becomes of a workflow; verbatim in logs, metrics, status and plans."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    INVALID = "invalid"
    PRUNED = "pruned"
    KEPT = "kept"  # its file is gone, and the source does not prune
    REFUSED = "refused"  # somebody else owns it


class Recorded(Protocol):
    """A workflow as the database has it."""

    @property
    def digest(self) -> str:
        """Of the compiled definition."""

    @property
    def origin(self) -> str:
        """Who owns it."""

    @property
    def status(self) -> str:
        """`active`, `inactive` or `archived`."""

    @property
    def path(self) -> str | None:
        """Of its file."""


class Wanted(NamedTuple):
    """A workflow as the source has it: `digest` is None while its file is invalid."""

    name: str
    path: str
    digest: str | None
    status: str = "active"


@dataclass(frozen=True, slots=True)
class Drift:
    """The difference, by name. `owner` says who owns what is refused."""

    fates: Mapping[str, Fate] = field(default_factory=dict)
    owner: Mapping[str, str] = field(default_factory=dict)

    def of(self, fate: Fate) -> list[str]:
        """The names with this fate, sorted."""
        return sorted(name for name, each in self.fates.items() if each is fate)

    @property
    def changes(self) -> bool:
        """Whether anything would change."""
        return any(fate in CHANGING for fate in self.fates.values())


CHANGING = frozenset({Fate.CREATED, Fate.UPDATED, Fate.PRUNED})
"""The fates of workflows that do not stay as they are."""


def drift(
    origin: str,
    wanted: Iterable[Wanted],
    recorded: Mapping[str, Recorded],
    *,
    prune: bool = True,
    altered: Collection[str] = (),
) -> Drift:
    """Compare; a source changes and prunes only what it owns.

    Args:
        origin: Whose files are compared.
        wanted: What they say.
        recorded: What is in the database.
        prune: Whether what is wanted no more goes.
        altered: Names whose rows are known to differ in what is not compared here.

    An archived workflow belongs to nobody: whoever brings its name back owns it. A name in an
    invalid file is neither changed nor pruned: its last good version stays.
    """
    fates: dict[str, Fate] = {}
    owner: dict[str, str] = {}
    for each in wanted:
        known = recorded.get(each.name)
        standing = known is not None and known.status != "archived"
        if known is not None and standing and known.origin != origin:
            fates[each.name] = Fate.REFUSED
            owner[each.name] = known.origin
        elif each.digest is None:
            fates[each.name] = Fate.INVALID
        elif known is None or not standing:
            fates[each.name] = Fate.CREATED
        elif each.name not in altered and _same(each, known):
            fates[each.name] = Fate.UNCHANGED
        else:
            fates[each.name] = Fate.UPDATED
    for name, known in recorded.items():
        if name not in fates and known.origin == origin and known.status != "archived":
            fates[name] = Fate.PRUNED if prune else Fate.KEPT
    return Drift(fates, owner)


Terms = tuple[str | None, int | None, str, str, str]
"""What a definition says of a schedule: cron, at, time zone, and as JSON its inputs and policy."""


def policy_of(schedule: "Schedule") -> dict[str, Any]:
    """How it fires, beside when and with what, as it is recorded."""
    return {name: getattr(schedule, name) for name in _POLICY}


_POLICY = ("overlap", "catchup", "jitter", "start", "end")


def fingerprint(schedules: Iterable[Terms]) -> str:
    """What the schedules of one workflow are known by, in whatever order they come."""
    texts = sorted(map(to_json, schedules))
    return hashlib.sha256(b"\n".join(texts)).hexdigest()[:16]


def _same(wanted: Wanted, known: Recorded) -> bool:
    return (known.digest, known.status, known.path) == (wanted.digest, wanted.status, wanted.path)
