"""Bytes → documents, with every problem at its line and column. Total: no bytes make it raise."""

import codecs
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import yaml
from yaml.nodes import Node, ScalarNode

from controller.core.definition import Action, Workflow
from controller.core.document import load_document
from controller.core.problem import Problem
from controller.source.diagnostic import Diagnostic, clip
from controller.source.limits import Limits
from controller.source.snapshot import too_large
from controller.source.yaml12 import Constructor, Exhausted, Flaw, compose, node_at

__all__ = ["Diagnostic", "Document", "ParsedFile", "parse", "read_data"]

DEFAULT = Limits()
LISTED = 200
"""Problems of a file that are listed; a file with more is not read to the end by anybody."""

_CONTROL = re.compile(r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_PLAIN = bytes([*b"\t\n\r", *range(0x20, 0x7F)])
"""What most files are made of altogether: such a text is not searched."""
_QUOTE_IT = 'quote it: "${…}" — YAML reads `{`, `}` and `: ` in plain text as its own'
_SURROGATES = re.compile(
    r"(?<!\\)((?:\\\\)*)\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})"
)


@dataclass(slots=True)
class Document:
    """One document of a file.

    Attributes:
        data: What it says, as plain data.
        definition: What it defines; None when something is wrong with it.
        problems: What is wrong with it.
        locate: Turns a problem found later into a diagnostic.
    """

    data: Any
    definition: Workflow | Action | None
    problems: list[Diagnostic]
    locate: Callable[[Problem], Diagnostic]


@dataclass(slots=True)
class ParsedFile:
    """A file's documents, and everything wrong with the file and with them, in its order."""

    path: str
    documents: list[Document]
    problems: list[Diagnostic]


def parse(path: str, content: bytes, limits: Limits = DEFAULT) -> ParsedFile:
    """Read a file's definitions; empty documents are left out.

    Args:
        path: For messages; its end tells JSON from YAML.
        content: The file's bytes.
        limits: Bounds; over one is a problem.
    """
    text, problem = _decode(path, content, limits)
    if problem is not None:
        return ParsedFile(path, [], [problem])
    place = _Place(path, text)
    found = ParsedFile(path, [], [])
    for index, (root, data, flaws) in enumerate(_read(place, limits, found.problems)):
        if data is None and not flaws:
            continue
        _keep_version(root, data)
        document = _document(place, place.locator(index, limits), data, flaws)
        found.documents.append(document)
        found.problems.extend(document.problems)
    found.problems.sort(key=lambda each: (each.line, each.column))
    if len(found.problems) > LISTED:
        message = f"{len(found.problems) - LISTED:,} more problems are not listed"
        last = replace(found.problems[LISTED], code="too-many-problems", message=message, hint=None)
        found.problems[LISTED:] = [replace(last, severity="error")]
    return found


def read_data(path: str, content: bytes, limits: Limits = DEFAULT) -> tuple[Any, list[Diagnostic]]:
    """The first document of a YAML file as plain data, whatever it is about; None when empty."""
    text, problem = _decode(path, content, limits)
    if problem is not None:
        return None, [problem]
    problems: list[Diagnostic] = []
    place = _Place(path, text)
    read = list(_read(place, limits, problems))
    problems.extend(place.flaw(flaw) for _, _, flaws in read for flaw in flaws)
    return (read[0][1] if read and not problems else None), problems


def _decode(path: str, content: bytes, limits: Limits) -> tuple[str, Diagnostic | None]:
    """The file's text, or why it has none."""
    if len(content) > limits.file_bytes:
        what, code, hint = too_large(len(content), limits.file_bytes)
        return "", Diagnostic.of_file(path, code, f"the file {what}", hint)
    content = content.removeprefix(codecs.BOM_UTF8)
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8", "replace")
        message = f"byte 0x{content[error.start]:02x} is not UTF-8"
        return "", _Place(path, before).end("not-utf-8", message, "save the file as UTF-8")
    bad = _CONTROL.search(text) if content.translate(None, _PLAIN) else None
    if bad:
        what = "a NUL byte" if bad.group() == "\0" else f"the character U+{ord(bad.group()):04X}"
        message = f"{what} cannot stand in a definition"
        before = text[: bad.start()]
        return "", _Place(path, before).end("control-character", message, "remove it")
    return text, None


def _joined(pair: re.Match[str]) -> str:
    r"""What JSON writes as two, `\ud83d\ude00`, as YAML does: `\U0001f600`, two characters less."""
    high, low = int(pair[2], 16), int(pair[3], 16)
    return f"{pair[1]}\\U{0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00):08x}"


def _read(
    place: "_Place", limits: Limits, problems: list[Diagnostic]
) -> Iterator[tuple[yaml.Node, Any, list[Flaw]]]:
    """Documents, their values, what is wrong in them; what ends the file is a problem."""
    constructor = Constructor(limits)
    try:
        for root in compose(place.text, limits):
            constructor.flaws = []
            yield root, constructor.construct(root), constructor.flaws
    except Exhausted as error:
        problems.extend(place.flaw(each) for each in (*constructor.flaws, error.flaw))
    except yaml.YAMLError as error:
        problems.append(place.syntax(error))
    except (RecursionError, ValueError, OverflowError) as error:
        message = f"the file cannot be read as YAML: {error}"
        problems.append(Diagnostic.of_file(place.path, "yaml-syntax", message))


def _keep_version(root: yaml.Node, data: Any) -> None:  # ruff: ignore[any-type]  # whatever a file says
    """`version: 1.10` is meant as it is written, and is not 1.1."""
    if isinstance(data, dict) and type(data.get("version")) in {int, float}:
        data["version"] = node_at(root, ("version",)).value


def _document(
    place: "_Place",
    locate: Callable[[Problem], Diagnostic],
    data: Any,  # ruff: ignore[any-type]  # whatever a file says
    flaws: list[Flaw],
) -> Document:
    """A document and its problems; what follows from a flaw of the YAML is left out."""
    definition, problems = load_document(data)
    located = [locate(each) for each in problems]
    if flaws:
        definition = None
        above = [place.flaw(each) for each in flaws]
        places = {(each.line, each.column) for each in above}
        located = above + [each for each in located if (each.line, each.column) not in places]
    return Document(data, definition, located, locate)


class _Place:
    """Finds lines and columns in one file.

    Attributes:
        path: The file.
        source: What it says.
        text: What the YAML parser is given: the same, but for pairs of escapes in JSON.
    """

    def __init__(self, path: str, source: str) -> None:
        self.path = path
        self.source = self.text = source
        if path.endswith(".json") and "\\u" in source:
            self.text = _SURROGATES.sub(_joined, source)
        self._lines: list[str] | None = None

    @property
    def lines(self) -> list[str]:
        """The source's lines; split when the first diagnostic needs one."""
        if self._lines is None:
            self._lines = self.source.splitlines() or [""]
        return self._lines

    def line(self, number: int) -> str:
        """A line by its number, from 0; empty beyond the end."""
        return self.lines[number] if 0 <= number < len(self.lines) else ""

    def end(self, code: str, message: str, hint: str) -> Diagnostic:
        """Something wrong right behind the text, which is all that can be read."""
        line = self.source.count("\n")
        column = len(self.source) - self.source.rfind("\n") - 1
        return Diagnostic(self.path, line + 1, column + 1, code, message, hint)

    def flaw(self, flaw: Flaw) -> Diagnostic:
        """A flaw of a node."""
        mark = flaw.node.start_mark
        problem = Problem(flaw.code, flaw.message, hint=flaw.hint)
        return self._at(mark.line, mark.column, problem)

    def syntax(self, error: yaml.YAMLError) -> Diagnostic:
        """A syntax error, with the advice that most often helps."""
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        what = getattr(error, "problem", None) or str(error).partition("\n")[0]
        line, column = (mark.line, mark.column) if mark is not None else (0, 0)
        hint = None
        if any("${" in self.line(near) for near in (line, line - 1)):
            hint = _QUOTE_IT
            if "${" not in self.line(line):
                line, column = line - 1, self.line(line - 1).find("${")
        elif "\t" in self.line(line)[: column + 1]:
            hint = "indent with spaces; YAML takes no tabs"
        return self._at(line, column, Problem("yaml-syntax", f"not YAML: {what}", hint=hint))

    def locator(self, index: int, limits: Limits) -> Callable[[Problem], Diagnostic]:
        """What turns problems of a document, counted from 0, into diagnostics.

        Most documents have none, and their nodes are many small objects: they are not kept, but
        made again for the first problem.
        """
        roots: list[Node] = []

        def locate(problem: Problem) -> Diagnostic:
            if not roots:
                roots.extend(islice(compose(self.text, limits), index, index + 1))
            node = node_at(roots[0], problem.path, at_key=problem.at_key)
            line, column = node.start_mark.line, node.start_mark.column
            if problem.offset and isinstance(node, ScalarNode):
                line, column = self._inside(node, problem.offset)
            return self._at(line, column, problem)

        return locate

    def _inside(self, node: ScalarNode, offset: int) -> tuple[int, int]:
        """Where a character of a scalar stands; folded and escaped text makes it approximate."""
        value: str = node.value
        before = value[:offset]
        inner = before.rpartition("\n")[2]
        start = value.rfind("\n", 0, offset) + 1
        end = value.find("\n", offset)
        wanted = value[start : end if end >= 0 else len(value)]
        mark = node.start_mark
        for number in range(mark.line, min(node.end_mark.line + 1, len(self.lines))):
            at = self.line(number).find(wanted, mark.column if number == mark.line else 0)
            if wanted and at >= 0:
                return number, at + len(inner)
        quoted = node.style is not None and node.style in "'\""
        return mark.line, mark.column + (offset if "\n" not in before else 0) + quoted

    def _at(self, line: int, column: int, problem: Problem) -> Diagnostic:
        """A diagnostic at a line and a column that count from 0."""
        column = max(column, 0)
        if self.text is not self.source:
            for pair in _SURROGATES.finditer(self.line(line)):
                column += 2 * (column > pair.end(1))
        excerpt, caret = clip(self.line(line), column)
        return Diagnostic(
            self.path,
            line + 1,
            column + 1,
            problem.code,
            problem.message,
            problem.hint,
            problem.severity,
            excerpt,
            caret,
        )
