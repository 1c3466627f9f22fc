"""What a document may say, and what its author is told when it says something else."""

import copy
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.definition import Action, Parameter, Workflow
from controller.core.document import load_document
from controller.core.duration import LONGEST, UNITS, parse_duration
from controller.core.problem import Problem

STEP: dict[str, Any] = {"id": "a", "type": "action", "action": "log"}
WORKFLOW: dict[str, Any] = {"name": "w", "steps": [STEP]}


def _workflow(**fields: object) -> Workflow:
    definition, problems = load_document({**WORKFLOW, **fields})
    assert problems == []
    assert isinstance(definition, Workflow)
    return definition


def _problems(document: object) -> list[Problem]:
    definition, problems = load_document(document)
    assert definition is None
    assert problems
    return problems


def _step(**fields: object) -> list[Problem]:
    return _problems({**WORKFLOW, "steps": [{**STEP, **fields}]})


def _only(problems: list[Problem]) -> Problem:
    [problem] = problems
    return problem


def _codes(problems: list[Problem]) -> set[tuple[str, tuple[str | int, ...]]]:
    return {(problem.code, problem.path) for problem in problems}


def test_the_defaults_are_those_of_the_language() -> None:
    """A document that says only what it must gets the documented defaults."""
    workflow = _workflow()
    step = workflow.steps[0]
    assert (workflow.kind, workflow.version, workflow.status) == ("workflow", "1.0.0", "active")
    assert (step.on_error, step.idempotent, step.depends_on) == ("fail", True, None)
    assert (workflow.timeout, workflow.error_handler, workflow.triggers) == (None, None, ())


def test_an_action_is_what_its_kind_says() -> None:
    """`kind: action` loads an action; `run` names what it does by its one key."""
    document = {"kind": "action", "name": "x", "timeout": "30s"}
    kept = {**document, "sandbox": {"memory": "256M"}}
    python, _ = load_document({**kept, "run": {"python": "def main(): ..."}})
    http, _ = load_document({**document, "run": {"http": {"url": "u"}}})
    assert isinstance(python, Action)
    assert isinstance(http, Action)
    assert (python.run.kind, python.run.script) == ("python", "def main(): ...")
    assert (http.run.kind, http.run.inputs) == ("http", {"url": "u"})
    assert python.sandbox is not None
    assert (python.timeout, python.sandbox.memory) == (30_000, 256 * 1024**2)


@pytest.mark.parametrize("field", [{"sandbox": {"network": False}}, {"env": {"A": "b"}}])
def test_what_is_for_scripts_stands_beside_one(field: dict[str, Any]) -> None:
    """What the controller does itself is kept from nothing: to say so would be a false promise."""
    document = {"kind": "action", "name": "x", **field}
    assert load_document({**document, "run": {"shell": "true"}})[1] == []
    problem = _only(_problems({**document, "run": {"http": {"url": "u"}}}))
    assert (problem.code, problem.path) == ("unknown-field", tuple(field))
    assert "`http` is done by the controller itself" in problem.message


@pytest.mark.parametrize("run", [{}, {"python": "", "shell": ""}, {"shell": " "}, {"http": "u"}])
def test_a_run_that_is_unclear_is_refused(run: object) -> None:
    """`run` without one key, an empty script, or inputs that have no names: one problem there."""
    problem = _only(_problems({"kind": "action", "name": "x", "run": run}))
    assert (problem.code, problem.path) == ("bad-value", ("run",))


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        (1500, 1500), (1500.0, 1500), ("1500", 1500), ("500ms", 500), ("30s", 30_000),
        ("1.5h", 5_400_000), ("1h30m", 5_400_000), ("1h 30m", 5_400_000), ("2d", 172_800_000),
    ],
)  # fmt: skip
def test_a_duration_is_milliseconds_or_text(text: object, milliseconds: int) -> None:
    """Numbers are milliseconds; text has units, and several of them add up."""
    assert _workflow(timeout=text).timeout == milliseconds


@given(st.integers(0, LONGEST), st.sampled_from(sorted(UNITS)))
def test_durations_in_whole_units_are_exact(amount: int, unit: str) -> None:
    """A whole number of a unit is that many times the unit, or refused as too long."""
    text = f"{amount}{unit}"
    if amount * UNITS[unit] <= LONGEST:
        assert parse_duration(text) == amount * UNITS[unit]
    else:
        with pytest.raises(ValueError, match="hundred years"):
            parse_duration(text)


@pytest.mark.parametrize(
    "value", [-1, 1.5, True, "", "5 minutes", "-5s", "s", [], "9" * 400 + "s", 10**30]
)
def test_what_is_no_duration_is_one_problem(value: object) -> None:
    """Anything else, however large, is a problem at the field and never an exception."""
    problem = _only(_step(retry={"delay": value}))
    assert (problem.code, problem.path) == ("bad-value", ("steps", 0, "retry", "delay"))


def test_seconds_without_a_unit_are_caught() -> None:
    """`timeout: 1.5` is most likely meant as seconds, and the message says how to write them."""
    assert "1.5s" in _only(_step(timeout=1.5)).message


def test_a_misspelt_field_is_told_what_was_meant() -> None:
    """An unknown field is a problem at its name, with the likely one as hint."""
    problem = _only(_step(depend_on=[]))
    assert (problem.code, problem.path) == ("unknown-field", ("steps", 0, "depend_on"))
    assert problem.at_key
    assert problem.hint == "did you mean `depends_on`?"


@pytest.mark.parametrize(
    ("trigger", "hint"),
    [
        ({"type": "webhook", "config": {"cron": "@daily"}}, "known here: inputs, secret"),
        ({"type": "webhook", "config": {"sekret": "x"}}, "did you mean `secret`?"),
        ({"type": "event", "config": {"event": "x", "cron": 1}}, "known here: event, inputs, when"),
        ({"type": "event", "config": {"event": "x", "evnt": "x"}}, "did you mean `event`?"),
        ({"type": "scheduled", "config": {"at": 1, "crn": "@daily"}}, "did you mean `cron`?"),
    ],
)
def test_a_field_of_a_trigger_is_compared_with_those_of_its_type(
    trigger: dict[str, Any], hint: str
) -> None:
    """Each item of `triggers` has the fields of its own type, wherever it stands in the list."""
    first = {"type": "scheduled", "config": {"cron": "@daily"}}
    problems = _problems({**WORKFLOW, "triggers": [first, trigger]})
    unknown = next(each for each in problems if each.code == "unknown-field")
    assert unknown.path[:2] == ("triggers", 1)
    assert unknown.hint == hint


@pytest.mark.parametrize(("foreign", "ours"), [("needs", "depends_on"), ("if", "when")])
def test_the_words_of_other_systems_are_understood(foreign: str, ours: str) -> None:
    """A field that other systems call differently is named in the hint."""
    assert _only(_step(**{foreign: "x"})).hint == f"did you mean `{ours}`?"


@pytest.mark.parametrize("name", ["as_", "while_"])
def test_names_of_the_code_are_no_fields(name: str) -> None:
    """Only the names of the language are fields, not those that Python needs instead."""
    loop = {"over": [1], "steps": [STEP | {"id": "b"}], name: "x"}
    problems = _problems({"name": "w", "steps": [{"id": "a", "type": "loop", "loop": loop}]})
    assert _codes(problems) == {("unknown-field", ("steps", 0, "loop", name))}


@pytest.mark.parametrize(
    ("fields", "hint"),
    [
        ({"on_error": "continu"}, "did you mean `continue`?"),
        ({"type": "acton"}, "did you mean `action`?"),
        ({"retry": {"backoff": "quadratic"}}, "one of: constant, linear, exponential"),
    ],
)
def test_a_value_that_is_not_offered_is_told_what_is(fields: dict[str, Any], hint: str) -> None:
    """A value that is not among those allowed says which one was meant, or all."""
    problem = _only(_step(**fields))
    assert problem.code == "bad-value"
    assert problem.hint == hint


def test_a_misspelt_kind_is_one_problem() -> None:
    """The document is then read as what it most likely is, and not called wrong throughout."""
    problem = _only(_problems({"kind": "actoin", "name": "x", "run": {"log": {}}}))
    assert (problem.path, problem.hint) == (("kind",), "did you mean `action`?")


def test_an_action_without_its_kind_is_told_so() -> None:
    """`run` in a document without a kind is most likely an action."""
    hints = {problem.hint for problem in _problems({"name": "x", "run": {"log": {}}})}
    assert "the definition of an action begins with `kind: action`" in hints


@pytest.mark.parametrize(
    ("fields", "message", "hint"),
    [
        ({"description": 5}, "`description` must be text, not `5`", 'quote it: "5"'),
        ({"description": None}, "`description` must be text, not null",
         "give it a value, or remove the line"),
        ({"outputs": "x"}, "`outputs` must be a list, not `x`", "write [x]"),
        ({"idempotent": "no"}, "`idempotent` must be true or false, not `no`",
         "write true or false, without quotes"),
        ({"when": 5}, "`when` must be text, or true or false, not `5`", None),
        ({"retry": {"attempts": "3"}}, "`attempts` must be a whole number, not `3`",
         "write it without quotes"),
        ({"retry": {"attempts": True}}, "`attempts` must be a whole number, not `true`", None),
        ({"retry": []}, "`retry` must be made of `name: value` lines, not a list", None),
    ],
)  # fmt: skip
def test_a_wrong_type_is_said_in_plain_words(
    fields: dict[str, Any], message: str, hint: str | None
) -> None:
    """The message says what is needed and what is there; the hint how to write it."""
    problem = _only(_step(**fields))
    assert (problem.code, problem.message, problem.hint) == ("wrong-type", message, hint)


