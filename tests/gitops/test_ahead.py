"""Files examined ahead by several processes mean what they mean when they are examined here."""

import dataclasses
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from controller.execute.action import BuiltIn, Registry
from controller.reconcile import ahead
from controller.reconcile.ahead import Crew, Terms
from controller.reconcile.apply import rows_of
from controller.settings import Settings
from controller.source.directory import Directory
from controller.source.examine import Examiner
from controller.source.library import Library
from controller.source.revision import ReadyFile, Revision
from controller.source.snapshot import Snapshot
from controller.store.dialect import decode
from tests.language.test_parse import mutated
from tests.service.place import ACTION, flow
from tests.sources import ROOT

NOW = 1_790_000_000_000
SCHEDULED = "triggers:\n  - type: scheduled\n    config: {cron: '0 3 * * *'}\n"


def _unused(name: str) -> BuiltIn:
    raise LookupError(name)


CHOSEN = Settings()
TERMS = Terms("files", Registry(_unused).signatures, CHOSEN.policy, CHOSEN.limits, NOW)


@pytest.fixture(scope="module", params=[1, 3])
def crew(request: pytest.FixtureRequest) -> Iterator[Crew]:
    """One process, and several."""
    with Crew(request.param) as found:
        yield found


def _files(folder: Path) -> Snapshot:
    """Good files, broken ones, namesakes, circles, and what uses what others define."""
    chance = random.Random(7)
    texts = {f"good-{number}": flow(f"good-{number}") + SCHEDULED for number in range(250)}
    texts |= {f"act-{n}": ACTION.format(name=f"act-{n}", text="x") for n in range(5)}
    texts |= {f"caller-{n}": flow(f"caller-{n}", action=f"act-{n % 7}") for n in range(20)}
    texts |= {f"same-{n}": flow("same", str(n)) for n in range(3)}
    texts |= {"twin": flow("good-7"), "pair": f"{flow('p')}---\n{flow('q')}", "self": ""}
    texts |= {"double": f"{flow('d')}---\n{flow('d')}", "none": "", "list": "- 1\n"}
    for name, other in (("ping", "pong"), ("pong", "ping"), ("starter", "good-3")):
        step = f"  - {{id: a, type: subflow, subflow: {other}}}\n"
        texts[name] = f"name: {name}\nsteps:\n{step}"
    samples = [path.read_bytes() for path in sorted((ROOT / "definitions").rglob("*.yaml"))]
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text)
    for number in range(60):
        content = mutated(chance.choice(samples), chance) or b"\n"
        (folder / f"broken-{number}.yaml").write_bytes(content)
    return Directory(folder, CHOSEN.max_file_bytes).look({}, 0)


def _examined(snapshot: Snapshot, ready: dict[str, ReadyFile]) -> tuple[Revision, Library]:
    library = Library()
    examiner = Examiner(
        library=library,
        built_in=TERMS.built_in,
        elsewhere={},
        policy=TERMS.policy,
        limits=TERMS.limits,
        read=lambda _: {},
        now=NOW,
        ready=ready,
        whole=True,
    )
    return examiner.examine(snapshot), library


def _rows(revision: Revision) -> dict[str, Any]:
    """What would be written of each workflow, its JSON read."""
    found: dict[str, Any] = {}
    for name, compiled in revision.workflows.items():
        record, version, schedules = rows_of(compiled, TERMS.source, NOW)
        rows = (dataclasses.astuple(record), dataclasses.astuple(version))
        found[name] = (*rows, [dataclasses.astuple(each) for each in schedules])
    for name, ahead_ in revision.ready.items():
        record, version, schedules = ahead_.rows
        found[name] = (_read(record), _read(version), [tuple(each) for each in schedules])
    return found


def _read(values: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(decode(each) if isinstance(each, bytes) else each for each in values)


def test_what_is_examined_ahead_is_the_same(tmp_path: Path, crew: Crew) -> None:
    """The same problems, definitions, names and rows, for every file and workflow."""
    snapshot = _files(tmp_path)
    ready = crew.examine(snapshot.changed, TERMS)
    assert len(ready) > 200
    serial, known = _examined(snapshot, {})
    parallel, library = _examined(snapshot, ready)
    assert parallel.ready
    assert library.files == known.files
    assert (parallel.files, parallel.invalid) == (serial.files, serial.invalid)
    assert parallel.touched == serial.touched
    assert _rows(parallel) == _rows(serial)


def test_a_process_that_ends_early_costs_only_time(tmp_path: Path) -> None:
    """Killed before it answers, one or all of them: everything is examined all the same."""
    snapshot = _files(tmp_path)
    with Crew(2) as crew:
        whole = crew.examine(snapshot.changed, TERMS)
        for process in crew._processes:
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
        assert crew.examine(snapshot.changed, TERMS).keys() == whole.keys()
        assert not crew._ends


def test_a_few_files_need_no_crew(tmp_path: Path, crew: Crew) -> None:
    """A usual change is examined here, without asking anybody."""
    snapshot = _files(tmp_path)
    assert crew.examine(snapshot.changed[: ahead.MANY - 1], TERMS) == {}
    assert Crew(0).examine(snapshot.changed, TERMS) == {}
