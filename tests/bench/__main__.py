"""`python -m tests.bench [t1 t2 …]`: the machine's limits, then each benchmark beside them.

A benchmark is a module `t<number>_<what>.py` here with `rows(limits, folder)`, which returns an
iterable of `Row`; `folder` is an empty one, gone afterwards.
"""

import importlib
import re
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from tests.bench import limits as machine
from tests.bench.table import Row, render

HERE = Path(__file__).resolve().parent

ON_BOTH = {"t1", "t2", "t3", "t4"}
"""Benchmarks that are done again on PostgreSQL."""


def own_rows(limits: machine.Limits) -> list[Row]:
    """What the machine can do, as rows."""
    return [
        Row("fdatasync of 4 KiB in place", "/s", limits.syncs, "more"),
        Row("SQLite commits of one row (WAL, FULL)", "/s", limits.commits, "more"),
        Row("SQLite rows in one transaction", "/s", limits.rows, "more"),
        Row("posix_spawn of true", "/s", limits.spawns, "more"),
        Row("start of a bare python", "ms", limits.python, "less"),
        *_postgres_rows(limits.postgres),
    ]


def _postgres_rows(found: machine.PostgresLimits | None) -> list[Row]:
    if found is None:
        return []
    what = "PostgreSQL commits of one row, on {} connection{}"
    many = machine.CONNECTIONS
    return [
        Row(what.format("one", ""), "/s", found.commits, "more"),
        Row(what.format(many, "s"), "/s", found.many, "more"),
    ]


def _chosen(names: list[str]) -> list[str]:
    modules = sorted(
        (path.stem for path in HERE.glob("t[0-9]*_*.py")),
        key=lambda stem: int(re.findall(r"\d+", stem)[0]),
    )
    return [stem for stem in modules if not names or stem.split("_")[0] in names]


def main(names: list[str]) -> None:
    """Measure and print; one table a benchmark, as soon as it is done."""
    # the disk of the project's folder counts: /tmp may be memory
    with ExitStack() as stack:
        name = stack.enter_context(tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-"))
        folder = Path(name)
        limits = machine.measure(folder)
        chosen = _chosen(names)
        if ON_BOTH & {stem.split("_")[0] for stem in chosen}:
            limits = replace(limits, postgres=stack.enter_context(machine.postgres(folder)))
        print(render(own_rows(limits)), flush=True)
        for stem in chosen:
            place = folder / stem
            place.mkdir()
            rows = importlib.import_module(f"tests.bench.{stem}").rows(limits, place)
            print(f"\n{render(rows)}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
