"""Events that executions emit, and who listens."""

from pathlib import Path
from typing import Any

from tests.service.test_executions import execute, opened, step, working

HEARD = [{"type": "event", "config": {"event": "e"}}]
EMITS = step("e", "emit", inputs={"event": "e"})


def listener(name: str, **more: Any) -> dict[str, Any]:
    """A workflow that an event starts."""
    return {"name": name, "triggers": HEARD, "steps": [step("a", "set")], **more}


async def test_who_emits_does_not_depend_on_who_listens(tmp_path: Path) -> None:
    """One that cannot be started is left out, and said in the log; the others are started."""
    async with opened(tmp_path) as app, working(app):
        create = app.service.create_workflow
        missing = {"event": "e", "inputs": {"must": "${event.data.missing}"}}
        must = [{"name": "must", "type": "string", "required": True}]
        await create(listener("alpha"))
        await create(listener("beta", inputs=must, triggers=[{"type": "event", "config": missing}]))
        wait = step("w", "wait_for_signal", inputs={"name": "go"})
        full = {"max": 1, "on_full": "skip"}
        await create(listener("full", concurrency=full, steps=[wait]))
        await create(listener("gamma"))
        await create({"name": "off", "status": "inactive", "triggers": HEARD, "steps": [wait]})
        await app.service.execute_workflow("full")
        await create({"name": "w", "steps": [EMITS]})
        view = await execute(app, "w")
        assert view.record.status == "completed"
        names = ("alpha", "beta", "full", "gamma", "off")
        counts = {name: len(await app.service.list_executions(name)) for name in names}
        assert counts == {"alpha": 1, "beta": 0, "full": 1, "gamma": 1, "off": 0}
        said = [each for each in await app.service.execution_logs(view.record.id) if each.step_id]
        assert {each.level for each in said} == {"warn"}
        assert [
            name for name in ("beta", "full") for each in said if repr(name) in each.message
        ] == ["beta", "full"]


TELL = """\
kind: action
name: tell
outputs: [{name: never}]
run: {emit: {event: e}}
---
name: w
steps:
  - {id: a, type: action, action: set}
  - id: e
    type: action
    action: tell
    retry: {attempts: 3, delay: 1, then: goto}
    on_error: retry
    goto: a
"""
"""What emits fails after it has: it does not give what it declares."""


async def test_a_retry_emits_nothing_new(tmp_path: Path) -> None:
    """To go back to the step is another visit, and another event."""
    async with opened(tmp_path, max_gotos=2) as app, working(app):
        await app.service.create_workflow(listener("alpha"))
        await app.service.create_workflow(TELL)
        view = await execute(app, "w")
        assert (view.record.error or {})["type"] == "goto_limit"
        assert view.steps[-1].attempt == 9
        assert len(await app.service.list_executions("alpha")) == 3
