"""Executions from wish to end, through the service, on a real database with real actions."""

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from controller.admission import InvalidInputs
from controller.app import App, open_app
from controller.authoring import InvalidDefinition
from controller.backfill import Backfill
from controller.core.problem import NotFound, Refused
from controller.history import ExecutionView
from controller.settings import Settings
from controller.store import ledger
from tests.eventually import eventually

if TYPE_CHECKING:
    from controller.execute.worker import Worker
    from controller.facts import Fact


@asynccontextmanager
async def opened(folder: Path, **settings: Any) -> AsyncGenerator[App]:
    """An app on a state directory of the test's own."""
    async with open_app(Settings(state_dir=folder, **settings)) as app:
        yield app


@asynccontextmanager
async def working(app: App) -> AsyncGenerator["Worker"]:
    """A worker for everything, as the daemon has one."""
    worker = app.worker()
    app._ringers.append(worker.wake)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(worker.run())
        try:
            yield worker
        finally:
            await worker.stop(1_000)


async def execute(app: App, workflow: str, **inputs: Any) -> ExecutionView:
    """Execute and wait for the end."""
    record = await app.service.execute_workflow(workflow, inputs)
    return await app.attend(record.id)


def step(step_id: str, action: str, **more: Any) -> dict[str, Any]:
    """A step that calls an action."""
    return {"id": step_id, "type": "action", "action": action, **more}


def statuses(view: ExecutionView) -> dict[str, str]:
    """Steps by key."""
    return {each.key: each.status for each in view.steps}


async def test_outputs_come_from_steps(tmp_path: Path) -> None:
    """A value goes from the inputs through a shell and an expression to the outputs, typed."""
    async with opened(tmp_path) as app:
        await app.service.create_workflow({
            "name": "sum",
            "inputs": [{"name": "n", "type": "integer", "required": True}],
            "steps": [
                step("say", "shell", inputs={"command": 'printf %s "${n}"'}),
                step("add", "set", inputs={"total": "${int(stdout) + n}"}),
            ],
            "outputs": [{"name": "total", "type": "integer", "source": "add.total"}],
        })
        view = await execute(app, "sum", n=21)
        assert (view.record.status, view.record.outputs) == ("completed", {"total": 42})


async def test_inputs_are_checked_before_an_execution_exists(tmp_path: Path) -> None:
    """A missing, an unknown and a wrong input are all named, and nothing is recorded."""
    async with opened(tmp_path) as app:
        inputs = [
            {"name": "must", "type": "string", "required": True},
            {"name": "count", "type": "integer"},
        ]
        await app.service.create_workflow({
            "name": "w",
            "inputs": inputs,
            "steps": [step("a", "set")],
        })
        with pytest.raises(InvalidInputs) as caught:
            await app.service.execute_workflow("w", {"cuont": 1, "count": "x"})
        assert {each.code for each in caught.value.problems} == {
            "missing-input",
            "unknown-input",
            "wrong-type",
        }
        assert await app.service.list_executions() == []


async def test_a_subflow_is_an_execution_of_its_own(tmp_path: Path) -> None:
    """It is linked both ways, its outputs become variables, and its failure is the step's."""
    async with opened(tmp_path) as app:
        await app.service.create_workflow({
            "name": "child",
            "inputs": [{"name": "n", "type": "integer"}],
            "steps": [step("double", "set", inputs={"twice": "${n * 2}"})],
            "outputs": [{"name": "twice", "type": "integer", "source": "double.twice"}],
        })
        call = {"id": "call", "type": "subflow", "subflow": "child", "inputs": {"n": 4}}
        await app.service.create_workflow({
            "name": "parent",
            "steps": [call, step("keep", "set", inputs={"got": "${twice}"})],
            "outputs": [{"name": "got", "source": "keep.got"}],
        })
        view = await execute(app, "parent")
        assert view.record.outputs == {"got": 8}, view.record.error
        [child] = await app.service.list_executions("child")
        assert (child.parent_id, child.parent_step, child.root_id) == (
            view.record.id,
            "call",
            view.record.id,
        )


