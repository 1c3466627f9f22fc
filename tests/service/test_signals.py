"""A signal becomes one event, whatever is under way when it is looked for."""

import asyncio
import threading
from functools import partial
from pathlib import Path

import pytest

from controller.facts import Fact
from controller.store import ledger
from controller.store.identity import new_id
from controller.store.records import SignalRecord
from controller.store.tables import Transaction
from tests.eventually import eventually
from tests.service.test_executions import opened, step


async def test_one_approval_passes_one_gate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when a look that began before it was recorded is answered after that."""
    seen: list[list[SignalRecord]] = []
    waiting: list[str | None] = []
    recorded, answer, look = threading.Event(), threading.Event(), ledger.signals_for

    def slow(tx: Transaction, owner: str) -> list[SignalRecord]:
        signals = look(tx, owner)
        seen.append(signals)
        if signals and signals in seen[:-1]:
            answer.wait()
        return signals

    def found(times: int) -> bool:
        return sum(map(bool, seen)) == times

    def waits(fact: Fact) -> None:
        if fact.data.get("status") == "waiting":
            waiting.append(fact.step)

    def hang(_tx: Transaction) -> None:
        recorded.wait()

    monkeypatch.setattr(ledger, "signals_for", slow)
    async with opened(tmp_path) as app:
        gates = [step(name, "approval", inputs={"name": "ok"}) for name in ("a", "b")]
        await app.service.create_workflow({"name": "w", "steps": [*gates, step("ship", "set")]})
        record = await app.service.execute_workflow("w")
        worker, store = app.worker(), app.store
        app.bus.subscribe(waits)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(worker.run())
            try:
                await eventually(lambda: waiting == ["a"], "it waits")
                payload = {"name": "ok", "payload": {"approved": True}}
                now = app.clock.now()
                sent = SignalRecord(new_id(now), record.id, "signal", payload, now)
                await store.write(ledger.add_signal, sent)
                hanging = asyncio.ensure_future(store.write(hang))
                for looks in (1, 2):
                    worker.wake()
                    await eventually(partial(found, looks), "a look that finds it")
                recorded.set()
                await hanging
                await store.write(lambda _: None)
                answer.set()
                worker.wake()
                await eventually(lambda: not seen[-1], "a look that finds nothing")
                await eventually(lambda: waiting == ["a", "b"], "it waits again")
                await store.write(lambda _: None)
                rows = await store.read(ledger.checkpoints, record.id)
            finally:
                recorded.set()
                answer.set()
                await worker.stop(0)
    assert [each.type for each in rows] == ["suspended", "signal", "suspended"]
