"""Each commit of a history in turn does not go as it should, and all comes to its end."""

from itertools import count
from typing import Any

import pytest

from tests.simulation.scenario import Fault, Scenario, Wish
from tests.simulation.world import simulate


def _step(name: str, action: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "type": "action", "action": action, **more}


def _call(name: str, **more: Any) -> dict[str, Any]:
    return _step(name, "http", inputs={"url": "v1"}, **more)


CHILD = {
    "name": "child",
    "inputs": [{"name": "n", "type": "integer", "default": 3}],
    "triggers": [{"type": "event", "config": {"event": "rang"}}],
    "steps": [_step("wait", "sleep", inputs={"duration": "5s"}), _call("called")],
}
FIRST_WINS = {
    "branches": [
        [{"id": "flow", "type": "subflow", "subflow": "child"}],
        [_step("sooner", "sleep", inputs={"duration": "1s"})],
    ],
    "wait_all": False,
}
PARENT = {
    "name": "parent",
    "inputs": [{"name": "n", "type": "integer", "default": 3}],
    "steps": [
        {"id": "race", "type": "parallel", "parallel": FIRST_WINS},
        _step("ring", "emit", inputs={"event": "rang"}),
        _call("once", idempotent=False, on_error="continue"),
        _call("again", on_error="retry", retry={"attempts": 3, "delay": 500}),
        {"id": "last", "type": "subflow", "subflow": "child", "on_error": "continue"},
    ],
    "error_handler": _call("handler"),
}
"""A child that is cancelled, one that is waited for and one that an event starts; retries."""

NESTED = {**PARENT, "steps": [{"id": "flow", "type": "subflow", "subflow": "child"}]}

WANTED = {
    "completed": (PARENT, (Wish(1.0, "execute", 0), Wish(2.5, "signal", 0))),
    "cancelled": (NESTED, (Wish(1.0, "execute", 0), Wish(1.5, "cancel", 0))),
    "killed": (NESTED, (Wish(1.0, "execute", 0), Wish(1.5, "kill", 0))),
}
TOLD = 4
"""Two definitions and two wishes."""

ENDED = (" is completed", " is failed")


def _ends(history: tuple[str, ...]) -> list[str]:
    """How executions ended that were not stopped: one may be stopped before it is there."""
    return sorted(line.rpartition(" is ")[2] for line in history if line.endswith(ENDED))


@pytest.mark.parametrize("kind", ["failed", "unsure", "crash-before", "crash-after"])
@pytest.mark.parametrize("wanted", WANTED)
def test_each_commit_may_fail(kind: str, wanted: str) -> None:
    """Whoever was told that it is done has all end as it does without the fault.

    Until the fault comes after the last commit, and changes nothing any more.
    """
    parent, wishes = WANTED[wanted]

    def history(*faults: Fault) -> tuple[str, ...]:
        outcome = simulate(Scenario(3, 1, (CHILD, parent), wishes, faults))
        assert outcome.broken is None, "\n".join(outcome.history)
        return outcome.history

    usual = history()
    assert any("is cancelled" in line for line in usual), "no child is cancelled"
    changed = 0
    for number in count(1):
        found = history(Fault(kind, number))
        if found == usual:
            break
        changed += 1
        if sum(line.endswith(": done") for line in found) >= TOLD:
            assert _ends(found) == _ends(usual), "\n".join(found)
    assert changed > len([line for line in usual if " records " in line])
