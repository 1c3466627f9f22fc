"""What a directory or a commit would change, without changing it: for pull requests."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from controller.core.difference import difference
from controller.core.drift import CHANGING, Drift, Fate
from controller.core.plan import Signature
from controller.core.policy import Policy
from controller.core.problem import NotFound, Refused
from controller.judgement import counted_from, judge
from controller.recording import Others, library_of
from controller.source.directory import Directory
from controller.source.examine import Examiner
from controller.source.limits import Limits
from controller.source.origin import Look, Origin
from controller.source.revision import Revision
from controller.source.spec import SourceSpec
from controller.store import Store, ledger
from controller.store.records import WorkflowHead
from controller.views import PlannedChange, SyncPlan, diagnostics_of, drift_of, next_fires


@dataclass(frozen=True, slots=True)
class Planner:
    """Plans for the sources of one controller.

    Attributes:
        open_origin: Opens a source to look at earlier commits of it.
    """

    store: Store
    built_in: Mapping[str, Signature]
    policy: Policy
    limits: Limits
    open_origin: Callable[[SourceSpec], Origin]

    async def of_directory(self, spec: SourceSpec, directory: Path, now: int) -> SyncPlan:
        """What the source would change if its files were those of a directory."""
        if not directory.is_dir():  # ruff: ignore[blocking-path-method-in-async-function]  # one look
            raise NotFound(f"there is no directory {directory}")
        place = Directory(directory, self.limits.file_bytes)
        snapshot = await asyncio.to_thread(place.look, {}, 0)
        return await self._plan(spec, Look(None, snapshot), now)

    async def of_revision(self, spec: SourceSpec, revision: str | None, now: int) -> SyncPlan:
        """What the source would change at a commit; None: as it is now."""
        if spec.url is None and revision is not None:
            message = f"the source {spec.name!r} is a directory: it has no revisions"
            raise Refused(message, reason="no-history", hint="name a directory with --source")
        origin = self.open_origin(spec)
        try:
            look = await asyncio.to_thread(origin.find, revision)
        finally:
            origin.close()
        return await self._plan(spec, look, now)

    async def _plan(self, spec: SourceSpec, look: Look, now: int) -> SyncPlan:
        """Examined as a reconcile would: a broken file keeps what is known to be its last good."""
        library = library_of(await self.store.read(ledger.file_values, spec.name), moved=True)
        gone = library.files.keys() - {each.path for each in look.snapshot.changed}
        snapshot = replace(look.snapshot, removed=tuple(sorted(gone)))
        others = Others.of(await self.store.read(ledger.faces, spec.name))
        examiner = Examiner(
            library=library,
            built_in=self.built_in,
            elsewhere=others.signatures,
            owners=others.owners,
            policy=self.policy,
            limits=self.limits,
            read=lambda _: {},
            now=now,
            whole=True,
        )
        revision = await asyncio.to_thread(examiner.examine, snapshot)
        heads = await self.store.read(ledger.catalog)
        drifted = drift_of(spec, revision, library, heads)
        since = counted_from(spec, await self.store.read(ledger.source, spec.name), now)
        owned = await self.store.read(ledger.count_workflows, spec.name, since)
        wish = await self.store.read(ledger.wish, spec.name)
        found_revision = look.revision or library.fingerprint
        verdict = judge(spec, wish, found_revision, revision, drifted, owned)
        return SyncPlan(
            source=spec.name,
            revision=look.revision,
            changes=await self._changes(drifted, revision, heads, now),
            diagnostics=diagnostics_of(revision),
            refusal=verdict.message if verdict is not None else None,
        )

    async def _changes(
        self, drifted: Drift, revision: Revision, heads: Mapping[str, WorkflowHead], now: int
    ) -> list[PlannedChange]:
        shown = CHANGING | {Fate.REFUSED, Fate.KEPT}
        going = await self.store.read(ledger.going)
        return [
            replace(
                await self._change(
                    name, fate, drifted.owner.get(name), revision, heads.get(name), now
                ),
                running=going.get(name, 0),
            )
            for name, fate in sorted(drifted.fates.items())
            if fate in shown
        ]

    async def _change(  # ruff: ignore[too-many-positional-arguments]  # what is known of it
        self,
        name: str,
        fate: Fate,
        owner: str | None,
        revision: Revision,
        head: WorkflowHead | None,
        now: int,
    ) -> PlannedChange:
        compiled = revision.workflows.get(name)
        standing = head is not None and head.status != "archived"
        before = None
        if head is not None and standing and fate is Fate.UPDATED:
            version = await self.store.read(ledger.version, head.digest)
            before = version.content if version is not None else None
        return PlannedChange(
            kind=fate,
            name=name,
            path=compiled.path if compiled is not None else head.path if head else None,
            owner=owner,
            differences=difference(before, compiled.content) if compiled and before else (),
            next_fires=tuple(next_fires(compiled.definition, now)) if compiled else (),
        )
