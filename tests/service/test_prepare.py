"""What a controller does before it executes, and with what another left."""

import sqlite3
from pathlib import Path

import pytest

from controller.app import open_app, run_main
from controller.execute import worker
from controller.execute.taking import take_over
from controller.settings import Settings
from controller.store import ledger
from tests.crash.daemon import Daemon
from tests.eventually import wait_until
from tests.growth.grown import workflow


def test_what_another_controller_had_is_free_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who holds the lock takes what somebody owned: the first go on before all others are free."""
    monkeypatch.setattr(worker, "FIRST", 2)

    async def prepared() -> list[int]:
        async with open_app(Settings(state_dir=tmp_path)) as app:
            await app.service.create_workflow(workflow("w"))
            for _ in range(6):
                await app.service.execute_workflow("w", {})
            now = app.clock.now()
            until = now + 60_000
            await app.store.write(ledger.claim, "another", lease_until=until, now=now, limit=5)
            lock = app.lock("controller")
            with lock.acquire(now):
                return [
                    await app.prepare(lock),
                    await take_over(app.store, app.owner),
                    await app.prepare(lock),
                    await take_over(app.store, app.owner),
                ]

    assert run_main(prepared()) == [2, 3, 0, 0]


def test_all_that_was_left_goes_on(tmp_path: Path) -> None:
    """More than go on at first, of a controller that died while its leases hold for long."""
    (tmp_path / "definitions").mkdir()
    settings, count = Settings(state_dir=tmp_path / ".windlass"), worker.FIRST + 10

    async def leave() -> None:
        async with open_app(settings) as app:
            await app.service.create_workflow(workflow("w"))
            for number in range(count):
                await app.service.execute_workflow("w", {"n": number})
            now, write = app.clock.now(), app.store.write
            until = now + 3_600_000
            left = await write(ledger.claim, "another", lease_until=until, now=now, limit=count)
            assert len(left) == count

    run_main(leave())
    with sqlite3.connect(tmp_path / ".windlass" / "windlass.db") as database:
        query = "SELECT count(*) FROM workflow_executions WHERE status = 'completed'"
        daemon = Daemon(tmp_path).start()
        try:
            wait_until(lambda: database.execute(query).fetchone() == (count,), "all to end")
            said = daemon.log.read_text()
        finally:
            daemon.kill()
    [told] = [line for line in said.splitlines() if "earlier controller go on" in line]
    assert str(count) in told
