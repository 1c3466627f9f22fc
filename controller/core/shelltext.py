"""Shell text with `${…}` in it: values travel as environment variables, never as code.

Each `${…}` is replaced by a reference to a variable of its own, where it stands, and the shell
expands it under the quoting its author wrote: whatever the value holds, it is data. Where the shell
would not expand — inside single quotes, in a here-document with a quoted delimiter — there is a
problem instead of a surprise.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from controller.core.expression import (
    ExpressionError,
    Scope,
    Template,
    compile_expression,
    to_text,
)
from controller.core.problem import Path, Problem
from controller.core.scan import Piece, Unterminated, split

PREFIX = "WINDLASS_V"

_HEREDOC = re.compile(r"<<-?[ \t]*(?:(['\"])(.+?)\1|(\\?)([A-Za-z_][A-Za-z0-9_]*))")


class ShellText:
    """Compiled shell text.

    Attributes:
        script: The text the shell gets, the same for every execution.
        references: Names used, see `Template.references`.
    """

    __slots__ = ("_values", "references", "script")

    def __init__(self, script: str, values: tuple[tuple[str, Template], ...]) -> None:
        self.script = script
        self._values = values
        used = (template.references for _, template in values)
        self.references: frozenset[tuple[str, ...]] = frozenset().union(*used)

    def render(self, names: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
        """The script and the variables it needs; raises `ExpressionError`."""
        environment: dict[str, str] = {}
        for variable, template in self._values:
            text = to_text(template.render(names))
            if "\0" in text:
                raise ExpressionError("a value with a NUL byte cannot be given to a shell")
            environment[variable] = text
        return self.script, environment


def compile_shell(text: str, scope: Scope, path: Path) -> tuple[ShellText, list[Problem]]:
    """Compile shell text; see the module's docstring."""
    try:
        pieces = split(text)
    except Unterminated as error:
        return ShellText(text, ()), [
            Problem("bad-expression", str(error), path, offset=error.offset)
        ]
    problems: list[Problem] = []
    values: list[tuple[str, Template]] = []
    script: list[str] = []
    quoting = _Quoting()
    for piece in pieces:
        if not piece.expression:
            script.append(piece.text)
            quoting.feed(piece.text)
            continue
        if quoting.literal:
            problems.append(_unexpanded(piece, path, quoting.literal))
        template, found = compile_expression(piece, scope, path)
        problems.extend(_hinted(each, piece) for each in found)
        variable = f"{PREFIX}{len(values) + 1}"
        values.append((variable, template))
        script.append(f"${{{variable}}}")
        quoting.feed("x")
    return ShellText("".join(script), tuple(values)), problems


def _hinted(problem: Problem, piece: Piece) -> Problem:
    """A problem of an expression, with what shell text makes likely to have been meant."""
    name = piece.text.strip()
    if problem.code == "unknown-name" and name.isidentifier() and name.isupper():
        return replace(problem, hint=f"for a shell variable, write ${name} or $${{{name}}}")
    return problem


def _unexpanded(piece: Piece, path: Path, where: str) -> Problem:
    return Problem(
        "shell-single-quote",
        f"the shell does not expand `${{{piece.text}}}` {where}",
        path,
        'use double quotes: "${…}"' if "quotes" in where else "do not quote the delimiter: <<EOF",
        offset=piece.offset,
    )


_ORDINARY = re.compile(r"[^\n'\"\\`()#<]+")
"""Characters that say nothing about quoting, unless they are escaped."""


class _Quoting:
    """Follows POSIX shell quoting far enough to know where `${…}` is not expanded."""

    def __init__(self) -> None:
        self._stack: list[str] = []  # of ' " ( `
        self._heredocs: list[tuple[str, bool]] = []
        self._inside: tuple[str, bool] | None = None
        self._line = ""
        self._escaped = False
        self._comment = False
        self._previous = "\n"

    @property
    def literal(self) -> str | None:
        """Where we are, when that is a place without expansion."""
        if self._inside is not None:
            return "in a here-document whose delimiter is quoted" if self._inside[1] else None
        if self._stack and self._stack[-1] == "'":
            return "inside single quotes"
        return None

    def feed(self, text: str) -> None:
        """Go on over text between expressions."""
        position = 0
        while position < len(text):
            ordinary = None if self._escaped else _ORDINARY.match(text, position)
            if ordinary is None:
                self._one(text, position)
                position += 1
            else:
                self._line += ordinary.group() if self._inside is not None else ""
                position = ordinary.end()
            self._previous = text[position - 1]

    def _one(self, text: str, position: int) -> None:
        """Go on over one character, which may change how those behind it are read."""
        character = text[position]
        if character == "\n":
            self._newline()
        elif self._inside is not None:
            self._line += character
        else:
            self._character(character, text, position)

    def _newline(self) -> None:
        if self._inside is not None:
            if self._line.lstrip("\t") == self._inside[0]:
                self._inside = self._heredocs.pop(0) if self._heredocs else None
            self._line = ""
            return
        self._comment = False
        self._escaped = False
        quoted = bool(self._stack) and self._stack[-1] in "'\""
        if not quoted and self._heredocs:
            self._inside = self._heredocs.pop(0)
        self._line = ""

    def _character(  # ruff: ignore[complex-structure]  # one branch a kind of quoting
        self, character: str, text: str, position: int
    ) -> None:
        top = self._stack[-1] if self._stack else ""
        if self._comment:
            return
        if self._escaped:
            self._escaped = False
        elif top == "'":
            if character == "'":
                self._stack.pop()
        elif character == "\\":
            self._escaped = True
        elif character in '"`':
            self._toggle(character)
        elif character == "(" and self._previous == "$":
            self._stack.append("(")
        elif top != '"':
            self._bare(character, text, position)

    def _toggle(self, quote: str) -> None:
        if self._stack and self._stack[-1] == quote:
            self._stack.pop()
        else:
            self._stack.append(quote)

    def _bare(self, character: str, text: str, position: int) -> None:
        """Outside quotes: where single quotes, subshells, comments and here-documents begin."""
        if character == "'":
            self._stack.append("'")
        elif character == "(":
            self._stack.append("(")
        elif character == ")" and self._stack and self._stack[-1] == "(":
            self._stack.pop()
        elif character == "#" and self._previous in " \t\n;&|(":
            self._comment = True
        elif character == "<" and text[position : position + 2] == "<<" and self._previous != "<":
            found = _HEREDOC.match(text, position)
            if found and text[position : position + 3] != "<<<":
                quoted = bool(found.group(1) or found.group(3))
                self._heredocs.append((found.group(2) or found.group(4), quoted))
