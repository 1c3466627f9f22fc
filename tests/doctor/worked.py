"""A database that has seen real work, of every kind: made once, and copied for each test."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from controller.app import App, open_app
from controller.settings import Settings
from controller.store.records import ExecutionRecord
from tests.growth.grown import leaving_soon, until, working

Step = dict[str, Any]

LONG = "3650d"


def action(step_id: str, called: str, /, **inputs: Any) -> Step:
    """A step that does one thing."""
    return {"id": step_id, "type": "action", "action": called, "inputs": inputs}


def _workflow(name: str, *steps: Step, **more: Any) -> dict[str, Any]:
    return {"name": name, "timeout": LONG, "steps": list(steps), **more}


GO = action("gate", "wait_for_signal", name="go")
SCHEDULES = [
    {"type": "scheduled", "config": {"cron": "0 * * * *"}},
    {"type": "scheduled", "config": {"cron": "*/7 3-9 * * *", "timezone": "Europe/Berlin"}},
    {"type": "scheduled", "config": {"cron": "*/5 * * * *", "jitter": "20m"}},
    {"type": "scheduled", "config": {"cron": "30 2 * * *", "paused": True}},
    {"type": "scheduled", "config": {"at": "2999-01-01T00:00:00Z"}},
    {"type": "scheduled", "config": {"at": "2001-01-01T00:00:00Z"}},
]

WORKFLOWS = [
    _workflow(
        "plain",
        action("one", "set", length="${size(who)}"),
        action("two", "log", message="hello ${who}"),
        inputs=[{"name": "who", "type": "string", "default": "world"}],
        outputs=[{"name": "length", "type": "integer", "source": "one.length"}],
    ),
    _workflow(
        "everything",
        {"id": "each", "type": "loop",
         "loop": {"over": [1, 2, 3], "as": "item", "parallel": 2,
                  "steps": [action("inner", "set", item="${item}"),
                            action("odd", "set", half="${item / 2}")]}},
        {"id": "both", "type": "parallel",
         "parallel": {"branches": [[action("left", "set", x=1)], [action("right", "set", y=1.5)]]}},
        {"id": "whether", "type": "condition",
         "condition": {"expression": "${1 > 2}",
                       "then_steps": [action("never", "fail", message="no")],
                       "else_steps": [action("always", "set", z="ü ☃")]}},
        action("again", "fail", message="not yet") | {
            "on_error": "retry", "retry": {"attempts": 2, "delay": 1, "backoff": "constant"}},
        error_handler=action("tidy", "set", tidied=True),
    ),
    _workflow("failing", action("fine", "set", x=1), action("bad", "fail", message="no luck")),
    _workflow("going-on", action("bad", "fail", message="no luck") | {"on_error": "continue"}),
    _workflow("waiting", action("before", "set", x=1), GO, action("after", "set", y=2)),
    _workflow("sleeping", action("nap", "sleep", duration="3000d"), action("after", "set", y=2)),
    _workflow("asking", action("ask", "approval", message="well?")),
    _workflow("single", GO, concurrency={"max": 1, "on_full": "queue"}),
    _workflow("child", GO, outputs=[{"name": "said", "source": "gate.payload"}]),
    _workflow("parent", {"id": "sub", "type": "subflow", "subflow": "child"}),
    _workflow("queueing", {"id": "sub", "type": "subflow", "subflow": "single"}),
    _workflow("scheduled", action("one", "set", x=1), triggers=SCHEDULES),
]  # fmt: skip


async def work(settings: Settings) -> dict[str, str]:
    """Do it; the executions by what has become of them."""
    ids: dict[str, str] = {}
    async with open_app(settings) as app:
        for each in WORKFLOWS:
            await app.service.create_workflow(each)
        with leaving_soon():
            async with working(app):
                await _work(app, ids)
        ids["pending"] = await _execute(app, "plain")
        ids["cancelled-pending"] = await _execute(app, "plain")
        await app.service.cancel_execution(ids["cancelled-pending"])
        retried = await app.service.retry_execution(ids["failed"])
        ids["retrying"] = retried.id
    return ids


async def _execute(app: App, workflow: str, **inputs: Any) -> str:
    return (await app.service.execute_workflow(workflow, inputs)).id


async def _work(app: App, ids: dict[str, str]) -> None:
    for name, workflow in {
        "completed": "plain",
        "everything": "everything",
        "failed": "failing",
        "went-on": "going-on",
        "waiting": "waiting",
        "answered": "waiting",
        "sleeping": "sleeping",
        "cancelled": "sleeping",
        "paused": "waiting",
        "resumed": "sleeping",
        "asking": "asking",
        "single": "single",
        "parent": "parent",
        "done": "parent",
        "queueing": "queueing",
    }.items():
        ids[name] = await _execute(app, workflow)
    for name in ("waiting", "answered", "sleeping", "cancelled", "paused", "resumed", "asking"):
        await until(app, ids[name], _parked)
    for name in ("single", "parent", "done", "queueing"):
        await until(app, ids[name], _parked)
    await app.service.send_signal(ids["answered"], "go", {"x": [1, None]})
    await app.service.cancel_execution(ids["cancelled"])
    await app.service.pause_execution(ids["paused"])
    await app.service.pause_execution(ids["resumed"])
    children = {name: await _child(app, ids[name]) for name in ("parent", "done", "queueing")}
    ids |= {f"child of {name}": child for name, child in children.items()}
    await until(app, ids["child of done"], _parked)
    await app.service.send_signal(ids["child of done"], "go", "well")
    for name in ("paused", "resumed"):
        await until(app, ids[name], partial(_is, "paused"))
        await until(app, ids[name], _parked)
    await app.service.resume_execution(ids["resumed"])
    await until(app, ids["resumed"], partial(_is, "running"))
    ended = {"failed": "failed", "everything": "failed", "cancelled": "cancelled"}
    for name in ("completed", "went-on", "answered", "done", "child of done", *ended):
        await until(app, ids[name], partial(_is, ended.get(name, "completed")))
    for name in ("resumed", "child of parent"):
        await until(app, ids[name], _parked)
    ids["retried"] = (await app.service.retry_execution(ids["everything"])).id
    await until(app, ids["retried"], partial(_is, "failed"))


async def _child(app: App, parent: str) -> str:
    [child] = [each for each in await _all(app) if each.parent_id == parent]
    return child.id


async def _all(app: App) -> list[ExecutionRecord]:
    return await app.service.list_executions(limit=1_000)


def _parked(record: ExecutionRecord) -> bool:
    return record.wake_at is not None


def _is(status: str, record: ExecutionRecord) -> bool:
    return record.status == status


async def go_on(settings: Settings, ids: Mapping[str, str]) -> dict[str, str]:
    """Let everything end that can: answer, resume, cancel what sleeps; id → status."""
    wishes: dict[str, Callable[[App, str], Any]] = {
        "waiting": _signal, "single": _signal, "child of parent": _signal,
        "child of queueing": _signal, "paused": _resume, "sleeping": _cancel, "resumed": _cancel,
        "asking": _approve,
    }  # fmt: skip
    async with open_app(settings) as app, working(app) as worker:
        for name, wish in wishes.items():
            record = await app.service.get_execution(ids[name])
            if record.status in {"pending", "running", "paused"}:
                await wish(app, ids[name])
        worker.wake()
        for name in ids:
            await until(app, ids[name], lambda record: record.completed_at is not None)
        return {each.id: each.status for each in await _all(app)}


async def _signal(app: App, execution: str) -> None:
    await app.service.send_signal(execution, "go", "go")


async def _approve(app: App, execution: str) -> None:
    await app.service.send_signal(execution, "ask", {"approved": True})


async def _resume(app: App, execution: str) -> None:
    await app.service.send_signal(execution, "go", "go")
    await app.service.resume_execution(execution)


async def _cancel(app: App, execution: str) -> None:
    await app.service.cancel_execution(execution)
