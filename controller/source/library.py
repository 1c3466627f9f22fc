"""Everything a source defines, indexed, so that a change costs what it reaches.

One entry a file, with what the file defines in force: of a file with a problem, what its last good
version said. The indexes say who defines a name and who uses it; the fingerprint names the state of
all files together.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from controller.core.content import action_signature, face_signature
from controller.core.definition import Action
from controller.core.plan import Signature
from controller.source.snapshot import Stat

Json = dict[str, Any]

Name = tuple[str, str]
"""The kind and the name of a definition."""


class ExaminedFile(NamedTuple):
    """A file and what it defines; what a later revision must know of it without reading it.

    Attributes:
        status: `valid` or `invalid`.
        problems: Diagnostics as JSON, warnings too.
        definitions: Of an action: {kind, name, document}. Of a workflow: {kind, name, version,
            digest, status, actions, subflows, schedules, face}. Of an invalid file: those of its
            last good version.
    """

    path: str
    stat: Stat
    digest: str
    status: str
    problems: tuple[Json, ...]
    definitions: tuple[Json, ...]


class Library:
    """The files of one source as they stand, and what they define.

    Attributes:
        files: By path.
        troubled: Paths of files with a problem or a warning: looked at again with any change.
        fingerprint: Of all paths and digests together, whatever their order.
        revision: The one that all of it is of, as far as this process has seen for itself: what is
            recorded may be of another location, and of before it had to be signed.
    """

    def __init__(self) -> None:
        self.files: dict[str, ExaminedFile] = {}
        self.troubled: set[str] = set()
        self.revision: str | None = None
        self._definers: dict[Name, dict[str, Json]] = defaultdict(dict)
        self._users: dict[Name, set[str]] = defaultdict(set)
        self._sum = 0

    @property
    def fingerprint(self) -> str:
        """64 hexadecimal digits; the same for the same files."""
        return f"{self._sum:064x}"

    def put(self, file: ExaminedFile) -> None:
        """Take a file in, in place of what is known of its path."""
        path = file.path
        self.drop(path)
        self.files[path] = file
        self._sum = (self._sum + _weight(file)) % _MODULUS
        if file.problems:
            self.troubled.add(path)
        for each in file.definitions:
            self._definers[each["kind"], each["name"]][path] = each
            for used in uses(each):
                self._users[used].add(path)

    def drop(self, path: str) -> None:
        """Forget a file."""
        file = self.files.pop(path, None)
        if file is None:
            return
        self._sum = (self._sum - _weight(file)) % _MODULUS
        self.troubled.discard(path)
        for each in file.definitions:
            name = each["kind"], each["name"]
            self._definers[name].pop(path, None)
            if not self._definers[name]:
                del self._definers[name]
            for used in uses(each):
                self._users[used].discard(path)
                if not self._users[used]:
                    del self._users[used]

    def restore(self, before: Mapping[str, ExaminedFile | None]) -> None:
        """Put files back as they were."""
        for path, file in before.items():
            if file is None:
                self.drop(path)
            else:
                self.put(file)

    def definers(self, name: Name) -> Mapping[str, Json]:
        """The files that define a name, each with its definition."""
        return self._definers.get(name, {})

    def users(self, name: Name) -> set[str]:
        """The files with a workflow that calls the action, or starts the workflow."""
        return self._users.get(name, set())

    def definition(self, name: Name) -> tuple[str, Json] | None:
        """The path and the definition in force of a name, or None; a good file's comes first."""
        found = self.definers(name)
        good = (path for path in found if self._is_valid(path))
        path = next(good, None) or next(iter(found), None)
        return None if path is None else (path, found[path])

    def is_good(self, name: Name) -> bool:
        """Whether a file without a problem defines it."""
        return any(map(self._is_valid, self.definers(name)))

    def _is_valid(self, path: str) -> bool:
        return self.files[path].status == "valid"

    def names_in(self, path: str) -> set[Name]:
        """What a file defines in force."""
        file = self.files.get(path)
        return {(each["kind"], each["name"]) for each in file.definitions} if file else set()

    def names(self, kind: str) -> Iterator[str]:
        """Every defined name of a kind."""
        return (name for of, name in self._definers if of == kind)


class Signatures(Mapping[str, Signature]):
    """What actions or workflows look like to a caller, each of a library's read when asked for.

    Args:
        library: What is looked at first.
        kind: `action` or `workflow`.
        beside: What is known besides.
    """

    def __init__(self, library: Library, kind: str, beside: Mapping[str, Signature]) -> None:
        self._library = library
        self._kind = kind
        self._beside = beside
        self._made: dict[str, Signature] = {}
        self._own: Mapping[str, Signature] = {}

    def below(self, own: Mapping[str, Signature]) -> "Signatures":
        """The same, with some that come first."""
        found = Signatures(self._library, self._kind, self._beside)
        found._made = self._made
        found._own = own
        return found

    def __getitem__(self, name: str) -> Signature:
        for known in (self._own, self._made):
            if name in known:
                return known[name]
        found = self._library.definition((self._kind, name))
        if found is None:
            return self._beside[name]
        self._made[name] = signature_of(found[1])
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter({*self._own, *self._library.names(self._kind), *self._beside})

    def __len__(self) -> int:
        return sum(1 for _ in self)


def signature_of(definition: Json) -> Signature:
    """What a caller must know of one definition of an `ExaminedFile`."""
    if definition["kind"] == "action":
        return action_signature(Action.model_validate(definition["document"]))
    return face_signature(definition["name"], definition["face"])


def uses(definition: Json) -> list[Name]:
    """The names a definition calls or starts."""
    actions = [("action", name) for name in definition.get("actions", ())]
    return actions + [("workflow", name) for name in definition.get("subflows", ())]


_MODULUS = 2**256


def _weight(file: ExaminedFile) -> int:
    return int.from_bytes(hashlib.sha256(f"{file.path}\0{file.digest}".encode()).digest())
