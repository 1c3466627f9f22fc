"""What an execution is given, against what its workflow declares."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.definition import Parameter, ValueType
from controller.core.inputs import FORMATS, check_inputs


def _one(value: object, **fields: Any) -> tuple[Any, list[str]]:
    parameter = Parameter(name="x", **fields)
    values, problems = check_inputs((parameter,), {"x": value})
    return values["x"], [problem.code for problem in problems]


def test_defaults_fill_in_what_is_not_given() -> None:
    """A default stands in; without one an optional input is null; a required one is missed."""
    parameters = (
        Parameter(name="a", type="integer", default=5),
        Parameter(name="b"),
        Parameter(name="c", required=True),
    )
    values, problems = check_inputs(parameters, {})
    assert values == {"a": 5, "b": None}
    assert [(problem.code, problem.hint) for problem in problems] == [("missing-input", "give `c`")]


def test_a_default_is_nobodys_to_change() -> None:
    """Two executions do not share the value of a default."""
    parameters = (Parameter(name="a", type="array", default=[]),)
    first, _ = check_inputs(parameters, {})
    first["a"].append(1)
    assert check_inputs(parameters, {})[0] == {"a": []}


def test_an_unknown_input_is_told_what_was_meant() -> None:
    """A name that nothing declares is refused, with the likely one or all as hint."""
    parameters = (Parameter(name="source"), Parameter(name="limit"))
    _, problems = check_inputs(parameters, {"sorce": 1, "zzz": 2})
    assert [(problem.code, problem.path, problem.hint) for problem in problems] == [
        ("unknown-input", ("sorce",), "did you mean `source`?"),
        ("unknown-input", ("zzz",), "it takes `source`, `limit`"),
    ]


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("string", ["", "a"], [1, True, [], {}]),
        ("number", [1, 1.5, -3], ["1", True, float("nan"), float("inf")]),
        ("integer", [1, 3.0, 2**70], [1.5, "1", False, float("inf")]),
        ("boolean", [True, False], [0, 1, "true"]),
        ("object", [{}, {"a": 1}], [[], "{}"]),
        ("array", [[], [1]], [{}, "[]"]),
    ],
)
def test_types_are_those_of_json(kind: ValueType, good: list[object], bad: list[object]) -> None:
    """A boolean is no number, text is not converted, and no number is infinite."""
    assert [_one(value, type=kind)[1] for value in good] == [[]] * len(good)
    assert [_one(value, type=kind)[1] for value in bad] == [["wrong-type"]] * len(bad)


def test_an_integer_may_come_as_a_float() -> None:
    """3.0 is the integer 3 from then on."""
    value, problems = _one(3.0, type="integer")
    assert (value, type(value), problems) == (3, int, [])


def test_null_is_for_optional_inputs() -> None:
    """Null says that an input is not there: right for an optional one, whatever its constraints."""
    assert _one(None, minLength=3) == (None, [])
    assert _one(None, required=True)[1] == ["wrong-type"]


@pytest.mark.parametrize(
    ("fields", "value", "message"),
    [
        ({"enum": ["red", "green"]}, "gren", '`x` must be one of ["red", "green"]'),
        ({"const": "a"}, "b", '`x` must be "a"'),
        ({"pattern": "^[a-z]+$"}, "A", '`x` must match the pattern "^[a-z]+$"'),
        ({"format": "email"}, "nobody", '`x` must have the format "email"'),
        ({"minLength": 2}, "a", "`x` is too short: its length must be at least 2"),
        ({"maxLength": 2}, "aaa", "`x` is too long: its length must be at most 2"),
        ({"type": "integer", "minimum": 5}, 4, "`x` must be at least 5"),
        ({"type": "integer", "maximum": 5}, 6, "`x` must be at most 5"),
        ({"type": "number", "exclusiveMinimum": 0.5}, 0.5, "`x` must be above 0.5"),
        ({"type": "number", "exclusiveMaximum": 5}, 5, "`x` must be below 5"),
        ({"type": "integer", "multipleOf": 5}, 7, "`x` must be a multiple of 5"),
        ({"type": "array", "minItems": 1}, [], "`x` has too few items: at least 1"),
        ({"type": "array", "maxItems": 1}, [1, 2], "`x` has too many items: at most 1"),
        ({"type": "array", "items": {"type": "string"}}, ["a", 2],
         '`x.1` must have the type "string"'),
        ({"type": "object", "properties": {"a": {"minimum": 3}}}, {"a": 1},
         "`x.a` must be at least 3"),
        ({"type": "object", "additionalProperties": False}, {"b": 1},
         "`x` does not fit: Additional properties are not allowed ('b' was unexpected)"),
    ],
)  # fmt: skip
def test_a_constraint_that_is_not_met_is_a_sentence(
    fields: dict[str, Any], value: object, message: str
) -> None:
    """Each constraint says what it wants, and where in the value."""
    _, problems = check_inputs((Parameter(name="x", **fields),), {"x": value})
    assert [(problem.code, problem.message) for problem in problems] == [("bad-value", message)]


def test_a_value_that_is_nearly_offered_is_told_which() -> None:
    """Of several values allowed, the likely one is the hint."""
    _, [problem] = check_inputs((Parameter(name="x", enum=("red", "green")),), {"x": "gren"})
    assert problem.hint == "did you mean `green`?"


def test_items_that_come_twice_are_found_in_linear_time() -> None:
    """Twenty thousand objects are compared at once, not each with each."""
    items = [{"a": number} for number in range(20_000)]
    assert _one(items, type="array", uniqueItems=True)[1] == []
    assert _one([*items, {"a": 5}], type="array", uniqueItems=True)[1] == ["bad-value"]


def test_no_pattern_stalls_the_controller() -> None:
    """A pattern that would take a backtracking engine ages takes no time, and still decides."""
    value = "a" * 50_000
    assert _one(value, pattern="^(a+)+$")[1] == []
    assert _one(f"{value}!", pattern="^(a+)+$")[1] == ["bad-value"]


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("date", "2024-02-29", "2023-02-29"),
        ("date-time", "2024-01-01T10:00:00Z", "2024-01-01T10:00:00"),
        ("email", "a@example.org", "a@b@c"),
        ("hostname", "www.example.org", "-a"),
        ("ipv4", "127.0.0.1", "256.0.0.1"),
        ("ipv6", "::1", ":::"),
        ("regex", "^a+$", "("),
        ("time", "10:00:00", "25:00:00"),
        ("uri", "https://example.org/a", "example"),
        ("uuid", "12345678-1234-5678-1234-567812345678", "1234"),
    ],
)
def test_every_format_is_checked(name: str, good: str, bad: str) -> None:
    """A format that is taken says yes to one text and no to another."""
    assert name in FORMATS
    assert _one(good, format=name)[1] == []
    assert _one(bad, format=name)[1] == ["bad-value"]


def test_a_number_too_large_to_divide_is_a_problem() -> None:
    """JSON's integers have no bound; what cannot be checked is refused, not an exception."""
    assert _one(10**400, type="integer", multipleOf=0.1)[1] == ["bad-value"]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), _JSON))
def test_what_passes_fits(given_values: dict[str, Any]) -> None:
    """Without a problem, every declared input is there and has its type, or is null."""
    parameters = (
        Parameter(name="a", type="integer", minimum=0),
        Parameter(name="b", type="array", items={"type": "string"}),
        Parameter(name="c", type="boolean", default=True),
    )
    values, problems = check_inputs(parameters, given_values)
    if not problems:
        assert values.keys() == {"a", "b", "c"}
        assert values["a"] is None or (isinstance(values["a"], int) and values["a"] >= 0)
        assert values["c"] is None or isinstance(values["c"], bool)
        assert all(isinstance(item, str) for item in values["b"] or ())
