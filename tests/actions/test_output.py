"""Bytes in, lines out: the same whatever the pieces, and never too much."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.execute import output
from controller.execute.output import Lines


def told(*pieces: bytes) -> list[str]:
    """The lines of a stream that came in these pieces."""
    lines: list[str] = []
    stream = Lines(lines.append)
    for piece in pieces:
        stream.feed(piece)
    stream.end()
    return lines


TEXT = st.lists(st.sampled_from(["a", "é", "\n", "\r\n", "日本", "x" * 11, "\0", "🎈" * 3])).map(
    "".join
)


@given(TEXT.map(str.encode) | st.binary(), st.lists(st.integers(0, 200)))
def test_lines_do_not_depend_on_how_the_pipe_cuts_them(content: bytes, cuts: list[int]) -> None:
    """Reading byte by byte, at any cuts, or all at once tells the same lines."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(output, "LINE", 16)
        places = sorted({0, *(cut for cut in cuts if cut < len(content)), len(content)})
        pieces = [content[begin:end] for begin, end in pairwise(places)]
        assert told(*pieces) == told(content)


@given(TEXT)
def test_text_is_told_whole(text: str) -> None:
    """No character is lost or cut, however long the line; line ends and NUL are all that change."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(output, "LINE", 16)
        said = "".join(told(text.encode()))
    assert said == text.replace("\r\n", "\n").replace("\n", "").replace(
        "\0", "\N{REPLACEMENT CHARACTER}"
    )


@given(st.binary())
def test_any_bytes_become_text(content: bytes) -> None:
    """What is no UTF-8 is replaced, never raised, and never a NUL that a database refuses."""
    assert all("\0" not in line and "\n" not in line for line in told(content))


def test_a_line_of_a_megabyte_comes_in_pieces() -> None:
    """Each piece is at most `LINE` bytes, and together they are the line."""
    lines = told(b"x" * 1_000_000 + b"\nend\n")
    assert max(map(len, lines)) == output.LINE
    assert "".join(lines[:-1]) == "x" * 1_000_000
    assert lines[-1] == "end"


def test_nothing_is_cut_before_it_is_known_what_follows() -> None:
    """What must stay whole may come from the pipe in two parts."""

    def cut(text: bytes, at: int) -> int:
        start = text.find(b"secret")
        return start if start < at < start + 6 else at

    lines: list[str] = []
    stream = Lines(lines.append, cut)
    stream.feed(b"x" * (output.LINE - 3) + b"secr")
    stream.feed(b"et" + b"x" * 2 * output.LINE)
    stream.end()
    assert [line.find("secret") for line in lines] == [-1, 0, -1, -1]


def test_a_flood_is_told_from_both_ends() -> None:
    """Of a million lines the first and the last are in the log, and how many are not."""
    lines = told(
        *(b"".join(b"%d\n" % n for n in range(k, k + 1000)) for k in range(0, 1_000_000, 1000))
    )
    assert lines[:3] == ["0", "1", "2"]
    assert lines[-1] == "999999"
    assert len(lines) < output.LINES + output.LINE
    [notice] = [line for line in lines if "left out" in line]
    assert int(notice.split()[1].replace(",", "")) == 1_000_000 - len(lines) + 1


def test_an_endless_line_is_bounded() -> None:
    """A stream without line ends takes no more memory than its beginning and its end."""
    lines: list[str] = []
    stream = Lines(lines.append)
    for _ in range(200):
        stream.feed(b"x" * 100_000)
    stream.end()
    assert sum(map(len, lines)) < output.LOGGED + 200_000
    assert [each for each in lines if "left out" in each] == [
        "… 1 line left out: too much for the log …"
    ]
    assert len(stream.kept()[0]) == output.KEPT


def test_what_is_kept_ends_with_a_whole_character() -> None:
    """A character that the bound would cut is left out."""
    stream = Lines(lambda _: None)
    stream.feed(b"x" + "é".encode() * output.KEPT)
    text, truncated = stream.kept()
    assert truncated
    assert text == "x" + "é" * ((output.KEPT - 1) // 2)


def test_the_last_line_is_remembered() -> None:
    """It explains a failure; blank lines do not."""
    stream = Lines(lambda _: None)
    stream.feed(b"first\nthe reason\n\n  \n")
    stream.end()
    assert stream.last == "the reason"
