"""SourceService: what a person or a program may ask of sources.

Each verb records a wish and rings; the reconciler of the source reads the wish at its next look. A
wish outlives the daemon: what is suspended stays so until somebody resumes it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import dropwhile
from pathlib import Path
from typing import Any

from controller.clock import Clock
from controller.core.problem import NotFound, Refused
from controller.lookup import check_limit
from controller.planning import Planner
from controller.source.origin import remove_homes
from controller.source.spec import SourceSpec
from controller.store import Store, ledger
from controller.store.ledger_sources import REVISIONS_KEPT
from controller.store.lock import Holder
from controller.store.records import AuditRecord, RevisionRecord, SourceRecord
from controller.store.tables import Transaction
from controller.views import SourceStatus, SyncPlan


class SourceService:
    """Verbs over the sources of one store.

    Args:
        specs: The sources in the settings, by name.
        ring: Tells whoever reconciles to read the wishes.
        homes: Where mirrors of repositories are.
        at_work: Tells who executes, and so follows sources, by settings that may be others.
        by: Who asks, for the audit log.
    """

    def __init__(  # ruff: ignore[too-many-arguments]  # wired once, by keyword, in app.py
        self,
        *,
        store: Store,
        clock: Clock,
        specs: Mapping[str, SourceSpec],
        planner: Planner,
        ring: Callable[[], None],
        homes: Path,
        at_work: Callable[[], Awaitable[Holder | None]],
        by: str = "local",
    ) -> None:
        self._store = store
        self._clock = clock
        self._specs = specs
        self._planner = planner
        self._ring = ring
        self._homes = homes
        self._at_work = at_work
        self._by = by

    # -- looking ----------------------------------------------------------------------------

    async def statuses(self) -> list[SourceStatus]:
        """Each source with its files, as the last look left them."""
        return [await self._status(each) for each in await self._store.read(ledger.sources)]

    async def status(self, name: str | None = None) -> SourceStatus:
        """One source with its files; raises `NotFound`."""
        return await self._status(await self.source(name))

    async def source(self, name: str | None = None) -> SourceRecord:
        """A source that was looked at, without its files; with no name, the only one."""
        records = {each.id: each for each in await self._store.read(ledger.sources)}
        chosen = name or _only(records or self._specs)
        if chosen not in records:
            hint = f"there is: {', '.join(sorted(records))}" if records else "`windlass run` does"
            raise NotFound(f"no source {chosen!r} has been looked at", hint=hint)
        return records[chosen]

    async def history(self, name: str | None = None, *, limit: int = 20) -> list[RevisionRecord]:
        """The revisions that were applied, newest first."""
        check_limit(limit)
        source = await self.source(name)
        return await self._store.read(ledger.revisions, source.id, limit)

    async def plan(
        self, name: str | None = None, *, directory: Path | None = None, revision: str | None = None
    ) -> SyncPlan:
        """What a source would change at a revision, or if its files were those of a directory.

        With neither: as the source is now.
        """
        spec, now = self._spec(name), self._clock.now()
        if directory is None:
            await self._same(spec)
            directory = spec.root if spec.url is None and revision is None else None
        if directory is not None:
            return await self._planner.of_directory(spec, directory, now)
        return await self._planner.of_revision(spec, revision, now)

    # -- wishing ----------------------------------------------------------------------------

    async def sync_now(self, name: str | None = None) -> int:
        """Look at once; since when a status is one of after this, epoch milliseconds."""
        return await self._wish("sync", name)

    async def suspend(self, name: str | None = None) -> None:
        """Apply nothing until it is resumed."""
        await self._hold(name, "suspended", None)

    async def resume(self, name: str | None = None) -> None:
        """Follow the source again, after `suspend` or `rollback`."""
        source = await self.source(name)
        wish = await self._store.read(ledger.wish, source.id)
        if wish.held is None:
            message = f"source {source.id!r} is neither suspended nor rolled back"
            raise Refused(message, reason="not-held")
        await self._wish("resume", source.id, held=None)

    async def rollback(self, name: str | None = None, revision: str | None = None) -> str:
        """Go back to a revision that was applied before, and stay there until it is resumed.

        Args:
            name: The source.
            revision: Its id, or the beginning of it; None: the one before the live one, and after
                a rollback the one before that.
        """
        source = await self.source(name)
        if source.type != "git":
            message = f"source {source.id!r} is a directory, which keeps no earlier revisions"
            raise Refused(message, reason="no-history", hint="keep the definitions in Git")
        target = await self._target(source, revision)
        await self._hold(source.id, "rollback", target)
        return target

    async def approve(self, name: str | None = None) -> str:
        """Let the revision that waits archive as many workflows as it does."""
        source = await self.source(name)
        if source.reason != "prune-limit" or source.observed is None:
            message = f"source {source.id!r} does not wait for an approval"
            raise Refused(message, reason="nothing-to-approve")
        await self._wish("approve", source.id, approved=source.observed)
        return source.observed

    async def forget(self, name: str) -> int:
        """Archive what a source owns that nobody's settings name any more; how many.

        Its mirror goes as well. While a controller is at work, what it found as it started counts.
        """
        source = await self.source(name)
        hint = "take it out of the settings and restart the controller without it first"
        if name in self._specs:
            message = f"source {name!r} is in the settings"
            raise Refused(message, reason="configured", hint=hint)
        if source.phase != "removed" and (holder := await self._at_work()) is not None:
            who = f"process {holder.pid}" if holder.pid else holder.owner
            message = f"source {name!r} may be followed by {who}, at work with other settings"
            raise Refused(message, reason="configured", hint=hint)
        archived = await self._store.write(_forget, source.id, self._clock.now())
        await asyncio.to_thread(remove_homes, self._homes, [source.id])
        await self._audit("sync-forget", source.id, {"archived": archived})
        self._ring()
        return archived

    # -- parts ------------------------------------------------------------------------------

    async def _target(self, source: SourceRecord, revision: str | None) -> str:
        if revision is None:
            applied = await self._store.read(ledger.revisions, source.id, REVISIONS_KEPT)
            earlier = _earlier(applied, source.revision)
            if earlier is None:
                message = f"source {source.id!r} has no earlier revision than the live one"
                hint = "name one that `windlass sync:history` lists with --revision"
                raise Refused(message, reason="no-history", hint=hint)
            return earlier
        found = await self._store.read(ledger.revisions_like, source.id, revision)
        if len(found) != 1:
            what = "more than one revision" if found else "no revision"
            hint = "`windlass sync:history` lists them"
            raise Refused(
                f"{what} of {source.id!r} begins with {revision!r}",
                reason="ambiguous" if found else "not-found",
                hint=hint,
            )
        return found[0]

    def _spec(self, name: str | None) -> SourceSpec:
        chosen = name or _only(self._specs)
        if chosen not in self._specs:
            known = ", ".join(sorted(self._specs))
            raise NotFound(f"the settings name no source {chosen!r}", hint=f"there is: {known}")
        return self._specs[chosen]

    async def _same(self, spec: SourceSpec) -> None:
        """Raise `Refused` where the controller follows something else under the source's name."""
        record = await self._store.read(ledger.source, spec.name)
        if record is not None and record.location != spec.location:
            raise Refused(
                f"the controller follows {record.location}, and the settings here name"
                f" {spec.location}",
                reason="other-settings",
                hint="give this command the controller's settings: WINDLASS_SOURCE or --config",
            )

    async def _status(self, source: SourceRecord) -> SourceStatus:
        files = await self._store.read(ledger.source_files, source.id)
        wish = await self._store.read(ledger.wish, source.id)
        return SourceStatus(source, list(files.values()), wish)

    async def _hold(self, name: str | None, reason: str, revision: str | None) -> None:
        now = self._clock.now()
        held = {"reason": reason, "revision": revision, "by": self._by, "at": now}
        await self._wish(reason, name, held=held)

    async def _wish(self, verb: str, name: str | None, **wanted: object) -> int:
        source, now = await self.source(name), self._clock.now()
        wishes: dict[str, object] = {"requested_at": now, **wanted}
        await self._store.write(ledger.put_wish, source.id, wishes)
        if wanted:
            await self._audit(f"sync-{verb}", source.id, {"revision": source.revision})
        self._ring()
        return now

    async def _audit(self, verb: str, target: str, detail: dict[str, Any]) -> None:
        record = AuditRecord(self._clock.now(), self._by, verb, target, detail)
        await self._store.write(ledger.audit, record)


