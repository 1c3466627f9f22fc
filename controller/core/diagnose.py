"""The validator's errors as problems: plain sentences, stable codes, and what was meant."""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from controller.core.problem import Path, Problem

CODES: Final[Mapping[str, tuple[str, str]]] = {
    "bad-default": ("A default does not fit its own type or constraints.", "Change one of them."),
    "bad-key": ("A name is a list or a mapping.", "Names are text."),
    "bad-merge": (
        "`<<` is followed by something that has no names.",
        "Merge a mapping, or a list of mappings.",
    ),
    "bad-name": (
        "A name or an id has characters it may not have, or too many.",
        "The hint lists what is allowed.",
    ),
    "bad-number": (
        "A number is infinite, no number, or larger than 64 bits.",
        "Quote it if it is text.",
    ),
    "bad-schedule": ("A schedule has both `cron` and `at`, or neither.", "Keep one."),
    "bad-value": (
        "A value is not one of those allowed, or contradicts another.",
        "The message says what is allowed.",
    ),
    "control-character": (
        "A character that no text file should have, such as NUL.",
        "Remove it; the position is exact.",
    ),
    "duplicate-id": ("Two steps of a workflow have one id, however deep.", "Rename one."),
    "duplicate-key": (
        "A mapping has a name twice; the second would hide the first.",
        "Remove one.",
    ),
    "duplicate-name": ("Two inputs or two outputs have one name.", "Rename one."),
    "file-too-large": ("The file has more bytes than are read.", "Split it, or raise the setting."),
    "missing-field": ("A field is needed and not there.", "Add it; the hint says which."),
    "missing-input": ("A required input was not given.", "Give it."),
    "no-effect": (
        "A warning: a constraint says nothing about values of this type.",
        "Remove it, or change the type.",
    ),
    "not-utf-8": ("The file is not encoded as UTF-8.", "Save it as UTF-8."),
    "recursive-alias": ("An anchor stands inside itself.", "Write the value out."),
    "text-too-long": (
        "One text has more characters than are taken.",
        "Keep it in a file, or raise the setting.",
    ),
    "too-deep": ("Values are nested deeper than is taken.", "Use a subflow, or raise the setting."),
    "too-many-problems": (
        "The file has more problems than are listed.",
        "Mend those listed first.",
    ),
    "too-many-values": (
        "The file has more values than are taken, aliases expanded.",
        "Split it, or raise the setting.",
    ),
    "unknown-field": (
        "A field does not exist here, or has no meaning for this type.",
        "The hint says what was meant, or what exists.",
    ),
    "unknown-input": (
        "An input was given that nothing declares.",
        "The hint says what was meant, or what exists.",
    ),
    "unknown-tag": (
        "A YAML tag such as `!!python/object`.",
        "Remove it; only plain values are read.",
    ),
    "wrong-type": ("A value has another type than the field.", "The message says which is needed."),
    "yaml-syntax": ("The file is not YAML.", "Quote text that holds `${…}`, `: `, `{` or `#`."),
}
"""Code → what it means, and what to do. All codes of reading a file; see docs/diagnostics.md."""

_KINDS = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "dict_type": "made of `name: value` lines",
    "model_type": "made of `name: value` lines",
    "model_attributes_type": "made of `name: value` lines",
    "tuple_type": "a list",
}
_BOUNDS = {
    "greater_than": ("gt", "above"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "below"),
    "less_than_equal": ("le", "at most"),
}
_ELSEWHERE = {
    "if": "when",
    "needs": "depends_on",
    "on": "triggers",
    "params": "inputs",
    "schedule": "triggers",
    "uses": "action",
    "with": "inputs",
}
"""Names that other systems have for the same thing."""
_SHOWN = 60


def explain(error: ValidationError, data: Any, model: type[BaseModel]) -> list[Problem]:  # ruff: ignore[any-type]  # a document
    """All of an error's details as problems, one for each place and code."""
    found: dict[tuple[Path, str], Problem] = {}
    kinds: dict[Path, list[str]] = {}
    for detail in error.errors(include_url=False):
        path = place_of(detail["loc"], data)
        if detail["type"] in _KINDS:
            wanted = kinds.setdefault(path, [])
            wanted.append(_KINDS[detail["type"]])
            problem = _wrong_type(path, wanted, detail["input"])
            found[problem.path, problem.code] = problem
        elif not _follows_from_another(detail):
            problem = _problem(detail, path, data, model)
            found.setdefault((problem.path, problem.code), problem)
    return list(found.values())


