"""`kill -9`, for real: fifty executions of twenty steps, and the daemon killed among them."""

import asyncio
import json
import random
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from controller.app import open_app
from controller.settings import Settings
from tests.crash.daemon import Daemon, windlass
from tests.eventually import wait_until

EXECUTIONS = 50
STEPS = 20
KILLS = 4

ONCE = {4, 9, 14}
"""Steps that are `idempotent: false`."""

SHELL = {2, 7, 12, 17} | ONCE
"""Steps that leave a trace outside."""


def definition() -> str:
    """Twenty steps in a row; those in `SHELL` append who they are to a file."""
    lines = [
        "name: twenty",
        "inputs:",
        "  - {name: trace, type: string, required: true}",
        "steps:",
    ]
    for number in range(STEPS):
        lines += [f"  - id: s{number}", "    type: action"]
        if number in SHELL:
            lines += [
                "    action: shell",
                "    inputs:",
                f'      command: echo "${{execution.id}} s{number}" >> "${{trace}}"; sleep 0.02',
            ]
        else:
            lines += ["    action: set", f"    inputs: {{v{number}: {number}}}"]
        if number in ONCE:
            lines += ["    idempotent: false", "    on_error: continue"]
    return "\n".join(lines) + "\n"


async def create(folder: Path) -> None:
    """Ask for the executions, as a command would."""
    async with open_app(Settings(state_dir=folder / ".windlass")) as app:
        inputs = {"trace": str(folder / "trace")}
        for _ in range(EXECUTIONS):
            await app.service.execute_workflow("twenty", inputs)


def rows(folder: Path, query: str) -> list[tuple[Any, ...]]:
    """What the database says."""
    with sqlite3.connect(folder / ".windlass" / "windlass.db") as database:
        found = database.execute(query).fetchall()
    database.close()
    return found


def completed(folder: Path) -> set[tuple[str, str]]:
    """(execution, step) of every step that was recorded as completed."""
    query = "SELECT execution_id, step_id FROM execution_checkpoints WHERE type = 'completed'"
    return {(row[0], row[1]) for row in rows(folder, query)}


def traces(folder: Path) -> list[tuple[str, str]]:
    """(execution, step) of every time a step did something, in order."""
    trace = folder / "trace"
    if not trace.exists():
        return []
    words = [line.split() for line in trace.read_text().splitlines()]
    return [(each[0], each[1]) for each in words]


def ended(folder: Path) -> bool:
    """Every execution has ended."""
    query = "SELECT count(*) FROM workflow_executions WHERE status IN ('completed', 'failed')"
    return int(rows(folder, query)[0][0]) == EXECUTIONS


@pytest.mark.timeout(120)
def test_a_killed_daemon_loses_nothing_and_repeats_nothing(tmp_path: Path) -> None:
    """All executions complete after `kill -9`; no completed step runs again; none of ONCE twice."""
    definitions = tmp_path / "definitions"
    definitions.mkdir()
    (definitions / "twenty.yaml").write_text(definition())
    dice = random.Random(20261123)
    daemon = Daemon(tmp_path)
    known: list[tuple[set[tuple[str, str]], int]] = []
    with daemon:
        asyncio.run(create(tmp_path))
        for kill in range(KILLS):
            aim = EXECUTIONS * len(SHELL) * (kill + dice.random()) / (KILLS + 1)
            wait_until(lambda aim=aim: len(traces(tmp_path)) >= aim, "some steps", within=30)  # type: ignore[misc]  # mypy cannot infer the default
            daemon.kill()
            known.append((completed(tmp_path), len(traces(tmp_path))))
            daemon.start()
        wait_until(lambda: ended(tmp_path), "all executions to end", within=60)
        assert daemon.stop() == 0
    done = traces(tmp_path)
    statuses = Counter(row[0] for row in rows(tmp_path, "SELECT status FROM workflow_executions"))
    assert dict(statuses) == {"completed": EXECUTIONS}
    for completed_then, length in known:
        again = [each for each in done[length:] if each in completed_then]
        assert not again, f"completed steps ran again: {again[:5]}"
    counts = Counter(done)
    twice = [each for each, count in counts.items() if count > 1 and int(each[1][1:]) in ONCE]
    assert not twice, f"steps that must not be repeated were: {twice[:5]}"
    must = {f"s{number}" for number in SHELL - ONCE}
    executions = {row[0] for row in rows(tmp_path, "SELECT id FROM workflow_executions")}
    assert {(one, step) for one in executions for step in must} <= set(done)


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


@pytest.mark.timeout(60)
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
        wait_until(
            lambda: (
                rows(tmp_path, "SELECT count(*) FROM workflow_executions WHERE status='completed'")
                == [(2,)]
            ),
            "both complete",
            within=15,
        )
        daemon.stop()
    assert sorted(trace.read_text().split()) == ["done", "once", "quick", "slow", "slow"]
