"""CEL (Common Expression Language), behind one class: compiled once, bounded, errors as errors.

https://github.com/google/cel-spec. Three habits of the library are kept from the rest of us: an
error of evaluation comes back as a value, `map` over a long list is quadratic, and memory is not
bounded — so lists, macros, text and results are.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Final, Literal

from cel_expr_python import cel  # type: ignore[import-untyped]  # it has no types

Type = Literal["string", "number", "integer", "boolean", "object", "array", "any"]

LONGEST_TEXT: Final = 4_000
"""Characters of an expression."""
MOST_MACROS: Final = 4
"""`map`, `filter`, `all`, `exists`, `exists_one` in one expression."""
LONGEST_LIST: Final = 1_000
"""Items of a list, or entries of an object, that an expression with a macro is given."""
LARGEST_RESULT: Final = 1_000_000
"""Characters of text in a result, with one for each value."""

_DECLARED: Final[Mapping[str, Any]] = {
    "string": cel.Type.STRING,
    "number": cel.Type.DYN,  # 3 and 3.0 are both numbers here, and not the same type there
    "integer": cel.Type.INT,
    "boolean": cel.Type.BOOL,
    "object": cel.Type.Map(cel.Type.STRING, cel.Type.DYN),
    "array": cel.Type.List(cel.Type.DYN),
    "any": cel.Type.DYN,
}
_GIVEN: Final[Mapping[str, Type]] = {
    "STRING": "string",
    "BOOL": "boolean",
    "INT": "integer",
    "UINT": "integer",
    "DOUBLE": "number",
    "TIMESTAMP": "string",
    "DURATION": "integer",
}
_TOKEN = re.compile(
    r"""(?P<string>[rRbB]{0,2}(?:'{3}.*?'{3}|"{3}.*?"{3}|'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"))"""
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*)|(?P<number>[0-9][0-9A-Za-z.]*)|(?P<other>\S)",
    re.DOTALL,
)
_MACROS = frozenset({"map", "filter", "all", "exists", "exists_one"})
_WORDS = frozenset({"true", "false", "null", "in"})
_TYPES = frozenset({
    "int",
    "uint",
    "double",
    "string",
    "bool",
    "bytes",
    "list",
    "map",
    "type",
    "null_type",
})
_PLACE = re.compile(r"ERROR: <input>:(\d+):(\d+): (.*)")


class CelError(Exception):
    """An expression that is wrong, or whose evaluation failed; `offset` into its text."""

    def __init__(self, message: str, offset: int = 0) -> None:
        super().__init__(message)
        self.offset = offset


class Cel:
    """A compiled expression.

    Attributes:
        type: Of its result, as far as it is known.
    """

    __slots__ = ("_expression", "_macros", "type")

    def __init__(self, text: str, declared: tuple[tuple[str, Type], ...]) -> None:
        self._macros = sum(1 for _ in _macro_calls(text))
        if len(text) > LONGEST_TEXT:
            raise CelError(f"an expression has at most {LONGEST_TEXT} characters")
        if self._macros > MOST_MACROS:
            raise CelError(
                f"an expression has at most {MOST_MACROS} of {', '.join(sorted(_MACROS))}"
            )
        try:
            self._expression = _environment(declared).compile(text)
        except Exception as error:  # ruff: ignore[blind-except]  # the library raises RuntimeError and others
            raise _translated(str(error), text) from None
        name = str(self._expression.return_type())
        kind: Type = _GIVEN.get(name, "any")
        if name.startswith("MAP") or name.startswith("LIST"):  # ruff: ignore[multiple-starts-ends-with]  # two kinds
            kind = "object" if name.startswith("MAP") else "array"
        self.type: Type = kind

    def evaluate(self, data: Mapping[str, Any]) -> Any:  # ruff: ignore[any-type]  # a value of the language
        """The result, as plain JSON-like data; raises `CelError`."""
        if self._macros:
            for name, value in data.items():
                if _longest(value) > LONGEST_LIST:
                    raise CelError(
                        f"`{name}` holds more than {LONGEST_LIST} items, too many for a macro"
                    )
        try:
            result = self._expression.eval(data=data)
        except Exception as error:  # ruff: ignore[blind-except]  # a value it cannot take
            raise CelError(str(error)) from None
        if result.type() == cel.Type.ERROR:
            raise CelError(str(result.value()).partition(": ")[2] or str(result.value()))
        plain = _plain(result.plain_value())
        if _size(plain) > LARGEST_RESULT:
            raise CelError(f"the result is larger than {LARGEST_RESULT:,} characters")
        return plain


