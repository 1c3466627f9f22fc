"""The project's own files, parsed once, for the tests that read the code instead of running it."""

import ast
import functools
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@functools.cache
def tracked() -> tuple[Path, ...]:
    """Every file that is or would be committed; all files but hidden ones without Git."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    names = listing.stdout.decode().split("\0") if listing.returncode == 0 else _walk()
    return tuple(sorted(ROOT / name for name in names if name and (ROOT / name).is_file()))


def _walk() -> list[str]:
    found = (path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file())
    return [str(path) for path in found if not any(part[0] == "." for part in path.parts)]


def python(folder: str) -> tuple[Path, ...]:
    """The Python files below a top-level folder."""
    return tuple(path for path in (ROOT / folder).rglob("*.py") if path.is_file())


@functools.cache
def text(path: Path) -> str:
    """What a file says."""
    return path.read_text(encoding="utf-8")


@functools.cache
def tree(path: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(text(path), str(path))


def name(path: Path) -> str:
    """A file's name as people say it: from the project's root."""
    return path.relative_to(ROOT).as_posix()


def module(path: Path) -> str:
    """The dotted name under which a file is imported."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
