"""What people decide: hold, go back, approve; what the source may not do by itself."""

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from controller.app import App
from controller.core.drift import Fate
from controller.core.plain import iso, plain
from controller.core.problem import Refused
from controller.observe.forge import report_of
from controller.reconcile import mark_removed
from controller.settings import Settings
from controller.source.origin import FromDirectory, unused_homes
from controller.source.spec import SourceSpec
from controller.source.watch import Hint
from controller.store import ledger
from controller.store.tables import Transaction, workflow_schedules, workflows
from controller.views import as_json
from tests.fake_clock import FakeClock
from tests.gitops.repository import Repository, run
from tests.service.place import ACTION, Place, flow, opened

HOUR = 3_600_000
"""Milliseconds."""

BROKEN = "name: b\nsteps: [\n"


async def _status(place: Place, name: str = "git") -> tuple[str, str | None]:
    source = (await place.app.sources.status(name)).source
    return source.phase, source.reason


async def _says(place: Place, workflow: str = "a") -> str:
    return (await place.app.service.get_workflow(workflow)).description


async def test_a_revision_with_a_broken_file_is_applied_but_for_the_file(
    tmp_path: Path, clock: FakeClock
) -> None:
    """`keep_last_good`: the others go on with it, and it goes on with what it said before."""
    repository = Repository(tmp_path)
    repository.write("b.yaml", flow("b", "one"))
    repository.put("a.yaml", flow("a", "one"))
    sources: tuple[dict[str, Any], ...] = ({"name": "git", "url": repository.url},)
    async with opened(tmp_path / "kept", clock, *sources) as place:
        await place.reconcile("git")
        repository.write("b.yaml", BROKEN)
        second = repository.put("a.yaml", flow("a", "two"))
        outcome = await place.reconcile("git")
        assert (outcome.source.revision, outcome.invalid) == (second, ("b.yaml",))
        assert (await _says(place), await _says(place, "b")) == ("two", "one")


async def test_a_revision_is_rejected_as_a_whole(tmp_path: Path, clock: FakeClock) -> None:
    """`reject_revision`: nothing of it is applied until it is mended; then all of it."""
    repository = Repository(tmp_path)
    repository.write("b.yaml", flow("b", "one"))
    first = repository.put("a.yaml", flow("a", "one"))
    source = {"name": "git", "url": repository.url, "on_invalid": "reject_revision"}
    async with opened(tmp_path, clock, source) as place:
        reconciler = place.reconciler("git")
        await reconciler.reconcile()
        facts: list[Any] = []
        place.app.bus.subscribe(facts.append)
        repository.write("b.yaml", BROKEN)
        second = repository.put("a.yaml", flow("a", "two"))
        for _ in range(2):
            outcome = await reconciler.reconcile(whole=False)
            assert (outcome.source.phase, outcome.source.reason) == ("rejected", "invalid-files")
        status = await place.app.sources.status("git")
        assert (status.source.revision, status.source.observed) == (first, second)
        assert [each["code"] for each in status.source.problems or ()] == ["yaml-syntax"]
        told = report_of(facts[-1], "git")
        assert told is not None
        assert (told.revision, told.description[:7]) == (second, "b.yaml:")
        assert await _says(place) == "one"
        third = repository.put("b.yaml", flow("b", "three"))
        assert (await reconciler.reconcile(whole=False)).source.revision == third
        assert (await _says(place), await _says(place, "b")) == ("two", "three")
        assert (await place.app.sources.status("git")).source.problems is None


async def _two_sources(place: Place, folder: Path) -> None:
    """One owns `x`; two has brought `y`, and an action that its `z` calls."""
    (folder / "one").mkdir()
    (folder / "two").mkdir()
    (folder / "one" / "x.yaml").write_text(flow("x"))
    (folder / "two" / "y.yaml").write_text(f"{flow('y', 'one')}---\n{_act('one')}")
    (folder / "two" / "z.yaml").write_text(flow("z", action="act"))
    await place.reconcile("one")
    assert (await place.reconcile("two")).invalid == ()


def _act(text: str) -> str:
    return ACTION.format(name="act", text=text)


