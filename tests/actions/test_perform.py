"""From a planned step to one result or one failure."""

import asyncio
import gc
import subprocess
import sys
import textwrap
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.plan import Signature, StepPlan
from controller.core.problem import Refused
from controller.execute.action import BUILT_IN, ActionFailed, Call, Registry, Result, Suspended
from controller.execute.actions.loading import build
from controller.execute.perform import Performer
from tests.actions.stage import Stage, defined
from tests.fake_clock import FakeClock

ECHO = {"python": "def main(**inputs): return inputs"}
"""Gives back what it is given."""


class Odd:
    """An action that does what a test wants."""

    signature = Signature("odd", open_inputs=True)

    def __init__(self, do: Callable[[Call], Any]) -> None:
        self._do = do

    def perform(self, call: Call, inputs: dict[str, Any]) -> Result | Coroutine[Any, Any, Result]:
        """Do it."""
        del inputs
        result: Result | Coroutine[Any, Any, Result] = self._do(call)
        return result


def odd(stage: Stage, do: Callable[[Call], Any]) -> Stage:
    """The stage, where every built-in action does this."""
    stage.registry = Registry(lambda _: Odd(do))
    stage.performer = Performer(stage.registry, stage.scripts)
    return stage


# -- defined actions ----------------------------------------------------------------------------


async def test_a_defined_action_gets_its_defaults(stage: Stage) -> None:
    """What is not given has its default, or is null."""
    inputs = [
        {"name": "a", "type": "integer", "default": 3},
        {"name": "b", "type": "string"},
        {"name": "c", "type": "array", "default": []},
    ]
    assert await stage.outputs(defined(ECHO, inputs=inputs)) == {"a": 3, "b": None, "c": []}
    assert (await stage.outputs(defined(ECHO, inputs=inputs), a=4.0))["a"] == 4


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "the input `n` (integer) is required"),
        ({"n": "1"}, "`n` must be an integer, not a string"),
        ({"n": None}, "`n` must be an integer, not null"),
        ({"n": 11}, "`n` must be at most 10"),
        ({"n": 1, "m": 2}, "there is no input `m`"),
    ],
)
async def test_inputs_that_do_not_fit_are_refused(
    stage: Stage, given: dict[str, Any], says: str
) -> None:
    """A defined action does not start with what it does not take."""
    action = defined(
        ECHO, inputs=[{"name": "n", "type": "integer", "required": True, "maximum": 10}]
    )
    error = await stage.failure(action, **given)
    assert error.type == "invalid_inputs"
    assert says in error.message
    assert stage.lines == []


async def test_a_declared_output_is_there_and_fits(stage: Stage) -> None:
    """What was declared must be given, with its type or null; more than that is kept."""
    inputs = [{"name": "n", "type": "object"}]
    outputs = [{"name": "n", "type": "object"}]
    action = defined({"python": "def main(n): return n or {}"}, inputs=inputs, outputs=outputs)
    assert await stage.outputs(action, n={"n": {}, "more": 1}) == {"n": {}, "more": 1}
    assert await stage.outputs(action, n={"n": None}) == {"n": None}
    missing = await stage.failure(action)
    assert (missing.type, missing.message) == (
        "bad_output",
        "`d` declares the output `n` and did not give it",
    )
    wrong = await stage.failure(action, n={"n": 1})
    assert (wrong.type, wrong.message) == ("bad_output", "the output `n` of `d` is no object")


async def test_a_defined_action_may_be_a_built_in_one(stage: Stage) -> None:
    """Its inputs are templates over the action's own."""
    action = defined(
        {"set": {"greeting": "hello ${name}", "twice": "${n * 2}", "all": "${inputs}"}},
        inputs=[{"name": "name", "type": "string"}, {"name": "n", "type": "integer"}],
    )
    assert await stage.outputs(action, name="é", n=4) == {
        "greeting": "hello é",
        "twice": 8,
        "all": {"name": "é", "n": 4},
    }


async def test_an_expression_that_fails_is_a_failure(stage: Stage) -> None:
    """Its type is `expression`."""
    action = defined({"set": {"x": "${1 / n}"}}, inputs=[{"name": "n", "type": "integer"}])
    assert (await stage.failure(action, n=0)).type == "expression"


async def test_a_built_in_action_checks_what_expressions_gave(stage: Stage) -> None:
    """Types that nobody could know before are checked when it is called."""
    error = await stage.failure("http", url=7)
    assert (error.type, error.message) == (
        "invalid_inputs",
        "`url` must be a string, not an integer",
    )
    assert (await stage.failure("http")).type == "invalid_inputs"
    assert (await stage.failure("log", message="x", levle="info")).type == "invalid_inputs"


