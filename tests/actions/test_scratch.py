"""What a controller leaves running when it is killed, and who ends it."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from controller.execute import scratch
from controller.execute.scratch import GONE, MARK, Home, end_orphans
from tests.actions.stage import Stage, is_alive
from tests.eventually import eventually, wait_until
from tests.sources import ROOT

CONTROLLER = """
import asyncio, sys
from pathlib import Path
from tests.actions.stage import Stage

async def main(scratch, command):
    stage = Stage(Path(scratch))
    home = stage.scripts.home
    home.open()
    print(home._guard[0], flush=True)
    await stage.perform("shell", command=command)
    print("ended", flush=True)
    await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""
"""A controller with one step, in a process of its own."""


@dataclass
class Killable:
    """That controller."""

    scratch: Path
    process: "subprocess.Popen[str]"
    guard: int

    def pid(self, name: str = "pid") -> int:
        """A process id that its step left in a file beside the scratch directory."""
        path = self.scratch.parent / name
        return int(wait_until(lambda: path.exists() and path.read_text().strip(), "its step runs"))

    def kill(self, *, guarded: bool) -> None:
        """`kill -9`, of its guard too where it is not guarded."""
        if not guarded:
            os.kill(self.guard, signal.SIGKILL)
        self.process.kill()
        self.process.wait()


@contextmanager
def controller(tmp_path: Path, command: str) -> Generator[Killable]:
    """One that performs this shell text."""
    scratch = tmp_path / "scratch"
    argv = [sys.executable, "-c", CONTROLLER, str(scratch), command.format(here=tmp_path)]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield Killable(scratch, process, int(process.stdout.readline()))
        finally:
            process.kill()


def test_the_guard_ends_what_a_killed_controller_ran(tmp_path: Path) -> None:
    """Nobody starts again, and the step of a killed controller ends within moments all the same."""
    with controller(tmp_path, "echo $$ > {here}/pid; exec sleep 100") as killed:
        pid = killed.pid()
        killed.kill(guarded=True)
        wait_until(lambda: not is_alive(pid), "the step has ended")
        wait_until(lambda: not list(killed.scratch.iterdir()), "its directory is gone")


def test_the_next_controller_ends_what_a_killed_one_ran(tmp_path: Path) -> None:
    """Without a guard the orphan, its children, and one that hid its environment are ended."""
    text = """
    sleep 100 & echo $! > {here}/child
    env -i sleep 100 & echo $! > {here}/other
    echo $$ > {here}/pid; exec env -i sleep 100
    """
    with controller(tmp_path, text) as killed:
        pids = [killed.pid(name) for name in ("child", "other", "pid")]
        killed.kill(guarded=False)
        assert all(map(is_alive, pids))
        assert end_orphans(killed.scratch) == 3
        assert not any(map(is_alive, pids))
        assert not list(killed.scratch.iterdir())
        assert end_orphans(killed.scratch) == 0


