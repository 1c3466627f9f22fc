"""`kill -9` at random times, for real, on each backend: twenty steps in a row, many at once."""

import json
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.conftest import Survived
from tests.crash.daemon import Daemon, windlass
from tests.crash.proof import Proof, Work
from tests.eventually import wait_until

pytestmark = pytest.mark.timeout(400)

THOROUGH = [pytest.mark.thorough, pytest.mark.timeout(1200)]

KILLS = [
    pytest.param("sqlite", 4, 50, id="sqlite"),
    pytest.param("postgresql", 3, 30, id="postgresql"),
    pytest.param("sqlite", 100, 50, id="sqlite-many", marks=THOROUGH),
    pytest.param("postgresql", 50, 50, id="postgresql-many", marks=THOROUGH),
]
"""Backend, how many kills, how many executions at once."""


@pytest.fixture
def place(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Proof, Daemon]]:
    """What is to be proved, and the daemon to kill."""
    extra = {"WINDLASS_CHECKPOINT_INTERVAL": "1000"}
    if request.param == "sqlite":
        yield Proof(tmp_path, Work()), Daemon(tmp_path, extra=extra)
        return
    with request.getfixturevalue("postgres").migrated() as url:
        extra["WINDLASS_DATABASE_URL"] = url
        yield Proof(tmp_path, Work(), url), Daemon(tmp_path, extra=extra)


@pytest.mark.parametrize(("place", "kills", "executions"), KILLS, indirect=["place"])
def test_a_killed_daemon_loses_nothing_and_repeats_nothing(
    place: tuple[Proof, Daemon], kills: int, executions: int, survived: Survived
) -> None:
    """All complete, on the version they began with; a completed step, or one of ONCE, never twice.

    It is killed amid the work, and every other time before it is ready again; meanwhile another
    version is committed.
    """
    proof, daemon = place
    dice = random.Random(20261123)
    with daemon:
        wait_until(lambda: proof.knows("work"), "the workflow")
        for kill in range(kills):
            if proof.unfinished() < executions / 2:
                proof.create(executions - proof.unfinished())
            threading.Event().wait(dice.uniform(0, 1))
            daemon.kill()
            proof.remember("kill -9")
            proof.revise(f"version {kill}")
            daemon.begin()
            if kill % 2 == 0:
                daemon.await_ready()
        daemon.await_ready()
        wait_until(proof.all_ended, "all executions to end", within=60)
        assert daemon.stop() == 0
    proof.check()
    survived(proof)


STOP = """name: stop
inputs:
  - {name: trace, type: string, required: true}
steps:
  - id: quick
    type: action
    action: shell
    inputs: {command: 'echo quick >> "${trace}"; sleep 1; echo done >> "${trace}"'}
  - id: once
    type: action
    action: shell
    idempotent: false
    inputs: {command: 'echo once >> "${trace}"'}
---
name: slow
inputs:
  - {name: trace, type: string, required: true}
steps:
  - id: slow
    type: action
    action: shell
    inputs: {command: 'echo slow >> "${trace}"; test -e "${trace}.second" || sleep 60'}
"""


@pytest.mark.timeout(300)
def test_a_graceful_stop_loses_nothing(tmp_path: Path) -> None:
    """What ends within the grace is recorded, nothing new starts, the rest goes on later."""
    (tmp_path / "definitions").mkdir()
    (tmp_path / "definitions" / "stop.yaml").write_text(STOP)
    trace = tmp_path / "trace"
    params = json.dumps({"trace": str(trace)})
    with Daemon(tmp_path, extra={"WINDLASS_STOP_GRACE": "3000"}) as daemon:
        for workflow in ("slow", "stop"):
            windlass("workflows:execute", "-i", workflow, "-p", params, "-a", cwd=tmp_path)
        wait_until(
            lambda: trace.exists() and {"quick", "slow"} <= set(trace.read_text().split()),
            "both have begun",
        )
        assert daemon.stop() == 0
        words = trace.read_text().split()
        assert sorted(words) == ["done", "quick", "slow"], "nothing new starts while stopping"
        (tmp_path / "trace.second").touch()
        daemon.start()
        wait_until(lambda: "once" in trace.read_text(), "both go on", within=15)
        assert daemon.stop() == 0
    done = json.loads(windlass("workflows:history", "-f", "json", cwd=tmp_path).stdout)
    assert [each["status"] for each in done["executions"]] == ["completed", "completed"]
    assert sorted(trace.read_text().split()) == ["done", "once", "quick", "slow", "slow"]