async def test_an_action_that_takes_too_long_times_out(tmp_path: Path, clock: FakeClock) -> None:
    """A defined action's own `timeout` fails it with type `timeout`, and its process has ended."""
    stage = Stage(tmp_path / "scratch", clock=clock)
    action = defined({"shell": "sleep 100"}, timeout="30s")
    running = asyncio.ensure_future(stage.failure(action))
    await clock.advance(0)
    clock.jump(-3_600_000)  # what somebody does to the wall clock changes nothing
    await clock.advance(29_999)
    assert not running.done()
    await clock.advance(1)
    error = await running
    assert error.type == "timeout"
    assert "30 s" in error.message
    stage.close()


async def test_a_cancellation_is_no_timeout(tmp_path: Path, clock: FakeClock) -> None:
    """Cancelled before its timeout, an action is cancelled, not failed."""
    stage = Stage(tmp_path / "scratch", clock=clock)
    running = asyncio.ensure_future(stage.perform(defined({"shell": "sleep 100"}, timeout="30s")))
    await clock.advance(1)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert clock.pending() == []
    stage.close()


async def test_a_defined_action_may_wait(stage: Stage) -> None:
    """A durable wait goes through."""
    action = defined({"approval": {"name": "go"}}, outputs=[{"name": "payload"}])
    assert await stage.perform(action) == Suspended(signal="go", approval=True)


# -- whatever happens is one result or one failure ----------------------------------------------


def raising(error: BaseException) -> Callable[[Call], Any]:
    """An action that raises at once."""

    def do(_call: Call) -> Result:
        raise error

    return do


def later(do: Callable[[Call], Any]) -> Callable[[Call], Any]:
    """The same as a coroutine."""

    async def perform(call: Call) -> Any:
        await asyncio.sleep(0)
        return do(call)

    return perform


@pytest.mark.parametrize("when", [lambda do: do, later], ids=["at-once", "later"])
@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (ValueError("no"), "ValueError", "no"),
        (KeyError(), "KeyError", "KeyError"),
        (RecursionError("deep"), "RecursionError", "deep"),
        (SystemExit(3), "SystemExit", "3"),
        (ActionFailed("mine", "own"), "mine", "own"),
        (Refused("closed", reason="shut"), "shut", "closed"),
    ],
)
async def test_whatever_an_action_raises_is_its_failure(
    stage: Stage, when: Callable[[Any], Any], error: BaseException, kind: str, message: str
) -> None:
    """Its class is the type, its text the message; not even `sys.exit` ends more than the step."""
    failure = await odd(stage, when(raising(error))).failure("set")
    assert (failure.type, failure.message) == (kind, message)


@pytest.mark.parametrize("when", [lambda do: do, later], ids=["at-once", "later"])
@pytest.mark.parametrize(
    "result",
    [
        None,
        [],
        "text",
        {"a": object()},
        {"a": float("nan")},
        {"a": "\ud800"},
        Suspended(until="noon"),  # type: ignore[arg-type]  # as a package without types may
        Suspended(signal=3),  # type: ignore[arg-type]  # the same
        Suspended(until=1, outputs={"a": object()}),
    ],
)
async def test_what_is_no_object_of_json_is_no_result(
    stage: Stage, when: Callable[[Any], Any], result: object
) -> None:
    """An action that gives something else has failed, rather than hang or poison the database."""
    failure = await odd(stage, when(lambda _: result)).failure("set")
    assert failure.type == "bad_output"


@pytest.mark.parametrize("when", [lambda do: do, later], ids=["at-once", "later"])
@pytest.mark.parametrize("outputs", [{"a": object()}, {"a": "\ud800"}, ["a"]])
async def test_a_failure_can_always_be_recorded(
    stage: Stage, when: Callable[[Any], Any], outputs: Any
) -> None:
    """What is no text is replaced in it, and outputs that are not JSON are left out."""
    error = ActionFailed("mi\ud800ne", "own \ud800", outputs)
    failure = await odd(stage, when(raising(error))).failure("set")
    assert (failure.type, failure.message[:5], failure.outputs) == ("mi?ne", "own ?", {})
    kept = await odd(stage, when(raising(ActionFailed("x", "y", {"a": (1,)})))).failure("set")
    assert kept.outputs == {"a": [1]}


async def test_results_are_what_is_read_back(stage: Stage) -> None:
    """Tuples are lists and keys are text from the start, as they will be after a restart."""
    result = await odd(stage, lambda _: {1: (1, 2), "p": Path("x")}).outputs("set")
    assert result == {"1": [1, 2], "p": "x"}


TEXT = st.text(st.characters(exclude_categories=["Cs"]))

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=20,
)


