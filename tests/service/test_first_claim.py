"""A controller that starts: what was left goes on, then all else begins."""

import asyncio
from pathlib import Path

from controller.app import open_app
from controller.execute.worker import Worker
from controller.settings import Settings
from tests.service.test_executions import step


async def _first(worker: Worker) -> int:
    """How many it holds when the others may begin."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(worker.run())
        await worker.first.wait()
        held = worker.in_memory
        await worker.stop(1_000)
    return held


async def test_what_was_left_has_begun_when_the_others_may_begin(tmp_path: Path) -> None:
    """It does not wait for them, nor for what they import."""
    async with open_app(Settings(state_dir=tmp_path)) as app:
        await app.service.create_workflow({"name": "w", "steps": [step("a", "set")]})
        await app.service.execute_workflow("w")
        assert await _first(app.worker()) == 1


async def test_a_database_that_is_away_keeps_nobody_from_beginning(tmp_path: Path) -> None:
    """So there is somebody to say that it is away."""
    async with open_app(Settings(state_dir=tmp_path)) as app:
        worker = app.worker()
    assert await _first(worker) == 0
