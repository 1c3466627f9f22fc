"""The `${…}` language: values of a document, compiled once, rendered against names.

- A value that is exactly one `${…}` keeps its type; inside longer text it is put in as text: text
  as it is, null as nothing, numbers and booleans as in JSON, lists and objects as compact JSON.
- `$${` is a literal `${`.
- A plain path is walked (`core/paths.py`); anything more is CEL (`core/cel.py`).
"""

import difflib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from pydantic_core import from_json, to_json

from controller.core.cel import LONGEST_TEXT, CelError, Type, compile_cel, references
from controller.core.paths import Missing, kind_of, parse_path, walk
from controller.core.problem import Path, Problem
from controller.core.scan import Piece, Unterminated, split

ALWAYS_THERE: Final[Mapping[str, Type]] = {
    "inputs": "object",
    "steps": "object",
    "execution": "object",
    "workflow": "object",
    "trigger": "object",
    "secrets": "object",
    "error": "object",
}
"""Names that are always there; `error` only in the error handler."""

Names = Mapping[str, Any]
Render = Callable[[Names], Any]


class ExpressionError(Exception):
    """An expression has no value here: the step fails with type `expression`."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What names there are at one place.

    Attributes:
        names: Types of the visible names.
        members: For names whose members are all known, the types of those.
    """

    names: Mapping[str, Type]
    members: Mapping[str, Mapping[str, Type]] = field(default_factory=dict)


class Template:
    """A value with its expressions compiled.

    Attributes:
        references: Names used, with their static members: `("inputs", "x")`.
        type: Of the value, as far as it is known.
        is_constant: It has no expressions.
    """

    __slots__ = ("_render", "is_constant", "references", "type")

    def __init__(
        self, render: Render, kind: Type, used: frozenset[tuple[str, ...]], *, constant: bool
    ) -> None:
        self._render = render
        self.type = kind
        self.references = used
        self.is_constant = constant

    def render(self, names: Names) -> Any:  # ruff: ignore[any-type]  # a value of the language
        """The value; raises `ExpressionError`."""
        return self._render(names)


def constant(value: Any) -> Template:  # ruff: ignore[any-type]  # a JSON value
    """A template without expressions."""
    return Template(lambda _: value, type_of(value), frozenset(), constant=True)


def compile_template(
    value: Any,  # ruff: ignore[any-type]  # a JSON value of the document
    scope: Scope,
    path: Path,
    *,
    literal: Mapping[str, Any] | None = None,
) -> tuple[Template, list[Problem]]:
    """Compile every `${…}` in the texts of a JSON value; keys are never templates.

    Args:
        value: The value.
        scope: The names it may use.
        path: Of the value in its document.
        literal: More entries of an object, taken as they are.
    """
    compiler = _Compiler(scope)
    template = compiler.value(value, path)
    if literal:
        fixed, rest = dict(literal), template
        template = Template(
            lambda names: rest.render(names) | fixed, "object", rest.references, constant=False
        )
    return template, compiler.problems


def compile_expression(piece: Piece, scope: Scope, path: Path) -> tuple[Template, list[Problem]]:
    """Compile one `${…}` of a text that is split already."""
    compiler = _Compiler(scope)
    return compiler.expression(piece, path), compiler.problems


def compile_condition(
    value: str | bool,  # ruff: ignore[boolean-type-hint-positional-argument]  # a JSON value of the document
    scope: Scope,
    path: Path,
) -> tuple[Template, list[Problem]]:
    """Compile a boolean: `${expr}`, a bare expression, or true and false themselves."""
    if isinstance(value, bool):
        return constant(value), []
    compiler = _Compiler(scope)
    text = value.strip()
    if "${" in text and not _is_one(text):
        message = "a condition is one expression, not text with expressions in it"
        problem = Problem("not-boolean", message, path, "put all of it into one ${…}")
        return constant(value=False), [problem]
    bare = "${" not in text
    template = compiler.text(f"${{{text}}}" if bare else text, path)
    before = value.index(text) - (2 if bare else 0)
    found = [replace(each, offset=max(0, each.offset + before)) for each in compiler.problems]
    if template.type not in {"boolean", "any"} and not found:
        message = f"a condition must be true or false, and this is {template.type}"
        found.append(Problem("not-boolean", message, path, "compare it with something"))
    checked = template

    def boolean(names: Names) -> bool:
        value = checked.render(names)
        if not isinstance(value, bool):
            raise ExpressionError(
                f"a condition must be true or false, and this is {kind_of(value)}"
            )
        return value

    return Template(boolean, "boolean", checked.references, constant=False), found