@pytest.mark.parametrize(
    ("retry", "message"),
    [
        ({"attempts": 0}, "`attempts` must be at least 1, not `0`"),
        ({"attempts": 1001}, "`attempts` must be at most 1000, not `1001`"),
        ({"jitter": 1.5}, "`jitter` must be at most 1, not `1.5`"),
    ],
)
def test_a_retry_has_bounds(retry: dict[str, Any], message: str) -> None:
    """At least one try, at most a thousand, and jitter is a share."""
    assert _only(_step(retry=retry)).message == message


def test_retry_is_allowed_without_saying_how() -> None:
    """`on_error: retry` takes everything from the settings."""
    assert _workflow(steps=[{**STEP, "on_error": "retry"}]).steps[0].retry is None


@pytest.mark.parametrize("name", ["", "a b", "-a", "a\n", "ä", "a" * 300])
def test_an_identity_has_an_alphabet(name: str) -> None:
    """Names and ids are plain, because commands, paths and expressions hold them."""
    assert {problem.path for problem in _problems({**WORKFLOW, "name": name})} == {("name",)}
    assert {problem.path for problem in _step(id=name)} == {("steps", 0, "id")}


def test_ids_are_unique_however_deep() -> None:
    """A branch, a loop, a condition and the error handler share one space of ids."""
    deep = {"id": "b", "type": "condition", "condition": {"expression": True, "else_steps": [STEP]}}
    problems = _problems({"name": "w", "steps": [STEP, deep], "error_handler": STEP})
    assert _codes(problems) == {
        ("duplicate-id", ("steps", 1, "condition", "else_steps", 0, "id")),
        ("duplicate-id", ("error_handler", "id")),
    }


@pytest.mark.parametrize("kind", ["condition", "parallel", "loop", "subflow"])
def test_a_step_has_the_field_of_its_type_and_no_other(kind: str) -> None:
    """The field a type needs is missed, and that of another type refused."""
    assert _codes(_step(type=kind)) == {
        ("missing-field", ("steps", 0)),
        ("unknown-field", ("steps", 0, "action")),
    }


def test_goto_needs_a_reason_and_a_reason_needs_goto() -> None:
    """`goto` is for `on_error: goto` or `retry.then: goto`, and they need it."""
    assert _codes(_step(goto="b")) == {("bad-value", ("steps", 0, "goto"))}
    assert _codes(_step(on_error="goto")) == {("missing-field", ("steps", 0))}
    assert _codes(_step(retry={"then": "goto"})) == {("missing-field", ("steps", 0))}
    _workflow(steps=[{**STEP, "retry": {"then": "goto"}, "goto": "a"}])


@pytest.mark.parametrize(
    ("loop", "code"),
    [
        ({}, "missing-field"),
        ({"over": [], "while": "${x}"}, "bad-value"),
        ({"while": "${x}", "parallel": 2}, "bad-value"),
    ],
)
def test_a_loop_has_items_or_a_condition(loop: dict[str, Any], code: str) -> None:
    """`over` or `while`, and the latter one iteration after another."""
    body = {**loop, "steps": [{**STEP, "id": "b"}]}
    problems = _problems({"name": "w", "steps": [{"id": "a", "type": "loop", "loop": body}]})
    assert _only(problems).code == code


@pytest.mark.parametrize("config", [{}, {"cron": "* * * * *", "at": "2030-01-01T00:00:00Z"}])
def test_a_schedule_has_either_cron_or_at(config: dict[str, str]) -> None:
    """Neither and both are refused."""
    problems = _problems({**WORKFLOW, "triggers": [{"type": "scheduled", "config": config}]})
    assert _only(problems).code == "bad-schedule"


def test_a_problem_of_a_trigger_is_where_the_document_has_it() -> None:
    """No name of the validator's own stands in a path, even if the document has the same word."""
    config = {"cron": "* * * * *", "overlp": "skip", "scheduled": 1}
    triggers = [{"type": "scheduled", "config": config, "scheduled": 1}, {"type": "scheduld"}, {}]
    assert _codes(_problems({**WORKFLOW, "triggers": triggers})) == {
        ("unknown-field", ("triggers", 0, "config", "overlp")),
        ("unknown-field", ("triggers", 0, "config", "scheduled")),
        ("unknown-field", ("triggers", 0, "scheduled")),
        ("bad-value", ("triggers", 1, "type")),
        ("missing-field", ("triggers", 2)),
    }


