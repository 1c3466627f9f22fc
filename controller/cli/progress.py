"""What is shown while an execution is waited for, on stderr, so that stdout is the result.

On a terminal: a table of its steps, redrawn in place. Otherwise a line for each change of a step:
`12:00:01 step fetch completed (0.3 s)`.
"""

import asyncio
import sys
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

import click

from controller.cli.output import local_time, took

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

    from controller.history import ExecutionView, StepView

_LOOKS = {
    "pending": ("·", "bright_black"),
    "running": ("▸", "cyan"),
    "waiting": ("…", "yellow"),
    "completed": ("✓", "green"),
    "failed": ("✗", "red"),
    "skipped": ("-", "bright_black"),
    "cancelled": ("-", "magenta"),
}
"""Mark and colour of a step by its status."""

MARGIN = 4
"""Lines of the terminal that are not for steps."""

Show = Callable[["ExecutionView"], None]


class Progress:
    """Shows an execution from one look to the next; a context manager.

    Args:
        now: Epoch milliseconds.

    Attributes:
        unread: Set when whoever was shown it has left: nothing more is shown, and nobody fails.
    """

    def __init__(self, now: Callable[[], int]) -> None:
        self.unread = asyncio.Event()
        self._now = now
        self._seen: dict[str, tuple[str, int]] = {}
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich.console import Console  # ruff: ignore[import-outside-top-level]  # start-up time
            from rich.live import Live  # ruff: ignore[import-outside-top-level]  # start-up time

            self._live = Live(console=Console(stderr=True), auto_refresh=False)
            with self._to_somebody():
                self._live.start()
        return self

    def __exit__(self, *_error: object) -> None:
        if self._live is not None:
            with self._to_somebody():
                self._live.stop()

    @contextmanager
    def _to_somebody(self) -> Generator[None]:
        """A pipe or a terminal that is gone is no reason to end what is shown."""
        try:
            yield
        except OSError:
            self.unread.set()

    def __call__(self, view: "ExecutionView") -> None:
        """Show what there is now."""
        if not self.unread.is_set():
            with self._to_somebody():
                self._show(view)

    def _show(self, view: "ExecutionView") -> None:
        if self._live is not None:
            room = self._live.console.height - MARGIN
            self._live.update(table(view, self._now(), room), refresh=True)
            return
        for step in view.steps:
            now = (step.status, step.attempt)
            if step.status != "pending" and self._seen.get(step.key) != now:
                self._seen[step.key] = now
                click.echo(line(step, self._now()), err=True)

    def say(self, text: str) -> None:
        """Say something beside it."""
        with self._to_somebody():
            if self._live is not None:
                self._live.console.print(text, markup=False, highlight=False)
            else:
                click.echo(f"{local_time(self._now())} {text}", err=True)


def line(step: "StepView", now: int) -> str:
    """A step's change in words, with the time of day at which it happened."""
    at = step.completed_at or now
    text = f"{local_time(at)} step {step.key} {step.status}"
    if step.completed_at is not None and step.started_at is not None:
        text += f" ({took(step.completed_at - step.started_at)})"
    if step.attempt > 1:
        text += f", attempt {step.attempt}"
    return f"{text}{_why(step)}"


def table(view: "ExecutionView", now: int, room: int) -> "Table":
    """The steps, as many as there is room for, and how many others there are."""
    from rich.table import Table  # ruff: ignore[import-outside-top-level]  # start-up time
    from rich.text import Text  # ruff: ignore[import-outside-top-level]  # start-up time

    found = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("STEP", "STATUS", "TOOK", "ATTEMPT", ""):
        found.add_column(title, overflow="ellipsis", no_wrap=True)
    shown = _chosen(view.steps, room)
    for step in shown:
        mark, color = _LOOKS[step.status]
        took_here = _elapsed(step, now)
        attempt = str(step.attempt) if step.attempt > 1 else ""
        found.add_row(
            Text(f"{'  ' * step.depth}{mark} {step.key}", style=color),
            Text(step.status, style=color),
            took_here,
            attempt,
            Text(_why(step).lstrip(",: ")),
        )
    if len(shown) < len(view.steps):
        counts = Counter(step.status for step in view.steps)
        total = ", ".join(f"{count} {status}" for status, count in counts.items())
        found.add_row(Text(f"… all {len(view.steps)}: {total}", style="bright_black"))
    return found


def _chosen(steps: "tuple[StepView, ...]", room: int) -> "list[StepView]":
    """In their order: what happens now, then what failed, then what settled last."""
    if len(steps) <= room:
        return list(steps)
    rank = {"running": 0, "waiting": 0, "failed": 1, "completed": 2}
    by_interest = sorted(
        range(len(steps)),
        key=lambda each: (rank.get(steps[each].status, 3), -(steps[each].completed_at or 0)),
    )
    return [steps[each] for each in sorted(by_interest[: max(room - 1, 1)])]


def _elapsed(step: "StepView", now: int) -> str:
    if step.started_at is None:
        return ""
    return took((step.completed_at or now) - step.started_at)


def _why(step: "StepView") -> str:
    why = f", {step.reason}" if step.reason else ""
    if step.error and step.status in {"failed", "waiting"}:
        why += f": {step.error['type']}: {step.error['message']}"
    return why
