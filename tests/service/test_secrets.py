"""A secret enters neither the database nor a log, whatever it is given to."""

from pathlib import Path
from typing import Any

import pytest

from controller.app import App
from controller.authoring import InvalidDefinition
from controller.core.expression import Scope, compile_template
from controller.core.plan import InputsPlan
from controller.execute import output
from controller.execute.secrets import SHORTEST, Secrets
from controller.store import ledger
from tests.service.test_executions import execute, opened, step, working

VALUE = "s3cr3t-value"


def kept(folder: Path, **secrets: str) -> Path:
    """A directory of secrets."""
    place = folder / "secrets"
    place.mkdir()
    for name, value in secrets.items():
        (place / name).write_text(f"{value}\n")
    return place


HOLDING = {
    "emit": step("e", "emit", inputs={"event": "x", "data": {"t": "${secrets.TOKEN}"}}),
    "wait_for_signal": step("e", "wait_for_signal", inputs={"name": "${'go' + secrets.TOKEN}"}),
    "approval": step("e", "approval", inputs={"message": "is it ${secrets.TOKEN}?"}),
    "tell": step("e", "tell", inputs={"what": '${secrets["TOKEN"]}'}),
    "child": {
        "id": "e",
        "type": "subflow",
        "subflow": "child",
        "inputs": {"what": "${secrets.TOKEN}"},
    },
}
TELL = """\
kind: action
name: tell
inputs: [{name: what, type: string}]
run: {emit: {event: x, data: {what: "${what}"}}}
---
name: w
steps: [{id: e, type: action, action: tell, inputs: {what: '${secrets["TOKEN"]}'}}]
"""


async def _child(app: App) -> None:
    await app.service.create_workflow({
        "name": "child",
        "inputs": [{"name": "what", "type": "string"}],
        "steps": [step("a", "set")],
    })


@pytest.mark.parametrize("name", HOLDING)
async def test_what_records_its_inputs_is_given_no_secret(tmp_path: Path, name: str) -> None:
    """An author is told, by whatever way it comes there, and at which step."""
    async with opened(tmp_path) as app:
        await _child(app)
        document = TELL if name == "tell" else {"name": "w", "steps": [HOLDING[name]]}
        with pytest.raises(InvalidDefinition) as caught:
            await app.service.create_workflow(document)
        assert [each.code for each in caught.value.diagnostics] == ["misplaced-secret"]
        assert f"`{name}`" in caught.value.diagnostics[0].message


async def test_a_subflow_of_the_same_file_is_given_no_secret(tmp_path: Path) -> None:
    """It is not recorded yet."""
    file = tmp_path / "flows.yaml"
    call = "{id: c, type: subflow, subflow: child, inputs: {what: '${secrets.TOKEN}'}}"
    child = "name: child\ninputs: [{name: what, type: string}]\n"
    action = "steps: [{id: a, type: action, action: set}]\n"
    file.write_text(f"{child}{action}---\nname: w\nsteps: [{call}]\n")
    async with opened(tmp_path / "state") as app:
        found = await app.service.validate_workflow(file)
    assert [each.code for each in found.diagnostics] == ["misplaced-secret"]


async def test_a_secret_may_be_given_to_what_records_nothing(tmp_path: Path) -> None:
    """To a defined action that runs another one."""
    run = "run: {log: {message: '${what}'}}"
    async with opened(tmp_path) as app:
        await app.service.create_workflow(
            TELL.replace('run: {emit: {event: x, data: {what: "${what}"}}}', run)
        )


async def test_a_subflow_recorded_before_is_given_no_secret(tmp_path: Path) -> None:
    """Its step fails, and nothing of the value is recorded."""
    async with opened(tmp_path / "state", secrets_dir=kept(tmp_path, TOKEN=VALUE)) as app:
        await _child(app)
        call = {"id": "c", "type": "subflow", "subflow": "child"}
        await app.service.create_workflow({"name": "w", "steps": [call]})
        record = await app.service.execute_workflow("w")
        plan = await app.catalog.plan_of(record)
        scope = Scope(names={"secrets": "object"})
        template, problems = compile_template({"what": "${secrets.TOKEN}"}, scope, ())
        assert not problems
        plan.steps["c"].inputs = InputsPlan(template)
        view = await app.attend(record.id)
        assert view.record.error is not None
        assert view.record.error["type"] == "expression"
    assert not _recorded(tmp_path / "state")


