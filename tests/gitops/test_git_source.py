"""A repository is a source: what its branch, tag, range or commit says is what the database has."""

import os
import shutil
from pathlib import Path

import pytest

from controller.core.drift import Fate
from tests.fake_clock import FakeClock
from tests.gitops.repository import Repository, run
from tests.service.place import ACTION, Place, flow, opened


async def _digest(place: Place, name: str) -> str:
    return (await place.app.service.get_workflow(name)).digest


async def test_a_commit_becomes_what_runs(tmp_path: Path, clock: FakeClock) -> None:
    """Created, updated and pruned by commits; the status has the commit, author and subject."""
    repository = Repository(tmp_path)
    repository.write("a.yaml", flow("a", "one"))
    repository.write("sub/b.yml", flow("b"))
    repository.write(".github/c.yaml", flow("c"))
    first = repository.commit("Two workflows")
    async with opened(tmp_path, clock, {"name": "git", "url": repository.url}) as place:
        outcome = await place.reconcile("git")
        assert outcome.drift.of(Fate.CREATED) == ["a", "b"]
        assert (outcome.source.phase, outcome.source.revision) == ("ready", first)
        repository.write("a.yaml", flow("a", "two"))
        repository.git("rm", "--quiet", "sub/b.yml")
        second = repository.commit("One changes, one goes")
        outcome = await place.reconcile("git")
        assert (outcome.drift.of(Fate.UPDATED), outcome.drift.of(Fate.PRUNED)) == (["a"], ["b"])
        commit = outcome.source.commit
        assert commit is not None
        assert (commit["id"], commit["author"]) == (second, "Ada")
        assert commit["subject"] == "One changes, one goes"
        history = await place.app.sources.history("git")
        assert [each.revision for each in history] == [second, first]
        assert (await place.app.service.get_workflow("a")).revision == second


async def test_a_repository_without_its_history_is_followed(
    tmp_path: Path, clock: FakeClock
) -> None:
    """A shallow clone, such as one made to save time, gives out the commits that it has."""
    repository = Repository(tmp_path)
    repository.put("a.yaml", flow("a", "one"))
    repository.put("a.yaml", flow("a", "two"))
    shallow = tmp_path / "shallow.git"
    clone = ("git", "clone", "--quiet", "--bare", "--depth=1", repository.url, shallow)
    run(*clone)
    async with opened(tmp_path, clock, {"name": "git", "url": f"file://{shallow}"}) as place:
        outcome = await place.reconcile("git")
        assert (outcome.source.phase, outcome.source.revision) == ("ready", repository.head())
        repository.put("a.yaml", flow("a", "three"))
        for deeper in (("fetch", "--quiet", "origin", "main:main"), ("fetch", "--unshallow")):
            run("git", *deeper, cwd=shallow)
            outcome = await place.reconcile("git")
            assert (outcome.source.phase, outcome.source.revision) == ("ready", repository.head())
        shutil.rmtree(shallow)
        repository.put("a.yaml", flow("a", "four"))
        run(*clone)
        assert (await place.reconcile("git")).drift.of(Fate.UPDATED) == ["a"]


async def test_one_reconciler_reads_only_what_changed(tmp_path: Path, clock: FakeClock) -> None:
    """The same process goes from commit to commit by their difference, and ends the same."""
    repository = Repository(tmp_path)
    for number in range(20):
        repository.write(f"w{number}.yaml", flow(f"w{number}"))
    repository.commit()
    async with opened(tmp_path, clock, {"name": "git", "url": repository.url}) as place:
        reconciler = place.reconciler("git")
        await reconciler.reconcile()
        repository.write("w3.yaml", flow("w3", "new"))
        repository.write("extra/w20.yaml", flow("w20"))
        (repository.work / "w7.yaml").unlink()
        repository.git("mv", "w8.yaml", "moved.yaml")
        repository.commit()
        outcome = await reconciler.reconcile(whole=False)
        fates = {fate: outcome.drift.of(fate) for fate in Fate if outcome.drift.of(fate)}
        assert fates == {Fate.CREATED: ["w20"], Fate.UPDATED: ["w3", "w8"], Fate.PRUNED: ["w7"]}
        assert reconciler._library is not None
        assert reconciler._library.revision == repository.head(), "the next look begins there"
        assert (await place.reconcile("git")).drift.changes is False


