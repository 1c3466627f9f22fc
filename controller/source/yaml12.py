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
from yaml.events import CollectionEndEvent, CollectionStartEvent, NodeEvent
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from controller.core.problem import Path
from controller.source.limits import Limits

_INT = re.compile(r"[-+]?[0-9]+")
_OTHER_INT = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_WORDS: dict[str, Any] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True,
    "false": False, "False": False, "FALSE": False,
}  # fmt: skip
_UNTAGGED = ""
_TAGS: dict[str, type[Node]] = {
    "tag:yaml.org,2002:str": ScalarNode,
    "tag:yaml.org,2002:map": MappingNode,
    "tag:yaml.org,2002:seq": SequenceNode,
}
"""Tags that change nothing, or make text of a scalar."""
_SAFE = 500
"""Levels that the C parser's recursion certainly bears."""
_INDENTED = re.compile(r"^[ \t?:-]{500}", re.MULTILINE)
_LARGEST = 2**63
_DIGITS = 19
_LONGEST_KEY = 1_024


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


class _Composer(CParser):
    """Nodes; what a plain scalar means is decided by `Constructor`."""

    def resolve(self, _kind: type[Node], _value: object, _implicit: object) -> str:
        """The tag of a node that has none."""
        return _UNTAGGED

    def descend_resolver(self, _parent: object, _index: object) -> None:
        """Tags do not depend on the place."""

    def ascend_resolver(self) -> None:
        """Tags do not depend on the place."""


def compose(text: str, limits: Limits) -> Iterator[Node]:
    """The root node of each document; raises `yaml.YAMLError` and `Exhausted`.

    The parser composes by recursion in C, which a file nested deeply enough would bring down with
    the whole process, and makes all nodes before one can be counted. So a file that could be too
    deep or too full is looked at event by event first.
    """
    brackets = text.count("[") + text.count("{")
    if brackets > _SAFE or len(text) > limits.nodes or _INDENTED.search(text):
        _look_ahead(text, limits)
    composer = _Composer(text)
    try:
        while composer.check_node():
            node = composer.get_node()
            if node is not None:
                yield node
    finally:
        composer.dispose()


def _look_ahead(text: str, limits: Limits) -> None:
    """Refuse a file that is nested too deeply, or has too many values even without aliases."""
    composer = _Composer(text)
    depth = values = 0
    try:
        while composer.check_event():
            event = composer.get_event()
            depth += isinstance(event, CollectionStartEvent)
            depth -= isinstance(event, CollectionEndEvent)
            values += isinstance(event, NodeEvent)
            if depth > limits.depth or values > limits.nodes:
                node = ScalarNode(_UNTAGGED, "", getattr(event, "start_mark", None), None)
                flaw = _deep if depth > limits.depth else _full
                raise Exhausted(flaw(limits, node))
    finally:
        composer.dispose()


def _deep(limits: Limits, node: Node) -> Flaw:
    return Flaw("too-deep", f"values are nested deeper than {limits.depth}", node)


def _full(limits: Limits, node: Node) -> Flaw:
    message = f"the file has more than {limits.nodes:,} values, aliases expanded"
    return Flaw("too-many-values", message, node)


class Constructor:
    """Nodes → plain data, with everything wrong with them.

    One serves all documents of a file, because they share the file's bounds.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._most = limits.nodes
        self._longest = limits.text
        self._nodes = 0
        self._open: set[int] = set()
        self.flaws: list[Flaw] = []

    def construct(self, node: Node, depth: int = 0) -> Any:  # ruff: ignore[any-type]  # any JSON value
        """The value of a node; raises `Exhausted`."""
        self._nodes += 1
        if self._nodes > self._most:
            raise Exhausted(_full(self._limits, node))
        if node.tag and not self._may_be_tagged(node):
            return None
        if isinstance(node, ScalarNode):
            return self._scalar(node)
        if depth >= self._limits.depth:
            raise Exhausted(_deep(self._limits, node))
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

    def _may_be_tagged(self, node: Node) -> bool:
        """Whether its tag is one of plain data; else a flaw."""
        kind = _TAGS.get(node.tag)
        if kind is not None and isinstance(node, kind):
            return True
        shown = str(node.tag).replace("tag:yaml.org,2002:", "!!")[:60]
        self._flaw("unknown-tag", f"the tag `{shown}` is not known here", node, "remove it")
        return False

    def _scalar(self, node: ScalarNode) -> Any:  # ruff: ignore[any-type]  # any JSON scalar
        text: str = node.value
        if len(text) > self._longest:
            message = f"the text has {len(text):,} characters; at most {self._longest:,}"
            raise Exhausted(Flaw("text-too-long", message, node))
        if node.style or node.tag:
            if "\0" in text:
                message = "a NUL character cannot stand in a definition"
                self._flaw("control-character", message, node, "remove the `\\0`")
            return text
        if text in _WORDS:
            return _WORDS[text]
        if text[0] in "-+.0123456789":
            return self._number(node, text)
        return text

    def _number(self, node: ScalarNode, text: str) -> int | float | str | None:
        """A plain scalar that may be a number."""
        if _INT.fullmatch(text):
            value = int(text) if len(text) <= _DIGITS + 1 else _LARGEST
        elif _OTHER_INT.fullmatch(text):
            value = int(text[2:], 8 if text[1] == "o" else 16) if len(text) < 40 else _LARGEST  # ruff: ignore[magic-value-comparison]  # digits
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
            key = self._key(key_node)
            if key is None:
                continue
            value = self.construct(value_node, depth)
            if key == "<<" and not key_node.style:
                merged.append((value, value_node))
            elif key in found:
                message = f"`{key[:60]}` is there twice"
                self._flaw("duplicate-key", message, key_node, "remove one of them")
            else:
                found[key] = value
        for value, value_node in merged:
            found = self._merge(value, value_node) | found
        return found

    def _merge(self, value: Any, node: Node) -> dict[str, Any]:  # ruff: ignore[any-type]  # any JSON value
        """What `<<` adds: a mapping, or a list of them, of which the first counts."""
        found: dict[str, Any] = {}
        for each in value if isinstance(value, list) else [value]:
            if not isinstance(each, dict):
                self._flaw("bad-merge", "`<<` merges a mapping, or a list of them", node)
                return {}
            found = each | found
        return found

    def _key(self, node: Node) -> str | None:
        """The name that a node says, or None: it says none."""
        self._nodes += 1
        if not isinstance(node, ScalarNode):
            self._flaw("bad-key", "a name must be text", node, "quote it if it is text")
            return None
        if node.tag and not self._may_be_tagged(node):
            return None
        key: str = node.value
        if len(key) > _LONGEST_KEY or "\0" in key:
            self._flaw("bad-key", f"a name has at most {_LONGEST_KEY} characters, no NUL", node)
            return None
        return key


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
    for mapping in _mappings(merges):
        found = _entry(mapping, key)
        if found is not None:
            return found
    return None


def _mappings(merges: list[Node]) -> Iterator[MappingNode]:
    """What `<<` merges: each value is a mapping or a list of them."""
    for merge in merges:
        for each in merge.value if isinstance(merge, SequenceNode) else [merge]:
            if isinstance(each, MappingNode):
                yield each
