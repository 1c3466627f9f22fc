"""A real daemon whose wall clock is set back and forward, by `libfaketime`, amid the work."""

import json
import time
from pathlib import Path

import pytest

from tests.crash.conftest import Survived
from tests.crash.daemon import Daemon
from tests.crash.proof import Proof, Work
from tests.crash.test_around import ROUNDS, amid_the_work
from tests.eventually import wait_until

LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
"""What makes a process believe another time."""

WORK = Work(steps=8, once=frozenset({4}), shell=frozenset({2, 4}))  # ruff: ignore[call-with-shell-equals-true]  # no such shell

TICK = """name: tick
steps: [{id: a, type: action, action: set}]
triggers: [{type: scheduled, config: {cron: "* * * * * *", overlap: allow}}]
"""


@pytest.mark.skipif(not LIBRARIES, reason="libfaketime is not here: apt-get install faketime")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("rounds", ROUNDS)
def test_the_clock_is_set_back_and_forward(tmp_path: Path, rounds: int, survived: Survived) -> None:
    """Work goes on wherever the clock stands; what has fired does not fire again."""
    proof = Proof(tmp_path, WORK)
    (proof.definitions / "tick.yaml").write_text(TICK)
    offset = tmp_path / "offset"
    offset.write_text("+0")
    faked = {"LD_PRELOAD": str(LIBRARIES[0]), "FAKETIME_TIMESTAMP_FILE": str(offset)}
    faked |= {"FAKETIME_CACHE_DURATION": "1", "DONT_FAKE_MONOTONIC": "1"}
    faked["FAKETIME_DONT_FAKE_MONOTONIC"] = "1"

    def fired() -> list[int]:
        return next(iter(proof.fires().values()), [])

    with Daemon(tmp_path, extra=faked | {"WINDLASS_CHECKPOINT_INTERVAL": "1000"}) as daemon:
        wait_until(lambda: len(fired()) > 1, "fires")
        for _ in range(rounds):
            for moved in (-3000, 0, 1800, 0):
                amid_the_work(proof)
                offset.write_text(f"{moved:+}s")
                proof.remember(f"clock set by {moved} s")
                wait_until(lambda: _work_ended(proof), "all to end", within=60)
                wait_until(lambda moved=moved: abs(_shift(daemon) - moved) < 60, "it believes it")  # type: ignore[misc]  # mypy cannot infer the default
        latest = fired()[-1]
        offset.write_text("+3600s")
        wait_until(lambda: _shift(daemon) > 3000, "it believes that too", within=10)
        proof.create(1)  # it looks at its clock; by itself it does so once a minute
        wait_until(lambda: fired()[-1] > latest, "it fires again", within=70)
        assert daemon.stop() == 0
    assert len(set(fired())) == len(fired())
    proof.check(statuses=("completed", "running", "pending"))
    survived(proof)


def _work_ended(proof: Proof) -> bool:
    query = "SELECT 1 FROM workflow_executions WHERE workflow_id = 'work' AND completed_at IS NULL"
    return not proof.rows(query)


def _shift(daemon: Daemon) -> float:
    """Seconds by which the daemon's clock was moved: what it says of its age, and its age."""
    began = Path(f"/proc/{daemon.process.pid}").stat().st_mtime
    says = float(json.loads(daemon.get("/readyz"))["uptime"]) / 1000
    return says - (time.time() - began)
