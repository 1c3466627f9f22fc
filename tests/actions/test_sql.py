"""`sql` against real databases."""

import asyncio
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from controller.execute.actions import sql
from tests.actions.relay import relayed
from tests.actions.stage import Lease, Stage
from tests.eventually import eventually
from tests.postgres import Postgres


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A SQLite file with a table of two people."""
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("create table people (name text, age integer, photo blob)")
        connection.execute("insert into people values ('Ann', 40, x'00ff'), ('Bo', null, null)")
    return f"sqlite:///{path}"


async def test_rows_are_objects(stage: Stage, url: str) -> None:
    """In order, by column name; bytes are hexadecimal."""
    assert await stage.outputs("sql", url=url, query="select * from people order by name") == {
        "rows": [
            {"name": "Ann", "age": 40, "photo": "00ff"},
            {"name": "Bo", "age": None, "photo": None},
        ],
        "row_count": 2,
    }


async def test_a_change_is_committed(stage: Stage, url: str) -> None:
    """A statement that gives no rows says how many it touched."""
    changed = await stage.outputs("sql", url=url, query="update people set age = 1")
    assert changed == {"rows": [], "row_count": 2}
    found = await stage.outputs("sql", url=url, query="select sum(age) as total from people")
    assert found["rows"] == [{"total": 2}]


@pytest.mark.parametrize(
    ("where", "parameters"),
    [("name = ?", ["x' or '1'='1"]), ("name = :name", {"name": "x'; drop table people; --"})],
)
async def test_values_are_parameters(
    stage: Stage, url: str, where: str, parameters: list[str] | dict[str, str]
) -> None:
    """What looks like SQL in a value is a value."""
    query = f"select * from people where {where}"  # ruff: ignore[hardcoded-sql-expression]  # constants of the test
    found = await stage.outputs("sql", url=url, query=query, parameters=parameters)
    assert found["row_count"] == 0
    assert (await stage.outputs("sql", url=url, query="select 1 from people"))["row_count"] == 2


@pytest.mark.parametrize(
    ("inputs", "kind"),
    [
        ({"query": "selec 1"}, "sql"),
        ({"query": "select 1; select 2"}, "sql"),
        ({"query": "select ?"}, "sql"),
        ({"query": "select ?", "parameters": [{"a": 1}]}, "sql"),
        ({"query": "select ?", "parameters": [2**70]}, "sql"),
        ({"query": "select 1", "parameters": "x"}, "invalid_inputs"),
        ({"query": "select 1", "max_rows": 0}, "invalid_inputs"),
        ({"query": "select 1", "max_rows": 10_001}, "invalid_inputs"),
        ({"query": "select 1", "url": "mysql://x/y"}, "invalid_inputs"),
        ({"query": "select 1", "url": "sqlite:////no/such/folder/a.db"}, "sql"),
        ({"query": "select * from people", "max_rows": 1}, "too_large"),
    ],
)
async def test_what_cannot_be_executed_says_why(
    stage: Stage, url: str, inputs: dict[str, Any], kind: str
) -> None:
    """The database's refusals are of type `sql`, ours of their own."""
    assert (await stage.failure("sql", **{"url": url, **inputs})).type == kind


@pytest.mark.parametrize(
    "before", ["", "with p as (select 1) ", "-- why\n/* how */ With p(x) as (values (1)) "]
)
async def test_a_failed_statement_changes_nothing(stage: Stage, url: str, before: str) -> None:
    """Rows that are too many to give back are not written either, and nothing stays locked."""
    query = f"{before}insert into people select name, age, photo from people returning name"  # ruff: ignore[hardcoded-sql-expression]  # constants of the test
    error = await stage.failure("sql", url=url, query=query, max_rows=1)
    assert error.type == "too_large"
    assert (await stage.outputs("sql", url=url, query="select 1 from people"))["row_count"] == 2
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"), timeout=0)) as others, others:
        others.execute("delete from people")


async def test_too_many_rows_lock_nothing(stage: Stage, url: str) -> None:
    """What was read of them is given up with the failure, whoever holds on to that."""
    query = "select a.* from people a, people b"
    error = await stage.failure("sql", url=url, query=query, max_rows=1)
    assert error.type == "too_large"
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"), timeout=0)) as others, others:
        others.execute("delete from people")


async def test_what_is_no_number_of_json_is_text(stage: Stage, url: str) -> None:
    """What has been committed does not fail afterwards."""
    query = "insert into people values ('Cy', 9e999, null) returning age"
    assert (await stage.outputs("sql", url=url, query=query))["rows"] == [{"age": "inf"}]


async def test_a_cancelled_statement_is_interrupted(stage: Stage, url: str) -> None:
    """It ends soon, and nothing of it is committed afterwards."""
    query = """
    insert into people
    with recursive n(i) as (select 1 union all select i + 1 from n where i < 100000000)
    select 'x', i, null from n
    """
    running = asyncio.ensure_future(stage.perform("sql", url=url, query=query))
    path = Path(url.removeprefix("sqlite:///"))
    await eventually(lambda: Path(f"{path}-journal").exists(), "it is writing")
    before = time.monotonic()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert time.monotonic() - before < 2
    assert (await stage.outputs("sql", url=url, query="select 1 from people"))["row_count"] == 2


