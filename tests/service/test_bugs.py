"""A bug ends the execution in which it shows, and no other.

What is broken on purpose is given to the engine from outside: a plan of the catalog's, a clock.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, text, update

from controller.app import App
from controller.clock import Clock, SystemClock, Timer
from controller.core.expression import Template
from controller.core.plan import InputsPlan, Plan
from controller.core.problem import Refused
from controller.execute.running import SLICE
from controller.settings import Settings
from controller.store import Store
from controller.store.records import FINAL, ExecutionRecord
from controller.store.tables import workflow_versions
from tests.eventually import answered
from tests.service.test_executions import opened, statuses, step, working


class _Clock(SystemClock):
    """The machine's, which breaks where something is due within a minute, after so many times."""

    breaks = 1_000_000

    def call_at(self, when: int, callback: Callable[[], None]) -> Timer:
        """As the machine's, or not."""
        if when < self.now() + 60_000:
            self.breaks -= 1
            if self.breaks < 0:
                raise ZeroDivisionError("call_at")
        return super().call_at(when, callback)


@asynccontextmanager
async def _opened(folder: Path, clock: Clock) -> AsyncGenerator[App]:
    """An app that goes by this clock."""
    settings = Settings(state_dir=folder)
    async with Store.open(settings.url, monotonic=clock.monotonic) as store:
        app = App(settings, store, clock)
        try:
            yield app
        finally:
            await app.close()


def _raise(_names: Any) -> Any:
    raise ZeroDivisionError("render")


BROKEN = Template(_raise, "any", frozenset(), constant=False)


async def ended(app: App, execution_id: str) -> ExecutionRecord:
    """The execution when it has ended, which only the worker sees to."""
    ask = partial(app.service.get_execution, execution_id)
    return await answered(ask, lambda record: record.status in FINAL, "it ends")


def _when(plan: Plan, name: str) -> None:
    plan.steps[name].when = BROKEN


def _inputs(plan: Plan, name: str) -> None:
    plan.steps[name].inputs = InputsPlan(BROKEN)


@pytest.mark.parametrize(
    ("breaks", "error", "steps"),
    [
        ("decide", "bug", {"a": "cancelled", "b": "skipped", "c": "skipped"}),
        ("begin", "bug", None),
        ("go on", "bug", {"a": "completed", "b": "cancelled", "c": "skipped"}),
        ("perform", "ZeroDivisionError", {"a": "completed", "b": "failed", "c": "skipped"}),
    ],
)
async def test_a_bug_ends_one_execution(
    tmp_path: Path, breaks: str, error: str, steps: dict[str, str] | None
) -> None:
    """It fails, once; what runs beside it goes on, and what comes after it begins."""
    clock = _Clock()
    async with _opened(tmp_path, clock) as app:
        create = app.service.create_workflow
        hold = f"echo beside >> {tmp_path}/said; until test -e {tmp_path}/go; do sleep 0.02; done"
        await create({"name": "beside", "steps": [step("a", "shell", inputs={"command": hold})]})
        await create({
            "name": "w",
            "steps": [
                step("a", "shell", inputs={"command": f"echo a >> {tmp_path}/said"}),
                step("b", "sleep", inputs={"duration": "50s"}),
                step("c", "set"),
            ],
        })
        beside = await app.service.execute_workflow("beside")
        record = await app.service.execute_workflow("w")
        plan = await app.catalog.plan_of(record)
        clock.breaks = 0 if breaks == "go on" else clock.breaks
        if breaks == "perform":
            _inputs(plan, "b")
        elif breaks != "go on":
            _when(plan, "a" if breaks == "begin" else "b")
        async with working(app):
            found = await ended(app, record.id)
            (tmp_path / "go").touch()
            assert (await ended(app, beside.id)).status == "completed"
        assert (found.status, found.claims) == ("failed", 1)
        assert found.error is not None
        assert (found.error["type"], "ZeroDivisionError" in str(found.error)) == (error, True)
        lines = (tmp_path / "said").read_text().split()
        assert sorted(lines) == sorted(["beside", *(["a"] if steps else [])])
        if steps is not None:
            view = await app.service.get_workflow_status(record.id)
            assert (view.record.status, statuses(view)) == ("failed", steps)


