"""What a process writes: lines for the log as they come, and the beginning of it as an output.

All of it is bounded. A line longer than `LINE` comes in pieces, a log longer than `LINES` lines or
`LOGGED` bytes goes on with its end, because that is where an error is told; what was left out
between is counted. No secret is cut in two: its halves would be found by nobody who masks.
"""

import codecs
import os
from collections.abc import Callable
from dataclasses import dataclass

KEPT = 262_144
"""Bytes of stdout that become an output."""

LINE = 16_384
"""Bytes of one line."""

AHEAD = 16_384
"""Bytes that are read beyond a place before it is cut there: of the longest secret kept whole."""

LINES = 50_000
LOGGED = 8_388_608
"""Lines, and bytes, of one stream that are logged."""


Cut = Callable[[bytes, int], int]
"""Where to cut some text: at the place given, or a little before."""


def anywhere(_text: bytes, at: int) -> int:
    """Where there are no secrets."""
    return at


class Lines:
    """One stream: bytes in, lines out.

    Args:
        on_line: Called with each line, without its end; invalid UTF-8 and NUL are replaced.
        cut: Asked before a secret might be cut.
    """

    def __init__(self, on_line: Callable[[str], None], cut: Cut = anywhere) -> None:
        self._on_line = on_line
        self._cut = cut
        self._rest = b""
        self._kept = bytearray()
        self._size = 0
        self._lines = 0
        self._left_out = 0
        self._is_short = False
        self.last = ""

    def feed(self, data: bytes) -> None:
        """Take what was read."""
        if self._size < KEPT + AHEAD:
            self._kept += data[: KEPT + AHEAD - self._size]
        self._size += len(data)
        if self._lines >= LINES or self._size > LOGGED:
            self._skip(data)
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._say(line)
        while len(self._rest) > LINE + AHEAD:
            piece = self._piece(self._rest)
            self._tell(piece)
            self._rest = self._rest[len(piece) :]

    def end(self) -> None:
        """There is no more: tell the line that was not ended."""
        if self._is_short:
            count = max(self._left_out, 1)  # without its end, a line is one too
            lines_of = "line" if count == 1 else "lines"
            self._on_line(f"… {count:,} {lines_of} left out: too much for the log …")
        *lines, last = self._rest.split(b"\n")
        for line in lines:
            self._say(line)
        if last:
            self._say(last)
        self._rest = b""

    def kept(self) -> tuple[str, bool]:
        """The text from the beginning, and whether that is not all."""
        truncated, kept = self._size > KEPT, bytes(self._kept)
        if truncated:
            kept = kept[: self._cut(kept, KEPT)]
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        return decoder.decode(kept, final=not truncated), truncated

    def _skip(self, data: bytes) -> None:
        """Remember the end of it only."""
        rest = self._rest + data
        self._rest = rest[self._cut(rest, max(len(rest) - LINE, 0)) :]
        self._is_short |= len(self._rest) < len(rest)
        self._left_out += rest.count(b"\n", 0, len(rest) - len(self._rest))

    def _say(self, line: bytes) -> None:
        while len(line) > LINE:
            piece = self._piece(line)
            self._tell(piece)
            line = line[len(piece) :]
        self._tell(line.removesuffix(b"\r"))

    def _tell(self, line: bytes) -> None:
        text = line.decode(errors="replace").replace("\0", "\N{REPLACEMENT CHARACTER}")
        self._lines += 1
        if text.strip():
            self.last = text
        self._on_line(text)

    def _piece(self, line: bytes) -> bytes:
        """The first `LINE` bytes, or less so that neither a character nor a secret is cut."""
        end = LINE
        while end > LINE - 4 and line[end] & 0xC0 == 0x80:  # ruff: ignore[magic-value-comparison]  # UTF-8
            end -= 1
        return line[: self._cut(line, end) or end]


@dataclass(slots=True)
class Stream:
    """One of a process's pipes, and its lines."""

    fd: int
    lines: Lines
    open: bool = True

    def close(self) -> None:
        """Tell the rest, and give the descriptor back."""
        if self.open:
            self.open = False
            os.close(self.fd)
            self.lines.end()
