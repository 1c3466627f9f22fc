"""Makes the database equal to a source: one revision, one transaction, one status at the end.

    snapshot → parse → compile → drift → apply → status

Level-triggered: it never asks what happened, only what is there. A file event, the resync and a
person's wish all say the same, "look again". Running executions keep the version they started
with; a file with a problem keeps the version that was good.
"""

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog

from controller.clock import Clock
from controller.core.drift import Drift, Fate, drift
from controller.core.plan import Policy, Signature
from controller.core.problem import Unavailable
from controller.facts import Bus, Fact, FactType
from controller.recording import faces, schedules_of, workflow_record
from controller.source.directory import Stat, snapshot
from controller.source.parse import Limits
from controller.source.revision import CompiledWorkflow, ExaminedFile, Examiner, Revision
from controller.store import Store, ledger
from controller.store.records import (
    FileRecord,
    ScheduleRecord,
    SourceRecord,
    VersionRecord,
    WorkflowHead,
    WorkflowRecord,
)
from controller.store.tables import Transaction
from controller.views import recorded, wanted

log = structlog.get_logger("windlass.reconcile")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one reconcile did, for status, log, metrics and facts."""

    source: SourceRecord
    drift: Drift
    invalid: tuple[str, ...]

    def counts(self) -> dict[str, int]:
        """How many workflows met each fate."""
        return {str(fate): len(self.drift.of(fate)) for fate in Fate}


@dataclass(frozen=True, slots=True)
class Application:
    """Everything one transaction writes."""

    source: SourceRecord
    workflows: tuple[tuple[WorkflowRecord, VersionRecord, tuple[ScheduleRecord, ...]], ...]
    pruned: tuple[str, ...]
    files: tuple[FileRecord, ...]
    removed: tuple[str, ...]
    now: int


class Reconciler:
    """Keeps the workflows of one directory as its files say.

    Args:
        root: The directory.
        built_in: Signatures of built-in actions.
        applied: Called when schedules or workflows may have changed.
    """

    def __init__(  # ruff: ignore[too-many-arguments]  # wired once, by keyword, in app.py
        self,
        *,
        root: Path,
        store: Store,
        clock: Clock,
        bus: Bus,
        built_in: Mapping[str, Signature],
        policy: Policy,
        limits: Limits,
        resync: int,
        applied: Callable[[], None],
    ) -> None:
        self.root = root
        self.id = "definitions"
        self._store = store
        self._clock = clock
        self._bus = bus
        self._built_in = built_in
        self._policy = policy
        self._limits = limits
        self._resync = resync
        self._applied = applied
        self._files: dict[str, ExaminedFile] | None = None
        self._source: SourceRecord | None = None
        self._woken = asyncio.Event()
        self._stopping = False
        self.first = asyncio.Event()

    def look_again(self) -> None:
        """Something may have changed."""
        self._woken.set()

    def stop(self) -> None:
        """End the loop."""
        self._stopping = True
        self._woken.set()

    async def run(self, before_look: Callable[[], None]) -> None:
        """Reconcile whenever told to, and every `resync` milliseconds."""
        while not self._stopping:
            self._woken.clear()
            before_look()
            try:
                await self.reconcile()
            except Unavailable as error:
                log.warning("database unavailable; trying again", error=str(error))
            self.first.set()
            timer = self._clock.call_at(self._clock.now() + self._resync, self._woken.set)
            await self._woken.wait()
            timer.cancel()

    async def reconcile(self) -> Outcome:
        """Look once, and apply what is there."""
        now = self._clock.now()
        if self._files is None:
            await self._recall()
        known = self._files or {}
        try:
            found = await asyncio.to_thread(
                snapshot,
                self.root,
                {path: (each.stat, each.digest) for path, each in known.items()},
                largest=self._limits.file_bytes,
            )
        except Unavailable as error:
            return await self._unreachable(str(error), now)
        heads = await self._store.read(ledger.catalog)
        examiner = Examiner(
            built_in=self._built_in,
            elsewhere=await self._elsewhere(heads),
            policy=self._policy,
            limits=self._limits,
            read=self._read,
            now=now,
            whole=True,
        )
        revision = await asyncio.to_thread(examiner.examine, found, known)
        return await self._apply(revision, heads, known, now)

    # -- steps ------------------------------------------------------------------------------

    async def _recall(self) -> None:
        """What the last reconcile left, perhaps of an earlier daemon."""
        records = await self._store.read(ledger.source_files, self.id)
        self._source = await self._store.read(ledger.source, self.id)
        moved = self._source is not None and self._source.location != str(self.root.resolve())
        self._files = {
            path: ExaminedFile(
                path=path,
                stat=Stat(0, 0, 0) if moved else Stat(each.size, each.mtime_ns, each.inode),
                digest=each.digest,
                status=each.status,
                problems=tuple(each.problems),
                definitions=tuple(each.definitions),
            )
            for path, each in records.items()
        }

    async def _elsewhere(self, heads: Mapping[str, WorkflowHead]) -> dict[str, Signature]:
        """Workflows of other origins, for subflows."""
        others = [
            name
            for name, head in heads.items()
            if head.origin != self.id and head.status != "archived"
        ]
        return await faces(self._store, others)

    def _read(self, path: str) -> bytes | None:
        try:
            return (self.root / path).read_bytes()
        except OSError:
            return None

    async def _apply(
        self,
        revision: Revision,
        heads: Mapping[str, WorkflowHead],
        known: Mapping[str, ExaminedFile],
        now: int,
    ) -> Outcome:
        """Compare, write what differs in one transaction, and say so."""
        difference = drift(self.id, wanted(revision), recorded(heads))
        files = dict(known) | _owned(revision, difference)
        for path in revision.removed:
            del files[path]
        invalid = tuple(sorted(path for path, each in files.items() if each.status == "invalid"))
        source = self._status(files, invalid, now, changed=difference.changes)
        apply = difference.of(Fate.CREATED) + difference.of(Fate.UPDATED)
        application = Application(
            source=source,
            workflows=tuple(self._records(revision.workflows[name], source, now) for name in apply),
            pruned=tuple(difference.of(Fate.PRUNED)),
            files=tuple(_file_record(files[path]) for path in revision.files),
            removed=revision.removed,
            now=now,
        )
        outcome = Outcome(source, difference, invalid)
        if self._worth_writing(application):
            await self._store.write(apply_revision, self.id, application)
            self._tell(outcome, revision, now)
        self._files, self._source = files, source
        return outcome

    def _worth_writing(self, application: Application) -> bool:
        changed = application.workflows or application.pruned
        files = application.files or application.removed
        before = self._source
        return bool(changed or files) or before is None or before.phase != application.source.phase

    def _records(
        self, compiled: CompiledWorkflow, source: SourceRecord, now: int
    ) -> tuple[WorkflowRecord, VersionRecord, tuple[ScheduleRecord, ...]]:
        record, version = workflow_record(
            compiled.definition,
            compiled.content,
            compiled.digest,
            origin=self.id,
            path=compiled.path,
            revision=source.revision,
            now=now,
        )
        return record, version, schedules_of(compiled.definition, self.id, now)

    def _status(
        self,
        files: Mapping[str, ExaminedFile],
        invalid: tuple[str, ...],
        now: int,
        *,
        changed: bool,
    ) -> SourceRecord:
        """The one place where the source's status is made."""
        before = self._source
        revision = _revision_of(files.values())
        applied = now if changed or before is None else before.applied_at
        message = None
        if invalid:
            message = f"{len(invalid)} invalid: {', '.join(invalid[:5])}"
        return SourceRecord(
            id=self.id,
            type="directory",
            location=str(self.root.resolve()),
            revision=revision,
            phase="degraded" if invalid else "ready",
            reason="invalid-files" if invalid else None,
            message=message,
            checked_at=now,
            applied_at=applied,
        )

    async def _unreachable(self, message: str, now: int) -> Outcome:
        """The root cannot be listed: nothing is pruned, and the status says why."""
        before = self._source
        source = SourceRecord(
            id=self.id,
            type="directory",
            location=str(self.root.absolute()),
            revision=before.revision if before else None,
            phase="failed",
            reason="unreachable",
            message=message,
            checked_at=now,
            applied_at=before.applied_at if before else None,
        )
        if before is None or before.phase != "failed":
            log.error("source unreachable; nothing is changed", error=message)
            await self._store.write(ledger.put_source, source)
        self._source = source
        return Outcome(source, Drift(), ())

    def _tell(self, outcome: Outcome, revision: Revision, now: int) -> None:
        """Facts, after the commit."""
        counts = {name: count for name, count in outcome.counts().items() if count}
        log.info("reconciled", revision=(outcome.source.revision or "")[:12], **counts)
        for path in outcome.invalid:
            if path in revision.files:
                for problem in revision.files[path].problems:
                    if problem["severity"] == "error":
                        log.warning("invalid definition", **problem)
        for fate, kind in _FACT_OF.items():
            for name in outcome.drift.of(fate):
                self._bus.publish(Fact(kind, now, name, data={"source": self.id}))
        data = {"source": self.id, "phase": outcome.source.phase, "invalid": len(outcome.invalid)}
        self._bus.publish(Fact(FactType.RECONCILED, now, data=data | {"fates": counts}))
        self._applied()


