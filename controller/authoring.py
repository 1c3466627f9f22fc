"""Definitions that a person or a program brings: checked against what is recorded, then compiled.

What is recorded, and what stands in the files beside the one that is checked, counts as known, so
that a file can be checked before it is put among the others; what the file itself defines comes
first.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from controller.core.content import face_signature
from controller.core.definition import Workflow
from controller.core.plan import Signature
from controller.core.policy import Policy
from controller.core.problem import NotFound, Refused
from controller.recording import Others
from controller.source.directory import Directory
from controller.source.examine import Examiner
from controller.source.export import to_yaml
from controller.source.library import Library
from controller.source.limits import Limits
from controller.source.parse import Diagnostic, parse
from controller.source.revision import CompiledWorkflow, Revision
from controller.source.snapshot import Found, Snapshot, Stat, too_large
from controller.store import Store, ledger
from controller.views import Validation


class InvalidDefinition(Refused):
    """A definition with problems.

    Attributes:
        diagnostics: All of them, each with its place.
    """

    def __init__(self, diagnostics: list[Diagnostic]) -> None:
        errors = [each for each in diagnostics if each.severity == "error"]
        text = "\n".join(each.render() for each in errors)
        super().__init__(text or "no workflow is defined here", reason="invalid-definition")
        self.diagnostics = diagnostics


@dataclass(slots=True)
class _Known:
    """What may be called: documents of actions, and signatures of workflows, by name."""

    actions: dict[str, dict[str, Any]] = field(default_factory=dict)
    workflows: dict[str, Signature] = field(default_factory=dict)

    def add(self, definitions: Mapping[str, Any]) -> None:
        """Take one definition of a file; what is known already stays."""
        if definitions["kind"] == "action":
            self.actions.setdefault(definitions["name"], definitions["document"])
        else:
            signature = face_signature(definitions["name"], definitions["face"])
            self.workflows.setdefault(definitions["name"], signature)


class Author:
    """Checks and compiles documents that are not of a source.

    Args:
        built_in: Signatures of built-in actions.
        policy: Defaults for what a definition leaves open.
        limits: Bounds of a file.
    """

    def __init__(
        self, store: Store, built_in: Mapping[str, Signature], policy: Policy, limits: Limits
    ) -> None:
        self._store = store
        self._built_in = built_in
        self._policy = policy
        self._limits = limits

    async def validate(self, place: Path, now: int) -> Validation:
        """Check a file or a directory; nothing is recorded."""
        return Validation.of(await self.revision(place, now))

    async def revision(self, place: Path, now: int) -> Revision:
        """A directory, or a single file, as a snapshot of its own."""
        if place.is_dir():  # ruff: ignore[blocking-path-method-in-async-function]  # one look
            found = Directory(place, self._limits.file_bytes).look({}, 0)
            return await self._examine(found, _Known(), now, whole=True)
        found = self._found(str(place), read_file(place))
        return await self._examine(found, self._beside(place, now), now)

    async def compile_one(
        self,
        definition: Mapping[str, Any] | str | bytes,
        now: int,
        *,
        name: str | None = None,
        path: Path | None = None,
    ) -> CompiledWorkflow:
        """The one workflow of some documents, perhaps under another name.

        Raises:
            InvalidDefinition: There is a problem, or not exactly one workflow.
        """
        text = to_yaml([definition]) if isinstance(definition, Mapping) else definition
        content = text.encode() if isinstance(text, str) else text
        shown = str(path) if path is not None else "definition"
        if name is not None:
            content = self._renamed(shown, content, name)
        known = self._beside(path, now) if path is not None else _Known()
        revision = await self._examine(self._found(shown, content), known, now)
        validation = Validation.of(revision)
        if not validation.valid or len(revision.workflows) != 1:
            raise InvalidDefinition(validation.diagnostics)
        return next(iter(revision.workflows.values()))

    async def _examine(
        self, found: Snapshot, known: _Known, now: int, *, whole: bool = False
    ) -> Revision:
        faces = await self._store.read(ledger.faces)
        known.workflows = {**Others.of(faces).signatures, **known.workflows}
        for source in await self._store.read(ledger.sources):
            for file in (await self._store.read(ledger.source_files, source.id)).values():
                for each in file.definitions:
                    known.add(each)
        return self._examiner(known, now, whole=whole).examine(found)

    def _examiner(self, known: _Known, now: int, *, whole: bool = False) -> Examiner:
        return Examiner(
            library=Library(),
            built_in=self._built_in,
            elsewhere=known.workflows,
            actions=known.actions,
            policy=self._policy,
            limits=self._limits,
            read=lambda _: {},
            now=now,
            whole=whole,
        )

    def _beside(self, file: Path, now: int) -> _Known:
        """What the other files of its directory define, as far as they are good."""
        every = Directory(file.parent, self._limits.file_bytes).look({}, 0).changed
        others = Snapshot(tuple(each for each in every if each.path != file.name))
        known = _Known()
        for each in self._examiner(_Known(), now).examine(others).files.values():
            for definition in each.definitions:
                known.add(definition)
        return known

    def _found(self, path: str, content: bytes) -> Snapshot:
        """A single file as a look finds it."""
        digest = hashlib.sha256(content).hexdigest()
        stat = Stat(len(content), 0, 0)
        if len(content) > self._limits.file_bytes:
            refusal = too_large(len(content), self._limits.file_bytes)
            return Snapshot((Found(path, stat, digest, refusal=refusal),))
        return Snapshot((Found(path, stat, digest, content),))

    def _renamed(self, path: str, content: bytes, name: str) -> bytes:
        """The same documents, with the one workflow among them called `name`."""
        parsed = parse(path, content, self._limits)
        workflows = [each for each in parsed.documents if isinstance(each.definition, Workflow)]
        if any(each.severity == "error" for each in parsed.problems) or len(workflows) != 1:
            return content
        workflows[0].data["name"] = name
        return to_yaml([each.data for each in parsed.documents]).encode()


def read_file(path: Path) -> bytes:
    """A file's content; `NotFound` or `Refused` says why there is none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise NotFound(f"there is no file {path}") from None
    except OSError as error:
        raise Refused(f"cannot read {path}: {error.strerror}", reason="unreadable-file") from None


def check_directory(
    directory: Path, built_in: Mapping[str, Signature], policy: Policy, limits: Limits, now: int
) -> Validation:
    """Check the files of a directory against each other and nothing else."""
    examiner = Examiner(
        library=Library(),
        built_in=built_in,
        elsewhere={},
        policy=policy,
        limits=limits,
        read=lambda _: {},
        now=now,
        whole=True,
    )
    return Validation.of(examiner.examine(Directory(directory, limits.file_bytes).look({}, 0)))
