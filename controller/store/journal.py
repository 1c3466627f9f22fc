"""Group commit: one thread writes, and everything that waits goes into one transaction.

Terms. An *item* is an append of checkpoints or a write verb with its arguments, and the future of
whoever waits for it. A *group* is what the writer found in the queue: it is applied in the order it
was queued, in one transaction, and the checkpoints of neighbouring appends in a few statements.

A future resolves after the commit returned, and the commit returns when the data is on the disk:
what was acknowledged survives the process and the machine. One `call_soon_threadsafe` resolves the
futures of a whole group.

When something fails
- The transaction is rolled back, and the items are applied again one by one, in transactions of
  their own: only the guilty one gets the exception. A verb may therefore run twice, and must do
  nothing but read and write through its transaction.
- An append whose (execution_id, seq) is there already, whose signal was consumed before, or whose
  outcome comes too late, is `Fenced`, and so are later appends of that execution in the same group.
- A database that does not answer — disk full, disk error, locked, disconnected — fails the whole
  group as `Unavailable`; nothing is tried again here, the callers back off. The next group is tried
  as if nothing had happened: when space or the server is back, writing goes on.
- A verb that is not to be committed before a moment is a group by itself, written ahead; a crash
  or a close before that moment and it never happened.
- One that PostgreSQL has ended for another, as each waited for the other, is not there, and is
  written again at once; whoever waits for it hears nothing of that.
- A crash before the commit returned: nobody was told. Whether the group is there is found out by
  reading; appending it again is `Fenced` if it was.

A caller that stops waiting does not take its item back.

A journal begins to write when it is told to `start` its thread, which calls `serve` until that says
that nothing comes any more; whoever starts no thread calls `serve` by itself, when it pleases.
"""

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, IntegrityError

from controller.core.problem import Unavailable
from controller.store import dialect, failures, wal
from controller.store.batches import concerns_others, conclude, fenced
from controller.store.bulk import SIZES, Insertion, insert_rows
from controller.store.failures import Undone
from controller.store.records import Batch, Fenced
from controller.store.tables import Transaction

T = TypeVar("T")

GROUP_ITEMS = 1_000
"""A group takes no more items than this: a bound on what one failure makes us do again."""

GROUP_ROWS = 20_000
"""A group is full when it has this many checkpoints: a bound on how long a commit takes."""

TRIES = 5
"""A group that was ended for another is written so often."""

SOME_ROWS, MOST_ROWS = 200, 5_000
"""Rows changed after which SQLite's log is moved into the file: when there is time, and at last."""

CALM = 0.2
"""Seconds without anything to write: there is time."""


CHECKPOINTS = Insertion(
    "execution_checkpoints (execution_id, seq, type, step_id, attempt, context, created_at)", 7
)


@dataclass(frozen=True, slots=True)
class Moment:
    """When a group ends that is written before.

    Attributes:
        at: Monotonic seconds.
        written: Called on the loop, if it is not too late, with what the verb gave: all of it is
            written, and may never be durable.
    """

    at: float
    written: Callable[[Any], None]


class _Item(Generic[T]):
    """Something to write, and who waits for it."""

    __slots__ = ("batch", "error", "future", "last", "moment", "result", "verb")

    def __init__(
        self,
        future: asyncio.Future[T],
        batch: Batch | None = None,
        verb: Callable[[Transaction], T] | None = None,
        *,
        last: bool = False,
        moment: Moment | None = None,
    ) -> None:
        self.future = future
        self.batch = batch
        self.verb = verb
        self.last = last
        self.moment = moment
        self.result: Any = None
        self.error: BaseException | None = None


