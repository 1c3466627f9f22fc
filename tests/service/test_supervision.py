"""A loop of the controller that fails by a bug: told, and begun again after a pause."""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import text

from controller.app import App
from controller.daemon import Daemon
from tests.eventually import answered, eventually
from tests.fake_clock import FakeClock
from tests.service.place import flow, opened

TRAP = (
    "CREATE TRIGGER trap BEFORE UPDATE ON workflow_executions"
    " BEGIN SELECT RAISE(ABORT, 'trapped'); END"
)
"""Nothing can be claimed any more."""


@asynccontextmanager
async def _failed(folder: Path, clock: FakeClock) -> AsyncGenerator[App]:
    """A controller whose worker has just failed; it is told to stop in the end."""
    async with opened(folder, clock, http_address="127.0.0.1:0") as place:
        place.write("w.yaml", flow("w"))
        daemon, ready = Daemon(place.app), asyncio.Event()
        running = asyncio.ensure_future(daemon.run(lambda _: ready.set()))
        await ready.wait()
        await place.app.store.write(lambda tx: tx.execute(text(TRAP)))
        await place.app.service.execute_workflow("w")
        await eventually(lambda: "worker" in str(daemon.health.report()), "the loop has failed")
        try:
            yield place.app
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            await running


async def test_what_failed_begins_again_after_a_pause(tmp_path: Path, clock: FakeClock) -> None:
    """And does what it could not do."""
    async with _failed(tmp_path, clock) as app:
        await app.store.write(lambda tx: tx.execute(text("DROP TRIGGER trap")))
        await clock.advance(1_000)
        await answered(partial(app.service.list_executions, "w", "completed"), bool)


@pytest.mark.timeout(20)
async def test_a_stop_ends_the_pause(tmp_path: Path, clock: FakeClock) -> None:
    """However long that is: the clock stands still."""
    async with _failed(tmp_path, clock):
        pass
