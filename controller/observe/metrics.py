"""Prometheus metrics: a fold over published facts, and a look at the parts when scraped.

Nothing here is per step or per execution; what is per workflow are two plain series, so that a
scrape stays small with thousands of workflows.
"""

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from controller.facts import Fact, FactType
from controller.observe.tally import Count, Durations, Latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600)
_ENDED = {FactType.COMPLETED, FactType.FAILED, FactType.CANCELLED}
_STEP_ENDED = {"completed", "failed", "skipped", "cancelled"}

disable_created_metrics()  # type: ignore[no-untyped-call]  # a series more for each counter, which nobody asks for

Levels = Callable[[], Mapping[str, float]]
"""Current values of gauges by name; see `_LEVELS`."""

_LEVELS: Mapping[str, str] = {
    "executions_in_memory": "Executions this controller holds in memory",
    "executions_busy": "Executions of which a step is being performed",
    "store_queue": "Writes that wait for the next commit",
    "store_last_commit_seconds": "How long the last commit took",
}
_TOTALS: Mapping[str, str] = {
    "store_commits": "Transactions committed",
    "store_rows": "Checkpoints and other writes committed",
}


class Metrics:
    """The registry of one controller.

    Args:
        version: Of the program.
        levels: Looks at the parts when scraped.
    """

    def __init__(self, version: str, levels: Levels) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        build = Gauge("windlass_build_info", "Version", ["version"], registry=registry)
        build.labels(version).set(1)
        self._executions = Count(
            "windlass_executions",
            "Executions that ended",
            ["workflow", "status"],
            registry=registry,
        )
        self._success = Latest(
            "windlass_last_success_timestamp_seconds",
            "When an execution last completed",
            "workflow",
            registry=registry,
        )
        self._started = Count(
            "windlass_executions_started", "Executions that began", registry=registry
        )
        self._duration = Durations(
            "windlass_execution_duration_seconds",
            "From begin to end of an execution",
            _SECONDS,
            registry=registry,
        )
        self._steps = Count(
            "windlass_steps",
            "Steps that ended, and attempts that wait to be retried",
            ["status", "reason"],
            registry=registry,
        )
        self._step_duration = Durations(
            "windlass_step_duration_seconds",
            "From begin to end of a step's last attempt",
            _SECONDS,
            registry=registry,
        )
        self._of_definitions(registry)
        registry.register(_Parts(levels))

    def _of_definitions(self, registry: CollectorRegistry) -> None:
        """What is counted of schedules and sources."""
        self._fires = Count(
            "windlass_schedule_fires", "Fires of schedules", ["result"], registry=registry
        )
        self._reconciles = Counter(
            "windlass_reconciles", "Reconciles that found something", ["phase"], registry=registry
        )
        self._changes = Counter(
            "windlass_definition_changes", "Workflows changed", ["fate"], registry=registry
        )
        self._phase = Gauge(
            "windlass_source_phase",
            "1 for the phase a source is in, with the reason",
            ["source", "phase", "reason"],
            registry=registry,
        )
        self._revision = Gauge(
            "windlass_source_revision_info",
            "1 for the revision of a source that is live",
            ["source", "revision"],
            registry=registry,
        )
        self._applied = Gauge(
            "windlass_source_applied_timestamp_seconds",
            "When a revision of a source was last applied",
            ["source"],
            registry=registry,
        )
        self._repaired = Counter(
            "windlass_source_repaired",
            "Workflows put back as their source says",
            ["source"],
            registry=registry,
        )
        self._invalid = Gauge(
            "windlass_source_invalid_files",
            "Definition files with problems",
            ["source"],
            registry=registry,
        )

    def observe(self, fact: Fact) -> None:
        """Fold one fact."""
        if fact.type is FactType.STEP:
            self._step(fact)
        elif fact.type in _ENDED:
            self._end(fact)
        elif fact.type is FactType.EXECUTED:
            self._started.add()
        elif fact.type is FactType.ARCHIVED:
            self._executions.forget(fact.workflow or "")
            self._success.forget(fact.workflow or "")
        elif fact.type in {FactType.FIRED, FactType.MISFIRED}:
            self._fires.add(str(fact.data.get("reason")), count=fact.data.get("count", 1))
        elif fact.type is FactType.RECONCILED:
            self._reconciled(fact)
        elif fact.type is FactType.DRIFTED:
            self._repaired.labels(fact.data["source"]).inc(len(fact.data["workflows"]))

    def _end(self, fact: Fact) -> None:
        self._executions.add(fact.workflow or "", str(fact.type))
        self._duration.add(fact.data.get("duration", 0))
        if fact.type is FactType.COMPLETED:
            self._success.set(fact.workflow or "", fact.at / 1000)

    def _step(self, fact: Fact) -> None:
        status = fact.data["status"]
        if status in _STEP_ENDED or fact.data.get("reason") == "retry":
            self._steps.add(status, fact.data.get("reason") or "")
            if "duration" in fact.data and status in {"completed", "failed"}:
                self._step_duration.add(fact.data["duration"])

    def _reconciled(self, fact: Fact) -> None:
        said, source = fact.data, fact.data["source"]
        self._reconciles.labels(said["phase"]).inc()
        self._invalid.labels(source).set(said["invalid"])
        _only(self._phase, source, said["phase"], said["reason"] or "")
        if said["revision"] is not None:
            _only(self._revision, source, said["revision"])
        if said["applied_at"] is not None:
            self._applied.labels(source).set(said["applied_at"] / 1000)
        for fate, count in fact.data["fates"].items():
            if fate != "unchanged":
                self._changes.labels(fate).inc(count)

    def render(self) -> bytes:
        """The exposition text; takes a while with many series, so call it off the loop."""
        return generate_latest(self.registry)


def _only(gauge: Gauge, source: str, *values: str) -> None:
    """Of a source's series, the one that is true now."""
    gauge.remove_by_labels({"source": source})
    gauge.labels(source, *values).set(1)


class _Parts(Collector):
    """Gauges that are looked up when scraped."""

    def __init__(self, levels: Levels) -> None:
        self._look = levels

    def collect(self) -> Iterable[Metric]:
        """Ask the parts."""
        found = self._look()
        for name, what in _LEVELS.items():
            yield GaugeMetricFamily(f"windlass_{name}", what, value=found.get(name, 0))
        for name, what in _TOTALS.items():
            yield CounterMetricFamily(f"windlass_{name}", what, value=found.get(name, 0))
