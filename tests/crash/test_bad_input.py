"""Whatever is wrong around the daemon gets one clear message, and loses nothing."""

import json
import os
import pty
import shutil
import signal
import socket
import sqlite3
import subprocess
import urllib.error
import urllib.request
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.crash.daemon import Daemon, events, free_port, windlass
from tests.eventually import wait_until
from tests.store.test_durability import small_disk

GOOD = "name: {0}\nsteps:\n  - {{id: a, type: action, action: set, inputs: {{x: {1}}}}}\n"
REFUSED = 4


def place(folder: Path) -> Path:
    """A directory with definitions, and one good workflow in it."""
    definitions = folder / "definitions"
    definitions.mkdir()
    (definitions / "good.yaml").write_text(GOOD.format("good", 1))
    return definitions


def one_message(said: str) -> None:
    """One `windlass: …` line, perhaps a hint, and no traceback."""
    assert "Traceback" not in said
    assert said.count("windlass: ") == 1, said


def test_every_kind_of_bad_file_is_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    """A file each of what can be wrong: all are invalid with a place, the good ones are live."""
    definitions = place(tmp_path)
    outside = tmp_path / "outside.yaml"
    outside.write_text(GOOD.format("outside", 1))
    bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
    for name, before in zip("bcdefgh", "abcdefg", strict=True):
        bomb += f"{name}: &{name} [{','.join([f'*{before}'] * 10)}]\n"
    files = {
        "syntax.yaml": b"name: x\n  steps: [\n",
        "bomb.yaml": bomb.encode(),
        "nul.yaml": b"name: a\x00b\n",
        "cycle.yaml": (
            b"name: cycle\nsteps:\n"
            b"  - {id: a, type: action, action: set, depends_on: [b]}\n"
            b"  - {id: b, type: action, action: set, depends_on: [a]}\n"
        ),
        "unknown.yaml": b"name: unknown\nsteps:\n  - {id: a, type: action, action: no_such}\n",
        "deep.yaml": b"[" * 100_000,
        "large.yaml": b"name: large\ndescription: " + b"x" * 50_000_000,
    }
    for name, content in files.items():
        (definitions / name).write_bytes(content)
    (definitions / "link.yaml").symlink_to(outside)
    with Daemon(tmp_path):
        shown = windlass("sync:status", "--format", "json", cwd=tmp_path).stdout
        listed = windlass("workflows:list", "--format", "json", cwd=tmp_path).stdout
    assert '"name": "good"' in listed
    assert '"name": "outside"' not in listed
    for name in [*files, "link.yaml"]:
        assert f'"path": "{name}"' in shown
    assert shown.count('"status": "invalid"') == len(files) + 1


def test_a_file_that_breaks_keeps_its_last_good_version(tmp_path: Path) -> None:
    """Broken while the daemon runs: the version that was good still executes; mended: the new."""
    definitions = place(tmp_path)
    file = definitions / "good.yaml"
    with Daemon(tmp_path) as daemon:
        file.write_text("name: good\nsteps: [\n")
        wait_until(lambda: "invalid_files" in _metrics(daemon, 1.0), "the file is invalid")
        windlass("workflows:execute", "-i", "good", cwd=tmp_path)  # exit status 0: completed
        file.write_text(GOOD.format("good", 2))
        wait_until(lambda: "invalid_files" in _metrics(daemon, 0.0), "the file is valid again")


def _metrics(daemon: Daemon, invalid: float) -> str:
    """The lines of the scrape that say how many files are invalid, if it is this many."""
    lines = daemon.get("/metrics").decode().splitlines()
    wanted = f'windlass_source_invalid_files{{source="definitions"}} {invalid}'
    return "\n".join(line for line in lines if line == wanted)


def test_a_webhook_starts_an_execution(tmp_path: Path) -> None:
    """A POST to `/hooks/NAME` is answered with the execution's id; one to another name is not."""
    definitions = place(tmp_path)
    text = GOOD.format("hooked", 1) + "triggers:\n  - {type: webhook}\n"
    (definitions / "hooked.yaml").write_text(text)
    with Daemon(tmp_path) as daemon:
        address = f"http://127.0.0.1:{daemon.port}/hooks/"
        with urllib.request.urlopen(address + "hooked", data=b"{}", timeout=5) as answer:
            execution = json.loads(answer.read())["execution"]
        wait_until(
            lambda: (
                "completed" in windlass("workflows:status", "-e", execution, cwd=tmp_path).stdout
            ),
            "the execution completes",
            within=10,
        )
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(address + "good", data=b"{}", timeout=5)