class Watched(Lease):
    """A lease that tells when a statement is about to begin."""

    def __init__(self) -> None:
        self.begins = threading.Event()

    @property
    def holds(self) -> bool:  # type: ignore[override]  # to see who asks
        """It does."""
        self.begins.set()
        return True


async def test_who_waits_for_a_lock_can_be_cancelled(stage: Stage, url: str) -> None:
    """It does not wait to the end for whoever has the file, and changes nothing later."""
    stage.lease = lease = Watched()
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as others, others:
        others.execute("delete from people")
        query = "insert into people values ('Cy', 1, null)"
        waiting = asyncio.ensure_future(stage.perform("sql", url=url, query=query))
        assert await asyncio.to_thread(lease.begins.wait, 5)
        before = time.monotonic()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert time.monotonic() - before < 10
    assert (await stage.outputs("sql", url=url, query="select 1 from people"))["row_count"] == 0


async def test_who_waits_for_a_lock_gets_it(
    stage: Stage, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often it looked up meanwhile."""
    monkeypatch.setattr(sql, "LOOK", 0.01)
    stage.lease = lease = Watched()
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as others, others:
        others.execute("delete from people")
        query = "insert into people values ('Cy', 1, null)"
        waiting = asyncio.ensure_future(stage.perform("sql", url=url, query=query))
        assert await asyncio.to_thread(lease.begins.wait, 5)
        done, _ = await asyncio.wait((waiting,), timeout=0.1)
        assert not done
    assert await waiting == {"rows": [], "row_count": 1}


async def test_a_postgresql_that_is_not_there_is_a_failure(stage: Stage) -> None:
    """The driver's refusal is of type `sql`."""
    pytest.importorskip("psycopg", reason="POSTGRESQL IS NOT TESTED: psycopg is not installed")
    error = await stage.failure("sql", url="postgresql://127.0.0.1:1/x", query="select 1")
    assert error.type == "sql"


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_no_statement_is_executed_without_a_lease(
    stage: Stage, url: str, kind: str, request: pytest.FixtureRequest
) -> None:
    """It ran out while the database was looked for: somebody else may have executed it."""
    where = url if kind == "sqlite" else request.getfixturevalue("postgres").url
    count = {"url": where, "query": "select count(*) as n from counted"}
    insert = {"url": where, "query": "insert into counted values (1)"}
    others = Stage(stage.scratch)
    await others.outputs("sql", url=where, query="create table counted (n integer)")
    try:
        waiting = await stage.lapsed("sql", **insert)
        assert (await others.outputs("sql", **count))["rows"] == [{"n": 0}]
        stage.lease.renew()
        await waiting
        waiting = await stage.lapsed("sql", **insert)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert (await others.outputs("sql", **count))["rows"] == [{"n": 1}]
    finally:
        await others.outputs("sql", url=where, query="drop table counted")


async def test_who_waits_for_a_connection_can_be_cancelled(stage: Stage) -> None:
    """Nothing has begun: nobody waits for a server that says nothing."""
    pytest.importorskip("psycopg", reason="POSTGRESQL IS NOT TESTED: psycopg is not installed")
    asked = asyncio.Event()
    left: list[asyncio.StreamWriter] = []

    def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left.append(writer)
        asked.set()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as mute:
        url = f"postgresql://x@127.0.0.1:{mute.sockets[0].getsockname()[1]}/x"
        waiting = asyncio.ensure_future(stage.perform("sql", url=url, query="select 1"))
        await asyncio.wait_for(asked.wait(), 5)
        before = time.monotonic()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert time.monotonic() - before < 5
        left[0].close()


@pytest.mark.parametrize("deaf", ["to all", "to the statement"])
async def test_a_postgresql_that_falls_silent_holds_up_nobody(
    stage: Stage, postgres: Postgres, monkeypatch: pytest.MonkeyPatch, deaf: str
) -> None:
    """Neither the step that is cancelled nor, meanwhile, anything else of the controller."""
    monkeypatch.setattr(sql, "PATIENCE", 0.5)
    with relayed(postgres.url, all=deaf == "to all") as relay:
        query = "select pg_sleep(60)"
        running = asyncio.ensure_future(stage.perform("sql", url=relay.url, query=query))
        activity = "select 1 from pg_stat_activity where query = %s and state = 'active'"
        look = {"url": postgres.url, "query": activity, "parameters": [query]}
        while not (await stage.outputs("sql", **look))["row_count"]:
            assert not running.done()
        relay.fall_silent()
        before = time.monotonic()
        running.cancel()
        while not running.done():
            turn = time.monotonic()
            await asyncio.wait((running,), timeout=0.05)
            assert time.monotonic() - turn < 5, "the loop stood still"
        assert time.monotonic() - before < 5
        assert running.cancelled()


async def test_values_within_values_are_json(stage: Stage, postgres: Postgres) -> None:
    """An array is a list of what each of its values would be by itself."""
    query = """
    select '{NaN,1.5}'::float8[] as n, array['\\xff00'::bytea] as b, '{"k": 1e999}'::json as j,
        array['2026-01-02'::date] as d
    """
    found = await stage.outputs("sql", url=postgres.url, query=query)
    assert found["rows"] == [
        {"n": ["nan", 1.5], "b": ["ff00"], "j": {"k": "inf"}, "d": ["2026-01-02"]}
    ]


async def test_postgresql_is_spoken_too(stage: Stage, postgres: Postgres) -> None:
    """Parameters, types that JSON does not have, and a cancellation."""
    url = postgres.url
    query = (
        "select %(a)s::int as a, now()::date as day, 1.5::numeric as n, '{\"k\": 1}'::jsonb as j"
    )
    found = await stage.outputs("sql", url=url, query=query, parameters={"a": 3})
    [row] = found["rows"]
    assert (row["a"], row["n"], row["j"]) == (3, "1.5", {"k": 1})
    assert len(row["day"]) == 10
    assert (await stage.outputs("sql", url=url, query="select '100%' as p"))["rows"] == [
        {"p": "100%"}
    ]
    slow = stage.perform("sql", url=url, query="select pg_sleep(30)")
    running = asyncio.ensure_future(slow)
    activity = (
        "select 1 from pg_stat_activity where query like '%pg_sleep(30)' and state = 'active'"
    )

    async def is_running() -> bool:
        return bool((await stage.outputs("sql", url=url, query=activity))["row_count"])

    while not await is_running():
        assert not running.done()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


def _peak() -> int:
    """Bytes this process has had in memory at most, since `_forget_peak`."""
    [line] = [each for each in _STATUS.read_text().splitlines() if each.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


_STATUS = Path("/proc/self/status")


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "returning"])
async def test_no_more_rows_are_taken_than_may_be(
    stage: Stage, url: str, kind: str, request: pytest.FixtureRequest
) -> None:
    """Of 200 MB that a statement gives, only what it takes to see that it is too much."""
    query = (
        "with recursive n(i) as (select 1 union all select i + 1 from n where i < 200000)"
        " select i, printf('%.1000c', 'x') as text from n"
    )
    if kind != "sqlite":
        url = request.getfixturevalue("postgres").url
        query = "select generate_series(1, 200000) as i, repeat('x', 1000) as text"
    if kind == "returning":
        await stage.outputs("sql", url=url, query="create table many (i integer, text text)")
        query = f"insert into many {query} returning *"
    await stage.outputs("sql", url=url, query="select 1 as one")  # the driver is there
    _forget_peak()
    before = _peak()
    error = await stage.failure("sql", url=url, query=query, max_rows=10)
    assert (error.type, "more than 10 rows" in error.message) == ("too_large", True)
    assert _peak() - before < 50_000_000
    if kind == "returning":
        found = await stage.outputs("sql", url=url, query="select count(*)::int as n from many")
        assert found["rows"] == [{"n": 0}]
        await stage.outputs("sql", url=url, query="drop table many")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("select 1 as a where false", {"rows": [], "row_count": 0}),
        ("/* ( */ (values (1), (2))", {"rows": [{"column1": 1}, {"column1": 2}], "row_count": 2}),
        ("insert into few values (3), (4) returning n", {"rows": [{"n": 3}, {"n": 4}]}),
        ("insert into few values (3), (4)", {"rows": [], "row_count": 2}),
        ("with x as (select 5 as n) insert into few select n from x", {"rows": [], "row_count": 1}),
        ("select n into more from few", {"rows": [], "row_count": 2}),
        ("update few set n = n + 1 returning n", {"rows": [{"n": 2}, {"n": 3}], "row_count": 2}),
        ("/**/" * 200 + "show server_encoding", {"rows": [{"server_encoding": "UTF8"}]}),
        ("show server_encoding", {"rows": [{"server_encoding": "UTF8"}]}),
    ],
)
async def test_postgresql_gives_what_it_gives(
    stage: Stage, postgres: Postgres, query: str, expected: dict[str, Any]
) -> None:
    """Rows, or how many it touched; once, whatever it begins with."""
    url = postgres.url
    for each in ("drop table if exists few, more", "create table few (n integer)"):
        await stage.outputs("sql", url=url, query=each)
    await stage.outputs("sql", url=url, query="insert into few values (1), (2)")
    found = await stage.outputs("sql", url=url, query=query)
    assert found | expected == found
    counted = await stage.outputs("sql", url=url, query="select count(*)::int as n from few")
    added = found["row_count"] if "insert" in query else 0
    assert counted["rows"] == [{"n": 2 + added}]
    await stage.outputs("sql", url=url, query="drop table if exists few, more")
