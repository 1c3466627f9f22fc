"""What may be looked up as it is recorded: it takes the store alone, so quick commands stay quick.

`WorkflowService` has these verbs too, beside those that decide, create or explain.
"""

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from controller.clock import SystemClock
from controller.core.problem import NotFound, Refused
from controller.location import Location, open_store
from controller.store import Store, ledger
from controller.store.ledger_executions import Place
from controller.store.records import ExecutionRecord, LogRecord, ScheduleRecord, WorkflowRecord

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

SHORTEST_PREFIX = 6

LONGEST_SEARCH = 10_000
"""Characters of a text to search for; SQLite takes a pattern of 50,000 bytes."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some executions, newest first, and where those after them begin.

    Attributes:
        next: The cursor of the page after this one; None: there is none.
    """

    executions: list[ExecutionRecord]
    next: str | None

    @classmethod
    def of(cls, found: list[ExecutionRecord], limit: int) -> "Page":
        """A page of `limit`; one more that was found says that there is another page."""
        shown = found[:limit]
        last = shown[-1] if len(found) > limit else None
        return cls(shown, None if last is None else f"{last.created_at}.{last.id}")


def place_of(cursor: str) -> Place:
    """Where a page ended, of the cursor that it gave; raises `Refused`."""
    created_at, _, execution_id = cursor.partition(".")
    if not (created_at.isascii() and created_at.isdigit() and execution_id):
        message = f"not a cursor: {cursor!r}"
        raise Refused(message, reason="cursor", hint="give the `next` of the page before")
    return Place(int(created_at[:15]), execution_id)


def check_limit(limit: int) -> None:
    """Raise `Refused` where nothing is asked for."""
    if limit < 1:
        raise Refused(f"a limit is at least 1, and not {limit}", reason="limit")


@asynccontextmanager
async def open_lookup(location: Location) -> "AsyncGenerator[Lookup]":
    """What is recorded there; raises what `open_store` raises."""
    async with open_store(location, SystemClock()) as store:
        yield Lookup(store)


class Lookup:
    """Workflows, executions, their logs, and schedules."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def get_workflow(self, workflow_id: str) -> WorkflowRecord:
        """A workflow by name; raises `NotFound`."""
        record = await self._store.read(ledger.workflow, workflow_id)
        if record is None:
            raise NotFound(
                f"no workflow is called {workflow_id!r}", hint="see `windlass workflows:list`"
            )
        return record

    async def list_workflows(
        self, status: str | None = None, text: str | None = None
    ) -> list[WorkflowRecord]:
        """By name; without a status, all that are not archived; `Refused` for a very long text."""
        if text is not None and len(text) > LONGEST_SEARCH:
            raise Refused(
                f"a text to search for has at most {LONGEST_SEARCH:,} characters", reason="too-long"
            )
        return await self._store.read(ledger.workflows, status, text)

    async def get_execution(self, execution_id: str) -> ExecutionRecord:
        """An execution by its id, or by the beginning of it; raises `NotFound` or `Refused`."""
        record = await self._store.read(ledger.execution, execution_id)
        if record is not None:
            return record
        if len(execution_id) >= SHORTEST_PREFIX:
            found = await self._store.read(ledger.executions_like, execution_id, limit=2)
            if len(found) > 1:
                raise Refused(
                    f"more than one execution begins with {execution_id!r}", reason="ambiguous"
                )
            if found:
                return found[0]
        raise NotFound(
            f"there is no execution {execution_id!r}", hint="see `windlass workflows:history`"
        )

    async def list_executions(
        self, workflow: str | None = None, status: str | None = None, *, limit: int = 20
    ) -> list[ExecutionRecord]:
        """Newest first."""
        check_limit(limit)
        if workflow is not None:
            await self.get_workflow(workflow)
        return await self._store.read(ledger.executions, workflow, status, limit=limit)

    async def page_executions(
        self,
        workflow: str | None = None,
        status: str | None = None,
        *,
        limit: int = 20,
        cursor: str | None = None,
    ) -> Page:
        """`list_executions` page by page; `cursor` is the `next` of the page before.

        What is created after the first page is on none of them, and what is pruned moves nothing.
        """
        check_limit(limit)
        if workflow is not None:
            await self.get_workflow(workflow)
        before = None if cursor is None else place_of(cursor)
        found = await self._store.read(
            ledger.executions, workflow, status, limit=limit + 1, before=before
        )
        return Page.of(found, limit)

    async def count_executions(self, workflow: str | None = None) -> dict[str, int]:
        """How many there are of each status."""
        return await self._store.read(ledger.status_counts, workflow)

    async def execution_logs(
        self, execution_id: str, after_id: int = 0, *, step: str | None = None, limit: int = 1000
    ) -> list[LogRecord]:
        """Lines of its log after a line's id, oldest first."""
        check_limit(limit)
        record = await self.get_execution(execution_id)
        return await self._store.read(ledger.logs, record.id, after_id, step=step, limit=limit)

    async def last_logs(self, execution_id: str, limit: int) -> list[LogRecord]:
        """The last lines of its log, oldest first."""
        check_limit(limit)
        record = await self.get_execution(execution_id)
        return await self._store.read(ledger.last_logs, record.id, limit)

    async def list_schedules(
        self, workflow: str | None = None, *, stopped: bool = False
    ) -> list[ScheduleRecord]:
        """Those that fire or pause, by workflow; with `stopped`, all that are recorded.

        Raises `NotFound` where no workflow has the name.
        """
        if workflow is not None:
            await self.get_workflow(workflow)
        active = None if stopped else True
        return await self._store.read(ledger.schedules, workflow, active=active, paused=True)
