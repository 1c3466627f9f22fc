"""What is counted in time that passed goes on when somebody sets the wall clock."""

import asyncio
from pathlib import Path

import pytest

from controller.execute.worker import POLL
from tests.eventually import eventually
from tests.fake_clock import FakeClock
from tests.service.place import flow, opened

HOUR = 3_600_000


@pytest.mark.parametrize("set_by", [-HOUR, HOUR])
async def test_the_worker_looks_by_itself(tmp_path: Path, clock: FakeClock, set_by: int) -> None:
    """What nobody rang for is found within the poll, wherever the clock is set meanwhile."""
    heard: list[str] = []
    async with opened(tmp_path, clock) as place, asyncio.TaskGroup() as tasks:
        place.write("w.yaml", flow("w"))
        await place.reconcile()
        place.app.service.subscribe(lambda event: heard.append(event.type))
        worker = place.app.worker()
        tasks.create_task(worker.run())
        await eventually(clock.pending, "it waits")
        await place.app.service.execute_workflow("w")
        clock.jump(set_by)
        await clock.advance(POLL)
        await eventually(lambda: "completed" in heard, "the execution is found")
        await worker.stop(0)
