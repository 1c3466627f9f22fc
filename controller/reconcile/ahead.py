"""Files examined ahead, by several processes at once: a cold start with thousands of them.

What a file means by itself does not depend on the others, if it is good and uses nothing but
built-in actions; most files are so. Such a file can be parsed, compiled and made into rows in any
process. All others, and all that is between files, is left to the `Examiner`.

The processes are forked before this one has threads, wait for shards of files, and end when they
are closed or when this process is gone. One that ends early costs time, nothing else.
"""

import gc
import multiprocessing
import signal
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any, Self

from pydantic_core import to_json

from controller.core.compile import check_triggers, compile_plan
from controller.core.definition import Workflow
from controller.core.plan import Policy, Signature
from controller.reconcile.apply import Rows, rows_of
from controller.source.examine import LFS
from controller.source.library import ExaminedFile
from controller.source.parse import Limits, parse
from controller.source.revision import CompiledWorkflow, OpenFile, ReadyFile, ReadyWorkflow
from controller.source.snapshot import Found, Stat
from controller.store.rows import names as fields_of

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

SHARD = 50
"""Files that a process is given at once."""

PATIENCE = 1.0
"""Seconds to wait for a process that has nothing to do any more."""

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


def ready_file(found: Found, terms: Terms) -> ReadyFile | None:
    """A file examined by itself; None: it has to be examined among the others."""
    if found.content is None or found.content.startswith(LFS):
        return None
    parsed = parse(found.path, found.content, terms.limits)
    if parsed.problems or not parsed.documents:
        return None
    opened = OpenFile(found, parsed.documents)
    for index, document in enumerate(parsed.documents):
        workflow = document.definition
        if not isinstance(workflow, Workflow):
            return None
        plan, problems = compile_plan(workflow, terms.built_in, {}, terms.policy, "")
        if problems or plan.subflows or check_triggers(workflow, terms.now):
            return None
        opened.flows[index] = CompiledWorkflow.of(document, found.path, plan, {}, {})
    if len(opened.names()) < len(parsed.documents):
        return None
    made = tuple(_ready(each, terms) for each in opened.flows.values())
    return ReadyFile(opened.examined(None), made)


Told = tuple[Any, ...]
"""A `ReadyFile` as plain values: classes cost more to send than all that is in them."""


def told_files(shard: Shard, terms: Terms) -> list[Told]:
    """Those files of a shard that mean the same by themselves, to be sent."""
    found = (ready_file(each, terms) for each in shard)
    return [_told(each) for each in found if each is not None]


def _told(ready: ReadyFile) -> Told:
    file = ready.examined
    workflows = [
        (
            each.name,
            each.status,
            each.digest,
            _values(each.rows[0]),
            _values(each.rows[1]),
            [_values(one) for one in each.rows[2]],
        )
        for each in ready.workflows
    ]
    return file.path, _values(file.stat), file.digest, file.definitions, workflows


def heard(told: Told) -> ReadyFile:
    """What `_told` made plain."""
    path, stat, digest, definitions, workflows = told
    examined = ExaminedFile(path, Stat(*stat), digest, "valid", (), definitions)
    return ReadyFile(
        examined,
        tuple(
            ReadyWorkflow(name, status, known, path, (record, version, schedules))
            for name, status, known, record, version, schedules in workflows
        ),
    )


def _values(record: Any) -> tuple[Any, ...]:  # ruff: ignore[any-type]  # any record
    kind: Any = type(record)
    return tuple(getattr(record, name) for name in fields_of(kind))


def _ready(compiled: CompiledWorkflow, terms: Terms) -> ReadyWorkflow:
    workflow = compiled.definition
    rows = _encoded(rows_of(compiled, terms.source, terms.now))
    return ReadyWorkflow(workflow.name, workflow.status, compiled.digest, compiled.path, rows)


_JSON = ("triggers", "inputs", "outputs", "steps", "error_handler", "metadata", "labels")


def _encoded(rows: Rows) -> Rows:
    """Rows whose JSON is encoded here, so that nobody has to make values of it and back."""
    record, version, schedules = rows
    values: dict[str, Any] = {name: getattr(record, name) for name in _JSON}
    encoded: dict[str, Any] = {
        name: None if value is None else to_json(value) for name, value in values.items()
    }
    content: Any = to_json(version.content)
    return replace(record, **encoded), replace(version, content=content), schedules


def _shards(files: Shard) -> Iterator[Shard]:
    rest = iter(files)
    while some := list(islice(rest, SHARD)):
        yield some


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
        """Files examined ahead, by path; takes a while, so call it off the loop."""
        if not self._ends or len(changed) < MANY:
            return {}
        left = deque(_shards(changed))
        given: dict[Connection, deque[Shard]] = {end: deque() for end in self._ends}
        found: list[Told] = []
        for end in tuple(given):
            self._give(end, terms, given, left)
        while left or any(given.values()):
            busy = [end for end, shards in given.items() if shards]
            ready = set(map(id, wait(busy, timeout=0 if left else None)))
            for end in busy:
                if id(end) in ready:
                    found += self._take(end, terms, given, left)
            if left:
                found += told_files(left.popleft(), terms)
        return {each[0]: heard(each) for each in found}

    def _give(
        self,
        end: Connection,
        terms: Terms,
        given: dict[Connection, deque[Shard]],
        left: deque[Shard],
    ) -> None:
        """Two shards at a time, so that nobody waits for us."""
        while left and len(given[end]) < 2:  # ruff: ignore[magic-value-comparison]  # as said above
            shard = left.popleft()
            given[end].append(shard)
            try:
                end.send((shard, terms))
            except OSError:
                self._lose(end, given, left)
                return

    def _take(
        self,
        end: Connection,
        terms: Terms,
        given: dict[Connection, deque[Shard]],
        left: deque[Shard],
    ) -> list[Told]:
        try:
            found: list[Told] = end.recv()
        except (EOFError, OSError):
            self._lose(end, given, left)
            return []
        given[end].popleft()
        self._give(end, terms, given, left)
        return found

    def _lose(
        self, end: Connection, given: dict[Connection, deque[Shard]], left: deque[Shard]
    ) -> None:
        """A process has ended: what it was given is done here."""
        left.extend(given.pop(end))
        self._ends.remove(end)
        end.close()

    def close(self) -> None:
        """Let the processes end."""
        for end in self._ends:
            end.close()
        for process in self._processes:
            process.join(PATIENCE)
        self._ends.clear()
        self._processes.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def _serve(end: Connection, others: Sequence[Connection]) -> None:
    """One of the processes: shards in, files out, until the other side is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.disable()
    for each in others:
        each.close()
    with suppress(EOFError, OSError):
        while True:
            shard, terms = end.recv()
            end.send(told_files(shard, terms))
