"""What a look found, for the log and for whoever listens; said after the commit."""

from controller.core.drift import Fate
from controller.facts import Bus, Fact, FactType
from controller.logs import get_log
from controller.reconcile.apply import first_problem
from controller.reconcile.status import Outcome
from controller.source.library import Library
from controller.source.revision import Revision

log = get_log("windlass.reconcile")

_FACT_OF = {
    Fate.CREATED: FactType.CREATED,
    Fate.UPDATED: FactType.UPDATED,
    Fate.PRUNED: FactType.ARCHIVED,
}


class Teller:
    """Says what came of a source's looks."""

    def __init__(self, source: str, bus: Bus) -> None:
        self._source = source
        self._bus = bus
        self._logged: tuple[str | None, ...] | None = None

    def say(self, outcome: Outcome, library: Library, now: int) -> None:
        """A new status, and nothing applied; that it fails again as before is not logged."""
        source = outcome.source
        said = {"source": source.id, "phase": source.phase, "reason": source.reason}
        shown = source.phase, source.reason, source.message
        if shown == self._logged:
            log.debug("source", **said, failures=source.failures)
        elif source.phase in {"ready", "suspended"}:
            log.info("source", **said)
        elif source.phase == "failed":
            log.warning("source failed; it is looked at again", **said, message=source.message)
        else:
            log.warning("source", **said, message=source.message)
        self._logged = shown
        self._publish(outcome, library, now)

    def tell(self, outcome: Outcome, revision: Revision, library: Library, now: int) -> None:
        """A revision was applied."""
        self._logged = None
        shown = (outcome.source.revision or "")[:12]
        log.info("reconciled", source=self._source, revision=shown, **outcome.counts())
        if outcome.repaired:
            log.warning("put back what was not as the source says", workflows=outcome.repaired)
            data = {"source": self._source, "workflows": list(outcome.repaired)}
            self._bus.publish(Fact(FactType.DRIFTED, now, data=data))
        for path in outcome.invalid:
            before = revision.before.get(path)
            told = before.problems if before is not None else ()
            for problem in revision.files[path].problems if path in revision.files else ():
                if problem["severity"] == "error" and problem not in told:
                    log.warning("invalid definition", **problem)
        for fate, kind in _FACT_OF.items():
            for name in outcome.drift.of(fate):
                self._bus.publish(Fact(kind, now, name, data={"source": self._source}))
        self._publish(outcome, library, now)

    def _publish(self, outcome: Outcome, library: Library, now: int) -> None:
        source = outcome.source
        standing = (each for path in outcome.invalid for each in library.files[path].problems)
        data = {
            "source": source.id,
            "phase": source.phase,
            "reason": source.reason,
            "message": source.message,
            "revision": source.revision,
            "observed": source.observed,
            "applied_at": source.applied_at,
            "invalid": len(outcome.invalid),
            "problem": first_problem(source.problems or standing),
            "fates": outcome.counts(),
        }
        self._bus.publish(Fact(FactType.RECONCILED, now, data=data))
