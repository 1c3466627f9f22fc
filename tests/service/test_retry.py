"""An execution that is tried again: what it keeps, and from when that counts."""

import asyncio
import operator
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from controller.app import App
from controller.core.problem import NotFound
from controller.execute.worker import Worker
from controller.facts import Fact
from controller.history import ExecutionView
from controller.store import ledger
from controller.store.tables import Transaction
from tests.eventually import answered, eventually
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


def _note(tmp_path: Path, step_id: str, then: str = "true", **more: Any) -> dict[str, Any]:
    """A step that leaves a trace, and then does something."""
    command = f"echo {step_id} >> {tmp_path}/trace; {then}"
    return step(step_id, "shell", inputs={"command": command}, **more)


def _traced(tmp_path: Path) -> list[str]:
    """What was performed since this was asked."""
    trace = tmp_path / "trace"
    found = trace.read_text().split()
    trace.write_text("")
    return found


async def _ended(stage: Stage, clock: FakeClock, execution: str) -> None:
    """Wait until it has failed, and let what is due at once be."""
    over = partial(operator.contains, stage.ends, (execution, "failed"))
    await answered(lambda: clock.advance(0), lambda _: over())


async def test_what_a_container_was_tried_for_is_not_played_again(
    tmp_path: Path, clock: FakeClock
) -> None:
    """Its tries begin anew, without a wait; what completed in the last of them is kept."""
    first = f"test -e {tmp_path}/tried || {{ touch {tmp_path}/tried; exit 1; }}"
    a, b = _note(tmp_path, "a", first), _note(tmp_path, "b", f"test -e {tmp_path}/open")
    both = {"id": "both", "type": "parallel", "parallel": {"branches": [[a, b]]}}
    retry = {"retry": {"attempts": 2, "delay": 0}}
    async with staged(tmp_path, clock) as stage:
        await stage.service.create_workflow({"name": "w", "steps": [both | retry]})
        old = await stage.service.execute_workflow("w")
        await _ended(stage, clock, old.id)
        assert _traced(tmp_path) == ["a", "a", "b"]
        again = await stage.service.retry_execution(old.id)
        await _ended(stage, clock, again.id)
        assert _traced(tmp_path) == ["b", "a", "b"]
        (tmp_path / "open").touch()
        view = await stage.ended((await stage.service.retry_execution(old.id)).id, "completed")
        assert _traced(tmp_path) == ["b"]
        assert {each.attempt for each in view.steps} == {1}


async def test_a_failure_that_was_answered_keeps_what_came_after_it(
    tmp_path: Path, clock: FakeClock
) -> None:
    """Of a container that may fail, neither what failed in it nor what followed is repeated."""
    may: dict[str, Any] = {"id": "may", "type": "parallel", "on_error": "continue"}
    may["parallel"] = {"branches": [[_note(tmp_path, "x", "false")]]}
    steps = [may, _note(tmp_path, "mail"), _note(tmp_path, "last", f"test -e {tmp_path}/open")]
    async with staged(tmp_path, clock) as stage:
        await stage.service.create_workflow({"name": "w", "steps": steps})
        old = await stage.service.execute_workflow("w")
        await stage.ended(old.id, "failed")
        assert _traced(tmp_path) == ["x", "mail", "last"]
        (tmp_path / "open").touch()
        await stage.ended((await stage.service.retry_execution(old.id)).id, "completed")
        assert _traced(tmp_path) == ["last"]


async def test_of_what_was_done_again_the_last_is_kept(tmp_path: Path, clock: FakeClock) -> None:
    """After a `goto` back, a retry from behind it goes on with what the last visit gave."""
    give = f'printf \'{{"n": %d}}\' $(wc -l < {tmp_path}/trace) > "$WINDLASS_OUTPUTS"'
    make = _note(tmp_path, "make", give, outputs=["n"])
    see = 'test "${n}" -ge 3; echo "{\\"seen\\": ${n}}" > "$WINDLASS_OUTPUTS"'
    check = step("check", "shell", inputs={"command": see}, on_error="goto", goto="make")
    async with staged(tmp_path, clock) as stage:
        steps = [_note(tmp_path, "one"), make, check]
        outputs = [{"name": "seen", "source": "check.seen"}]
        await stage.service.create_workflow({"name": "w", "steps": steps, "outputs": outputs})
        old = await stage.service.execute_workflow("w")
        view = await stage.ended(old.id, "completed")
        assert (_traced(tmp_path), view.record.outputs) == (["one", "make", "make"], {"seen": 3})
        again = await stage.service.retry_execution(old.id, from_step="check")
        view = await stage.ended(again.id, "completed")
        assert (_traced(tmp_path), view.record.outputs) == ([], {"seen": 3})


async def test_an_approval_is_for_one_step(tmp_path: Path, clock: FakeClock) -> None:
    """What was said of a step that is done again is said anew, whatever it shares its name with."""
    gates = [step(name, "approval", inputs={"name": "ok"}) for name in ("first", "second")]
    gate = _note(tmp_path, "last", f"test -e {tmp_path}/open")
    async with staged(tmp_path, clock) as stage:
        service = stage.service
        await service.create_workflow({"name": "w", "steps": [*gates, gate]})
        old = await service.execute_workflow("w")
        for _ in gates:
            await service.send_signal(old.id, "ok", {"approved": True})
        await stage.ended(old.id, "failed")
        (tmp_path / "open").touch()
        again = await service.retry_execution(old.id, from_step="second")
        await answered(lambda: service.get_workflow_status(again.id), _waits("second"))
        await service.send_signal(again.id, "ok", {"approved": True})
        await stage.ended(again.id, "completed")


