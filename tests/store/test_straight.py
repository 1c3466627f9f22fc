"""What goes to PostgreSQL through libpq itself is as safe as what SQLAlchemy executes."""

import asyncio
from typing import Any

import pytest
from psycopg import Connection
from sqlalchemy import event, make_url, text
from sqlalchemy.exc import DBAPIError

from controller.core.problem import Refused, Unavailable
from controller.store import dialect, straight
from controller.store.connecting import connect, parse_url
from controller.store.ledger_checkpoints import checkpoints
from controller.store.opening import translated
from controller.store.records import Batch
from controller.store.tables import Transaction
from tests.eventually import eventually
from tests.store.sample import NOW, batch, opened

TEXT = 'ü " \\u0000 é\n'
"""The NUL in it is escaped, as JSON's is."""


def prepared(tx: Transaction) -> set[str]:
    """What the writer's connection has prepared straight."""
    found = tx.scalars(text("SELECT name FROM pg_prepared_statements"))
    return {each for each in found if each.startswith("straight")}


def writer(tx: Transaction) -> int:
    """The server's process for the writer."""
    number: int = tx.scalars(text("SELECT pg_backend_pid()")).one()
    return number


def end(url: str, process: int) -> None:
    """End one of the server's processes, and with it a connection."""
    with Connection.connect(url, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", (process,))


@pytest.mark.parametrize("encoding", ["utf8", "latin1"])
async def test_every_kind_of_value_arrives_as_it_is(postgres_url: str, encoding: str) -> None:
    """Texts with whatever is in them, numbers of 64 bits, and nothing, in any client's encoding."""
    rows = [(0, "completed", "a", 1, TEXT, NOW), (1, "paused", None, 0, "{}", 2**62)]
    url = make_url(postgres_url).update_query_dict({"client_encoding": encoding})
    async with opened(url.render_as_string(hide_password=False), "e") as store:
        for each in rows:
            await store.append(Batch("e", [each]))
        with Connection.connect(postgres_url, client_encoding="utf8") as other:
            stored = other.execute(
                "SELECT seq, type, step_id, attempt, context, created_at"
                " FROM execution_checkpoints ORDER BY seq"
            )
            assert stored.fetchall() == rows


async def test_a_text_that_the_server_refuses_is_not_cut_short(postgres_url: str) -> None:
    """Its caller hears of it, nothing of it is recorded, and the next is."""
    async with opened(postgres_url, "e", "f") as store:
        await store.append(batch("e", 0))
        with pytest.raises(Exception, match="NUL"):
            await store.append(Batch("e", [(1, "completed", "a", 1, '"cut\0short"', NOW)]))
        await store.append(batch("f", 0))
        assert len(await store.read(checkpoints, "e")) == 1
        assert len(await store.read(checkpoints, "f")) == 1


async def test_a_statement_is_prepared_once_a_connection(postgres_url: str) -> None:
    """And again on the next one, when the connection was lost."""
    async with opened(postgres_url, "e") as store:
        await store.append(batch("e", 0))
        once = await store.write(prepared)
        await store.append(batch("e", 1))
        assert await store.write(prepared) == once
        await store.append(batch("e", 2, 3))
        assert len(await store.write(prepared) - once) == 1
        lost = await store.write(writer)
        end(postgres_url, lost)
        await store.append(batch("e", 4))
        assert await store.write(writer) != lost
        assert len(await store.write(prepared)) == 1
        assert [each.seq for each in await store.read(checkpoints, "e")] == [*range(5)]


async def test_a_connection_that_was_closed_while_idle_is_replaced(postgres_url: str) -> None:
    """Whoever writes next hears nothing of it: a verb, and an append that is one statement."""
    async with opened(postgres_url, "e") as store:
        lost = await store.write(writer)
        end(postgres_url, lost)
        another = await store.write(writer)
        assert another != lost
        end(postgres_url, another)
        await store.append(batch("e", 0))
        assert await store.write(writer) not in {lost, another}
        assert len(await store.read(checkpoints, "e")) == 1


@pytest.mark.parametrize("times", [1, 2])
def test_a_connection_that_is_lost_at_the_begin_is_replaced_once(
    postgres_url: str, times: int
) -> None:
    """Nothing was done on it; but a server that ends each is not asked for ever."""
    engine = connect(parse_url(postgres_url), 1).writer
    ended: list[int] = []

    @event.listens_for(engine, "begin")
    def lose(tx: Transaction) -> None:
        if len(ended) < times:
            driver: Any = tx.connection.driver_connection
            ended.append(driver.info.backend_pid)
            end(postgres_url, ended[-1])

    with engine.connect() as tx:
        if times == 1:
            with dialect.transaction(tx, alone=False):
                assert writer(tx) not in ended
        else:
            with pytest.raises(DBAPIError, match=r"server closed|terminating"):
                dialect.transaction(tx, alone=False)
        with dialect.transaction(tx, alone=False):
            assert writer(tx) not in ended
    engine.dispose()
    assert len(ended) == times


async def test_what_is_lost_after_its_begin_is_not_tried_again(postgres_url: str) -> None:
    """Its caller is told that the database does not answer; the next finds another connection."""
    async with opened(postgres_url, "e") as store:
        ended = []

        def lost(tx: Transaction) -> None:
            ended.append(writer(tx))
            end(postgres_url, ended[-1])

        with pytest.raises(Unavailable, match=r"does not answer .(server closed|terminating)"):
            await store.write(lost)
        assert len(ended) == 1
        await store.append(batch("e", 0))


def test_a_connection_that_the_server_ends_while_it_is_made_is_no_bug(postgres_url: str) -> None:
    """By a timeout, such as a `transaction_timeout` that is too short: the database is away."""
    engine = connect(parse_url(postgres_url), 1).writer

    @event.listens_for(engine, "connect")
    def too_late(driver: Any, _record: object) -> None:
        driver.execute("SET transaction_timeout = 1; SELECT pg_sleep(5)")

    with pytest.raises(Unavailable, match=r"does not answer .terminating"), translated("it"):
        engine.connect()
    engine.dispose()


async def test_a_right_that_is_taken_away_is_waited_for(postgres_url: str) -> None:
    """In use it is as if the database did not answer; who opens it without is refused."""
    url = make_url(postgres_url)
    role = f"clerk_{url.database}"
    with Connection.connect(postgres_url, autocommit=True) as owner:
        grant = f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}"
        owner.execute(f"CREATE ROLE {role} LOGIN; {grant}")
        try:
            as_clerk = url.set(username=role).render_as_string(hide_password=False)
            async with opened(as_clerk, "e") as store:
                owner.execute(f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {role}")
                with pytest.raises(Unavailable, match=r"refuses us .permission denied"):
                    await store.append(batch("e", 0))
                assert "permission denied" in str(store.unavailable)
                with pytest.raises(Unavailable, match=r"refuses us .permission denied"):
                    await store.read(checkpoints, "e")
                with pytest.raises(Refused, match=r"refuses us .permission denied"):
                    async with opened(as_clerk):
                        pass
                owner.execute(grant)
                await store.append(batch("e", 0))
                assert len(await store.read(checkpoints, "e")) == 1
        finally:
            owner.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


async def test_who_waits_for_the_server_keeps_nobody_else_waiting(postgres_url: str) -> None:
    """Python's lock is given up meanwhile: the loop goes on, and ends what is waited for."""
    async with opened(postgres_url, "e") as store:
        await store.append(batch("e", 0))
        with (
            Connection.connect(postgres_url) as other,
            Connection.connect(postgres_url, autocommit=True) as watch,
        ):
            other.execute("LOCK TABLE execution_checkpoints")
            append = asyncio.ensure_future(store.append(batch("e", 1)))
            waits = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            await eventually(lambda: watch.execute(waits).fetchone() == (1,), "it waits")
            assert not append.done()
            other.rollback()
            await append


async def test_nothing_is_prepared_that_is_wrong(postgres_url: str) -> None:
    """A statement that the server does not understand belongs to its caller, each time."""
    async with opened(postgres_url, "e", "f") as store:
        await store.append(batch("e", 0))

        def wrong(tx: Transaction) -> None:
            with pytest.raises(Exception, match=r"no_such_table. does not exist"):
                straight.change(tx, "INSERT INTO no_such_table VALUES ($1)", (1,))
            tx.rollback()

        for _ in range(2):
            await store.write(wrong)
        await store.append(batch("e", 1))


async def test_what_reads_sees_one_snapshot(postgres_url: str) -> None:
    """A transaction that such a statement begins is what the engine says it is."""
    async with opened(postgres_url, "e") as store:
        loop = asyncio.get_running_loop()

        def counted_twice(tx: Transaction) -> list[int]:
            found = []
            for seq in range(2):
                [row] = straight.rows(tx, "SELECT count(*) FROM execution_checkpoints", ())
                found.append(row[0])
                asyncio.run_coroutine_threadsafe(append(seq), loop).result()
            return found

        async def append(seq: int) -> None:
            await store.append(batch("e", seq))

        assert await store.read(counted_twice) == [0, 0]
        assert len(await store.read(checkpoints, "e")) == 2


async def test_what_is_prepared_outlasts_what_is_undone(postgres_url: str) -> None:
    """However often the connection executed what SQLAlchemy gives it before."""
    async with opened(postgres_url, "e") as store:

        def fails(tx: Transaction) -> None:
            for _ in range(20):
                tx.execute(text("SELECT 1"))
            with tx.begin_nested() as nested:
                tx.execute(text("SELECT 1"))
                nested.rollback()
            raise LookupError

        for seq in range(3):
            await store.append(batch("e", seq))
            with pytest.raises(LookupError):
                await store.write(fails)
        assert len(await store.read(checkpoints, "e")) == 3
