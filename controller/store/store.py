"""The open database: verbs in, results out, on threads of its own.

    async with Store.open(url, monotonic=clock.monotonic) as store:
        created = await store.write(create, new)     # durable when it returns
        await store.append(Batch(...))               # the same, for checkpoints
        found = await store.read(execution, "…")     # a snapshot, after all that was awaited

A verb is any function whose first argument is a `Transaction`: those of the ledger, and functions
that compose them into one transaction. A write verb may run twice (see `journal.py`).
"""

import asyncio
import os
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, ParamSpec, Self, TypeVar

from sqlalchemy import URL

from controller.core.problem import Unavailable
from controller.logs import get_log
from controller.store import failures
from controller.store.connecting import Engines, connect, parse_url, place, sqlite_path
from controller.store.journal import Journal, Moment
from controller.store.opening import prepare, translated
from controller.store.records import Batch
from controller.store.tables import Transaction

if TYPE_CHECKING:
    from controller.store.listening import Listener, Sleep

T = TypeVar("T")
P = ParamSpec("P")

Verb = Callable[Concatenate[Transaction, P], T]
"""One step of one transaction."""

RECENT = 5.0
"""Seconds for which a failure is told: whoever waits for the database tries again sooner."""

READERS = 4
"""Threads, and connections, that read at the same time."""


class Store:
    """An open database. Use it on the loop it was opened on.

    Attributes:
        path: The SQLite file, or None on PostgreSQL.
        where: The database as messages name it.
    """

    def __init__(
        self,
        url: URL,
        engines: Engines,
        journal: Journal,
        pool: ThreadPoolExecutor,
        monotonic: Callable[[], float],
    ) -> None:
        self.path = sqlite_path(url)
        self.where = place(url)
        self._file = None if self.path is None else self.path.stat()
        self._engines = engines
        self._journal = journal
        self._pool = pool
        self._loop = asyncio.get_running_loop()
        self._monotonic = monotonic
        self._trouble: tuple[float, str] | None = None

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        url: str,
        *,
        monotonic: Callable[[], float],
        create: bool = True,
        readers: int = READERS,
    ) -> AsyncGenerator[Self]:
        """Open the database, and bring its schema up to date.

        Args:
            url: `sqlite:///path` or `postgresql://…`.
            monotonic: Seconds that never go backwards, to measure commits: a clock's.
            create: Make the database where there is none; False: that is `NotFound`.
            readers: How many may read at the same time.

        Raises:
            Refused: It is not a database of ours, newer than we are, read-only, ….
            Unavailable: It does not answer now.
        """
        parsed = parse_url(url)
        engines = connect(parsed, readers)
        pool = ThreadPoolExecutor(readers, thread_name_prefix="store-reader")
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(pool, partial(prepare, engines, parsed, create=create))
            journal = Journal(engines.writer, place(parsed), monotonic)
            journal.start()
            try:
                yield cls(parsed, engines, journal, pool, monotonic)
            finally:
                await journal.close()
        finally:
            await asyncio.to_thread(_shut, pool, engines)

    def append(self, batch: Batch) -> asyncio.Future[None]:
        """Queue a batch at once; what is returned resolves when it is durable.

        Raises:
            Fenced: When awaited: another owner records this execution.
            Unavailable: When awaited: the database does not take it now.
        """
        return self._journal.append(batch)

    async def write(self, verb: Verb[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run the verb in the writer's next transaction; its result, once that is durable.

        What the verb raises is raised here, and nothing of it is recorded. Being cancelled does not
        take the verb back.
        """
        return await self.queue(verb, *args, **kwargs)

    def queue(self, verb: Verb[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """`write`, queued at once: what is returned resolves when it is durable."""
        return self._journal.submit(lambda tx: verb(tx, *args, **kwargs))

    async def write_out(
        self, moment: Moment | None, verb: Verb[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """`write` in a transaction that ends with it: nobody waits for what is queued behind.

        It is written at once, and ends at `moment` (None: at once), not before: until then nobody
        sees anything of it, and nobody else can write, so be short.
        """
        return await self._journal.submit(
            lambda tx: verb(tx, *args, **kwargs), last=True, moment=moment
        )

    def post(self, verb: Verb[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """`write` for what nobody waits for, such as log lines; a failure is told to the log."""
        future = self._journal.submit(lambda tx: verb(tx, *args, **kwargs))
        future.add_done_callback(_complain)

    async def read(self, verb: Verb[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run the verb on a snapshot that has everything acknowledged before; it cannot write."""
        return await self._loop.run_in_executor(
            self._pool, self._snapshot, lambda tx: verb(tx, *args, **kwargs)
        )

    def _snapshot(self, verb: Callable[[Transaction], T]) -> T:
        try:
            used = translated(self.where, in_use=True)
            with used, self._engines.reader.connect() as tx, tx.begin():
                result = verb(tx)
        except Unavailable as problem:
            self._trouble = (self._monotonic(), str(problem))
            raise
        self._trouble = None
        return result

    @property
    def unavailable(self) -> str | None:
        """Why the database did not answer when it was last read, or written; None: it did.

        What was moved or deleted answers whoever reads, and takes nothing any more.
        """
        if self._file is not None and self.path is not None and not _is(self.path, self._file):
            return str(failures.moved(self.where))
        since = self._monotonic() - RECENT
        met = (self._journal.trouble, self._trouble)
        return next((each[1] for each in met if each is not None and each[0] > since), None)

    def listener(self, sleep: "Sleep", heard: Callable[[], None]) -> "Listener | None":
        """What hears of other controllers; None on SQLite, which has only one."""
        if self._engines.listener is None:
            return None
        from controller.store.listening import Listener  # ruff: ignore[import-outside-top-level]  # start-up time

        return Listener(self._engines.listener, self.where, sleep, heard)

    @property
    def commits(self) -> int:
        """Transactions committed since the start."""
        return self._journal.commits

    @property
    def rows(self) -> int:
        """Checkpoints and verbs committed since the start."""
        return self._journal.rows

    @property
    def waiting(self) -> int:
        """Items in the writer's queue."""
        return self._journal.waiting

    @property
    def last_commit_seconds(self) -> float:
        """How long the last group took, from its begin to its commit."""
        return self._journal.last_commit_seconds


def _complain(future: asyncio.Future[object]) -> None:
    if not future.cancelled() and (error := future.exception()) is not None:
        get_log("windlass.store").warning("not written", error=str(error))


def _shut(pool: ThreadPoolExecutor, engines: Engines) -> None:
    pool.shutdown()
    engines.reader.dispose()
    engines.writer.dispose()
    if engines.listener is not None:
        engines.listener.dispose()


def _is(path: Path, file: os.stat_result) -> bool:
    """Whether this file is there."""
    try:
        return os.path.samestat(path.stat(), file)
    except OSError:
        return False
