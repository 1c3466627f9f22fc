"""What follows from a step as it stands: its timeout, how to stop it, what it holds or has left."""

from collections.abc import Iterator

from controller.core.execution import Arm, ExecutionState, Reason, Status, StepState, Stop
from controller.core.retry import may_retry

NEVER_AGAIN = frozenset({"interrupted", "expression", "goto_limit", "max_iterations"})
"""Error types that trying again cannot mend; retried only where `retry.on` names them."""


def timeout_of(step: StepState) -> Iterator[Arm]:
    """Attempts of actions are timed by the worker; what waits or holds steps is timed here."""
    timed = step.plan.nested or step.status is Status.WAITING
    if step.plan.timeout is not None and timed and step.reason != Reason.RETRY:
        yield Arm(step.key, step.attempt, "timeout", step.since + step.plan.timeout)


def will_retry(step: StepState, kind: str) -> bool:
    """Whether its policy leaves another try after an error of this type."""
    policy = step.plan.retry
    if policy is None or (kind in NEVER_AGAIN and kind not in policy.on):
        return False
    return may_retry(policy, step.tries, kind)


def inside(state: ExecutionState, step: StepState) -> Iterator[StepState]:
    """Every step that was met below this one, the deepest first."""
    prefixes = [step.frame.scope.prefix]
    if step.plan.type == "loop":
        prefixes = [f"{step.key}[{index}]." for index in range(step.cursor)]
    for block in step.plan.blocks:
        for prefix in prefixes:
            for plan in block.steps:
                inner = state.steps.get(prefix + plan.id)
                if inner is not None:
                    yield from inside(state, inner)
                    yield inner


def more_branches(step: StepState) -> bool:
    """A parallel step has branches that are not open yet."""
    return step.plan.type == "parallel" and step.cursor < len(step.plan.blocks)


def stop_commands(step: StepState, *, force: bool) -> Iterator[Stop]:
    """Containers hold nothing themselves; who waits for a timer or signal has nothing to end."""
    busy = step.status is Status.RUNNING or step.reason == Reason.SUBFLOW
    if busy and not step.plan.nested:
        yield Stop(step.key, step.attempt, force)
