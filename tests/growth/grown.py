"""A database as it is after years: what the engine itself wrote, many times over.

A few executions are executed by the real worker; their rows — of executions, checkpoints and logs —
are copied with other ids, times and workflows. So a copy can be opened, woken and executed like any
other, and a row costs what the engine makes it cost.
"""

import asyncio
from collections.abc import (
    AsyncGenerator,
    Callable,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, create_engine, make_url

from controller.app import App, open_app
from controller.execute import running
from controller.settings import Settings
from controller.store import ledger
from controller.store.connecting import connect, parse_url
from controller.store.dialect import is_sqlite
from controller.store.identity import new_id
from controller.store.records import ExecutionRecord
from tests.eventually import eventually

DAY = 86_400_000
SPAN = 30 * DAY
"""Milliseconds over which the finished executions are spread, up to now."""

LONG = "3650d"
"""No copy wakes by itself while a test looks at it."""

ENDS = ("completed",) * 97 + ("failed",) * 2 + ("cancelled",)
"""How the finished ended, in turn."""

KINDS = ("sleeping", "signalled", "approved", "paused")
"""What the waiting wait for, in turn: a time, a signal, a person, somebody who lets it go on."""

WAITING_STEPS: Mapping[str, dict[str, Any]] = {
    "sleeping": {"action": "sleep", "inputs": {"duration": "3000d"}},
    "signalled": {"action": "wait_for_signal", "inputs": {"name": "go"}},
    "approved": {"action": "approval", "inputs": {"message": "well?"}},
    "paused": {"action": "sleep", "inputs": {"duration": "3000d"}},
}

TABLES = ("workflow_executions", "execution_checkpoints", "workflow_logs")
AT_ONCE = 20_000
"""Executions copied in one transaction."""


@dataclass(frozen=True, slots=True)
class Size:
    """How large a database is to be; one workflow has half of all that finished."""

    finished: int
    waiting: int
    workflows: int = 200
    schedules: int = 100
    kinds: tuple[str, ...] = KINDS


SMALL = Size(20_000, 1_000, workflows=50, schedules=25)
LARGE = Size(1_000_000, 10_000)


def workflow(name: str, *, scheduled: bool = False) -> dict[str, Any]:
    """Three steps, of which one says something."""
    steps = [
        {"id": "one", "type": "action", "action": "set", "inputs": {"value": "${n}"}},
        {"id": "two", "type": "action", "action": "log", "inputs": {"message": "row ${n} is done"}},
        {
            "id": "three",
            "type": "condition",
            "condition": {
                "expression": "${n < 0}",
                "then_steps": [{"id": "no", "type": "action", "action": "fail",
                                "inputs": {"message": "less than nothing"}}],
            },
        },
    ]  # fmt: skip
    found: dict[str, Any] = {
        "name": name,
        "inputs": [{"name": "n", "type": "integer", "default": 1}],
        "steps": steps,
    }
    if scheduled:
        found["triggers"] = [{"type": "scheduled", "config": {"cron": "0 0 29 2 *"}}]
    return found


def waiting(kind: str) -> dict[str, Any]:
    """A workflow whose first step waits; the second says that it went on."""
    first = {"id": "wait", "type": "action"} | WAITING_STEPS[kind]
    last = {"id": "on", "type": "action", "action": "set", "inputs": {"went": "on"}}
    return {"name": kind, "timeout": LONG, "steps": [first, last]}


@dataclass(frozen=True, slots=True)
class Sample:
    """An execution that was executed: its rows, by table, as the database has them."""

    rows: Mapping[str, list[dict[str, Any]]]

    @classmethod
    def of(cls, connection: Connection, execution_id: str) -> "Sample":
        """Read it."""
        found = {}
        for table in TABLES:
            key = "id" if table == "workflow_executions" else "execution_id"
            mark = "?" if is_sqlite(connection) else "%s"
            asked = f"SELECT * FROM {table} WHERE {key} = {mark}"  # ruff: ignore[hardcoded-sql-expression]  # constants
            rows = connection.exec_driver_sql(asked, (execution_id,)).mappings()
            found[table] = [dict(row) for row in rows]
        for row in found["workflow_logs"]:
            del row["id"]
        return cls(found)

    @property
    def created_at(self) -> int:
        """When it was created."""
        at: int = self.rows["workflow_executions"][0]["created_at"]
        return at


async def grow(settings: Settings, size: Size) -> None:
    """Make the database of these settings as large as that."""
    async with open_app(settings) as app:
        samples = await _samples(app, size)
        heads = await app.store.read(ledger.catalog)
        schedules = {each.workflow_id: each.id for each in await app.service.list_schedules()}
        now = app.clock.now()
    digests = {name: head.digest for name, head in heads.items()}
    copies = _copies(size, now, digests, schedules)
    await asyncio.to_thread(_copy, settings.url, samples, copies)


async def _samples(app: App, size: Size) -> dict[str, Sample]:
    """Executions of each kind, executed for real, and removed again."""
    for number in range(size.workflows):
        wanted = workflow(f"w{number}", scheduled=number < size.schedules)
        await app.service.create_workflow(wanted)
    ids: dict[str, str] = {}
    with leaving_soon():
        await _execute(app, ids)
    found = await app.store.read(_read, ids)
    await app.store.write(ledger.remove, list(ids.values()))
    return found


@contextmanager
def leaving_soon() -> Generator[None]:
    """What waits for a signal leaves memory at once, rather than after a minute."""
    usual, running.PARK_AFTER = running.PARK_AFTER, 50
    try:
        yield
    finally:
        running.PARK_AFTER = usual


async def _execute(app: App, ids: dict[str, str]) -> None:
    """Each kind once, until it has ended, or has left memory to wait."""
    async with working(app):
        for kind in KINDS:
            await app.service.create_workflow(waiting(kind))
            ids[kind] = (await app.service.execute_workflow(kind)).id
        ids["completed"] = (await app.service.execute_workflow("w0", {"n": 1})).id
        ids["failed"] = (await app.service.execute_workflow("w0", {"n": -1})).id
        ids["cancelled"] = (await app.service.execute_workflow("sleeping")).id
        for kind in (*KINDS, "cancelled"):
            await until(app, ids[kind], lambda each: each.wake_at is not None)
        await app.service.pause_execution(ids["paused"])
        await app.service.cancel_execution(ids["cancelled"])
        await until(app, ids["paused"], lambda each: each.status == "paused" and not each.owner)
        for kind in ("completed", "failed", "cancelled"):
            await until(app, ids[kind], partial(_has, kind))


def _read(tx: Connection, ids: Mapping[str, str]) -> dict[str, Sample]:
    return {kind: Sample.of(tx, each) for kind, each in ids.items()}


@asynccontextmanager
async def working(app: App) -> AsyncGenerator[Any]:
    """A worker for as long as the block lasts."""
    worker = app.worker()
    app.on_ring(worker.wake)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(worker.run())
        try:
            yield worker
        finally:
            await worker.stop(1_000)


def _has(status: str, record: ExecutionRecord) -> bool:
    return record.status == status


async def until(app: App, execution_id: str, probe: Callable[[ExecutionRecord], bool]) -> None:
    """Wait for an execution's row to be so."""
    reader = connect(parse_url(app.settings.url), 1).reader

    def look() -> bool:
        with reader.connect() as tx, tx.begin():
            record = ledger.execution(tx, execution_id)
        return record is not None and probe(record)

    await eventually(look, f"execution {execution_id}", within=30)
    reader.dispose()


# -------------------------------------------------------------------------------------- copying


@dataclass(frozen=True, slots=True)
class Copy:
    """An execution to be: which sample it is a copy of, and in what it differs."""

    kind: str
    at: int
    workflow: str | None = None
    digest: str | None = None
    schedule: str | None = None
    child: bool = False


def _copies(
    size: Size, now: int, digests: Mapping[str, str], schedules: Mapping[str, str]
) -> Iterator[Copy]:
    """Oldest first; the waiting are the newest but for a few."""
    step = max(1, SPAN // (size.finished + size.waiting))
    at = now - step * (size.finished + size.waiting + 1)
    for number in range(size.finished):
        at += step
        name = f"w{number % size.workflows if number % 2 else 0}"
        kind = ENDS[number % len(ENDS)]
        child = number % 20 == 3  # of the one before
        schedule = None if child else schedules.get(name)
        digest = None if kind == "cancelled" else digests[name]  # its events are of another one
        yield Copy(kind, at, name, digest, schedule, child)
    for number in range(size.waiting):
        at += step
        yield Copy(size.kinds[number % len(size.kinds)], at)


def _copy(url: str, samples: Mapping[str, Sample], copies: Iterator[Copy]) -> None:
    engine = create_engine(parse_url(url))
    with engine.connect() as connection:
        if is_sqlite(connection):
            connection.exec_driver_sql("PRAGMA synchronous=OFF")
            connection.exec_driver_sql("PRAGMA cache_size=-200000")
            put = _put_sqlite
        else:
            connection.exec_driver_sql("SET session_replication_role = replica")
            put = _put_postgres
        connection.commit()
        last = ""
        while some := [each for _, each in zip(range(AT_ONCE), copies, strict=False)]:
            rows, last = _rows(samples, some, last)
            with connection.begin():
                for table, made in rows.items():
                    put(connection, table, list(samples["completed"].rows[table][0]), made)
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)" if is_sqlite(connection)
                                   else "VACUUM ANALYZE")  # fmt: skip
    engine.dispose()


