"""A mirror that several use, and what git leaves in it that is ended in the middle of something."""

import asyncio
import os
import signal
import subprocess
from pathlib import Path
from shlex import quote

import pytest

from controller.given import git_environment
from controller.source.checkout import Checkout
from controller.source.git import Git, GitError
from controller.source.mirror import PLANS, Mirror
from controller.source.spec import SourceSpec
from tests.actions.stage import is_alive
from tests.eventually import eventually, wait_until
from tests.fake_clock import FakeClock
from tests.gitops.repository import Repository, run
from tests.service.place import Place, flow, opened

LARGEST = 1_000_000


def _path(place: Place) -> Path:
    return place.app.homes / "git" / "mirror.git"


def _temporary(mirror: Path) -> list[Path]:
    return [each for each in mirror.rglob("*") if each.name.startswith(("tmp_", ".tmp-"))]


def _half_a_pack(repository: Repository) -> Path:
    """The first half of a pack, which git takes for the beginning of one."""
    repository.put("big", os.urandom(20_000).hex())
    pack = subprocess.run(
        ["git", "pack-objects", "--stdout", "--revs", "--quiet"],
        cwd=repository.work,
        input=b"HEAD\n",
        capture_output=True,
        check=True,
    ).stdout
    half = repository.bare / "half"
    half.write_bytes(pack[: len(pack) // 2])
    return half


@pytest.fixture(params=["closed", "late"])
def ending(request: pytest.FixtureRequest) -> str:
    """Why git is ended."""
    return str(request.param)


async def test_git_removes_its_locks_when_it_is_ended(tmp_path: Path, ending: str) -> None:
    """Because of the timeout, or of a stop: nobody has to do it afterwards."""
    repository = Repository(tmp_path)
    commit = repository.put("a.yaml", flow("a"))
    git = Git(tmp_path / "home", git_environment(), SourceSpec(name="s", url=repository.url))
    git.local("clone", "--quiet", "--mirror", repository.url, str(tmp_path / "home/mirror.git"))
    lines = f"start\\nupdate refs/windlass/target {commit}\\nprepare\\n"
    alias = f"!(printf '{lines}'; exec sleep 600) | git update-ref --stdin"
    asked = asyncio.create_task(
        asyncio.to_thread(git.run, ("-c", f"alias.wait={alias}", "wait"), seconds=3)
    )
    lock = tmp_path / "home/mirror.git/refs/windlass/target.lock"
    await eventually(lock.exists, "it is at it")
    if ending == "closed":
        git.close()
    with pytest.raises(GitError) as caught:
        await asked
    assert caught.value.reason == {"closed": "stopping", "late": "timeout"}[ending]
    assert not lock.exists()


async def test_fetches_that_take_too_long_do_not_pile_up(tmp_path: Path) -> None:
    """Git leaves the part of a pack that is here; the next try begins without it."""
    repository = Repository(tmp_path)
    (repository.work / "big").write_bytes(os.urandom(200_000))
    head = repository.commit()
    ssh, whole = tmp_path / "bin" / "ssh", tmp_path / "whole"
    ssh.parent.mkdir()
    serve = f"git-upload-pack {quote(str(repository.bare))}"
    slow = f"{serve} | (head -c 100000; exec sleep 600)"
    ssh.write_text(f"#!/bin/sh\nif [ -e {quote(str(whole))} ]; then {serve}; else {slow}; fi\n")
    ssh.chmod(0o755)
    usual = git_environment()
    spec = SourceSpec(name="s", url="ssh://nowhere.invalid/x.git", timeout=1_000)
    home = tmp_path / "home"
    path = {"PATH": f"{ssh.parent}:{usual['PATH']}"}
    checkout = Checkout(spec, home, usual | path, LARGEST)
    for _ in range(3):
        with pytest.raises(GitError) as caught:
            await asyncio.to_thread(checkout.refresh)
        assert caught.value.reason == "timeout"
        assert len(_temporary(home / "mirror.git")) <= 1
    whole.touch()
    checkout = Checkout(spec.model_copy(update={"timeout": 60_000}), home, usual | path, LARGEST)
    assert checkout.refresh().id == head
    assert _temporary(home / "mirror.git") == []


@pytest.mark.parametrize("deaf", ["alone", "waiting"])
async def test_what_does_not_end_when_it_is_asked_is_killed(
    tmp_path: Path, ending: str, deaf: str
) -> None:
    """With all that git started: what it waits for, and what nobody does."""
    git = Git(tmp_path / "home", git_environment(), SourceSpec(name="s", url="file:///x.git"))
    deafness = {"alone": "", "waiting": ""} | {deaf: 'trap "" TERM; '}
    alone = f"{deafness['alone']}echo $$ > alone; exec sleep 600"
    alone = f"sh -c '{alone}' < /dev/null > /dev/null 2>&1 &"
    alias = f"!{alone} {deafness['waiting']}echo $$ > waiting; exec sleep 600"
    asked = asyncio.create_task(
        asyncio.to_thread(git.run, ("-c", f"alias.wait={alias}", "wait"), seconds=3)
    )
    files = [tmp_path / "home" / name for name in ("alone", "waiting")]
    await eventually(lambda: all(each.exists() and each.read_text() for each in files), "at it")
    pids = [int(each.read_text()) for each in files]
    if ending == "closed":
        git.close()
    with pytest.raises(GitError) as caught:
        await asked
    assert caught.value.reason == {"closed": "stopping", "late": "timeout"}[ending]
    await eventually(lambda: not any(map(is_alive, pids)), "what git started has ended")


async def test_what_a_killed_git_left_keeps_nothing_back(tmp_path: Path, clock: FakeClock) -> None:
    """A lock of a reference, a part of a pack, a reference of a plan: gone with the next look."""
    repository = Repository(tmp_path)
    half = _half_a_pack(repository)
    one = repository.put("a.yaml", flow("a", "one"))
    async with opened(tmp_path, clock, {"name": "git", "url": repository.url}) as place:
        await place.reconcile("git")
        mirror = _path(place)
        lock = mirror / "refs/windlass/target.lock"
        locking = ["git", "--git-dir", str(mirror), "update-ref", "--stdin"]
        _kill(locking, f"start\nupdate refs/windlass/target {one}\nprepare\n".encode(), lock)
        packing = ["git", "--git-dir", str(mirror), "index-pack", "--stdin"]
        _kill(packing, half.read_bytes(), mirror)
        (mirror / "objects" / "pack" / ".tmp-1-pack").touch()
        for left in (f"{PLANS}0", "refs/windlass/planned"):
            run("git", "--git-dir", mirror, "update-ref", left, one)
        repository.put("a.yaml", flow("a", "two"))
        assert (await place.reconcile("git")).source.phase == "ready"
        assert (await place.app.service.get_workflow("a")).description == "two"
        assert (lock.exists(), _temporary(mirror)) == (False, [])
        left = run("git", "--git-dir", mirror, "for-each-ref", "--format=%(refname)")
        assert "plan" not in left


async def test_what_is_left_later_goes_after_the_look_it_spoils(
    tmp_path: Path, clock: FakeClock
) -> None:
    """A command may be killed while the controller is at work: that costs one look."""
    repository = Repository(tmp_path)
    repository.put("a.yaml", flow("a", "one"))
    async with opened(tmp_path, clock, {"name": "git", "url": repository.url}) as place:
        reconciler = place.reconciler("git")
        await reconciler.reconcile()
        (_path(place) / "refs/windlass/target.lock").touch()
        repository.put("a.yaml", flow("a", "two"))
        looks = [(await reconciler.reconcile()).source.phase for _ in range(2)]
        assert looks == ["failed", "ready"]


def _kill(command: list[str], given: bytes, where: Path) -> None:
    """Kill a git that has begun to write; `where` its lock is, or its temporary file will be."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert process.stdin is not None
    process.stdin.write(given)
    process.stdin.flush()
    wait_until(lambda: where.is_file() or (where.is_dir() and _temporary(where)), "it is at it")
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdin.close()


async def test_nothing_is_swept_while_somebody_writes(tmp_path: Path) -> None:
    """Another controller or command, or a git that has outlived its controller."""
    repository = Repository(tmp_path)
    repository.put("a.yaml", flow("a"))
    spec, home = SourceSpec(name="git", url=repository.url), tmp_path / "home"
    git = Git(home, git_environment(), spec)
    mirror = Mirror(home, git)
    with mirror.writing():
        theirs = home / "mirror.git" / "objects" / "tmp_theirs"
        theirs.touch()
        _look(spec, home)
        assert theirs.exists()
        command = ("-c", "alias.wait=!touch begun; exec sleep 600", "wait")
        asked = asyncio.create_task(asyncio.to_thread(git.run, command, seconds=60))
        await eventually((home / "begun").exists, "git is at it")
    _look(spec, home)
    assert theirs.exists()
    git.close()
    with pytest.raises(GitError, match="stopping"):
        await asked
    _look(spec, home)
    assert not theirs.exists()


def _look(spec: SourceSpec, home: Path) -> None:
    """As a process does that has just started."""
    checkout = Checkout(spec, home, git_environment(), LARGEST)
    checkout.refresh()
    checkout.close()


@pytest.mark.parametrize("follows", ["branch", "tag", "semver", "commit"])
async def test_a_plan_of_what_is_there_now_needs_nothing_of_the_controllers(
    tmp_path: Path, clock: FakeClock, follows: str
) -> None:
    """It has a reference of its own: neither keeps the other back, and none is left."""
    repository = Repository(tmp_path)
    one = repository.put("a.yaml", flow("a", "one"))
    names = {"branch": "main", "tag": "v1.0.0", "semver": "1.x", "commit": one}
    source = {"name": "git", "url": repository.url, follows: names[follows]}
    repository.git("tag", names["tag"])
    repository.push("--tags")
    async with opened(tmp_path, clock, source) as place:
        await place.reconcile("git")
        two = repository.put("a.yaml", flow("a", "two"))
        repository.git("tag", "--force", names["tag"])
        repository.push("--tags")
        home, spec = _path(place).parent, place.app.specs["git"]
        with Mirror(home, Git(home, git_environment(), spec)).writing():
            (_path(place) / "refs/windlass/target.lock").touch()
            found = await place.app.sources.plan("git")
            assert found.revision == (one if follows == "commit" else two)
        assert "plans" not in run("git", "--git-dir", _path(place), "for-each-ref")


async def test_a_plan_is_of_the_revision_it_names(tmp_path: Path) -> None:
    """Whatever another plan fetches at that moment; neither leaves a reference."""
    repository = Repository(tmp_path)
    repository.put("a.yaml", flow("a"))
    commits = {}
    for name in ("red", "blue"):
        repository.git("switch", "--quiet", "--create", name, "main")
        commits[name] = repository.put("a.yaml", flow("a", name))
    slow, begun, go = tmp_path / "bin" / "git", tmp_path / "begun", tmp_path / "go"
    slow.parent.mkdir()
    wait = f"touch {quote(str(begun))}; until [ -e {quote(str(go))} ]; do sleep 0.01; done"
    real = run("sh", "-c", "command -v git").strip()
    slow.write_text(f'#!/bin/sh\ncase "$*" in *rev-parse*) {wait};; esac\nexec {real} "$@"\n')
    slow.chmod(0o755)
    spec, home = SourceSpec(name="git", url=repository.url), tmp_path / "home"
    usual = git_environment()
    slowly = {**usual, "PATH": f"{slow.parent}:{usual['PATH']}"}
    one, two = (Checkout(spec, home, each, LARGEST) for each in (slowly, usual))
    asked = asyncio.create_task(asyncio.to_thread(one.find, "red"))
    await eventually(begun.exists, "the first has fetched")
    assert two.find("blue") == commits["blue"]
    go.touch()
    assert await asked == commits["red"]
    assert not run("git", "--git-dir", home / "mirror.git", "for-each-ref")
