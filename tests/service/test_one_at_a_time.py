"""What was told to end takes its time, and nothing that comes after it begins beside it."""

from pathlib import Path
from typing import Any

import pytest

from tests.eventually import eventually
from tests.service.test_executions import execute, opened, step, working

RETRY = {"timeout": 800, "on_error": "retry", "retry": {"attempts": 3, "delay": 0}}


def slow_to_end(trace: Path) -> dict[str, Any]:
    """A step that says when it begins and when it has ended, which takes it a while."""
    ending = f"sleep 0.3; echo end >> {trace}; exit 1"
    command = f"trap '{ending}' TERM; echo begin >> {trace}; while :; do sleep 0.02; done"
    return step("slow", "shell", inputs={"command": command})


def holding(kind: str, *steps: dict[str, Any]) -> dict[str, Any]:
    """A step that holds these."""
    match kind:
        case "condition":
            return {"condition": {"expression": "${true}", "then_steps": steps}}
        case "loop":
            return {"loop": {"over": [1], "as": "item", "steps": steps}}
        case _:
            return {"parallel": {"branches": [steps]}}


@pytest.mark.parametrize("kind", ["condition", "loop", "parallel"])
async def test_a_try_begins_when_the_one_before_has_ended(tmp_path: Path, kind: str) -> None:
    """Of all that a step holds: what comes before the slow step waits for it, too."""
    trace = tmp_path / "trace"
    first = step("first", "shell", inputs={"command": f"echo first >> {trace}"})
    async with opened(tmp_path, kill_grace="5s") as app:
        held = holding(kind, first, slow_to_end(trace))
        steps = [{"id": "all", "type": kind, **held, **RETRY}]
        await app.service.create_workflow({"name": "w", "steps": steps})
        view = await execute(app, "w")
        assert view.record.status == "failed"
        assert view.record.error is not None
        assert view.record.error["type"] == "timeout"
    assert trace.read_text().split() == ["first", "begin", "end"] * 3


async def test_a_child_is_created_when_the_one_before_has_ended(tmp_path: Path) -> None:
    """A subflow that took too long is cancelled first, and then the next one begins."""
    trace = tmp_path / "trace"
    async with opened(tmp_path, kill_grace="5s") as app:
        await app.service.create_workflow({"name": "below", "steps": [slow_to_end(trace)]})
        steps = [{"id": "all", "type": "subflow", "subflow": "below", **RETRY}]
        await app.service.create_workflow({"name": "w", "steps": steps})
        assert (await execute(app, "w")).record.status == "failed"
    assert trace.read_text().split() == ["begin", "end"] * 3


@pytest.mark.parametrize("kind", ["action", "subflow"])
async def test_who_goes_back_waits_for_what_it_stops(tmp_path: Path, kind: str) -> None:
    """A step that ran beside the one that failed runs again when it has ended."""
    trace, there = tmp_path / "trace", tmp_path / "there"
    begins = f"until grep -q begin {trace}; do sleep 0.01; done"
    fails = f"if test -e {there}; then exit 0; fi; touch {there}; {begins}; exit 1"
    async with opened(tmp_path, kill_grace="5s") as app, working(app) as worker:
        await app.service.create_workflow({"name": "below", "steps": [slow_to_end(trace)]})
        beside = {"id": "slow", "type": "subflow", "subflow": "below"}
        again = {"depends_on": ["a"], "on_error": "goto", "goto": "a"}
        steps = [
            step("a", "set"),
            {**(slow_to_end(trace) if kind == "action" else beside), "depends_on": ["a"]},
            step("b", "shell", inputs={"command": fails}, **again),
        ]
        await app.service.create_workflow({"name": "w", "steps": steps})
        record = await app.service.execute_workflow("w")
        await eventually(lambda: begun(trace, 2), "it is performed again")
        await app.service.cancel_execution(record.id)
        await eventually(lambda: not worker.in_memory, "it has ended")
    assert trace.read_text().split() == ["begin", "end"] * 2


async def test_who_lets_go_ends_first_what_is_performed(tmp_path: Path) -> None:
    """A commit that was reported as failed and had happened, say: it goes on, not beside itself."""
    trace = tmp_path / "trace"
    async with opened(tmp_path, kill_grace="5s") as app, working(app) as worker:
        await app.service.create_workflow({"name": "w", "steps": [slow_to_end(trace)]})
        record = await app.service.execute_workflow("w")
        await eventually(lambda: begun(trace, 1), "it is performed")
        worker._running[record.id].lost()

        def again() -> bool:
            worker.wake()  # whoever would go on too soon does
            return begun(trace, 2)

        await eventually(again, "it is performed again")
        await app.service.cancel_execution(record.id)
        await eventually(lambda: not worker.in_memory, "it has ended")
    assert trace.read_text().split() == ["begin", "end"] * 2


def begun(trace: Path, times: int) -> bool:
    """Whether the slow step has begun so often."""
    return trace.exists() and trace.read_text().split().count("begin") == times
