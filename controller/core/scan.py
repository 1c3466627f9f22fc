"""Where the `${…}` of a text are; `$${` is a literal `${`."""

import re
from typing import NamedTuple

_MARK = re.compile(r"[\"'{}]")
"""What decides where an expression ends."""


class Piece(NamedTuple):
    """A part of a text: literal text, or an expression without its `${` and `}`.

    `offset` is where the text of the piece begins, in characters.
    """

    text: str
    offset: int
    expression: bool


class Unterminated(Exception):
    """A `${` without its `}`; `offset` is where the `${` stands."""

    def __init__(self, offset: int) -> None:
        super().__init__("`${` is never closed with `}`")
        self.offset = offset


def split(text: str) -> list[Piece]:
    """The pieces of `text` in order; raises `Unterminated`."""
    pieces: list[Piece] = []
    literal: list[str] = []
    begun = position = 0
    while (mark := text.find("${", position)) >= 0:
        if mark > 0 and text[mark - 1] == "$":
            literal.append(text[position : mark - 1] + "${")
            position = mark + 2
            continue
        literal.append(text[position:mark])
        if any(literal):
            pieces.append(Piece("".join(literal), begun, expression=False))
        end = _end(text, mark)
        pieces.append(Piece(text[mark + 2 : end], mark + 2, expression=True))
        literal, position = [], end + 1
        begun = position
    literal.append(text[position:])
    if any(literal):
        pieces.append(Piece("".join(literal), begun, expression=False))
    return pieces


def _end(text: str, mark: int) -> int:
    """The position of the `}` that closes the `${` at `mark`; braces and quotes inside count."""
    depth = 0
    position = mark + 2
    while (found := _MARK.search(text, position)) is not None:
        position = found.start()
        character = text[position]
        if character == "{":
            depth += 1
        elif character == "}":
            if depth == 0:
                return position
            depth -= 1
        else:
            position = _string_end(text, position)
        position += 1
    raise Unterminated(mark)


def _string_end(text: str, position: int) -> int:
    """The closing quote of the string literal that begins at `position`, or the text's end."""
    quote = text[position]
    position += 1
    while position < len(text) and text[position] != quote:
        position += 2 if text[position] == "\\" else 1
    return position
