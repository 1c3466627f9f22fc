"""Through a database, a page at a time: what is wrong with it, and, where asked, mended at once.

Quick looks at what has not ended, at what was created last, and at the definitions and schedules of
now, each up to a bound. Full looks at everything, and holds no more of it in memory.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from controller.core.plan import Plan, Signature
from controller.doctor.executions import Around, judge
from controller.doctor.finding import KINDS, UNREADABLE, Finding, Report
from controller.doctor.mend import mend_execution, mend_lease, mend_schedule
from controller.doctor.schedules import judge_schedule
from controller.doctor.versions import Versions
from controller.store import ledger
from controller.store.direct import Direct
from controller.store.doctor import (
    Case,
    Lease,
    all_leases,
    cases,
    digests_in_use,
    event_counts,
    newest_ids,
    orphans,
    page_of_digests,
    page_of_ids,
    page_of_schedule_ids,
    schedules,
    texts_of_versions,
    unfinished_ids,
    versionless,
)
from controller.store.ledger_leases import LEFT_OVER
from controller.store.lock import Holder
from controller.store.retention import is_going
from controller.store.tables import Transaction

T = TypeVar("T")

PAGE = 500
"""Rows read at once."""

MOST_EVENTS = 20_000
"""Events read at once, unless one execution has more."""

OF_EACH = 2_000
"""How many of each kind a quick look takes."""

NEWEST = 500
"""How many of the executions created last a quick look takes."""

QUICKLY_READ = 2 * 1024**3
"""Bytes of a SQLite file that a quick look reads through."""

ROUNDS = 10
"""How many things may be wrong with one execution, and be mended one after another."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How to examine.

    Attributes:
        full: Everything, rather than what a quick look takes.
        repair: Mend what can be; nobody else is at work.
    """

    full: bool
    repair: bool


def around_of(database: Direct, holder: Holder | None, now: int) -> Around:
    """What is known of who is at work: by the lock on SQLite, by leases on PostgreSQL."""
    if database.path is not None:
        living = frozenset({holder.owner} if holder is not None else ())
        at_work = holder is not None and holder.role == "controller"
        return Around(now, shared=False, at_work=at_work, living=living)
    leases = database.read(ledger.leases_of, "controller", now)
    return Around(now, shared=True, at_work=bool(leases), living=frozenset(leases.values()))


class Examination:
    """One examination of a database with our schema.

    Args:
        built_in: Signatures of the actions that definitions may call.
    """

    def __init__(
        self, database: Direct, built_in: Mapping[str, Signature], around: Around, manner: Manner
    ) -> None:
        self.report = Report()
        self._database = database
        self._around = around
        self._manner = manner
        self._versions = Versions(database, built_in, self.report.add)

    def run(self) -> Report:
        """Look at everything there is to be looked at."""
        if not self._is_sound():
            return self.report  # what is read from it now may be anything
        for what, examine in (
            ("versions", self._examine_versions),
            ("schedules", self._examine_schedules),
            ("leases", self._examine_leases),
            ("executions", self._examine_executions),
            ("what belongs to nothing", self._examine_orphans),
        ):
            try:
                examine()
            except UNREADABLE as error:
                self.report.add(Finding("rows-unreadable", what, str(error)))
        return self.report

    def _is_sound(self) -> bool:
        """Whether SQLite can read what there is; indexes are made anew from sound tables."""
        if not self._manner.full and self._database.size > QUICKLY_READ:
            return True
        self.report.look("bytes", self._database.size)
        found = self._database.damage(indexes=self._manner.full)
        kind = "database-damaged"
        if found and self._manner.full and not self._database.damage(indexes=False):
            kind = "index-damaged"
        mended = False
        if kind == "index-damaged" and self._manner.repair:
            self._database.make_indexes()
            mended = not self._database.damage(indexes=True)
        for each in found:
            self.report.add(Finding(kind, each), mended=mended)
        return mended or not found

    def _examine_orphans(self) -> None:
        for what, count, keys in self._database.read(orphans, growing=self._manner.full):
            self.report.add(Finding("orphan", what, f"{count:,} ({', '.join(keys)})"))

    # -- definitions, schedules, leases -------------------------------------------------------

    def _examine_versions(self) -> None:
        for workflow in self._database.read(versionless):
            self.report.add(Finding("version-missing", workflow, "the workflow itself"))
        for page in self._pages_of_digests():
            self.report.look("versions", len(page))
            for digest, content in self._read(
                texts_of_versions, page, "version-content", self._versions.tell
            ):
                self._versions.check(digest, content)

    def _pages_of_digests(self) -> Iterator[list[str]]:
        if self._manner.full:
            after = ""
            while page := self._database.read(page_of_digests, after, PAGE):
                yield page
                after = page[-1]
            return
        live = self._database.read(digests_in_use, OF_EACH)
        for begin in range(0, len(live), PAGE):
            yield live[begin : begin + PAGE]

    def _examine_schedules(self) -> None:
        after, looked = "", 0
        while self._manner.full or looked < OF_EACH:
            page = self._database.read(page_of_schedule_ids, after, PAGE)
            if not page:
                break
            looked, after = looked + len(page), page[-1]
            for record in self._read(schedules, page, "schedule-invalid"):
                self._conclude(
                    list(judge_schedule(record, self._around)),
                    partial(self._database.write, mend_schedule, record.id, self._around),
                    partial(self._judged_again, record.id),
                )
        self.report.look("schedules", looked)

    def _judged_again(self, schedule_id: str) -> Iterator[Finding]:
        for record in self._read(schedules, [schedule_id], "schedule-invalid"):
            yield from judge_schedule(record, self._around)

    def _examine_leases(self) -> None:
        for lease in self._database.read(all_leases):
            if self._is_left_over(lease):
                finding = Finding("lease-left-over", lease.name, f"owner {lease.owner}")
                mend = partial(self._database.write, mend_lease, lease, self._around)
                self._conclude([finding], mend, lambda: ())

    def _is_left_over(self, lease: Lease) -> bool:
        """A controller's own lease is nobody else's; others are taken by who comes next."""
        try:
            patience = 0 if lease.name.startswith("controller/") else LEFT_OVER
            return lease.lease_until < self._around.now - patience
        except UNREADABLE:
            return True  # nobody has one until a time that is none

    # -- executions ---------------------------------------------------------------------------

    def _examine_executions(self) -> None:
        for ids in self._portions():
            self.report.look("executions", len(ids))
            for case in self._read(cases, ids, "execution-unreadable"):
                name, plan = case.record.id, self._plan(case)
                findings = list(self._judge(case, plan))
                mend = partial(self._database.write, mend_execution, name, plan, self._around)
                self._conclude(findings, mend, partial(self._reexamined, name, plan))

    def _portions(self) -> Iterator[list[str]]:
        """The ids to look at, a few at a time: as many as have a bounded number of events."""
        for page in self._pages_of_ids():
            counts = self._database.read(event_counts, page)
            some: list[str] = []
            events = 0
            for each in page:
                if some and events + counts.get(each, 0) > MOST_EVENTS:
                    yield some
                    some, events = [], 0
                some.append(each)
                events += counts.get(each, 0)
            yield some

    def _pages_of_ids(self) -> Iterator[list[str]]:
        if self._manner.full:
            after = ""
            while page := self._database.read(page_of_ids, after, PAGE):
                yield page
                after = page[-1]
            return
        ids = self._database.read(unfinished_ids, OF_EACH)
        ids = list(dict.fromkeys([*ids, *self._database.read(newest_ids, NEWEST)]))
        for begin in range(0, len(ids), PAGE):
            yield ids[begin : begin + PAGE]

    def _plan(self, case: Case) -> Plan | None:
        record = case.record
        try:
            return self._versions.plan(record.digest, record.policy)
        except UNREADABLE as error:
            self.report.add(Finding("execution-unreadable", record.id, f"its policy: {error}"))
            return None

    def _judge(self, case: Case, plan: Plan | None) -> Iterator[Finding]:
        if self._versions.lacks(case.record.digest):
            yield Finding("version-missing", case.record.id, case.record.digest)
        for finding in judge(case, plan, self._around):
            if not self._is_going(case):
                yield finding

    def _reexamined(self, execution_id: str, plan: Plan | None) -> Iterator[Finding]:
        for case in self._read(cases, [execution_id], "execution-unreadable"):
            yield from self._judge(case, plan)

    def _is_going(self, case: Case) -> bool:
        """Retention has begun to remove it, or has removed it since it was read."""
        record = case.record
        if record.completed_at is None:
            return False
        try:
            root = self._database.read(ledger.execution, record.root_id)
            if root is None:
                return self._database.read(ledger.execution, record.id) is None
            return is_going(root)
        except UNREADABLE:
            return False  # nor can retention tell that it is to go

    # -- what is read, and what comes of it -----------------------------------------------------

    def _read(
        self,
        verb: Callable[[Transaction, Sequence[str]], list[T]],
        ids: Sequence[str],
        kind: str,
        tell: Callable[[Finding], None] | None = None,
    ) -> Iterator[T]:
        """These rows; what cannot be read is found, and keeps no other from being read."""
        try:
            found = self._database.read(verb, ids)
        except UNREADABLE as error:
            if len(ids) == 1:
                (tell or self.report.add)(Finding(kind, ids[0], str(error)))
                return
            for each in ids:
                yield from self._read(verb, [each], kind, tell)
        else:
            yield from found

    def _conclude(
        self,
        findings: Sequence[Finding],
        mend: Callable[[], Finding | None],
        again: Callable[[], Iterator[Finding] | tuple[()]],
    ) -> None:
        """Report what was found of one subject; where it is mended, what of it is left."""
        if not self._manner.repair or not any(KINDS[each.kind].mendable for each in findings):
            self.report.extend(findings)
            return
        for _ in range(ROUNDS):
            try:
                mended = mend()
            except UNREADABLE:
                break  # what it would be mended by is damaged, too: it stays, and is found again
            if mended is None:
                break
            self.report.add(mended, mended=True)
        self.report.extend(again())
