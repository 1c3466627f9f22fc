"""The database is made equal to a directory, and nothing else is."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Generator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine, text

from controller.core.drift import Fate
from controller.core.problem import Refused
from controller.reconcile.apply import apply_revision
from controller.settings import load_settings
from controller.source.watch import Hint
from controller.store import ledger
from controller.store.connecting import parse_url
from controller.store.tables import Transaction, workflows
from tests.eventually import eventually
from tests.fake_clock import FakeClock
from tests.postgres import Postgres
from tests.service.place import ACTION, FLOW, Place, flow, opened
from tests.store.sample import version, workflow


async def test_files_become_workflows_and_go_again(tmp_path: Path, clock: FakeClock) -> None:
    """Created, updated, unchanged, pruned: each as the directory says, and only that."""
    async with opened(tmp_path, clock) as place:
        place.write("a.yaml", FLOW.format(name="a", text="one", action="set"))
        place.write("sub/b.yml", FLOW.format(name="b", text="one", action="set"))
        place.write(".hidden/c.yaml", FLOW.format(name="c", text="one", action="set"))
        outcome = await place.reconcile()
        assert outcome.drift.of(Fate.CREATED) == ["a", "b"]
        place.write("a.yaml", FLOW.format(name="a", text="two", action="set"))
        (place.root / "sub" / "b.yml").unlink()
        outcome = await place.reconcile()
        assert outcome.drift.of(Fate.UPDATED) == ["a"]
        assert outcome.drift.of(Fate.PRUNED) == ["b"]
        assert await place.names() == ["a"]
        assert (await place.reconcile()).drift.fates == {}, "nothing is there to be compared"


async def test_an_execution_keeps_the_version_it_started_with(
    tmp_path: Path, clock: FakeClock
) -> None:
    """The file changes, its digest changes; an execution from before is pinned to the old one."""
    async with opened(tmp_path, clock) as place:
        place.write("a.yaml", FLOW.format(name="a", text="one", action="set"))
        await place.reconcile()
        before = await place.app.service.execute_workflow("a")
        place.write("a.yaml", FLOW.format(name="a", text="two", action="set"))
        await place.reconcile()
        after = await place.app.service.execute_workflow("a")
        assert before.digest != after.digest
        assert (await place.app.service.get_execution(before.id)).digest == before.digest


async def test_a_changed_action_changes_who_calls_it(tmp_path: Path, clock: FakeClock) -> None:
    """The action's file alone changes: the workflow's digest changes with it."""
    async with opened(tmp_path, clock) as place:
        place.write("act.yaml", ACTION.format(name="greet", text="one"))
        place.write("a.yaml", FLOW.format(name="a", text="x", action="greet"))
        place.write("b.yaml", FLOW.format(name="b", text="x", action="set"))
        await place.reconcile()
        place.write("act.yaml", ACTION.format(name="greet", text="two"))
        outcome = await place.reconcile()
        assert outcome.drift.of(Fate.UPDATED) == ["a"]


async def test_what_is_missing_may_come_later(tmp_path: Path, clock: FakeClock) -> None:
    """A workflow that calls nobody's action is invalid until somebody defines it."""
    async with opened(tmp_path, clock) as place:
        place.write("a.yaml", FLOW.format(name="a", text="x", action="greet"))
        assert (await place.reconcile()).invalid == ("a.yaml",)
        place.write("act.yaml", ACTION.format(name="greet", text="one"))
        outcome = await place.reconcile()
        assert (outcome.invalid, outcome.drift.of(Fate.CREATED)) == ((), ["a"])


async def test_an_action_nobody_calls_is_a_warning(tmp_path: Path, clock: FakeClock) -> None:
    """It keeps nothing from running, and goes when a workflow calls the action."""
    async with opened(tmp_path, clock) as place:
        place.write("act.yaml", ACTION.format(name="greet", text="one"))
        outcome = await place.reconcile()
        assert outcome.invalid == ()
        [status] = await place.app.sources.statuses()
        assert [each["code"] for each in status.files[0].problems] == ["unused-action"]
        place.write("a.yaml", FLOW.format(name="a", text="x", action="greet"))
        await place.reconcile()
        [status] = await place.app.sources.statuses()
        assert [each.problems for each in status.files] == [[], []]