@pytest.mark.parametrize("on_invalid", ["keep_last_good", "reject_revision"])
async def test_a_file_that_names_what_another_owns_changes_nothing(
    tmp_path: Path, clock: FakeClock, on_invalid: str
) -> None:
    """Nor does it for who calls its actions; the plan says so, and it may reject the revision."""
    one = {"name": "one", "directory": tmp_path / "one"}
    two = {"name": "two", "directory": tmp_path / "two", "on_invalid": on_invalid}
    async with opened(tmp_path, clock, one, two) as place:
        await _two_sources(place, tmp_path)
        live = {name: await _head(place, name) for name in "xyz"}
        both = f"{flow('x', 'two')}---\n{flow('y', 'two')}---\n{_act('two')}---\n{flow('new')}"
        (tmp_path / "two" / "y.yaml").write_text(both)
        plan = await place.app.sources.plan("two")
        assert [(each.path, each.code) for each in plan.diagnostics] == [
            ("y.yaml", "owned-elsewhere")
        ]
        assert (plan.exit_status, plan.refusal is None) == (1, on_invalid == "keep_last_good")
        assert [(each.name, each.kind, each.owner) for each in plan.changes] == [
            ("x", Fate.REFUSED, "one")
        ]
        outcome = await place.reconcile("two")
        if on_invalid == "keep_last_good":
            assert (outcome.source.phase, outcome.invalid) == ("degraded", ("y.yaml",))
            assert (outcome.drift.fates["y"], outcome.drift.owner) == (Fate.INVALID, {"x": "one"})
        else:
            assert (outcome.source.phase, outcome.source.reason) == ("rejected", "invalid-files")
        assert {name: await _head(place, name) for name in "xyz"} == live
        assert await place.names() == list("xyz")


async def _head(place: Place, name: str) -> tuple[str, str]:
    found = await place.app.service.get_workflow(name)
    return found.origin, found.digest


async def test_what_a_file_lost_to_another_source_is_that_sources(
    tmp_path: Path, clock: FakeClock
) -> None:
    """Who starts it starts the other's, with the other's inputs, and the file keeps it no more."""
    sources = [{"name": name, "directory": tmp_path / name} for name in ("one", "two")]
    step = "  - {id: a, type: subflow, subflow: w, inputs: {day: today}}\n"
    async with opened(tmp_path, clock, *sources) as place:
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
        (tmp_path / "two" / "w.yaml").write_text(flow("w"))
        reconciler = place.reconciler("two")
        await reconciler.reconcile()
        await place.app.store.write(ledger.archive, ["w"], clock.now())
        inputs = "inputs:\n  - {name: day, type: string}\n"
        (tmp_path / "one" / "w.yaml").write_text(flow("w") + inputs)
        await place.reconcile("one")
        (tmp_path / "two" / "parent.yaml").write_text(f"name: parent\nsteps:\n{step}")
        outcome = await reconciler.reconcile()
        assert (outcome.drift.owner, outcome.invalid) == ({"w": "one"}, ("w.yaml",))
        assert outcome.drift.of(Fate.CREATED) == ["parent"]


async def test_a_suspended_source_changes_nothing(tmp_path: Path, clock: FakeClock) -> None:
    """Also for a daemon that starts meanwhile; resumed, it catches up."""
    repository = Repository(tmp_path)
    repository.put("a.yaml", flow("a", "one"))
    async with opened(tmp_path, clock, {"name": "git", "url": repository.url}) as place:
        await place.reconcile("git")
        await place.app.sources.suspend("git")
        repository.put("a.yaml", flow("a", "two"))
        await place.reconcile("git")
        assert (await _status(place), await _says(place)) == (("suspended", "suspended"), "one")
        await place.app.sources.resume("git")
        await place.reconcile("git")
        assert (await _status(place), await _says(place)) == (("ready", None), "two")
        with pytest.raises(Refused, match="neither suspended nor rolled back"):
            await place.app.sources.resume("git")


async def test_times_of_a_source_are_shown_as_all_times_are(
    tmp_path: Path, clock: FakeClock
) -> None:
    """ISO 8601, over HTTP and on the command line; what is wanted, and the commit, too."""
    repository = Repository(tmp_path)
    repository.put("a.yaml", flow("a", "one"))
    async with opened(tmp_path, clock, {"name": "git", "url": repository.url}) as place:
        await place.reconcile("git")
        await place.app.sources.suspend("git")
        status = await place.app.sources.status("git")
        for shown in (as_json(status), plain(status)):
            source, wish = shown["source"], shown["wish"]
            times = [source["checked_at"], source["applied_at"], source["commit"]["committed_at"]]
            times += [wish["requested_at"], wish["held"]["at"]]
            assert [type(each) for each in times] == [str] * 5
            assert wish["held"]["at"] == iso(clock.now())
        assert plain(replace(status.source, counted_from=0))["counted_from"] == iso(0)


