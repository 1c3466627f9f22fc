"""What has to be looked at again though the source has not changed."""

import asyncio
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from controller.core.drift import Terms, fingerprint
from controller.recording import NOBODY, Others
from controller.source.library import Library
from controller.store import Store, ledger
from controller.store.records import WorkflowHead


class Recorded(NamedTuple):
    """What the database has.

    Attributes:
        heads: Every workflow, by name.
        schedules: Those that stand as a source gave them, by workflow.
        altered: Its workflows whose rows are not as their versions say.
    """

    heads: Mapping[str, WorkflowHead]
    schedules: Mapping[str, Iterable[Terms]]
    altered: Collection[str]


async def recorded_of(store: Store, source: str) -> Recorded:
    """What there is now, read side by side."""
    return Recorded(
        *await asyncio.gather(
            store.read(ledger.catalog),
            store.read(ledger.standing_schedules, source),
            store.read(ledger.altered, source),
        )
    )


def drifted_paths(source: str, library: Library, recorded: Recorded) -> dict[str, str]:
    """Files with a workflow that is not recorded as the last look left it, with its name.

    Args:
        source: The source's id.
        library: What the last look left.
        recorded: What is there now.
    """
    heads, schedules, altered = recorded
    found: dict[str, str] = {}
    for path, file in library.files.items():
        for definition in file.definitions if file.status == "valid" else ():
            name = definition["name"]
            head = heads.get(name)
            if definition["kind"] != "workflow":
                continue
            said = definition["digest"], source, definition["status"], path
            if (
                head is None
                or (head.digest, head.origin, head.status, head.path) != said
                or name in altered
                or fingerprint(schedules.get(name, ())) != definition["schedules"]
            ):
                found[path] = name
    return found


def reached_paths(library: Library, before: Others | None, now: Others) -> set[str]:
    """Files that workflows of other origins reach: those that start one, and those with problems.

    Args:
        library: What the last look left.
        before: The workflows of other origins then; None: it is not known.
        now: Those there are now.
    """
    if before == now:
        return set()
    names = now.unlike(before or NOBODY)
    users = {path for name in names for path in library.users(("workflow", name))}
    return users | {path for path in library.troubled if library.files[path].status == "invalid"}