async def test_what_no_file_defines_goes_when_the_source_prunes(
    tmp_path: Path, clock: FakeClock
) -> None:
    """Not while it does not; then whatever of its own is in no file, changed or not."""
    source = {"name": "definitions", "directory": tmp_path / "definitions", "prune_limit": 100}
    async with opened(tmp_path, clock, source | {"prune": False}) as place:
        for name in ("a", "b"):
            place.write(f"{name}.yaml", flow(name))
        await place.reconcile()
        (place.root / "b.yaml").unlink()
        for _ in range(2):
            outcome = await place.reconcile()
            assert (outcome.drift.of(Fate.KEPT), outcome.drift.changes) == (["b"], False)
    async with opened(tmp_path, clock, source) as place:
        plan = await place.app.sources.plan("definitions")
        assert [(each.kind, each.name) for each in plan.changes] == [("pruned", "b")]
        assert (await place.reconcile()).drift.of(Fate.PRUNED) == ["b"]
        assert await place.names() == ["a"]


async def test_a_broken_file_neither_changes_nor_prunes(tmp_path: Path, clock: FakeClock) -> None:
    """The last good version stays active, and the file's status says what is wrong."""
    async with opened(tmp_path, clock) as place:
        place.write("a.yaml", FLOW.format(name="a", text="one", action="set"))
        await place.reconcile()
        digest = (await place.app.service.get_workflow("a")).digest
        place.write("a.yaml", "name: a\nsteps: [\n")
        assert (await place.reconcile()).drift.of(Fate.INVALID) == ["a"]
        assert (await place.app.service.get_workflow("a")).digest == digest
        [status] = await place.app.sources.statuses()
        assert status.source.phase == "degraded"
        assert status.files[0].problems[0]["code"] == "yaml-syntax"


async def test_two_files_with_one_name_are_both_invalid(tmp_path: Path, clock: FakeClock) -> None:
    """The recorded version stays; when one of them goes, the other is good again."""
    async with opened(tmp_path, clock) as place:
        place.write("a.yaml", FLOW.format(name="a", text="one", action="set"))
        await place.reconcile()
        place.write("b.yaml", FLOW.format(name="a", text="two", action="set"))
        assert (await place.reconcile()).invalid == ("a.yaml", "b.yaml")
        assert (await place.app.service.get_workflow("a")).description == "one"
        (place.root / "a.yaml").unlink()
        assert (await place.reconcile()).invalid == ()
        assert (await place.app.service.get_workflow("a")).description == "two"


async def test_what_a_broken_file_gave_up_belongs_to_whoever_defines_it(
    tmp_path: Path, clock: FakeClock
) -> None:
    """A good definition comes before one that a broken file only keeps, now and from then on."""

    def both(text: str) -> str:
        action = ACTION.format(name="greet", text=text)
        return f"{action}---\n{FLOW.format(name='w', text=text, action='set')}"

    async with opened(tmp_path, clock) as place:
        place.write("a.yaml", both("one"))
        place.write("b.yaml", FLOW.format(name="caller", text="one", action="greet"))
        place.write("c.yaml", FLOW.format(name="c", text="one", action="set"))
        await place.reconcile()
        place.write("a.yaml", FLOW.format(name="c", text="defined already", action="set"))
        place.write("e.yaml", both("two"))
        outcome = await place.reconcile()
        assert outcome.invalid == ("a.yaml", "c.yaml")
        assert outcome.drift.of(Fate.UPDATED) == ["caller", "w"]
        digest = (await place.app.service.get_workflow("caller")).digest
        assert (await place.reconcile()).drift.changes is False
        place.write("a.yaml", FLOW.format(name="c", text="again", action="set"))
        place.write("e.yaml", "steps: [")
        assert (await place.reconcile()).drift.of(Fate.INVALID) == ["c", "w"]
        assert (await place.app.service.get_workflow("caller")).digest == digest
        (place.root / "a.yaml").unlink()
        (place.root / "e.yaml").unlink()
        outcome = await place.reconcile()
        assert outcome.drift.of(Fate.PRUNED) == ["w"]
        assert outcome.invalid == ("b.yaml",)