def apply_revision(tx: Transaction, source_id: str, application: Application) -> None:
    """A verb for the store: all of a revision, or nothing."""
    ledger.put_workflows(tx, [(record, version) for record, version, _ in application.workflows])
    for record, _, schedules in application.workflows:
        ledger.put_schedules(tx, record.name, source_id, schedules, now=application.now)
    ledger.archive(tx, application.pruned, application.now)
    ledger.put_files(tx, source_id, application.files, application.removed)
    ledger.put_source(tx, application.source)


_FACT_OF = {
    Fate.CREATED: FactType.CREATED,
    Fate.UPDATED: FactType.UPDATED,
    Fate.PRUNED: FactType.ARCHIVED,
}


def _owned(revision: Revision, difference: Drift) -> dict[str, ExaminedFile]:
    """The files looked at; one that names what somebody else owns is invalid, and says who."""
    files = dict(revision.files)
    for name, owner in difference.owner.items():
        path = revision.workflows[name].path
        file = files[path]
        problem = {
            "path": path,
            "line": 1,
            "column": 1,
            "code": "owned-elsewhere",
            "message": f"the workflow `{name}` belongs to {owner!r}",
            "hint": "rename it, or delete the other one first",
            "severity": "error",
            "excerpt": "",
        }
        files[path] = ExaminedFile(
            path, file.stat, file.digest, "invalid", (*file.problems, problem), file.definitions
        )
    return files


def _file_record(file: ExaminedFile) -> FileRecord:
    return FileRecord(
        path=file.path,
        digest=file.digest,
        size=file.stat.size,
        mtime_ns=file.stat.mtime_ns,
        inode=file.stat.inode,
        status=file.status,
        problems=list(file.problems),
        definitions=list(file.definitions),
    )


def _revision_of(files: Iterable[ExaminedFile]) -> str:
    """A directory has no commit: the digest of its files' paths and digests stands for one."""
    text = "\n".join(sorted(f"{each.path}\0{each.digest}" for each in files))
    return hashlib.sha256(text.encode()).hexdigest()
