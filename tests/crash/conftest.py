"""Says at the end how many faults of each kind were survived."""

from collections import Counter
from collections.abc import Callable

import pytest

from tests.crash.proof import Proof

Survived = Callable[[Proof], None]


@pytest.fixture
def survived(record_property: Callable[[str, object], None]) -> Survived:
    """Call it when everything has been checked."""
    return lambda proof: record_property("survived", dict(proof.faults))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line, also when the tests ran in several processes."""
    total: Counter[str] = Counter()
    for report in terminalreporter.getreports("passed"):
        total.update(dict(report.user_properties).get("survived", {}))
    if total:
        kinds = ", ".join(f"{count} x {fault}" for fault, count in sorted(total.items()))
        terminalreporter.write_line(f"survived: {kinds}")