def _only(names: Mapping[str, object]) -> str:
    """The one name there is; raises `Refused` when a choice is needed."""
    if len(names) > 1:
        hint = f"name one of: {', '.join(sorted(names))}"
        raise Refused("there is more than one source", reason="ambiguous", hint=hint)
    return next(iter(names), "definitions")


def _earlier(applied: Sequence[RevisionRecord], live: str | None) -> str | None:
    """What was applied before the live revision was; None: nothing that is kept.

    What was left by rollbacks since the source was last followed is no place to go back to.

    Args:
        applied: Newest first; the row of a rollback does not say where its revision stood.
        live: The revision that is in force.
    """
    followed = next((place for place, each in enumerate(applied) if each.kind == "sync"), -1)
    left = {live, *(each.revision for each in applied[: followed + 1])}
    older = dropwhile(lambda each: (each.kind, each.revision) != ("sync", live), applied)
    return next((each.revision for each in older if each.revision not in left), None)


def _forget(tx: Transaction, source_id: str, now: int) -> int:
    """A verb for the store: archive all that a source owns, and forget the source."""
    names = [each.name for each in ledger.owned(tx, source_id)]
    archived = ledger.archive(tx, names, now)
    ledger.remove_source(tx, source_id)
    ledger.wake_others(tx, source_id, now)
    return archived
