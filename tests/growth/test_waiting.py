"""What waits is not in memory; what is due comes back once, in its turn, so many at once."""

import asyncio
import gc
import sys
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from controller.admission import Admitted, Wish, admit
from controller.app import App, run_main
from controller.clock import SystemClock
from controller.execute import worker as worker_module
from controller.execute.running import PARK_AFTER, Running
from controller.execute.worker import Worker
from controller.facts import Fact, FactType
from controller.store import Store, ledger
from controller.store.identity import new_id
from controller.store.records import ExecutionRecord
from controller.store.store import READERS
from controller.store.tables import Transaction
from tests.eventually import eventually
from tests.fake_clock import FakeClock
from tests.growth.grown import DAY, Size, grow, settings_for
from tests.store.sample import signal

HOUR = 3_600_000
LONG = 400 * DAY


def step(step_id: str, action: str, **more: Any) -> dict[str, Any]:
    """A step that calls an action."""
    return {"id": step_id, "type": "action", "action": action, **more}


NAP = step("nap", "sleep", inputs={"duration": "2h"})
ASK = step("ask", "wait_for_signal", inputs={"name": "go"})
LONG_NAP = step("long", "sleep", inputs={"duration": "300d"})
BRANCHES = [[NAP], [LONG_NAP]]

WAITS: dict[str, list[dict[str, Any]]] = {
    "sleep": [NAP],
    "signal": [ASK],
    "approval": [step("ask", "approval", inputs={"name": "go"})],
    "signal-until": [step("ask", "wait_for_signal", inputs={"name": "no", "timeout": "2h"})],
    "retry": [
        step(
            "flaky",
            "shell",
            inputs={"command": "echo x >> {here}/tries; test $(wc -l < {here}/tries) -ge 2"},
            on_error="retry",
            retry={"attempts": 2, "delay": "2h", "max_delay": "3h"},
        )
    ],
    "timeout": [ASK | {"timeout": "2h"}],
    "loop-timeout": [
        {"id": "each", "type": "loop", "timeout": "2h", "loop": {"over": [1], "steps": [LONG_NAP]}}
    ],
    "subflow": [{"id": "call", "type": "subflow", "subflow": "child"}],
    "branch": [
        {"id": "both", "type": "parallel", "parallel": {"branches": BRANCHES, "wait_all": False}}
    ],
    "loop": [{"id": "each", "type": "loop", "loop": {"over": "${[1]}", "as": "n", "steps": [NAP]}}],
}
"""Workflows whose first step waits: until two hours have passed, or `go` was sent."""

ENDS = dict.fromkeys(("signal-until", "timeout", "loop-timeout"), "failed")


class Stage:
    """A worker under a clock of the test's own.

    Attributes:
        most: The most executions that were in memory at once, whenever something was told.
        told: Every fact.
    """

    def __init__(self, app: App, clock: FakeClock, worker: Worker) -> None:
        self.app = app
        self.clock = clock
        self.worker = worker
        self.most = 0
        self.told: list[Fact] = []
        self._tick: asyncio.Future[None] | None = None
        app.bus.subscribe(self._tell)
        app.on_ring(worker.wake)

    def _tell(self, fact: Fact) -> None:
        self.told.append(fact)
        self.most = max(self.most, self.worker.in_memory)

    async def create(self, workflow: str, count: int) -> list[str]:
        """So many executions, in this order, in one transaction."""
        now = self.clock.now()
        wishes = [Wish(new_id(now), workflow, {}, {"type": "manual"}, now) for _ in range(count)]
        admissions = [await self.app.gate.check(each) for each in wishes]

        def admit_all(tx: Transaction) -> set[Admitted]:
            return {admit(tx, each) for each in admissions}

        assert await self.app.store.write(admit_all) == {Admitted.CREATED}
        return [each.id for each in wishes]

    async def leave(self) -> None:
        """Wait, in the clock's time, until nothing is in memory."""
        await self.clock.advance(PARK_AFTER + 1)
        await eventually(lambda: self.worker.in_memory == 0, "it left memory")

    async def ended(self, count: int, within: float = 30) -> list[str]:
        """The executions in the order in which they ended, when so many have."""
        final = {FactType.COMPLETED, FactType.FAILED}

        def enough() -> list[str] | None:
            if self._tick is None or self._tick.done():  # what was armed for now happens
                self._tick = asyncio.ensure_future(self.clock.advance(1))
            ends = [str(each.execution) for each in self.told if each.type in final]
            return ends if len(ends) >= count else None

        ends = await eventually(enough, f"{count} have ended", within=within)
        await (self._tick or asyncio.sleep(0))  # two at once would wait for each other
        return ends or []

    async def record(self, execution_id: str) -> ExecutionRecord:
        """Its row."""
        return await self.app.service.get_execution(execution_id)


