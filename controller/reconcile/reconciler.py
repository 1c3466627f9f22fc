"""One source, kept: the loop that looks, and the steps of one look."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace

from controller.clock import Clock
from controller.core.drift import Drift, Fate
from controller.core.plan import Signature
from controller.core.policy import Policy
from controller.core.problem import Refused, Unavailable
from controller.facts import Bus
from controller.judgement import Judgement, counted_from, judge
from controller.logs import get_log
from controller.reconcile.ahead import Crew, Terms, rehearse
from controller.reconcile.apply import (
    Overtaken,
    application_of,
    apply_revision,
    invalid_paths,
)
from controller.reconcile.drifted import Recorded, drifted_paths, reached_paths, recorded_of
from controller.reconcile.status import Outcome, Standing, status_of
from controller.reconcile.telling import Teller
from controller.recording import Others, library_of
from controller.source.directory import SETTLE
from controller.source.examine import Examiner
from controller.source.library import Library
from controller.source.limits import Limits
from controller.source.origin import Look, Origin
from controller.source.revision import Revision
from controller.source.snapshot import Found, Snapshot
from controller.source.spec import SourceSpec
from controller.store import Store, ledger
from controller.store.records import (
    Fenced,
    RevisionRecord,
    SourceRecord,
    SourceWish,
    WorkflowHead,
)
from controller.tenure import Tenure
from controller.views import commit_json, drift_of

STALE = 300_000
"""Milliseconds after which a status that has not changed is written again, for its `checked_at`."""

LOOK_AGAIN = 1_000
"""Milliseconds between tries when the database, or the right to write, is away."""

log = get_log("windlass.reconcile")


class Reconciler:
    """Keeps the workflows of one source as its files say.

    Args:
        spec: The source.
        origin: Where it looks.
        built_in: Signatures of built-in actions.
        interval: Milliseconds between looks at a source that names no `interval`.
        applied: Called when schedules or workflows may have changed.
        crew: Processes that help with thousands of files.
        tenure: The right to keep it; None: there is no other controller.

    Attributes:
        wish: What the last look went by; None: there was none.
    """

    def __init__(  # ruff: ignore[too-many-arguments]  # wired once, by keyword, in app.py
        self,
        *,
        spec: SourceSpec,
        origin: Origin,
        store: Store,
        clock: Clock,
        bus: Bus,
        built_in: Mapping[str, Signature],
        policy: Policy,
        limits: Limits,
        interval: int,
        applied: Callable[[], None],
        crew: Crew | None = None,
        tenure: Tenure | None = None,
    ) -> None:
        self.spec = spec
        self.id = spec.name
        self._origin = origin
        self._store = store
        self._clock = clock
        self._teller = Teller(spec.name, bus)
        self._built_in = built_in
        self._policy = policy
        self._limits = limits
        self._interval = spec.interval or interval
        self._applied = applied
        self._crew = crew if crew is not None else Crew(0)
        self._tenure = tenure
        self._write = store.write if tenure is None else tenure.write
        if tenure is not None:
            tenure.changed = self._succeed
        self.wish: SourceWish | None = None
        self._library: Library | None = None
        self._record: SourceRecord | None = None
        self._others: Others | None = None
        self._unsettled = False
        self._whole_at = 0.0  # monotonic seconds
        self._woken = asyncio.Event()
        self._stopping = False
        self.first = asyncio.Event()

    # -- the loop ---------------------------------------------------------------------------

    def look_again(self) -> None:
        """Something may have changed."""
        self._woken.set()

    def look_at_everything(self) -> None:
        """Something may have changed, anywhere."""
        self._whole_at = 0
        self._woken.set()

    @property
    def keeps(self) -> bool:
        """Whether this controller is the one that keeps the source."""
        return self._tenure is None or self._tenure.held

    def _succeed(self) -> None:
        """It may have been kept by another controller until now."""
        self._forget()
        self._woken.set()

    def stop(self) -> None:
        """End the loop, and what it runs."""
        self._stopping = True
        self._origin.close()
        self._woken.set()

    async def run(self) -> None:
        """Look whenever told to, and from time to time."""
        if self._tenure is not None:
            await self._tenure.decided.wait()
        while not self._stopping:
            self._woken.clear()
            wait = await self._turn() if self.keeps else LOOK_AGAIN
            timer = self._clock.call_later(wait, self._woken.set)
            if not self.first.is_set():
                self.first.set()
                await asyncio.gather(self._store.read(rehearse, self.id), return_exceptions=True)
            await self._woken.wait()
            timer.cancel()

    async def _turn(self) -> int:
        """Look; milliseconds until the next look without a hint."""
        self._origin.attend(self._woken.set)
        due = (now := self._clock.monotonic()) >= self._whole_at
        if due:
            self._whole_at = now + self._origin.interval(self._interval) / 1000
        try:
            outcome = await self.reconcile(whole=due)
        except (Unavailable, Fenced) as error:
            if not self._stopping:
                log.warning("nothing is written; trying again", source=self.id, error=str(error))
            return LOOK_AGAIN
        return self._wait(outcome.source)

    def _wait(self, source: SourceRecord) -> int:
        """Milliseconds until the next look without a hint."""
        if self._unsettled:
            self._whole_at = 0
            return int(SETTLE * 1000) + 1
        if source.next_at is not None:
            self._whole_at = 0
            return max(source.next_at - self._clock.now(), 0)
        return max(self._origin.interval(self._interval), 1)

    def _forget(self) -> None:
        """What is known may not be what is recorded: it is read again, and everything looked at."""
        self._library = None
        self._others = None
        self._whole_at = 0

    # -- one look ---------------------------------------------------------------------------

    async def reconcile(self, *, whole: bool = True) -> Outcome:
        """Look once, and apply what is there; `whole`, and after one that failed: at everything."""
        now = self._clock.now()
        standing = await self._recall()
        try:
            outcome = await self._attempt(standing, now, whole=whole or not standing.complete)
        except Overtaken:
            self._forget()
            return await self.reconcile()
        except BaseException:
            self._forget()
            raise
        self._record = outcome.source
        return outcome

    async def _attempt(self, standing: Standing, now: int, *, whole: bool) -> Outcome:
        held = standing.wish.held
        if held is not None and held["reason"] == "suspended":
            return await self._without_change(standing, now, Judgement("suspended", "suspended"))
        try:
            look = await asyncio.to_thread(self._look, standing, now, whole=whole)
        except (Refused, Unavailable) as error:
            if self._stopping and isinstance(error, Unavailable):
                raise  # ended by that: no failure of the source
            return await self._without_change(standing, now, Judgement.of(error))
        self._unsettled = look.snapshot.unsettled
        return await self._carry_out(look, standing, now)

    async def _recall(self) -> Standing:
        """What the last look left, perhaps of an earlier daemon."""
        self.wish = wish = await self._store.read(ledger.wish, self.id)
        if self._library is None:
            files = await self._store.read(ledger.file_values, self.id)
            self._record = await self._store.read(ledger.source, self.id)
            there = self._record is not None and self._record.location == self.spec.location
            self._library = library_of(files, moved=not there)
        return Standing(self._record, wish, self._library)

    def _look(self, standing: Standing, now: int, *, whole: bool) -> Look:
        """Off the loop: it may take as long as a network does."""
        held, library = standing.wish.held, standing.library
        if held is not None:
            return self._origin.at(held["revision"], library.files, library.revision)
        return self._origin.look(library.files, library.revision, now, whole=whole)

    async def _carry_out(self, look: Look, standing: Standing, now: int) -> Outcome:
        library, snapshot = standing.library, look.snapshot
        heads: Mapping[str, WorkflowHead] = {}
        repaired: tuple[str, ...] = ()
        others = Others.of(await self._store.read(ledger.faces, self.id))
        if look.whole:
            recorded = await recorded_of(self._store, self.id)
            heads = recorded.heads
            snapshot, repaired = await self._with_drifted(snapshot, library, recorded, others)
        revision = await asyncio.to_thread(self._examine, snapshot, library, others, now)
        self._others = others
        if not look.whole:
            heads = await self._store.read(ledger.heads, sorted(revision.touched))
        difference = drift_of(self.spec, revision, library, heads, repaired)
        if difference.owner.keys() - others.owners.keys():
            raise Overtaken
        repaired = tuple(name for name in repaired if name not in difference.owner)
        found = look.revision or library.fingerprint
        owned = 0, 0
        if difference.of(Fate.PRUNED):
            since = counted_from(self.spec, standing.record, now)
            owned = await self._store.read(ledger.count_workflows, self.id, since)
        verdict = judge(self.spec, standing.wish, found, revision, difference, owned)
        if verdict is not None:
            library.restore(revision.before)
            return await self._without_change(standing, now, verdict, found)
        return await self._apply(look, revision, difference, standing, now, repaired)

    async def _with_drifted(
        self,
        snapshot: Snapshot,
        library: Library,
        recorded: Recorded,
        others: Others,
    ) -> tuple[Snapshot, tuple[str, ...]]:
        """The snapshot with what others changed; the workflows that are not as files say."""
        changed = {each.path for each in snapshot.changed} | set(snapshot.removed)
        found = await asyncio.to_thread(drifted_paths, self.id, library, recorded)
        drifted = {path: name for path, name in found.items() if path not in changed}
        reached = reached_paths(library, self._others, others)
        again = await self._with(snapshot, drifted.keys() | reached, library)
        there = {each.path for each in again.changed}
        return again, tuple(sorted(name for path, name in drifted.items() if path in there))

    async def _with(
        self, snapshot: Snapshot, paths: AbstractSet[str], library: Library
    ) -> Snapshot:
        """The snapshot, with files that have not changed and are to be examined again."""
        known = {each.path for each in snapshot.changed} | set(snapshot.removed)
        again = sorted(paths - known)
        if not again:
            return snapshot
        contents = await asyncio.to_thread(self._origin.read, library.files, again)
        found = tuple(
            Found(path, library.files[path].stat, library.files[path].digest, content)
            for path, content in contents.items()
        )
        return replace(snapshot, changed=snapshot.changed + found)

    def _examine(self, snapshot: Snapshot, library: Library, others: Others, now: int) -> Revision:
        """Off the loop: with thousands of files it takes a second."""
        terms = Terms(self.id, self._built_in, self._policy, self._limits, now)
        ready = self._crew.examine(snapshot.changed, terms)
        examiner = Examiner(
            library=library,
            built_in=self._built_in,
            elsewhere=others.signatures,
            owners=others.owners,
            policy=self._policy,
            limits=self._limits,
            read=lambda paths: self._origin.read(library.files, paths),
            now=now,
            ready=ready,
            whole=True,
        )
        return examiner.examine(snapshot)

    # -- what comes of it -------------------------------------------------------------------

    async def _apply(  # ruff: ignore[too-many-positional-arguments]  # all that was found
        self,
        look: Look,
        revision: Revision,
        difference: Drift,
        standing: Standing,
        now: int,
        repaired: tuple[str, ...],
    ) -> Outcome:
        """Write what differs in one transaction, and say so."""
        library = standing.library
        invalid = invalid_paths(library.files[path] for path in library.troubled)
        found = look.revision or library.fingerprint
        commit = commit_json(look.snapshot.commit) or (
            standing.record.commit if standing.record and standing.revision == found else None
        )
        source = status_of(self.spec, standing, Judgement.good(invalid, standing.wish), found, now)
        moves = difference.changes or found != standing.revision
        approved = standing.wish.approved == found
        source = replace(
            source,
            revision=found,
            commit=commit,
            applied_at=now if moves else source.applied_at,
            counted_from=None,
            approved_at=now if approved else source.approved_at,
        )
        outcome = Outcome(source, difference, invalid, repaired)
        history = await self._history(outcome, standing, now)
        uses = standing.wish.approved is not None
        application = application_of(source, revision, difference, history, now, uses_approval=uses)
        forgotten: Sequence[str] = ()
        if application.changes:
            forgotten = await self._write(apply_revision, application)
            self._teller.tell(outcome, revision, library, now)
            self._applied()
        else:
            await self._put_status(outcome, standing, now)
        if library.revision != found:
            await asyncio.to_thread(self._origin.applied, found, forgotten)
            library.revision = found
        return outcome

    async def _history(
        self, outcome: Outcome, standing: Standing, now: int
    ) -> RevisionRecord | None:
        """The row of a revision that is another one than before."""
        found, before = outcome.source.revision, standing.revision
        if found is None or found == before:
            return None
        rewritten = before is not None and not await asyncio.to_thread(
            self._origin.follows, found, before
        )
        rolled_back = standing.wish.held is not None
        if rewritten and not rolled_back:
            log.warning("history was rewritten", source=self.id, before=before, now=found)
        return RevisionRecord(
            source_id=self.id,
            number=0,
            revision=found,
            kind="rollback" if rolled_back else "sync",
            applied_at=now,
            commit=outcome.source.commit,
            counts=outcome.counts(),
            rewritten=rewritten and not rolled_back,
        )

    async def _without_change(
        self, standing: Standing, now: int, judgement: Judgement, found: str | None = None
    ) -> Outcome:
        """Nothing is applied: what stands stays, and the status says why."""
        source = status_of(self.spec, standing, judgement, found or self._origin.observed, now)
        invalid = invalid_paths(standing.library.files[path] for path in standing.library.troubled)
        outcome = Outcome(source, Drift(), invalid)
        await self._put_status(outcome, standing, now)
        return outcome

    async def _put_status(self, outcome: Outcome, standing: Standing, now: int) -> None:
        """Write the status if it says something new, or somebody waits for it."""
        before, source = standing.record, outcome.source
        timeless = replace(source, checked_at=None, next_at=None)
        same = before is not None and replace(before, checked_at=None, next_at=None) == timeless
        checked = before.checked_at if before is not None and before.checked_at else 0
        asked = standing.wish.requested_at or 0
        if same and asked <= checked and now - checked < STALE:
            return
        await self._write(ledger.put_source, source)
        if not same:
            self._teller.say(outcome, standing.library, now)
