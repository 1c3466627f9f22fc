"""Values against declared parameters: types, defaults, constraints, and names nobody declared.

Constraints are JSON Schema's, with three differences that keep a definition from harming the
controller: patterns are matched by an engine whose time is linear in the text (no look-around, no
back-references), a schema refers to nothing outside itself or above itself (`$ref`), and a format
that nobody would check is refused instead of ignored.
"""

import copy
import difflib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Any, Final

from pydantic_core import SchemaError, SchemaValidator, core_schema

from controller.core.problem import Path, Problem

if TYPE_CHECKING:
    from jsonschema import ValidationError
    from jsonschema.protocols import Validator

    from controller.core.definition import Parameter

_CHECK: Final[Mapping[str, Callable[[Any], bool]]] = {
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: (
        (isinstance(value, int) and not isinstance(value, bool))
        or (isinstance(value, float) and value.is_integer())
    ),
    "number": lambda value: (
        (isinstance(value, int) and not isinstance(value, bool))
        or (isinstance(value, float) and math.isfinite(value))
    ),
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
}

_NUMBERS = (
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf",
)  # fmt: skip
_MEANT_FOR: Final[Mapping[str, tuple[str, ...]]] = {
    "string": ("pattern", "format", "minLength", "maxLength"),
    "integer": _NUMBERS,
    "number": _NUMBERS,
    "array": ("minItems", "maxItems", "uniqueItems", "items"),
    "object": ("properties", "additionalProperties"),
    "boolean": (),
}
_VALUES = {"enum", "const", "default", "examples"}
"""Keywords that hold values, not schemas."""
_NAMED = {"properties", "dependentSchemas", "$defs"}
"""Keywords that hold schemas by name."""
_PAIRS = (("minimum", "maximum"), ("minLength", "maxLength"), ("minItems", "maxItems"))

_ADDRESS = re.compile(r"[^@\s]+@[^@\s]+")
_HOST = re.compile(r"(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9-]+)*")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")
_CLOCK = re.compile(r"\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)?")


@lru_cache(maxsize=512)
def _matcher(pattern: str) -> SchemaValidator | None:
    """What matches a pattern in time linear in the text, or None: it is none."""
    try:
        return SchemaValidator(core_schema.str_schema(pattern=pattern))
    except SchemaError:
        return None


def _both(shape: re.Pattern[str], schema: core_schema.CoreSchema) -> Callable[[str], bool]:
    """Text of this shape that means something: the thirtieth of February does not."""
    meaning = SchemaValidator(schema)
    return lambda text: bool(shape.fullmatch(text)) and meaning.isinstance_python(text)


def _readable_as(kind: Callable[[str], object]) -> Callable[[str], bool]:
    def check(text: str) -> bool:
        try:
            kind(text)
        except ValueError:
            return False
        return True

    return check


FORMATS: Final[Mapping[str, Callable[[str], bool]]] = {
    "date": _both(_DATE, core_schema.date_schema()),
    "date-time": _both(_MOMENT, core_schema.datetime_schema()),
    "email": lambda text: bool(_ADDRESS.fullmatch(text)),
    "hostname": lambda text: bool(_HOST.fullmatch(text)),
    "ipv4": _readable_as(IPv4Address),
    "ipv6": _readable_as(IPv6Address),
    "regex": lambda text: _matcher(text) is not None,
    "time": _both(_CLOCK, core_schema.time_schema()),
    "uri": SchemaValidator(core_schema.url_schema()).isinstance_python,
    "uuid": SchemaValidator(core_schema.uuid_schema()).isinstance_python,
}
"""The formats of text that are checked."""


def fits(value: Any, kind: str) -> bool:  # ruff: ignore[any-type]  # a JSON value
    """Whether a value has a type of the language; `any` takes all, 3.0 is an integer."""
    return kind == "any" or _CHECK[kind](value)


def check_inputs(
    parameters: "tuple[Parameter, ...]", given: Mapping[str, Any]
) -> tuple[dict[str, Any], list[Problem]]:
    """The values to go on with, defaults filled in, and everything wrong with them.

    A parameter that is neither required, nor given, nor has a default is null. The path of a
    problem begins with the input's name.
    """
    problems: list[Problem] = []
    values: dict[str, Any] = {}
    known = {parameter.name: parameter for parameter in parameters}
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(str(name), list(known), n=1)
            takes = ", ".join(f"`{each}`" for each in known) or "no inputs"
            hint = f"did you mean `{close[0]}`?" if close else f"it takes {takes}"
            message = f"there is no input `{name}`"
            problems.append(Problem("unknown-input", message, (name,), hint, at_key=True))
    for name, parameter in known.items():
        if name in given:
            problems.extend(_check(parameter, given[name], (name,)))
            values[name] = _whole(parameter, given[name])
        elif parameter.has_default:
            values[name] = _whole(parameter, copy.deepcopy(parameter.default))
        elif parameter.required:
            message = f"the input `{name}` ({parameter.type}) is required"
            problems.append(Problem("missing-input", message, (), f"give `{name}`"))
        else:
            values[name] = None
    return values, problems


