"""Many executions taken on at once."""

import asyncio
from pathlib import Path

import pytest

from controller.app import App, open_app
from controller.clock import SystemClock
from controller.execute.running import SLICE
from controller.execute.worker import FIRST, GROWTH
from controller.facts import Fact, FactType
from controller.settings import Settings
from controller.store import Store
from tests.eventually import eventually
from tests.fake_clock import FakeClock
from tests.service.test_executions import step


class _Yielding(SystemClock):
    """Whoever lets others go on finds everything recorded that was to be recorded before."""

    store: Store

    async def sleep(self, seconds: float) -> None:
        """As the system's clock, but for that."""
        if seconds == 0:
            await self.store.write(lambda _tx: None)
        await super().sleep(seconds)


async def test_all_go_on_by_a_step_before_any_goes_on_by_two(tmp_path: Path) -> None:
    """Of a claim of many; nobody waits for all the steps of those that were taken on before."""
    clock, before = _Yielding(), FIRST + FIRST * GROWTH
    settings = Settings(state_dir=tmp_path, max_concurrent_workflows=1_000)
    async with Store.open(settings.url, monotonic=clock.monotonic) as store:
        clock.store = store
        app = App(settings, store, clock)
        await app.service.create_workflow({
            "name": "w",
            "steps": [step("a", "set"), step("b", "set")],
        })
        ids = [(await app.service.execute_workflow("w")).id for _ in range(before + SLICE + 10)]
        many, ended, done = set(ids[before:]), [], 0

        def see(fact: Fact) -> None:
            nonlocal done
            done += fact.type == FactType.COMPLETED
            completed = fact.type == FactType.STEP and fact.data["status"] == "completed"
            if completed and fact.execution in many:
                ended.append(fact.step)

        app.bus.subscribe(see)
        worker = app.worker()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(worker.run())
            await eventually(lambda: done == len(ids), "all have ended")
            await worker.stop(1_000)
    assert ended == ["a"] * len(many) + ["b"] * len(many)


async def test_a_rush_with_a_small_rest_goes_on_at_once(tmp_path: Path) -> None:
    """Not at the next heartbeat: who waited for all to begin is told when they have."""
    settings = Settings(state_dir=tmp_path, max_concurrent_workflows=2_000)
    async with open_app(settings) as app:
        await app.service.create_workflow({
            "name": "w",
            "steps": [step("a", "set"), step("b", "set")],
        })
        most = FIRST + FIRST * GROWTH + FIRST * GROWTH**2
        ids = [(await app.service.execute_workflow("w")).id for _ in range(most + 5)]
        done = 0

        def see(fact: Fact) -> None:
            nonlocal done
            done += fact.type == FactType.COMPLETED

        app.bus.subscribe(see)
        worker = app.worker()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(worker.run())
            await eventually(lambda: done == len(ids), "all have ended")
            await worker.stop(1_000)


@pytest.mark.parametrize("kind", ["nothing", "a process", "a failure"])
async def test_what_only_waits_keeps_no_other_from_being_taken_on(
    tmp_path: Path, clock: FakeClock, kind: str
) -> None:
    """Whatever it did before it waits: nobody looks for the next one only at the next poll."""
    nap = step("nap", "sleep", inputs={"duration": "30s"})
    retry = {"attempts": 3, "delay": "30s"}
    steps = {
        "nothing": [nap],
        "a process": [step("a", "shell", inputs={"command": "true"}), nap],
        "a failure": [step("a", "fail", inputs={"message": "x"}, retry=retry)],
    }
    settings = Settings(state_dir=tmp_path, max_concurrent_workflows=2)
    async with Store.open(settings.url, monotonic=clock.monotonic) as store:
        app = App(settings, store, clock)
        await app.service.create_workflow({"name": "w", "steps": steps[kind]})
        for _ in range(9):
            await app.service.execute_workflow("w")
        worker = app.worker()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(worker.run())
            await eventually(
                lambda: worker.in_memory == 9 and not worker.busy, "all wait, time stands still"
            )
            await worker.stop(0)