async def test_a_failure_runs_the_error_handler_once(tmp_path: Path) -> None:
    """The handler sees what failed; the execution fails with the first error."""
    async with opened(tmp_path) as app:
        heard = {"message": "${error.step}: ${error.type}"}
        await app.service.create_workflow({
            "name": "w",
            "steps": [
                step("bad", "fail", inputs={"message": "no", "type": "mine"}),
                step("after", "set"),
            ],
            "error_handler": step("handle", "log", inputs=heard),
        })
        view = await execute(app, "w")
        assert view.record.status == "failed"
        assert view.record.error is not None
        assert (view.record.error["step"], view.record.error["type"]) == ("bad", "mine")
        assert statuses(view) == {"bad": "failed", "after": "skipped", "handle": "completed"}
        lines = await app.service.execution_logs(view.record.id)
        assert [each.message for each in lines if each.step_id == "handle"] == ["bad: mine"]


async def test_a_failed_step_is_retried_as_it_says(tmp_path: Path) -> None:
    """Three tries of a step that fails twice: the third completes it."""
    async with opened(tmp_path) as app:
        trace = tmp_path / "trace"
        count = f"echo x >> {trace}; test $(wc -l < {trace}) -ge 3"
        retry = {"attempts": 3, "delay": 1, "backoff": "constant"}
        await app.service.create_workflow({
            "name": "w",
            "steps": [
                step("flaky", "shell", inputs={"command": count}, on_error="retry", retry=retry)
            ],
        })
        view = await execute(app, "w")
        assert (view.record.status, view.steps[0].attempt) == ("completed", 3)


async def test_a_timeout_ends_a_process_and_its_children(tmp_path: Path) -> None:
    """A step over its timeout fails with type `timeout`, soon, whatever it started."""
    async with opened(tmp_path) as app:
        slow = step("slow", "shell", inputs={"command": "sleep 60 & sleep 60"}, timeout=50)
        await app.service.create_workflow({"name": "w", "steps": [slow]})
        view = await execute(app, "w")
        assert view.record.error is not None
        assert view.record.error["type"] == "timeout"
        assert (view.record.duration or 0) < 5_000


async def test_a_branch_that_is_not_taken_again_is_not_shown(tmp_path: Path) -> None:
    """It went back: of the pass before, nothing is seen, and all steps shown have settled."""
    async with opened(tmp_path) as app:
        then = [step("first", "set", inputs={"seen": 1})]
        once = {"expression": "${steps.a.attempt == 1}", "then_steps": then, "else_steps": []}
        check = f"test -e {tmp_path}/there || {{ touch {tmp_path}/there; exit 1; }}"
        await app.service.create_workflow({
            "name": "w",
            "steps": [
                step("a", "set"),
                {"id": "once", "type": "condition", "condition": once},
                step("b", "shell", inputs={"command": check}, on_error="goto", goto="a"),
            ],
            "outputs": [{"name": "seen", "source": "first.seen"}],
        })
        view = await execute(app, "w")
        assert view.record.outputs == {"seen": None}
        assert statuses(view) == dict.fromkeys(("a", "once", "b"), "completed")


async def test_a_retry_keeps_what_completed(tmp_path: Path) -> None:
    """`retry` of a failed execution is a new one that performs the failed step and what follows."""
    async with opened(tmp_path) as app:
        note = "echo {0} >> {1}/trace"
        await app.service.create_workflow({
            "name": "w",
            "steps": [
                step("first", "shell", inputs={"command": note.format("first", tmp_path)}),
                step("gate", "shell", inputs={"command": f"test -e {tmp_path}/open"}),
                step("last", "shell", inputs={"command": note.format("last", tmp_path)}),
            ],
        })
        failed = await execute(app, "w")
        assert failed.record.status == "failed"
        (tmp_path / "open").touch()
        record = await app.service.retry_execution(failed.record.id)
        again = await app.attend(record.id)
        assert again.record.status == "completed", again.record.error
        assert (tmp_path / "trace").read_text().split() == ["first", "last"]
        assert again.record.attempt_of == failed.record.id
        whole = await app.service.retry_execution(again.record.id, from_step="first")
        assert (await app.attend(whole.id)).record.status == "completed"
        assert (tmp_path / "trace").read_text().split() == ["first", "last"] * 2


async def test_cancelling_ends_what_runs(tmp_path: Path) -> None:
    """A graceful cancel asks the process to stop; forced, it is killed; both end `cancelled`."""
    async with opened(tmp_path) as app, working(app):
        trap = 'trap "" TERM; echo begun; while :; do sleep 0.1; done'
        await app.service.create_workflow({
            "name": "deaf",
            "steps": [step("a", "shell", inputs={"command": trap})],
        })
        await app.service.create_workflow({
            "name": "soft",
            "steps": [step("a", "shell", inputs={"command": "exec sleep 60"})],
        })
        for workflow, force in (("soft", False), ("deaf", True)):
            record = await app.service.execute_workflow(workflow)
            await _until(app, record.id, "running")
            await app.service.cancel_execution(record.id, force=force)
            view = await app.attend(record.id)
            assert view.record.status == "cancelled"
            assert statuses(view) == {"a": "cancelled"}


