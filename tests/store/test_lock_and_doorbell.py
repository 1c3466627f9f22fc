"""One controller for one file, and how others get its attention."""

import asyncio
import os
import shutil
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from controller.core.problem import Refused
from controller.store.lock import ControllerLock, Holder
from controller.store.wake import NAME, Doorbell, ring
from tests.eventually import eventually
from tests.sources import ROOT
from tests.store.sample import NOW

HOLD = """
import sys
from pathlib import Path
from controller.store.lock import ControllerLock
ControllerLock(Path(sys.argv[1]), "shell").acquire(1767225600000)
print("held", flush=True)
sys.stdin.read()
"""


def _holding(database: Path) -> "subprocess.Popen[str]":
    """A process that holds the lock until its stdin closes."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(database)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_controller_is_refused_and_told_who_is_first(database: Path) -> None:
    """Process and role are in the message; when that process dies, the lock is free."""
    with _holding(database) as first:
        lock = ControllerLock(database)
        assert lock.holder() == Holder(first.pid, "shell", NOW)
        with pytest.raises(Refused) as refused:
            lock.acquire(NOW)
        assert f"process {first.pid} (shell)" in str(refused.value)
        assert str(database) in str(refused.value)
        assert refused.value.hint is not None
        assert str(first.pid) in refused.value.hint
        assert not lock.try_acquire(NOW)
        first.kill()
    assert lock.holder() is None, "what a dead process wrote there means nothing"
    with lock.acquire(NOW + 1):
        assert lock.holder() == Holder(os.getpid(), "controller", NOW + 1)
    mode = database.with_name(f"{database.name}.lock").stat().st_mode
    assert stat.S_IMODE(mode) == 0o600, "nobody else reads who it was"


@pytest.mark.parametrize(
    ("role", "does", "hint"),
    [
        ("controller", "executes what is in it", "stop process"),
        ("execute", "executes what is in it", "stop process"),
        ("doctor", "repairs it", "wait for the end of process"),
        ("restore", "replaces it", "wait for the end of process"),
    ],
)
def test_what_holds_the_lock_is_told(tmp_path: Path, role: str, does: str, hint: str) -> None:
    """Not everybody who keeps others away executes, nor is to be stopped."""
    with ControllerLock(tmp_path / "x.db", role).acquire(NOW) as held:
        holder = held.holder()
        assert holder is not None
        assert holder.executes == (does == "executes what is in it")
        with pytest.raises(Refused) as refused:
            ControllerLock(tmp_path / "x.db").acquire(NOW)
    assert str(refused.value).endswith(f"process {os.getpid()} ({role}) {does}")
    assert refused.value.hint is not None
    assert refused.value.hint.startswith(hint)


def test_a_lock_is_given_up(tmp_path: Path) -> None:
    """For the next one; within one process two locks exclude each other as well."""
    first, second = ControllerLock(tmp_path / "x.db", "a"), ControllerLock(tmp_path / "x.db", "b")
    assert first.holder() is None, "no lock file yet"
    with first.acquire(NOW):
        assert first.try_acquire(NOW), "having it, one has it"
        with pytest.raises(Refused, match="a"):
            second.acquire(NOW)
    assert second.try_acquire(NOW)
    second.release()
    second.release()
    assert first.holder() is None


def test_a_lock_whose_file_was_removed_is_taken_again(tmp_path: Path) -> None:
    """Or it is another's by then, who is named; without its directory there is none to take."""
    path = tmp_path / "state" / "x.db"
    with ControllerLock(path, "first").acquire(NOW) as first:
        first.keep(NOW)
        path.with_name("x.db.lock").unlink()
        first.keep(NOW + 1)
        assert not ControllerLock(path).try_acquire(NOW)
        assert first.holder() == Holder(os.getpid(), "first", NOW + 1)
        path.with_name("x.db.lock").unlink()
        with ControllerLock(path, "second").acquire(NOW), pytest.raises(Refused, match="second"):
            first.keep(NOW)
    with ControllerLock(path).acquire(NOW) as held:
        shutil.rmtree(path.parent)
        held.keep(NOW)
    assert not path.parent.exists()


def test_a_strange_lock_file_is_no_obstacle(tmp_path: Path) -> None:
    """Only the kernel's lock counts, whatever is written in the file."""
    (tmp_path / "x.db.lock").write_bytes(b"\xff{[")
    with ControllerLock(tmp_path / "x.db").acquire(NOW) as lock:
        assert lock.holder() == Holder(os.getpid(), "controller", NOW)


async def test_a_ring_is_heard(tmp_path: Path) -> None:
    """Each ring while the controller listens; several at once may be one."""
    heard: list[None] = []
    with Doorbell(tmp_path, lambda: heard.append(None)) as bell:
        assert bell.works
        assert ring(tmp_path)
        await eventually(lambda: heard, "the ring")
        heard.clear()
        for _ in range(2000):
            assert ring(tmp_path), "a bell full of rings has been heard"
        await eventually(lambda: heard, "one of many rings")


async def test_another_process_rings(tmp_path: Path) -> None:
    """As the command line does."""
    heard = asyncio.Event()
    with Doorbell(tmp_path, heard.set):
        code = "import sys; from pathlib import Path; from controller.store.wake import ring;"
        code += "sys.exit(not ring(Path(sys.argv[1])))"
        await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, check=True
        )
        await heard.wait()


async def test_nobody_is_at_home(tmp_path: Path) -> None:
    """Ringing at a controller that is gone, or never was, is harmless and says so."""
    assert not await asyncio.to_thread(ring, tmp_path)
    assert not await asyncio.to_thread(ring, tmp_path / "nowhere")
    Doorbell(tmp_path, lambda: None).close()
    assert not await asyncio.to_thread(ring, tmp_path)
    assert not (tmp_path / NAME).exists()


async def test_what_a_dead_controller_left_is_replaced(tmp_path: Path) -> None:
    """Its socket is still there, and nobody listens on it."""
    heard = asyncio.Event()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as dead:
        dead.bind(str(tmp_path / NAME))
    assert not await asyncio.to_thread(ring, tmp_path)
    with Doorbell(tmp_path, heard.set) as bell:
        assert bell.works
        assert await asyncio.to_thread(ring, tmp_path)
        await heard.wait()


async def test_a_path_too_long_for_a_socket_works(tmp_path: Path) -> None:
    """A socket's address holds about a hundred bytes; a state directory may be deeper."""
    deep = tmp_path / ("x" * 120) / ("y" * 120)
    deep.mkdir(parents=True)
    heard = asyncio.Event()
    with Doorbell(deep, heard.set) as bell:
        assert bell.works
        assert ring(deep)
        await heard.wait()


async def test_without_a_directory_there_is_no_bell(tmp_path: Path) -> None:
    """It is only a hint: nothing fails."""
    with Doorbell(tmp_path / "nowhere", lambda: None) as bell:
        assert not bell.works
        assert not await asyncio.to_thread(ring, tmp_path / "nowhere")