async def test_what_others_own_is_left_alone(tmp_path: Path, clock: FakeClock) -> None:
    """A source does not take an API workflow; the API does not change a source's."""
    async with opened(tmp_path, clock) as place:
        own = {"name": "mine", "steps": [{"id": "a", "type": "action", "action": "set"}]}
        await place.app.service.create_workflow(own)
        place.write("mine.yaml", FLOW.format(name="mine", text="theirs", action="set"))
        place.write("a.yaml", FLOW.format(name="a", text="one", action="set"))
        outcome = await place.reconcile()
        assert outcome.drift.owner == {"mine": "api"}
        assert (await place.app.service.get_workflow("mine")).origin == "api"
        with pytest.raises(Refused, match="belongs to the source"):
            await place.app.service.delete_workflow("a")


async def test_a_name_that_another_source_takes_meanwhile_is_left_to_it(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have looked and found the name free; the second to write looks again, at everything."""
    sources = [{"name": name, "directory": tmp_path / name} for name in ("one", "two")]
    async with opened(tmp_path, clock, *sources) as place:
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "w.yaml").write_text(flow("w", text=name))
        (tmp_path / "two" / "b.yaml").write_text(flow("b"))
        slower = place.reconciler("two")
        write = slower._write

        async def write_after_the_other(*of: Any) -> object:
            monkeypatch.undo()
            await place.reconcile("one")
            return await write(*of)

        monkeypatch.setattr(slower, "_write", write_after_the_other)
        outcome = await slower.reconcile(whole=False)
        assert outcome.drift.owner == {"w": "one"}
        assert (outcome.drift.of(Fate.CREATED), outcome.invalid) == (["b"], ("w.yaml",))
        found = await place.app.service.get_workflow("w")
        assert (found.origin, found.description) == ("one", "one")


@asynccontextmanager
async def _controllers(
    folder: Path, clock: FakeClock, url: str, *names: str
) -> AsyncGenerator[list[Place]]:
    """A controller for each source, all of them on one database; each source brings `w`."""
    sources = [{"name": name, "directory": folder / name} for name in names]
    async with AsyncExitStack() as stack:
        found = []
        for name in names:
            (folder / name).mkdir()
            (folder / name / "w.yaml").write_text(flow("w", text=name))
            place = opened(folder / f"of-{name}", clock, *sources, database_url=url)
            found.append(await stack.enter_async_context(place))
        yield found


async def test_a_name_has_one_owner_however_many_controllers_write(
    tmp_path: Path, clock: FakeClock, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One has written, and not committed: the other waits for that, and is refused the name."""
    written, go = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    with postgres.empty() as url:
        async with _controllers(tmp_path, clock, url, "one", "two") as (one, two):
            slow, quick = one.reconciler("one"), two.reconciler("two")

            def apply_and_stay(tx: Transaction, *of: Any) -> object:
                done = apply_revision(tx, *of)
                loop.call_soon_threadsafe(written.set)
                assert go.wait(30)
                return done

            def stay(_: object, *of: Any) -> Any:
                return one.app.store.write(apply_and_stay, *of)

            monkeypatch.setattr(slow, "_write", stay)
            first = asyncio.create_task(slow.reconcile())
            await written.wait()
            second = asyncio.create_task(quick.reconcile())
            with _connected(url) as (watching, _):
                await eventually(lambda: _waits(watching), "the other waits for the first")
            go.set()
            assert (await first).drift.of(Fate.CREATED) == ["w"]
            outcome = await second
            assert (outcome.drift.owner, outcome.invalid) == ({"w": "one"}, ("w.yaml",))
            found = await two.app.service.get_workflow("w")
            assert (found.origin, found.description) == ("one", "one")


@contextmanager
def _connected(url: str) -> Generator[tuple[Connection, Connection]]:
    """Two connections of nobody's."""
    engine = create_engine(parse_url(url))
    try:
        with engine.connect() as one, engine.connect() as other:
            yield one, other
    finally:
        engine.dispose()


def _waits(tx: Transaction) -> bool:
    """Whether somebody waits for a lock."""
    return bool(tx.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")))


async def test_a_person_and_a_source_do_not_both_get_a_name(
    tmp_path: Path, clock: FakeClock, postgres: Postgres
) -> None:
    """A source has written it, and not committed: who creates it waits, and is refused."""
    with postgres.empty() as url:
        async with _controllers(tmp_path, clock, url, "one") as [place]:
            with _connected(url) as (watching, other):
                record = workflow("w", origin="one")
                with other.begin():
                    ledger.take_turns(other)
                    ledger.put_workflow(other, record, version())
                    own = {"name": "w", "steps": [{"id": "a", "type": "action", "action": "set"}]}
                    creating = asyncio.create_task(place.app.service.create_workflow(own))
                    await eventually(lambda: _waits(watching), "who creates it waits")
                with pytest.raises(Refused, match="belongs to the source 'one'"):
                    await creating


async def test_a_source_that_lost_a_name_says_so(tmp_path: Path, clock: FakeClock) -> None:
    """However that came: at its next look, and until the name is free again."""
    sources = [{"name": name, "directory": tmp_path / name} for name in ("one", "two")]
    async with opened(tmp_path, clock, *sources) as place:
        (tmp_path / "one").mkdir()
        (tmp_path / "one" / "w.yaml").write_text(flow("w"))
        reconciler = place.reconciler("one")
        assert (await reconciler.reconcile()).invalid == ()
        await place.app.store.write(lambda tx: tx.execute(workflows.update().values(origin="two")))
        for _ in range(2):
            outcome = await reconciler.reconcile()
            assert (outcome.source.phase, outcome.invalid) == ("degraded", ("w.yaml",))
            assert outcome.repaired == (), "nothing was put back"
        await place.app.store.write(ledger.archive, ["w"], clock.now())
        outcome = await reconciler.reconcile()
        assert (outcome.drift.of(Fate.CREATED), outcome.invalid) == (["w"], ())


async def test_a_name_that_is_taken_during_a_look_is_looked_at_again(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file was examined as if the name were free: it does not stay so."""
    sources = [{"name": name, "directory": tmp_path / name} for name in ("one", "two")]
    loop = asyncio.get_running_loop()
    async with opened(tmp_path, clock, *sources) as place:
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "w.yaml").write_text(flow("w", text=name))
        slower = place.reconciler("two")
        examine = slower._examine

        def examine_while_the_other_applies(*of: Any) -> object:
            monkeypatch.undo()
            asyncio.run_coroutine_threadsafe(place.reconcile("one"), loop).result()
            return examine(*of)

        monkeypatch.setattr(slower, "_examine", examine_while_the_other_applies)
        slower._origin._hint = Hint(frozenset({"w.yaml"}), frozenset())  # type: ignore[attr-defined]  # a directory's: as an event says
        outcome = await slower.reconcile(whole=False)
        assert (outcome.drift.owner, outcome.invalid) == ({"w": "one"}, ("w.yaml",))


async def test_a_plan_is_what_a_reconcile_would_do(tmp_path: Path, clock: FakeClock) -> None:
    """Exit status 2 with changes, 0 without, 1 with problems; nothing is written."""
    async with opened(tmp_path, clock) as place:
        place.write("a.yaml", FLOW.format(name="a", text="one", action="set"))
        plan = await place.app.sources.plan(directory=place.root)
        assert ([(each.kind, each.name) for each in plan.changes], plan.exit_status) == (
            [("created", "a")],
            2,
        )
        assert await place.names() == []
        await place.reconcile()
        assert (await place.app.sources.plan(directory=place.root)).exit_status == 0
        place.write("b.yaml", "name: b\n")
        assert (await place.app.sources.plan(directory=place.root)).exit_status == 1


def test_settings_come_from_the_nearest_source(tmp_path: Path) -> None:
    """Flag over variable over file over default; the seed's `config:` keys are taken."""
    file = tmp_path / "windlass.yaml"
    file.write_text(
        "source: from-file\nconfig:\n  maxConcurrentWorkflows: 7\n  defaultTimeout: 2h\n"
        "  retryAttempts: 5\n  retryDelay: 100\n  checkpointInterval: 10000\n"
    )
    environ = {"WINDLASS_SOURCE": "from-environment", "WINDLASS_LOG_LEVEL": "debug"}
    settings = load_settings({"source": "from-flag", "state_dir": None}, file, environ)
    assert settings.source == "from-flag"
    assert settings.log_level == "debug"
    assert settings.max_concurrent_workflows == 7
    assert settings.policy.timeout == 7_200_000
    assert (settings.policy.retry_attempts, settings.policy.retry_delay) == (5, 100)
    assert load_settings({}, file, environ).source == "from-environment"


@pytest.mark.parametrize(
    ("text", "environ", "says"),
    [
        ("sorce: x\n", {}, "sorce"),
        ("retry_attempts: many\n", {}, "retry_attempts"),
        ("a: [\n", {}, "windlass.yaml"),
        ("", {"WINDLASS_HTTP_ADDRESS": "8228"}, "WINDLASS_HTTP_ADDRESS"),
        ('state_dir: ""\n', {}, "windlass.yaml: `state_dir` is empty"),
        ('scratch_dir: ""\n', {}, "windlass.yaml: `scratch_dir` is empty"),
        ('sources: [{directory: ""}]\n', {}, r"windlass.yaml: `sources.0.directory`: must not be"),
        ('sources: [{url: "file:///x", ca_file: ""}]\n', {}, r"`sources.0.ca_file`: must not be"),
        ("sources: [{directory: x, prune_limit: yes}]\n", {}, r"prune_limit`: .* integer"),
        ("sources: [{directory: x, prune_limit: true}]\n", {}, r"prune_limit`: true and false"),
        ("max_processes: true\n", {}, "windlass.yaml: `max_processes`: true and false are no"),
        ("retention_days: false\n", {}, "`retention_days`: true and false are no"),
        ("retry_attempts: 3\nretryAttempts: 4\n", {}, "`retry_attempts` and `retryAttempts`"),
        (
            "retry_attempts: 3\nconfig: {retryAttempts: 4}\n",
            {},
            "`retry_attempts` and `config.retryAttempts` are the same setting",
        ),
    ],
)
def test_a_wrong_setting_says_where_it_is(
    tmp_path: Path, text: str, environ: dict[str, str], says: str
) -> None:
    """One message that names the value and the file or variable it came from."""
    file = tmp_path / "windlass.yaml"
    file.write_text(text)
    with pytest.raises(Refused, match=says):
        load_settings({}, file, environ)


async def test_what_a_source_lacks_is_logged_once(
    tmp_path: Path, clock: FakeClock, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not at each look; again when something has changed meanwhile."""
    async with opened(tmp_path, clock) as place:
        place.write("a.yaml", flow("a"))
        reconciler = place.reconciler()

        async def logged(looks: int) -> int:
            capsys.readouterr()
            for _ in range(looks):
                await reconciler.reconcile()
            return capsys.readouterr().err.count("source failed; it is looked at again")

        assert await logged(1) == 0
        place.root.rename(tmp_path / "away")
        assert await logged(3) == 1
        assert (await place.app.sources.status("definitions")).source.failures == 3
        (tmp_path / "away").rename(place.root)
        assert await logged(2) == 0
        place.root.rename(tmp_path / "away")
        assert await logged(2) == 1
        (tmp_path / "away").rename(place.root)
        place.write("a.yaml", flow("a", "otherwise"))
        assert await logged(1) == 0
        place.root.rename(tmp_path / "away")
        assert await logged(2) == 1
        reconciler.stop()
