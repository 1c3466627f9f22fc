"""`${secrets.NAME}`: one file a secret, read when an action is called, masked in what comes back.

The directory is a mounted one, or systemd's `$CREDENTIALS_DIRECTORY`. A value never enters the
database, a log, an event or an answer: whatever leaves an action has it replaced by `***`, also
where it was written as JSON.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

MASK = "***"
SHORTEST = 4
"""Shorter values are not masked: `1` or `on` would blot out everything."""


class Secrets(Mapping[str, str]):
    """The secrets of one directory, by file name; a trailing newline is not part of the value."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._seen: tuple[str, ...] = ()  # longest first: one may begin with another

    def __getitem__(self, name: str) -> str:
        if self._directory is None or "/" in name or name.startswith("."):
            raise KeyError(name)
        try:
            value = (self._directory / name).read_text().rstrip("\n")
        except (OSError, UnicodeDecodeError):
            raise KeyError(name) from None
        parts = {part for part in (value, *value.splitlines()) if len(part) >= SHORTEST}
        if not parts.issubset(self._seen):
            forms = {form for part in parts for form in (part, *_in_json(part))}
            self._seen = tuple(sorted(forms.union(self._seen), key=len, reverse=True))
        return value

    def __iter__(self) -> Iterator[str]:
        if self._directory is None or not self._directory.is_dir():
            return iter(())
        return (entry.name for entry in self._directory.iterdir() if not entry.name.startswith("."))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def cut(self, text: bytes, at: int) -> int:
        """Where to cut a text, at that place or before it, so that no secret is cut in two."""
        secrets = [secret.encode() for secret in self._seen]
        while True:
            starts = (
                text.find(each, max(at - len(each) + 1, 0), at + len(each) - 1) for each in secrets
            )
            across = [start for start in starts if 0 <= start < at]
            if not across:
                return at
            at = min(across)

    def mask(self, value: Any) -> Any:  # ruff: ignore[any-type]  # any JSON value
        """The same value with every secret that was read replaced, keys included."""
        if not self._seen:
            return value
        if isinstance(value, str):
            for secret in self._seen:
                value = value.replace(secret, MASK)
            return value
        if isinstance(value, Mapping):
            return {self.mask(key): self.mask(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.mask(item) for item in value]
        return value


def _in_json(text: str) -> Iterator[str]:
    """The text as it stands inside JSON, its quotes and backslashes escaped."""
    for ascii_only in (True, False):
        yield json.dumps(text, ensure_ascii=ascii_only)[1:-1]
