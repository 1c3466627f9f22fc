"""A worker that ends at the worst moment: told to stop, or by a bug."""

import asyncio
import gc
import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from controller.app import App
from controller.core.decide import begin
from controller.execute.attempts import Attempts
from controller.facts import Fact, FactType
from controller.history import identity_of
from controller.store.tables import Transaction
from tests.eventually import eventually
from tests.service.test_executions import opened, statuses, step

if TYPE_CHECKING:
    from controller.core.execution import Event


class _Stopping:
    """Executions whose first step has ended in a commit that has not returned, and their worker."""

    def __init__(self, folder: Path, tasks: asyncio.TaskGroup, app: App) -> None:
        self.trace = folder / "trace"
        self.worker = app.worker()
        self.executions: list[str] = []
        self._app = app
        self._tasks = tasks
        self._busy, self._go = threading.Event(), threading.Event()

    async def begin(self, count: int, **second: Any) -> None:
        """Bring `count` executions there; `second`: of the step that the commit starts."""
        wait = f"until test -e {self.trace}.go; do sleep 0.01; done"
        await self._app.service.create_workflow({
            "name": "w",
            "steps": [
                step("a", "shell", inputs={"command": f"echo a >> {self.trace}; {wait}"}),
                step("b", "shell", inputs={"command": f"echo b >> {self.trace}"}, **second),
                step("c", "set"),
            ],
        })
        self._tasks.create_task(self.worker.run())
        for _ in range(count):
            self.executions.append((await self._app.service.execute_workflow("w")).id)
        self.worker.wake()
        await eventually(lambda: self.did() == ["a"] * count, "they go on")
        self._hanging = self._tasks.create_task(self._app.store.write(self._hang))
        await asyncio.to_thread(self._busy.wait)
        self.trace.with_name("trace.go").touch()
        await eventually(lambda: self.worker.busy == 0, "ended, and that is not recorded yet")

    async def stop(self, grace: int) -> None:
        """Stop the worker; when it has begun to, the commit returns."""
        stopping = self._tasks.create_task(self.worker.stop(grace))
        await asyncio.sleep(0)
        self._go.set()
        await asyncio.gather(self._hanging, stopping)

    def did(self) -> list[str]:
        """What steps did."""
        return self.trace.read_text().split() if self.trace.exists() else []

    async def complete(self) -> None:
        """Have everything done by another worker."""
        for each in self.executions:
            view = await self._app.attend(each)
            assert set(statuses(view).values()) == {"completed"}

    def _hang(self, _tx: Transaction) -> None:
        self._busy.set()
        self._go.wait()


async def test_what_is_recorded_as_started_is_begun_before_a_stop(tmp_path: Path) -> None:
    """A step that started in a commit still on its way is performed in the grace, not given up.

    It is `idempotent: false`: given up, it would fail as interrupted without ever having run.
    """
    async with opened(tmp_path) as app, asyncio.TaskGroup() as tasks:
        stopping = _Stopping(tmp_path, tasks, app)
        await stopping.begin(1, idempotent=False)
        await stopping.stop(5_000)
        await stopping.complete()
        assert stopping.did() == ["a", "b"]


async def test_what_is_recorded_in_the_last_moment_is_left_to_others(tmp_path: Path) -> None:
    """When the grace is over, no execution begins a step while another one is being released."""
    async with opened(tmp_path) as app, asyncio.TaskGroup() as tasks:
        stopping = _Stopping(tmp_path, tasks, app)
        await stopping.begin(2)
        await stopping.stop(0)
        assert (stopping.worker.busy, stopping.did()) == (0, ["a", "a"])
        await stopping.complete()
        assert stopping.did() == ["a", "a", "b", "b"]


async def test_a_step_stopped_in_the_turn_it_begins_ends(tmp_path: Path) -> None:
    """Its task has not had its first turn when it is told to end: it reports all the same."""
    async with opened(tmp_path) as app, asyncio.TaskGroup() as tasks:
        await app.service.create_workflow({
            "name": "w",
            "steps": [step("first", "set"), step("a", "shell", inputs={"command": "sleep 60"})],
        })
        worker = app.worker()

        def stop(fact: Fact) -> None:
            if (fact.type, fact.step, fact.data.get("status")) == (FactType.STEP, "a", "running"):
                [running] = worker._running.values()
                asyncio.get_running_loop().call_soon(
                    lambda: running._attempts.stop("a", 1, force=False)
                )

        app.bus.subscribe(stop)
        tasks.create_task(worker.run())
        record = await app.service.execute_workflow("w")
        worker.wake()
        ended = asyncio.Event()
        app.bus.subscribe(lambda fact: ended.set() if fact.type == FactType.FAILED else None)
        await ended.wait()
        _, view = (await app.attend(record.id)).steps
        assert (view.status, view.error and view.error["type"]) == ("failed", "cancelled")
        await worker.stop(0)


async def _bug() -> None:
    await asyncio.sleep(0)
    raise RuntimeError("a bug")


async def test_what_a_bug_interrupts_goes_on_when_the_worker_runs_again(tmp_path: Path) -> None:
    """One task fails as none should, and takes all with it; the next run claims what was left."""
    async with opened(tmp_path) as app, asyncio.TaskGroup() as tasks:
        waits = f"test -e {tmp_path}/again || {{ touch {tmp_path}/again; sleep 60; }}"
        await app.service.create_workflow({
            "name": "w",
            "steps": [step("a", "shell", inputs={"command": waits}), step("b", "set")],
        })
        worker = app.worker()
        running = asyncio.ensure_future(worker.run())
        record = await app.service.execute_workflow("w")
        worker.wake()
        await eventually((tmp_path / "again").exists, "it is in progress")

        worker.spawn(_bug())
        with pytest.RaisesGroup(pytest.RaisesExc(RuntimeError, match="a bug")):
            await running
        assert worker.in_memory == 0
        tasks.create_task(worker.run())
        completed = asyncio.Event()
        app.bus.subscribe(lambda fact: completed.set() if fact.type == FactType.COMPLETED else None)
        await completed.wait()
        assert statuses(await app.attend(record.id)) == {"a": "completed", "b": "completed"}
        await worker.stop(0)


@pytest.mark.parametrize("ending", [False, True])
async def test_what_cannot_be_begun_is_left_unbegun(tmp_path: Path, *, ending: bool) -> None:
    """By a worker that does not run, or that ends because of a bug: nothing is left unawaited."""
    async with opened(tmp_path) as app:
        steps = [step("a", "shell", inputs={"command": "true"})]
        await app.service.create_workflow({"name": "w", "steps": steps})
        record = await app.service.execute_workflow("w")
        state, _ = begin(await app.catalog.plan_of(record), identity_of(record, record.created_at))
        worker = app.worker()
        if ending:
            async with asyncio.TaskGroup() as worker._tasks:
                pass
        reported: list[Event] = []
        attempts = Attempts(record.id, "w", worker, reported.append, lambda: None)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            with pytest.raises(RuntimeError):
                attempts.begin(state.steps["a"], {})
            gc.collect()
        assert [str(each.message) for each in said] == []
        assert (len(attempts), reported) == (0, [])
