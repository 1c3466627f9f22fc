"""The reference tables of docs/, written from the code: `python -m tests.reference` does it.

A section stands between `<!-- name -->` and `<!-- /name -->`; what is around it is written by hand.
"""

import ast
import importlib
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal, get_args, get_origin

import click
from pydantic.fields import FieldInfo

from tests.sources import ROOT, python, tree

COMMANDS = "controller.cli:main"
"""Where the group of all commands is."""

Line = tuple[str, ...]


def _table(head: Line, rows: Iterable[Line]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    cells = (" | ".join(cell.replace("|", r"\|") for cell in line) for line in lines)
    return "\n".join(f"| {line} |" for line in cells)


def settings() -> str:
    """Every knob of `Settings`: variable, default, bounds, meaning."""
    fields = importlib.import_module("controller.settings").Settings.model_fields
    return _table(
        ("variable", "default", "bounds", "what"),
        (
            (f"`WINDLASS_{name.upper()}`", _default(knob), _bounds(knob), _prose(knob.description))
            for name, knob in fields.items()
        ),
    )


def sources() -> str:
    """Every field of a source: default, bounds, meaning."""
    fields = importlib.import_module("controller.source.spec").SourceSpec.model_fields
    return _table(
        ("field", "default", "bounds", "what"),
        (
            (f"`{name}`", _default(knob), _bounds(knob), _prose(knob.description))
            for name, knob in fields.items()
        ),
    )


def _default(knob: FieldInfo) -> str:
    known = isinstance(knob.default, str | int | float | Path) and str(knob.default)
    return f"`{known}`" if known else ""


def _bounds(knob: FieldInfo) -> str:
    if get_origin(knob.annotation) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(knob.annotation))
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    return ", ".join(
        f"{sign} {getattr(bound, name)}"
        for bound in knob.metadata
        for name, sign in signs.items()
        if getattr(bound, name, None) is not None
    )


def _prose(said: str | None) -> str:
    """The first paragraph on one line."""
    return " ".join((said or "").split("\n\n")[0].split())


def commands() -> str:
    """Every command with its options."""
    module, name = COMMANDS.split(":")
    group = getattr(importlib.import_module(module), name)
    if not isinstance(group, click.Group):
        raise TypeError(f"{COMMANDS} is no group of commands")
    return _table(("command", "what", "options"), _command_rows(group, "windlass"))


def _command_rows(group: click.Group, path: str) -> Iterator[Line]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None or command.hidden:
            continue
        if isinstance(command, click.Group):
            yield from _command_rows(command, f"{path} {name}")
            continue
        options = ", ".join(
            " ".join(f"`{flag}`" for flag in (*option.opts, *option.secondary_opts))
            for option in command.params
            if isinstance(option, click.Option)
        )
        yield f"`{path} {name}`", _prose(command.get_short_help_str(200)), options


def statuses() -> str:
    """Every exit status, and what it means."""
    found = importlib.import_module("controller.cli.ending").STATUSES
    return _table(("status", "what"), ((str(each), what) for each, what in found.items()))


_TYPES = ("counter", "gauge", "histogram", "summary")
KINDS = {
    **{kind.capitalize(): kind for kind in _TYPES},
    **{f"{kind.capitalize()}MetricFamily": kind for kind in _TYPES},
    "Count": "counter",  # these three: `observe/tally.py`
    "Latest": "gauge",
    "Durations": "histogram",
}


def metrics() -> str:
    """Every metric: calls of the client's constructors with a name and a help text."""
    return _table(("metric", "type", "what"), sorted(_metric_rows()))


def _metric_rows() -> Iterator[Line]:
    for path in python("controller/observe"):
        for node in ast.walk(tree(path)):
            if not isinstance(node, ast.Call) or _called(node) not in KINDS:
                continue
            said = [
                argument.value for argument in node.args[:2] if isinstance(argument, ast.Constant)
            ]
            if len(said) == 2:
                yield f"`{said[0]!s}`", KINDS[_called(node)], _prose(str(said[1]))


def _called(node: ast.Call) -> str:
    return ast.unparse(node.func).rpartition(".")[2]


def findings() -> str:
    """Every finding of `doctor`: how bad it is, what it is, what to do."""
    kinds = importlib.import_module("controller.doctor.finding").KINDS
    return _table(
        ("finding", "result", "what it is", "what to do"),
        ((f"`{name}`", kind.result, kind.meaning, kind.hint) for name, kind in kinds.items()),
    )


SECTIONS: dict[str, tuple[Path, Callable[[], str]]] = {
    "settings": (ROOT / "docs" / "settings.md", settings),
    "sources": (ROOT / "docs" / "gitops.md", sources),
    "findings": (ROOT / "docs" / "operations.md", findings),
    "commands": (ROOT / "docs" / "reference.md", commands),
    "statuses": (ROOT / "docs" / "reference.md", statuses),
    "metrics": (ROOT / "docs" / "reference.md", metrics),
}


def between(page: str, section: str) -> str | None:
    """What stands between a section's marks, or None without them."""
    found = re.search(rf"<!-- {section} -->\n(.*?)<!-- /{section} -->", page, re.DOTALL)
    return found and found[1]


def main(sections: Iterable[str]) -> None:
    """Write these sections anew."""
    for section in sections:
        page, write = SECTIONS[section]
        old = between(page.read_text(), section)
        if old is None:
            raise LookupError(f"{page} has no section {section}")
        marked = f"<!-- {section} -->\n"
        page.write_text(page.read_text().replace(f"{marked}{old}", f"{marked}{write()}\n", 1))


if __name__ == "__main__":
    main(sys.argv[1:] or SECTIONS)