async def test_of_what_no_event_can_be_recorded_the_row_ends(tmp_path: Path) -> None:
    """It fails with what kept it, once; its parent is told, and what is beside it goes on."""
    async with _opened(tmp_path, _Clock()) as app:
        create = app.service.create_workflow
        await create({
            "name": "child",
            "steps": [step("a", "wait_for_signal", inputs={"name": "go"})],
        })
        call = {"id": "call", "type": "subflow", "subflow": "child", "on_error": "continue"}
        await create({"name": "top", "steps": [call, step("b", "set")]})
        trap = text(
            "CREATE TRIGGER trap BEFORE INSERT ON execution_checkpoints WHEN new.execution_id IN"
            " (SELECT id FROM workflow_executions WHERE parent_id NOT NULL)"
            " BEGIN SELECT RAISE(ABORT, 'it is trapped'); END"
        )
        await app.store.write(lambda tx: tx.execute(trap))
        async with working(app):
            beside = await app.service.execute_workflow("child")
            top = await app.service.execute_workflow("top")
            assert (await ended(app, top.id)).status == "completed"
            [found] = [
                each for each in await app.service.list_executions("child") if each.parent_id
            ]
            assert found.error is not None
            assert (found.status, found.error["type"], found.claims) == ("failed", "bug", 1)
            assert "it is trapped" in found.error["message"]
            view = await app.service.get_workflow_status(top.id)
            assert statuses(view) == {"call": "failed", "b": "completed"}
            error = view.steps[0].error
            assert error is not None
            assert error["type"] == "bug"
            await app.service.send_signal(beside.id, "go")
            assert (await ended(app, beside.id)).status == "completed"


async def test_what_a_bug_keeps_from_being_told_is_shown_as_far_as_it_is(tmp_path: Path) -> None:
    """With the problem; it is tried again only where nothing was done that is not known."""
    async with _opened(tmp_path, _Clock()) as app, working(app):
        steps = [step("a", "set"), step("b", "fail", inputs={"message": "no"}), step("c", "set")]
        await app.service.create_workflow({"name": "w", "steps": steps})
        record = await app.service.execute_workflow("w")
        await ended(app, record.id)
        plan = await app.catalog.plan_of(record)
        _when(plan, "b")
        view = await app.service.get_workflow_status(record.id)
        assert statuses(view) == {"a": "running", "b": "pending", "c": "pending"}
        problem = "its steps are shown as before checkpoint 1 of 2: ZeroDivisionError: render"
        assert (view.record.status, view.problem) == ("failed", problem)
        with pytest.raises(Refused, match="cannot be tried again: its steps"):
            await app.service.retry_execution(record.id)

        _when(plan, "a")
        view = await app.service.get_workflow_status(record.id)
        problem = "what its steps did cannot be told: ZeroDivisionError: render"
        assert (set(statuses(view).values()), view.problem) == ({"pending"}, problem)
        begun = await ended(app, (await app.service.execute_workflow("w")).id)
        view = await app.service.get_workflow_status(begun.id)
        assert (view.problem, (view.record.error or {})["type"]) == (problem, "bug")
        again = await app.service.retry_execution(begun.id)
        assert ((await ended(app, again.id)).error or {})["type"] == "bug"


async def test_what_cannot_be_told_takes_no_signal(tmp_path: Path) -> None:
    """It would end by it, and by an answer to an approval; it is still there to be cancelled."""
    async with _opened(tmp_path, _Clock()) as app:
        await app.service.create_workflow({"name": "w", "steps": [step("a", "approval")]})
        async with working(app):
            record = await app.service.execute_workflow("w")
            status = partial(app.service.get_workflow_status, record.id)
            await answered(status, lambda view: view.steps[0].status == "waiting", "it waits")
        _when(await app.catalog.plan_of(record), "a")
        for payload in ({"approved": True}, "yes", None):
            with pytest.raises(Refused, match=r"cannot take a signal: .* ZeroDivision") as caught:
                await app.service.send_signal(record.id, "approval", payload)
            assert caught.value.reason == "unreadable"
        async with working(app):
            assert (await app.service.get_execution(record.id)).completed_at is None
            await app.service.cancel_execution(record.id)
            assert ((await ended(app, record.id)).error or {})["type"] == "bug"


async def test_an_execution_whose_version_cannot_be_read_is_shown(tmp_path: Path) -> None:
    """Its row is, with the problem; a signal to it is refused."""
    async with _opened(tmp_path, _Clock()) as app:
        await app.service.create_workflow({"name": "w", "steps": [step("a", "set")]})
        record = await app.service.execute_workflow("w")
        old = func.replace(workflow_versions.c.content, '"steps"', '"gone"')
        await app.store.write(lambda tx: tx.execute(update(workflow_versions).values(content=old)))
    async with _opened(tmp_path, _Clock()) as app:
        view = await app.service.get_workflow_status(record.id)
        assert (view.record, view.steps) == (record, ())
        assert "does not load any more" in (view.problem or "")
        with pytest.raises(Refused, match=r"cannot take a signal: .* does not load any more"):
            await app.service.send_signal(record.id, "go")