async def test_what_moves_and_breaks_at_once_is_not_gone(tmp_path: Path, clock: FakeClock) -> None:
    """A file is renamed with a mistake in it: its workflow stays, also at the next look."""
    repository = Repository(tmp_path)
    repository.write("a.yaml", flow("a"))
    repository.write("other.yaml", flow("other"))
    repository.commit()
    async with opened(tmp_path, clock, {"name": "git", "url": repository.url}) as place:
        reconciler = place.reconciler("git")
        await reconciler.reconcile()
        repository.git("mv", "a.yaml", "b.yaml")
        repository.write("b.yaml", flow("a", action="sett"))
        repository.commit()
        for found in (["a"], []):  # the second look finds nothing that has changed
            outcome = await reconciler.reconcile()
            assert (outcome.drift.of(Fate.INVALID), outcome.invalid) == (found, ("b.yaml",))
            assert await place.names() == ["a", "other"]
        repository.write("b.yaml", flow("a", "two"))
        repository.commit()
        assert (await reconciler.reconcile()).drift.of(Fate.UPDATED) == ["a"]


@pytest.mark.parametrize(
    ("follows", "expected"),
    [
        ({}, "main"),
        ({"branch": "next"}, "next"),
        ({"tag": "v1.2.0"}, "v1.2.0"),
        ({"semver": "^1"}, "v1.10.0"),
        ({"semver": ">=1, <1.10"}, "v1.9.0"),
    ],
)
async def test_a_source_follows_what_it_names(
    tmp_path: Path, clock: FakeClock, follows: dict[str, str], expected: str
) -> None:
    """The default branch, another one, a tag, or the newest tag in a range of versions."""
    repository = Repository(tmp_path)
    for name in ("v1.2.0", "v1.9.0", "v1.10.0", "v2.0.0-rc.1"):
        repository.put("a.yaml", flow("a", name))
        repository.git("tag", "--annotate", "--message", name, name)
    repository.push("--tags")
    repository.put("a.yaml", flow("a", "main"))
    repository.git("checkout", "--quiet", "-b", "next")
    repository.put("a.yaml", flow("a", "next"))
    async with opened(tmp_path, clock, {"name": "git", "url": repository.url, **follows}) as place:
        await place.reconcile("git")
        assert (await place.app.service.get_workflow("a")).description == expected


async def test_a_name_that_is_no_text_keeps_no_range_back(tmp_path: Path, clock: FakeClock) -> None:
    """Git takes a tag of any bytes, from anybody who may push."""
    repository = Repository(tmp_path)
    first = repository.put("a.yaml", flow("a", "one"))
    name = os.fsdecode(b"refs/tags/v9-\xff")
    for reference in (name, "refs/tags/v1.0.0"):
        run("git", "update-ref", reference, first, cwd=repository.bare)
    source = {"name": "git", "url": repository.url, "semver": "1.x"}
    async with opened(tmp_path, clock, source) as place:
        assert (await place.reconcile("git")).source.revision == first


async def test_one_commit_can_be_followed(tmp_path: Path, clock: FakeClock) -> None:
    """Whatever the branch does, and without asking the repository again."""
    repository = Repository(tmp_path)
    first = repository.put("a.yaml", flow("a", "one"))
    repository.put("a.yaml", flow("a", "two"))
    source = {"name": "git", "url": repository.url, "commit": first}
    async with opened(tmp_path, clock, source) as place:
        assert (await place.reconcile("git")).source.revision == first
        shutil.rmtree(repository.bare)
        assert (await place.reconcile("git")).source.phase == "ready"


async def test_a_path_below_the_root_is_the_source(tmp_path: Path, clock: FakeClock) -> None:
    """Other files of the repository are nobody's; a path that goes away prunes nothing."""
    repository = Repository(tmp_path)
    repository.write("docs/broken.yaml", "name: [")
    repository.put("team/flows/a.yaml", flow("a"))
    source = {"name": "git", "url": repository.url, "path": "team/flows"}
    async with opened(tmp_path, clock, source) as place:
        assert (await place.reconcile("git")).drift.of(Fate.CREATED) == ["a"]
        repository.git("mv", "team/flows", "elsewhere")
        repository.commit()
        source_now = (await place.reconcile("git")).source
        assert (source_now.phase, source_now.reason) == ("rejected", "path-gone")
        assert await place.names() == ["a"]