def type_of(value: Any) -> Type:  # ruff: ignore[any-type]  # a JSON value
    """The language's type of a value; null has none."""
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, float):
        return "number"
    if isinstance(value, str):
        return "string"
    if isinstance(value, list):
        return "array"
    return "object" if isinstance(value, dict) else "any"


def to_text(value: Any) -> str:  # ruff: ignore[any-type]  # a value of the language
    """A value inside longer text; raises `ExpressionError` for `steps` or `secrets` as a whole."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:  # ruff: ignore[magic-value-comparison]  # exact
        return str(int(value))
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise ExpressionError(f"this cannot be put into text: {error}") from None


def to_plain(value: Any) -> Any:  # ruff: ignore[any-type]  # a value of the language
    """A value as it will be read back where it is recorded; raises `ExpressionError`."""
    try:
        return from_json(to_json(value), allow_inf_nan=False)
    except ValueError as error:
        raise ExpressionError(f"this is not JSON: {error}") from None


def suggestion(name: str, known: Iterable[str]) -> str | None:
    """`did you mean …?`, or None."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean `{close[0]}`?" if close else None


def unknown_name(name: str, scope: Scope, path: Path, offset: int) -> Problem:
    """The problem with a name that is not visible."""
    hint = suggestion(name, scope.names)
    if hint is None and name.isupper():
        hint = f"secrets are `secrets.{name}`; in shell text, write ${name} or $${{{name}}}"
    message = f"there is no `{name}` here"
    return Problem("unknown-name", message, path, hint, offset=offset)


