"""The seed's own document: its YAML as printed, its commands as printed, its API in Python."""

import json
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.crash.daemon import Daemon, environment, windlass
from tests.eventually import wait_until
from tests.sources import ROOT

EXAMPLE = ROOT / "tests" / "seed" / "example-workflow.yaml"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with the project's definitions."""
    shutil.copytree(ROOT / "definitions", tmp_path / "definitions")
    return tmp_path


def history(place: Path, workflow: str) -> list[dict[str, object]]:
    """Executions of a workflow, newest first."""
    said = windlass("workflows:history", "-w", workflow, "-f", "json", cwd=place).stdout
    found: list[dict[str, object]] = json.loads(said)["executions"]
    return found


@pytest.mark.timeout(400)
def test_every_command_of_the_seed_works_as_printed(place: Path) -> None:
    """Each command line of the seed's document, with real ids, beside a running daemon."""
    with Daemon(place):
        said = windlass("workflows:list", "--status", "active", "--format", "json", cwd=place)
        assert "example-workflow" in said.stdout
        own = place / "own.yaml"
        own.write_text("name: own\nsteps:\n  - {id: a, type: action, action: set}\n")
        windlass("workflows:validate", "--file", str(own), cwd=place)
        windlass("workflows:create", "--file", str(own), "--name", "renamed", cwd=place)
        windlass("workflows:execute", "--id", "renamed", "--params", "{}", cwd=place)
        inputs = '{"input1": "3, 5, 8"}'
        windlass("workflows:execute", "--id", "example-workflow", "--params", inputs, cwd=place)
        [done] = history(place, "example-workflow")
        execution = str(done["id"])
        assert done["status"] == "completed"
        windlass("workflows:execute", "--id", "renamed", "--async", cwd=place)
        soon = (datetime.now(UTC) + timedelta(seconds=6)).isoformat()
        windlass("workflows:schedule", "--id", "renamed", "--at", soon, cwd=place)
        windlass("workflows:schedule", "--id", "renamed", "--cron", "0 10 * * *", cwd=place)
        windlass("workflows:status", "--execution", execution, "--detailed", cwd=place)
        windlass("workflows:history", "--status", "completed", "--limit", "5", cwd=place)
        cancelled = windlass("workflows:cancel", "--execution", execution, cwd=place, check=False)
        assert cancelled.returncode == 4, "an execution that has ended is not cancelled"
        out = place / "exported.yaml"
        windlass("workflows:export", "--id", "example-workflow", "--output", str(out), cwd=place)
        windlass("workflows:validate", "--file", str(out), cwd=place)
        wait_until(
            lambda: any("scheduled" in str(each["trigger"]) for each in history(place, "renamed")),
            "the schedule fires",
            within=30,
        )


@pytest.mark.timeout(300)
def test_the_seeds_example_runs_without_a_daemon(place: Path) -> None:
    """Byte for byte as printed: it is created from its file, executed, and gives its output."""
    shutil.rmtree(place / "definitions")
    (place / "definitions").mkdir()
    shutil.copy(EXAMPLE, place / "example-workflow.yaml")
    shutil.copy(ROOT / "definitions" / "example-actions.yaml", place / "example-actions.yaml")
    windlass("workflows:create", "--file", "example-workflow.yaml", cwd=place)
    said = windlass(
        "workflows:execute", "-i", "example-workflow", "-p", '{"input1": "3, 5, 8"}',
        "--format", "json", cwd=place,
    )  # fmt: skip
    record = json.loads(said.stdout)
    record = record.get("execution", record)
    assert record["status"] == "completed"
    assert record["outputs"]["result"]["process_result"]["success"] is True


def test_the_example_of_the_readme_runs(tmp_path: Path) -> None:
    """The README's Python program prints the seed's events and the outputs."""
    text = (ROOT / "README.md").read_text()
    [program] = re.findall(r"(?ms)^```python\n(.*?)^```$", text)
    (tmp_path / "program.py").write_text(program)
    done = subprocess.run(
        [sys.executable, "program.py"],
        cwd=tmp_path,
        env=environment() | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1] == "completed {'count': 3}"
    events = [line.split()[0] for line in lines[:-1]]
    assert events[0] == "created"
    assert "executed" in events
    assert events[-1] == "completed"