async def test_a_path_that_is_set_otherwise_is_followed_at_once(
    tmp_path: Path, clock: FakeClock
) -> None:
    """Though the commit is the same; and a daemon that starts before it was applied still knows."""
    repository = Repository(tmp_path)
    repository.write("one/a.yaml", flow("a"))
    repository.write("one/c.yaml", flow("c", "one"))
    repository.write("two/c.yaml", flow("c", "two"))
    commit = repository.put("two/b.yaml", flow("b"))
    source = {"name": "git", "url": repository.url, "prune_limit": 0}
    async with opened(tmp_path, clock, source | {"path": "one"}) as place:
        await place.reconcile("git")
    async with opened(tmp_path, clock, source | {"path": "two"}) as place:
        for _ in range(2):
            found = (await place.reconcile("git")).source
            assert (found.phase, found.reason) == ("held", "prune-limit")
        assert await place.names() == ["a", "c"]
        assert await place.app.sources.approve("git") == commit
        outcome = await place.reconcile("git")
        fates = outcome.drift.fates
        assert fates == {"a": Fate.PRUNED, "b": Fate.CREATED, "c": Fate.UPDATED}
        assert outcome.source.phase == "ready"
        assert (await place.app.service.get_workflow("c")).description == "two"


async def test_rewritten_history_is_followed_and_said(tmp_path: Path, clock: FakeClock) -> None:
    """A force push is applied like any commit; the history says that it was rewritten."""
    repository = Repository(tmp_path)
    repository.put("a.yaml", flow("a", "zero"))
    gone = repository.put("a.yaml", flow("a", "one"))
    async with opened(tmp_path, clock, {"name": "git", "url": repository.url}) as place:
        await place.reconcile("git")
        repository.git("reset", "--quiet", "--hard", "HEAD~1")
        other = repository.put("a.yaml", flow("a", "another"))
        assert (await place.reconcile("git")).source.revision == other
        newest, before = await place.app.sources.history("git")
        assert (newest.rewritten, before.revision, before.rewritten) == (True, gone, False)


async def test_a_vanished_branch_changes_nothing(tmp_path: Path, clock: FakeClock) -> None:
    """The status says that the reference is gone; when it comes back it is followed again."""
    repository = Repository(tmp_path)
    repository.put("a.yaml", flow("a"))
    source = {"name": "git", "url": repository.url, "branch": "main"}
    async with opened(tmp_path, clock, source) as place:
        await place.reconcile("git")
        run("git", "--git-dir", str(repository.bare), "branch", "--quiet", "-D", "main")
        found = (await place.reconcile("git")).source
        assert (found.phase, found.reason, found.failures) == ("failed", "ref-gone", 1)
        assert found.next_at is not None
        assert await place.names() == ["a"]
        again = repository.put("a.yaml", flow("a", "two"))
        found = (await place.reconcile("git")).source
        assert (found.phase, found.revision, found.failures) == ("ready", again, 0)


async def test_a_moved_repository_keeps_what_it_has(tmp_path: Path, clock: FakeClock) -> None:
    """At its old address: failed, nothing changes. At the new one: the same commit, no change."""
    repository = Repository(tmp_path)
    first = repository.put("a.yaml", flow("a"))
    async with opened(tmp_path, clock, {"name": "git", "url": repository.url}) as place:
        await place.reconcile("git")
        digest = await _digest(place, "a")
        moved = tmp_path / "moved.git"
        repository.bare.rename(moved)
        found = (await place.reconcile("git")).source
        assert (found.phase, found.reason) == ("failed", "not-found")
    async with opened(tmp_path, clock, {"name": "git", "url": f"file://{moved}"}) as place:
        outcome = await place.reconcile("git")
        assert (outcome.source.phase, outcome.source.revision) == ("ready", first)
        assert outcome.drift.changes is False
        assert await _digest(place, "a") == digest


