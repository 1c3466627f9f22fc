"""The one table every benchmark prints: measured, target, the machine's limit, and their ratio."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Row:
    """One figure.

    `limit` is the machine's own, in the same unit and from the same run, where there is one.
    `better` says which way is good: `less` for times, `more` for rates. `ours` is what we measured
    of the same work, where the figure is another system's.
    """

    what: str
    unit: str
    measured: float
    better: Literal["less", "more"]
    target: float | None = None
    limit: float | None = None
    spread: tuple[float, float] | None = None
    ours: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; None without one."""
        if self.target is None:
            return None
        if self.better == "less":
            return self.measured <= self.target
        return self.measured >= self.target


HEAD = ("", "measured", "spread", "target", "limit", "ratio", "")


def render(rows: Iterable[Row]) -> str:
    """The rows as aligned text; `ratio` is measured ÷ limit, or ours ÷ measured."""
    cells = [HEAD, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(HEAD))]
    return "\n".join(
        "  ".join(
            text.ljust(width) if column == 0 else text.rjust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    )


def _cells(row: Row) -> tuple[str, ...]:
    sign = "≤" if row.better == "less" else "≥"
    low, high = row.spread or (None, None)
    return (
        f"{row.what}, {row.unit}" if row.unit else row.what,
        number(row.measured),
        "" if low is None or high is None else f"{number(low)}..{number(high)}",
        "" if row.target is None else f"{sign} {number(row.target)}",
        "" if row.limit is None else number(row.limit),
        _ratio(row),
        {None: "", True: "met", False: "SHORT"}[row.met],
    )


def _ratio(row: Row) -> str:
    if row.limit:
        return f"{row.measured / row.limit:.2f}"
    if row.ours is not None and row.measured:
        return number(row.ours / row.measured)
    return ""


def number(value: float) -> str:
    """Three significant figures for what is small, whole numbers with commas for what is not."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
