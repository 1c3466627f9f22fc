"""What the last look left, and what the status says of this one. Pure."""

import hashlib
from dataclasses import dataclass

from controller.core.drift import Drift, Fate
from controller.judgement import Judgement, counted_from
from controller.source.library import Library
from controller.source.spec import SourceSpec
from controller.store.records import SourceRecord, SourceWish

SOON = 5_000
"""Milliseconds before the first new try of a look that failed."""

SELDOM = 300_000
"""Milliseconds between tries of a source that goes on failing."""

_DOUBLINGS = 16


@dataclass(frozen=True, slots=True)
class Standing:
    """What the last look left, and what people want now."""

    record: SourceRecord | None
    wish: SourceWish
    library: Library

    @property
    def revision(self) -> str | None:
        """The one that was applied last."""
        return self.record.revision if self.record is not None else None

    @property
    def complete(self) -> bool:
        """Whether the last look applied what it found; what it did not, no hint names again."""
        return self.record is not None and self.record.phase in {"ready", "degraded"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one look did, for status, log, metrics and facts.

    Attributes:
        repaired: Workflows that were not as the source says, though it had not changed.
    """

    source: SourceRecord
    drift: Drift
    invalid: tuple[str, ...]
    repaired: tuple[str, ...] = ()

    def counts(self) -> dict[str, int]:
        """How many workflows met each fate, those that none met left out."""
        found = {str(fate): len(self.drift.of(fate)) for fate in Fate}
        return {name: count for name, count in found.items() if count}


def status_of(
    spec: SourceSpec, standing: Standing, judgement: Judgement, observed: str | None, now: int
) -> SourceRecord:
    """The one place where a status is made; what was applied stays as it was."""
    before = standing.record
    failures = (before.failures if before else 0) + 1 if judgement.phase == "failed" else 0
    counted = before.counted_from if before else None
    if judgement.reason == "prune-limit":
        counted = counted_from(spec, before, now)
    return SourceRecord(
        id=spec.name,
        type=spec.type,
        location=spec.location,
        revision=standing.revision,
        phase=judgement.phase,
        reason=judgement.reason,
        message=judgement.message,
        checked_at=now,
        applied_at=before.applied_at if before else None,
        observed=observed or standing.revision,
        commit=before.commit if before else None,
        problems=list(judgement.problems) or None,
        failures=failures,
        next_at=now + backoff(spec.name, failures) if failures else None,
        counted_from=counted,
        approved_at=before.approved_at if before else None,
    )


def backoff(source: str, failures: int) -> int:
    """Milliseconds before the next try: doubled each time, a fifth more or less for each source."""
    wait = min(SOON << min(failures - 1, _DOUBLINGS), SELDOM)
    share = hashlib.sha256(f"{source}/{failures}".encode()).digest()[0] / 255
    return int(wait * (0.8 + 0.4 * share))