class _Compiler:
    """One value being compiled."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.problems: list[Problem] = []

    def value(self, value: Any, path: Path) -> Template:  # ruff: ignore[any-type]  # a JSON value
        """Any JSON value."""
        if isinstance(value, str):
            return self.text(value, path) if "${" in value else constant(value)
        if isinstance(value, dict):
            parts = {key: self.value(item, (*path, key)) for key, item in value.items()}
            if all(part.is_constant for part in parts.values()):
                return constant(value)
            entries = tuple(parts.items())
            return Template(
                lambda names: {key: part.render(names) for key, part in entries},
                "object",
                _used(parts.values()),
                constant=False,
            )
        if isinstance(value, list):
            items = [self.value(item, (*path, index)) for index, item in enumerate(value)]
            if all(item.is_constant for item in items):
                return constant(value)
            return Template(
                lambda names: [item.render(names) for item in items],
                "array",
                _used(items),
                constant=False,
            )
        return constant(value)

    def text(self, text: str, path: Path) -> Template:
        """Text with expressions in it."""
        try:
            pieces = split(text)
        except Unterminated as error:
            self.problems.append(Problem("bad-expression", str(error), path, offset=error.offset))
            return constant(text)
        if len(pieces) == 1:
            piece = pieces[0]
            return self.expression(piece, path) if piece.expression else constant(piece.text)
        parts = [
            self.expression(piece, path) if piece.expression else constant(piece.text)
            for piece in pieces
        ]
        if not any(piece.expression for piece in pieces):
            return constant("".join(piece.text for piece in pieces))
        return Template(
            lambda names: "".join([to_text(part.render(names)) for part in parts]),
            "string",
            _used(parts),
            constant=False,
        )

    def expression(self, piece: Piece, path: Path) -> Template:
        """One expression: a path or CEL."""
        text = piece.text.strip()
        offset = piece.offset + len(piece.text) - len(piece.text.lstrip())
        if not text:
            self.problems.append(Problem("bad-expression", "`${}` is empty", path, offset=offset))
            return constant(None)
        steps = parse_path(text)
        if steps is not None:
            return self.path(steps, path, offset)
        return self.cel(text, path, offset)

    def path(self, steps: tuple[str | int, ...], path: Path, offset: int) -> Template:
        """A plain path."""
        root = str(steps[0])
        kind: Type = "any"
        if root not in self.scope.names:
            self.problems.append(unknown_name(root, self.scope, path, offset))
        elif len(steps) == 1:
            kind = self.scope.names[root]
        else:
            kind = self.member(root, steps[1], len(steps), path, offset)

        def render(names: Names) -> Any:  # ruff: ignore[any-type]  # a value of the language
            try:
                return walk(names, steps)
            except Missing as error:
                raise ExpressionError(str(error)) from None

        static = []
        for step in steps:
            if isinstance(step, int):
                break
            static.append(step)
        return Template(render, kind, frozenset({tuple(static)}), constant=False)

    def member(self, root: str, name: str | int, depth: int, path: Path, offset: int) -> Type:
        """What is known of `root.name`."""
        whole = self.scope.names[root]
        if whole not in {"object", "array", "any"}:
            message = f"`{root}` is a {whole} and has no `{name}`"
            self.problems.append(Problem("wrong-type", message, path, offset=offset))
            return "any"
        members = self.scope.members.get(root)
        if members is None or isinstance(name, int):
            return "any"
        if name not in members:
            message = f"`{root}` has no `{name}`"
            hint = suggestion(name, members)
            self.problems.append(Problem("unknown-name", message, path, hint, offset=offset))
            return "any"
        return members[name] if depth == 2 else "any"  # ruff: ignore[magic-value-comparison]  # root.name and no more

    def cel(self, text: str, path: Path, offset: int) -> Template:
        """Anything more than a path."""
        if len(text) > LONGEST_TEXT:
            message = f"an expression has at most {LONGEST_TEXT} characters"
            self.problems.append(Problem("bad-expression", message, path, offset=offset))
            return constant(None)
        used = self.names_of(text, path, offset)
        if used is None:
            return constant(None)
        roots = sorted({chain[0] for chain in used})
        compiled = compile_cel(text, tuple((root, self.scope.names[root]) for root in roots))
        if isinstance(compiled, CelError):
            place = offset + compiled.offset
            self.problems.append(Problem("bad-expression", str(compiled), path, offset=place))
            return constant(None)
        chains = tuple(used)

        def render(names: Names) -> Any:  # ruff: ignore[any-type]  # a value of the language
            try:
                return compiled.evaluate(_activation(names, chains))
            except CelError as error:
                raise ExpressionError(f"{text}: {error}") from None

        return Template(render, compiled.type, frozenset(used), constant=False)

    def names_of(self, text: str, path: Path, offset: int) -> dict[tuple[str, ...], None] | None:
        """The names an expression uses; None when one of them is not there."""
        used: dict[tuple[str, ...], None] = {}
        unknown = False
        for chain, place in references(text):
            used[chain] = None
            if chain[0] not in self.scope.names:
                unknown = True
                self.problems.append(unknown_name(chain[0], self.scope, path, offset + place))
            elif len(chain) > 1 and chain[0] in self.scope.members:
                self.member(chain[0], chain[1], 3, path, offset + place)
        return None if unknown else used


def _activation(names: Names, chains: tuple[tuple[str, ...], ...]) -> dict[str, Any]:
    """The values CEL needs: of `steps` and `secrets`, only what is named."""
    found: dict[str, Any] = {}
    for chain in chains:
        try:
            value = names[chain[0]]
            if isinstance(value, dict | list) or not isinstance(value, Mapping):
                found[chain[0]] = value
            else:
                found[chain[0]] = found.get(chain[0], {}) | _part(value, chain[1:2])
        except KeyError as error:
            raise ExpressionError(f"there is no `{error.args[0]}`") from None
    return found


def _part(value: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """The named members of a lazy mapping, or all of it when none is named."""
    return {name: value[name] for name in names} if names else dict(value)


def _is_one(text: str) -> bool:
    try:
        pieces = split(text)
    except Unterminated:
        return True
    return len(pieces) == 1 and pieces[0].expression


def _used(parts: Iterable[Template]) -> frozenset[tuple[str, ...]]:
    return frozenset().union(*(part.references for part in parts))
