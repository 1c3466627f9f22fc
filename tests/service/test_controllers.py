"""Several controllers on one PostgreSQL: one has not committed yet, or slept too long."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg

from controller.app import App
from controller.store import ledger
from controller.store.records import Outcome
from tests.eventually import answered, eventually
from tests.postgres import Postgres
from tests.service.test_executions import opened, step, working

HOUR = 3_600_000


@asynccontextmanager
async def _controllers(folder: Path, postgres: Postgres) -> AsyncGenerator[tuple[App, App, str]]:
    """Two, and the URL of their database."""
    with postgres.empty() as url:
        async with (
            opened(folder / "one", database_url=url) as one,
            opened(folder / "two", database_url=url) as two,
        ):
            yield one, two, url


def _is_waited(connection: "psycopg.Connection[Any]") -> bool:
    """Whether somebody waits for a lock."""
    return bool(connection.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchall())


async def test_who_has_lost_an_execution_creates_nothing_for_it(
    tmp_path: Path, postgres: Postgres
) -> None:
    """A subflow was about to be created when the leases ran out, and its parent ended elsewhere."""
    async with _controllers(tmp_path, postgres) as (one, two, url), working(one) as worker:
        create = one.service.create_workflow
        await create({"name": "child", "steps": [step("a", "set")]})
        go = step("go", "wait_for_signal", inputs={"name": "go"})
        call = {"id": "call", "type": "subflow", "subflow": "child"}
        await create({"name": "parent", "steps": [go, call]})
        parent = await one.service.execute_workflow("parent")
        with psycopg.connect(url) as holding, psycopg.connect(url, autocommit=True) as watching:
            holding.execute("LOCK TABLE workflows IN ACCESS EXCLUSIVE MODE")
            await two.service.send_signal(parent.id, "go")
            await eventually(lambda: _is_waited(watching), "the child is about to be created")
            later = two.clock.now() + HOUR
            [taken] = await two.store.write(
                ledger.claim, two.owner, lease_until=later + HOUR, now=later, limit=1
            )
            over = Outcome("cancelled", completed_at=later, duration=0)
            assert await two.store.write(ledger.record_outcome, taken.id, over, two.owner)
        children = await answered(
            lambda: two.service.list_executions("child"),
            lambda found: found or not worker.in_memory,
            "it is created, or who had the parent finds out",
        )
        assert taken.id == parent.id
        assert not children