class Journal:
    """The one writer of a database.

    Attributes:
        commits: Transactions committed since the start.
        rows: Checkpoints and verbs committed since the start.
        last_commit_seconds: How long the last group took, from its begin to its commit, but for
            the time it waited for its moment.
        trouble: When (monotonic) and why the database did not take the last group; None: it did.
    """

    def __init__(self, engine: Engine, where: str, monotonic: Callable[[], float]) -> None:
        self.commits = 0
        self.rows = 0
        self.last_commit_seconds = 0.0
        self.trouble: tuple[float, str] | None = None
        self._engine = engine
        self._where = where
        self._monotonic = monotonic
        self._queue: SimpleQueue[_Item[Any] | None] = SimpleQueue()
        self._connection: Connection | None = None
        self._loop = asyncio.get_running_loop()
        self._closed = threading.Event()
        self._put_off: _Item[Any] | None = None  # taken from the queue, for a group by itself
        self._moved = 0  # rows changed when the log was moved
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Write from now on, on a thread."""
        self._thread = threading.Thread(target=self._write_all, name="journal", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Items in the queue."""
        return self._queue.qsize() + (self._put_off is not None)

    def append(self, batch: Batch) -> asyncio.Future[None]:
        """Queue a batch; the future resolves when it is durable. Call it on the store's loop."""
        future: asyncio.Future[None] = self._loop.create_future()
        self._put(_Item(future, batch=batch))
        return future

    def submit(
        self,
        verb: Callable[[Transaction], T],
        *,
        last: bool = False,
        moment: Moment | None = None,
    ) -> asyncio.Future[T]:
        """Queue a verb; the future resolves with its result when that is durable.

        Args:
            verb: What to do.
            last: Its group takes nothing behind it.
            moment: Its group takes nothing before it either, and is not committed sooner.
        """
        future: asyncio.Future[T] = self._loop.create_future()
        self._put(_Item(future, verb=verb, last=last, moment=moment))
        return future

    def _put(self, item: _Item[Any]) -> None:
        if self._closed.is_set():
            item.future.set_exception(Unavailable(f"{self._where} is closed"))
        else:
            self._queue.put(item)

    async def close(self) -> None:
        """Write what is queued, then stop."""
        if not self._closed.is_set():
            self._closed.set()
            self._queue.put(None)
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    # ------------------------------------------------------------------------ the writer's thread

    def _write_all(self) -> None:
        while self._serve(self._next()):
            pass
        if self._connection is not None:
            self._connection.close()

    def _next(self) -> _Item[Any] | None:
        """Wait for an item; what commits have put off is done while none comes."""
        if self._put_off is not None:
            return self._first()
        grown = self._changed() - self._moved
        if grown >= MOST_ROWS and self._queue.qsize():
            self._move_log()
        elif grown >= SOME_ROWS:
            try:
                return self._queue.get(timeout=CALM)
            except Empty:
                self._move_log()
        return self._first()

    def _first(self) -> _Item[Any] | None:
        item, self._put_off = self._put_off, None
        return self._queue.get() if item is None else item

    def _changed(self) -> int:
        return wal.changed_rows(self._connection) if self._connection is not None else 0

    def _move_log(self) -> None:
        if self._connection is not None:
            wal.move_log(self._connection)
        self._moved = self._changed()

    def serve(self) -> bool:
        """Wait for a group, write it, and tell who waits for it; False: nothing comes any more."""
        return self._serve(self._first())

    def _serve(self, first: _Item[Any] | None) -> bool:
        items, going = self._take(first)
        if items:
            self._write(items)
            self._call(_resolve, items)
        return going

    def _call(self, callback: Callable[[T], None], result: T) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(callback, result)

    def _take(self, item: _Item[Any] | None) -> tuple[list[_Item[Any]], bool]:
        """This one and what else is there; False: nothing comes after these."""
        items: list[_Item[Any]] = []
        rows = 0
        with suppress(Empty):
            while item is not None:
                if items and item.moment is not None:
                    self._put_off = item
                    break
                items.append(item)
                rows += len(item.batch.checkpoints) if item.batch else 1
                if item.last or len(items) >= GROUP_ITEMS or rows >= GROUP_ROWS:
                    break
                item = self._queue.get_nowait()
        return items, item is not None

    def _write(self, items: list[_Item[Any]], tries: int = TRIES) -> None:
        """Write the group, or what of it can be written; never raises."""
        try:
            self._commit(items)
        except Unavailable as problem:
            if isinstance(problem, Undone) and tries > 1:
                self._write(items, tries - 1)
                return
            self.trouble = (self._monotonic(), str(problem))
            _fail(items, problem)
        except Exception as problem:  # ruff: ignore[blind-except]  # whatever a verb raises belongs to its caller
            if len(items) == 1:
                items[0].error = problem
            else:
                self._write_singly(items)

    def _write_singly(self, items: list[_Item[Any]]) -> None:
        """Write each in a transaction of its own, so that only the guilty one fails."""
        lost: set[str] = set()
        for number, item in enumerate(items):
            batch = item.batch
            if batch is not None and batch.execution_id in lost:
                item.error = fenced(batch)
                continue
            self._write([item])
            if isinstance(item.error, Unavailable):
                _fail(items[number + 1 :], item.error)
                return
            if batch is not None and isinstance(item.error, Fenced):
                lost.add(batch.execution_id)

    def _commit(self, items: list[_Item[Any]]) -> None:
        started = self._monotonic()
        try:
            self._connection = tx = self._connection or self._engine.connect()
            with dialect.transaction(tx, alone=_is_one_statement(items)):
                rows = self._apply(tx, items)
                started += self._await_moment(items[0])
        except DBAPIError as error:
            problem = failures.problem_in_use(error, self._where)
            if problem is None:
                raise
            raise problem from error
        self.commits += 1
        self.rows += rows
        self.last_commit_seconds = self._monotonic() - started
        self.trouble = None

    def _await_moment(self, item: _Item[Any]) -> float:
        """Until it may be committed; seconds that took."""
        moment = item.moment
        if moment is None or moment.at <= (now := self._monotonic()):
            return 0.0
        self._call(moment.written, item.result)
        self._wait(moment.at)
        return self._monotonic() - now

    def _wait(self, moment: float) -> None:
        """Until then, with everything written and nothing durable."""
        while (left := moment - self._monotonic()) > 0:
            if self._closed.wait(left):
                raise Unavailable(f"{self._where} is closed")

    def _apply(self, tx: Transaction, items: list[_Item[Any]]) -> int:
        """What is to be written, in order; how many rows and verbs."""
        rows = 0
        if not self.commits:
            wal.make_room(tx)
        for appends, group in groupby(items, key=lambda item: item.batch is not None):
            if appends:
                rows += self._append(tx, [item.batch for item in group if item.batch])
            else:
                rows += _perform(tx, list(group))
        if any(item.batch is not None and concerns_others(item.batch) for item in items):
            dialect.announce(tx)
        return rows

    def _append(self, tx: Transaction, batches: list[Batch]) -> int:
        """All checkpoints at once, then what else each batch changes; the number of checkpoints."""
        rows = [(batch.execution_id, *row) for batch in batches for row in batch.checkpoints]
        if rows:
            try:
                insert_rows(tx, CHECKPOINTS, rows)
            except IntegrityError as error:
                if len(batches) == 1 and failures.is_collision(error):
                    raise fenced(batches[0]) from error
                raise
        conclude(tx, batches)
        return len(rows)


def _is_one_statement(items: Sequence[_Item[Any]]) -> bool:
    """Whether all of it is checkpoints which go into one statement."""
    rows = 0
    for item in items:
        batch = item.batch
        if batch is None or batch.outcome or batch.signals or batch.notify or batch.logs:
            return False
        rows += len(batch.checkpoints)
    return rows in SIZES


def _perform(tx: Transaction, items: list[_Item[Any]]) -> int:
    for item in items:
        if item.verb is not None:
            item.result = item.verb(tx)
    return len(items)


def _fail(items: list[_Item[Any]], problem: Unavailable) -> None:
    """An exception of its own for each: a traceback grows where it is raised."""
    for item in items:
        item.error = Unavailable(str(problem), hint=problem.hint)


def _resolve(items: list[_Item[Any]]) -> None:
    """On the loop: tell those who wait."""
    for item in items:
        if item.future.done():
            continue
        if item.error is None:
            item.future.set_result(item.result)
        else:
            item.future.set_exception(item.error)
