"""How many executions of a workflow there are at once, whoever wants another one."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from controller.admission import Wish, admit, derived_id
from controller.authoring import InvalidDefinition
from controller.core.concurrency import concurrency_key
from controller.core.content import workflow_in
from controller.core.problem import Refused
from controller.store import ledger
from tests.eventually import answered
from tests.service.test_bugs import ended
from tests.service.test_executions import execute, opened, statuses, step, working

WAIT = step("w", "wait_for_signal", inputs={"name": "go"})
ALONE: dict[str, Any] = {"max": 1, "on_full": "skip"}


async def test_a_subflow_without_a_place_fails_its_step(tmp_path: Path) -> None:
    """With type `concurrency-full`; `on_error` and `retry` are asked as for any failure."""
    async with opened(tmp_path) as app, working(app):
        create = app.service.create_workflow
        await create({"name": "child", "concurrency": ALONE, "steps": [WAIT]})
        call = {"id": "c", "type": "subflow", "subflow": "child"}
        await create({"name": "stops", "steps": [call]})
        await create({"name": "goes-on", "steps": [call | {"on_error": "continue"}]})
        retry = {"attempts": 1_000, "delay": 20, "backoff": "constant", "on": ["concurrency-full"]}
        await create({"name": "tries", "steps": [call | {"retry": retry}]})
        first = await app.service.execute_workflow("child")
        stopped = await ended(app, (await app.service.execute_workflow("stops")).id)
        assert stopped.error is not None
        assert (stopped.error["step"], stopped.error["type"]) == ("c", "concurrency-full")
        went_on = await app.service.execute_workflow("goes-on")
        assert (await ended(app, went_on.id)).status == "completed"
        assert statuses(await app.service.get_workflow_status(went_on.id)) == {"c": "failed"}
        tries = await app.service.execute_workflow("tries")
        await app.service.send_signal(first.id, "go")
        await ended(app, first.id)
        ask = partial(app.service.list_executions, "child")
        children = await answered(ask, lambda found: found[0].id != first.id)
        await app.service.send_signal(children[0].id, "go")
        assert (await ended(app, tries.id)).status == "completed"
        assert children[0].parent_id == tries.id


async def test_a_key_sees_the_inputs_and_the_workflow(tmp_path: Path) -> None:
    """Executions with another value of it do not count together."""
    async with opened(tmp_path) as app:
        for number, key in enumerate(("${env}", "${workflow.name + '-' + inputs.env}")):
            await app.service.create_workflow({
                "name": f"w{number}",
                "inputs": [{"name": "env", "type": "string"}],
                "concurrency": ALONE | {"key": key},
                "steps": [WAIT],
            })
            keys = {
                (await app.service.execute_workflow(f"w{number}", {"env": env})).concurrency_key
                for env in ("x", "y")
            }
            assert len(keys) == 2
            with pytest.raises(Refused):
                await app.service.execute_workflow(f"w{number}", {"env": "x"})
        one = {"name": "one", "concurrency": ALONE | {"key": "${workflow.name}"}, "steps": [WAIT]}
        await app.service.create_workflow(one)
        assert (await app.service.execute_workflow("one")).concurrency_key == "one:one"


@pytest.mark.parametrize(
    ("key", "code"),
    [
        ("${execution.id}", "unknown-name"),
        ("${trigger.type + 'x'}", "unknown-name"),
        ("${steps.w.status}", "unknown-name"),
        ("${workflow.nmae}", "unknown-name"),
        ("${inputs.env}", "unknown-name"),
        ("${secrets.TOKEN}", "misplaced-secret"),
    ],
)
async def test_a_key_that_could_have_no_value_is_no_key(
    tmp_path: Path, key: str, code: str
) -> None:
    """What is not there before the execution is an error of the definition."""
    async with opened(tmp_path) as app:
        document = {"name": "w", "concurrency": ALONE | {"key": key}, "steps": [WAIT]}
        with pytest.raises(InvalidDefinition) as caught:
            await app.service.create_workflow(document)
        assert [each.code for each in caught.value.diagnostics] == [code]


@pytest.mark.parametrize("key", ["${execution.id}", "${execution.id + 'x'}", "${secrets.TOKEN}"])
def test_a_key_of_an_earlier_version_without_a_value_refuses(key: str) -> None:
    """It was recorded when more names were taken for known."""
    document = {"name": "w", "concurrency": ALONE | {"key": key}, "steps": [WAIT]}
    with pytest.raises(Refused) as caught:
        concurrency_key(workflow_in({"workflow": document}), {})
    assert caught.value.reason == "concurrency-key"


async def test_what_is_there_already_needs_no_place(tmp_path: Path) -> None:
    """Whoever wants it again is told that it exists, though it has ended and others have its place.

    Nobody is cancelled for it either.
    """
    async with opened(tmp_path) as app:
        for on_full in ("skip", "cancel_oldest"):
            await app.service.create_workflow({
                "name": on_full,
                "concurrency": ALONE | {"on_full": on_full},
                "steps": [step("a", "set")],
            })
            wish = Wish(derived_id(on_full), on_full, {}, {"type": "manual"}, app.clock.now())
            admission = await app.gate.check(wish)
            assert await app.store.write(admit, admission) == "created"
            await app.attend(wish.id)
            other = await app.service.execute_workflow(on_full)
            assert await app.store.write(admit, admission) == "exists"
            assert (await app.service.get_execution(other.id)).status == "pending"


async def test_a_retry_without_a_place_is_refused(tmp_path: Path) -> None:
    """As executing it is, with nothing in the audit log; it is created when there is a place."""
    async with opened(tmp_path) as app:
        await app.service.create_workflow({
            "name": "w",
            "inputs": [{"name": "bad", "type": "boolean", "default": False}],
            "concurrency": ALONE,
            "steps": [step("a", "set"), step("f", "fail", when="${bad}")],
        })
        failed = await execute(app, "w", bad=True)
        other = await app.service.execute_workflow("w")
        with pytest.raises(Refused) as caught:
            await app.service.retry_execution(failed.record.id)
        assert caught.value.reason == "concurrency-full"
        await app.attend(other.id)
        again = await app.service.retry_execution(failed.record.id)
        rows = await app.store.read(ledger.checkpoints, again.id)
        assert [each.step_id for each in rows] == ["a"]
        audits = [each for each in await app.store.read(ledger.audits) if each.verb == "retry"]
        detail = {"execution": again.id, "of": failed.record.id}
        assert [each.detail for each in audits] == [detail]