async def test_a_submodule_refuses_the_revision(tmp_path: Path, clock: FakeClock) -> None:
    """Files that would be left out are not taken for files that are gone."""
    repository = Repository(tmp_path)
    inner = Repository(tmp_path, "inner")
    inner.put("x.yaml", flow("x"))
    good = repository.put("flows/x.yaml", flow("x"))
    async with opened(tmp_path, clock, {"name": "git", "url": repository.url}) as place:
        await place.reconcile("git")
        repository.git("rm", "-r", "--quiet", "flows")
        repository.git(
            "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", inner.url, "flows"
        )
        repository.commit("A submodule instead")
        found = (await place.reconcile("git")).source
        assert (found.phase, found.reason, found.revision) == ("rejected", "submodule", good)
        assert "`flows` is a submodule" in (found.message or "")
        assert await place.names() == ["x"]


async def test_an_lfs_pointer_is_not_a_definition(tmp_path: Path, clock: FakeClock) -> None:
    """The file is invalid and says what it is; its last good version stays."""
    repository = Repository(tmp_path)
    repository.put("a.yaml", flow("a"))
    async with opened(tmp_path, clock, {"name": "git", "url": repository.url}) as place:
        await place.reconcile("git")
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 1\n"
        repository.put("a.yaml", pointer)
        assert (await place.reconcile("git")).invalid == ("a.yaml",)
        status = await place.app.sources.status("git")
        assert status.files[0].problems[0]["code"] == "lfs-pointer"
        assert await place.names() == ["a"]


async def test_links_stand_for_the_file_they_lead_to(tmp_path: Path, clock: FakeClock) -> None:
    """Within the source only; a link's target that changes changes what the link says."""
    repository = Repository(tmp_path)
    repository.write("shared/act.txt", ACTION.format(name="greet", text="one"))
    repository.put("a.yaml", flow("a", action="greet"))
    (repository.work / "act.yaml").symlink_to("shared/act.txt")
    (repository.work / "out.yaml").symlink_to("/etc/hostname")
    async with opened(tmp_path, clock, {"name": "git", "url": repository.url}) as place:
        reconciler = place.reconciler("git")
        assert (await reconciler.reconcile()).invalid == ("a.yaml",)
        repository.commit()
        outcome = await reconciler.reconcile(whole=False)
        assert (outcome.drift.of(Fate.CREATED), outcome.invalid) == (["a"], ("out.yaml",))
        repository.put("shared/act.txt", ACTION.format(name="greet", text="two"))
        assert (await reconciler.reconcile(whole=False)).drift.of(Fate.UPDATED) == ["a"]


async def test_a_damaged_mirror_is_fetched_anew(tmp_path: Path, clock: FakeClock) -> None:
    """Objects that are lost cost one failed look, and no workflow."""
    repository = Repository(tmp_path)
    repository.put("a.yaml", flow("a"))
    async with opened(tmp_path, clock, {"name": "git", "url": repository.url}) as place:
        await place.reconcile("git")
        mirror = place.app.settings.state_dir / "sources" / "git" / "mirror.git"
        for each in (mirror / "objects").glob("??/*"):
            each.chmod(0o600)
            each.write_bytes(b"")
        repository.put("a.yaml", flow("a", "two"))
        looks = [(await place.reconcile("git")).source.phase for _ in range(2)]
        assert looks[-1] == "ready", await place.app.sources.status("git")
        assert (await place.app.service.get_workflow("a")).description == "two"


