"""Retries: how often, and how long in between."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.retry import LONGEST, RetryPolicy, delay_before, may_retry

PLAIN = RetryPolicy(
    attempts=3,
    delay=1000,
    backoff="exponential",
    max_delay=None,
    jitter=0.0,
    on=(),
    then="fail",
)
POLICIES = st.builds(
    RetryPolicy,
    attempts=st.integers(1, 100),
    delay=st.integers(0, 10**12),
    backoff=st.sampled_from(["constant", "linear", "exponential"]),
    max_delay=st.none() | st.integers(0, 10**12),
    jitter=st.floats(0, 1),
    on=st.just(()),
    then=st.just("fail"),
)
FAILURES = st.integers(1, 10**9)


@pytest.mark.parametrize(
    ("backoff", "waits"),
    [
        ("constant", [1000, 1000, 1000, 1000]),
        ("linear", [1000, 2000, 3000, 4000]),
        ("exponential", [1000, 2000, 4000, 8000]),
    ],
)
def test_waits_grow_as_the_backoff_says(backoff: str, waits: list[int]) -> None:
    """The delay; the delay times n; the delay times two to the n minus one."""
    policy = replace(PLAIN, backoff=backoff)  # type: ignore[arg-type]  # from the table above
    assert [delay_before(policy, failed, "e/s/1") for failed in (1, 2, 3, 4)] == waits


def test_max_delay_bounds_the_wait() -> None:
    """From the third failure on, four seconds would be more than three."""
    policy = replace(PLAIN, max_delay=3000)
    assert [delay_before(policy, failed, "e/s/1") for failed in (1, 2, 3, 9)] == [
        1000,
        2000,
        3000,
        3000,
    ]


@given(POLICIES, FAILURES, st.text())
def test_a_wait_is_bounded_whatever_the_numbers(
    policy: RetryPolicy, failed: int, seed: str
) -> None:
    """No count of failures overflows or takes long; no wait is negative or above a bound."""
    wait = delay_before(policy, failed, seed)
    assert 0 <= wait <= LONGEST
    assert policy.max_delay is None or wait <= policy.max_delay


@given(POLICIES, FAILURES, st.text())
def test_a_replay_waits_as_long(policy: RetryPolicy, failed: int, seed: str) -> None:
    """The same execution, step and attempt always give the same wait."""
    assert delay_before(policy, failed, seed) == delay_before(policy, failed, seed)


@given(POLICIES, st.integers(1, 10**6))
def test_without_jitter_waits_never_shrink(policy: RetryPolicy, failed: int) -> None:
    """A later attempt waits at least as long as the one before it."""
    policy = replace(policy, jitter=0.0)
    assert delay_before(policy, failed, "s") <= delay_before(policy, failed + 1, "s")


@given(POLICIES, FAILURES, st.text())
def test_jitter_takes_off_no_more_than_its_share(
    policy: RetryPolicy, failed: int, seed: str
) -> None:
    """A jitter of 0.2 leaves at least four fifths of the wait."""
    full = delay_before(replace(policy, jitter=0.0), failed, seed)
    wait = delay_before(policy, failed, seed)
    assert full * (1 - policy.jitter) - 1 <= wait <= full


def test_jitter_is_the_same_in_every_process_and_spreads() -> None:
    """Known values, because they are for ever; a hundred executions do not wait alike."""
    policy = replace(PLAIN, jitter=1.0, delay=1_000_000)
    waits = [delay_before(policy, 1, f"execution-{n}/step/1") for n in range(100)]
    assert waits[:2] == [291_090, 803_034]
    assert len(set(waits)) == 100
    assert min(waits) < 100_000
    assert max(waits) > 900_000


def test_attempts_count_the_first_try() -> None:
    """With three attempts there are two retries."""
    assert [may_retry(PLAIN, tries, "exit") for tries in (1, 2, 3, 4)] == [True, True, False, False]


def test_only_the_listed_error_types_are_tried_again() -> None:
    """`on` names them; without it every type is."""
    policy = replace(PLAIN, on=("timeout", "http"))
    assert may_retry(policy, 1, "timeout")
    assert not may_retry(policy, 1, "exit")
    assert may_retry(PLAIN, 1, "exit")
