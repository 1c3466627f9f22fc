"""What must hold of executions, whatever happened to those who executed them.

    proof = Proof(folder, Work())        # definitions, a database, a trace of what steps did
    proof.create(20)
    … a fault …
    proof.remember("kill -9")            # what is recorded as completed must never be done again
    proof.check()

A step that leaves a trace appends who it is to a file: what stands there has happened, whatever the
database says.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import NullPool, create_engine, text

from controller.app import App, open_app
from controller.core.decide import fold
from controller.core.execution import FINAL
from controller.core.plan import Plan
from controller.history import event_of, identity_of
from controller.settings import Settings
from controller.store import ledger
from controller.store.connecting import parse_url
from controller.store.records import CheckpointRecord, ExecutionRecord

Step = tuple[str, str]
"""(execution, step)."""


@dataclass(frozen=True)
class Work:
    """A workflow of steps in a row.

    Attributes:
        shell: The steps that leave a trace.
        once: Those of them that are `idempotent: false`.
        seconds: How long each of them takes.
    """

    steps: int = 20
    shell: frozenset[int] = frozenset({2, 4, 7, 9, 12, 14, 17})
    once: frozenset[int] = frozenset({4, 9, 14})
    seconds: float = 0.02

    def text(self, remark: str = "") -> str:
        """The definition; another remark is another version."""
        lines = ["name: work", f"description: {remark or 'x'}"]
        lines += ["inputs: [{name: trace, type: string, required: true}]", "steps:"]
        for number in range(self.steps):
            lines += [f"  - id: s{number}", "    type: action"]
            lines += self._action(number)
            if number in self.once:
                lines += ["    idempotent: false", "    on_error: continue"]
        return "\n".join(lines) + "\n"

    def _action(self, number: int) -> list[str]:
        if number not in self.shell:
            return ["    action: set", f"    inputs: {{v{number}: {number}}}"]
        say = f'echo "${{execution.id}} s{number}" >> "${{trace}}"'
        command = f"    inputs: {{command: '{say}; sleep {self.seconds}'}}"
        return ["    action: shell", command]


class Proof:
    """A database, what its executions did, and what must hold of both.

    Args:
        folder: Where `definitions` and the state directory of commands are.
        work: What is executed.
        url: The database; None: SQLite in the state directory.

    Attributes:
        faults: How many of each kind there were.
    """

    def __init__(self, folder: Path, work: Work, url: str | None = None) -> None:
        self.work = work
        self.trace = folder / "trace"
        self.trace.touch()
        self.definitions = folder / "definitions"
        self.definitions.mkdir()
        self.faults: Counter[str] = Counter()
        self._settings = Settings(state_dir=folder / ".windlass", database_url=url)
        self.url = self._settings.url
        self._engine = create_engine(parse_url(self.url), poolclass=NullPool)
        self._known: list[tuple[set[Step], int]] = []
        self._pinned: dict[str, tuple[str, str]] = {}
        self.revise("first")

    def revise(self, remark: str) -> None:
        """Commit another version; what runs keeps its own."""
        (self.definitions / "work.yaml").write_text(self.work.text(remark))

    def create(self, count: int) -> list[str]:
        """Ask for executions, as a command would."""

        async def ask() -> list[str]:
            async with open_app(self._settings) as app:
                inputs = {"trace": str(self.trace)}
                made = [await app.service.execute_workflow("work", inputs) for _ in range(count)]
                return [each.id for each in made]

        created = asyncio.run(ask())
        self._pinned |= self._versions(created)
        return created

    def rows(self, query: str, **given: Any) -> list[tuple[Any, ...]]:
        """What the database says."""
        with self._engine.connect() as tx:
            return [tuple(row) for row in tx.execute(text(query), given)]

    def knows(self, workflow: str) -> bool:
        """Whether a workflow of this name is live."""
        query = "SELECT 1 FROM workflows WHERE name = :name AND status = 'active'"
        return bool(self.rows(query, name=workflow))

    def _versions(self, executions: Collection[str]) -> dict[str, tuple[str, str]]:
        """Each execution's digest, and the definition recorded under it."""
        found = self.rows(
            "SELECT e.id, e.digest, v.content FROM workflow_executions e"
            " JOIN workflow_versions v ON v.digest = e.digest"
        )
        return {row[0]: (row[1], str(row[2])) for row in found if row[0] in executions}

    # -- what happened ----------------------------------------------------------------------

    def done(self) -> list[Step]:
        """Every time a step did something, in order."""
        words = [line.split() for line in self.trace.read_text().splitlines()]
        return [(each[0], each[1]) for each in words]

    def completed(self) -> set[Step]:
        """Every step that is recorded as completed."""
        query = "SELECT execution_id, step_id FROM execution_checkpoints WHERE type = 'completed'"
        return {(row[0], row[1]) for row in self.rows(query)}

    def unfinished(self) -> int:
        """Executions that have not ended."""
        query = "SELECT count(*) FROM workflow_executions WHERE completed_at IS NULL"
        return int(self.rows(query)[0][0])

    def all_ended(self) -> bool:
        """Every execution has ended."""
        return self.unfinished() == 0

    def remember(self, fault: str) -> None:
        """Something has just happened: what is completed by now must never be done again."""
        self.faults[fault] += 1
        known = self.completed()
        self._known.append((known, len(self.done())))

    # -- what must hold ---------------------------------------------------------------------

    def check(self, *, statuses: Collection[str] = ("completed",), late: int = 0) -> None:
        """All of it.

        Args:
            statuses: How executions may have ended.
            late: So many steps were just being begun when their controller was stopped: they do
                what they do when it wakes, and nobody could know that they would.
        """
        found = Counter(row[0] for row in self.rows("SELECT status FROM workflow_executions"))
        errors = self.rows("SELECT id, error FROM workflow_executions WHERE error IS NOT NULL")
        assert set(found) <= set(statuses), f"{dict(found)} after {dict(self.faults)}: {errors}"
        done = self.done()
        self._check_repeated(done, late)
        self._check_missing(done)
        assert self._versions(self._pinned) == self._pinned, "a pinned version has changed"
        wrong = asyncio.run(self._unlike_their_checkpoints())
        assert not wrong, f"recorded otherwise than their checkpoints say: {wrong[:5]}"
        if late:
            self._known.clear()  # it was taken once, and is nothing new to the next check

    def _check_repeated(self, done: list[Step], late: int) -> None:
        again = {each for known, length in self._known for each in done[length:] if each in known}
        assert len(again) <= late, f"completed steps ran again: {sorted(again)[:5]}"
        once = {f"s{number}" for number in self.work.once}
        twice = [each for each, times in Counter(done).items() if times > 1 and each[1] in once]
        assert not twice, f"steps that must not be repeated were: {twice[:5]}"

    def _check_missing(self, done: list[Step]) -> None:
        """What is recorded as completed was done, and what must be done is recorded."""
        query = "SELECT id FROM workflow_executions WHERE workflow_id = 'work'"
        executions = [row[0] for row in self.rows(f"{query} AND status = 'completed'")]
        completed = self.completed()
        every = {f"s{number}" for number in range(self.work.steps)}
        once = {f"s{number}" for number in self.work.once}
        must = {(one, step) for one in executions for step in every - once}
        assert must <= completed, f"not recorded: {sorted(must - completed)[:5]}"
        shell = {f"s{number}" for number in self.work.shell}
        told = {each for each in completed if each[1] in shell and each[0] in self._pinned}
        assert told <= set(done), f"recorded and never done: {sorted(told - set(done))[:5]}"

    async def _unlike_their_checkpoints(self) -> list[str]:
        async with open_app(self._settings) as app:
            return [each async for each in _unlike(app, [row[0] for row in self._ids()])]

    def _ids(self) -> list[tuple[Any, ...]]:
        return self.rows("SELECT id FROM workflow_executions WHERE started_at IS NOT NULL")

    def fires(self) -> dict[str, list[int]]:
        """The due times of each schedule that made an execution, in order."""
        found = self.rows(
            "SELECT schedule_id, due_at FROM workflow_executions WHERE schedule_id IS NOT NULL"
            " ORDER BY schedule_id, due_at"
        )
        dues: dict[str, list[int]] = {}
        for schedule, due in found:
            dues.setdefault(schedule, []).append(due)
        return dues


async def _unlike(app: App, executions: list[str]) -> AsyncIterator[str]:
    """What is wrong with each execution whose row is not what its checkpoints lead to."""
    checkpoints = await app.store.read(ledger.checkpoints_of, executions)
    for each in executions:
        record = await app.service.get_execution(each)
        plan = await app.catalog.plan_of(record)
        for problem in _problems(record, plan, checkpoints[each]):
            yield f"{each}: {problem}"


def _problems(record: ExecutionRecord, plan: Plan, rows: list[CheckpointRecord]) -> Iterator[str]:
    if [row.seq for row in rows] != list(range(len(rows))):
        yield f"its events are {[row.seq for row in rows]}"
    identity = identity_of(record, 0)
    events = [event_of(row) for row in rows]
    if events and fold(plan, identity, events[:-1]).status in FINAL:
        yield "there is an event after its end"
    state = fold(plan, identity, events)
    outputs = state.outputs if record.status == "completed" else None
    error = state.error if record.status == "failed" else None
    folded = (state.status, outputs, error, state.completed_at)
    recorded = (record.status, record.outputs, record.error, record.completed_at)
    if record.status in FINAL and recorded != folded:
        yield f"{recorded} is {folded}"