def test_a_broken_client_is_one_line_of_the_log_at_most(tmp_path: Path) -> None:
    """One that leaves in the middle of a request, one that speaks no HTTP: no trace, all JSON."""
    place(tmp_path)
    half = b"POST /hooks/good HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nx"
    with Daemon(tmp_path) as daemon:
        for said in (half, b"no HTTP at all\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", daemon.port), 5) as client:
                client.sendall(said)
        wait_until(lambda: "Invalid HTTP" in daemon.log.read_text(), "the second is told")
        assert daemon.stop() == 0
    lines = [json.loads(each) for each in daemon.log.read_text().splitlines()]
    (told,) = [each for each in lines if each.get("logger") == "uvicorn.error"]
    assert (told["event"], told["level"]) == ("Invalid HTTP request received.", "info")
    assert {each["level"] for each in lines} <= {"info", "warning"}


@pytest.mark.parametrize("kind", ["pipe", "terminal", "disk"])
def test_a_log_that_cannot_be_written_ends_nothing(tmp_path: Path, kind: str) -> None:
    """Its reader has left, its terminal is gone, its disk is full: what there is to do is done."""
    definitions = place(tmp_path)
    reading, writing = pty.openpty() if kind == "terminal" else os.pipe()
    daemon = Daemon(tmp_path)
    with os.fdopen(writing, "wb") as log, Path("/dev/full").open("wb") as full:
        daemon.begin(full if kind == "disk" else log)
    try:
        daemon.await_ready()
        os.close(reading)
        (definitions / "more.yaml").write_text(GOOD.format("more", 1))
        wait_until(lambda: "more" in _listed(tmp_path), "a good file is live")
        (definitions / "more.yaml").write_text("name: [")
        wait_until(lambda: "invalid_files" in _metrics(daemon, 1.0), "a bad file is invalid")
        assert daemon.stop() == 0
    finally:
        daemon.end()


def _listed(folder: Path) -> str:
    """The names of workflows, among other things."""
    return windlass("workflows:list", cwd=folder).stdout


def test_a_second_daemon_is_refused(tmp_path: Path) -> None:
    """One controller a database file: the second says who has it, and the first goes on."""
    place(tmp_path)
    with Daemon(tmp_path) as daemon:
        address = f"127.0.0.1:{free_port()}"
        second = windlass("run", "--http-address", address, cwd=tmp_path, check=False)
        assert second.returncode == REFUSED
        one_message(second.stderr)
        assert str(daemon.process.pid) in second.stderr
        assert daemon.process.poll() is None


def test_a_second_interrupt_skips_the_grace(tmp_path: Path) -> None:
    """What runs is stopped then, as at the end of the grace, and goes on at the next start."""
    file = tmp_path / "pid"
    (place(tmp_path) / "slow.yaml").write_text(
        "name: slow\nsteps:\n  - {id: a, type: action, action: shell, inputs: {command: "
        f"'test -e {file} || {{ echo $$ > {file}; exec sleep 600; }}'}}}}\n"
    )
    with Daemon(tmp_path, extra={"WINDLASS_STOP_GRACE": "1h"}) as daemon:
        execution = windlass("workflows:execute", "-i", "slow", "-a", cwd=tmp_path).stdout.strip()
        wait_until(lambda: file.exists() and file.read_text(), "the step runs")
        daemon.process.send_signal(signal.SIGINT)
        wait_until(lambda: _said(daemon, "stopping"), "it stops")
        assert _said(daemon, "stopping")[0]["grace"] == "1 h"
        assert daemon.process.poll() is None
        daemon.process.send_signal(signal.SIGINT)
        assert daemon.process.wait(30) == 0
    with pytest.raises(ProcessLookupError):
        os.kill(int(file.read_text()), 0)
    shown = json.loads(
        windlass("workflows:status", "-e", execution, "-f", "json", cwd=tmp_path).stdout
    )
    assert shown["execution"]["completed_at"] is None
    with daemon:
        wait_until(
            lambda: (
                "completed" in windlass("workflows:status", "-e", execution, cwd=tmp_path).stdout
            ),
            "it goes on and completes",
        )


def _said(daemon: Daemon, event: str) -> list[dict[str, Any]]:
    """The lines of its log about an event."""
    return [each for each in events(daemon.log) if each["event"] == event]


