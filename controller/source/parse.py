"""Bytes → documents, with every problem at its line and column. Total: no bytes make it raise."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import yaml
from yaml.nodes import Node, ScalarNode

from controller.core.definition import Action, Workflow, load_document
from controller.core.problem import Problem
from controller.source.diagnostic import Diagnostic
from controller.source.yaml12 import Constructor, Exhausted, Flaw, Limits, compose, node_at

__all__ = ["Diagnostic", "Document", "Limits", "ParsedFile", "parse", "read_data"]

DEFAULT = Limits()

_CONTROL = re.compile(r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_QUOTE_IT = 'quote it: "${…}" — YAML reads `{`, `}` and `: ` in plain text as its own'


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
    """A file's documents, and everything wrong with the file and with them."""

    path: str
    documents: list[Document]
    problems: list[Diagnostic]


def parse(path: str, content: bytes, limits: Limits = DEFAULT) -> ParsedFile:
    """Read a file's definitions; empty documents are left out.

    Args:
        path: For messages.
        content: The file's bytes.
        limits: Bounds; over one is a problem.
    """
    text, problem = _decode(path, content, limits)
    if problem is not None:
        return ParsedFile(path, [], [problem])
    place = _Place(path, text)
    found = ParsedFile(path, [], [])
    for root, data in _read(place, limits, found.problems):
        if data is None:
            continue
        definition, problems = load_document(data)
        locate = place.locator(root)
        located = [locate(each) for each in problems]
        found.problems.extend(located)
        found.documents.append(Document(data, definition, located, locate))
    found.problems.sort(key=lambda each: (each.line, each.column))
    return found


def read_data(path: str, content: bytes, limits: Limits = DEFAULT) -> tuple[Any, list[Diagnostic]]:
    """The first document of a YAML file as plain data, whatever it is about; None when empty."""
    text, problem = _decode(path, content, limits)
    if problem is not None:
        return None, [problem]
    problems: list[Diagnostic] = []
    data = [value for _, value in _read(_Place(path, text), limits, problems)]
    return (data[0] if data and not problems else None), problems


def _decode(path: str, content: bytes, limits: Limits) -> tuple[str, Diagnostic | None]:
    """The file's text, or why it has none."""
    if len(content) > limits.file_bytes:
        message = f"the file has {len(content):,} bytes; at most {limits.file_bytes:,} are read"
        return "", Diagnostic.of_file(path, "file-too-large", message)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8", "replace")
        line = before.count("\n") + 1
        column = len(before) - before.rfind("\n")
        message = f"byte 0x{content[error.start]:02x} is not UTF-8"
        hint = "save the file as UTF-8"
        return "", Diagnostic(path, line, column, "not-utf-8", message, hint)
    bad = _CONTROL.search(text)
    if bad:
        line = text.count("\n", 0, bad.start()) + 1
        column = bad.start() - text.rfind("\n", 0, bad.start())
        what = "a NUL byte" if bad.group() == "\0" else f"the character U+{ord(bad.group()):04X}"
        message = f"{what} cannot stand in a definition"
        return "", Diagnostic(path, line, column, "control-character", message)
    return text, None


def _read(place: "_Place", limits: Limits, problems: list[Diagnostic]) -> list[tuple[Node, Any]]:
    """Root nodes with their values; a document with a flaw has none."""
    constructor = Constructor(limits)
    found: list[tuple[Node, Any]] = []
    try:
        for root in compose(place.text, limits.depth):
            before = len(constructor.flaws)
            data = constructor.construct(root)
            if len(constructor.flaws) == before:
                found.append((root, data))
    except Exhausted as error:
        constructor.flaws.append(error.flaw)
    except yaml.YAMLError as error:
        problems.append(place.syntax(error))
    except (RecursionError, ValueError, OverflowError) as error:
        message = f"the file cannot be read as YAML: {error}"
        problems.append(Diagnostic.of_file(place.path, "yaml-syntax", message))
    problems.extend(place.flaw(each) for each in constructor.flaws)
    return found


class _Place:
    """Finds lines and columns in one file."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.text = text
        self._lines: list[str] | None = None

    @property
    def lines(self) -> list[str]:
        """The source's lines; split when the first diagnostic needs one."""
        if self._lines is None:
            self._lines = self.text.splitlines() or [""]
        return self._lines

    def line(self, number: int) -> str:
        """A line by its number, from 0; empty beyond the end."""
        return self.lines[number] if 0 <= number < len(self.lines) else ""

    def flaw(self, flaw: Flaw) -> Diagnostic:
        """A flaw of a node."""
        mark = flaw.node.start_mark
        return self._at(mark.line, mark.column, flaw.code, flaw.message, flaw.hint)

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
        return self._at(line, column, "yaml-syntax", f"not YAML: {what}", hint)

    def locator(self, root: Node) -> Callable[[Problem], Diagnostic]:
        """What turns problems of the document at `root` into diagnostics."""

        def locate(problem: Problem) -> Diagnostic:
            node = node_at(root, problem.path, at_key=problem.at_key)
            mark = node.start_mark
            line, column = mark.line, mark.column
            if problem.offset and isinstance(node, ScalarNode):
                line, column = self._inside(node, problem.offset)
            found = self._at(line, column, problem.code, problem.message, problem.hint)
            if problem.severity == "error":
                return found
            return Diagnostic(
                found.path, found.line, found.column, found.code, found.message, found.hint,
                problem.severity, found.excerpt,
            )  # fmt: skip

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

    def _at(self, line: int, column: int, code: str, message: str, hint: str | None) -> Diagnostic:
        return Diagnostic(
            self.path, line + 1, max(column, 0) + 1, code, message, hint, excerpt=self.line(line)
        )