@asynccontextmanager
async def staged(
    folder: Path, clock: FakeClock, before: Callable[[Worker], None] = lambda _: None
) -> AsyncGenerator[Stage]:
    """A worker at work in a database."""
    settings = settings_for(folder)
    async with Store.open(settings.url, monotonic=clock.monotonic) as store:
        app = App(settings, store, clock)
        worker = app.worker()
        stage = Stage(app, clock, worker)
        before(worker)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(worker.run())
            await eventually(lambda: worker.room > 0, "the worker is there")
            try:
                yield stage
            finally:
                stopping = tasks.create_task(worker.stop(0))
                while not stopping.done():
                    await clock.advance(100)
        await app.close()


def _in_memory() -> set[int]:
    """The executions in memory, by their address."""
    gc.collect()
    return {id(each) for each in gc.get_objects() if isinstance(each, Running)}


@pytest.mark.parametrize("kind", WAITS)
async def test_what_waits_leaves_memory_and_comes_back_once(
    tmp_path: Path, clock: FakeClock, kind: str
) -> None:
    """Nothing of it is left in the process; when it is time, or the signal came, it goes on."""
    steps = [
        {**each, "inputs": {"command": each["inputs"]["command"].format(here=tmp_path)}}
        if each.get("action") == "shell"
        else each
        for each in WAITS[kind]
    ]
    before = _in_memory()  # of other tests
    async with staged(tmp_path, clock) as stage:
        service = stage.app.service
        await service.create_workflow({"name": "child", "timeout": LONG, "steps": [NAP]})
        after = step("after", "set", inputs={"went": "on"})
        await service.create_workflow({"name": "w", "timeout": LONG, "steps": [*steps, after]})
        record = await service.execute_workflow("w")
        await eventually(lambda: _waits(stage), "it waits")
        await stage.leave()
        assert _in_memory() <= before
        asleep = await stage.record(record.id)
        assert (asleep.status, asleep.owner, asleep.lease_until) == ("running", None, None)

        if kind in {"signal", "approval"}:
            await service.send_signal(record.id, "go", {"approved": True})
        else:
            clock.jump(2 * HOUR)
        stage.worker.wake()
        assert (await stage.ended(2 if kind == "subflow" else 1))[-1] == record.id
        view = await service.get_workflow_status(record.id)
        assert view.record.status == ENDS.get(kind, "completed"), view.record.error
        assert view.record.claims == 2
        rows = await stage.app.store.read(ledger.checkpoints, record.id)
        settled = [(each.step_id, each.type) for each in rows if each.type != "suspended"]
        assert len(settled) == len(set(settled)), settled


def _waits(stage: Stage) -> bool:
    return (
        any(
            each.type is FactType.STEP and each.data["status"] in {"waiting", "failed"}
            for each in stage.told
        )
        and not stage.worker.busy
    )


# ---------------------------------------------------------------------------- thousands at once


def grown(folder: Path, kind: str, count: int) -> FakeClock:
    """A database in which so many wait; a clock at which the time of all has come."""
    run_main(grow(settings_for(folder), Size(0, count, workflows=1, schedules=0, kinds=(kind,))))
    return FakeClock(new_clock())


def new_clock() -> int:
    """A time at which all copies are due, and none has timed out."""
    return SystemClock().now() + 3_001 * DAY


def in_turn(tx: Transaction) -> list[str]:
    """Everything, the one that waits for longest first."""
    asked = "SELECT id FROM workflow_executions ORDER BY wake_at, created_at, id"
    return list(tx.exec_driver_sql(asked).scalars())


def awoken(tx: Transaction) -> tuple[int, int, int]:
    """Least and most claims of an execution, and events that are there twice."""
    asked = "SELECT min(claims), max(claims) FROM workflow_executions"
    least, most = tx.exec_driver_sql(asked).one()
    asked = (
        "SELECT count(*) FROM (SELECT 1 FROM execution_checkpoints"
        " GROUP BY execution_id, type, step_id HAVING count(*) > 1)"
    )
    return least, most, tx.exec_driver_sql(asked).scalar_one()


@pytest.mark.parametrize("kind", ["sleeping", "signalled"])
@pytest.mark.parametrize(
    ("count", "bound"),
    [
        (1_200, 100),
        pytest.param(
            10_000, None, marks=[pytest.mark.thorough, pytest.mark.timeout(300)], id="10000"
        ),
    ],
)
def test_many_due_at_once_come_back_in_bounded_numbers_and_in_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, count: int, bound: int | None
) -> None:
    """Never more in memory than the bound; each once; nobody is overtaken by more than fit."""
    if bound is not None:
        monkeypatch.setattr(worker_module, "IN_MEMORY", bound)
    clock = grown(tmp_path, kind, count)

    async def wake_all() -> None:
        order: list[str] = []

        async with staged(tmp_path, clock) as stage:
            order += await stage.app.store.read(in_turn)
            if kind == "signalled":
                await stage.app.store.write(_send_all, order)
                stage.worker.wake()
            ended = await stage.ended(count, within=count / 100)
            assert stage.most <= worker_module.IN_MEMORY
            assert stage.worker.in_memory <= 1
            place = {each: number for number, each in enumerate(order)}
            late = [abs(place[each] - number) for number, each in enumerate(ended)]
            assert max(late) <= 2 * worker_module.IN_MEMORY
            assert await stage.app.store.read(awoken) == (2, 2, 0)

    run_main(wake_all())


