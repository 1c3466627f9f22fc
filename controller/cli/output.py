"""How results are printed: tables for people, one JSON document for programs.

In tables, times are local and durations are for people; `core/plain.py` has what JSON says.
"""

import sys
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from controller.cli.ending import takes_all
from controller.core.plain import plain
from controller.core.printable import printable

if TYPE_CHECKING:
    from controller.history import ExecutionView

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

LEAST = 12
"""Columns of a terminal for the last one of a table, if it needs as many."""

INDENT = 4
"""Columns by which a row stands in where it goes on in the next line."""


def execution_data(view: "ExecutionView") -> dict[str, Any]:
    """An execution with its steps and the commit it is of, as JSON has it."""
    shown = plain(view)
    shown["execution"] = shown.pop("record")
    return {key: shown[key] for key in ("execution", "steps", "commit", "problem")}


def local(moment: int | None) -> str:
    """Epoch milliseconds as people here read it; empty for None."""
    if moment is None:
        return ""
    return datetime.fromtimestamp(moment / 1000, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def local_time(moment: int) -> str:
    """Epoch milliseconds as the time of day here."""
    return datetime.fromtimestamp(moment / 1000, UTC).astimezone().strftime("%H:%M:%S")


def took(milliseconds: int | None) -> str:
    """A duration; empty for None."""
    from controller.core.duration import format_duration  # ruff: ignore[import-outside-top-level]  # start-up time

    return "" if milliseconds is None else format_duration(milliseconds)


def as_json(value: Any) -> str:  # ruff: ignore[any-type]  # any record
    """A record or a value as JSON on one line."""
    import json  # ruff: ignore[import-outside-top-level]  # start-up time

    return json.dumps(plain(value), ensure_ascii=not takes_all(sys.stdout))


def print_json(value: Any) -> None:  # ruff: ignore[any-type]  # any record
    """One document on stdout."""
    import json  # ruff: ignore[import-outside-top-level]  # start-up time

    click.echo(json.dumps(plain(value), indent=2, ensure_ascii=not takes_all(sys.stdout)))


def print_fields(pairs: Iterable[tuple[str, str]]) -> None:
    """A name and a value a line; what follows the first line of a value stands below it."""
    rows = list(pairs)
    width = max((len(name) for name, _ in rows), default=0) + 2
    for name, value in rows:
        first, *rest = map(printable, value.split("\n")) if value else ["-"]
        click.echo(f"{name:<{width}}{first}".rstrip())
        for line in rest:
            click.echo(f"{'':{width}}{line}".rstrip())


def print_table(head: Sequence[str], rows: Iterable[Sequence[str]], empty: str) -> list[int]:
    """Columns as wide as they need; on a terminal the last one is cut to what is left.

    Where too little is left for that, a row goes on in the next line. Returns the numbers of the
    rows that were cut.
    """
    lines = [[printable(str(cell)) for cell in row] for row in rows]
    if not lines:
        click.echo(empty)
        return []
    columns = zip(head, *lines, strict=True)
    widths = [max(map(_width, column)) for column in columns]
    folds = folded(widths, _terminal())
    _print_row(head, folds, bold=True)
    for line in lines:
        _print_row(line, folds)
    room = folds[-1].room
    return [number for number, line in enumerate(lines) if _cut(line[-1], room) != line[-1]]


class Fold(NamedTuple):
    """A line of a row: how far it stands in, its columns and their widths.

    Attributes:
        room: Columns of the terminal for its last one; None: as many as it needs.
    """

    indent: int
    columns: slice
    widths: Sequence[int]
    room: int | None = None


def folded(widths: Sequence[int], limit: int | None) -> list[Fold]:
    """The lines of a row, as few as there can be."""
    if limit is None:
        return [Fold(0, slice(None), widths)]
    needed = [*widths[:-1], min(widths[-1], LEAST)]
    begins, end = [0], needed[0]
    for number, width in enumerate(needed[1:], 1):
        end += 2 + width
        if end > limit:
            begins.append(number)
            end = INDENT + width
    found = []
    for begin, behind in zip(begins, [*begins[1:], len(widths)], strict=True):
        indent, own = INDENT if begin else 0, widths[begin:behind]
        room = limit - indent - sum(own[:-1]) - 2 * len(own[:-1])
        last = behind == len(widths)
        found.append(Fold(indent, slice(begin, behind), own, max(room, 2) if last else None))
    return found


def _print_row(cells: Sequence[str], folds: Iterable[Fold], *, bold: bool = False) -> None:
    for fold in folds:
        line = _line(cells[fold.columns], fold.widths, fold.room, bold=bold)
        click.echo(f"{'':{fold.indent}}{line}".rstrip())


def _width(text: str) -> int:
    """Columns a text takes: East Asian characters take two, combining ones none."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(each) in "WF" for each in text)
    return len(text) + wide - sum(unicodedata.combining(each) > 0 for each in text)


def _terminal() -> int | None:
    """Columns of the terminal; None: it is none."""
    import shutil  # ruff: ignore[import-outside-top-level]  # start-up time

    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _line(
    cells: Sequence[str], widths: Sequence[int], room: int | None, *, bold: bool = False
) -> str:
    *leading, last = cells
    parts = [_styled(text, width, bold=bold) for text, width in zip(leading, widths, strict=False)]
    return "  ".join([*parts, _styled(_cut(last, room), 0, bold=bold)]).rstrip()


def _cut(text: str, room: int | None) -> str:
    if room is None or _width(text) <= room:
        return text
    while text and _width(text) >= room:
        text = text[:-1]
    return f"{text}…"


def _styled(text: str, width: int, *, bold: bool) -> str:
    padded = text + " " * (width - _width(text))
    color = _COLORS.get(text)
    if bold or color is None:
        return click.style(padded, bold=True) if bold else padded
    return click.style(padded, fg=color)