def test_a_port_in_use_is_refused(tmp_path: Path) -> None:
    """The daemon says which address, and what to do."""
    place(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = windlass("run", "--http-address", address, cwd=tmp_path, check=False)
    assert done.returncode == REFUSED
    one_message(done.stderr)
    assert address in done.stderr


@pytest.mark.parametrize("kind", ["file", "below", "full"])
def test_a_scratch_directory_that_cannot_be_used_is_refused(tmp_path: Path, kind: str) -> None:
    """A file, a place below one, a full disk: one message, before anything is executed."""
    place(tmp_path)
    (tmp_path / "file").touch()
    scratch = {"file": tmp_path / "file", "below": tmp_path / "file" / "below"}
    with ExitStack() as stack:
        if kind == "full":
            (tmp_path / "disk").mkdir()
            scratch[kind] = stack.enter_context(small_disk(tmp_path / "disk", "64k"))
            with suppress(OSError), (scratch[kind] / "filler").open("wb", 0) as filler:
                while filler.write(bytes(4096)):
                    pass
        (tmp_path / "windlass.yaml").write_text(f"scratch_dir: {scratch[kind]}\n")
        address = f"127.0.0.1:{free_port()}"
        done = windlass("run", "--http-address", address, cwd=tmp_path, check=False)
    assert done.returncode == REFUSED, done.stderr
    one_message(done.stderr)
    assert str(scratch[kind]) in done.stderr


def test_a_scratch_directory_that_goes_bad_is_told(tmp_path: Path) -> None:
    """While it cannot be used the daemon is not ready, and says why."""
    place(tmp_path)
    scratch = tmp_path / "scratch"
    with Daemon(tmp_path, extra={"WINDLASS_SCRATCH_DIR": str(scratch)}) as daemon:
        assert daemon.failures() == {}
        shutil.rmtree(scratch)
        scratch.touch()
        with pytest.raises(urllib.error.HTTPError, match="503"):
            daemon.get("/readyz")
        assert str(scratch) in daemon.failures()["scratch"]
        scratch.unlink()
        assert daemon.failures() == {}
        assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("kind", ["text", "foreign", "directory"])
def test_a_database_that_is_not_ours_is_refused_and_left_alone(tmp_path: Path, kind: str) -> None:
    """A text file, another program's database, a directory: refused, unchanged."""
    place(tmp_path)
    (tmp_path / ".windlass").mkdir()
    database = tmp_path / ".windlass" / "windlass.db"
    if kind == "text":
        database.write_text("this is not a database, it is a letter to somebody\n" * 100)
    elif kind == "foreign":
        with sqlite3.connect(database) as other:
            other.execute("CREATE TABLE songs (title TEXT)")
        other.close()
    else:
        database.mkdir()
    before = database.read_bytes() if database.is_file() else b""
    done = windlass("workflows:list", cwd=tmp_path, check=False)
    assert done.returncode == REFUSED, done.stderr
    one_message(done.stderr)
    assert (database.read_bytes() if database.is_file() else b"") == before


def test_a_root_that_goes_away_prunes_nothing(tmp_path: Path) -> None:
    """The directory is renamed: the workflows stay; it comes back changed: that is applied."""
    definitions = place(tmp_path)
    flags = {"WINDLASS_RESYNC_INTERVAL": "1000"}
    with Daemon(tmp_path, extra=flags):
        away = definitions.rename(tmp_path / "away")

        def phase() -> str:
            return windlass("sync:status", cwd=tmp_path).stdout

        wait_until(lambda: "failed" in phase(), "the source has failed", within=10)
        assert "good" in windlass("workflows:list", cwd=tmp_path).stdout
        (away / "more.yaml").write_text(GOOD.format("more", 1))
        away.rename(definitions)
        wait_until(
            lambda: "more" in windlass("workflows:list", cwd=tmp_path).stdout,
            "the new file is live",
            within=10,
        )


@pytest.mark.timeout(400)
def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    """The state's disk fills up: what is asked is refused; with space, all goes on."""
    definitions = place(tmp_path)
    (definitions / "slow.yaml").write_text(
        "name: slow\nsteps:\n"
        "  - {id: a, type: action, action: shell, inputs: {command: sleep 1}}\n"
        "  - {id: b, type: action, action: set}\n"
    )
    disk = tmp_path / ".windlass"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(disk)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        with Daemon(tmp_path):
            execution = windlass(
                "workflows:execute", "-i", "slow", "-a", cwd=tmp_path
            ).stdout.strip()
            with (disk / "filler").open("wb", buffering=0) as filler:
                while True:
                    try:
                        filler.write(b"x" * 4096)
                    except OSError:
                        break
            refused = windlass("workflows:execute", "-i", "slow", "-a", cwd=tmp_path, check=False)
            (disk / "filler").unlink()
            done = windlass(
                "workflows:status", "-e", execution.split()[0], "-f", "json", cwd=tmp_path
            )
            wait_until(
                lambda: (
                    '"status": "completed"'
                    in windlass(
                        "workflows:history", "-s", "completed", "-f", "json", cwd=tmp_path
                    ).stdout
                ),
                "the execution completes once there is space",
                within=30,
            )
        assert "Traceback" not in done.stderr + refused.stderr
        if refused.returncode != 0:
            one_message(refused.stderr)
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=False)
        shutil.rmtree(disk, ignore_errors=True)
