"""What a controller does before it executes."""

from pathlib import Path

import pytest

from controller.app import open_app, run_main
from controller.execute import worker
from controller.execute.taking import take_over
from controller.settings import Settings
from controller.store import ledger
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