async def test_a_rollback_holds_until_a_person_resumes(tmp_path: Path, clock: FakeClock) -> None:
    """Commits that come meanwhile wait; running executions and their versions are untouched."""
    repository = Repository(tmp_path)
    first = repository.put("a.yaml", flow("a", "one"))
    async with opened(tmp_path, clock, {"name": "git", "url": repository.url}) as place:
        await place.reconcile("git")
        repository.put("a.yaml", flow("a", "two"))
        repository.put("b.yaml", flow("b"))
        await place.reconcile("git")
        assert await place.app.sources.rollback("git", first[:8]) == first
        outcome = await place.reconcile("git")
        assert outcome.drift.of(Fate.PRUNED) == ["b"]
        assert (await _status(place), await _says(place)) == (("held", "rollback"), "one")
        third = repository.put("a.yaml", flow("a", "three"))
        assert (await place.reconcile("git")).source.revision == first
        await place.app.sources.resume("git")
        assert (await place.reconcile("git")).source.revision == third
        kinds = [each.kind for each in await place.app.sources.history("git")]
        assert kinds == ["sync", "rollback", "sync", "sync"]
        assert (await place.names(), await _says(place)) == (["a", "b"], "three")


async def test_a_rollback_after_a_rollback_goes_further_back(
    tmp_path: Path, clock: FakeClock
) -> None:
    """Never forward to what was left; before the first there is none, and the source stays."""
    repository = Repository(tmp_path)
    commits = [repository.put("a.yaml", flow("a", each), each) for each in ("1", "2", "3")]
    source = {"name": "git", "url": repository.url, "branch": "main"}
    async with opened(tmp_path, clock, source) as place:
        for each in commits:
            repository.git("push", "--quiet", "--force", "origin", f"{each}:main")
            await place.reconcile("git")
        for earlier in (commits[1], commits[0]):
            assert await place.app.sources.rollback("git") == earlier
            assert (await place.reconcile("git")).source.revision == earlier
        with pytest.raises(Refused, match="no earlier revision"):
            await place.app.sources.rollback("git")
        await place.app.sources.resume("git")
        assert (await place.reconcile("git")).source.revision == commits[2]
        assert await place.app.sources.rollback("git", commits[0]) == commits[0]
        await place.reconcile("git")
        with pytest.raises(Refused, match="no earlier revision"):
            await place.app.sources.rollback("git")


async def test_a_rollback_does_not_return_to_what_one_left(
    tmp_path: Path, clock: FakeClock
) -> None:
    """Though a force push had brought it twice, before and after the live one."""
    repository = Repository(tmp_path)
    bad = repository.put("a.yaml", flow("a", "bad"))
    good = repository.put("a.yaml", flow("a", "good"))
    source = {"name": "git", "url": repository.url, "branch": "main"}
    async with opened(tmp_path, clock, source) as place:
        for each in (bad, good, bad):
            repository.git("push", "--quiet", "--force", "origin", f"{each}:main")
            await place.reconcile("git")
        assert await place.app.sources.rollback("git") == good
        await place.reconcile("git")
        with pytest.raises(Refused, match="no earlier revision"):
            await place.app.sources.rollback("git")


async def test_a_rollback_needs_a_revision_that_was_applied(
    tmp_path: Path, clock: FakeClock
) -> None:
    """Of a directory, of a source with one revision, or to an unknown one: refused, with why."""
    repository = Repository(tmp_path)
    repository.put("a.yaml", flow("a"))
    sources = (
        {"name": "git", "url": repository.url},
        {"name": "files", "directory": str(tmp_path / "definitions")},
    )
    async with opened(tmp_path, clock, *sources) as place:
        await place.reconcile("git")
        await place.reconcile("files")
        for name, revision, says in (
            ("git", None, "no earlier revision"),
            ("git", "abcdef", "no revision"),
            ("files", None, "keeps no earlier revisions"),
            (None, None, "more than one source"),
        ):
            with pytest.raises(Refused, match=says):
                await place.app.sources.rollback(name, revision)