async def _until(app: App, execution_id: str, status: str) -> None:
    """Wait until its first step has this status."""
    views: list[ExecutionView] = []

    async def look() -> None:
        views.append(await app.service.get_workflow_status(execution_id))

    def there() -> bool:
        tasks.append(asyncio.ensure_future(look()))
        return bool(views) and views[-1].steps[0].status == status

    tasks: list[asyncio.Future[None]] = []
    await eventually(there, f"the step is {status}")
    await asyncio.gather(*tasks)


async def test_a_paused_execution_goes_on_when_resumed(tmp_path: Path) -> None:
    """Paused, no new step starts, and it leaves memory; resumed, it completes."""
    async with opened(tmp_path) as app, working(app):
        steps = [step("wait", "wait_for_signal", inputs={"name": "go"}), step("after", "set")]
        await app.service.create_workflow({"name": "w", "steps": steps})
        record = await app.service.execute_workflow("w")
        await app.service.pause_execution(record.id)
        assert (await app.attend(record.id)).record.status == "paused"
        await app.service.send_signal(record.id, "go", {"x": 1})
        await app.service.resume_execution(record.id)
        view = await app.attend(record.id)
        while view.record.status == "paused":
            view = await app.attend(record.id)
        assert statuses(view) == {"wait": "completed", "after": "completed"}


async def test_what_is_paused_before_it_began_does_nothing(tmp_path: Path) -> None:
    """When its turn comes, no step is performed; resumed, each is, and none is `interrupted`."""
    async with opened(tmp_path) as app, working(app):
        note = step("note", "shell", inputs={"command": f"echo ${{n}} >> {tmp_path}/trace"})
        await app.service.create_workflow({
            "name": "w",
            "inputs": [{"name": "n", "type": "integer"}],
            "concurrency": {"max": 1},
            "steps": [
                note | {"idempotent": False},
                step("wait", "wait_for_signal", inputs={"name": "go"}),
            ],
        })
        first = await app.service.execute_workflow("w", {"n": 1})
        second = await app.service.execute_workflow("w", {"n": 2})
        await app.service.pause_execution(second.id)
        await app.service.send_signal(first.id, "go")
        assert (await app.attend(first.id)).record.status == "completed"
        view = await app.attend(second.id)
        assert (view.record.status, statuses(view)["note"]) == ("paused", "pending")
        await app.service.send_signal(second.id, "go")
        await app.service.resume_execution(second.id)
        view = await app.attend(second.id, until={"completed", "failed"})
        assert view.record.status == "completed", view.record.error
        assert (tmp_path / "trace").read_text().split() == ["1", "2"]


async def test_what_runs_when_it_is_paused_is_done_once(tmp_path: Path) -> None:
    """It finishes meanwhile, and is not begun again when the execution is resumed."""
    trace, open_ = tmp_path / "trace", tmp_path / "open"
    command = f"echo x >> {trace}; while ! test -e {open_}; do sleep 0.02; done"
    async with opened(tmp_path) as app, working(app):
        await app.service.create_workflow({
            "name": "w",
            "steps": [step("a", "shell", inputs={"command": command})],
        })
        record = await app.service.execute_workflow("w")
        await eventually(trace.exists, "it runs")
        await app.service.pause_execution(record.id)
        view = await app.attend(record.id)
        assert (view.record.status, statuses(view)) == ("paused", {"a": "running"})
        await app.service.resume_execution(record.id)
        open_.touch()
        view = await app.attend(record.id, until={"completed", "failed"})
        assert [(each.status, each.attempt) for each in view.steps] == [("completed", 1)]
        assert trace.read_text().split() == ["x"]


async def test_an_approval_refused_fails_its_step(tmp_path: Path) -> None:
    """`approved: false` fails the step with type `rejected`, and says who."""
    async with opened(tmp_path) as app, working(app):
        await app.service.create_workflow({
            "name": "w",
            "steps": [step("ask", "approval", inputs={"name": "ship"})],
        })
        record = await app.service.execute_workflow("w")
        await app.service.send_signal(record.id, "ship", {"approved": False, "by": "somebody"})
        view = await app.attend(record.id)
        assert view.record.error is not None
        assert view.record.error["type"] == "rejected"


