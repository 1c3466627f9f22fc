"""What to do when a schedule fires while an execution of it is not finished."""

from enum import StrEnum
from typing import Literal

Policy = Literal["skip", "queue_one", "queue_all", "cancel_running", "allow"]


class Verdict(StrEnum):
    """The decision, in the words that logs, metrics, the API and the page show."""

    FIRE = "fire"
    QUEUE = "queue"
    SKIP_RUNNING = "skip-running"
    SKIP_QUEUED = "skip-queued"
    CANCEL_RUNNING_AND_FIRE = "cancel-running-and-fire"


def overlap(policy: str, active: int, queued: int) -> Verdict:
    """Decide about one fire of a schedule.

    Args:
        policy: `skip`: nothing else may be active or queued. `queue_one`: one may wait.
            `queue_all`: all wait, and go one after another. `cancel_running`: the newest wins.
            `allow`: all at once.
        active: Executions of the schedule that have started and not ended.
        queued: Executions of the schedule that have not started.

    Raises:
        ValueError: There is an overlap, and the policy is none of `Policy`.
    """
    if not active and not queued:
        return Verdict.FIRE
    match policy:
        case "allow":
            return Verdict.FIRE
        case "skip":
            return Verdict.SKIP_RUNNING if active else Verdict.SKIP_QUEUED
        case "queue_one":
            return Verdict.SKIP_QUEUED if queued else Verdict.QUEUE
        case "queue_all":
            return Verdict.QUEUE
        case "cancel_running":
            return Verdict.CANCEL_RUNNING_AND_FIRE
        case _:
            raise ValueError(f"`{policy}` is not an overlap policy")