async def test_a_rollback_holds_where_the_mirror_is_lost(tmp_path: Path, clock: FakeClock) -> None:
    """Or is another controller's: the commit is fetched; one that is nowhere is refused."""
    repository = Repository(tmp_path)
    first = repository.put("a.yaml", flow("a", "one"))
    async with opened(tmp_path, clock, {"name": "git", "url": repository.url}) as place:
        await place.reconcile("git")
        repository.put("a.yaml", flow("a", "two"))
        await place.reconcile("git")
        await place.app.sources.rollback("git")
        shutil.rmtree(place.app.homes)
        for _ in range(2):
            await place.reconcile("git")
            assert (await _status(place), await _says(place)) == (("held", "rollback"), "one")
            assert (await place.app.sources.status("git")).source.revision == first
        shutil.rmtree(place.app.homes)
        moved = repository.bare.rename(tmp_path / "away.git")
        await place.reconcile("git")
        assert await _status(place) == ("failed", "not-found")
        moved.rename(repository.bare)
        repository.git("checkout", "--quiet", "--orphan", "other")
        repository.commit("Another history", push=False)
        repository.git("push", "--quiet", "--force", "origin", "other:main")
        run("git", "--git-dir", repository.bare, "gc", "--quiet", "--prune=now")
        await place.reconcile("git")
        assert await _status(place) == ("rejected", "not-found")
        assert await _says(place) == "one"


@pytest.mark.parametrize("kind", ["git", "directory"])
async def test_mass_deletion_waits_for_a_person(
    tmp_path: Path, clock: FakeClock, kind: str
) -> None:
    """More than half of a source at once: held as a whole; approved, that revision is applied."""
    repository = Repository(tmp_path)
    place_of = {"git": repository.work, "directory": tmp_path / "definitions"}
    source: dict[str, dict[str, Any]] = {
        "git": {"url": repository.url},
        "directory": {"directory": place_of["directory"]},
    }
    async with opened(tmp_path, clock, {"name": kind, **source[kind]}) as place:
        for name in "abcd":
            repository.write(f"{name}.yaml", flow(name, "one"))
        repository.commit()
        _mirror(repository, place_of[kind])
        await place.reconcile(kind)
        for name in "abc":
            (repository.work / f"{name}.yaml").unlink()
        repository.put("d.yaml", flow("d", "two"))
        _mirror(repository, place_of[kind])
        for _ in range(2):
            await place.reconcile(kind)
            assert await _status(place, kind) == ("held", "prune-limit")
        assert await place.names() == list("abcd")
        assert await _says(place, "d") == "one"
        await place.app.sources.approve(kind)
        await place.reconcile(kind)
        assert (await _status(place, kind), await place.names()) == (("ready", None), ["d"])
        with pytest.raises(Refused, match="does not wait"):
            await place.app.sources.approve(kind)


async def test_what_was_not_applied_is_weighed_with_whatever_changes_next(
    tmp_path: Path, clock: FakeClock
) -> None:
    """Events name one file only; what is broken or gone besides keeps it back all the same."""
    source = {"name": "files", "directory": str(tmp_path / "definitions")}
    async with opened(tmp_path, clock, source | {"on_invalid": "reject_revision"}) as place:
        for name in "abcd":
            place.write(f"{name}.yaml", flow(name, "one"))
        reconciler = place.reconciler("files")
        await reconciler.reconcile()

        async def look(path: str, text: str | None) -> tuple[str, str | None]:
            place.write(path, text) if text else (place.root / path).unlink()
            assert isinstance(reconciler._origin, FromDirectory)
            reconciler._origin._hint = Hint(frozenset({path}))
            source = (await reconciler.reconcile(whole=False)).source
            return source.phase, source.reason

        assert await look("a.yaml", BROKEN) == ("rejected", "invalid-files")
        assert await look("b.yaml", flow("b", "two")) == ("rejected", "invalid-files")
        assert await _says(place, "b") == "one"
        assert await look("a.yaml", flow("a", "two")) == ("ready", None)
        assert (await _says(place), await _says(place, "b")) == ("two", "two")
        assert await look("a.yaml", None) == ("ready", None)
        assert await look("b.yaml", None) == ("ready", None)
        assert await look("c.yaml", None) == ("held", "prune-limit")
        assert await look("d.yaml", flow("d", "two")) == ("held", "prune-limit")
        assert (await place.names(), await _says(place, "d")) == (["c", "d"], "one")
        assert await look("c.yaml", flow("c", "two")) == ("ready", None)
        assert (await _says(place, "c"), await _says(place, "d")) == ("two", "two")


def _mirror(repository: Repository, target: Path) -> None:
    """The work tree's files in a directory, if that is the source."""
    if target != repository.work:
        shutil.rmtree(target)
        shutil.copytree(repository.work, target, ignore=shutil.ignore_patterns(".git"))


