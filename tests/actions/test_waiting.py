"""The actions that compute and return, and those that wait without holding anything."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.execute.action import Suspended
from controller.execute.actions.sleep import wake_time
from tests.actions.stage import Stage
from tests.fake_clock import START, FakeClock


@pytest.fixture
def still(tmp_path: Path, clock: FakeClock) -> Stage:
    """A stage whose clock stands at `START`."""
    return Stage(tmp_path / "scratch", clock=clock)


@pytest.mark.parametrize(
    ("inputs", "until"),
    [
        ({"duration": 1500}, START + 1500),
        ({"duration": "1h30m"}, START + 5_400_000),
        ({"until": "2026-01-01T00:00:02Z"}, START + 2000),
        ({"until": "2026-01-01T02:00:00.5+01:00"}, START + 3_600_500),
        ({"until": "2026-01-02"}, START + 86_400_000),
    ],
)
async def test_a_sleep_is_a_time_to_go_on(still: Stage, inputs: dict[str, Any], until: int) -> None:
    """Durations count from now, times are ISO 8601 and UTC unless they say otherwise."""
    assert await still.perform("sleep", **inputs) == Suspended(until=until)


@pytest.mark.parametrize("inputs", [{"duration": 0}, {"until": "2025-12-31T23:59:59Z"}])
async def test_a_sleep_that_is_over_does_not_wait(still: Stage, inputs: dict[str, Any]) -> None:
    """A time that has passed is now."""
    assert await still.perform("sleep", **inputs) == {}


@pytest.mark.parametrize(
    "inputs",
    [
        {},
        {"duration": 1, "until": "2026-01-02"},
        {"duration": "soon"},
        {"duration": -1},
        {"duration": True},
        {"until": "tomorrow"},
        {"until": "0001-01-01T00:00:00+14:00"},
    ],
)
async def test_a_sleep_without_an_end_is_refused(still: Stage, inputs: dict[str, Any]) -> None:
    """Neither, both, or what is no time at all fail as `invalid_inputs`."""
    if "0001" in str(inputs.get("until")):
        assert await still.perform("sleep", **inputs) == {}
    else:
        assert (await still.failure("sleep", **inputs)).type == "invalid_inputs"


@given(now=st.integers(0, 4_000_000_000_000), duration=st.integers(0, 10**12))
def test_a_duration_is_exact(now: int, duration: int) -> None:
    """No millisecond is lost."""
    assert wake_time(now, duration, None) == now + duration


async def test_a_signal_is_waited_for_by_name(still: Stage) -> None:
    """Without a timeout for ever, with one until then."""
    assert await still.perform("wait_for_signal", name="go") == Suspended(signal="go")
    assert await still.perform("wait_for_signal", name="go", timeout="5m") == Suspended(
        signal="go", until=START + 300_000
    )
    assert (await still.failure("wait_for_signal")).type == "invalid_inputs"


async def test_an_approval_says_what_it_waits_for(still: Stage) -> None:
    """It has its step's name unless it has one of its own, and the log says what to send."""
    assert await still.perform("approval") == Suspended(signal="a", approval=True)
    waiting = await still.perform("approval", name="ship", message="Ship it?", timeout=1000)
    assert waiting == Suspended(signal="ship", approval=True, until=START + 1000)
    assert still.said == ["waiting for approval (signal 'a')", "Ship it? (signal 'ship')"]


async def test_log_leaves_a_line(still: Stage) -> None:
    """At its level, `info` by default, with any value as text."""
    await still.outputs("log", message="hello")
    await still.outputs("log", message={"a": [1, None]}, level="error", fields={"n": 1})
    assert still.lines == [("info", "hello"), ("error", '{"a":[1,null]}')]
    assert (await still.failure("log", message="x", level="loud")).type == "invalid_inputs"


async def test_set_gives_back_what_it_is_given(still: Stage) -> None:
    """Any names, any values."""
    assert await still.outputs("set", a=1, b=[None, {"c": "é"}]) == {
        "a": 1,
        "b": [None, {"c": "é"}],
    }


async def test_fail_fails_as_it_is_told(still: Stage) -> None:
    """With the author's type and message, or something to tell it by."""
    error = await still.failure("fail", type="quota", message="no more")
    assert (error.type, error.message) == ("quota", "no more")
    error = await still.failure("fail")
    assert (error.type, error.message) == ("fail", "step a was told to fail")


async def test_emit_hands_an_event_to_the_engine(still: Stage) -> None:
    """With its data, or an empty object."""
    assert await still.outputs("emit", event="deployed", data={"v": 1}) == {}
    await still.outputs("emit", event="deployed")
    assert still.events == [("deployed", {"v": 1}), ("deployed", {})]
