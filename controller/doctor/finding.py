"""What can be found, each with a stable name: what it means, and what to do about it."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

NAMED = 20
"""What one kind of finding concerns is named up to so many; all are counted."""


UNREADABLE = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What comes of taking a value for what it is not: in a damaged row it may be anything."""


class Kind(NamedTuple):
    """One thing that can be wrong.

    Attributes:
        result: `failed`: what is recorded is not as it must be; `warning`: it is untidy.
        meaning: What it is, after what it concerns.
        hint: What to do.
        mendable: `--repair` may mend it.
    """

    result: Literal["failed", "warning"]
    meaning: str
    hint: str
    mendable: bool = False


REPAIR = "`windlass doctor --repair` mends it"
RESTORE = "restore a backup, or cancel it and execute it again"

KINDS: dict[str, Kind] = {
    "database-damaged": Kind(
        "failed",
        "SQLite finds the file damaged",
        "stop the controller, and restore a backup",
    ),
    "index-damaged": Kind(
        "failed",
        "SQLite finds an index that is not what its table says",
        "`windlass doctor --full --repair` makes it anew",
        mendable=True,
    ),
    "rows-unreadable": Kind(
        "failed", "rows that cannot be read keep others from being looked at", "restore a backup"
    ),
    "orphan": Kind("failed", "rows belong to nothing that is there", "restore a backup"),
    "version-content": Kind(
        "failed",
        "a recorded definition is not what its digest says",
        "restore a backup; executions pinned to it are not replayed",
    ),
    "version-missing": Kind(
        "failed",
        "the definition it is pinned to is not recorded",
        "restore a backup, or apply the same definition again",
    ),
    "version-unusable": Kind(
        "failed",
        "a recorded definition cannot be compiled any more",
        "restore a backup, or install the version of Windlass that recorded it",
    ),
    "execution-unreadable": Kind("failed", "what is recorded of it cannot be read", RESTORE),
    "execution-gap": Kind("failed", "events are missing from its checkpoints", RESTORE),
    "event-after-end": Kind(
        "failed", "events stand behind the one it ended with", REPAIR, mendable=True
    ),
    "event-out-of-place": Kind(
        "failed", "an event stands where nothing could have recorded it", RESTORE
    ),
    "execution-unlike-events": Kind(
        "failed", "its row says something else than its events", REPAIR, mendable=True
    ),
    "execution-contradictory": Kind(
        "failed",
        "it never began, and its row says otherwise",
        f"{REPAIR} unless it has ended; otherwise restore a backup",
        mendable=True,
    ),
    "execution-ownership": Kind(
        "failed", "its owner, lease and wake-up time contradict each other", REPAIR, mendable=True
    ),
    "execution-left-owned": Kind(
        "warning",
        "it is owned by a controller that is gone",
        "it goes on with the next `windlass run`; `--repair` frees it before",
        mendable=True,
    ),
    "execution-unclaimed": Kind(
        "failed",
        "its lease has run out, and no controller that is at work takes it",
        "look at the log of the controllers, or stop them and use `--repair`",
        mendable=True,
    ),
    "execution-asleep": Kind(
        "failed", "it sleeps past the time it has to go on", REPAIR, mendable=True
    ),
    "execution-unanswered": Kind(
        "failed", "it waits for a subflow that has ended, or was never begun", REPAIR, mendable=True
    ),
    "signal-unsettled": Kind(
        "failed", "it has ended, and a signal waits for it", REPAIR, mendable=True
    ),
    "schedule-time": Kind(
        "failed", "its next time is not one of its timetable", REPAIR, mendable=True
    ),
    "schedule-invalid": Kind(
        "failed",
        "its timing cannot be read any more",
        "mend the definition it comes from, or cancel it with `windlass schedule:cancel`",
    ),
    "schedule-overdue": Kind(
        "failed",
        "it is due, and no controller that is at work fires it",
        "look at the log of the controllers",
    ),
    "lease-left-over": Kind(
        "warning", "a lease of a controller that is gone", REPAIR, mendable=True
    ),
    "wal-large": Kind(
        "warning",
        "SQLite's log beside the database has grown",
        f"something reads for long, such as a backup; {REPAIR} when nobody reads",
        mendable=True,
    ),
    "file-left-over": Kind(
        "warning", "a file of a backup or restore that was interrupted", REPAIR, mendable=True
    ),
    "restore-kept": Kind(
        "warning",
        "a database that was replaced by `windlass restore` is kept",
        "remove it when it is not needed any more",
    ),
    "files-open-to-others": Kind(
        "warning", "other users of the machine may read or change it", REPAIR, mendable=True
    ),
}


class Finding(NamedTuple):
    """One thing that is wrong with one subject.

    Attributes:
        subject: What it concerns: an id, a digest, a file.
        detail: What exactly, where the kind does not say it all.
    """

    kind: str
    subject: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.subject}: {self.detail}" if self.detail else self.subject


@dataclass
class Tally:
    """How often a kind was found, and mended; the first ones by name."""

    found: int = 0
    mended: int = 0
    named: list[Finding] = field(default_factory=list)

    def add(self, finding: Finding, *, mended: bool = False) -> None:
        """Count one."""
        self.found += 1
        self.mended += mended
        if len(self.named) < NAMED:
            self.named.append(finding)


@dataclass
class Report:
    """What an examination found, by kind, and how much it looked at, by subject."""

    tallies: dict[str, Tally] = field(default_factory=dict)
    looked: dict[str, int] = field(default_factory=dict)

    def add(self, finding: Finding, *, mended: bool = False) -> None:
        """One more finding."""
        self.tallies.setdefault(finding.kind, Tally()).add(finding, mended=mended)

    def extend(self, findings: Iterable[Finding]) -> None:
        """More findings, of which none was mended."""
        for finding in findings:
            self.add(finding)

    def look(self, what: str, count: int) -> None:
        """So many more were looked at."""
        self.looked[what] = self.looked.get(what, 0) + count

    @property
    def found(self) -> set[str]:
        """The kinds that were found and are not mended."""
        return {name for name, each in self.tallies.items() if each.mended < each.found}