async def test_an_approval_is_of_one_revision(tmp_path: Path, clock: FakeClock) -> None:
    """Another one that would delete as much waits again."""
    repository = Repository(tmp_path)
    for name in "abcd":
        repository.write(f"{name}.yaml", flow(name))
    repository.commit()
    async with opened(tmp_path, clock, {"name": "git", "url": repository.url}) as place:
        await place.reconcile("git")
        repository.git("rm", "--quiet", "a.yaml", "b.yaml", "c.yaml")
        repository.commit()
        await place.reconcile("git")
        await place.app.sources.approve("git")
        repository.git("rm", "--quiet", "d.yaml")
        repository.commit()
        await place.reconcile("git")
        assert await _status(place) == ("held", "prune-limit")
        assert await place.names() == list("abcd")


async def _approved(repository: Repository, place: Place) -> tuple[str, str]:
    """The commits before and after two of three workflows went, which a person approved of."""
    for name in "abc":
        repository.write(f"{name}.yaml", flow(name))
    full = repository.commit()
    await place.reconcile("git")
    repository.git("rm", "--quiet", "a.yaml", "b.yaml")
    less = repository.commit()
    await place.reconcile("git")
    await place.app.sources.approve("git")
    return full, less


async def test_an_approval_is_used_up(tmp_path: Path, clock: FakeClock) -> None:
    """By the revision it was given for: that this one comes again is for a person again."""
    repository = Repository(tmp_path)
    async with opened(tmp_path, clock, {"name": "git", "url": repository.url}) as place:
        full, less = await _approved(repository, place)
        await place.reconcile("git")
        assert (await _status(place), await place.names()) == (("ready", None), ["c"])
        await clock.advance(HOUR)
        for commit, phase in ((full, "ready"), (less, "held")):
            repository.git("push", "--quiet", "--force", "origin", f"{commit}:main")
            assert (await place.reconcile("git")).source.phase == phase
        assert await place.names() == list("abc")


async def test_an_approval_is_used_up_by_any_revision(tmp_path: Path, clock: FakeClock) -> None:
    """What was approved did not come, the files did: when it comes later, it waits again."""
    repository = Repository(tmp_path)
    async with opened(tmp_path, clock, {"name": "git", "url": repository.url}) as place:
        full, less = await _approved(repository, place)
        for commit, phase in ((full, "ready"), (less, "held")):
            repository.git("push", "--quiet", "--force", "origin", f"{commit}:main")
            assert (await place.reconcile("git")).source.phase == phase
        assert await place.names() == list("abc")


@pytest.mark.parametrize(("seconds", "back"), [(1, "abc"), (3600, "ab")])
async def test_what_went_before_counts_until_it_is_decided(
    tmp_path: Path, clock: FakeClock, seconds: int, back: str
) -> None:
    """Whatever restarts meanwhile, and for a plan too; then only what went within a minute."""
    async with opened(tmp_path, clock) as place:
        for name in "abcdefghij":
            place.write(f"{name}.yaml", flow(name))
        await place.reconcile()
        _remove(place, "abcd")
        assert (await place.reconcile()).source.phase == "ready"
        _remove(place, "ef")
        held = (await place.reconcile()).source
        assert (held.phase, "6 of 10 workflows" in (held.message or "")) == ("held", True)
        await clock.advance(seconds * 1000)
        assert (await place.app.sources.plan()).refusal == held.message
        assert (await place.reconcile()).source.message == held.message
        assert await place.names() == list("efghij")
        for name in back + "ef":
            place.write(f"{name}.yaml", flow(name))
        assert (await place.reconcile()).source.phase == "ready"
        _remove(place, "efgh")
        assert (await place.reconcile()).source.phase == "ready", "what came back does not count"
        assert await place.names() == list(back + "ij")


def _remove(place: Place, names: str) -> None:
    for name in names:
        (place.root / f"{name}.yaml").unlink()


SCHEDULED = flow("a", "one") + ("triggers:\n  - type: scheduled\n    config: {cron: '0 3 * * *'}\n")