async def test_a_bug_in_a_later_turn_ends_it_too(tmp_path: Path) -> None:
    """What is much to do is done in several turns of the loop, each by itself."""
    clock, many = _Clock(), SLICE + SLICE // 2
    clock.breaks = SLICE + SLICE // 4
    async with _opened(tmp_path, clock) as app:
        nap = step("nap", "sleep", inputs={"duration": "50s"})
        loop = {"over": list(range(many)), "parallel": many, "steps": [nap]}
        wide = {"id": "l", "type": "loop", "loop": loop}
        await app.service.create_workflow({"name": "w", "steps": [wide]})
        async with working(app):
            found = await ended(app, (await app.service.execute_workflow("w")).id)
    assert found.error is not None
    assert (found.error["type"], found.claims) == ("bug", 1)


async def test_a_bug_takes_its_subflows_down_and_tells_its_parent(tmp_path: Path) -> None:
    """The execution that started it fails with it; what it had started itself is cancelled."""
    clock = _Clock()
    async with _opened(tmp_path, clock) as app:
        create = app.service.create_workflow
        await create({
            "name": "leaf",
            "steps": [step("a", "wait_for_signal", inputs={"name": "never"})],
        })
        leaf = {"id": "leaf", "type": "subflow", "subflow": "leaf"}
        go = step("go", "wait_for_signal", depends_on=[], inputs={"name": "go"})
        await create({"name": "mid", "steps": [leaf, go, step("b", "set", depends_on=["go"])]})
        mid = {"id": "mid", "type": "subflow", "subflow": "mid"}
        await create({"name": "top", "steps": [mid]})
        async with working(app):
            top = await app.service.execute_workflow("top")
            [innermost] = await answered(partial(app.service.list_executions, "leaf"), bool)
            [middle] = await app.service.list_executions("mid")
            _when(await app.catalog.plan_of(middle), "b")
            await app.service.send_signal(middle.id, "go")
            over = [await ended(app, each) for each in (innermost.id, middle.id, top.id)]
    assert [each.status for each in over] == ["cancelled", "failed", "failed"]
    assert [(each.error or {}).get("type") for each in over[1:]] == ["bug", "bug"]


ODD = {
    "the steps as text": step("a", "log", inputs={"message": "so far: ${steps}"}),
    "the secrets as text": step("a", "log", inputs={"message": "${secrets} x"}),
    "a list as environment": step("a", "shell", inputs={"command": "x ${l}", "env": "${l}"}),
    "text as environment": step("a", "shell", inputs={"command": "x ${t}", "env": "${t}"}),
    "empty text as environment": step("a", "shell", inputs={"command": "x ${t}", "env": "${e}"}),
}


@pytest.mark.parametrize("name", ODD)
async def test_a_value_that_is_none_fails_its_step(tmp_path: Path, name: str) -> None:
    """With type `expression`, whatever the place it cannot stand at."""
    inputs = [
        {"name": "l", "type": "array", "default": ["A=1"]},
        {"name": "t", "type": "string", "default": "A=1"},
        {"name": "e", "type": "string", "default": ""},
    ]
    async with opened(tmp_path) as app, working(app):
        steps = [step("before", "set"), ODD[name]]
        await app.service.create_workflow({"name": "w", "inputs": inputs, "steps": steps})
        found = await ended(app, (await app.service.execute_workflow("w")).id)
    assert found.error is not None
    assert (found.error["step"], found.error["type"]) == ("a", "expression")


@pytest.mark.parametrize("source", ["all: ${steps}", "${steps}", "${0.0 / 0.0}"])
async def test_an_output_that_is_no_value_fails_the_execution(tmp_path: Path, source: str) -> None:
    """With type `output`; it is not decided again and again."""
    async with opened(tmp_path) as app, working(app):
        outputs = [{"name": "o", "source": source}]
        steps = [step("a", "set", inputs={"x": 1})]
        await app.service.create_workflow({"name": "w", "steps": steps, "outputs": outputs})
        found = await ended(app, (await app.service.execute_workflow("w")).id)
    assert (found.status, found.claims) == ("failed", 1)
    assert found.error is not None
    assert found.error["type"] == "output"
