"""What a controller does before it executes."""

from pathlib import Path

from controller.app import open_app, run_main
from controller.settings import Settings
from controller.store import ledger
from tests.growth.grown import workflow


def test_what_another_controller_had_is_free_and_counted(tmp_path: Path) -> None:
    """Who holds the lock takes all that somebody owned, and says how much: it goes on first."""

    async def prepared() -> tuple[int, int]:
        async with open_app(Settings(state_dir=tmp_path)) as app:
            await app.service.create_workflow(workflow("w"))
            for _ in range(3):
                await app.service.execute_workflow("w", {})
            now = app.clock.now()
            until = now + 60_000
            await app.store.write(ledger.claim, "another", lease_until=until, now=now, limit=2)
            lock = app.lock("controller")
            with lock.acquire(now):
                return await app.prepare(lock), await app.prepare(lock)

    assert run_main(prepared()) == (2, 0)
