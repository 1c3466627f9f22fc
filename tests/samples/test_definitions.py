"""The samples are what a stranger copies first: each must be right, whole and as documented."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.core.compile import check_action, check_triggers, compile_plan
from controller.core.content import action_signature
from controller.core.definition import Action, Workflow
from controller.core.plan import Signature
from controller.core.policy import Policy
from controller.execute.action import BUILT_IN
from controller.source.parse import Document, ParsedFile, parse

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = ROOT / "definitions"
FILES = sorted(SAMPLES.rglob("*.yaml"))
SEED = SAMPLES / "example-workflow.yaml"
NOW = 1_767_225_600_000  # 2026-01-01T00:00:00Z
COMMAND = re.compile(r"windlass workflows:execute --id (\S+)(?: --params '([^']*)')?")


def _name(path: Path) -> str:
    return path.relative_to(SAMPLES).as_posix()


def _parsed(path: Path) -> ParsedFile:
    return parse(_name(path), path.read_bytes())


def _documents() -> Iterator[Document]:
    for path in FILES:
        yield from _parsed(path).documents


def _workflows() -> dict[str, Workflow]:
    found = (document.definition for document in _documents())
    return {one.name: one for one in found if isinstance(one, Workflow)}


def _actions() -> dict[str, Action]:
    found = (document.definition for document in _documents())
    return {one.name: one for one in found if isinstance(one, Action)}


def _commands() -> list[tuple[str, str, str]]:
    """Every command the samples and their page tell to try: where, workflow, inputs as JSON."""
    return [
        (_name(path), found[1], found[2] or "{}")
        for path in [*FILES, SAMPLES / "README.md"]
        for found in COMMAND.finditer(path.read_text())
    ]


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_every_sample_parses_without_a_problem(path: Path) -> None:
    """No file of the samples has an error or a warning."""
    problems = [problem.render() for problem in _parsed(path).problems]
    assert problems == [], "\n".join(problems)


def test_the_seed_workflow_is_as_printed() -> None:
    """`example-workflow.yaml` is the block of the seed's page, byte for byte."""
    assert SEED.read_bytes() == (ROOT / "tests/seed/example-workflow.yaml").read_bytes()


def test_every_name_is_defined_once() -> None:
    """No two documents define the same workflow or the same action."""
    names = [(document.data.get("kind"), document.data["name"]) for document in _documents()]
    assert len(names) == len(set(names))


def test_every_sample_compiles() -> None:
    """Actions, subflows, names, types, order and schedules are right, all samples together."""
    actions = {name: action_signature(action) for name, action in _actions().items()}
    subflows = {
        name: Signature(name, workflow.inputs, workflow.outputs)
        for name, workflow in _workflows().items()
    }
    problems = []
    for document in _documents():
        match document.definition:
            case Workflow() as workflow:
                known = {**BUILT_IN, **actions}
                found = compile_plan(workflow, known, subflows, Policy(), "digest")[1]
                found += check_triggers(workflow, NOW)
            case Action() as action:
                found = check_action(action, BUILT_IN)
            case _:
                found = []
        problems += [document.locate(problem).render() for problem in found]
    assert problems == [], "\n".join(problems)


def test_every_defined_action_is_used() -> None:
    """Nothing in the samples is left over."""
    used = {step.action for workflow in _workflows().values() for step in workflow.all_steps()}
    assert _actions().keys() <= used


@pytest.mark.parametrize("path", [path for path in FILES if path != SEED], ids=_name)
def test_every_sample_tells_the_editor_its_schema(path: Path) -> None:
    """The first line points at the schema from where the file is; a few more say what it is."""
    first, *rest = path.read_text().splitlines()
    target = first.removeprefix("# yaml-language-server: $schema=")
    schema = (path.parent / target).resolve()
    comment = [line for line in rest[:7] if line.startswith("#")]
    assert schema == ROOT / "docs/definition.schema.json"
    assert 2 <= len(comment) <= 6


@pytest.mark.parametrize("action", _actions().values(), ids=lambda action: action.name)
def test_python_of_an_action_takes_the_declared_inputs(action: Action) -> None:
    """`main` has exactly the inputs that the action declares."""
    if action.run.kind != "python":
        return
    mains = [
        node
        for node in ast.parse(action.run.script or "").body
        if isinstance(node, ast.FunctionDef) and node.name == "main"
    ]
    assert [[argument.arg for argument in main.args.args] for main in mains] == [
        [parameter.name for parameter in action.inputs]
    ]


@pytest.mark.parametrize(("place", "workflow", "params"), _commands())
def test_every_command_to_try_fits_its_workflow(place: str, workflow: str, params: str) -> None:
    """A command in a comment or on the page names a sample and gives inputs that it takes."""
    inputs = {one.name: one for one in _workflows()[workflow].inputs}
    given = json.loads(params).keys()
    assert given <= inputs.keys(), place
    assert {name for name, one in inputs.items() if one.required} <= given, place


def test_the_page_lists_every_sample() -> None:
    """`definitions/README.md` has a row for each workflow, and a way to try it."""
    page = (SAMPLES / "README.md").read_text()
    rows = set(re.findall(r"^\| \[`([^`]+)`\]", page, re.MULTILINE))
    tried = {workflow for place, workflow, _ in _commands() if place == "README.md"}
    names = _workflows().keys()
    assert rows >= names
    assert tried == names
