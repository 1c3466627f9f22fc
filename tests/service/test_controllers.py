"""Several controllers on one PostgreSQL: one has not committed yet, or slept too long."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import text

from controller.admission import Admitted, Wish, admit, derived_id
from controller.app import App
from controller.core.problem import Refused, Unavailable
from controller.store import ledger
from controller.store.connecting import connect, parse_url
from controller.store.failures import WRITABLE
from controller.store.records import Outcome
from controller.store.tables import Transaction
from tests.eventually import answered, eventually
from tests.postgres import Postgres
from tests.service.test_bugs import ended
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


@pytest.mark.parametrize("on_full", ["skip", "cancel_oldest"])
async def test_the_last_place_is_given_once(
    tmp_path: Path, postgres: Postgres, on_full: str
) -> None:
    """Who counts while another has not committed waits for that; then there is no place left."""
    async with _controllers(tmp_path, postgres) as (one, two, url):
        alone = {"max": 1, "on_full": on_full}
        document = {"name": "w", "concurrency": alone, "steps": [step("a", "set")]}
        await one.service.create_workflow(document)
        wish = Wish(derived_id("first"), "w", {}, {"type": "manual"}, one.clock.now())
        first, writer = await one.gate.check(wish), connect(parse_url(url), 1).writer
        with psycopg.connect(url, autocommit=True) as watching, writer.connect() as tx, tx.begin():
            assert admit(tx, first) is Admitted.CREATED
            second = asyncio.ensure_future(two.service.execute_workflow("w"))
            await eventually(lambda: second.done() or _is_waited(watching), "it waits")
        writer.dispose()
        [answer] = await asyncio.gather(second, return_exceptions=True)
        assert isinstance(answer, Refused) is (on_full == "skip")
        found = Counter(each.status for each in await one.service.list_executions())
        assert found == {"pending": 1} | ({"cancelled": 1} if on_full == "cancel_oldest" else {})


async def test_a_database_that_is_read_only_for_a_while_is_waited_for(
    tmp_path: Path, postgres: Postgres
) -> None:
    """Such as a standby before it is the primary: a step that ends meanwhile is not interrupted."""
    done, ends = tmp_path / "done", step("a", "shell", idempotent=False)
    ends["inputs"] = {"command": f"until test -e {done}; do sleep 0.05; done"}

    def write_only(tx: Transaction, read: str) -> None:
        tx.execute(text(f"SET default_transaction_read_only = {read}"))

    with postgres.empty() as url:
        async with opened(tmp_path / "one", database_url=url) as app, working(app) as worker:
            await app.service.create_workflow({"name": "w", "steps": [ends]})
            execution = await app.service.execute_workflow("w")
            await eventually(lambda: worker.busy, "the step runs")
            await app.store.write(write_only, "on")
            done.touch()
            await eventually(lambda: not worker.busy, "the step has ended")
            with pytest.raises(Unavailable, match="read-only") as caught:
                await app.service.execute_workflow("w")
            assert caught.value.hint == WRITABLE
            await app.store.write(write_only, "off")
            found = await ended(app, execution.id)
            assert (found.status, found.claims) == ("completed", 1)