@pytest.mark.parametrize(
    "payload", [None, {}, True, [], {"approved": "false"}, {"approved": 1}, {"aproved": False}]
)
async def test_nothing_but_an_approval_approves(tmp_path: Path, payload: Any) -> None:
    """What is no answer is refused while the step waits, and rejects when it was sent before."""
    async with opened(tmp_path) as app:
        ask = step("ask", "approval", inputs={"name": "ship"})
        steps = [step("gate", "wait_for_signal", inputs={"name": "go"}), ask, step("ship", "set")]
        await app.service.create_workflow({"name": "early", "steps": steps})
        await app.service.create_workflow({"name": "w", "steps": steps[1:]})
        early = await app.service.execute_workflow("early")
        await app.service.send_signal(early.id, "ship", payload)
        await app.service.send_signal(early.id, "go")
        record = await app.service.execute_workflow("w")
        async with working(app):
            view = await app.attend(early.id)
            assert view.record.error is not None
            assert view.record.error["type"] == "rejected"
            assert statuses(view)["ship"] == "skipped"
            await _until(app, record.id, "waiting")
            with pytest.raises(Refused, match="'ask' waits for an approval"):
                await app.service.send_signal(record.id, "ship", payload)
            await app.service.send_signal(record.id, "ship", {"approved": True})
            assert (await app.attend(record.id)).record.status == "completed"


async def test_an_event_starts_those_who_wait_for_it(tmp_path: Path) -> None:
    """`emit` starts a workflow with an event trigger, once, with inputs from the event's data."""
    async with opened(tmp_path) as app, working(app):
        await app.service.create_workflow({
            "name": "listener",
            "inputs": [{"name": "file", "type": "string"}],
            "triggers": [
                {
                    "type": "event",
                    "config": {"event": "arrived", "inputs": {"file": "${event.data.name}"}},
                }
            ],
            "steps": [step("a", "set", inputs={"got": "${file}"})],
            "outputs": [{"name": "got", "source": "a.got"}],
        })
        data = {"event": "arrived", "data": {"name": "x.csv"}}
        await app.service.create_workflow({"name": "w", "steps": [step("e", "emit", inputs=data)]})
        assert (await execute(app, "w")).record.status == "completed"
        [started] = await app.service.list_executions("listener")
        view = await app.attend(started.id)
        assert view.record.outputs == {"got": "x.csv"}


async def test_steps_have_their_directories_where_the_settings_say(tmp_path: Path) -> None:
    """And nothing in the state directory; one that cannot be made is named."""
    scratch = tmp_path / "elsewhere"
    for command in ("pwd", ["pwd"]):
        async with opened(tmp_path / "state", scratch_dir=scratch) as app, working(app):
            steps = [step("a", "shell", inputs={"command": command})]
            await app.service.create_workflow({"name": f"w{len(command)}", "steps": steps})
            [shown] = (await execute(app, f"w{len(command)}")).steps
            assert (shown.outputs or {})["stdout"].startswith(f"{scratch}/home-")
    assert not (tmp_path / "state" / "scratch").exists()
    assert list(scratch.iterdir()) == []
    (tmp_path / "file").write_text("")
    async with opened(tmp_path / "state", scratch_dir=tmp_path / "file" / "x") as app, working(app):
        [shown] = (await execute(app, "w1")).steps
    assert shown.error is not None
    assert shown.error["type"] == "spawn"
    assert str(tmp_path / "file") in shown.error["message"]


async def test_a_secret_reaches_the_action_and_nothing_else(tmp_path: Path) -> None:
    """Its value is in the process's environment, and `***` in outputs, log and database."""
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "TOKEN").write_text("s3cr3t-value\n")
    async with opened(tmp_path / "state", secrets_dir=secrets) as app:
        command = f'printf %s "$T" > {tmp_path}/seen; echo "$T"'
        await app.service.create_workflow({
            "name": "w",
            "steps": [
                step("a", "shell", inputs={"command": command, "env": {"T": "${secrets.TOKEN}"}})
            ],
            "outputs": [{"name": "out", "source": "a.stdout"}],
        })
        view = await execute(app, "w")
        assert (tmp_path / "seen").read_text() == "s3cr3t-value"
        assert view.record.outputs == {"out": "***\n"}
        lines = await app.service.execution_logs(view.record.id)
        assert [each.message for each in lines] == ["***"]
    for file in (tmp_path / "state").glob("windlass.db*"):
        assert b"s3cr3t-value" not in file.read_bytes()


