"""Values against declared parameters: types, defaults, constraints, and names nobody declared."""

import difflib
import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from controller.core.problem import Path, Problem

if TYPE_CHECKING:
    from controller.core.definition import Parameter

_CHECK: Mapping[str, Any] = {
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: (
        (isinstance(value, int) and not isinstance(value, bool))
        or (isinstance(value, float) and value.is_integer())
    ),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
}


def fits(value: Any, kind: str) -> bool:  # noqa: ANN401  # a JSON value
    """Whether a value has a type of the language; `any` takes all, 3.0 is an integer."""
    return kind == "any" or bool(_CHECK[kind](value))


def check_inputs(
    parameters: "tuple[Parameter, ...]", given: Mapping[str, Any]
) -> tuple[dict[str, Any], list[Problem]]:
    """The values to go on with, defaults filled in, and everything wrong with them.

    A parameter that is neither required, nor given, nor has a default is null.
    """
    problems: list[Problem] = []
    values: dict[str, Any] = {}
    known = {parameter.name: parameter for parameter in parameters}
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name, list(known), n=1)
            takes = ", ".join(f"`{each}`" for each in known) or "no inputs"
            hint = f"did you mean `{close[0]}`?" if close else f"it takes {takes}"
            problems.append(Problem("unknown-input", f"there is no input `{name}`", (name,), hint))
    for name, parameter in known.items():
        if name in given:
            value = given[name]
            problems.extend(_check(parameter, value, (name,)))
            if parameter.type == "integer" and isinstance(value, float):
                value = int(value) if value.is_integer() else value
            values[name] = value
        elif parameter.has_default:
            values[name] = parameter.default
        elif parameter.required:
            message = f"the input `{name}` ({parameter.type}) is required"
            problems.append(Problem("missing-input", message, (), f"give `{name}`"))
        else:
            values[name] = None
    return values, problems


def check_parameters(parameters: "tuple[Parameter, ...]", path: Path) -> Iterator[Problem]:
    """What is wrong with declarations: names twice, constraints nobody can read, bad defaults."""
    seen: set[str] = set()
    for index, parameter in enumerate(parameters):
        here = (*path, index)
        if parameter.name in seen:
            message = f"the input `{parameter.name}` is there twice"
            yield Problem("duplicate-name", message, (*here, "name"))
        seen.add(parameter.name)
        if parameter.pattern is not None and not _readable(parameter.pattern):
            message = f"`{parameter.pattern}` is not a regular expression"
            yield Problem("bad-value", message, (*here, "pattern"))
            continue
        bad_schema = _bad_schema(parameter)
        if bad_schema is not None:
            yield Problem("bad-value", bad_schema, here)
            continue
        if parameter.has_default and parameter.default is not None:
            for problem in _check(parameter, parameter.default, (*here, "default")):
                yield Problem(
                    "bad-default", f"the default does not fit: {problem.message}", problem.path
                )


def _check(parameter: "Parameter", value: Any, path: Path) -> Iterator[Problem]:  # noqa: ANN401  # a JSON value
    if value is None and not parameter.required:
        return
    if not fits(value, parameter.type):
        message = f"`{parameter.name}` must be {_article(parameter.type)}, not {_kind(value)}"
        yield Problem("wrong-type", message, path)
        return
    schema = parameter.schema_of_value()
    if schema is None:
        return
    for error in _validator(_frozen(schema)).iter_errors(value):
        message = f"`{parameter.name}`: {error.message}"
        yield Problem("bad-value", message, path)


def _bad_schema(parameter: "Parameter") -> str | None:
    """Why the constraints are no JSON Schema, or None."""
    schema = parameter.schema_of_value()
    if schema is None:
        return None
    from jsonschema import Draft202012Validator, SchemaError  # noqa: PLC0415  # start-up time

    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        return f"the constraints of `{parameter.name}` are no JSON Schema: {error.message}"
    return None


@lru_cache(maxsize=512)
def _validator(text: str) -> Any:  # noqa: ANN401  # jsonschema's validators have no common type
    from jsonschema import Draft202012Validator  # noqa: PLC0415  # start-up time

    return Draft202012Validator(json.loads(text))


def _frozen(schema: Mapping[str, Any]) -> str:
    return json.dumps(schema, sort_keys=True)


def _readable(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True


def _article(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aio" else f"a {kind}"


def _kind(value: Any) -> str:  # noqa: ANN401  # a JSON value
    if value is None:
        return "null"
    for kind in ("boolean", "integer", "number", "string", "array", "object"):
        if fits(value, kind):
            return _article(kind)
    return type(value).__name__
