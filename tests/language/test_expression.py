"""The `${…}` language: values keep their types, mistakes have a place, no value becomes code."""

import subprocess
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.core.expression import ExpressionError, Scope, compile_condition, compile_template
from controller.core.shelltext import compile_shell

SCOPE = Scope(
    names={"n": "integer", "name": "string", "data": "object", "items": "array", "steps": "object"}
)
NAMES: dict[str, Any] = {
    "n": 3,
    "name": "Ada",
    "data": {"a": [{"b": 7}], "none": None},
    "items": [1, 2],
    "steps": {"my-step": {"outputs": {"x": 5}}},
}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${n}", 3),
        ("n is ${n}", "n is 3"),
        ("${data.a[0].b}", 7),
        ("${steps.my-step.outputs.x}", 5),
        ("$${n} ${name}", "${n} Ada"),
        ("${n + 1}", 4),
        ("${items.map(i, i * 2)}", [2, 4]),
        ("${data.none}|", "|"),
        ("${items}!", "[1,2]!"),
    ],
)
def test_a_template_gives_its_value(text: str, value: Any) -> None:
    """Alone it keeps its type; inside text it is text; `$${` is literal."""
    template, problems = compile_template(text, SCOPE, ())
    assert problems == []
    assert template.render(NAMES) == value


@pytest.mark.parametrize(
    ("text", "code", "offset"),
    [
        ("${nmae}", "unknown-name", 2),
        ("x ${n +}", "bad-expression", 7),
        ("${n > 'a'}", "bad-expression", 4),
        ("${name.x}", "wrong-type", 2),
        ("a ${n", "bad-expression", 2),
    ],
)
def test_a_mistake_has_its_place(text: str, code: str, offset: int) -> None:
    """Found when the text is compiled, with the character it begins at."""
    [problem] = compile_template(text, SCOPE, ())[1]
    assert (problem.code, problem.offset) == (code, offset)


@pytest.mark.parametrize(
    ("text", "offset"),
    [("nmae == 'x'", 0), ("n > 2 && nmae", 9), (" nmae", 1), ("${nmae}", 2), (" ${nmae}", 3)],
)
def test_a_mistake_in_a_condition_has_its_place(text: str, offset: int) -> None:
    """With `${…}` around it and without."""
    [problem] = compile_condition(text, SCOPE, ())[1]
    assert (problem.code, problem.offset) == ("unknown-name", offset)


def test_a_missing_key_names_those_there_are() -> None:
    """The error of a path says where it ends."""
    template, _ = compile_template("${data.b}", SCOPE, ())
    with pytest.raises(ExpressionError, match="`data` has no `b`; there is a, none"):
        template.render(NAMES)


def test_a_condition_is_boolean() -> None:
    """Known to be something else: a problem; found to be something else: an error."""
    assert compile_condition("n > 2", SCOPE, ())[0].render(NAMES) is True
    assert [each.code for each in compile_condition("${n}", SCOPE, ())[1]] == ["not-boolean"]
    template, problems = compile_condition("${data.a}", SCOPE, ())
    assert problems == []
    with pytest.raises(ExpressionError, match="true or false"):
        template.render(NAMES)


@given(st.text(max_size=60))
def test_compiling_is_total(text: str) -> None:
    """Any text is a template or a problem, never an exception."""
    for value in (text, f"${{{text}}}"):
        compile_template(value, SCOPE, ())
        compile_condition(value, SCOPE, ())
        compile_shell(value, SCOPE, ())


@settings(max_examples=40)
@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40))
def test_no_value_becomes_shell_code(value: str) -> None:
    """Inside double quotes a real shell prints exactly the value, whatever it holds."""
    text, problems = compile_shell('printf %s "${name}"', SCOPE, ())
    assert problems == []
    script, environment = text.render(NAMES | {"name": value})
    said = subprocess.run(
        ["/bin/sh", "-e", "-c", script], env=environment, capture_output=True, check=True
    )
    assert said.stdout.decode() == value


@pytest.mark.parametrize("text", ["echo '${name}'", "cat <<'E'\n${name}\nE\n"])
def test_what_the_shell_would_not_expand_is_a_problem(text: str) -> None:
    """Single quotes and here-documents with a quoted delimiter."""
    assert [each.code for each in compile_shell(text, SCOPE, ())[1]] == ["shell-single-quote"]
