"""What a fire does while an execution of its schedule is not finished."""

from typing import get_args

import pytest

from controller.core.overlap import Policy, Verdict, overlap


@pytest.mark.parametrize("policy", get_args(Policy))
def test_with_nothing_in_the_way_every_policy_fires(policy: Policy) -> None:
    """A policy is about overlaps, and there is none."""
    assert overlap(policy, 0, 0) is Verdict.FIRE


@pytest.mark.parametrize(
    ("policy", "active", "queued", "verdict"),
    [
        ("skip", 1, 0, "skip-running"),
        ("skip", 1, 1, "skip-running"),
        ("skip", 0, 1, "skip-queued"),
        ("queue_one", 1, 0, "queue"),
        ("queue_one", 1, 1, "skip-queued"),
        ("queue_one", 0, 1, "skip-queued"),
        ("queue_all", 1, 0, "queue"),
        ("queue_all", 0, 7, "queue"),
        ("cancel_running", 1, 0, "cancel-running-and-fire"),
        ("cancel_running", 0, 1, "cancel-running-and-fire"),
        ("allow", 9, 9, "fire"),
    ],
)
def test_each_policy_keeps_its_promise(
    policy: Policy, active: int, queued: int, verdict: str
) -> None:
    """The verdict, in the word that logs and metrics show."""
    assert overlap(policy, active, queued) == verdict


@pytest.mark.parametrize("policy", ["skip", "queue_one"])
def test_bounded_policies_never_hold_more_than_they_say(policy: Policy) -> None:
    """However often a schedule fires, `skip` has one execution and `queue_one` one more."""
    active = queued = 0
    for _ in range(20):
        match overlap(policy, active, queued):
            case Verdict.FIRE:
                active += 1
            case Verdict.QUEUE:
                queued += 1
            case _:
                pass
    assert (active, queued) == (1, 1 if policy == "queue_one" else 0)
