"""What the daemon stands on fails under load, and comes back: nothing is lost, nothing done twice.

The database server, the disk, file handles, and the processor.
"""

import resource
import signal
import subprocess
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.crash.conftest import Survived
from tests.crash.daemon import Daemon, windlass
from tests.crash.proof import Proof, Work
from tests.eventually import wait_until
from tests.postgres import serving

THOROUGH = [pytest.mark.thorough, pytest.mark.timeout(1200)]
ROUNDS = [pytest.param(1, id="once"), pytest.param(10, id="many", marks=THOROUGH)]

pytestmark = pytest.mark.timeout(400)

EXECUTIONS = 20


def amid_the_work(proof: Proof) -> None:
    """Return when new executions are in progress."""
    before = len(proof.done())
    proof.create(EXECUTIONS)
    wait_until(lambda: len(proof.done()) > before + EXECUTIONS, "some steps", within=20)


@pytest.mark.parametrize("rounds", ROUNDS)
def test_postgresql_is_killed_and_comes_back(
    tmp_path: Path, rounds: int, survived: Survived
) -> None:
    """The daemon stays, says that it is not ready, and goes on when the server is there again."""
    with serving() as server, server.migrated() as url:
        proof = Proof(tmp_path, Work(), url)
        with Daemon(tmp_path, extra={"WINDLASS_DATABASE_URL": url}) as daemon:
            for number in [signal.SIGQUIT, signal.SIGKILL] * rounds:
                amid_the_work(proof)
                server.kill(number)
                wait_until(lambda: "does not answer" in daemon.failures().get("database", ""))
                server.start()
                proof.remember(f"PostgreSQL {number.name}")
                wait_until(lambda: not daemon.failures(), "it is ready again", within=10)
            wait_until(proof.all_ended, "all to end", within=60)
            assert daemon.stop() == 0
        proof.check()
        survived(proof)


@contextmanager
def small_disk(folder: Path) -> Generator[Path]:
    """A file system of a few megabytes; skips where none can be mounted."""
    folder.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no small file system can be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(file: Path) -> None:
    """Leave not one block."""
    with file.open("wb", buffering=0) as filler:
        for size in (1 << 20, 4096, 1):
            while True:
                try:
                    filler.write(b"x" * size)
                except OSError:
                    break


def truncate_log(proof: Proof) -> None:
    """Give back the blocks of the write-ahead log: in them, much is written on a full disk."""
    wait_until(lambda: proof.rows("PRAGMA wal_checkpoint(TRUNCATE)")[0][0] == 0, "the log's end")


@pytest.mark.parametrize("rounds", ROUNDS)
def test_the_disk_is_full_for_a_while(tmp_path: Path, rounds: int, survived: Survived) -> None:
    """What was under way waits, and all complete when there is space again."""
    with small_disk(tmp_path / ".windlass") as disk:
        proof = Proof(tmp_path, Work())
        with Daemon(tmp_path) as daemon:
            for _ in range(rounds):
                amid_the_work(proof)
                truncate_log(proof)
                fill(disk / "filler")
                wait_until(lambda: "disk full" in daemon.failures().get("database", ""))
                assert "kept" not in windlass("workflows:list", cwd=tmp_path, check=False).stderr
                proof.remember("disk full")
                (disk / "filler").unlink()
                wait_until(lambda: not daemon.failures(), "it is ready again", within=10)
            wait_until(proof.all_ended, "all to end", within=60)
            assert daemon.stop() == 0
        proof.check()
        survived(proof)


@pytest.mark.parametrize("rounds", ROUNDS)
def test_file_handles_are_exhausted_for_a_while(
    tmp_path: Path, rounds: int, survived: Survived
) -> None:
    """Steps fail with that reason, the daemon survives, and later ones are as if nothing was."""
    proof = Proof(tmp_path, Work())
    with Daemon(tmp_path) as daemon:
        pid = daemon.process.pid
        usual = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        for _ in range(rounds):
            amid_the_work(proof)
            held = len(list(Path(f"/proc/{pid}/fd").iterdir()))
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (max(held - 10, 10), usual[1]))
            wait_until(lambda: _failed(proof) or proof.all_ended(), "steps to fail", within=20)
            proof.remember("no file handles")
            resource.prlimit(pid, resource.RLIMIT_NOFILE, usual)
            wait_until(proof.all_ended, "all to end", within=60)
        assert not daemon.failures()
        assert any("Too many open files" in each for each in _failed(proof)), _failed(proof)
        [last] = proof.create(1)
        wait_until(proof.all_ended, "a later one to end", within=20)
        assert proof.rows("SELECT status FROM workflow_executions WHERE id = :id", id=last) == [
            ("completed",)
        ]
        assert daemon.stop() == 0
    proof.check(statuses=("completed", "failed"))
    survived(proof)


def _failed(proof: Proof) -> list[str]:
    """What is recorded about steps that failed."""
    query = "SELECT context FROM execution_checkpoints WHERE type = 'failed'"
    return [str(row[0]) for row in proof.rows(query)]


@pytest.mark.parametrize("rounds", ROUNDS)
def test_a_stopped_daemon_keeps_its_sqlite_file(
    tmp_path: Path, rounds: int, survived: Survived
) -> None:
    """Longer than its lease: nobody else can take over, and it goes on when it is continued."""
    proof = Proof(tmp_path, Work())
    with Daemon(tmp_path, extra={"WINDLASS_CHECKPOINT_INTERVAL": "1000"}) as daemon:
        for _ in range(rounds):
            amid_the_work(proof)
            daemon.process.send_signal(signal.SIGSTOP)
            until = time.monotonic() + 3.5  # the lease, and a little more
            proof.remember("kill -STOP")
            second = windlass("run", "--http-address", "127.0.0.1:0", cwd=tmp_path, check=False)
            assert f"process {daemon.process.pid} (controller)" in second.stderr
            assert not proof.all_ended()
            wait_until(lambda until=until: time.monotonic() > until, within=5)  # type: ignore[misc]  # mypy cannot infer the default
            daemon.process.send_signal(signal.SIGCONT)
            wait_until(proof.all_ended, "all to end", within=30)
        assert daemon.stop() == 0
    proof.check()
    survived(proof)


def test_who_has_lost_the_lock_ends(tmp_path: Path, survived: Survived) -> None:
    """Somebody removed its file, and another daemon began before it was taken again."""
    proof = Proof(tmp_path, Work())
    with Daemon(tmp_path) as first, ExitStack() as stack:
        first.process.send_signal(signal.SIGSTOP)
        (tmp_path / ".windlass" / "windlass.db.lock").unlink()
        second = stack.enter_context(Daemon(tmp_path))
        amid_the_work(proof)
        first.process.send_signal(signal.SIGCONT)
        assert first.process.wait(20) == 4
        said = f"is in use: process {second.process.pid} (controller)"
        assert said in first.log.read_text()
        wait_until(proof.all_ended, "all to end", within=30)
        assert second.stop() == 0
    proof.check()
    survived(proof)


def test_a_database_that_is_moved_away_is_told(tmp_path: Path) -> None:
    """Also where nobody writes; when it is back, all is well."""
    Proof(tmp_path, Work())
    state, away = tmp_path / ".windlass", tmp_path / "away"
    with Daemon(tmp_path) as daemon:
        assert daemon.failures() == {}
        state.rename(away)
        assert "was moved or deleted" in daemon.failures()["database"]
        away.rename(state)
        assert daemon.failures() == {}
        assert daemon.stop() == 0
