"""What a snapshot says: files as they were examined, and the workflows that may be applied."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from pydantic_core import to_json

from controller.core.content import action_signature, content_of
from controller.core.definition import Action, Schedule, ScheduledTrigger, Workflow
from controller.core.drift import Terms, fingerprint, policy_of
from controller.core.plan import Plan, Signature, digest_of
from controller.core.timetable import compile_timetable
from controller.source.library import ExaminedFile, Json, Name
from controller.source.parse import Diagnostic, Document
from controller.source.snapshot import Found


@dataclass(frozen=True, slots=True)
class CompiledWorkflow:
    """A workflow that may be applied.

    Attributes:
        actions: Names it calls.
        subflows: Names it starts.
    """

    definition: Workflow
    document: Json
    content: Json
    digest: str
    path: str
    actions: tuple[str, ...] = ()
    subflows: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        document: Document,
        path: str,
        plan: Plan,
        actions: Mapping[str, Json],
        faces: Mapping[str, Json],
    ) -> Self:
        """A document that defines a workflow, with what its plan uses of others."""
        workflow = document.definition
        assert isinstance(workflow, Workflow)  # ruff: ignore[assert]  # the caller compiled it
        content = content_of(document.data, actions, faces)
        return cls(
            workflow,
            document.data,
            content,
            digest_of(content),
            path,
            plan.actions,
            plan.subflows,
        )

    def uses(self) -> Iterator[Name]:
        """What it calls and starts."""
        yield from (("action", name) for name in self.actions)
        yield from (("workflow", name) for name in self.subflows)


@dataclass(frozen=True, slots=True)
class ReadyWorkflow:
    """A workflow that was compiled ahead; `rows` are what is written of it."""

    name: str
    status: str
    digest: str
    path: str
    rows: Any


@dataclass(frozen=True, slots=True)
class ReadyFile:
    """A file that was examined ahead, by itself.

    Nothing is wrong with it, and it defines only workflows that use nothing but built-in actions:
    so it means the same whatever stands beside it, unless somebody else defines its names as well.
    `row` is what is written of the file.
    """

    examined: ExaminedFile
    workflows: tuple[ReadyWorkflow, ...]
    row: Any


@dataclass(slots=True)
class Revision:
    """What one snapshot says.

    Attributes:
        files: Those that were looked at now; the others are as known.
        removed: Paths that are gone.
        workflows: Those compiled now, by name.
        ready: Those that were compiled ahead, by name.
        rows: What is written of files that were examined ahead, by path.
        invalid: Names whose file is invalid: name → path.
        touched: Names of workflows that these files define, or defined before.
        before: What the library had of these paths.
    """

    files: dict[str, ExaminedFile] = field(default_factory=dict)
    removed: tuple[str, ...] = ()
    workflows: dict[str, CompiledWorkflow] = field(default_factory=dict)
    ready: dict[str, ReadyWorkflow] = field(default_factory=dict)
    rows: dict[str, Any] = field(default_factory=dict)
    invalid: dict[str, str] = field(default_factory=dict)
    touched: set[str] = field(default_factory=set)
    before: dict[str, ExaminedFile | None] = field(default_factory=dict)


@dataclass(slots=True)
class OpenFile:
    """A file while it is examined.

    Attributes:
        read: What is wrong with the file by itself.
        compiled: What is wrong with it among the others; found anew each time it is compiled.
        flows: The workflows compiled of it, by the place of their document.
    """

    found: Found
    documents: list[Document] = field(default_factory=list)
    read: list[Diagnostic] = field(default_factory=list)
    compiled: list[Diagnostic] = field(default_factory=list)
    flows: dict[int, CompiledWorkflow] = field(default_factory=dict)

    @property
    def problems(self) -> list[Diagnostic]:
        """Everything wrong with it, in its order."""
        return sorted(self.read + self.compiled, key=lambda one: (one.line, one.column))

    @property
    def broken(self) -> bool:
        """Whether anything wrong with it is an error."""
        return any(problem.severity == "error" for problem in (*self.read, *self.compiled))

    @property
    def defined(self) -> list[Document]:
        """The documents that define something."""
        return [each for each in self.documents if each.definition is not None]

    def names(self) -> set[Name]:
        """What it defines."""
        return {name_of(each) for each in self.defined}

    def document(self, name: Name) -> Json | None:
        """Its own document of this name."""
        for each in self.defined:
            if name_of(each) == name:
                data: Json = each.data
                return data
        return None

    def signatures(self, kind: str) -> dict[str, Signature]:
        """What its own definitions look like to a caller."""
        definitions = [each.definition for each in self.defined]
        if kind == "action":
            return {
                each.name: action_signature(each)
                for each in definitions
                if isinstance(each, Action)
            }
        return {
            each.name: Signature(each.name, each.inputs, each.outputs, recorded=True)
            for each in definitions
            if isinstance(each, Workflow)
        }

    def examined(
        self, before: ExaminedFile | None, moved: Mapping[Name, Json] | None = None
    ) -> ExaminedFile:
        """The file as it is known from now on.

        Broken, it keeps what it defined before, and takes over what it would define and another
        file defined before: a definition that moves and breaks at once is not gone.
        """
        found = self.found
        problems = tuple(each.as_json() for each in self.problems)
        if self.broken:
            kept = before.definitions if before is not None else ()
            known = {(each["kind"], each["name"]) for each in kept}
            come = sorted((self.names() - known) & (moved or {}).keys())
            kept = (*kept, *((moved or {})[name] for name in come))
            return ExaminedFile(found.path, found.stat, found.digest, "invalid", problems, kept)
        definitions = tuple(
            _record(each, self.flows.get(index))
            for index, each in enumerate(self.documents)
            if each.definition is not None
        )
        return ExaminedFile(found.path, found.stat, found.digest, "valid", problems, definitions)


def name_of(document: Document) -> Name:
    """The kind and the name of a document that defines something."""
    definition = document.definition
    assert definition is not None  # ruff: ignore[assert]  # the callers ask for documents that define
    return definition.kind, definition.name


def workflows_of(file: ExaminedFile | None) -> set[str]:
    """The names of the workflows that a file defines in force."""
    if file is None:
        return set()
    return {each["name"] for each in file.definitions if each["kind"] == "workflow"}


def face_in(document: Mapping[str, Any]) -> Json:
    """Declared inputs and outputs, as the document has them."""
    return {"inputs": document.get("inputs") or [], "outputs": document.get("outputs") or []}


def _record(document: Document, compiled: CompiledWorkflow | None) -> Json:
    kind, name = name_of(document)
    if kind == "action":
        return {"kind": kind, "name": name, "document": document.data}
    workflow = document.definition
    assert isinstance(workflow, Workflow)  # ruff: ignore[assert]  # there are two kinds
    bare = {"kind": kind, "name": name, "version": workflow.version, "face": face_in(document.data)}
    if compiled is None:
        return bare
    return bare | {
        "digest": compiled.digest,
        "status": workflow.status,
        "actions": list(compiled.actions),
        "subflows": list(compiled.subflows),
        "schedules": _schedules(workflow),
    }


def _schedules(workflow: Workflow) -> str:
    """What its schedules are known by; of two triggers with the same text the first counts."""
    found: dict[tuple[object, ...], Terms] = {}
    for each in workflow.triggers if workflow.status == "active" else ():
        if isinstance(each, ScheduledTrigger):
            config = each.config
            timing = config.cron, _moment(config, workflow.name), config.timezone
            inputs, policy = to_json(config.inputs).decode(), to_json(policy_of(config)).decode()
            found.setdefault((*timing, inputs), (*timing, inputs, policy))
    return fingerprint(found.values())


def _moment(config: Schedule, workflow: str) -> int | None:
    """When it fires, if it does once."""
    if config.at is None:
        return None
    timetable, _ = compile_timetable(config, workflow=workflow, now=0)
    return timetable.once if timetable is not None else None