@pytest.mark.parametrize(
    "damage",
    [
        lambda tx: tx.execute(workflows.update().values(digest=_other(tx))),
        lambda tx: tx.execute(workflows.update().values(status="archived")),
        lambda tx: tx.execute(workflows.delete().where(workflows.c.id == "a")),
        lambda tx: tx.execute(workflow_schedules.delete()),
        lambda tx: ledger.cancel_schedule(tx, ledger.schedules(tx)[0].id, 1),
    ],
)
async def test_what_is_not_as_the_source_says_is_put_back(
    tmp_path: Path, clock: FakeClock, damage: Any
) -> None:
    """A digest, a status, a row or a schedule, changed behind its back: repaired, and said."""
    repository = Repository(tmp_path)
    repository.write("b.yaml", flow("b"))
    repository.put("a.yaml", SCHEDULED)
    async with opened(tmp_path, clock, {"name": "git", "url": repository.url}) as place:
        reconciler = place.reconciler("git")
        await reconciler.reconcile()
        before = await place.app.service.get_workflow("a")
        await place.app.store.write(damage)
        outcome = await reconciler.reconcile()
        assert "a" in outcome.repaired
        after = await place.app.service.get_workflow("a")
        assert (after.digest, after.status) == (before.digest, "active")
        [schedule] = await place.app.service.list_schedules("a")
        assert schedule.next_run_at is not None
        assert (await reconciler.reconcile()).repaired == ()


def _other(tx: Transaction) -> str:
    return ledger.catalog(tx)["b"].digest


async def test_an_execution_shows_the_commit_it_came_from(tmp_path: Path, clock: FakeClock) -> None:
    """The one that was live when it was created, whatever is committed meanwhile."""
    repository = Repository(tmp_path)
    first = repository.put("a.yaml", flow("a", "one"), "The first")
    async with opened(tmp_path, clock, {"name": "git", "url": repository.url}) as place:
        await place.reconcile("git")
        execution = await place.app.service.execute_workflow("a")
        repository.put("a.yaml", flow("a", "two"))
        await place.reconcile("git")
        view = await place.app.service.get_workflow_status(execution.id)
        assert view.commit is not None
        assert (view.commit["id"], view.commit["subject"]) == (first, "The first")


async def test_a_source_that_is_not_configured_any_more_is_kept_until_forgotten(
    tmp_path: Path, clock: FakeClock
) -> None:
    """Its workflows go on and its status says so; forgotten, they and its mirror go."""
    repository = Repository(tmp_path)
    repository.put("a.yaml", flow("a"))
    async with opened(tmp_path, clock, {"name": "git", "url": repository.url}) as place:
        await place.reconcile("git")
        with pytest.raises(Refused, match="is in the settings"):
            await place.app.sources.forget("git")
    async with opened(tmp_path, clock) as place:
        await place.app.store.write(mark_removed, ["definitions"])
        assert await _status(place) == ("removed", "not-configured")
        assert await place.names() == ["a"]
        mirror = place.app.homes / "git" / "mirror.git"
        assert mirror.is_dir()
        assert await place.app.sources.forget("git") == 1
        assert await place.names() == []
        assert not mirror.parent.exists()


async def test_a_source_that_a_controller_follows_is_not_forgotten_elsewhere(
    tmp_path: Path, clock: FakeClock
) -> None:
    """By a command with other settings: refused, unless the controller has no such source."""
    repository = Repository(tmp_path)
    repository.put("a.yaml", flow("a"))
    async with opened(tmp_path, clock, {"name": "git", "url": repository.url}) as place:
        await place.reconcile("git")
        await place.app.sources.suspend("git")
        other = Settings(state_dir=tmp_path / "state", source=str(tmp_path / "elsewhere"))
        command = App(other, place.app.store, clock).sources
        with place.app.lock("controller").acquire(clock.now()):
            with pytest.raises(Refused, match=f"followed by process {os.getpid()}") as refusal:
                await command.forget("git")
            assert "restart the controller without it" in (refusal.value.hint or "")
            assert await place.names() == ["a"]
            assert (place.app.homes / "git" / "mirror.git").is_dir()
            assert (await place.app.store.read(ledger.wish, "git")).held is not None
            await place.app.store.write(mark_removed, ["elsewhere"])
            assert await command.forget("git") == 1
        await place.reconcile("git")
        assert await place.names() == ["a"]
        assert await command.forget("git") == 1  # nobody is at work


def test_a_mirror_is_unused_unless_a_repository_of_its_name_is_followed(tmp_path: Path) -> None:
    """One that became a directory has none either; and where nothing was followed there is none."""
    homes = tmp_path / "sources"
    assert unused_homes(homes, {}) == []
    for name in ("followed", "directory", "gone"):
        (homes / name / "mirror.git").mkdir(parents=True)
    specs = {
        "followed": SourceSpec(name="followed", url="file:///w.git"),
        "directory": SourceSpec(name="directory", directory=tmp_path),
    }
    assert sorted(unused_homes(homes, specs)) == ["directory", "gone"]