async def test_a_secret_is_masked_as_json_has_it(tmp_path: Path) -> None:
    """Quotes, backslashes and other letters are escaped there, in one way or the other."""
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    value = 'pä"ss\\word99'
    (secrets / "TOKEN").write_text(f"{value}\nsecond\tline\n")
    escaped = json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]
    async with opened(tmp_path / "state", secrets_dir=secrets) as app:
        code = (
            "import json, os\n"
            "for each in (os.environ['T'], os.environ['T'].splitlines()):\n"
            "    for ascii_only in (True, False):\n"
            "        print(json.dumps({'pw': each}, ensure_ascii=ascii_only))\n"
        )
        command = ["python3", "-c", code]
        inputs = {"command": command, "env": {"T": "${secrets.TOKEN}"}}
        await app.service.create_workflow({
            "name": "w",
            "steps": [step("a", "shell", inputs=inputs)],
            "outputs": [{"name": "out", "source": "a.stdout"}],
        })
        view = await execute(app, "w")
        told = [each.message for each in await app.service.execution_logs(view.record.id)]
        assert told == ['{"pw": "***"}'] * 2 + ['{"pw": ["***", "***"]}'] * 2
        assert view.record.outputs == {"out": "".join(f"{each}\n" for each in told)}
    for file in (tmp_path / "state").glob("windlass.db*"):
        content = file.read_bytes()
        assert not any(form.encode() in content for form in escaped)


async def test_facts_are_the_seeds_events(tmp_path: Path) -> None:
    """created, executed and completed are heard, in this order, by an embedding program."""
    heard: list[Fact] = []
    async with opened(tmp_path) as app:
        app.service.subscribe(heard.append)
        await app.service.create_workflow({"name": "w", "steps": [step("a", "set")]})
        await execute(app, "w")
    kinds = [str(each.type) for each in heard if each.type != "step"]
    assert kinds == ["created", "executed", "completed"]


async def test_wrong_definitions_are_refused_with_their_places(tmp_path: Path) -> None:
    """Nothing is recorded, and each problem has a line."""
    async with opened(tmp_path) as app:
        text = "name: w\nsteps:\n  - id: a\n    type: action\n    action: nothing\n"
        with pytest.raises(InvalidDefinition) as caught:
            await app.service.create_workflow(text)
        assert [(each.line, each.code) for each in caught.value.diagnostics] == [
            (5, "unknown-action")
        ]
        with pytest.raises(NotFound):
            await app.service.get_workflow("w")


async def test_a_name_is_taken_once(tmp_path: Path) -> None:
    """Creating a name again is refused; updating and deleting what one created is not."""
    async with opened(tmp_path) as app:
        one = {"name": "w", "steps": [step("a", "set")]}
        first = await app.service.create_workflow(one)
        with pytest.raises(Refused):
            await app.service.create_workflow(one)
        changed = await app.service.update_workflow("w", one | {"description": "other"})
        assert changed.digest != first.digest
        await app.service.delete_workflow("w")
        with pytest.raises(Refused):
            await app.service.execute_workflow("w")


async def test_an_execution_is_created_with_its_audit_record(tmp_path: Path) -> None:
    """One transaction has both; a wish that is refused is in neither."""
    async with opened(tmp_path) as app:
        concurrency = {"max": 1, "on_full": "skip"}
        workflow = {"name": "w", "steps": [step("a", "set")], "concurrency": concurrency}
        await app.service.create_workflow(workflow)
        before = app.store.commits
        record = await app.service.execute_workflow("w")
        assert app.store.commits == before + 1
        assert record == await app.service.get_execution(record.id)
        with pytest.raises(Refused):
            await app.service.execute_workflow("w")
        audits = await app.store.read(ledger.audits)
        assert [(each.verb, each.detail) for each in audits if each.verb == "execute"] == [
            ("execute", {"execution": record.id})
        ]