@given(JSON)
async def test_json_passes_unchanged(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    """Every JSON value that goes through an action comes out as it was."""
    stage = Stage(tmp_path_factory.getbasetemp() / "never")
    assert await stage.outputs("set", value=value) == {"value": value}


async def test_a_cancellation_goes_through(stage: Stage) -> None:
    """The one exception that is not a failure is being cancelled."""

    async def forever(_call: Call) -> Result:
        await asyncio.Event().wait()
        raise AssertionError

    running = asyncio.ensure_future(odd(stage, forever).perform("set"))
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_an_action_that_cancels_itself_has_failed(stage: Stage) -> None:
    """A cancellation that nobody asked for does not leave a step running for ever."""
    failure = await odd(stage, later(raising(asyncio.CancelledError()))).failure("set")
    assert failure.type == "CancelledError"


def test_an_action_that_was_never_started_leaves_no_trace(stage: Stage) -> None:
    """Stopped while it waits for its turn, a call is closed with all that is in it."""
    step = StepPlan("a", "", "action", 0, (), action="shell")
    work = stage.performer.perform(step, stage.call(), {"command": "true"})
    assert isinstance(work, Coroutine)
    work.close()
    del work
    gc.collect()  # a coroutine nobody awaited would warn here, and a warning is an error


async def test_an_unknown_action_is_a_failure(stage: Stage) -> None:
    """An action that went away since the plan was made fails its step."""
    assert (await stage.failure("gone")).type == "unknown-action"


# -- the registry ---------------------------------------------------------------------------------


def package(folder: Path, source: str, *points: str) -> None:
    """A package `extra` with entry points, as pip would install it."""
    (folder / "extra.py").write_text(textwrap.dedent(source))
    info = folder / "extra-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: extra\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("\n".join(["[controller.actions]", *points, ""]))


PACKAGE = """
    from controller.core.plan import Signature
    class Twice:
        signature = Signature("twice", open_inputs=True)
        def perform(self, call, inputs):
            return {name: value * 2 for name, value in inputs.items()}
    class Nothing:
        pass
    instance = Twice()
"""


@pytest.fixture
def extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that Python imports from, for this test."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "extra", raising=False)
    return folder


@pytest.mark.parametrize("what", ["Twice", "instance"])
async def test_a_package_adds_an_action(stage: Stage, extra: Path, what: str) -> None:
    """An entry point of the group is an action: an instance, or a class to make one of."""
    package(extra, PACKAGE, f"twice = extra:{what}")
    assert stage.registry.signatures["twice"].open_inputs
    assert await stage.outputs("twice", n=2) == {"n": 4}


@pytest.mark.parametrize(
    ("points", "says"),
    [
        (["twice = extra:Gone"], "extra:Gone cannot be loaded"),
        (["twice = missing:X"], "No module named 'missing'"),
        (["twice = extra:Nothing"], "it has no `signature` and `perform`"),
        (["thrice = extra:Twice"], "its signature is that of 'twice'"),
        (["http = extra:Twice"], "'http' of extra:Twice exists already"),
    ],
)
def test_a_broken_package_is_named(extra: Path, points: list[str], says: str) -> None:
    """What cannot be used is refused with the name of the action and where it comes from."""
    package(extra, PACKAGE, *points)
    registry = Registry(lambda _: Odd(lambda _: {}))
    for _ in range(2):
        with pytest.raises(Refused, match=points[0].split()[0]) as caught:
            assert registry.signatures
        assert says in str(caught.value)
        assert caught.value.reason == "broken-action"


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_every_built_in_action_has_a_module(stage: Stage, name: str) -> None:
    """The signature that validation goes by is that of the action that is called."""
    assert build(name, stage.scripts).signature is BUILT_IN[name]


async def test_what_actions_hold_is_given_back(stage: Stage) -> None:
    """Closed, a performer holds nothing, and can be used again."""
    await stage.outputs("shell", command="true")
    await stage.failure("http", url="http://127.0.0.1:1/")
    await stage.performer.close()
    assert not list(stage.scratch.iterdir())
    assert (await stage.outputs("shell", command="echo again"))["stdout"] == "again\n"
    await stage.performer.close()


def test_the_contract_is_cheap_to_import() -> None:
    """Knowing the actions imports neither an HTTP client nor any of their modules."""
    heavy = "{'aiohttp', 'sqlite3', 'smtplib', 'uvloop', 'sqlalchemy', 'jsonschema'}"
    code = (
        "import sys, controller.execute.action\n"
        f"found = {heavy} & set(sys.modules)\n"
        "found |= {name for name in sys.modules if name.startswith('controller.execute.actions')}\n"
        "print(sorted(found))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
