"""How results are printed: tables for people, one JSON document for programs.

In JSON, names are the columns' own, and times are ISO 8601 in UTC; in tables, times are local.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from typing import Any

import click

from controller.core.duration import format_duration

_TIMES = frozenset({
    "applied_at",
    "at",
    "checked_at",
    "completed_at",
    "created_at",
    "due_at",
    "last_run_at",
    "lease_until",
    "next_run_at",
    "started_at",
    "timestamp",
    "updated_at",
    "wake_at",
})
_COLORS = {
    "completed": "green",
    "ready": "green",
    "active": "green",
    "valid": "green",
    "ok": "green",
    "running": "cyan",
    "waiting": "yellow",
    "paused": "yellow",
    "degraded": "yellow",
    "warning": "yellow",
    "failed": "red",
    "invalid": "red",
    "cancelled": "magenta",
}


def plain(value: Any) -> Any:  # noqa: ANN401  # any record
    """A record as JSON has it."""
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: _field(each.name, getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _field(str(key), item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def _field(name: str, value: Any) -> Any:  # noqa: ANN401  # any record's field
    if name in _TIMES and isinstance(value, int) and not isinstance(value, bool):
        return iso(value)
    return plain(value)


def iso(moment: int) -> str:
    """Epoch milliseconds as ISO 8601 in UTC."""
    return datetime.fromtimestamp(moment / 1000, UTC).isoformat(timespec="milliseconds")


def local(moment: int | None) -> str:
    """Epoch milliseconds as people here read it; empty for None."""
    if moment is None:
        return ""
    return datetime.fromtimestamp(moment / 1000, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def took(milliseconds: int | None) -> str:
    """A duration; empty for None."""
    return "" if milliseconds is None else format_duration(milliseconds)


def print_json(value: Any) -> None:  # noqa: ANN401  # any record
    """One document on stdout."""
    import json  # noqa: PLC0415  # start-up time

    click.echo(json.dumps(plain(value), indent=2, ensure_ascii=False))


def print_table(head: Sequence[str], rows: Iterable[Sequence[str]], empty: str) -> None:
    """Columns as wide as they need; on a terminal the last one is cut to what is left."""
    lines = [[str(cell) for cell in row] for row in rows]
    if not lines:
        click.echo(empty)
        return
    widths = [max(len(head[i]), *(len(line[i]) for line in lines)) for i in range(len(head))]
    width = _width()
    click.echo(_line(head, widths, width, bold=True))
    for line in lines:
        click.echo(_line(line, widths, width))


def _width() -> int | None:
    """Columns of the terminal; None: it is none."""
    import shutil  # noqa: PLC0415  # start-up time

    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _line(
    cells: Sequence[str], widths: Sequence[int], width: int | None, *, bold: bool = False
) -> str:
    parts: list[str] = []
    used = 0
    for index, cell in enumerate(cells):
        last = index == len(cells) - 1
        text = cell.replace("\n", " ")
        if last and width is not None and used + len(text) > width:
            text = text[: max(width - used - 1, 1)] + "…"
        padded = text if last else text.ljust(widths[index])
        used += len(padded) + 2
        color = _COLORS.get(text)
        parts.append(
            click.style(padded, bold=bold)
            if bold or color is None
            else click.style(padded, fg=color)
        )
    return "  ".join(parts).rstrip()
