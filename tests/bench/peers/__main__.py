"""`python -m tests.bench.peers [dbos prefect dagu] [t1 t2 …]`: the same work, ours and peers'.

Each peer is a module here: `systems(cache)` installs it below the cache, once, and yields it as one
or more `System`. What one cannot do, or fails at, is said, and the rest goes on.
"""

import importlib
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.bench import limits as machine
from tests.bench.__main__ import own_rows
from tests.bench.peers import ours
from tests.bench.peers.process import Failed
from tests.bench.peers.system import WORKS, Figures, System, compare
from tests.bench.table import render

PEERS = ("dbos", "prefect", "dagu")
CACHE = ".bench-peers"


def chosen(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """The peers and the works that are asked for; all of them where none is named."""
    unknown = [name for name in names if name not in PEERS and name not in WORKS]
    if unknown:
        known = ", ".join((*PEERS, *WORKS))
        raise Failed(f"unknown: {', '.join(unknown)}. There are: {known}.")
    return (
        [peer for peer in PEERS if peer in names] or list(PEERS),
        [work for work in WORKS if work in names] or list(WORKS),
    )


def _measured(work: str, system: System, folder: Path) -> Figures | None:
    if work not in system.works:
        return None
    folder.mkdir(parents=True)
    try:
        return system.works[work](folder)
    except (Failed, AssertionError) as error:
        print(f"{system.name}: {work} FAILED: {error}", file=sys.stderr)
        return None


def _available(peers: Sequence[str], stack: ExitStack) -> list[System]:
    found: list[System] = []
    for peer in peers:
        module = importlib.import_module(f"tests.bench.peers.{peer}")
        try:
            found += stack.enter_context(module.systems(Path.cwd() / CACHE))
        except Failed as error:
            print(f"{peer} cannot be measured here: {error}", file=sys.stderr)
    return found


def main(names: Sequence[str]) -> int:
    """Measure and print; one table a work, as soon as it is done. 1 where something failed."""
    try:
        peers, works = chosen(names)
    except Failed as error:
        print(error, file=sys.stderr)
        return 2
    # so that what was started ends too, whoever ends this
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, lambda number, _frame: sys.exit(128 + number))
    with ExitStack() as stack:
        available = _available(peers, stack)
        # the disk of the project's folder counts: /tmp may be memory
        name = stack.enter_context(tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-"))
        limits = machine.measure(Path(name))
        print(render(own_rows(limits)), flush=True)
        print("\nratio: Windlass ÷ the other, of the same run")
        systems = [ours.system(limits), *available]
        missing = len(available) < len(peers)
        for work in works:
            found = [
                (system, figures)
                for number, system in enumerate(systems)
                if (figures := _measured(work, system, Path(name) / work / str(number)))
            ]
            missing |= len(found) < sum(work in system.works for system in systems)
            print(f"\n{render(compare(work, found, systems[0]))}", flush=True)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
