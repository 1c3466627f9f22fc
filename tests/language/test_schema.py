"""The schema for editors, and the page of codes, against what is really accepted."""

import ast
import json
import re
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from controller.core.definition import Action, Workflow
from controller.core.diagnose import CODES
from controller.core.document import load_document
from controller.core.schema import DIALECT, definition_schema
from controller.source.parse import parse
from tests.language.codes import FILES, WITHOUT_A_FILE
from tests.sources import ROOT, text, tree

PAGE = ROOT / "docs" / "diagnostics.md"
READING = (
    "core/checks.py", "core/diagnose.py", "core/document.py", "core/inputs.py",
    "source/parse.py", "source/snapshot.py", "source/yaml12.py",
)  # fmt: skip
"""The modules that `CODES` speaks for."""

MAKERS = {"Problem", "Flaw", "Refusal", "_flaw", "of_file", "end"}
"""What is called with a code."""

SAMPLES = [ROOT / "tests/seed/example-workflow.yaml", *sorted(ROOT.glob("definitions/**/*.yaml"))]
VALIDATOR = Draft202012Validator(definition_schema())
STEP: dict[str, Any] = {"id": "a", "type": "action", "action": "log"}


def _accepts(document: object) -> bool:
    return VALIDATOR.is_valid(document)


def test_the_schema_is_one() -> None:
    """It is valid JSON Schema of the dialect that it names."""
    Draft202012Validator.check_schema(definition_schema())
    assert definition_schema()["$schema"] == DIALECT


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_the_schema_accepts_the_samples(path: Any) -> None:
    """No editor complains about a sample."""
    for document in parse(path.name, path.read_bytes()).documents:
        assert [error.message for error in VALIDATOR.iter_errors(document.data)] == []


@pytest.mark.parametrize(
    "fields",
    [
        {"timeout": 500}, {"timeout": "1h30m"}, {"timeout": "1h 30m"}, {"timeout": "1500"},
        {"version": 1.5}, {"version": "2"}, {"timeout": None},
        {"steps": [{"id": "a", "type": "loop",
                    "loop": {"over": "${x}", "as": "row", "steps": [STEP | {"id": "b"}]}}]},
        {"steps": [{"id": "a", "type": "loop",
                    "loop": {"while": True, "steps": [STEP | {"id": "b"}]}}]},
        {"triggers": [{"type": "manual"}, {"type": "webhook"},
                      {"type": "scheduled", "config": {"cron": "@daily", "catchup": "1d"}}]},
        {"inputs": [{"name": "x", "default": None, "minLength": 3, "exclusiveMinimum": 0.5}]},
        {"steps": [{**STEP, "when": True, "retry": {"delay": 100, "jitter": 0}}]},
        {"kind": "action", "steps": None, "run": {"shell": "x"}, "sandbox": {"memory": "256M"}},
        {"kind": "action", "steps": None, "run": {"http": None}},
        {"kind": "action", "steps": None, "run": {"python": "x"}, "sandbox": {"memory": 1024}},
    ],
)  # fmt: skip
def test_what_loads_is_accepted(fields: dict[str, Any]) -> None:
    """Durations and sizes as numbers and text, aliases, unions and nulls."""
    document = {"name": "w", "steps": [STEP], **fields}
    if document.get("steps") is None:
        del document["steps"]
    _, problems = load_document(document)
    assert [each.message for each in problems if each.severity == "error"] == []
    assert _accepts(document)


@pytest.mark.parametrize(
    "fields",
    [
        {"timeout": "soon"}, {"timeout": -1}, {"stpes": []}, {"status": "on"}, {"name": "a b"},
        {"kind": "actoin"}, {"steps": []}, {"steps": [{**STEP, "as_": 1}]},
        {"kind": "action", "run": {}}, {"kind": "action", "run": {"python": 5}},
        {"triggers": [{"type": "scheduld"}]}, {"triggers": [{"type": "event", "config": {}}]},
    ],
)  # fmt: skip
def test_what_is_misspelt_is_marked(fields: dict[str, Any]) -> None:
    """An editor marks what loading would refuse: fields, values and shapes."""
    document = {"name": "w", "steps": [STEP], **fields}
    assert load_document(document)[0] is None
    assert not _accepts(document)


def test_every_field_says_what_it_is_for() -> None:
    """Each field of each model has a description, and so has each in the schema."""
    schema = definition_schema()
    silent = [
        f"{name}.{field}"
        for name, model in schema["$defs"].items()
        for field, said in model["properties"].items()
        if not said.get("description")
    ]
    assert silent == []
    assert {"Workflow", "Action", "Step", "Loop"} <= schema["$defs"].keys()
    for model in (Workflow, Action):
        shown = schema["$defs"][model.__name__]["properties"].keys()
        assert shown == {field.alias or name for name, field in model.model_fields.items()}


def test_the_schema_in_the_documents_is_this_one() -> None:
    """`docs/definition.schema.json`, which the samples point at, is what the models say."""
    written = text(ROOT / "docs" / "definition.schema.json")
    assert written == json.dumps(definition_schema(), indent=1) + "\n"


def test_every_code_is_listed_once() -> None:
    """The codes that reading a file uses are those in `CODES`, and each has a file with it."""
    used = {
        node.value
        for module in READING
        for call in ast.walk(tree(ROOT / "controller" / module))
        if isinstance(call, ast.Call) and ast.unparse(call.func).split(".")[-1] in MAKERS
        for node in call.args[:2]
        if isinstance(node, ast.Constant) and re.fullmatch(r"[a-z]+(-[a-z0-9]+)+", str(node.value))
    }
    used.add("too-many-problems")
    assert used == CODES.keys()
    assert FILES.keys() | WITHOUT_A_FILE == CODES.keys()


def test_the_page_of_codes_is_what_the_code_says() -> None:
    """docs/diagnostics.md has a row for each code, with its meaning and what to do."""
    begin, end = "<!-- codes of reading -->\n", "<!-- /codes of reading -->"
    rows = "".join(f"| `{code}` | {what} | {do} |\n" for code, (what, do) in sorted(CODES.items()))
    table = text(PAGE).split(begin)[1].split(end)[0]
    assert table == f"| code | what it means | what to do |\n| --- | --- | --- |\n{rows}"