def test_what_hides_is_found_behind_a_link_too(tmp_path: Path) -> None:
    """Where a process is, the kernel tells without links."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with controller(tmp_path / "link", "echo $$ > {here}/pid; exec env -i sleep 100") as killed:
        pid = killed.pid()
        killed.kill(guarded=False)
        assert is_alive(pid)
        assert end_orphans(killed.scratch) == 1
        assert not is_alive(pid)


def test_an_orphan_that_forks_all_the_time_is_ended(tmp_path: Path) -> None:
    """What is started while orphans are ended is found too."""
    text = "echo $$ > {here}/pid; while :; do sleep 0.001 & setsid sleep 60 & wait %1; done"
    with controller(tmp_path, text) as killed:
        pid = killed.pid()
        killed.kill(guarded=False)
        assert end_orphans(killed.scratch) > 1
        assert not is_alive(pid)
        marked = [
            path
            for path in Path("/proc").glob("[0-9]*/environ")
            if str(killed.scratch).encode() in _environment(path)
        ]
        assert marked == []


def _environment(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_what_a_step_detached_on_purpose_lives_on(tmp_path: Path) -> None:
    """A step that has ended may have started a server: the end of the controller is not its."""
    text = (
        "setsid sh -c 'echo $$ > {here}/pid; exec sleep 100' <&- >&- 2>&- &"
        "until test -s {here}/pid; do :; done"
    )
    with controller(tmp_path, text) as killed:
        pid = killed.pid()
        assert killed.process.stdout is not None
        assert killed.process.stdout.readline() == "ended\n"
        killed.kill(guarded=False)
        try:
            assert end_orphans(killed.scratch) == 0
            assert is_alive(pid)
        finally:
            os.kill(pid, signal.SIGKILL)


def test_a_living_controller_is_left_alone(tmp_path: Path) -> None:
    """Two may share a scratch directory, as they do on PostgreSQL: the steps of one go on."""
    with controller(tmp_path, "echo $$ > {here}/pid; exec sleep 100") as living:
        pid = living.pid()
        assert end_orphans(living.scratch) == 0
        assert is_alive(pid)
        living.kill(guarded=True)
        wait_until(lambda: not is_alive(pid), "the step has ended")


def test_a_controller_that_ends_well_leaves_no_guard_and_no_directory(tmp_path: Path) -> None:
    """Closed, a home is gone; opened again, it is another one."""
    home = Home(tmp_path / "scratch")
    first = home.open()
    assert home.open() == first
    assert home._guard is not None
    guard = home._guard[0]
    assert is_alive(guard)
    home.close()
    home.close()
    assert not is_alive(guard)
    assert not list((tmp_path / "scratch").iterdir())
    assert home.open() != first
    home.close()


async def test_a_scratch_directory_that_somebody_removed_is_made_again(stage: Stage) -> None:
    """Tidying up by hand costs no step."""
    await stage.outputs("shell", command="true")
    [home] = stage.scratch.iterdir()
    shutil.rmtree(home)
    assert (await stage.outputs("shell", command="echo still here"))["stdout"] == "still here\n"


async def test_an_attempt_leaves_nothing(stage: Stage) -> None:
    """Whatever a script writes to its directory is gone afterwards, be it deep or read-only."""
    await stage.outputs(
        "shell", command="mkdir -p a/b; echo x > a/b/c; chmod 500 a/b; ln -s / root"
    )
    [home] = stage.scratch.iterdir()
    assert {path.name for path in home.iterdir() if not path.name.startswith(GONE)} == {"lock"}
    await eventually(lambda: len(list(home.iterdir())) == 1, "nothing is left of it")


def test_a_discarded_directory_is_nobodys(stage: Stage) -> None:
    """A process that its step detached is not ended for a directory that waits to be removed."""
    home = stage.scripts.home
    directory = home.make("x1:a:1")
    marked = {**os.environ, MARK: str(directory)}
    living = [
        subprocess.Popen(["sleep", "100"], cwd=directory, env=env) for env in (marked, {"A": "b"})
    ]
    try:
        pids = {each.pid for each in living}
        assert pids <= scratch._inhabitants(f"{home.open()}/").keys()
        gone = directory.rename(home.open() / f"{GONE}0")
        assert not pids & scratch._inhabitants(f"{home.open()}/").keys()
        scratch._remove(str(gone))
        assert not pids & scratch._inhabitants(f"{home.open()}/").keys()
    finally:
        for each in living:
            each.kill()
            each.wait()


async def test_a_discarded_directory_is_gone_at_once_and_removed_soon(stage: Stage) -> None:
    """Who has it open may go on writing until it is removed; that is removed too."""
    home = stage.scripts.home
    directory = home.make("x1:a:1")
    there = os.open(directory, os.O_RDONLY)
    try:
        home.discard(directory)
        assert not directory.exists()
        with suppress(FileNotFoundError):  # it is removed already
            os.close(os.open("late", os.O_CREAT | os.O_WRONLY, dir_fd=there))
    finally:
        os.close(there)
    await eventually(lambda: [path.name for path in home.open().iterdir()] == ["lock"], "removed")


def test_what_is_not_empty_is_removed_too(tmp_path: Path) -> None:
    """Whatever a script left."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c").write_text("x")
    scratch._remove(str(tmp_path / "a"))
    assert not (tmp_path / "a").exists()


DEEP = """
import os, sys
os.chdir(sys.argv[1])
for _ in range(3_000):
    os.mkdir("d")
    os.chdir("d")
"""


def test_what_is_too_deep_for_python_is_removed_too(tmp_path: Path) -> None:
    """It keeps no controller from starting, and nothing else from being removed."""
    home = tmp_path / "home-left"
    home.mkdir()
    (home / "lock").touch()
    subprocess.run([sys.executable, "-c", DEEP, home], check=True)
    assert end_orphans(tmp_path) == 0
    assert not home.exists()


REMOVE = "import sys; from controller.execute import scratch; scratch._remove(sys.argv[1])"


def test_what_must_not_be_written_is_removed_too(tmp_path: Path) -> None:
    """As Go leaves its modules; whoever is root is not, here."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c").write_text("x")
    (tmp_path / "a" / "b").chmod(0o500)
    weak = ["setpriv", "--bounding-set=-all"] if os.geteuid() == 0 else []
    subprocess.run([*weak, sys.executable, "-c", REMOVE, tmp_path / "a"], cwd=ROOT, check=True)
    assert not (tmp_path / "a").exists()


def test_threads_that_find_their_home_gone_begin_again_together(stage: Stage) -> None:
    """Nobody removes the home that another thread has begun meanwhile."""
    home = stage.scripts.home
    shutil.rmtree(home.open())
    count = 8
    together = threading.Barrier(count)

    def make(number: int) -> Path:
        together.wait(10)
        return home.make(f"x1:a:{number}")

    with ThreadPoolExecutor(count) as threads:
        made = list(threads.map(make, range(count)))
    assert all(each.is_dir() for each in made)
    assert len({each.parent for each in made}) == 1
