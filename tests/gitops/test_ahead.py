"""Files examined ahead by several processes mean what they mean when they are examined here."""

import os
import random
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Table, select

from controller.core.drift import Fate
from controller.execute.action import BuiltIn, Registry
from controller.reconcile import ahead
from controller.reconcile.ahead import Alone, Crew, Terms
from controller.reconcile.apply import rows_of
from controller.settings import Settings
from controller.source.directory import Directory
from controller.source.examine import Examiner
from controller.source.library import Library
from controller.source.revision import ReadyFile, Revision
from controller.source.snapshot import Found, Snapshot, Stat
from controller.store import tables
from controller.store.tables import Transaction
from tests.fake_clock import FakeClock
from tests.language.test_parse import mutated
from tests.postgres import Postgres
from tests.service.place import ACTION, Place, flow, opened
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


def _found(name: str, text: str) -> Found:
    content = text.encode()
    return Found(f"{name}.yaml", Stat(len(content), 1, 1), name, content)


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
        owners={"good-9": "another"},
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
        found[name] = rows_of(compiled, TERMS.source, NOW)
    return found | {name: each.rows for name, each in revision.ready.items()}


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
    assert parallel.invalid["good-9"] == "good-9.yaml", "another source owns it"
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


def test_processes_end_with_their_crew(tmp_path: Path) -> None:
    """Whatever they are at, and be it nothing at all."""
    snapshot = _files(tmp_path)
    with Crew(2) as crew:
        crew.examine(snapshot.changed, TERMS)
        processes = list(crew._processes)
        assert processes[0].pid is not None
        os.kill(processes[0].pid, signal.SIGSTOP)
    assert not any(each.is_alive() for each in processes)


def test_what_gets_ready_is_a_file_like_others() -> None:
    """It is examined to the end, and so imports and builds all that it takes."""
    sample = Found("sample.yaml", Stat(0, 0, 0), "", ahead.SAMPLE)
    assert len(Alone(TERMS).told([sample])) == 1


def test_large_files_do_not_make_two_processes_wait_for_each_other() -> None:
    """What is sent either way is far more than a pipe holds."""
    padding = f"metadata: {{text: {'x' * 50_000}}}\n"
    files = [_found(f"w{number}", flow(f"w{number}") + padding) for number in range(ahead.MANY)]
    with Crew(1) as crew, ThreadPoolExecutor(1) as thread:
        examined = thread.submit(crew.examine, files, TERMS)
        try:
            assert len(examined.result(timeout=60)) == len(files)
        finally:
            for process in crew._processes:
                process.kill()  # whoever waits for it goes on


ALIKE = SCHEDULED + "concurrency: {key: '${inputs.day}'}\ninputs: [{name: day}]\n"
UNLIKE = {
    "trigger": (ALIKE.replace("3 * * *'", "3 * * *', inputs: {nobody: 1}"), False),
    "key": (ALIKE.replace("inputs.day", "inputs.nobody"), False),
    "input": (ALIKE.replace("name: day", "name: night"), False),
    "never": (ALIKE.replace("0 3 * * *", "0 3 31 2 *"), False),
    "output": (ALIKE + "outputs: [{name: kept, source: nobody}]\n", False),
    "handler": (
        ALIKE + "error_handler: {id: h, type: action, action: log, inputs: {message: '${no}'}}\n",
        False,
    ),
    "later": (ALIKE.replace("0 3 * * *", "0 4 * * *"), True),
    "said": (ALIKE + "labels: {a: b}\nmetadata: {c: d}\nversion: 2.0.0\n", True),
}


@pytest.mark.parametrize("name", UNLIKE)
@pytest.mark.parametrize("behind", [False, True])
def test_what_one_file_means_says_nothing_of_another(name: str, *, behind: bool) -> None:
    """A file that differs in one thing from a good one means the same with and without it."""
    text, good = UNLIKE[name]
    unlike, like = _found("unlike", flow("unlike") + text), _found("like", flow("like") + ALIKE)
    found = Alone(TERMS).told([unlike, like] if behind else [like, unlike])
    places = {"unlike": 0, "like": 1} if behind else {"like": 0, "unlike": 1}
    told = {each[0]: each[1:] for each in found}
    assert (places["unlike"] in told) is good
    for name_, file in (("unlike", unlike), ("like", like)):
        by_itself = [each[1:] for each in Alone(TERMS).told([file])]
        assert [told[place] for place in told if place == places[name_]] == by_itself


def test_no_more_is_kept_of_what_was_compiled_than_is_allowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Thousands of files of which no two are alike do not fill the memory."""
    monkeypatch.setattr(ahead, "PLANS", 3)
    alone = Alone(TERMS)
    files = [_found(f"w{n}", flow(f"w{n}") + f"timeout: {n + 1}s\n") for n in range(10)]
    assert len(alone.told(files)) == len(files)
    assert len(alone._plans) <= 3


def test_a_few_files_need_no_crew(tmp_path: Path, crew: Crew) -> None:
    """A usual change is examined here, without asking anybody."""
    snapshot = _files(tmp_path)
    assert crew.examine(snapshot.changed[: ahead.MANY - 1], TERMS) == {}
    assert Crew(0).examine(snapshot.changed, TERMS) == {}


WRITTEN = (
    tables.workflows,
    tables.workflow_versions,
    tables.workflow_schedules,
    tables.source_files,
)


async def _written(place: Place) -> dict[str, list[Any]]:
    """What is recorded of the source; inodes and times of files are of no two directories."""

    def rows(tx: Transaction, table: Table) -> list[Any]:
        columns = [each for each in table.c if each.name not in {"inode", "mtime_ns"}]
        return [tuple(row) for row in tx.execute(select(*columns).order_by(*table.primary_key))]

    return {table.name: await place.app.store.read(rows, table) for table in WRITTEN}


async def _twice(folder: Path, clock: FakeClock, crew: Crew | None, **given: Any) -> Any:
    """What is recorded after a cold start, and after a change of all files."""
    async with opened(folder, clock, **given) as place:
        place.app.crew = crew
        recorded = []
        for hour in (3, 4):
            for number in range(ahead.MANY):
                text = SCHEDULED.replace("0 3", f"{number % 2} {hour if number % 3 else 3}")
                place.write(f"w{number}.yaml", flow(f"w{number}", f"at {hour}") + text)
            await place.reconcile()
            recorded.append(await _written(place))
        return recorded


async def test_what_was_examined_ahead_is_recorded_alike(
    tmp_path: Path, clock: FakeClock, postgres: Postgres, crew: Crew
) -> None:
    """Every row, on either database, when it is new and when it replaces another."""
    alone = await _twice(tmp_path / "alone", clock, None)
    assert [len(each["workflow_schedules"]) for each in alone] == [200, 333]
    assert await _twice(tmp_path / "sqlite", clock, crew) == alone
    with postgres.empty() as url:
        assert await _twice(tmp_path / "postgres", clock, crew, database_url=url) == alone


async def test_what_others_own_is_left_alone_by_a_crew_too(
    tmp_path: Path, clock: FakeClock, crew: Crew
) -> None:
    """The file says whose the workflow is, however many files there are."""
    async with opened(tmp_path, clock) as place:
        place.app.crew = crew
        own = {"name": "w7", "steps": [{"id": "a", "type": "action", "action": "set"}]}
        await place.app.service.create_workflow(own)
        for number in range(ahead.MANY):
            place.write(f"w{number}.yaml", flow(f"w{number}"))
        outcome = await place.reconcile()
        assert outcome.drift.of(Fate.REFUSED) == ["w7"]
        assert outcome.invalid == ("w7.yaml",)