async def test_sources_stand_side_by_side(tmp_path: Path, clock: FakeClock) -> None:
    """Each owns what it brought; one that does not prune keeps; a name has one owner."""
    one, two = Repository(tmp_path, "one"), Repository(tmp_path, "two")
    one.write("a.yaml", flow("a", "one"))
    one.put("b.yaml", flow("b", "one"))
    two.write("c.yaml", flow("c", "two"))
    two.put("a.yaml", flow("a", "two"))
    sources = (
        {"name": "one", "url": one.url},
        {"name": "two", "url": two.url, "prune": False},
    )
    async with opened(tmp_path, clock, *sources) as place:
        await place.reconcile("one")
        outcome = await place.reconcile("two")
        assert outcome.drift.owner == {"a": "one"}
        assert outcome.invalid == ("a.yaml",)
        origins = {each.name: each.origin for each in await place.app.service.list_workflows()}
        assert origins == {"a": "one", "b": "one", "c": "two"}
        two.git("rm", "--quiet", "c.yaml")
        two.commit()
        assert (await place.reconcile("two")).drift.of(Fate.KEPT) == ["c"]
        one.git("rm", "--quiet", "b.yaml")
        one.commit()
        assert (await place.reconcile("one")).drift.of(Fate.PRUNED) == ["b"]
        assert await place.names() == ["a", "c"]


async def test_a_rollback_can_go_where_history_was_rewritten(
    tmp_path: Path, clock: FakeClock
) -> None:
    """What was applied is kept in the mirror, whatever a force push and gc take away elsewhere."""
    repository = Repository(tmp_path)
    first = repository.put("a.yaml", flow("a", "one"))
    async with opened(tmp_path, clock, {"name": "git", "url": repository.url}) as place:
        await place.reconcile("git")
        repository.write("a.yaml", flow("a", "two"))
        repository.commit("Change", "--amend")
        await place.reconcile("git")
        mirror = place.app.settings.state_dir / "sources" / "git" / "mirror.git"
        run("git", "--git-dir", str(mirror), "gc", "--quiet", "--prune=now")
        assert await place.app.sources.rollback("git") == first
        source = (await place.reconcile("git")).source
        assert (source.phase, source.reason, source.revision) == ("held", "rollback", first)
        assert (await place.app.service.get_workflow("a")).description == "one"


async def test_what_is_live_is_kept_in_a_mirror_that_was_lost_too(
    tmp_path: Path, clock: FakeClock
) -> None:
    """Fetched anew, it is kept as it was when it was applied: a rollback can go there."""
    repository = Repository(tmp_path)
    first = repository.put("a.yaml", flow("a", "one"))
    async with opened(tmp_path, clock, {"name": "git", "url": repository.url}) as place:
        await place.reconcile("git")
        shutil.rmtree(place.app.homes)
        await place.reconcile("git")
        repository.write("a.yaml", flow("a", "two"))
        repository.commit("Change", "--amend")
        await place.reconcile("git")
        for bare in (place.app.homes / "git" / "mirror.git", repository.bare):
            run("git", "--git-dir", bare, "gc", "--quiet", "--prune=now")
        assert await place.app.sources.rollback("git") == first
        assert (await place.reconcile("git")).source.revision == first


async def test_what_another_source_brings_mends_this_one(tmp_path: Path, clock: FakeClock) -> None:
    """A subflow that another origin owns comes, changes its inputs, and goes: each is noticed."""
    one, two = Repository(tmp_path, "one"), Repository(tmp_path, "two")
    step = "  - {id: a, type: subflow, subflow: child, inputs: {day: today}}\n"
    one.put("parent.yaml", f"name: parent\nsteps:\n{step}")
    two.put("other.yaml", flow("other"))
    sources = ({"name": "one", "url": one.url}, {"name": "two", "url": two.url})
    child = flow("child") + "inputs:\n  - {name: day, type: string}\n"
    async with opened(tmp_path, clock, *sources) as place:
        first, second = place.reconciler("one"), place.reconciler("two")
        assert (await first.reconcile()).invalid == ("parent.yaml",)
        await second.reconcile()
        assert (await first.reconcile()).invalid == ("parent.yaml",)
        two.put("child.yaml", child)
        await second.reconcile()
        assert (await first.reconcile()).drift.of(Fate.CREATED) == ["parent"]
        two.put("child.yaml", child.replace("day", "night"))
        await second.reconcile()
        assert (await first.reconcile()).invalid == ("parent.yaml",)
        two.put("child.yaml", child)
        await second.reconcile()
        assert (await first.reconcile()).invalid == ()
        two.git("rm", "--quiet", "child.yaml")
        two.commit()
        await second.reconcile()
        assert (await first.reconcile()).invalid == ("parent.yaml",)