def place_of(loc: Iterable[str | int], data: Any) -> Path:  # ruff: ignore[any-type]  # a document
    """The validator's location without the names of union members, which no document has.

    The members are the trigger's type, right behind its position, and the type of a plain value,
    which can only stand last.
    """
    path = list(loc)
    if path[:1] == ["triggers"] and len(path) > 2:  # ruff: ignore[magic-value-comparison]  # triggers, position, type
        del path[2]
    if path and path[-1] in {"str", "bool"}:
        parent = data
        for key in path[:-1]:
            parent = _member(parent, key)
        if not isinstance(parent, dict) or path[-1] not in parent:
            path.pop()
    return tuple(path)


def _follows_from_another(detail: ErrorDetails) -> bool:
    """A list counts only its valid items; that the others are wrong has been said."""
    return detail["type"] == "too_short" and len(detail["input"]) > 0


def _problem(detail: ErrorDetails, path: Path, data: Any, model: type[BaseModel]) -> Problem:  # ruff: ignore[any-type]  # a document
    kind = detail["type"]
    context = detail.get("ctx") or {}
    if kind == "extra_forbidden":
        return _unknown_field(path, data, model)
    if kind == "missing":
        what = f"{_name(path[:-1])} has no `{path[-1]}`"
        return Problem("missing-field", what, path[:-1], f"add `{path[-1]}:`")
    if kind == "union_tag_not_found":
        hint = "add `type:`, one of: scheduled, manual, event, webhook"
        return Problem("missing-field", f"{_name(path)} has no `type`", path, hint)
    if kind in {"literal_error", "union_tag_invalid"}:
        return _not_one_of(detail, path, context)
    if kind == "string_pattern_mismatch":
        return _bad_name(detail, path, context)
    return Problem("bad-value", _sentence(detail, path, context), path)


def _sentence(detail: ErrorDetails, path: Path, context: Mapping[str, Any]) -> str:
    """What is wrong with a value."""
    kind, name = detail["type"], _name(path)
    if kind in _BOUNDS:
        bound, words = _BOUNDS[kind]
        return f"{name} must be {words} {context[bound]:g}, not {_shown(detail['input'])}"
    if kind == "too_short":
        return f"{name} is empty; it needs at least one item"
    if kind == "string_too_long":
        return f"{name} has {len(detail['input'])} characters; at most {context['max_length']}"
    if kind == "string_too_short":
        return f"{name} is empty"
    if kind == "value_error":
        return f"{name}: {context.get('error')}"
    return f"{name}: {detail['msg'][:1].lower()}{detail['msg'][1:]}"


def _wrong_type(path: Path, wanted: list[str], given: Any) -> Problem:  # ruff: ignore[any-type]  # a document
    kinds = ", or ".join(dict.fromkeys(wanted))
    message = f"{_name(path)} must be {kinds}, not {_shown(given)}"
    return Problem("wrong-type", message, path, _how_to_write(kinds, given))


def _how_to_write(wanted: str, given: Any) -> str | None:  # ruff: ignore[any-type]  # a document
    """What the author most likely meant."""
    if given is None:
        return "give it a value, or remove the line"
    if wanted == "text" and isinstance(given, bool | int | float):
        return f'quote it: "{_shown(given).strip("`")}"'
    if wanted == "a list":
        is_plain = isinstance(given, str | int | float)
        return f"write [{_shown(given).strip('`')}]" if is_plain else "begin each item with `- `"
    if wanted == "true or false" and isinstance(given, str):
        return "write true or false, without quotes"
    if isinstance(given, str) and wanted.endswith("number") and given.strip().isdigit():
        return "write it without quotes"
    return None


