"""Diagnostics as the two big forges show them beside a pull request's lines."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from controller.source.diagnostic import Diagnostic


def from_here(diagnostics: Iterable[Diagnostic], directory: Path) -> list[Diagnostic]:
    """With paths that can be opened from the working directory, of files below a directory."""
    here = Path.cwd()
    inside = directory.is_absolute() and directory.is_relative_to(here)
    base = directory.relative_to(here) if inside else directory
    return [replace(each, path=(base / each.path).as_posix()) for each in diagnostics]


def github(diagnostics: Iterable[Diagnostic], prefix: str = "") -> Iterator[str]:
    """Workflow commands, a line each: docs.github.com, "Workflow commands for GitHub Actions"."""
    for each in diagnostics:
        place = {
            "file": with_prefix(each, prefix),
            "line": str(each.line),
            "col": str(each.column),
            "title": each.code,
        }
        properties = ",".join(f"{name}={_property(value)}" for name, value in place.items())
        hint = f"\n{each.hint}" if each.hint else ""
        yield f"::{each.severity} {properties}::{_data(each.message + hint)}"


def gitlab(diagnostics: Iterable[Diagnostic], prefix: str = "") -> list[dict[str, Any]]:
    """A Code Quality report: docs.gitlab.com, "Code Quality report format"."""
    return [
        {
            "description": each.message + (f" ({each.hint})" if each.hint else ""),
            "check_name": each.code,
            "fingerprint": _fingerprint(each, prefix),
            "severity": "major" if each.severity == "error" else "minor",
            "location": {"path": with_prefix(each, prefix), "lines": {"begin": each.line}},
        }
        for each in diagnostics
    ]


def with_prefix(diagnostic: Diagnostic, prefix: str) -> str:
    """The file's path where one stands, or from the repository's root."""
    return f"{prefix.strip('/')}/{diagnostic.path}".lstrip("/") if prefix else diagnostic.path


def _fingerprint(diagnostic: Diagnostic, prefix: str) -> str:
    """The same problem has the same one, also when lines above it come and go."""
    said = (
        with_prefix(diagnostic, prefix),
        diagnostic.code,
        diagnostic.message,
        diagnostic.excerpt,
    )
    return hashlib.sha256("\0".join(said).encode(errors="replace")).hexdigest()


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
