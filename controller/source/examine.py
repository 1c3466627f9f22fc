"""A snapshot made into definitions: parsed, compiled against each other, problems and all.

Only what changed is read, and what a change reaches: a workflow is compiled again when an action
it calls or a workflow it starts has changed, and whatever was invalid is looked at again, because
the missing piece may have come. A file with a problem keeps the definitions of its last good
version, for itself and for whoever calls them (LANGUAGE, "Files").
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from controller.core.compile import check_action, check_triggers, compile_plan
from controller.core.content import action_signature, face_of
from controller.core.definition import Action, Workflow
from controller.core.graph import way_back
from controller.core.plan import Signature
from controller.core.policy import Policy
from controller.core.problem import Problem
from controller.source.library import ExaminedFile, Json, Library, Name, Signatures
from controller.source.limits import Limits
from controller.source.parse import Diagnostic, Document, parse
from controller.source.revision import (
    CompiledWorkflow,
    OpenFile,
    ReadyFile,
    Revision,
    face_in,
    name_of,
    workflows_of,
)
from controller.source.snapshot import Found, Refusal, Snapshot

LFS = b"version https://git-lfs.github.com/spec/"
"""How a Git LFS pointer begins, which stands where the file's content should."""


class Examiner:
    """Turns a snapshot into a revision; made for one.

    Args:
        library: What is known; `examine` leaves it as the snapshot has it.
        built_in: Signatures of built-in actions.
        elsewhere: Signatures of workflows that other origins own, for subflows.
        owners: Names that other origins own, and no file here may define: name → owner.
        actions: Documents of actions defined elsewhere that may be called.
        read: Contents of files that did not change, by path; what is gone is left out.
        now: Epoch milliseconds; what "never fires" is measured from.
        ready: Files that were examined ahead, by path.
        whole: These are all the files there are, so an action nobody calls here is called nowhere.
    """

    def __init__(  # ruff: ignore[too-many-arguments]  # all it goes by, by keyword
        self,
        *,
        library: Library,
        built_in: Mapping[str, Signature],
        elsewhere: Mapping[str, Signature],
        owners: Mapping[str, str] | None = None,
        actions: Mapping[str, Json] | None = None,
        policy: Policy,
        limits: Limits,
        read: Callable[[Sequence[str]], Mapping[str, bytes]],
        now: int,
        ready: Mapping[str, ReadyFile] | None = None,
        whole: bool = False,
    ) -> None:
        self._library = library
        self._built_in = built_in
        self._foreign = dict(actions or {})
        self._policy = policy
        self._limits = limits
        self._read = read
        self._now = now
        self._ready = dict(ready or {})
        self._whole = whole
        self._open: dict[str, OpenFile] = {}
        self._before: dict[str, ExaminedFile | None] = {}
        self._moved: Mapping[Name, Json] = {}
        foreign = [Action.model_validate(each) for each in self._foreign.values()]
        self._actions = {**built_in, **{each.name: action_signature(each) for each in foreign}}
        self._workflows = elsewhere
        self._owners = {("workflow", name): owner for name, owner in (owners or {}).items()}

    def examine(self, snapshot: Snapshot) -> Revision:
        """The revision of a snapshot."""
        for path in snapshot.removed:
            self._take_out(path)
        for each in snapshot.changed:
            if each.path in self._ready:
                self._take_out(each.path)
                self._library.put(self._ready[each.path].examined)
            else:
                self._look_at(each)
        self._refuse_ready(snapshot.changed)
        if snapshot.differs:
            self._reach()
        self._moved = self._find_moved()
        self._refuse_namesakes()
        self._check_actions()
        self._settle()
        if self._whole:
            self._warn_of_unused()
        return self._revision(snapshot.removed)

    # -- what to look at --------------------------------------------------------------------

    def _take_out(self, path: str) -> None:
        self._before[path] = self._library.files.get(path)
        self._library.drop(path)

    def _look_at(self, found: Found) -> None:
        """Parse a file."""
        self._take_out(found.path)
        self._open[found.path] = opened = OpenFile(found)
        if found.refusal is not None or found.content is None:
            what, code, hint = found.refusal or Refusal("is gone")
            opened.read.append(Diagnostic.of_file(found.path, code, f"the file {what}", hint))
        elif found.content.startswith(LFS):
            message = "the file is a Git LFS pointer: what it stands for is not in the repository"
            hint = "keep definitions out of LFS: `git lfs untrack`, then add the file again"
            opened.read.append(Diagnostic.of_file(found.path, "lfs-pointer", message, hint))
        else:
            parsed = parse(found.path, found.content, self._limits)
            opened.documents = parsed.documents
            opened.read.extend(parsed.problems)

    def _refuse_ready(self, changed: Iterable[Found]) -> None:
        """A file examined ahead whose names others define too is examined like any other."""
        opened = {name for each in self._open.values() for name in each.names()}
        opened |= self._owners.keys()
        for found in changed if self._ready else ():
            ready = self._ready.get(found.path)
            names = [("workflow", each.name) for each in ready.workflows] if ready else []
            if any(each in opened or len(self._library.definers(each)) > 1 for each in names):
                del self._ready[found.path]
                before = self._before[found.path]
                self._look_at(found)
                self._before[found.path] = before
                opened.update(names)

    def _reach(self) -> None:
        """Look again at what the changes reach: dependents, namesakes, and all with a problem."""
        names: set[Name] = set()
        for before in self._before.values():
            if before is not None:
                names |= {(each["kind"], each["name"]) for each in before.definitions}
        for opened in self._open.values():
            names |= opened.names()
        paths = set(self._library.troubled)
        for name in names:
            paths |= self._library.definers(name).keys() | self._library.users(name)
        paths -= self._ready.keys()
        contents = self._read(sorted(paths)) if paths else {}
        for path, content in contents.items():
            known = self._library.files[path]
            self._look_at(Found(path, known.stat, known.digest, content))

    def _find_moved(self) -> Mapping[Name, Json]:
        """What a file defined before that it does not even name any more."""
        moved: dict[Name, Json] = {}
        for path, before in self._before.items():
            if before is not None:
                opened = self._open.get(path)
                there = opened.names() if opened is not None else self._library.names_in(path)
                known = {(each["kind"], each["name"]): each for each in before.definitions}
                moved |= {name: each for name, each in known.items() if name not in there}
        return moved

    def _refuse_namesakes(self) -> None:
        """Two definitions of one name: both files are invalid."""
        places: dict[Name, list[str]] = defaultdict(list)
        for path, opened in self._open.items():
            for document in opened.defined:
                places[name_of(document)].append(path)
        for path, opened in self._open.items():
            for document in opened.defined:
                name = name_of(document)
                others = [*places[name], *self._library.definers(name)]
                others.remove(path)
                opened.read.extend(self._namesake(document, name, others))

    def _namesake(self, document: Document, name: Name, others: Sequence[str]) -> list[Diagnostic]:
        kind, text = name
        if others:
            message = f"the {kind} `{text}` is also defined in {others[0]}"
            hint = "rename one of them; until then neither file is applied"
            return [document.locate(Problem("duplicate-name", message, ("name",), hint))]
        if name in self._owners:
            message = f"the workflow `{text}` belongs to {self._owners[name]!r}"
            hint = "rename it, or delete the other one first"
            return [document.locate(Problem("owned-elsewhere", message, ("name",), hint))]
        if kind == "action" and text in self._built_in:
            message = f"`{text}` is a built-in action"
            return [document.locate(Problem("duplicate-name", message, ("name",)))]
        return []

    # -- compiling --------------------------------------------------------------------------

    def _check_actions(self) -> None:
        for opened in self._open.values():
            for document in opened.defined:
                if isinstance(document.definition, Action):
                    problems = check_action(document.definition, self._built_in)
                    opened.read.extend(map(document.locate, problems))

    def _settle(self) -> None:
        """Compile what is open against everything in force.

        What is in force depends on which files are good, and that on compiling: a file that turns
        out broken goes back to what it said before, and who uses it is compiled once more. Only
        good files can fall, so this ends.
        """
        for opened in self._open.values():
            self._library.put(self._examined(opened))
        todo = list(self._open.values())
        while todo:
            good = [each for each in self._open.values() if not each.broken]
            actions = Signatures(self._library, "action", self._actions)
            workflows = Signatures(self._library, "workflow", self._workflows)
            for opened in todo:
                self._compile(opened, actions, workflows)
            self._refuse_cycles()
            todo = self._fall_back([each for each in good if each.broken])

    def _compile(self, opened: OpenFile, known: Signatures, flows: Signatures) -> None:
        """Compile each workflow of a file; the file's own definitions come first."""
        opened.compiled, opened.flows = [], {}
        actions = known.below(opened.signatures("action"))
        workflows = flows.below(opened.signatures("workflow"))
        for index, document in enumerate(opened.documents):
            workflow = document.definition
            if isinstance(workflow, Workflow):
                plan, problems = compile_plan(workflow, actions, workflows, self._policy, "")
                for each in (*problems, *check_triggers(workflow, self._now)):
                    opened.compiled.append(document.locate(each))
                called = {name: self._document(opened, name) for name in plan.actions}
                used = {name: each for name, each in called.items() if each is not None}
                faces = {name: self._face(opened, name, workflows) for name in plan.subflows}
                path = opened.found.path
                opened.flows[index] = CompiledWorkflow.of(document, path, plan, used, faces)

    def _document(self, opened: OpenFile, action: str) -> Json | None:
        """The document of a defined action; None for a built-in one."""
        own = opened.document(("action", action))
        if own is not None:
            return own
        found = self._library.definition(("action", action))
        return found[1]["document"] if found else self._foreign.get(action)

    def _face(self, opened: OpenFile, name: str, workflows: Mapping[str, Signature]) -> Json:
        own = opened.document(("workflow", name))
        if own is not None:
            return face_in(own)
        found = self._library.definition(("workflow", name))
        face: Json = found[1]["face"] if found else face_of(workflows[name])
        return face

    def _fall_back(self, fallen: Sequence[OpenFile]) -> list[OpenFile]:
        """What broken files said before is in force again; who uses what they say now."""
        names: set[Name] = set()
        for opened in fallen:
            names |= opened.names()
            self._library.put(self._examined(opened))
        paths = {each.found.path for each in fallen}
        return [
            opened
            for path, opened in self._open.items()
            if path not in paths
            and any(not names.isdisjoint(flow.uses()) for flow in opened.flows.values())
        ]

    def _refuse_cycles(self) -> None:
        """A workflow that starts itself, however indirectly, is invalid."""
        now = {
            flow.definition.name: flow.subflows
            for opened in self._open.values()
            for flow in opened.flows.values()
        }

        def starts(name: str) -> Iterable[str]:
            found = self._library.definition(("workflow", name)) if name not in now else None
            return found[1].get("subflows", ()) if found else now.get(name, ())

        for opened in self._open.values():
            for index, flow in opened.flows.items():
                way = way_back(flow.definition.name, starts) if flow.subflows else ()
                if way:
                    message = f"these workflows start each other: {' → '.join(way)}"
                    problem = Problem("subflow-cycle", message, ("steps",))
                    found = opened.documents[index].locate(problem)
                    if found not in opened.compiled:
                        opened.compiled.append(found)

    def _warn_of_unused(self) -> None:
        """Defined actions that no workflow calls."""
        flows = [flow for opened in self._open.values() for flow in opened.flows.values()]
        called = {name for flow in flows for name in flow.actions}
        for opened in self._open.values():
            for document in opened.defined:
                kind, name = name_of(document)
                if kind != "action" or name in called:
                    continue
                if self._library.users((kind, name)) <= self._open.keys():
                    message = f"no workflow calls the action `{name}`"
                    warning = Problem("unused-action", message, ("name",), severity="warning")
                    opened.compiled.append(document.locate(warning))

    # -- the result -------------------------------------------------------------------------

    def _examined(self, opened: OpenFile) -> ExaminedFile:
        file = opened.examined(self._before.get(opened.found.path), self._moved)
        return self._without(file, self._owners.__contains__)

    def _without(self, file: ExaminedFile, given_up: Callable[[Name], bool]) -> ExaminedFile:
        """A broken file keeps nothing that another origin owns, or a good file defines, by now."""
        if file.status == "valid":
            return file
        kept = tuple(
            each for each in file.definitions if not given_up((each["kind"], each["name"]))
        )
        return file._replace(definitions=kept)

    def _revision(self, removed: tuple[str, ...]) -> Revision:
        revision = Revision(removed=removed, before=self._before)
        for path, opened in self._open.items():
            revision.files[path] = file = self._without(
                self._examined(opened), self._library.is_good
            )
            self._library.put(file)
            names = {name for kind, name in opened.names() if kind == "workflow"}
            if file.status == "invalid":
                revision.invalid |= dict.fromkeys(names | workflows_of(file), path)
            else:
                flows = opened.flows.values()
                revision.workflows |= {each.definition.name: each for each in flows}
            revision.touched |= names
        for path, ready in self._ready.items():
            revision.files[path] = ready.examined
            revision.rows[path] = ready.row
            revision.ready |= {each.name: each for each in ready.workflows}
            revision.touched |= {each.name for each in ready.workflows}
        for before in self._before.values():
            revision.touched |= workflows_of(before)
        return revision
