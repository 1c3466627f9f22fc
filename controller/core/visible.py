"""Which names an expression may use at one place, and which step would have to come before it.

A step sees the inputs, the loop variables around it, and the outputs of the steps that are certain
to come before it: those it depends on, in its own list and in the lists around it.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from controller.core.cel import Type
from controller.core.definition import Step
from controller.core.expression import ALWAYS_THERE, Scope
from controller.core.graph import Graph
from controller.core.plan import Signature
from controller.core.problem import Path, Problem

Signatures = Callable[[Step], Signature | None]


def produced(step: Step, signature: Signatures) -> dict[str, Type]:
    """The variables a step makes for those after it, with what is known of their types."""
    if step.type in {"condition", "parallel"}:
        return {
            name: kind
            for inner in step.children()
            for name, kind in produced(inner, signature).items()
        }
    if step.type == "loop":
        return dict.fromkeys(step.outputs, "array")
    called = signature(step)
    declared: dict[str, Type] = (
        {output.name: output.type or "any" for output in called.outputs} if called else {}
    )
    if step.outputs:
        whole: Type = "object" if called and len(step.outputs) == 1 and declared else "any"
        return {name: declared.get(name, whole) for name in step.outputs}
    if called is not None and called.open_inputs:
        declared |= dict.fromkeys(step.inputs, "any")
    return declared


def _inside(step: Step) -> Iterator[str]:
    """The ids that `steps.<id>` may name after this step: its own and, loops apart, those in it."""
    yield step.id
    if step.type in {"condition", "parallel"}:
        for inner in step.children():
            yield from _inside(inner)


@dataclass(frozen=True, slots=True)
class _List:
    """The names that one list of steps makes, and by which of its steps (a bit set)."""

    steps: tuple[Step, ...]
    graph: Graph
    makers: Mapping[str, int]
    types: Mapping[str, Type]
    ids: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Visible:
    """What can be seen from one place; immutable, one link a level.

    Attributes:
        names: Variables this level adds by itself: inputs at the top, a loop's item and index.
        before: The steps of `siblings` that come before this place, as a bit set.
    """

    names: Mapping[str, Type]
    outer: "Visible | None"
    siblings: _List | None = None
    before: int = 0
    error: bool = False
    _scopes: list[Scope] = field(default_factory=list, compare=False)

    def inside(self, steps: tuple[Step, ...], graph: Graph, signature: Signatures) -> "Visible":
        """The level of a list of steps, before its first step."""
        makers: dict[str, int] = {}
        types: dict[str, Type] = {}
        ids: dict[str, int] = {}
        for position, step in enumerate(steps):
            for name, kind in produced(step, signature).items():
                types[name] = kind if types.get(name, kind) == kind else "any"
                makers[name] = makers.get(name, 0) | (1 << position)
            for step_id in _inside(step):
                ids[step_id] = position
        return Visible({}, self, _List(steps, graph, makers, types, ids), error=self.error)

    def at(self, position: int) -> "Visible":
        """The place of one step of the list."""
        siblings = self.siblings
        return self._moved(siblings.graph.ancestors[position] if siblings else 0)

    def after(self) -> "Visible":
        """The place after all steps of the list."""
        siblings = self.siblings
        return self._moved((1 << len(siblings.steps)) - 1 if siblings else 0)

    def _moved(self, before: int) -> "Visible":
        """Another place of the same level: it has the same scope."""
        return Visible(self.names, self.outer, self.siblings, before, self.error, self._scopes)

    def loop(self, item: str, *, counted: bool) -> "Visible":
        """The place inside a loop."""
        names: dict[str, Type] = {f"{item}_index": "integer"}
        if counted:
            names[item] = "any"
        return Visible(names, self, error=self.error)

    def with_error(self) -> "Visible":
        """The place of the error handler."""
        return Visible(self.names, self.outer, self.siblings, self.before, error=True)

    def scope(self) -> Scope:
        """For the expression compiler; names that come too late are in it, see `missing`."""
        if not self._scopes:
            self._scopes.append(self._scope())
        return self._scopes[0]

    def _scope(self) -> Scope:
        levels: list[Mapping[str, Type]] = []
        level: Visible | None = self
        inputs: Mapping[str, Type] = {}
        while level is not None:
            levels.append(level.names)
            if level.siblings is not None:
                levels.append(level.siblings.types)
            inputs = level.names
            level = level.outer
        roots: dict[str, Type] = dict(ALWAYS_THERE)
        if not self.error:
            roots.pop("error", None)
        return Scope(names=_Chain([roots, *levels]), members={"inputs": inputs})

    def missing(self, reference: tuple[str, ...], path: Path) -> Problem | None:
        """The problem with a name that no step before this place produces, if there is one."""
        root = reference[0]
        if root == "steps":
            return self._missing_step(reference[1], path) if len(reference) > 1 else None
        late: str | None = None
        level: Visible | None = self
        while level is not None:
            siblings = level.siblings
            if root in level.names:
                return None
            if siblings is not None and root in siblings.makers:
                if siblings.makers[root] & level.before:
                    return None
                maker = siblings.makers[root]
                late = late or siblings.steps[(maker & -maker).bit_length() - 1].id
            level = level.outer
        return _too_late(f"`{root}`", late, path) if late is not None else None

    def _missing_step(self, step_id: str, path: Path) -> Problem | None:
        level: Visible | None = self
        late: str | None = None
        while level is not None:
            siblings = level.siblings
            if siblings is not None and step_id in siblings.ids:
                position = siblings.ids[step_id]
                if level.before >> position & 1:
                    return None
                late = siblings.steps[position].id
            level = level.outer
        if late is not None:
            return _too_late(f"`steps.{step_id}`", late, path)
        message = f"no step `{step_id}` can be seen from here"
        hint = "steps inside a loop are seen only inside it; use the loop's `outputs`"
        return Problem("unknown-step", message, path, hint)


def _too_late(what: str, step: str, path: Path) -> Problem:
    message = f"{what} comes from step `{step}`, which need not come before this step"
    return Problem("missing-depends-on", message, path, f"add `depends_on: [{step}]`")


class _Chain(Mapping[str, Type]):
    """Levels of names, nearest first, without copying them for every step."""

    __slots__ = ("_levels",)

    def __init__(self, levels: list[Mapping[str, Type]]) -> None:
        self._levels = levels

    def __getitem__(self, name: str) -> Type:
        for level in self._levels:
            if name in level:
                return level[name]
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter({name: None for level in self._levels for name in level})

    def __len__(self) -> int:
        return sum(1 for _ in self)
