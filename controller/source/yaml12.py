"""YAML 1.2 (core schema) over the nodes of PyYAML's C parser, with bounds and positions.

PyYAML composes the nodes — fast, each with its line and column — and knows only YAML 1.1, where
`on` is true and `12:30` is 750. So values are constructed here. Everything an author could do to
stall the daemon is bounded: nodes are counted after aliases are expanded, nesting and text are
limited, and an anchor inside itself is refused.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from yaml.cyaml import CParser  # type: ignore[attr-defined]  # the stubs leave it out
from yaml.events import CollectionEndEvent, CollectionStartEvent
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml.resolver import BaseResolver

from controller.core.problem import Path

_INT = re.compile(r"[-+]?[0-9]+")
_OTHER_INT = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_WORDS: dict[str, Any] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True,
    "false": False, "False": False, "FALSE": False,
}  # fmt: skip
_STRING = "tag:yaml.org,2002:str"
_TAGS = {_STRING, "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq", "!"}
_SAFE = 500
"""Levels that the C parser's recursion certainly bears."""
_INDENTED = re.compile(r"^[ \t?:-]{500}", re.MULTILINE)
_LARGEST = 2**63
_DIGITS = 19


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a file: bytes, values (after aliases are expanded), nesting, characters of a text."""

    file_bytes: int = 1_048_576
    nodes: int = 50_000
    depth: int = 50
    text: int = 262_144


@dataclass(frozen=True, slots=True)
class Flaw:
    """Something wrong at a node."""

    code: str
    message: str
    node: Node
    hint: str | None = None


class Exhausted(Exception):
    """A bound was reached: nothing more of the file is looked at."""

    def __init__(self, flaw: Flaw) -> None:
        super().__init__(flaw.message)
        self.flaw = flaw


class _Composer(CParser, BaseResolver):
    """Nodes whose plain scalars are all text; what they mean is decided here."""

    def __init__(self, text: str) -> None:
        CParser.__init__(self, text)
        BaseResolver.__init__(self)


def compose(text: str, depth: int) -> Iterator[Node]:
    """The root node of each document; raises `yaml.YAMLError` and `Exhausted`.

    The parser composes by recursion in C, which a file nested deeply enough would bring down with
    the whole process. So a file that could be is looked at event by event first.
    """
    if text.count("[") + text.count("{") > _SAFE or _INDENTED.search(text):
        _check_depth(text, depth)
    composer = _Composer(text)
    try:
        while composer.check_node():
            node = composer.get_node()
            if node is not None:
                yield node
    finally:
        composer.dispose()


def _check_depth(text: str, limit: int) -> None:
    """Refuse a file whose values are nested deeper than `limit`."""
    composer = _Composer(text)
    depth = 0
    try:
        while composer.check_event():
            event = composer.get_event()
            depth += isinstance(event, CollectionStartEvent)
            depth -= isinstance(event, CollectionEndEvent)
            if depth > limit:
                node = ScalarNode(_STRING, "", getattr(event, "start_mark", None), None)
                message = f"values are nested deeper than {limit}"
                raise Exhausted(Flaw("too-deep", message, node))
    finally:
        composer.dispose()


class Constructor:
    """Nodes → plain data, with everything wrong with them.

    One serves all documents of a file, because they share the file's bounds.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._nodes = 0
        self._open: set[int] = set()
        self.flaws: list[Flaw] = []

    def construct(self, node: Node, depth: int = 0) -> Any:  # noqa: ANN401  # any JSON value
        """The value of a node; raises `Exhausted`."""
        self._nodes += 1
        if self._nodes > self._limits.nodes:
            message = f"the file has more than {self._limits.nodes:,} values, aliases expanded"
            raise Exhausted(Flaw("too-many-values", message, node))
        if node.tag not in _TAGS:
            shown = node.tag.replace("tag:yaml.org,2002:", "!!")
            self._flaw("unknown-tag", f"the tag `{shown}` is not known here", node, "remove it")
            return None
        if isinstance(node, ScalarNode):
            return self._scalar(node)
        if depth >= self._limits.depth:
            message = f"values are nested deeper than {self._limits.depth}"
            raise Exhausted(Flaw("too-deep", message, node))
        if id(node) in self._open:
            raise Exhausted(Flaw("recursive-alias", "an anchor stands inside itself", node))
        self._open.add(id(node))
        if isinstance(node, MappingNode):
            value: Any = self._mapping(node, depth + 1)
        else:
            value = [self.construct(item, depth + 1) for item in node.value]
        self._open.discard(id(node))
        return value

    def _flaw(self, code: str, message: str, node: Node, hint: str | None = None) -> None:
        self.flaws.append(Flaw(code, message, node, hint))

    def _scalar(self, node: ScalarNode) -> Any:  # noqa: ANN401  # any JSON scalar
        text: str = node.value
        if node.style or node.tag == "!":
            if len(text) > self._limits.text:
                message = f"the text has {len(text):,} characters; at most {self._limits.text:,}"
                raise Exhausted(Flaw("text-too-long", message, node))
            return text
        if text in _WORDS:
            return _WORDS[text]
        if text[0] in "-+.0123456789":
            return self._number(node, text)
        if len(text) > self._limits.text:
            message = f"the text has {len(text):,} characters; at most {self._limits.text:,}"
            raise Exhausted(Flaw("text-too-long", message, node))
        return text

    def _number(self, node: ScalarNode, text: str) -> int | float | str | None:
        """A plain scalar that may be a number."""
        if _INT.fullmatch(text):
            value = int(text) if len(text) <= _DIGITS + 1 else _LARGEST
        elif _OTHER_INT.fullmatch(text):
            value = int(text[2:], 8 if text[1] == "o" else 16) if len(text) < 40 else _LARGEST  # noqa: PLR2004  # digits
        elif _FLOAT.fullmatch(text):
            number = float(text)
            if abs(number) != float("inf"):
                return number
            value = _LARGEST
        elif _NOT_FINITE.fullmatch(text):
            message = f"`{text}` is not a number that JSON knows"
            self._flaw("bad-number", message, node, "quote it if it is text")
            return None
        else:
            return text
        if not -_LARGEST <= value < _LARGEST:
            shown = text if len(text) <= _DIGITS + 5 else f"{text[:_DIGITS]}…"
            message = f"`{shown}` is larger than 64 bits"
            self._flaw("bad-number", message, node, "quote it if it is text")
            return None
        return value

    def _mapping(self, node: MappingNode, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        merged: list[Any] = []
        for key_node, value_node in node.value:
            if not isinstance(key_node, ScalarNode):
                self._flaw("bad-key", "a name must be text", key_node)
                continue
            key = key_node.value
            self._nodes += 1
            if key == "<<" and not key_node.style:
                merged.append((self.construct(value_node, depth), value_node))
                continue
            if key in found:
                message = f"`{key}` is there twice"
                self._flaw("duplicate-key", message, key_node, "remove one of them")
                continue
            found[key] = self.construct(value_node, depth)
        for value, value_node in merged:
            for each in value if isinstance(value, list) else [value]:
                if not isinstance(each, dict):
                    message = "`<<` merges a set of names with values, or a list of them"
                    self._flaw("bad-merge", message, value_node)
                    continue
                found = each | found
        return found


def node_at(root: Node, path: Path, *, at_key: bool = False) -> Node:
    """The node that stands at a path, or the nearest one around it."""
    node = root
    for position, step in enumerate(path):
        last = position == len(path) - 1
        if isinstance(node, MappingNode):
            entry = _entry(node, str(step))
            if entry is None:
                return node
            node = entry[0] if at_key and last else entry[1]
        elif isinstance(node, SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
        else:
            return node
    return node


def _entry(node: MappingNode, key: str) -> tuple[Node, Node] | None:
    """The key's entry, its own or one merged in."""
    merges: list[Node] = []
    for key_node, value_node in node.value:
        if isinstance(key_node, ScalarNode):
            if key_node.value == key:
                return key_node, value_node
            if key_node.value == "<<":
                merges.append(value_node)
    for merge in merges:
        for each in merge.value if isinstance(merge, SequenceNode) else [merge]:
            if isinstance(each, MappingNode):
                found = _entry(each, key)
                if found is not None:
                    return found
    return None
