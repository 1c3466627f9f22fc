"""An execution that is tried again: what it keeps, and from when that counts."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from controller.app import App
from controller.execute.worker import Worker
from controller.facts import Fact
from controller.history import ExecutionView
from tests.eventually import eventually
from tests.fake_clock import FakeClock
from tests.service.place import opened
from tests.service.test_executions import step

HOUR = 3_600_000


class Stage:
    """A worker, and the ends that were told."""

    def __init__(self, app: App, worker: Worker) -> None:
        self.service = app.service
        self.worker = worker
        self.ends: list[tuple[str | None, str]] = []
        app.bus.subscribe(self._tell)
        app.on_ring(worker.wake)

    def _tell(self, fact: Fact) -> None:
        if str(fact.type) in {"completed", "failed"}:
            self.ends.append((fact.execution, str(fact.type)))

    async def ended(self, execution: str, how: str) -> ExecutionView:
        """Wait until its end is told, and nothing of it is in memory."""
        await eventually(lambda: (execution, how) in self.ends, f"it has {how}: {self.ends}")
        await eventually(lambda: self.worker.in_memory == 0, "it has left memory")
        return await self.service.get_workflow_status(execution)


@asynccontextmanager
async def staged(folder: Path, clock: FakeClock, **settings: int) -> AsyncGenerator[Stage]:
    """A worker at work."""
    async with opened(folder, clock, **settings) as place, asyncio.TaskGroup() as tasks:
        worker = place.app.worker()
        tasks.create_task(worker.run())
        try:
            yield Stage(place.app, worker)
        finally:
            await worker.stop(0)


async def test_the_time_of_a_container_begins_with_the_retry(
    tmp_path: Path, clock: FakeClock
) -> None:
    """Hours later its `timeout` has not run out; what was kept is shown at the beginning."""
    check = step("check", "shell", inputs={"command": f"test -e {tmp_path}/open"})
    body = {"branches": [[check]]}
    both = {"id": "both", "type": "parallel", "timeout": "1m", "parallel": body}
    async with staged(tmp_path, clock) as stage:
        await stage.service.create_workflow({"name": "w", "steps": [step("a", "set"), both]})
        first = await stage.service.execute_workflow("w")
        await stage.ended(first.id, "failed")
        (tmp_path / "open").touch()
        clock.jump(2 * HOUR)
        again = await stage.service.retry_execution(first.id)
        view = await stage.ended(again.id, "completed")
        assert {each.started_at for each in view.steps} == {view.record.started_at}
        assert (view.record.started_at or 0) >= (first.created_at + 2 * HOUR)


async def test_a_retry_that_has_nothing_to_do_ends(tmp_path: Path, clock: FakeClock) -> None:
    """All steps are kept, and the output is wrong again: that is told, and it leaves memory."""
    async with staged(tmp_path, clock) as stage:
        await stage.service.create_workflow({
            "name": "w",
            "steps": [step("a", "shell", inputs={"command": "true"})],
            "outputs": [{"name": "o", "type": "integer", "source": "a.stdout"}],
        })
        first = await stage.service.execute_workflow("w")
        await stage.ended(first.id, "failed")
        again = await stage.service.retry_execution(first.id)
        view = await stage.ended(again.id, "failed")
        assert view.record.error == (await stage.service.get_execution(first.id)).error
        assert view.record.completed_at == view.record.started_at


async def test_a_retry_repeats_what_went_back_too_often(tmp_path: Path, clock: FakeClock) -> None:
    """A step that failed with `goto_limit` needs repeating; what led there is forgotten."""
    async with staged(tmp_path, clock, max_gotos=2) as stage:
        check = step("check", "shell", inputs={"command": f"test -e {tmp_path}/open"})
        goto = {"on_error": "goto", "goto": "a"}
        await stage.service.create_workflow({
            "name": "w",
            "steps": [step("a", "set"), check | goto],
        })
        first = await stage.service.execute_workflow("w")
        view = await stage.ended(first.id, "failed")
        assert (view.record.error or {})["type"] == "goto_limit"
        (tmp_path / "open").touch()
        again = await stage.service.retry_execution(first.id)
        view = await stage.ended(again.id, "completed")
        assert [(each.key, each.attempt) for each in view.steps] == [("a", 1), ("check", 1)]
