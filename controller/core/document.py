"""A document, as plain data → its definition, and everything wrong with it at once.

The types of fields are checked by the models, what a document shows beyond them by
`core/checks.py`. The second needs a model, which a document with a wrong field does not give. So
that its author sees all problems and not only the first kind, such a document is mended (wrong
fields left out, missing ones stood in for), and the mended copy is checked as well.
"""

import copy
import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from controller.core.checks import BODY, check_action, check_workflow
from controller.core.definition import Action, Workflow
from controller.core.diagnose import explain, place_of
from controller.core.problem import Path, Problem

MODELS: Mapping[str, type[Workflow | Action]] = {"workflow": Workflow, "action": Action}

_ROUNDS = 4
"""Mending a field may show another that is missing; no document needs more rounds."""
_STEPS = {"steps", "then_steps", "else_steps"}


def load_document(data: Any) -> tuple[Workflow | Action | None, list[Problem]]:  # ruff: ignore[any-type]  # whatever a file says
    """A document's definition and its problems; with an error among them, no definition.

    Never raises. `data` is plain JSON-like data, as the parser or an API client gives it.
    """
    if not isinstance(data, dict):
        message = "a definition is made of `name: value` lines"
        return None, [Problem("wrong-type", message, (), "begin with `name:` and `steps:`")]
    kind, problems = _kind(data)
    if problems:
        data = {**data, "kind": kind}
    model = MODELS[kind]
    try:
        definition = model.model_validate(data)
    except ValidationError as error:
        problems += explain(error, data, model)
        return None, [*problems, *_beyond(model, data, problems)]
    problems += _checked(definition)
    if any(problem.severity == "error" for problem in problems):
        return None, problems
    return definition, problems


def _kind(data: Mapping[str, Any]) -> tuple[str, list[Problem]]:
    """What the document defines, or most likely means to."""
    kind = data.get("kind", "workflow")
    if isinstance(kind, str) and kind in MODELS:
        return kind, []
    close = difflib.get_close_matches(str(kind), MODELS, n=1)
    hint = f"did you mean `{close[0]}`?" if close else "one of: workflow, action"
    message = f"there is no kind of definition `{str(kind)[:60]}`"
    guess = close[0] if close else "action" if "run" in data else "workflow"
    return guess, [Problem("bad-value", message, ("kind",), hint)]


def _checked(definition: Workflow | Action) -> Iterator[Problem]:
    if isinstance(definition, Workflow):
        return check_workflow(definition)
    return check_action(definition)


def _beyond(
    model: type[Workflow | Action], data: dict[str, Any], problems: Iterable[Problem]
) -> list[Problem]:
    """What else is wrong with a document that is no model."""
    definition = _mended(model, data)
    if definition is None:
        return []
    broken = set(_broken(problem.path for problem in problems))
    return [
        problem
        for problem in _checked(definition)
        if problem.code.startswith("duplicate")
        or not broken.intersection((problem.path, problem.path[:-1]))
    ]


def _broken(paths: Iterable[Path]) -> Iterator[Path]:
    """Places about which a mended document says nothing reliable."""
    for path in paths:
        yield path
        if path and isinstance(path[-1], str):
            yield path[:-1]
            if len(path) > 1 and isinstance(path[-2], str):
                yield path[:-2]


def _mended(model: type[Workflow | Action], data: dict[str, Any]) -> Workflow | Action | None:
    mended = copy.deepcopy(data)
    for turn in range(_ROUNDS):
        try:
            return model.model_validate(mended)
        except ValidationError as error:
            for number, detail in enumerate(error.errors(include_url=False, include_input=False)):
                place = place_of(detail["loc"], mended)
                _mend(mended, place, f"mended-{turn}-{number}", missing=detail["type"] == "missing")
    return None


def _mend(document: dict[str, Any], path: Path, unique: str, *, missing: bool) -> None:
    """Leave out what is wrong, or put something in its place that says nothing."""
    parent = _at(document, path[:-1])
    if not path:
        return
    if isinstance(parent, list) and isinstance(path[-1], int) and path[-1] < len(parent):
        parent[path[-1]] = _item(path, parent[path[-1]], unique)
    elif isinstance(parent, dict) and missing:
        parent[str(path[-1])] = _member(str(path[-1]), parent, unique)
    elif isinstance(parent, dict):
        parent.pop(path[-1], None)


def _at(value: Any, path: Path) -> Any:  # ruff: ignore[any-type]  # a document
    for key in path:
        if isinstance(value, dict):
            value = value.get(key)
        elif isinstance(value, list) and isinstance(key, int) and key < len(value):
            value = value[key]
        else:
            return None
    return value


def _item(path: Path, item: Any, unique: str) -> Any:  # ruff: ignore[any-type]  # a document
    """Instead of an item of a list."""
    within = path[-2] if len(path) > 1 else ""
    if within in _STEPS or isinstance(within, int):
        return {"id": unique, "type": "action", "action": "log"}
    if within == "branches":
        return []
    if within == "triggers":
        return {"type": "manual"}
    if within in {"inputs", "outputs"} and not isinstance(item, str):
        return {"name": unique}
    return unique


def _member(name: str, parent: Mapping[str, Any], unique: str) -> Any:  # ruff: ignore[any-type]  # a document
    """Instead of a field that is missing."""
    body = next((each for each in BODY if each in parent), "action")
    known: dict[str, Any] = {
        "type": body,
        "steps": [{"id": unique, "type": "action", "action": "log"}],
        "branches": [[]],
        "expression": True,
        "config": {},
        "run": {"log": None},
    }
    return known.get(name, unique)
