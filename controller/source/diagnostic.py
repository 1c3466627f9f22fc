"""A problem with its place: file, line, column, and the source line it stands in."""

from dataclasses import asdict, dataclass
from typing import Any, Self

CLIP = 160
"""Characters of a source line that a diagnostic shows."""


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """Something to mend in a file. Lines and columns count from 1."""

    path: str
    line: int
    column: int
    code: str
    message: str
    hint: str | None = None
    severity: str = "error"
    excerpt: str = ""

    @classmethod
    def of_file(cls, path: str, code: str, message: str, hint: str | None = None) -> Self:
        """About a file as a whole."""
        return cls(path, 1, 1, code, message, hint)

    def render(self) -> str:
        """As a person reads it, with a caret below the place."""
        lines = [
            f"{self.path}:{self.line}:{self.column}: {self.severity}[{self.code}]: {self.message}"
        ]
        if self.excerpt.strip():
            begin = max(0, self.column - 1 - CLIP // 2) if len(self.excerpt) > CLIP else 0
            shown = self.excerpt[begin : begin + CLIP].replace("\t", " ")
            number = f"{self.line:>5} | "
            lines.append(f"{number}{shown}")
            lines.append(f"{' ' * (len(number) - 2)}| {' ' * (self.column - 1 - begin)}^")
        if self.hint is not None:
            lines.append(f"      hint: {self.hint}")
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        """As status, API and `--format json` have it."""
        return asdict(self)