def test_a_document_inside_a_document_is_found() -> None:
    """A wrapper named like a kind does not move the places of other problems."""
    assert _codes(_problems({"workflow": {"name": "w"}})) == {
        ("unknown-field", ("workflow",)),
        ("missing-field", ()),
    }


def test_all_problems_are_told_at_once() -> None:
    """A misspelt field does not hide an id that comes twice, a missing field or a bad default."""
    document = {
        "name": "w",
        "statu": "active",
        "inputs": [{"name": "x", "type": "integer", "default": "much"}, {"nam": "y"}],
        "steps": [
            STEP,
            {"id": "a", "type": "subflow", "on_error": "continu"},
            "not a step",
            {"id": "c", "type": "parallel", "parallel": {"branches": [[STEP]]}},
            {"id": "d", "type": "condition"},
        ],
    }
    assert _codes(_problems(document)) == {
        ("unknown-field", ("statu",)),
        ("bad-default", ("inputs", 0, "default")),
        ("unknown-field", ("inputs", 1, "nam")),
        ("missing-field", ("inputs", 1)),
        ("duplicate-id", ("steps", 1, "id")),
        ("bad-value", ("steps", 1, "on_error")),
        ("wrong-type", ("steps", 2)),
        ("duplicate-id", ("steps", 3, "parallel", "branches", 0, 0, "id")),
        ("missing-field", ("steps", 4)),
    }


def test_what_follows_from_a_problem_is_not_told() -> None:
    """A misspelt `goto` makes one problem, not also a step that goes nowhere."""
    assert _codes(_step(on_error="goto", gotoo="b")) == {("unknown-field", ("steps", 0, "gotoo"))}
    assert _codes(_step(action=5)) == {("wrong-type", ("steps", 0, "action"))}


def test_loading_leaves_the_document_alone() -> None:
    """Neither a good nor a wrong document is changed by loading it."""
    for document in (WORKFLOW, {**WORKFLOW, "steps": [{"idd": 1}, 3], "kind": "x"}):
        before = copy.deepcopy(document)
        load_document(document)
        assert document == before


@pytest.mark.parametrize(
    ("constraints", "path"),
    [
        ({"type": "strin"}, ("type",)),
        ({"default": 5}, ("default",)),
        ({"enum": ["a", 5]}, ("enum", 1)),
        ({"pattern": "("}, ("pattern",)),
        ({"pattern": "a(?=b)"}, ("pattern",)),
        ({"format": "emial"}, ("format",)),
        ({"minLength": 5, "maxLength": 3}, ("minLength",)),
        ({"type": "array", "items": 5}, ("items",)),
        ({"type": "array", "items": {"type": "strin"}}, ("items", "type")),
        ({"type": "array", "items": {"$ref": "#"}}, ("items", "$ref")),
        ({"type": "object", "properties": {"a": {"pattern": "("}}}, ("properties", "a", "pattern")),
    ],
)
def test_a_constraint_that_cannot_work_is_refused(
    constraints: dict[str, Any], path: tuple[str | int, ...]
) -> None:
    """Bad types, patterns, formats, ranges and schemas are found when a definition is read."""
    problems = _problems({**WORKFLOW, "inputs": [{"name": "x", **constraints}]})
    assert {problem.path for problem in problems} == {("inputs", 0, *path)}


def test_a_constraint_without_effect_is_a_warning() -> None:
    """`minimum` of a text checks nothing; the definition loads, and its author is told."""
    inputs = [{"name": "x", "type": "string", "minimum": 3}]
    definition, problems = load_document({**WORKFLOW, "inputs": inputs})
    assert definition is not None
    assert [(problem.code, problem.severity) for problem in problems] == [("no-effect", "warning")]


def test_absent_and_null_defaults_differ() -> None:
    """`default: null` is a default."""
    assert Parameter(name="x", default=None).has_default
    assert not Parameter(name="x").has_default


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(sorted({*Workflow.model_fields, *Action.model_fields, "id", "type"})),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(_JSON)
def test_loading_never_raises(data: object) -> None:
    """Whatever JSON says, there is a definition or an error, and every path is in the document."""
    definition, problems = load_document(data)
    assert (definition is None) == any(problem.severity == "error" for problem in problems)
    for problem in problems:
        here: object = data
        for key in problem.path:
            assert isinstance(here, dict | list)
            here = cast("dict[str | int, object]", here)[key]
