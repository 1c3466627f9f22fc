"""Numbers of what happens thousands of times a second: plain numbers, made metrics when scraped.

They are counted on one thread, the loop's, so they need none of the locks, look-ups and checks that
the client's own counters have; whoever scrapes takes a copy.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.registry import Collector, CollectorRegistry


class Count(Collector):
    """A counter for each set of labels that was met; without labels, one from the start."""

    def __init__(
        self, name: str, what: str, labels: Sequence[str] = (), *, registry: CollectorRegistry
    ) -> None:
        self._name, self._what, self._labels = name, what, labels
        self._found: dict[tuple[str, ...], int] = {} if labels else {(): 0}
        registry.register(self)

    def add(self, *values: str, count: int = 1) -> None:
        """So many more of these."""
        self._found[values] = self._found.get(values, 0) + count

    def forget(self, value: str) -> None:
        """Drop those whose first label this is."""
        for values in [each for each in self._found if each[0] == value]:
            del self._found[values]

    def collect(self) -> Iterable[CounterMetricFamily]:
        """All of them now."""
        family = CounterMetricFamily(self._name, self._what, labels=self._labels)
        for values, count in self._found.copy().items():
            family.add_metric(values, count)
        yield family


class Latest(Collector):
    """A gauge for each value of a label: the number that was last set."""

    def __init__(self, name: str, what: str, label: str, *, registry: CollectorRegistry) -> None:
        self._name, self._what, self._label = name, what, label
        self._found: dict[str, float] = {}
        registry.register(self)

    def set(self, value: str, number: float) -> None:
        """It is this now."""
        self._found[value] = number

    def forget(self, value: str) -> None:
        """Drop it."""
        self._found.pop(value, None)

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """All of them now."""
        family = GaugeMetricFamily(self._name, self._what, labels=[self._label])
        for value, number in self._found.copy().items():
            family.add_metric([value], number)
        yield family


class Durations(Collector):
    """A histogram of how long something took.

    Args:
        bounds: Upper bounds of its buckets, in seconds, ascending.
    """

    def __init__(
        self, name: str, what: str, bounds: Sequence[float], *, registry: CollectorRegistry
    ) -> None:
        self._name, self._what = name, what
        self._bounds = bounds
        self._shown = [*(str(float(each)) for each in bounds), "+Inf"]
        self._counts = [0] * len(self._shown)
        self._total = 0
        registry.register(self)

    def add(self, milliseconds: int) -> None:
        """It took so long; less than nothing, as a clock that was set back has it, is nothing."""
        milliseconds = max(milliseconds, 0)  # the sum never goes back
        self._counts[bisect_left(self._bounds, milliseconds / 1000)] += 1
        self._total += milliseconds

    def collect(self) -> Iterable[HistogramMetricFamily]:
        """All of them now."""
        family = HistogramMetricFamily(self._name, self._what)
        buckets = list(zip(self._shown, accumulate(self._counts.copy()), strict=True))
        family.add_metric((), buckets, self._total / 1000)
        yield family
