"""What is shown while an execution is waited for: a line for each step that changes."""

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from controller.cli.output import took

if TYPE_CHECKING:
    from controller.history import ExecutionView, StepView

_MARKS = {
    "completed": ("✓", "green"),
    "failed": ("✗", "red"),
    "skipped": ("-", "bright_black"),
    "cancelled": ("-", "magenta"),
    "running": ("▸", "cyan"),
    "waiting": ("…", "yellow"),
}


class Progress:
    """Prints changes between two looks at an execution; on stderr, so that stdout is the result."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[str, int]] = {}
        self._status: str | None = None

    def __call__(self, view: "ExecutionView") -> None:
        """Say what changed since the last look."""
        if view.record.status != self._status:
            self._status = view.record.status
            if self._status in {"pending", "paused"}:
                self._say(f"{self._status}", "yellow")
        for step in view.steps:
            now = (step.status, step.attempt)
            if step.status != "pending" and self._seen.get(step.key) != now:
                self._seen[step.key] = now
                self._step(step)

    def _step(self, step: "StepView") -> None:
        mark, color = _MARKS.get(step.status, ("?", "white"))
        text = f"{mark} {'  ' * step.depth}{step.key} {step.status}"
        if step.status in {"completed", "failed"} and step.started_at and step.completed_at:
            text += f" ({took(step.completed_at - step.started_at)})"
        if step.attempt > 1:
            text += f", attempt {step.attempt}"
        if step.reason:
            text += f", {step.reason}"
        if step.error and step.status in {"failed", "waiting"}:
            text += f": {step.error['type']}: {step.error['message']}"
        self._say(text, color)

    def _say(self, text: str, color: str) -> None:
        at = datetime.now(UTC).astimezone().strftime("%H:%M:%S")  # noqa: TID251  # when it is shown
        shown = click.style(text, fg=color) if sys.stderr.isatty() else text
        click.echo(f"{at} {shown}", err=True)
