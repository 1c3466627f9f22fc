"""What can be wrong, and what happens next.

A `Problem` is something an author must mend in a definition. It is addressed by a path into the
document (`("steps", 2, "depends_on", 0)`); whoever read the bytes turns the path into a line and a
column. The three exceptions are named by what the caller should do about them.
"""

from dataclasses import dataclass
from typing import Literal

Path = tuple[str | int, ...]

MAKE_ROOM = "make room on the disk, and try again"
"""What to do about a full disk."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in one document.

    Attributes:
        code: Stable, kebab-case; documented in docs/diagnostics.md.
        message: One sentence: what is wrong and where it bites.
        path: Keys and indexes from the document's root to the offending value.
        hint: What to do about it, or None.
        offset: Characters into the scalar at `path`, for problems inside an expression.
        at_key: The position meant is that of the mapping key, not of its value.
        severity: A warning never keeps a definition from running.
    """

    code: str
    message: str
    path: Path = ()
    hint: str | None = None
    offset: int = 0
    at_key: bool = False
    severity: Literal["error", "warning"] = "error"


class Refused(Exception):
    """Asking again will not help until somebody changes something.

    Attributes:
        reason: A stable word for logs, metrics and JSON, such as `not-found` or `inactive`.
        hint: What to do about it, or None.
    """

    def __init__(self, message: str, *, reason: str = "refused", hint: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.hint = hint


class NotFound(Refused):
    """What was named does not exist."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, reason="not-found", hint=hint)


class Unavailable(Exception):
    """Something we depend on does not answer now: back off and try again.

    Attributes:
        hint: What to do about it, or None: only to wait.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint
