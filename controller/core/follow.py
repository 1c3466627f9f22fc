"""What follows from a step as it stands: its timeout, how to stop it, the branches it has left."""

from collections.abc import Iterator

from controller.core.execution import Arm, Reason, Status, StepState, Stop


def timeout_of(step: StepState) -> Iterator[Arm]:
    """Attempts of actions are timed by the worker; what waits or holds steps is timed here."""
    timed = step.plan.nested or step.status is Status.WAITING
    if step.plan.timeout is not None and timed and step.reason != Reason.RETRY:
        started = step.started_at or 0
        yield Arm(step.key, step.attempt, "timeout", started + step.plan.timeout)


def more_branches(step: StepState) -> bool:
    """A parallel step has branches that are not open yet."""
    return step.plan.type == "parallel" and step.cursor < len(step.plan.blocks)


def stop_commands(step: StepState, *, force: bool) -> Iterator[Stop]:
    """Containers hold nothing themselves; who waits for a timer or signal has nothing to end."""
    busy = step.status is Status.RUNNING or step.reason == Reason.SUBFLOW
    if busy and not step.plan.nested:
        yield Stop(step.key, step.attempt, force)
