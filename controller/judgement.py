"""Whether a revision may be applied, and what the status says of it. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from controller.core.drift import Drift, Fate
from controller.core.problem import Refused, Unavailable
from controller.source.revision import Revision
from controller.source.spec import SourceSpec
from controller.store.records import SourceRecord, SourceWish

SHOWN = 5
"""Names that a message lists."""

TOGETHER = 60_000
"""Milliseconds within which deletions of a directory's files count as one."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """A phase, and why.

    Attributes:
        problems: Diagnostics of a revision that is rejected for them.
    """

    phase: str
    reason: str | None = None
    message: str | None = None
    problems: tuple[dict[str, Any], ...] = ()

    @classmethod
    def good(cls, invalid: Sequence[str], wish: SourceWish) -> Self:
        """A revision is applied, but for files that are invalid; or it is held there."""
        if wish.held is not None:
            message = (
                f"rolled back to {wish.held['revision'][:12]} by {wish.held['by']}, and stays there"
                f" (`windlass sync:resume {wish.source_id}` follows the source again)"
            )
            return cls("held", "rollback", message)
        if not invalid:
            return cls("ready")
        return cls("degraded", "invalid-files", f"{len(invalid)} invalid: {_listed(invalid)}")

    @classmethod
    def of(cls, error: Refused | Unavailable) -> Self:
        """A source that cannot be looked at, or whose revision is refused."""
        hint = getattr(error, "hint", None)
        message = f"{error} ({hint})" if hint else str(error)
        reason = getattr(error, "reason", "unreachable")
        return cls("rejected" if isinstance(error, Refused) else "failed", reason, message)


def counted_from(spec: SourceSpec, record: SourceRecord | None, now: int) -> int | None:
    """Since when workflows that went count with those that would go; None: none do.

    A commit is whole by itself. Of a directory those count that went within `TOGETHER`; what is
    held stays counted until it is decided, and what a person approved is not counted again.
    """
    if spec.type == "git":
        return None
    begin = now - TOGETHER
    if record is None:
        return begin
    begin = begin if record.counted_from is None else record.counted_from
    return max(begin, record.approved_at or 0)


def judge(  # ruff: ignore[too-many-positional-arguments]  # all that it weighs
    spec: SourceSpec,
    wish: SourceWish,
    found: str,
    revision: Revision,
    difference: Drift,
    owned: tuple[int, int],
) -> Judgement | None:
    """Why a revision is not applied; None: it is.

    Args:
        spec: The source's policy.
        wish: What people have said.
        found: The revision.
        revision: What it says.
        difference: What it would change.
        owned: How many workflows the source has, and how many it lost since `counted_from`.
    """
    invalid = sorted(path for path, each in revision.files.items() if each.status == "invalid")
    if invalid and spec.on_invalid == "reject_revision":
        message = f"not applied: {len(invalid)} invalid: {_listed(invalid)}"
        problems = tuple(each for path in invalid for each in revision.files[path].problems)
        return Judgement("rejected", "invalid-files", message, problems)
    pruned = difference.of(Fate.PRUNED)
    standing, lately = owned
    every, gone = standing + lately, len(pruned) + lately
    if pruned and gone * 100 > spec.prune_limit * every and wish.approved != found:
        message = (
            f"not applied: with it, {gone} of {every} workflows would be archived"
            f" ({_listed(pruned)}), and prune_limit is {spec.prune_limit} %"
            f" (`windlass sync:approve {spec.name}` lets it, or bring the files back)"
        )
        return Judgement("held", "prune-limit", message)
    return None


def _listed(names: Sequence[str]) -> str:
    more = f", and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
