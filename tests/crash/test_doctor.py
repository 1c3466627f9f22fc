"""`doctor` beside a real daemon, after its death, and before the next one."""

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tests.crash.daemon import Daemon, windlass
from tests.crash.proof import Proof, Work
from tests.eventually import wait_until

EXECUTIONS = 6
MACHINE = {"sandbox", "git", "disk"}
"""Checks of what this machine has, which is not the matter here."""


def _found(place: Path, status: int, *flags: str) -> dict[str, Any]:
    """What is not well: result and how many, by name."""
    done = windlass("doctor", "--format", "json", *flags, cwd=place, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return {
        each["name"]: (each["result"], each["subjects"])
        for each in json.loads(done.stdout)
        if each["result"] != "ok" and each["name"] not in MACHINE
    }


def _change(place: Path, statement: str) -> None:
    with sqlite3.connect(place / ".windlass" / "windlass.db") as database:
        database.execute(statement)
    database.close()


@pytest.mark.timeout(400)
def test_what_a_killed_daemon_had_goes_on_after_a_repair(tmp_path: Path) -> None:
    """Nothing is found while it lives; then what it had is freed, damage mended, and all ends."""
    work = Work(steps=8, shell=frozenset(range(1, 7)), once=frozenset(), seconds=1.0)
    proof = Proof(tmp_path, work)
    with Daemon(tmp_path) as daemon:
        created = proof.create(EXECUTIONS)
        wait_until(lambda: len(proof.done()) >= EXECUTIONS, "some steps", within=30)
        assert _found(tmp_path, 0, "--full") == {}
        assert windlass("doctor", "--repair", cwd=tmp_path, check=False).returncode == 4
        daemon.kill()
        assert proof.unfinished() == EXECUTIONS, "it was at work"
        proof.remember("kill -9")
        assert _found(tmp_path, 0) == {"execution-left-owned": ("warning", EXECUTIONS)}
        change = "UPDATE workflow_executions SET"
        _change(tmp_path, f"{change} status = 'paused' WHERE id = '{created[0]}'")
        _change(tmp_path, f"{change} lease_until = NULL WHERE id = '{created[1]}'")
        assert _found(tmp_path, 0, "--repair") == {
            "execution-unlike-events": ("repaired", 1),
            "execution-ownership": ("repaired", 1),
            "execution-left-owned": ("repaired", EXECUTIONS - 1),
        }
        assert _found(tmp_path, 0, "--full") == {}
        daemon.start()
        wait_until(proof.all_ended, "all to end", within=60)
        assert daemon.stop() == 0
    proof.check()
    assert _found(tmp_path, 0, "--full") == {}
