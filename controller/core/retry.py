"""How often a step is tried, and how long it waits in between."""

from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Literal, assert_never

LONGEST: Final = 30 * 86_400_000
"""Milliseconds: no wait is longer than thirty days, whatever the policy multiplies out to."""
_DOUBLINGS: Final = LONGEST.bit_length()
"""After so many even one millisecond is past the longest wait."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """A step's `retry`, with the settings' defaults filled in.

    Attributes:
        attempts: All tries, the first included; at least 1.
        delay: Milliseconds, the unit that `backoff` multiplies.
        backoff: After the nth failure: delay, delay * n, or delay * 2**(n-1).
        max_delay: Milliseconds; bounds the wait before jitter. None: only `LONGEST` does.
        jitter: 0 to 1: how much of the wait may be taken off.
        on: Error types worth another try; empty: all.
        then: What follows when the tries are used up.
    """

    attempts: int
    delay: int
    backoff: Literal["constant", "linear", "exponential"]
    max_delay: int | None
    jitter: float
    on: tuple[str, ...]
    then: Literal["fail", "continue", "goto"]


def may_retry(policy: RetryPolicy, tries: int, error_type: str) -> bool:
    """Whether a step that failed with this error after so many tries is tried again."""
    return tries < policy.attempts and (not policy.on or error_type in policy.on)


def delay_before(policy: RetryPolicy, attempt_failed: int, seed: str) -> int:
    """Milliseconds to wait before the next attempt.

    Jitter shortens and never lengthens, so that `max_delay` stays a bound.

    Args:
        policy: Of the step.
        attempt_failed: Which attempt failed: 1 is the first.
        seed: `execution/step/attempt`: a replay gets the same wait, two executions do not.
    """
    wait = min(_backed_off(policy, max(attempt_failed, 1)), LONGEST)
    if policy.max_delay is not None:
        wait = min(wait, policy.max_delay)
    share = int.from_bytes(sha256(seed.encode(errors="replace")).digest()[:6]) / 2**48
    return max(wait - int(wait * policy.jitter * share), 0)


def _backed_off(policy: RetryPolicy, failures: int) -> int:
    match policy.backoff:
        case "constant":
            return policy.delay
        case "linear":
            return policy.delay * failures
        case "exponential":
            return policy.delay << min(failures - 1, _DOUBLINGS)
    assert_never(policy.backoff)
