"""What is counted is exposed as the client's own metrics would expose it."""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from controller.facts import Fact, FactType
from controller.observe.metrics import Metrics
from controller.observe.tally import Count, Durations

BOUNDS = (0.005, 0.1, 1, 2.5, 3600)


@given(st.lists(st.integers(0, 10_000_000) | st.sampled_from([5, 100, 1_000, 2_500, 3_600_000])))
def test_durations_are_the_clients_histogram(took: list[int]) -> None:
    """Bounds belong to the bucket below, as Prometheus has it; the sum is in seconds."""
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    counted = Durations("x_seconds", "How long", BOUNDS, registry=ours)
    expected = Histogram("x_seconds", "How long", buckets=BOUNDS, registry=theirs)
    for each in took:
        counted.add(each)
        expected.observe(each / 1000)
    assert _shown(ours) == _shown(theirs)


@given(st.lists(st.tuples(st.sampled_from(["a", 'quo"ted', ""]), st.sampled_from(["b", "c"]))))
def test_counts_are_the_clients_counters(met: list[tuple[str, str]]) -> None:
    """One series for each set of labels that was met."""
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    counted = Count("x", "How many", ["one", "two"], registry=ours)
    expected = Counter("x", "How many", ["one", "two"], registry=theirs)
    for each in met:
        counted.add(*each)
        expected.labels(*each).inc()
    assert _shown(ours) == _shown(theirs)


def test_a_count_without_labels_begins_at_zero() -> None:
    """It is there before the first, so that a rate of it can be taken."""
    registry = CollectorRegistry()
    counted = Count("x", "How many", registry=registry)
    assert "x_total 0.0" in _shown(registry)
    counted.add()
    assert "x_total 1.0" in _shown(registry)


def test_no_sum_goes_back() -> None:
    """What ended before it began, by a clock that was set back, took no time."""
    registry = CollectorRegistry()
    counted = Durations("x_seconds", "How long", BOUNDS, registry=registry)
    counted.add(2_000)
    counted.add(-3_600_000)
    assert {"x_seconds_sum 2.0", "x_seconds_count 2.0"} <= set(_shown(registry))


def test_a_workflow_that_is_gone_has_no_series() -> None:
    """Whoever generates workflows by the thousand does not make a scrape ever larger."""
    metrics = Metrics("x", dict)
    for name in ("gone", "stays"):
        metrics.observe(Fact(FactType.COMPLETED, 1_000, name, "e"))
        metrics.observe(Fact(FactType.FAILED, 1_000, name, "f"))
    metrics.observe(Fact(FactType.ARCHIVED, 2_000, "gone"))
    shown = metrics.render().decode()
    assert 'workflow="gone"' not in shown
    assert shown.count('workflow="stays"') == 3


def _shown(registry: CollectorRegistry) -> list[str]:
    """The exposition; sums are rounded: whole milliseconds are added here, and floats there."""
    lines = generate_latest(registry).decode().splitlines()
    said = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return sorted(
        f"{name} {round(float(value), 6) if name.endswith('_sum') else value}"
        for name, _, value in said
        if "_created" not in name
    )
