"""The properties can fail: each breakage of the state machine is found by one of them."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from controller.core.execution import Reason, Status
from controller.core.transition import Transition as RealTransition
from tests.engine import test_properties as properties

Transition: Any = RealTransition


def _forget_dependents(self: Any, step: Any) -> None:
    """Settling a step tells only the first of those that wait for it."""
    for name in step.plan.dependents[:1]:
        below = step.frame.steps[name]
        below.unmet -= 1
        if below.unmet == 0:
            self.ready.append(below)


def _same_attempt(self: Any, step: Any, status: Status, *, subflow: bool = False) -> None:
    """A retry has the number of the attempt before."""
    step.attempt = max(step.attempt, 1)
    step.tries += 1
    step.started_at = self.at
    step.stopping = False
    step.due = None
    step.error = step.failure = None
    self.change(step, status, Reason.SUBFLOW if subflow else None)


def _miscount(self: Any, step: Any, status: Status, reason: Reason | None = None) -> None:
    """Settled steps are not counted off."""
    real_change(self, step, status, reason)
    if status is Status.SKIPPED:
        step.frame.open += 1


real_change = Transition.change

MUTATIONS: dict[str, tuple[str, Callable[..., Any], str]] = {
    "dependents": ("settled", _forget_dependents, "test_every_execution_ends"),
    "attempts": ("attempt", _same_attempt, "test_no_attempt_is_performed_twice"),
    "counts": ("change", _miscount, "test_counts_are_what_a_recount_gives"),
}


@pytest.mark.timeout(400)
@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_broken_machine_is_found(mutation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the method replaced by one that is subtly wrong, the property does not hold."""
    method, wrong, name = MUTATIONS[mutation]
    claim = getattr(properties, name).hypothesis.inner_test
    arguments = (properties.workflows(), properties.CHOICES)
    bold = settings(
        max_examples=500,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    monkeypatch.setattr(Transition, method, wrong)
    with pytest.raises(AssertionError):
        bold(given(*arguments)(claim))()