def _unknown_field(path: Path, data: Any, model: type[BaseModel]) -> Problem:  # ruff: ignore[any-type]  # a document
    name = str(path[-1])
    known = list(_fields_at(path[:-1], data, model))
    close = difflib.get_close_matches(name, known, n=1)
    if not close and _ELSEWHERE.get(name) in known:
        close = [_ELSEWHERE[name]]
    hint = f"did you mean `{close[0]}`?" if close else None
    if hint is None and name == "run" and len(path) == 1:
        hint = "the definition of an action begins with `kind: action`"
    if hint is None and known:
        hint = f"known here: {', '.join(sorted(known))}"
    message = f"{_name(path[:-1])} has no field {_shown(name)}"
    return Problem("unknown-field", message, path, hint, at_key=True)


def _not_one_of(detail: ErrorDetails, path: Path, context: Mapping[str, Any]) -> Problem:
    if detail["type"] == "union_tag_invalid":
        path = (*path, "type")
        expected, given = str(context["expected_tags"]), _shown(context["tag"])
    else:
        expected, given = str(context["expected"]), _shown(detail["input"])
    known = [part.strip().strip("'") for part in expected.replace(" or ", ", ").split(",")]
    close = difflib.get_close_matches(given.strip("`"), known, n=1)
    hint = f"did you mean `{close[0]}`?" if close else f"one of: {', '.join(known)}"
    return Problem("bad-value", f"{_name(path)} cannot be {given}", path, hint)


def _bad_name(detail: ErrorDetails, path: Path, context: Mapping[str, Any]) -> Problem:
    message = f"{_name(path)} cannot be {_shown(detail['input'])}"
    if "/" in str(context.get("pattern")):
        hint = "letters, digits and `_ . / -`, with a letter, digit or `_` first"
    else:
        hint = "letters, digits, `_` and `-`, with a letter or `_` first"
    return Problem("bad-name", message, path, hint)


def _fields_at(path: Path, data: Any, model: type[BaseModel]) -> Iterator[str]:  # ruff: ignore[any-type]  # a document
    """Names of the fields of the model that stands at a path."""
    at: Any = model
    here = data
    for key in path:
        here = _member(here, key)
        at = _field_model(at, key, here) if isinstance(key, str) else _inner(at, here)
        if at is None:
            return
    if _is_model(at):
        for name, field in at.model_fields.items():
            yield field.alias or name


def _member(value: Any, key: str | int) -> Any:  # ruff: ignore[any-type]  # a document
    if isinstance(value, dict):
        return value.get(key)
    is_item = isinstance(value, list) and isinstance(key, int) and key < len(value)
    return value[key] if is_item else None


def _is_model(model: Any) -> bool:  # ruff: ignore[any-type]  # a type or an annotation
    return isinstance(model, type) and issubclass(model, BaseModel)


def _field_model(model: Any, name: str, value: Any) -> Any:  # ruff: ignore[any-type]  # types
    if not _is_model(model):
        model = _inner(model, value)
    if not _is_model(model):
        return None
    for key, field in model.model_fields.items():
        if name == (field.alias or key):
            is_list = isinstance(value, list)  # each item has a model of its own
            return field.annotation if is_list else _inner(field.annotation, value)
    return None


def _inner(annotation: Any, value: Any) -> Any:  # ruff: ignore[any-type]  # types
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
    """What people call the thing at a path."""
    if not path:
        return "the definition"
    if not isinstance(path[-1], int):
        return _shown(path[-1])
    within = [key for key in path if isinstance(key, str)]
    return f"item {path[-1] + 1} of `{within[-1]}`" if within else f"item {path[-1] + 1}"


def _shown(value: Any) -> str:  # ruff: ignore[any-type]  # what the document says
    """A value on one short line."""
    if isinstance(value, str):
        text = " ".join(value[: 2 * _SHOWN].split())
        return f"`{text}`" if len(text) <= _SHOWN else f"`{text[:_SHOWN]}…`"
    if isinstance(value, bool):
        return "`true`" if value else "`false`"
    if value is None:
        return "null"
    if isinstance(value, list | tuple):
        return "a list"
    return "a mapping" if isinstance(value, dict) else f"`{str(value)[:_SHOWN]}`"