@lru_cache(maxsize=4096)
def compile_cel(text: str, declared: tuple[tuple[str, Type], ...]) -> Cel | CelError:
    """Compile once for each text and declaration; an error is a result too, so it is kept."""
    try:
        return Cel(text, declared)
    except CelError as error:
        return error


@lru_cache(maxsize=1024)
def _environment(declared: tuple[tuple[str, Type], ...]) -> Any:  # ruff: ignore[any-type]  # untyped library
    return cel.NewEnv(variables={name: _DECLARED[kind] for name, kind in declared})


@lru_cache(maxsize=4096)
def references(text: str) -> tuple[tuple[tuple[str, ...], int], ...]:
    """Names with their static members, such as `("inputs", "x")`, and where each begins."""
    return tuple(_references(text))


def _references(text: str) -> Iterator[tuple[tuple[str, ...], int]]:
    bound = set(_macro_calls(text))
    tokens = [match for match in _TOKEN.finditer(text) if match.lastgroup != "number"]
    position = 0
    while position < len(tokens):
        token = tokens[position]
        position += 1
        word = token.group()
        if token.lastgroup != "name" or word in _WORDS or _after_dot(tokens, position - 1):
            continue
        if _is(tokens, position, "("):
            continue
        chain = [word]
        while _is(tokens, position, ".") and position + 1 < len(tokens):
            following = tokens[position + 1]
            if following.lastgroup != "name" or _is(tokens, position + 2, "("):
                break
            chain.append(following.group())
            position += 2
        chain += _indexed(tokens, position, chain)
        if word not in bound and word not in _TYPES:
            yield tuple(chain), token.start()


def _indexed(tokens: list[re.Match[str]], position: int, chain: list[str]) -> list[str]:
    """`steps["my-step"]`: a quoted key right after the root counts as a member."""
    if len(chain) == 1 and _is(tokens, position, "[") and _is(tokens, position + 2, "]"):
        key = tokens[position + 1]
        if key.lastgroup == "string":
            return [key.group().strip("\"'")]
    return []


def _after_dot(tokens: list[re.Match[str]], position: int) -> bool:
    return position > 0 and tokens[position - 1].group() == "."


def _is(tokens: list[re.Match[str]], position: int, what: str) -> bool:
    return position < len(tokens) and tokens[position].group() == what


def _macro_calls(text: str) -> Iterator[str]:
    """The variable that each macro binds."""
    tokens = list(_TOKEN.finditer(text))
    for position, token in enumerate(tokens):
        called = _after_dot(tokens, position) and _is(tokens, position + 1, "(")
        if token.group() in _MACROS and called and position + 2 < len(tokens):
            yield tokens[position + 2].group()


def _translated(message: str, text: str) -> CelError:
    """The first of the library's errors, in fewer words, with its place."""
    found = _PLACE.search(message)
    if not found:
        return CelError(message.partition("\n")[0][:200])
    line, column, what = int(found.group(1)), int(found.group(2)), found.group(3)
    before = sum(len(one) + 1 for one in text.split("\n")[: line - 1])
    what = what.replace(" (in container '')", "").partition(", expecting")[0]
    what = re.sub(r" expecting \{.*", "", what).replace("'<EOF>'", "the end")
    return CelError(what, min(before + max(column - 1, 0), len(text)))


def _plain(value: Any) -> Any:  # ruff: ignore[any-type]  # a value of the library → one of the language
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value // timedelta(milliseconds=1)
    if isinstance(value, str | int | float | bool) or value is None:
        return value
    raise CelError(f"the result holds a {type(value).__name__}, which is no JSON value")


def _longest(value: Any, depth: int = 0) -> int:  # ruff: ignore[any-type]  # a value of the language
    """The number of items of its longest list or object, looked for a few levels deep."""
    if depth > 3 or not isinstance(value, list | dict):  # ruff: ignore[magic-value-comparison]  # enough to find a trap
        return 0
    if len(value) > LONGEST_LIST:
        return len(value)
    inner = value.values() if isinstance(value, dict) else value
    return max([len(value), *(_longest(item, depth + 1) for item in inner)])


def _size(value: Any) -> int:  # ruff: ignore[any-type]  # a value of the language
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(len(key) + _size(item) for key, item in value.items()) + 1
    if isinstance(value, list):
        return sum(_size(item) for item in value) + 1
    return 1