def _whole(parameter: "Parameter", value: Any) -> Any:  # ruff: ignore[any-type]  # a JSON value
    """An integer that came as 3.0 is 3."""
    is_whole = parameter.type == "integer" and isinstance(value, float) and value.is_integer()
    return int(value) if is_whole else value


def check_parameters(parameters: "tuple[Parameter, ...]", path: Path) -> Iterator[Problem]:
    """What is wrong with declarations: names twice, constraints nobody can read, bad defaults."""
    seen: set[str] = set()
    for index, parameter in enumerate(parameters):
        here = (*path, index)
        if parameter.name in seen:
            message = f"the input `{parameter.name}` is there twice"
            yield Problem("duplicate-name", message, (*here, "name"))
        seen.add(parameter.name)
        wrong = list(_constraints(parameter, here))
        yield from wrong
        is_usable = all(problem.severity == "warning" for problem in wrong)
        if is_usable and parameter.has_default and parameter.default is not None:
            for problem in _check(parameter, parameter.default, (*here, "default")):
                message = f"the default does not fit: {problem.message}"
                yield Problem("bad-default", message, problem.path, problem.hint)


def _check(parameter: "Parameter", value: Any, path: Path) -> Iterator[Problem]:  # ruff: ignore[any-type]  # a JSON value
    if value is None and not parameter.required:
        return
    if not fits(value, parameter.type):
        message = f"`{parameter.name}` must be {_article(parameter.type)}, not {_kind(value)}"
        yield Problem("wrong-type", message, path)
        return
    schema = parameter.schema_of_value()
    if schema is None:
        return
    try:
        for error in _validator(json.dumps(schema, sort_keys=True)).iter_errors(value):
            yield _unmet(parameter.name, error, path)
    except (ArithmeticError, RecursionError):
        message = f"`{parameter.name}` is too large to be checked"
        yield Problem("bad-value", message, path)


def _unmet(name: str, error: "ValidationError", path: Path) -> Problem:
    """A constraint that a value does not meet, as a sentence."""
    limit, keyword = error.validator_value, str(error.validator)
    within = ".".join(str(key) for key in (name, *error.absolute_path))
    limit_shown = f"{limit:g}" if isinstance(limit, float) else _short(json.dumps(limit))
    words = _WORDS.get(keyword)
    message = f"{words} {limit_shown}" if words else f"does not fit: {_short(error.message)}"
    hint = None
    if keyword == "enum" and isinstance(error.instance, str):
        known = [str(each) for each in limit] if isinstance(limit, list) else []
        close = difflib.get_close_matches(error.instance, known, n=1)
        hint = f"did you mean `{close[0]}`?" if close else None
    return Problem("bad-value", f"`{within}` {message}", (*path, *error.absolute_path), hint)


_WORDS: Final[Mapping[str, str]] = {
    "type": "must have the type",
    "enum": "must be one of",
    "const": "must be",
    "pattern": "must match the pattern",
    "format": "must have the format",
    "minimum": "must be at least",
    "maximum": "must be at most",
    "exclusiveMinimum": "must be above",
    "exclusiveMaximum": "must be below",
    "multipleOf": "must be a multiple of",
    "minLength": "is too short: its length must be at least",
    "maxLength": "is too long: its length must be at most",
    "minItems": "has too few items: at least",
    "maxItems": "has too many items: at most",
    "uniqueItems": "has an item twice: items must be different:",
}


def _constraints(parameter: "Parameter", path: Path) -> Iterator[Problem]:
    """What is wrong with a parameter's constraints; warnings come last."""
    schema = parameter.schema_of_value()
    if schema is None:
        return
    wrong = list(_dangerous(schema, path))
    if not schema.keys().isdisjoint(("items", "properties", "additionalProperties")):
        wrong += _malformed(parameter.name, schema, path)
    yield from wrong
    for low, high in _PAIRS:
        if not wrong and low in schema and high in schema and schema[low] > schema[high]:
            message = f"no value fits: `{low}` is above `{high}`"
            yield Problem("bad-value", message, (*path, low))
    for index, value in enumerate(schema.get("enum") or ()):
        if not fits(value, parameter.type):
            message = f"{_kind(value)} can never be {_article(parameter.type)}"
            yield Problem("bad-value", message, (*path, "enum", index))
    for keyword in schema.keys() - {"type", "enum", "const", *_MEANT_FOR[parameter.type]}:
        message = f"`{keyword}` says nothing about {_article(parameter.type)}"
        yield Problem("no-effect", message, (*path, keyword), at_key=True, severity="warning")