async def test_what_is_recorded_of_an_action_is_masked(tmp_path: Path) -> None:
    """Data of an event, the name of a signal, the type of a failure."""
    folder = kept(tmp_path, TOKEN=VALUE)
    async with opened(tmp_path / "state", secrets_dir=folder) as app, working(app):
        await app.service.create_workflow({
            "name": "listener",
            "inputs": [{"name": "t", "type": "string"}],
            "triggers": [
                {"type": "event", "config": {"event": "e", "inputs": {"t": "${event.data.t}"}}}
            ],
            "steps": [step("a", "set")],
        })
        command = {"command": ["true"], "env": {"T": "${secrets.TOKEN}"}}
        given = [{"name": "v", "type": "string"}]
        seen = step("seen", "shell", inputs=command)
        steps: dict[str, dict[str, Any]] = {
            "emits": step("e", "emit", inputs={"event": "e", "data": {"t": "is ${v}"}}),
            "fails": step("e", "fail", inputs={"type": "${v}", "message": "${v}"}),
            "waits": step("e", "wait_for_signal", inputs={"name": "${v}", "timeout": 1}),
        }
        views = {}
        for name, each in steps.items():
            document = {"name": name, "inputs": given, "steps": [seen, each]}
            await app.service.create_workflow(document)
            views[name] = await execute(app, name, v=VALUE)
        [listener] = await app.service.list_executions("listener")
        assert listener.inputs == {"t": "is ***"}
        error = views["fails"].record.error
        assert error is not None
        assert (error["type"], error["message"]) == ("***", "***")
        rows = await app.store.read(ledger.checkpoints, views["waits"].record.id)
        assert [each.context["signal"] for each in rows if each.type == "suspended"] == ["***"]


async def test_no_half_of_a_secret_is_told(tmp_path: Path) -> None:
    """Not where a line is cut in pieces, an output ends, or the end of a flood begins."""
    half = len(VALUE) // 2
    line = "x" * (output.LINE - half) + VALUE + "x" * output.LINE + "\n"
    long = "y" * (output.KEPT - half - len(line)) + VALUE + "\n"
    flood = "z" * output.LOGGED + VALUE + "z" * (output.LINE - half)
    (tmp_path / "text").write_text(line + long + flood)
    command = {"command": ["cat", str(tmp_path / "text")], "env": {"T": "${secrets.TOKEN}"}}
    folder = kept(tmp_path, TOKEN=VALUE)
    async with opened(tmp_path / "state", secrets_dir=folder) as app, working(app):
        await app.service.create_workflow({
            "name": "w",
            "steps": [step("a", "shell", inputs=command)],
        })
        view = await execute(app, "w")
        told = [each.message for each in await app.service.execution_logs(view.record.id)]
    outputs = view.steps[0].outputs
    assert outputs is not None
    for text in (outputs["stdout"], "".join(told)):
        assert "***" in text
        assert VALUE[:half] not in text
        assert VALUE[half:] not in text


@pytest.mark.parametrize("secrets", [("aabb",), ("aabb", "bbcc"), ("a" * 40,), ("bbaa", "aab")])
@pytest.mark.parametrize("at", range(2, 40))
def test_a_text_is_cut_beside_secrets(tmp_path: Path, secrets: tuple[str, ...], at: int) -> None:
    """As late as may be, be it that one secret begins within another."""
    known = Secrets(kept(tmp_path, **{f"S{n}": each for n, each in enumerate(secrets)}))
    assert list(known.values()) == [known[name] for name in known]
    text = "xaabbccxxbbaabbccx" + "a" * 40
    across = {
        place
        for each in secrets
        if len(each) >= SHORTEST
        for start in range(len(text))
        if text.startswith(each, start)
        for place in range(start + 1, start + len(each))
    }
    assert known.cut(text.encode(), at) == max(set(range(at + 1)) - across)


@pytest.mark.parametrize("order", [("USER", "PASS"), ("PASS", "USER")])
def test_a_secret_that_begins_another_hides_nothing_less(
    tmp_path: Path, order: tuple[str, str]
) -> None:
    """The longest is replaced first, in whatever order they were read."""
    secrets = Secrets(kept(tmp_path, USER="admin", PASS="admin-9f8e7d"))  # ruff: ignore[hardcoded-password-func-arg]  # made up
    for name in order:
        assert secrets[name]
    assert secrets.mask("admin has admin-9f8e7d") == "*** has ***"


def _recorded(folder: Path) -> bool:
    return any(VALUE.encode() in each.read_bytes() for each in folder.glob("windlass.db*"))
