"""Group commit: who is in a group, who fails with whom, and what is told to whom."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, cast

import pytest
from sqlalchemy import Connection, text
from sqlalchemy import event as events
from sqlalchemy.exc import IntegrityError

from controller.core.problem import Unavailable
from controller.store import batches, dialect, journal, ledger_executions, straight
from controller.store.journal import Moment
from controller.store.ledger_checkpoints import checkpoints, checkpoints_of
from controller.store.ledger_executions import (
    create,
    execution,
    executions,
)
from controller.store.ledger_logs import logs
from controller.store.ledger_signals import add_signal, signals
from controller.store.records import NEVER, Batch, Fenced, LogRecord, Outcome
from controller.store.store import Store
from controller.store.tables import Transaction
from tests.eventually import eventually
from tests.fake_clock import FakeClock
from tests.store.sample import NOW, batch, busy, event, new, opened, outcomes, populate, signal


async def test_many_appends_are_one_commit(store_url: str) -> None:
    """What waits while the writer is busy is committed at once, whoever queued it."""
    ids = [f"e{number}" for number in range(50)]
    async with opened(store_url, *ids) as store:
        commits, rows = store.commits, store.rows
        async with busy(store):
            appends = [store.append(batch(each, 0, 1, 2)) for each in ids]
            assert store.waiting == 50
        await asyncio.gather(*appends)
        assert store.commits - commits == 2, "the one that was held, and one for all appends"
        assert store.rows - rows == 1 + 150
        assert store.waiting == 0
        assert store.last_commit_seconds > 0
        found = await store.read(checkpoints_of, ids)
        assert [len(each) for each in found.values()] == [3] * 50


async def test_who_writes_out_does_not_wait_for_what_is_queued_behind(store_url: str) -> None:
    """A group ends with it, and takes what was queued before."""
    async with opened(store_url, "a") as store:
        commits = store.commits
        async with busy(store):
            before = store.append(batch("a", 0))
            out = asyncio.ensure_future(store.write_out(None, create, new("b")))
            behind = asyncio.ensure_future(store.write(create, new("c")))
            await asyncio.sleep(0)
            assert store.waiting == 3
        await before
        assert (await out, await behind) == (True, True)
        assert store.commits - commits == 3, "the one that was held, and two groups"


async def test_the_rows_of_a_group_are_a_few_statements(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hundreds of appends reach the driver in a few statements, and every row arrives once."""
    ids = [f"e{number}" for number in range(347)]
    given: list[int] = []
    execute = dialect.execute_text

    def watched(tx: Transaction, statement: str, values: tuple[Any, ...]) -> int:
        if "INTO execution_checkpoints" in statement:
            given.append(len(values) // journal.CHECKPOINTS.columns)
        return execute(tx, statement, values)

    monkeypatch.setattr(dialect, "execute_text", watched)
    async with opened(store_url, *ids) as store:
        async with busy(store):
            appends = [store.append(batch(each, 0)) for each in ids]
        await asyncio.gather(*appends)
        assert given == [256, 64, 16, 8, 3]
        found = await store.read(checkpoints_of, ids)
        assert {each: [row.seq for row in rows] for each, rows in found.items()} == {
            each: [0] for each in ids
        }


async def test_only_the_guilty_one_fails(store_url: str) -> None:
    """A verb that raises takes nobody with it, and nothing of it is recorded."""

    def wrong(tx: Transaction) -> None:
        create(tx, new("half"))
        raise ZeroDivisionError

    async with opened(store_url, "e0", "e1") as store:
        async with busy(store):
            waiting = (
                store.append(batch("e0", 0)),
                asyncio.ensure_future(store.write(wrong)),
                asyncio.ensure_future(store.write(create, new("whole"))),
                store.append(batch("e1", 0)),
            )
            await asyncio.sleep(0)
        first, guilty, second, third = await outcomes(*waiting)
        assert (first, second, third) == (None, True, None)
        assert isinstance(guilty, ZeroDivisionError)
        found = await store.read(executions)
        assert {each.id for each in found} == {"e0", "e1", "whole"}
        assert len(await store.read(checkpoints, "e1")) == 1


async def test_a_statement_that_is_wrong_belongs_to_its_caller(store_url: str) -> None:
    """An error of the database about one statement is not about the database."""

    def wrong(tx: Transaction) -> None:
        tx.execute(text("SELECT no_such_column FROM workflows"))

    async with opened(store_url) as store:
        with pytest.raises(Exception, match="no_such_column"):
            await store.write(wrong)
        with pytest.raises(Exception, match="no_such_column"):
            await store.read(wrong)
        assert await store.write(create, new("next"))


async def test_a_stale_owner_is_fenced(store_url: str) -> None:
    """An event whose number is taken is refused, and what others append is not."""
    async with opened(store_url, "e0", "e1") as store:
        await store.append(batch("e0", 0, 1))
        async with busy(store):
            waiting = (store.append(batch("e0", 1, 2)), store.append(batch("e1", 0)))
        stale, other = await outcomes(*waiting)
        assert isinstance(stale, Fenced)
        assert "e0" in str(stale)
        assert other is None
        assert [each.seq for each in await store.read(checkpoints, "e0")] == [0, 1]


async def test_what_a_fenced_owner_queued_after_it_is_fenced_too(store_url: str) -> None:
    """The second append of a stale owner would leave a history of two hands."""
    async with opened(store_url, "e0") as store:
        await store.append(batch("e0", 0))
        async with busy(store):
            waiting = (store.append(batch("e0", 0)), store.append(batch("e0", 1)))
        assert [type(each) for each in await outcomes(*waiting)] == [Fenced, Fenced]
        assert [each.seq for each in await store.read(checkpoints, "e0")] == [0]


async def test_lines_are_there_with_their_events_or_not_at_all(store_url: str) -> None:
    """Who is fenced has said nothing; of a line that no log takes, the event is not there."""
    async with opened(store_url, "e0", "e1") as store:
        line, nothing = LogRecord("e0", "info", "x", NOW), cast("str", None)
        await store.append(batch("e0", 0, logs=[line]))
        with pytest.raises(Fenced):
            await store.append(batch("e0", 0, logs=[line]))
        assert len(await store.read(logs, "e0")) == 1
        with pytest.raises(IntegrityError):
            await store.append(batch("e1", 0, logs=[replace(line, level=nothing)]))
        assert await store.read(checkpoints, "e1") == []


async def test_nobody_records_an_execution_that_is_gone(store_url: str) -> None:
    """The execution was pruned, or never was: whoever thinks to own it lets go."""
    async with opened(store_url) as store:
        with pytest.raises(Fenced):
            await store.append(batch("nowhere", 0))


async def test_an_execution_ends_exactly_once(store_url: str) -> None:
    """The second end is fenced, and so is parking what has ended; the first one stays."""
    async with opened(store_url, "e0") as store:
        await store.append(
            batch("e0", 0, outcome=Outcome("completed", outputs={"x": 1}, completed_at=NOW))
        )
        for late in ("failed", "running"):
            with pytest.raises(Fenced):
                await store.append(batch("e0", 1, outcome=Outcome(late, completed_at=NOW + 1)))
        found = await store.read(execution, "e0")
        assert found is not None
        assert (found.status, found.outputs, found.completed_at) == ("completed", {"x": 1}, NOW)
        assert len(await store.read(checkpoints, "e0")) == 1


async def test_the_ends_of_a_group_are_one_statement_and_fenced_one_by_one(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many end at once; who lost one learns it, and the others have ended all the same."""
    ids = [f"e{number}" for number in range(5)]
    together: list[int] = []
    record = ledger_executions.record_outcomes

    def watched(tx: Transaction, ends: Sequence[tuple[str, Outcome, str | None]]) -> bool:
        together.append(len(ends))
        return record(tx, ends)

    monkeypatch.setattr(batches, "record_outcomes", watched)
    async with opened(store_url, *ids) as store:
        done = Outcome("completed", completed_at=NOW)
        await store.append(batch("e2", 0, outcome=Outcome("failed", completed_at=NOW)))
        await store.write(add_signal, signal("g1", "e1"))
        async with busy(store):
            appends = [store.append(batch(each, 1, outcome=done)) for each in ids]
        results = await outcomes(*appends)
        assert [isinstance(each, Fenced) for each in results] == [each == "e2" for each in ids]
        assert together[1] == 5
        found = {each.id: each.status for each in await store.read(executions)}
        assert found == {each: "failed" if each == "e2" else "completed" for each in ids}
        assert not await store.read(signals, ["e1"])


async def test_only_the_owner_parks(store_url: str) -> None:
    """An outcome that names its owner is fenced when somebody else has the execution."""
    async with opened(store_url, "e0") as store:
        parking = Outcome("running", wake_at=NEVER)
        with pytest.raises(Fenced):
            await store.append(Batch("e0", outcome=parking, owner="me"))


async def test_a_batch_is_recorded_as_a_whole(store_url: str) -> None:
    """Events, consumed signals, the end and the word to the parent: all or nothing."""
    async with opened(store_url, "parent", "e0") as store:
        await store.write(add_signal, signal("g1", "e0"))
        full = Batch(
            "e0",
            [event(0)],
            outcome=Outcome("completed", completed_at=NOW, duration=5),
            signals=("g1",),
            notify=[signal("g2", "parent", type="child", payload={"id": "e0"})],
        )
        await store.append(full)
        assert await store.read(signals, ["e0"]) == []
        assert [each.payload for each in await store.read(signals, ["parent"])] == [{"id": "e0"}]

        again = Batch("e0", [event(0)], notify=[signal("g3", "parent")])
        with pytest.raises(Fenced):
            await store.append(again)
        assert len(await store.read(signals, ["parent"])) == 1


async def test_a_signal_is_consumed_once(store_url: str) -> None:
    """A batch that consumes it again is fenced as a whole, and its neighbours are recorded."""
    async with opened(store_url, "e0", "e1") as store:
        for name in ("g1", "g2"):
            await store.write(add_signal, signal(name, "e0"))
        await store.append(batch("e0", 0, signals=("g1",)))
        async with busy(store):
            appends = [
                store.append(batch("e0", 1, signals=("g2", "g1"))),
                store.append(batch("e1", 0)),
            ]
        again, other = await outcomes(*appends)
        assert isinstance(again, Fenced)
        assert other is None
        assert len(await store.read(checkpoints, "e0")) == 1
        assert [each.id for each in await store.read(signals, ["e0"])] == ["g2"]


async def test_items_are_applied_in_the_order_they_were_queued(store_url: str) -> None:
    """Appends before and after a verb in one group stay before and after it."""
    seen: list[int] = []

    def count(tx: Transaction) -> None:
        seen.append(len(checkpoints(tx, "e0")))

    async with opened(store_url, "e0") as store:
        async with busy(store):
            waiting = []
            for seq in range(3):
                waiting += [store.append(batch("e0", seq)), store._journal.submit(count)]
        await asyncio.gather(*waiting)
    assert seen == [1, 2, 3]


async def test_futures_resolve_in_order(store_url: str) -> None:
    """Who queued first is told first."""
    async with opened(store_url, "e0") as store:
        told: list[int] = []
        async with busy(store):
            waiting = [asyncio.ensure_future(store.append(batch("e0", seq))) for seq in range(20)]
            for future in waiting:
                future.add_done_callback(lambda done: told.append(waiting.index(done)))
        await asyncio.gather(*waiting)
        assert told == list(range(20))


async def test_a_read_sees_what_was_acknowledged(store_url: str) -> None:
    """After `await append` every reader has it."""
    async with opened(store_url, "e0") as store:
        for seq in range(50):
            await store.append(batch("e0", seq))
            assert len(await store.read(checkpoints, "e0", seq - 1)) == 1


async def test_a_reader_cannot_write(store_url: str) -> None:
    """A write verb given to `read` is refused, and changes nothing."""
    async with opened(store_url) as store:
        with pytest.raises(Exception, match="read-only"):
            await store.read(create, new("e9"))
        assert await store.read(execution, "e9") is None


async def test_whoever_stops_waiting_takes_nothing_back(store_url: str) -> None:
    """A cancelled write is written, and the writer goes on."""
    async with opened(store_url) as store:
        async with busy(store):
            writing = asyncio.ensure_future(store.write(create, new("e0")))
            await asyncio.sleep(0)
            writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        assert await store.write(create, new("e1"))
        assert await store.read(execution, "e0") is not None


async def test_what_is_posted_is_written_or_complained_about(
    store_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody waits for it: in its turn among the writes, and a failure is in the log."""

    def wrong(tx: Transaction) -> None:
        del tx
        raise ZeroDivisionError("by zero")

    async with opened(store_url) as store:
        store.post(create, new("e0"))
        store.post(wrong)
        assert not await store.write(create, new("e0"))
    said = capsys.readouterr()
    assert "not written" in said.out + said.err
    assert "by zero" in said.out + said.err


async def test_closing_writes_what_is_queued_and_takes_no_more(store_url: str) -> None:
    """Leaving the store waits for the queue; afterwards it is unavailable."""
    async with opened(store_url, "e0") as store:
        async with busy(store):
            last = [store.append(batch("e0", seq)) for seq in range(10)]
        await store._journal.close()
        await asyncio.gather(*last)
        with pytest.raises(Unavailable, match="closed"):
            await store.append(batch("e0", 10))
        assert len(await store.read(checkpoints, "e0")) == 10


async def test_what_has_a_moment_is_durable_then_and_not_before(
    store_url: str, clock: FakeClock
) -> None:
    """It is written before; until then nobody sees it, and what is queued behind it waits."""
    async with Store.open(store_url, monotonic=clock.monotonic) as store:
        await store.write(populate, "e")
        await store.append(batch("e", *range(2 * journal.SOME_ROWS)))
        commits, told = store.commits, list[bool]()
        async with busy(store):
            before = store.queue(create, new("before"))
            then = asyncio.ensure_future(
                store.write_out(Moment(clock.monotonic() + 0.05, told.append), create, new("then"))
            )
            await asyncio.sleep(0)
            behind = store.queue(create, new("behind"))
        await eventually(lambda: told, "it is written")
        assert await before, "it is a group by itself"
        assert await store.read(execution, "then") is None
        assert (behind.done(), store.commits - commits) == (False, 2)
        await clock.advance(50)
        assert await then
        assert store.last_commit_seconds == 0, "the time it waited is not the database's"
        assert await behind
        assert await store.read(execution, "then") is not None
        assert store.commits - commits == 4


async def test_a_moment_that_has_passed_is_now(store_url: str, clock: FakeClock) -> None:
    """Whoever comes late waits for nothing."""
    async with Store.open(store_url, monotonic=clock.monotonic) as store:
        await store.write(populate)
        told: list[bool] = []
        assert await store.write_out(Moment(clock.monotonic() - 1, told.append), create, new("e"))
        assert told == []


async def test_closing_before_its_moment_undoes_what_is_written(
    store_url: str, clock: FakeClock
) -> None:
    """It never happened, and whoever waits is told; what was queued beside it is written."""
    async with Store.open(store_url, monotonic=clock.monotonic) as store:
        await store.write(populate)
        told: list[bool] = []
        then = asyncio.ensure_future(
            store.write_out(Moment(clock.monotonic() + 3_600, told.append), create, new("then"))
        )
        await eventually(lambda: told, "it is written")
        behind = store.queue(create, new("behind"))
        await store._journal.close()
        with pytest.raises(Unavailable, match="closed"):
            await then
        assert await behind
        assert await store.read(execution, "then") is None


async def test_a_payload_is_text_or_bytes(store_url: str) -> None:
    """Both are encoded JSON, and come back decoded; characters beyond ASCII survive."""
    async with opened(store_url, "e0") as store:
        rows = [event(0, payload='{"a": "ü\\u0000"}'), event(1, payload='{"a":"🙂"}')]
        await store.append(Batch("e0", rows))
        found = await store.read(checkpoints, "e0")
        assert [each.context for each in found] == [{"a": "ü\0"}, {"a": "🙂"}]


@pytest.mark.uvloop
async def test_fifty_executions_share_commits(store_url: str) -> None:
    """Each appends its next event when the last is durable: far fewer commits than appends."""
    ids = [f"e{number}" for number in range(50)]

    async def record(store: Store, execution_id: str) -> None:
        for seq in range(20):
            await store.append(batch(execution_id, seq))

    async with opened(store_url, *ids) as store:
        commits = store.commits
        await asyncio.gather(*(record(store, each) for each in ids))
        assert store.commits - commits < 250


async def test_the_store_is_read_while_it_is_written(store_url: str) -> None:
    """A snapshot that is open keeps nobody from writing, and does not change under its reader."""
    async with opened(store_url, "e0") as store:

        def counted_twice(tx: Transaction) -> tuple[int, int]:
            before = len(checkpoints(tx, "e0"))
            with ThreadPoolExecutor(1) as other:
                other.submit(asyncio.run_coroutine_threadsafe, written(), loop).result().result()
            return before, len(checkpoints(tx, "e0"))

        async def written() -> None:
            await store.append(batch("e0", 0))

        loop = asyncio.get_running_loop()
        assert await store.read(counted_twice) == (0, 0)
        assert len(await store.read(checkpoints, "e0")) == 1


async def test_a_statement_that_is_all_there_is_needs_no_other(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On PostgreSQL events alone are one round trip; with anything else they are a transaction."""
    alone: list[bool] = []
    change = straight.change

    def watch(connection: Connection, *_: object) -> None:
        alone.append(connection.connection.driver_connection.autocommit)  # type: ignore[union-attr]  # psycopg's

    def executed(tx: Transaction, statement: str, values: tuple[Any, ...]) -> int:
        watch(tx)
        return change(tx, statement, values)

    async with opened(postgres_url, "e", "f", "g") as store:
        monkeypatch.setattr(straight, "change", executed)
        engine = store._engines.writer
        events.listen(engine, "before_cursor_execute", watch)
        await store.append(batch("e", 0))
        assert alone == [True]
        await store.write(add_signal, signal("g1", "e"))
        await store.append(batch("e", 1, signals=("g1",)))
        assert set(alone[1:]) == {False}
        with pytest.raises(Fenced):
            await store.append(batch("e", 1))
        await store.append(batch("e", 2))
        assert alone[-1] is True
        alone.clear()
        async with busy(store):
            appends = [store.append(batch(*each)) for each in (("e", 3), ("f", 0), ("g", 0))]
        await asyncio.gather(*appends)
        assert alone == [True]
        found = await store.read(checkpoints, "e")
        assert [each.seq for each in found] == [0, 1, 2, 3]
