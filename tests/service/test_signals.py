"""A signal becomes one event, whatever is under way when it is looked for."""

import asyncio
import threading
from pathlib import Path

import pytest

from controller.app import App
from controller.execute.worker import Worker
from controller.facts import Fact
from controller.store import ledger
from controller.store.identity import new_id
from controller.store.records import CheckpointRecord, SignalRecord
from controller.store.tables import Transaction
from tests.eventually import eventually
from tests.service.test_executions import opened, step

GATES = [step(name, "approval", inputs={"name": "ok"}) for name in ("a", "b")]
APPROVED = {"name": "ok", "payload": {"approved": True}}


class _Slow:
    """The second look that finds a signal is answered when it is let; the journal, too, waits."""

    def __init__(self) -> None:
        self.found: list[bool] = []
        self.answer = threading.Event()
        self.recorded = threading.Event()
        self._look = ledger.signals_for

    def look(self, tx: Transaction, owner: str) -> list[SignalRecord]:
        """Instead of `signals_for`."""
        signals = self._look(tx, owner)
        self.found.append(bool(signals))
        if sum(self.found) > 1 and signals:
            self.answer.wait()
        return signals

    def hang(self, _tx: Transaction) -> None:
        """A verb for the store: nothing is recorded until it is let."""
        self.recorded.wait()

    def let(self) -> None:
        """Wait for nothing any more."""
        self.recorded.set()
        self.answer.set()


async def _approve(app: App, worker: Worker, slow: _Slow, execution: str) -> None:
    """Send one approval, which two looks find before it is recorded: one is answered after that."""
    now, store = app.clock.now(), app.store
    await store.write(
        ledger.add_signal, SignalRecord(new_id(now), execution, "signal", APPROVED, now)
    )
    hanging = asyncio.ensure_future(store.write(slow.hang))
    worker.wake()
    await eventually(lambda: sum(slow.found) == 1, "a look that finds it")
    worker.wake()
    await eventually(lambda: sum(slow.found) == 2, "another look that finds it")
    slow.recorded.set()
    await hanging
    await store.write(lambda _: None)
    slow.answer.set()
    worker.wake()
    await eventually(lambda: not slow.found[-1], "a look that finds nothing")


async def test_one_approval_passes_one_gate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when a look that began before it was recorded is answered after that."""
    slow, waiting = _Slow(), list[str | None]()
    monkeypatch.setattr(ledger, "signals_for", slow.look)

    def waits(fact: Fact) -> None:
        if fact.data.get("status") == "waiting":
            waiting.append(fact.step)

    async with opened(tmp_path) as app:
        app.bus.subscribe(waits)
        await app.service.create_workflow({"name": "w", "steps": [*GATES, step("ship", "set")]})
        record = await app.service.execute_workflow("w")
        worker = app.worker()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(worker.run())
            try:
                await eventually(lambda: waiting == ["a"], "it waits")
                running = worker._running[record.id]
                await _approve(app, worker, slow, record.id)
                await eventually(lambda: waiting == ["a", "b"], "it waits again")
                rows = await _recorded(app, record.id)
                assert worker._running.get(record.id) is running, "nobody let go of it"
            finally:
                slow.let()
                await worker.stop(0)
        assert [each.type for each in rows] == ["suspended", "signal", "suspended"]


async def _recorded(app: App, execution: str) -> list[CheckpointRecord]:
    """Its events, with what waited to be recorded."""
    await app.store.write(lambda _: None)
    return await app.store.read(ledger.checkpoints, execution)