def _waits(key: str) -> Callable[[ExecutionView], bool]:
    """Whether the step waits for a signal."""
    return lambda view: any(each.key == key and each.reason == "signal" for each in view.steps)


async def test_the_error_handler_of_a_retry_runs(tmp_path: Path, clock: FakeClock) -> None:
    """Where the retry fails too, though all that the first one did is kept."""
    async with staged(tmp_path, clock) as stage:
        await stage.service.create_workflow({
            "name": "w",
            "steps": [_note(tmp_path, "a")],
            "outputs": [{"name": "o", "type": "integer", "source": "a.stdout"}],
            "error_handler": _note(tmp_path, "sorry"),
        })
        old = await stage.service.execute_workflow("w")
        await stage.ended(old.id, "failed")
        assert _traced(tmp_path) == ["a", "sorry"]
        await stage.ended((await stage.service.retry_execution(old.id)).id, "failed")
        assert _traced(tmp_path) == ["sorry"]


async def test_what_was_paused_before_it_began_keeps_its_steps(
    tmp_path: Path, clock: FakeClock
) -> None:
    """Their first attempt is not the one that was taken back."""
    steps = [_note(tmp_path, "a"), _note(tmp_path, "b", "false")]
    async with opened(tmp_path, clock) as place:
        await place.app.service.create_workflow({"name": "w", "steps": steps})
        old = await place.app.service.execute_workflow("w")
        await place.app.service.pause_execution(old.id)
    async with staged(tmp_path, clock) as stage:
        await answered(
            lambda: stage.service.get_execution(old.id), lambda it: it.status == "paused"
        )
        await stage.service.resume_execution(old.id)
        await stage.ended(old.id, "failed")
        assert _traced(tmp_path) == ["a", "b"]
        await stage.ended((await stage.service.retry_execution(old.id)).id, "failed")
        assert _traced(tmp_path) == ["b"]


async def test_what_is_being_pruned_is_not_done_again(tmp_path: Path, clock: FakeClock) -> None:
    """With some of its checkpoints gone, or all of them, nobody knows what was done."""
    async with staged(tmp_path, clock) as stage:
        service, store = stage.service, stage.service._store
        say = step("a", "shell", inputs={"command": f"echo a >> {tmp_path}/said"})
        await service.create_workflow({"name": "w", "steps": [say, step("b", "fail")]})
        record = await service.execute_workflow("w")
        await stage.ended(record.id, "failed")
        lines, events = len(await service.execution_logs(record.id)), 2
        for rows in (lines + 1, events - 1):
            assert await store.write(ledger.remove, [record.id], rows) == rows
            with pytest.raises(NotFound, match="is pruned"):
                await service.retry_execution(record.id)
        assert len(await service.list_executions("w")) == 1


async def test_an_end_without_its_beginning_is_not_tried_again(
    tmp_path: Path, clock: FakeClock
) -> None:
    """It was cancelled by force, and what came before that is pruned: it could be anything."""
    async with staged(tmp_path, clock) as stage:
        service, store = stage.service, stage.service._store
        wait = step("b", "wait_for_signal", inputs={"name": "go"})
        await service.create_workflow({"name": "w", "steps": [step("a", "set"), wait]})
        record = await service.execute_workflow("w")

        async def events() -> list[str]:
            return [each.type for each in await store.read(ledger.checkpoints, record.id)]

        await answered(events, lambda found: found == ["completed", "suspended"])
        await service.cancel_execution(record.id, force=True)
        await answered(events, lambda found: found == ["completed", "suspended", "cancel"])
        assert await store.write(ledger.remove, [record.id], 2) == 2
        assert await events() == ["cancel"]
        with pytest.raises(NotFound, match="is pruned"):
            await service.retry_execution(record.id)


async def test_what_is_pruned_while_it_is_tried_again_is_not_found(
    tmp_path: Path, clock: FakeClock
) -> None:
    """It was there when it was looked at, and is gone when the new one is to be recorded."""
    async with staged(tmp_path, clock) as stage:
        service, store = stage.service, stage.service._store
        await service.create_workflow({"name": "w", "steps": [step("b", "fail")]})
        record = await service.execute_workflow("w")
        await stage.ended(record.id, "failed")
        admit, go = threading.Event(), threading.Event()

        def prune(tx: Transaction) -> int:
            admit.set()
            go.wait()
            return ledger.remove(tx, [record.id])

        pruning = asyncio.ensure_future(store.write(prune))
        await eventually(admit.is_set, "it is about to be pruned")
        trying = asyncio.ensure_future(service.retry_execution(record.id))
        await eventually(lambda: store.waiting == 1, "the new one waits for the writer")
        go.set()
        assert await pruning > 0
        with pytest.raises(NotFound, match="is pruned"):
            await trying
        assert await service.list_executions("w") == []
