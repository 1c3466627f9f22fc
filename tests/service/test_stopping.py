"""A worker that is told to stop, at the worst moment."""

import asyncio
import threading
from pathlib import Path

from controller.facts import Fact, FactType
from controller.store.tables import Transaction
from tests.eventually import eventually
from tests.service.test_executions import opened, statuses, step


async def test_what_is_recorded_as_started_is_begun_before_a_stop(tmp_path: Path) -> None:
    """A step that started in a commit still on its way is performed in the grace, not given up.

    It is `idempotent: false`: given up, it would fail as interrupted without ever having run.
    """
    busy, go = threading.Event(), threading.Event()
    trace = tmp_path / "trace"
    wait = f"until test -e {trace}.go; do sleep 0.01; done"

    def hang(_tx: Transaction) -> None:
        busy.set()
        go.wait()

    async with opened(tmp_path) as app, asyncio.TaskGroup() as tasks:
        await app.service.create_workflow({
            "name": "w",
            "steps": [
                step("a", "shell", inputs={"command": f"echo a >> {trace}; {wait}"}),
                step("b", "shell", idempotent=False, inputs={"command": f"echo b >> {trace}"}),
                step("c", "set"),
            ],
        })
        worker = app.worker()
        tasks.create_task(worker.run())
        record = await app.service.execute_workflow("w")
        worker.wake()
        await eventually(trace.exists, "it is in progress")
        hanging = tasks.create_task(app.store.write(hang))
        await asyncio.to_thread(busy.wait)
        (tmp_path / "trace.go").touch()
        await eventually(lambda: worker.busy == 0, "it has ended, and that is not recorded yet")
        stopping = tasks.create_task(worker.stop(5_000))
        await asyncio.sleep(0)
        go.set()
        await asyncio.gather(hanging, stopping)
        view = await app.attend(record.id)
        assert statuses(view) == {"a": "completed", "b": "completed", "c": "completed"}
        assert trace.read_text().split() == ["a", "b"]


async def test_what_is_recorded_in_the_last_moment_is_left_to_others(tmp_path: Path) -> None:
    """When the grace is over, no execution begins a step while another one is being released."""
    busy, go = threading.Event(), threading.Event()
    trace = tmp_path / "trace"
    wait = f"until test -e {trace}.go; do sleep 0.01; done"

    def hang(_tx: Transaction) -> None:
        busy.set()
        go.wait()

    async with opened(tmp_path) as app, asyncio.TaskGroup() as tasks:
        await app.service.create_workflow({
            "name": "w",
            "steps": [
                step("a", "shell", inputs={"command": f"echo a >> {trace}; {wait}"}),
                step("b", "shell", inputs={"command": f"echo b >> {trace}"}),
            ],
        })
        worker = app.worker()
        tasks.create_task(worker.run())
        records = [await app.service.execute_workflow("w") for _ in range(2)]
        worker.wake()
        await eventually(lambda: trace.exists() and trace.read_text() == "a\na\n", "both go on")
        hanging = tasks.create_task(app.store.write(hang))
        await asyncio.to_thread(busy.wait)
        (tmp_path / "trace.go").touch()
        await eventually(lambda: worker.busy == 0, "both ended, and that is not recorded yet")
        stopping = tasks.create_task(worker.stop(0))
        await asyncio.sleep(0)
        go.set()
        await asyncio.gather(hanging, stopping)
        assert (worker.busy, trace.read_text().split()) == (0, ["a", "a"])
        for record in records:
            assert statuses(await app.attend(record.id)) == {"a": "completed", "b": "completed"}
        assert trace.read_text().split() == ["a", "a", "b", "b"]


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
