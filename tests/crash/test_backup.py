"""A backup of a real daemon at work, restored elsewhere: everything goes on from there."""

import json
from pathlib import Path

import pytest

from tests.crash.daemon import Daemon, windlass
from tests.crash.proof import Proof, Work
from tests.eventually import wait_until

EXECUTIONS = 10
GATE = 4
"""The step that does not end before the gate is open."""

STATUS = "SELECT status FROM workflow_executions"

HELD = """name: held
inputs:
  - {name: trace, type: string, required: true}
steps:
  - id: once
    type: action
    action: shell
    idempotent: false
    on_error: continue
    inputs: {command: 'echo once >> "${trace}"; sleep 60'}
  - {id: after, type: action, action: shell, inputs: {command: 'echo after >> "${trace}"'}}
"""


class Gated(Work):
    """One step of each execution waits until a file stands beside the trace."""

    def _action(self, number: int) -> list[str]:
        name, command = super()._action(number)
        wait = 'until [ -e "${trace}.open" ]; do sleep 0.02; done'
        return [name, command.replace("; sleep", f"; {wait}; sleep") if number == GATE else command]


def _proof(folder: Path) -> Proof:
    """A place of its own; no step is `idempotent: false`, for what ran since runs again."""
    folder.mkdir()
    (folder / ".windlass").mkdir()
    return Proof(folder, Gated(steps=8, shell=frozenset(range(1, 7)), once=frozenset()))


@pytest.mark.timeout(400)
def test_a_backup_under_load_goes_on_elsewhere(tmp_path: Path) -> None:
    """All complete there and here; nothing that had completed when it was made runs again."""
    here, there = _proof(tmp_path / "here"), _proof(tmp_path / "there")
    copy = str(tmp_path / "copy.db")
    with Daemon(tmp_path / "here") as daemon:
        here.create(EXECUTIONS)
        begun = f"s{GATE}"
        wait_until(lambda: [step for _, step in here.done()].count(begun) == EXECUTIONS, begun)
        windlass("backup", "--output", copy, cwd=tmp_path / "here")
        assert here.unfinished() == EXECUTIONS, "it was made while executions were in flight"
        here.trace.with_name("trace.open").touch()
        wait_until(here.all_ended, "all to end where they began", within=60)
        assert daemon.stop() == 0
    here.check()
    windlass("restore", copy, cwd=tmp_path / "there")
    there.trace = here.trace
    there.remember("restore")
    assert there.unfinished() == EXECUTIONS
    assert len(there.completed()) == EXECUTIONS * GATE
    with Daemon(tmp_path / "there") as daemon:
        wait_until(there.all_ended, "all to end elsewhere", within=60)
        assert daemon.stop() == 0
    there.check()
    assert len(there.rows("SELECT id FROM workflow_executions")) == EXECUTIONS


@pytest.mark.timeout(400)
def test_a_step_in_flight_at_the_backup_is_interrupted_or_cancelled(tmp_path: Path) -> None:
    """`idempotent: false` never runs twice; what is cancelled before the start begins nothing."""
    here, database = tmp_path / "here", _proof(tmp_path / "here")
    (database.definitions / "held.yaml").write_text(HELD)
    trace = tmp_path / "trace"
    params = json.dumps({"trace": str(trace)})
    with Daemon(here) as daemon:
        windlass("workflows:execute", "-i", "held", "-p", params, "-a", cwd=here)
        wait_until(trace.exists, "the step has begun")
        windlass("backup", "--output", str(tmp_path / "copy.db"), cwd=here)
        refused = windlass("restore", str(tmp_path / "copy.db"), "--force", cwd=here, check=False)
        assert (refused.returncode, "controller" in refused.stderr) == (4, True)
        daemon.kill()
    for wish, status, words in (("", "completed", ["once", "after"]), ("x", "cancelled", ["once"])):
        trace.write_text("once\n")
        windlass("restore", str(tmp_path / "copy.db"), "--force", cwd=here)
        if wish:
            ((execution,),) = database.rows("SELECT id FROM workflow_executions")
            windlass("workflows:cancel", "--execution", execution, cwd=here)
        with daemon:
            wait_until(lambda status=status: database.rows(STATUS) == [(status,)], status)  # type: ignore[misc]  # mypy cannot infer the default
            assert daemon.stop() == 0
        assert trace.read_text().split() == words
