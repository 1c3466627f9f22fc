"""A problem with its place: file, line, column, and the source line it stands in."""

from dataclasses import asdict, dataclass
from typing import Any, Self

from controller.core.printable import printable

CLIP = 160
"""Characters of a source line that a diagnostic keeps."""


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """Something to mend in a file.

    Attributes:
        path: The file.
        line: Counts from 1.
        column: Counts from 1, in characters.
        code: Stable, kebab-case; docs/diagnostics.md lists them.
        message: What is wrong.
        hint: What to do about it, or None.
        severity: `error` or `warning`.
        excerpt: The source line, or `CLIP` characters of it around the place.
        caret: Characters of the excerpt before the place.
    """

    path: str
    line: int
    column: int
    code: str
    message: str
    hint: str | None = None
    severity: str = "error"
    excerpt: str = ""
    caret: int = 0

    @classmethod
    def of_file(cls, path: str, code: str, message: str, hint: str | None = None) -> Self:
        """About a file as a whole."""
        return cls(path, 1, 1, code, message, hint)

    def render(self) -> str:
        """As a person reads it, with a caret below the place."""
        place = f"{self.path}:{self.line}:{self.column}"
        lines = [f"{place}: {self.severity}[{self.code}]: {self.message}"]
        if self.excerpt.strip():
            number = f"{self.line:>5} | "
            below = f"{'| ':>{len(number)}}{' ' * self.caret}^"
            lines += [f"{number}{self.excerpt}", below]
        if self.hint is not None:
            lines.append(f"      hint: {self.hint}")
        return "\n".join(map(printable, lines))

    def as_json(self) -> dict[str, Any]:
        """As status, API and `--format json` have it."""
        return asdict(self)


def clip(line: str, column: int) -> tuple[str, int]:
    """The part of a line to keep, and how many of its characters stand before a column.

    A secret may stand in the same line and a line may be as long as the file, so no more is kept
    than helps to find the place.

    Args:
        line: The source line.
        column: Counts from 0.
    """
    column = min(column, len(line))
    begin = max(0, column - CLIP // 2) if len(line) > CLIP else 0
    return line[begin : begin + CLIP].replace("\t", " "), column - begin
