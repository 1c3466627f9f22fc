"""Files examined ahead, by several processes at once: a cold start with thousands of them.

What a file means by itself does not depend on the others, if it is good and uses nothing but
built-in actions; most files are so. Such a file can be parsed, compiled and made into rows in any
process. All others, and all that is between files, is left to the `Examiner`.

The processes are forked before this one has threads, import and build what they need while it
opens the database, wait for shards of files, and end when they are closed or when this process is
gone. One that ends early costs time, nothing else.
"""

import gc
import multiprocessing
import pickle  # ruff: ignore[suspicious-pickle-import]  # between processes of ours
import signal
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from itertools import starmap
from multiprocessing.connection import Connection
from selectors import EVENT_READ, DefaultSelector
from typing import TYPE_CHECKING, Any, Self

from pydantic_core import to_json

from controller.core.compile import check_triggers, compile_plan
from controller.core.definition import Workflow
from controller.core.plan import Plan, Signature
from controller.core.policy import Policy
from controller.reconcile.apply import Rows, file_row, rows_of
from controller.source.examine import LFS
from controller.source.library import ExaminedFile, Json
from controller.source.limits import Limits
from controller.source.parse import parse
from controller.source.revision import CompiledWorkflow, OpenFile, ReadyFile, ReadyWorkflow
from controller.source.snapshot import Found, Stat
from controller.store import ledger
from controller.store.rows import Row
from controller.store.tables import Transaction

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

SHARD = 50
"""Files that a process is given at once."""

FEW = 2
"""Files examined here between two looks at what the processes have told."""

PLANS = 1000
"""Compiled workflows that are kept for those like them."""

MANY = 200
"""Changed files from which on the processes are asked."""

Shard = Sequence[Found]


@dataclass(frozen=True, slots=True)
class Terms:
    """What a file is examined by."""

    source: str
    built_in: Mapping[str, Signature]
    policy: Policy
    limits: Limits
    now: int


Told = tuple[int, tuple[Json, ...], Row, list[tuple[str, str, str, Rows]]]
"""A `ReadyFile` as plain values: classes cost more to send than all that is in them.

Which file of the shard it is, what it defines, its row, and of each workflow (name, status, digest,
rows).
"""


class Alone:
    """Examines files each by itself, all on the same terms.

    Many of thousands of workflows are alike in all that is compiled, and differ in their names and
    times: of those, one is compiled. They are known by everything else their documents say.
    """

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._plans: dict[bytes, Plan | None] = {}

    def told(self, shard: Shard) -> list[Told]:
        """Those files of a shard that mean the same by themselves, to be sent."""
        found = starmap(self._file, enumerate(shard))
        return [each for each in found if each is not None]

    def _file(self, place: int, found: Found) -> Told | None:
        """A file examined; None: it has to be examined among the others."""
        if found.content is None or found.content.startswith(LFS):
            return None
        parsed = parse(found.path, found.content, self._terms.limits)
        if parsed.problems or not parsed.documents:
            return None
        opened = OpenFile(found, parsed.documents)
        for index, document in enumerate(parsed.documents):
            workflow = document.definition
            if not isinstance(workflow, Workflow) or check_triggers(workflow, self._terms.now):
                return None
            plan = self._plan(workflow, document.data)
            if plan is None:
                return None
            opened.flows[index] = CompiledWorkflow.of(document, found.path, plan, {}, {})
        if len(opened.names()) < len(parsed.documents):
            return None
        examined = opened.examined(None)
        workflows = [self._workflow(each) for each in opened.flows.values()]
        return place, examined.definitions, file_row(examined), workflows

    def _plan(self, workflow: Workflow, document: Json) -> Plan | None:
        """The plan of a workflow like this one; None: it has problems, or needs others."""
        known_by = to_json(_compiled_of(document))
        if known_by not in self._plans:
            terms = self._terms
            plan, problems = compile_plan(workflow, terms.built_in, {}, terms.policy, "")
            if len(self._plans) >= PLANS:
                self._plans.clear()
            self._plans[known_by] = None if problems or plan.subflows else plan
        return self._plans[known_by]

    def _workflow(self, compiled: CompiledWorkflow) -> tuple[str, str, str, Rows]:
        workflow = compiled.definition
        rows = rows_of(compiled, self._terms.source, self._terms.now)
        return workflow.name, workflow.status, compiled.digest, rows


def _compiled_of(document: Json) -> list[Any]:
    """What is compiled of a valid document, and what is not known to make no difference."""
    return [
        {name: value for name, value in document.items() if name not in _OWN},
        [
            {
                name: value
                for name, value in (each.get("config") or {}).items()
                if name not in _TIMES
            }
            for each in document.get("triggers") or ()
        ],
    ]


_OWN = frozenset({"name", "version", "description", "labels", "metadata", "status", "triggers"})
"""What a document says and nobody compiles; of triggers, see `_TIMES`."""

