"""What the tests of schedules build timetables from."""

from dataclasses import dataclass
from datetime import datetime

from controller.core.problem import Problem
from controller.core.timetable import Timetable, compile_timetable

NOW = 1_767_225_600_000
"""2026-01-01T00:00:00Z."""
MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR


@dataclass(frozen=True)
class Text:
    """The schedule part of a definition."""

    cron: str | None = None
    at: str | None = None
    timezone: str = "UTC"
    start: str | None = None
    end: str | None = None
    jitter: int = 0


def table(text: Text, workflow: str = "nightly-report") -> Timetable:
    """A schedule that has no problems."""
    found, problems = compile_timetable(text, workflow=workflow, now=NOW)
    assert problems == []
    assert found is not None
    return found


def problems(text: Text) -> list[Problem]:
    """What is wrong with a schedule at `config` of its document."""
    return compile_timetable(text, workflow="nightly-report", now=NOW, path=("config",))[1]


def ms(text: str) -> int:
    """ISO 8601 with an offset → epoch milliseconds."""
    return int(datetime.fromisoformat(text).timestamp() * 1000)
