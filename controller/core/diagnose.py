"""The validator's errors as problems: plain sentences, stable codes, and what was meant."""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from controller.core.problem import Path, Problem

_KINDS = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "dict_type": "names with values",
    "model_type": "names with values",
    "model_attributes_type": "names with values",
    "tuple_type": "a list",
    "list_type": "a list",
    "union_tag_not_found": "names with values, `type` among them",
}
_SHOWN = 60


def explain(
    error: ValidationError,
    data: Any,
    models: Mapping[str, type[BaseModel]],  # noqa: ANN401  # a document
) -> list[Problem]:
    """All of an error's details, in the order of the document; one for each place."""
    found: dict[tuple[Path, str], Problem] = {}
    for detail in error.errors(include_url=False):
        path = _path(detail["loc"], data)
        problem = _problem(detail, path, data, models)
        found.setdefault((problem.path, problem.code), problem)
    return list(found.values())


def _path(loc: Iterable[str | int], data: Any) -> Path:  # noqa: ANN401  # a document
    """The validator's location without the names of union members, which no document has."""
    path: list[str | int] = []
    here: Any = data
    for step in loc:
        if isinstance(here, dict) and step in here:
            here = here[step]
        elif isinstance(here, list) and isinstance(step, int) and step < len(here):
            here = here[step]
        elif _is_member(step) and not (isinstance(here, dict) and step in here):
            continue
        else:
            here = None
        path.append(step)
    return tuple(path)


def _is_member(step: str | int) -> bool:
    """A tag or a type in a union: `workflow`, `scheduled`, `str`, `function-before[…]`."""
    tags = {"workflow", "action", "scheduled", "manual", "event", "webhook", "str", "bool", "int"}
    return isinstance(step, str) and (step in tags or "[" in step)


def _problem(
    detail: ErrorDetails,
    path: Path,
    data: Any,
    models: Mapping[str, type[BaseModel]],  # noqa: ANN401  # a document
) -> Problem:
    kind = detail["type"]
    context = detail.get("ctx") or {}
    if kind == "extra_forbidden":
        return _unknown_field(path, data, models)
    if kind == "missing":
        what = f"`{path[-1]}` is missing"
        return Problem("missing-field", what, path[:-1], f"add `{path[-1]}:`")
    if kind in _KINDS:
        message = f"{_name(path)} must be {_KINDS[kind]}, not {_shown(detail['input'])}"
        return Problem("wrong-type", message, path)
    if kind in {"literal_error", "union_tag_invalid", "enum"}:
        return _not_one_of(detail, path, context)
    if kind == "value_error":
        return Problem("bad-value", f"{_name(path)}: {context.get('error')}", path)
    if kind == "string_pattern_mismatch":
        return _bad_name(detail, path)
    return Problem("bad-value", f"{_name(path)}: {_lower(detail['msg'])}", path)


def _unknown_field(
    path: Path,
    data: Any,
    models: Mapping[str, type[BaseModel]],  # noqa: ANN401  # a document
) -> Problem:
    name = str(path[-1])
    known = list(_fields_at(path[:-1], data, models))
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean `{close[0]}`?" if close else None
    if hint is None and known:
        hint = f"known here: {', '.join(sorted(known))}"
    where = f"{_name(path[:-1])} has" if len(path) > 1 else "a definition has"
    message = f"{where} no field `{name}`"
    return Problem("unknown-field", message, path, hint, at_key=True)


def _not_one_of(detail: ErrorDetails, path: Path, context: Mapping[str, Any]) -> Problem:
    if detail["type"] == "union_tag_invalid":
        path = (*path, "type")
        expected = str(context.get("expected_tags", ""))
        given = str(context.get("tag", ""))
    else:
        expected = str(context.get("expected", ""))
        given = _shown(detail["input"])
    known = [part.strip().strip("'") for part in expected.replace(" or ", ", ").split(",")]
    close = difflib.get_close_matches(str(given).strip("'`"), known, n=1)
    hint = f"did you mean `{close[0]}`?" if close else f"one of: {', '.join(known)}"
    return Problem("bad-value", f"{_name(path)} cannot be {given}", path, hint)


def _bad_name(detail: ErrorDetails, path: Path) -> Problem:
    shown = _shown(detail["input"])
    message = f"{_name(path)} cannot be {shown}"
    hint = "letters, digits, `_` and `-`, with a letter or `_` first"
    if path and path[-1] == "name" and len(path) == 1:
        hint = "letters, digits and `_ . / -`, with a letter, digit or `_` first"
    return Problem("bad-name", message, path, hint)


def _fields_at(path: Path, data: Any, models: Mapping[str, type[BaseModel]]) -> Iterator[str]:  # noqa: ANN401  # a document
    """Names of the fields of the model that stands at a path."""
    kind = data.get("kind", "workflow") if isinstance(data, dict) else "workflow"
    model: Any = models.get(kind if isinstance(kind, str) else "workflow", models["workflow"])
    here: Any = data
    for step in path:
        here = _member(here, step)
        if isinstance(step, str):
            model = _field_model(model, step, here)
        elif not _is_model(model):
            model = _inner(model, here)
        if model is None:
            return
    if _is_model(model):
        for name, field in model.model_fields.items():
            yield field.alias or name


def _member(value: Any, step: str | int) -> Any:  # noqa: ANN401  # a document
    if isinstance(value, dict):
        return value.get(step)
    return value[step] if isinstance(value, list) and isinstance(step, int) else None


def _is_model(model: Any) -> bool:  # noqa: ANN401  # a type or an annotation
    return isinstance(model, type) and issubclass(model, BaseModel)


def _field_model(model: Any, name: str, value: Any) -> Any:  # noqa: ANN401  # types
    if not _is_model(model):
        model = _inner(model, value)
    if not _is_model(model):
        return None
    for key, field in model.model_fields.items():
        if name in {key, field.alias}:
            return _inner(field.annotation, value)
    return None


def _inner(annotation: Any, value: Any) -> Any:  # noqa: ANN401  # types
    """The model inside an annotation such as `tuple[Step, ...] | None`."""
    if _is_model(annotation):
        return annotation
    candidates = [each for each in (_inner(part, value) for part in get_args(annotation)) if each]
    if len(candidates) > 1 and isinstance(value, dict):
        for each in candidates:
            tag = each.model_fields.get("type")
            if tag is not None and value.get("type") in get_args(tag.annotation):
                return each
    return candidates[0] if candidates else None


def _name(path: Path) -> str:
    if not path:
        return "the definition"
    if isinstance(path[-1], int):
        return f"item {path[-1] + 1} of `{path[-2]}`" if len(path) > 1 else f"item {path[-1] + 1}"
    return f"`{path[-1]}`"


def _shown(value: Any) -> str:  # noqa: ANN401  # what the document says
    if isinstance(value, str):
        text = value if len(value) <= _SHOWN else f"{value[:_SHOWN]}…"
        return f"`{text}`"
    if isinstance(value, bool):
        return "`true`" if value else "`false`"
    if value is None:
        return "null"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, dict):
        return "a set of names with values"
    return f"`{value}`"


def _lower(text: str) -> str:
    text = text.replace("Tuple", "it").replace("Input", "it").replace("String", "it")
    return text[:1].lower() + text[1:]