_TIMES = frozenset({"cron", "at", "timezone"})
"""What a schedule says and `check_triggers` looks at, in every file."""


SAMPLE = b"""name: sample
triggers: [{type: scheduled, config: {cron: 0 3 * * *}}]
steps: [{id: a, type: action, action: set, inputs: {sum: "${1 + 1}"}}]
"""


def rehearse(tx: Transaction, source_id: str) -> None:
    """A verb for the store: do what the first change does first, and change nothing.

    Models are built and statements put together when they are first needed: the first change that
    matters need not wait for that. Where it fails nothing is lost but that time.
    """
    get_ready()
    ledger.heads(tx, ())
    ledger.put_schedules(tx, source_id, {}, now=0)
    ledger.next_revision(tx, source_id)


@cache
def get_ready() -> None:
    """Examine a file."""
    known = {"set": Signature("set", open_inputs=True)}
    sample = Found("sample.yaml", Stat(0, 0, 0), "", SAMPLE)
    Alone(Terms("", known, Policy(), Limits(), 0)).told([sample])


def heard(told: Told, shard: Shard) -> ReadyFile:
    """What was told of a file of a shard, as it is used."""
    place, definitions, row, workflows = told
    found = shard[place]
    path = found.path
    return ReadyFile(
        ExaminedFile(path, found.stat, found.digest, "valid", (), definitions),
        tuple([ReadyWorkflow(*each[:3], path, each[3]) for each in workflows]),
        row,
    )


def _some(left: deque[Found], count: int) -> Shard:
    """The next files, no more than so many."""
    return [left.popleft() for _ in range(min(count, len(left)))]


class Crew:
    """Processes that examine ahead.

    Args:
        count: How many; none is fine, and then everything is examined here.
    """

    def __init__(self, count: int) -> None:
        self._ends: list[Connection] = []
        self._processes: list[BaseProcess] = []
        context = multiprocessing.get_context("fork")
        for _ in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_serve, args=(theirs, (*self._ends, ours)), daemon=True
            )
            process.start()
            theirs.close()
            self._ends.append(ours)
            self._processes.append(process)

    def examine(self, changed: Shard, terms: Terms) -> dict[str, ReadyFile]:
        """Files examined ahead, by path; takes a while, so call it off the loop.

        A process is given its next shard when it has told of the last: it is listening then. Two
        that send to each other more than a pipe holds would wait for each other for ever.
        """
        if not self._ends or len(changed) < MANY:
            return {}
        alone = Alone(terms)
        left = deque(changed)
        given: dict[Connection, Shard] = {}
        found: list[ReadyFile] = []
        with DefaultSelector() as selector:
            for end in tuple(self._ends):
                self._give(end, left, given, terms)
                if end in given:
                    selector.register(end, EVENT_READ, end)
            while left or given:
                for key, _ in selector.select(0 if left else None):
                    found += self._take(key.data, left, given)
                    if key.data not in given:
                        selector.unregister(key.fd)
                few = _some(left, FEW)
                found += [heard(each, few) for each in alone.told(few)]
        return {each.examined.path: each for each in found}

    def _give(
        self,
        end: Connection,
        left: deque[Found],
        given: dict[Connection, Shard],
        terms: Terms | None = None,
    ) -> None:
        """The next shard, behind the terms where they are new to the process."""
        shard = _some(left, SHARD)
        if not shard:
            return
        given[end] = shard
        try:
            if terms is not None:
                end.send(terms)
            end.send(shard)
        except OSError:
            self._lose(end, left, given)

    def _take(
        self, end: Connection, left: deque[Found], given: dict[Connection, Shard]
    ) -> list[ReadyFile]:
        try:
            told = end.recv_bytes()
        except (EOFError, OSError):
            self._lose(end, left, given)
            return []
        shard = given.pop(end)
        self._give(end, left, given)  # it waits for that
        return [heard(each, shard) for each in pickle.loads(told)]  # ruff: ignore[suspicious-pickle-usage]  # a process of ours

    def _lose(self, end: Connection, left: deque[Found], given: dict[Connection, Shard]) -> None:
        """A process has ended: what it was given is done here."""
        left.extend(given.pop(end))
        self._ends.remove(end)
        end.close()

    def close(self) -> None:
        """End the processes, whatever they are at: nobody waits for what they would tell."""
        for end in self._ends:
            end.close()
        for process in self._processes:
            process.kill()
            process.join()
        self._ends.clear()
        self._processes.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def _serve(end: Connection, others: Sequence[Connection]) -> None:
    """One of the processes: terms or a shard in, files out, until the other side is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.disable()
    for each in others:
        each.close()
    get_ready()
    with suppress(EOFError, OSError):
        alone = Alone(end.recv())
        while True:
            given = end.recv()
            if isinstance(given, Terms):
                alone = Alone(given)
            else:
                end.send(alone.told(given))