async def test_concurrency_holds(tmp_path: Path) -> None:
    """With `max: 1` and `on_full: skip`, a second execution is refused while one has not ended."""
    async with opened(tmp_path) as app:
        await app.service.create_workflow({
            "name": "w",
            "concurrency": {"max": 1, "on_full": "skip"},
            "steps": [step("a", "set")],
        })
        first = await app.service.execute_workflow("w")
        with pytest.raises(Refused):
            await app.service.execute_workflow("w")
        await app.attend(first.id)
        assert (await execute(app, "w")).record.status == "completed"


async def test_a_long_sleep_leaves_memory_and_wakes(tmp_path: Path) -> None:
    """Waiting longer than a minute parks the execution: no owner, and a time to wake."""
    async with opened(tmp_path) as app, working(app):
        await app.service.create_workflow({
            "name": "w",
            "steps": [step("nap", "sleep", inputs={"duration": "1h"})],
        })
        record = await app.service.execute_workflow("w")
        found: list[Any] = []

        def parked() -> bool:
            found.append(asyncio.ensure_future(app.service.get_execution(record.id)))
            done = [each for each in found if each.done()]
            return bool(done) and done[-1].result().wake_at is not None

        await eventually(parked, "parked")
        row = await app.service.get_execution(record.id)
        assert row.owner is None
        await app.service.cancel_execution(record.id)
        assert (await app.attend(record.id)).record.status == "cancelled"


async def test_a_webhook_executes_once_for_each_signed_delivery(tmp_path: Path) -> None:
    """A wrong signature is refused; the same delivery twice is one execution, with its data."""
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "HOOK").write_text("shared")
    async with opened(tmp_path / "state", secrets_dir=secrets) as app:
        config = {"secret": "HOOK", "inputs": {"ref": "${event.data.ref}"}}
        await app.service.create_workflow({
            "name": "deploy",
            "inputs": [{"name": "ref", "type": "string"}],
            "triggers": [{"type": "webhook", "config": config}],
            "steps": [step("a", "set", inputs={"got": "${ref}"})],
            "outputs": [{"name": "got", "source": "a.got"}],
        })
        body = b'{"ref": "main"}'
        good = "sha256=" + hmac.new(b"shared", body, hashlib.sha256).hexdigest()
        receive = app.service.receive_webhook
        for wrong in (None, "sha256=00", good[:-1]):
            with pytest.raises(Refused, match="signed"):
                await receive("deploy", body, signature=wrong, delivery="1")
        first = await receive("deploy", body, signature=good, delivery="1")
        again = await receive("deploy", body, signature=good, delivery="1")
        assert first.id == again.id
        assert (await app.attend(first.id)).record.outputs == {"got": "main"}


DEEP = json.loads('{"a":' * 300 + "1" + "}" * 300)


@pytest.mark.parametrize("value", [float("inf"), "\ud800", DEEP], ids=["inf", "half", "deep"])
async def test_inputs_that_cannot_be_recorded_are_refused(tmp_path: Path, value: Any) -> None:
    """Whoever gives them: no number, no text, too deep. A step that does fails and says so."""
    async with opened(tmp_path) as app:
        create, inputs = app.service.create_workflow, [{"name": "x", "type": "object"}]
        await create({"name": "child", "inputs": inputs, "steps": [step("a", "set")]})
        with pytest.raises(InvalidInputs, match="cannot be recorded"):
            await app.service.execute_workflow("child", {"x": {"in": value}})
        given = {"inputs": {"x": {"in": "${0.0 / 0.0}"}}}
        call = {"id": "call", "type": "subflow", "subflow": "child"} | given
        await create({"name": "w", "steps": [call]})
        view = await execute(app, "w")
        assert (view.record.error or {})["type"] == "invalid-inputs"
        assert await app.service.list_executions("child") == []


@pytest.mark.parametrize("limit", [0, -1])
async def test_nothing_is_not_asked_for(tmp_path: Path, limit: int) -> None:
    """Whoever asks for less than one is told so, wherever a number is taken."""
    async with opened(tmp_path) as app:
        service = app.service
        asked: list[Callable[[], Any]] = [
            lambda: service.list_executions(limit=limit),
            lambda: service.page_executions(limit=limit),
            lambda: service.execution_logs("e", limit=limit),
            lambda: service.next_fires("w", count=limit),
            lambda: asyncio.to_thread(service.next_fires_of, "@daily", count=limit),
            lambda: service.backfill(Backfill(0, 1, workflow="w", limit=limit)),
            lambda: app.sources.history(limit=limit),
        ]
        for ask in asked:
            with pytest.raises(Refused, match=f"at least 1, and not {limit}"):
                await ask()
