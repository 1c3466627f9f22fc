"""A snapshot made into definitions: parsed, compiled against each other, problems and all.

Only what changed is read, and what a change reaches: a workflow is compiled again when an action
it calls or a workflow it starts has changed, and whatever was invalid is looked at again, because
the missing piece may have come. A file with a problem keeps the definitions of its last good
version, so what it said before goes on (LANGUAGE, "Files").
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from controller.core.compile import check_action, check_triggers, compile_plan
from controller.core.content import action_signature, content_of, face_of, face_signature
from controller.core.definition import Action, Workflow
from controller.core.graph import way_back
from controller.core.plan import Policy, Signature, digest_of
from controller.core.problem import Problem
from controller.source.directory import Found, Stat
from controller.source.parse import Diagnostic, Document, Limits, parse

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ExaminedFile:
    """A file and what it defines; what a later revision must know of it without reading it.

    Attributes:
        status: `valid` or `invalid`.
        problems: Diagnostics as JSON, warnings too.
        definitions: Of an action: {kind, name, document}. Of a workflow: {kind, name, digest,
            status, actions, subflows, face}. Of an invalid file: those of its last good version.
    """

    path: str
    stat: Stat
    digest: str
    status: str
    problems: tuple[Json, ...]
    definitions: tuple[Json, ...]


@dataclass(frozen=True, slots=True)
class CompiledWorkflow:
    """A workflow that may be applied."""

    definition: Workflow
    document: Json
    content: Json
    digest: str
    path: str


@dataclass(slots=True)
class Revision:
    """What one snapshot says.

    Attributes:
        files: Those that were looked at now; the others are as known.
        removed: Paths that are gone.
        workflows: Those compiled now, by name.
        standing: Of files not looked at now: name → (path, digest, status).
        invalid: Names whose file is invalid: name → path.
    """

    files: dict[str, ExaminedFile] = field(default_factory=dict)
    removed: tuple[str, ...] = ()
    workflows: dict[str, CompiledWorkflow] = field(default_factory=dict)
    standing: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    invalid: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Open:
    """A file being examined."""

    found: Found
    documents: list[Document] = field(default_factory=list)
    problems: list[Diagnostic] = field(default_factory=list)

    @property
    def broken(self) -> bool:
        return any(problem.severity == "error" for problem in self.problems)

    def report(self, document: Document, problems: Iterable[Problem]) -> None:
        self.problems.extend(document.locate(problem) for problem in problems)


class Examiner:
    """Turns snapshots into revisions.

    Args:
        built_in: Signatures of built-in actions.
        elsewhere: Signatures of workflows that other origins own, for subflows.
        actions: Documents of actions defined elsewhere that may be called.
        read: Content of a file that did not change, by path; None: it is gone.
        now: Epoch milliseconds; what "never fires" is measured from.
        whole: These are all the files there are, so an action nobody calls here is called nowhere.
    """

    def __init__(  # ruff: ignore[too-many-arguments]  # all it goes by, by keyword
        self,
        *,
        built_in: Mapping[str, Signature],
        elsewhere: Mapping[str, Signature],
        actions: Mapping[str, Json] | None = None,
        policy: Policy,
        limits: Limits,
        read: Callable[[str], bytes | None],
        now: int,
        whole: bool = False,
    ) -> None:
        self._whole = whole
        self._built_in = built_in
        self._elsewhere = elsewhere
        self._defined_elsewhere = actions or {}
        self._policy = policy
        self._limits = limits
        self._read = read
        self._now = now
        self._open: dict[str, _Open] = {}
        self._calm: dict[str, ExaminedFile] = {}

    def examine(self, found: Iterable[Found], known: Mapping[str, ExaminedFile]) -> Revision:
        """The revision of a snapshot, given what the last one left."""
        seen = {each.path: each for each in found}
        removed = tuple(sorted(known.keys() - seen.keys()))
        changed = [each for each in seen.values() if _differs(each, known.get(each.path))]
        self._calm = {path: each for path, each in known.items() if path in seen}
        for each in changed:
            self._look_at(each)
        if changed or removed:
            self._reach(seen, known, removed)
        self._names()
        self._compile()
        return self._revision(removed, known)

    # -- what to look at --------------------------------------------------------------------

    def _look_at(self, found: Found) -> None:
        """Parse a file."""
        opened = _Open(found)
        self._open[found.path] = opened
        self._calm.pop(found.path, None)
        if found.refusal is not None or found.content is None:
            message = f"the file {found.refusal or 'is gone'}"
            opened.problems.append(Diagnostic.of_file(found.path, "unreadable-file", message))
            return
        parsed = parse(found.path, found.content, self._limits)
        opened.documents = parsed.documents
        opened.problems.extend(parsed.problems)

    def _reach(
        self, seen: Mapping[str, Found], known: Mapping[str, ExaminedFile], removed: Iterable[str]
    ) -> None:
        """Look again at what the changes reach: dependents, namesakes, and all that is invalid."""
        touched: set[tuple[str, str]] = set()
        for path in (*removed, *self._open):
            if path in known:
                touched |= {(each["kind"], each["name"]) for each in known[path].definitions}
        for opened in self._open.values():
            touched |= {_name(each) for each in opened.documents if each.definition is not None}
        for path, file in list(self._calm.items()):
            if file.problems or any(_reached(each, touched) for each in file.definitions):
                content = self._read(path)
                if content is not None:
                    self._look_at(Found(path, seen[path].stat, seen[path].digest, content))

    def _names(self) -> None:
        """Two definitions of one name: both files are invalid."""
        places = self._places()
        for path, opened in self._open.items():
            for document in _defined(opened.documents):
                kind, name = _name(document)
                others = list(places[kind, name])
                others.remove(path)
                if others:
                    message = f"the {kind} `{name}` is also defined in {others[0]}"
                    hint = "rename one of them; until then neither file is applied"
                    opened.report(document, [Problem("duplicate-name", message, ("name",), hint)])
                elif kind == "action" and name in self._built_in:
                    message = f"`{name}` is a built-in action"
                    opened.report(document, [Problem("duplicate-name", message, ("name",))])

    def _places(self) -> Mapping[tuple[str, str], list[str]]:
        """The files that define each (kind, name)."""
        places: dict[tuple[str, str], list[str]] = defaultdict(list)
        for path, file in self._calm.items():
            for each in file.definitions:
                places[each["kind"], each["name"]].append(path)
        for path, opened in self._open.items():
            for document in _defined(opened.documents):
                places[_name(document)].append(path)
        return places

    # -- compiling --------------------------------------------------------------------------

    def _compile(self) -> None:
        """Compile what is open against everything that is good."""
        actions, documents = self._actions()
        for opened in self._open.values():
            for document in opened.documents:
                if isinstance(document.definition, Action):
                    problems = check_action(document.definition, self._built_in)
                    opened.report(document, problems)
        faces = self._faces()
        self._compiled: dict[int, CompiledWorkflow] = {}
        self._calls: dict[int, tuple[tuple[str, ...], tuple[str, ...]]] = {}
        signatures = dict(self._elsewhere)
        signatures |= {name: face_signature(name, face) for name, face in faces.items()}
        for opened in self._open.values():
            for document in opened.documents:
                if isinstance(document.definition, Workflow):
                    self._workflow(opened, document, actions, documents, (signatures, faces))
        self._refuse_cycles()
        if self._whole:
            self._warn_of_unused()

    def _workflow(
        self,
        opened: _Open,
        document: Document,
        actions: Mapping[str, Signature],
        documents: Mapping[str, Json],
        flows: tuple[Mapping[str, Signature], Mapping[str, Json]],
    ) -> None:
        workflow = document.definition
        assert isinstance(workflow, Workflow)  # ruff: ignore[assert]  # the caller chose by it
        signatures, faces = flows
        plan, problems = compile_plan(workflow, actions, signatures, self._policy, "")
        opened.report(document, problems)
        opened.report(document, check_triggers(workflow, self._now))
        used = {name: documents[name] for name in plan.actions if name in documents}
        started = {name: faces.get(name) or face_of(signatures[name]) for name in plan.subflows}
        content = content_of(document.data, used, started)
        self._calls[id(document)] = (plan.actions, plan.subflows)
        self._compiled[id(document)] = CompiledWorkflow(
            workflow, document.data, content, digest_of(content), opened.found.path
        )

    def _actions(self) -> tuple[dict[str, Signature], dict[str, Json]]:
        """Signatures and documents of every action that may be called."""
        documents: dict[str, Json] = dict(self._defined_elsewhere)
        signatures = dict(self._built_in)
        for known in documents.values():
            elsewhere = Action.model_validate(known)
            signatures[elsewhere.name] = action_signature(elsewhere)
        for file in self._calm.values():
            for each in file.definitions:
                if each["kind"] == "action":
                    action = Action.model_validate(each["document"])
                    signatures[action.name] = action_signature(action)
                    documents[action.name] = each["document"]
        for opened in self._open.values():
            for document in opened.documents:
                if isinstance(document.definition, Action):
                    signatures[document.definition.name] = action_signature(document.definition)
                    documents[document.definition.name] = document.data
        return signatures, documents

    def _faces(self) -> dict[str, Json]:
        """Declared inputs and outputs of every workflow of this source."""
        faces: dict[str, Json] = {}
        for file in self._calm.values():
            for each in file.definitions:
                if each["kind"] == "workflow":
                    faces[each["name"]] = each["face"]
        for opened in self._open.values():
            for document in opened.documents:
                if isinstance(document.definition, Workflow):
                    faces[document.definition.name] = _document_face(document.data)
        return faces

    def _warn_of_unused(self) -> None:
        """Defined actions that no workflow calls."""
        called = {name for actions, _ in self._calls.values() for name in actions}
        for file in self._calm.values():
            for each in file.definitions:
                called.update(each.get("actions", ()))
        for opened in self._open.values():
            for document in opened.documents:
                action = document.definition
                if isinstance(action, Action) and action.name not in called:
                    message = f"no workflow calls the action `{action.name}`"
                    warning = Problem("unused-action", message, ("name",), severity="warning")
                    opened.report(document, [warning])

    def _refuse_cycles(self) -> None:
        """A workflow that starts itself, however indirectly, is invalid."""
        edges: dict[str, tuple[str, ...]] = {
            each["name"]: tuple(each["subflows"])
            for file in self._calm.values()
            for each in file.definitions
            if each["kind"] == "workflow"
        }
        owners: dict[str, tuple[_Open, Document]] = {}
        for opened in self._open.values():
            for document in opened.documents:
                if id(document) in self._calls and document.definition is not None:
                    name = document.definition.name
                    edges[name] = self._calls[id(document)][1]
                    owners[name] = (opened, document)
        for name, (opened, document) in owners.items():
            way = way_back(name, edges)
            if way:
                message = f"these workflows start each other: {' → '.join(way)}"
                opened.report(document, [Problem("subflow-cycle", message, ("steps",))])

    # -- the result -------------------------------------------------------------------------

    def _revision(self, removed: tuple[str, ...], known: Mapping[str, ExaminedFile]) -> Revision:
        revision = Revision(removed=removed)
        for path, opened in self._open.items():
            file = self._examined(opened, known.get(path))
            revision.files[path] = file
            if file.status == "invalid":
                names = {each["name"] for each in file.definitions if each["kind"] == "workflow"}
                names |= {
                    name
                    for kind, name in map(_name, _defined(opened.documents))
                    if kind == "workflow"
                }
                revision.invalid |= dict.fromkeys(names, path)
                continue
            for document in opened.documents:
                compiled = self._compiled.get(id(document))
                if compiled is not None:
                    revision.workflows[compiled.definition.name] = compiled
        for path, file in self._calm.items():
            for each in file.definitions:
                if each["kind"] == "workflow":
                    revision.standing[each["name"]] = (path, each["digest"], each["status"])
        return revision

    def _examined(self, opened: _Open, before: ExaminedFile | None) -> ExaminedFile:
        found = opened.found
        problems = tuple(
            each.as_json()
            for each in sorted(opened.problems, key=lambda one: (one.line, one.column))
        )
        if opened.broken:
            kept = before.definitions if before is not None else ()
            return ExaminedFile(found.path, found.stat, found.digest, "invalid", problems, kept)
        definitions = tuple(self._record(each) for each in _defined(opened.documents))
        return ExaminedFile(found.path, found.stat, found.digest, "valid", problems, definitions)

    def _record(self, document: Document) -> Json:
        kind, name = _name(document)
        if kind == "action":
            return {"kind": kind, "name": name, "document": document.data}
        compiled = self._compiled[id(document)]
        actions, subflows = self._calls[id(document)]
        return {
            "kind": kind,
            "name": name,
            "digest": compiled.digest,
            "status": compiled.definition.status,
            "actions": list(actions),
            "subflows": list(subflows),
            "face": _document_face(document.data),
        }


def _defined(documents: Iterable[Document]) -> list[Document]:
    return [each for each in documents if each.definition is not None]


def _name(document: Document) -> tuple[str, str]:
    definition = document.definition
    assert definition is not None  # ruff: ignore[assert]  # the callers ask for documents that define
    return definition.kind, definition.name


def _differs(found: Found, known: ExaminedFile | None) -> bool:
    if known is None:
        return True
    if found.refusal is not None:
        return known.status == "valid" or known.digest != found.digest
    return found.digest != known.digest or found.stat != known.stat


def _reached(definition: Json, touched: set[tuple[str, str]]) -> bool:
    if (definition["kind"], definition["name"]) in touched:
        return True
    if definition["kind"] == "action":
        return False
    calls = {("action", name) for name in definition["actions"]}
    starts = {("workflow", name) for name in definition["subflows"]}
    return not touched.isdisjoint(calls | starts)


def _document_face(document: Json) -> Json:
    return {"inputs": document.get("inputs") or [], "outputs": document.get("outputs") or []}
