"""`sql` against real databases."""

import asyncio
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.actions.stage import Stage
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


async def test_a_failed_statement_changes_nothing(stage: Stage, url: str) -> None:
    """Rows that are too many to give back are not written either."""
    query = "insert into people select name, age, photo from people returning name"
    assert (await stage.failure("sql", url=url, query=query, max_rows=1)).type == "too_large"
    assert (await stage.outputs("sql", url=url, query="select 1 from people"))["row_count"] == 2


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