def _dangerous(schema: Mapping[str, Any], path: Path) -> Iterator[Problem]:
    """Patterns, formats and references that are not taken, however deep."""
    for place, each in _schemas(schema, path):
        pattern, kind = each.get("pattern"), each.get("format")
        if isinstance(pattern, str) and _matcher(pattern) is None:
            message = f"`{_short(pattern)}` is no regular expression that can be used here"
            hint = "look-around and back-references are not known"
            yield Problem("bad-value", message, (*place, "pattern"), hint)
        if isinstance(kind, str) and kind not in FORMATS:
            close = difflib.get_close_matches(kind, FORMATS, n=1)
            hint = f"did you mean `{close[0]}`?" if close else f"one of: {', '.join(FORMATS)}"
            message = f"there is no format `{_short(kind)}`"
            yield Problem("bad-value", message, (*place, "format"), hint)
        for keyword in ("$ref", "$dynamicRef", "patternProperties"):
            if keyword in each:
                message = f"`{keyword}` is not taken here"
                yield Problem("bad-value", message, (*place, keyword), "write it out", at_key=True)


def _schemas(schema: Any, path: Path) -> Iterator[tuple[Path, Mapping[str, Any]]]:  # ruff: ignore[any-type]  # a JSON Schema
    """A schema and all those inside it, with their places; values are not looked into."""
    if isinstance(schema, list):
        for index, each in enumerate(schema):
            yield from _schemas(each, (*path, index))
    if not isinstance(schema, dict):
        return
    yield path, schema
    for keyword, value in schema.items():
        named = value if keyword in _NAMED and isinstance(value, dict) else {}
        for name, each in named.items():
            yield from _schemas(each, (*path, keyword, name))
        if keyword not in _VALUES and not named:
            yield from _schemas(value, (*path, keyword))


def _malformed(name: str, schema: Mapping[str, Any], path: Path) -> Iterator[Problem]:
    """Constraints that are no JSON Schema."""
    from jsonschema import Draft202012Validator as Draft  # ruff: ignore[import-outside-top-level]  # start-up time

    for error in Draft(Draft.META_SCHEMA).iter_errors(schema):
        message = f"the constraints of `{name}` are no JSON Schema: {_short(error.message)}"
        yield Problem("bad-value", message, (*path, *error.absolute_path))


@lru_cache(maxsize=512)
def _validator(text: str) -> "Validator":
    """What checks values against a schema, given as JSON."""
    checked: Validator = _checking()(json.loads(text))
    return checked


@lru_cache(maxsize=1)
def _checking() -> "type[Validator]":
    """JSON Schema's validator, with our patterns and formats, and no quadratic time."""
    from jsonschema import Draft202012Validator as Draft  # ruff: ignore[import-outside-top-level]  # start-up time
    from jsonschema.exceptions import ValidationError  # ruff: ignore[import-outside-top-level]  # start-up time
    from jsonschema.validators import extend  # ruff: ignore[import-outside-top-level]  # start-up time

    def keyword(holds: Callable[[Any, Any], bool]) -> Callable[..., Iterator[ValidationError]]:
        def check(_: object, limit: object, value: object, __: object) -> Iterator[ValidationError]:
            if not holds(limit, value):
                yield ValidationError("it does not hold")

        return check

    keywords = {"pattern": _matches, "format": _has_format, "uniqueItems": _is_unique}
    extended: type[Validator] = extend(  # type: ignore[no-untyped-call]  # the library has no type for it
        Draft, {name: keyword(holds) for name, holds in keywords.items()}
    )
    return extended


def _matches(pattern: str, value: object) -> bool:
    matcher = _matcher(pattern)
    return matcher is None or not isinstance(value, str) or matcher.isinstance_python(value)


def _has_format(name: str, value: object) -> bool:
    return name not in FORMATS or not isinstance(value, str) or FORMATS[name](value)


def _is_unique(wanted: object, value: object) -> bool:
    if not wanted or not isinstance(value, list):
        return True
    return len({json.dumps(item, sort_keys=True) for item in value}) == len(value)


def _short(text: str) -> str:
    return text if len(text) <= 100 else f"{text[:100]}…"  # ruff: ignore[magic-value-comparison]  # a line


def _article(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aio" else f"a {kind}"


def _kind(value: Any) -> str:  # ruff: ignore[any-type]  # a JSON value
    if value is None:
        return "null"
    for kind in ("boolean", "integer", "number", "string", "array", "object"):
        if fits(value, kind):
            return _article(kind)
    return "something that JSON does not know"