def _send_all(tx: Transaction, ids: list[str]) -> None:
    for each in ids:
        sent = signal(f"go {each}", each, type="signal", payload={"name": "go", "payload": 1})
        ledger.add_signal(tx, sent)


def test_the_first_go_on_before_the_many_are_read(tmp_path: Path) -> None:
    """When the first thing is recorded, most of them are not in memory yet."""
    clock = grown(tmp_path, "signalled", 600)  # to go on they need no clock, which others move
    seen: list[int] = []

    async def wake_all() -> None:
        def watch(worker: Worker) -> None:
            worker._limit = 1_000
            worker.bus.subscribe(lambda _: seen.append(worker.in_memory))

        async with staged(tmp_path, clock, watch) as stage:
            await stage.app.store.write(_send_all, await stage.app.store.read(in_turn))
            stage.worker.wake()
            await stage.ended(600)

    run_main(wake_all())
    assert seen[0] <= 250


async def test_what_waits_a_little_makes_room_for_what_could_go_on(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many wait for less than a minute, others are taken on; and all come back."""
    monkeypatch.setattr(worker_module, "IN_MEMORY", 60)
    async with staged(tmp_path, clock) as stage:
        nap = step("nap", "sleep", inputs={"duration": "30s"})
        await stage.app.service.create_workflow({"name": "naps", "steps": [nap]})
        await stage.app.service.create_workflow({"name": "quick", "steps": [step("a", "set")]})
        await stage.create("naps", 300)
        quick = await stage.create("quick", 1)
        stage.worker.wake()
        assert await stage.ended(1) == quick
        assert stage.most <= 60
        await clock.advance(31_000)
        await stage.ended(301)
        assert stage.most <= 60


async def test_who_waits_for_a_child_stays_until_there_is_one(
    tmp_path: Path, clock: FakeClock
) -> None:
    """Where it is crowded too: out of memory and without a child, nobody would ever wake it."""
    go = threading.Event()
    hanging: list[asyncio.Future[None]] = []

    def hang(_tx: Transaction) -> None:
        go.wait()

    async with staged(tmp_path, clock) as stage:
        service, store = stage.app.service, stage.app.store
        await service.create_workflow({"name": "child", "steps": [NAP]})
        await service.create_workflow({"name": "w", "steps": WAITS["subflow"]})
        stage.worker._most = 1  # always crowded

        def stop_reading(fact: Fact) -> None:
            if fact.type is FactType.EXECUTED and not hanging:
                hanging.extend(asyncio.ensure_future(store.read(hang)) for _ in range(READERS))

        stage.app.bus.subscribe(stop_reading)
        [parent] = await stage.create("w", 1)
        stage.worker.wake()
        try:
            await eventually(lambda: hanging, "it begins")
            for _ in range(5):
                await store.write(lambda _: None)
            assert list(stage.worker._running) == [parent]
        finally:
            go.set()
        await asyncio.gather(*hanging)
        await eventually(lambda: stage.worker.in_memory == 0, "both left memory")
        [child] = await service.list_executions("child")
        assert child.parent_id == parent


async def test_a_scrape_may_look_while_executions_come_and_go(
    tmp_path: Path, clock: FakeClock
) -> None:
    """It looks from a thread of its own, and what is in memory changes under its eyes."""
    interval = sys.getswitchinterval()
    async with staged(tmp_path, clock) as stage:
        worker = stage.worker
        await stage.app.service.create_workflow({"name": "w", "steps": WAITS["signal"]})
        [waiting] = await stage.create("w", 1)
        worker.wake()
        await eventually(lambda: waiting in worker._running, "it waits")
        running = worker._running[waiting]
        sys.setswitchinterval(1e-6)
        try:
            looking = asyncio.get_running_loop().run_in_executor(
                None, lambda: [worker.busy for _ in range(2_000)]
            )
            while not looking.done():
                for number in range(100):
                    worker._running[f"{number}"] = running
                await asyncio.sleep(0)
                for number in range(100):
                    del worker._running[f"{number}"]
            assert len(await looking) == 2_000
        finally:
            sys.setswitchinterval(interval)