def _rows(
    samples: Mapping[str, Sample], copies: Iterable[Copy], last: str
) -> tuple[dict[str, list[tuple[Any, ...]]], str]:
    """The rows of these copies, by table; and the last root's id."""
    made: dict[str, list[tuple[Any, ...]]] = {table: [] for table in TABLES}
    for copy in copies:
        sample = samples[copy.kind]
        identity = new_id(copy.at)
        shift = copy.at - sample.created_at
        for table in TABLES:
            for row in sample.rows[table]:
                values = _changed(row, copy, identity, shift, last)
                made[table].append(tuple(values))
        last = last if copy.child else identity
    return made, last


_TIMES = {"created_at", "started_at", "completed_at", "timestamp"}

_AT_DEADLINE = {"signalled", "approved"}
"""What wakes when it has taken too long: so long after it began. Who sleeps has its own time."""


def _changed(
    row: Mapping[str, Any], copy: Copy, identity: str, shift: int, parent: str
) -> Iterator[Any]:
    """The values of one row, in the order of its columns."""
    own: dict[str, Any] = {"execution_id": identity}
    if "workflow_id" in row:
        own = {
            "id": identity,
            "root_id": parent if copy.child else identity,
            "parent_id": parent if copy.child else None,
            "workflow_id": copy.workflow or row["workflow_id"],
            "digest": copy.digest or row["digest"],
            "schedule_id": copy.schedule,
            "due_at": copy.at if copy.schedule else None,
        }
    for name, value in row.items():
        if name in own:
            yield own[name]
        elif (name in _TIMES and value is not None) or (
            name == "wake_at" and copy.kind in _AT_DEADLINE
        ):
            yield value + shift
        else:
            yield value


def _put_sqlite(
    connection: Connection, table: str, columns: Sequence[str], rows: list[tuple[Any, ...]]
) -> None:
    marks = ", ".join("?" * len(columns))
    named = ", ".join(f'"{each}"' for each in columns)
    statement = f"INSERT INTO {table} ({named}) VALUES ({marks})"  # ruff: ignore[hardcoded-sql-expression]  # constants
    if rows:
        connection.exec_driver_sql(statement, rows)


def _put_postgres(
    connection: Connection, table: str, columns: Sequence[str], rows: list[tuple[Any, ...]]
) -> None:
    named = ", ".join(f'"{each}"' for each in columns)
    driver: Any = connection.connection.driver_connection
    with driver.cursor().copy(f"COPY {table} ({named}) FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)


def settings_for(folder: Path, url: str | None = None) -> Settings:
    """A state directory, and a database elsewhere if one is named."""
    plain = None if url is None else make_url(url).render_as_string(hide_password=False)
    return Settings(state_dir=folder, database_url=plain)
