"""`doctor` goes on where other commands stop, and says what is wrong."""

import os
import pty
import re
import sqlite3
import subprocess
import termios
from contextlib import closing, suppress

import pytest

from controller.clock import SystemClock
from controller.doctor.examine import Examination
from controller.doctor.finding import Report
from tests.cli.place import GREETING, Place, line_of
from tests.crash.daemon import environment


def _results(here: Place, status: int, *flags: str) -> dict[str, str]:
    said = here("doctor", "--format", "json", *flags)
    assert said.status == status, said
    return {each["name"]: each["result"] for each in said.data}


def test_a_healthy_place_is_healthy(here: Place) -> None:
    """Everything that is needed is looked at, and nothing has failed."""
    here.write("definitions/.keep", "")
    here.fine("workflows:list")
    found = _results(here, 0)
    looked_at = {"python", "git", "settings", "state directory", "disk", "source", "sandbox"}
    assert looked_at | {"database", "controller", "clock"} == found.keys()
    assert set(found.values()) <= {"ok", "warning"}


def test_a_broken_database_is_told_beside_the_rest(here: Place) -> None:
    """A file that is no database fails its own check only."""
    here.write("definitions/.keep", "")
    here.write(".windlass/windlass.db", "this is not a database, it is a text of some length" * 9)
    failed = {name for name, result in _results(here, 1).items() if result == "failed"}
    assert failed == {"database"}


def test_wrong_settings_are_a_finding(here: Place) -> None:
    """What cannot be read is said, and the machine was looked at all the same."""
    found = _results(here, 1, "--config", "nowhere.yaml")
    assert found["settings"] == "failed"
    assert found["python"] == "ok"


def test_a_variable_that_is_no_setting_is_told(
    here: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is ignored, which is a warning: with the setting that was meant, where one is close."""
    here.write("definitions/.keep", "")
    here.fine("workflows:list")
    monkeypatch.setenv("WINDLASS_STATEDIR", "elsewhere")
    monkeypatch.setenv("WINDLASS_PORT_80_TCP", "tcp://")  # as a cluster sets it
    said = here("doctor", "--format", "json")
    told = [each["detail"] for each in said.data if each["result"] == "warning"]
    assert said.status == 0
    assert any(
        "STATEDIR is no setting" in each and "mean WINDLASS_STATE_DIR?" in each for each in told
    )
    assert any("PORT_80_TCP is no setting" in each and "settings.md" in each for each in told)


def test_a_settings_file_that_is_a_directory_is_not_passed_over(here: Place) -> None:
    """What cannot be read is said, with the reason."""
    (here.path / "windlass.yaml").mkdir()
    said = here("workflows:list")
    assert said.status == 4
    assert "cannot read windlass.yaml: Is a directory" in said.err


def test_a_place_that_cannot_be_written_is_a_finding(here: Place) -> None:
    """A state directory that is a file, and a source that is not there."""
    here.write("file", "")
    found = _results(here, 1, "--state-dir", "file")
    assert (found["state directory"], found["source"]) == ("failed", "failed")


def test_every_source_is_looked_at_as_what_it_is(
    here: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each directory must be there, wherever it was named; a repository is no directory."""
    here.write("defs/.keep", "")
    here.fine("workflows:list")
    assert _results(here, 1)["source"] == "failed"
    assert _results(here, 0, "--source", "defs")["source"] == "ok"
    monkeypatch.setenv("WINDLASS_SOURCE", "https://git.example.org/team/flows.git#main")
    assert _results(here, 0)["source"] == "ok"
    monkeypatch.delenv("WINDLASS_SOURCE")
    here.write(
        "windlass.yaml",
        "sources: [{name: a, directory: defs}, {name: b, directory: nowhere},"
        " {name: c, url: 'https://git.example.org/team/flows.git'}]",
    )
    found = _results(here, 1)
    assert [found[f"source {name}"] for name in "abc"] == ["ok", "failed", "ok"]


def test_what_is_created_meanwhile_is_not_in_the_future(
    here: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside a controller at work the newest execution is newer than the examination's begin."""
    here.write("definitions/.keep", "")
    here.create(GREETING)
    here.fine("workflows:execute", "--id", "greeting")
    examine = Examination.run

    def run(examination: Examination) -> Report:
        report = examine(examination)
        with closing(sqlite3.connect(here.path / ".windlass" / "windlass.db")) as database:
            now = (SystemClock().now(),)
            database.execute("UPDATE workflow_executions SET created_at = ?", now)
            database.commit()
        return report

    monkeypatch.setattr(Examination, "run", run)
    assert _results(here, 0)["clock"] == "ok"


def test_a_clock_that_was_set_back_is_told(here: Place) -> None:
    """What was recorded has passed, whatever the clock shows now."""
    here.write("definitions/.keep", "")
    here.create(GREETING)
    here.fine("workflows:execute", "--id", "greeting")
    with closing(sqlite3.connect(here.path / ".windlass" / "windlass.db")) as database:
        later = (SystemClock().now() + 60_000,)
        database.execute("UPDATE workflow_executions SET created_at = ?", later)
        database.commit()
    assert _results(here, 1)["clock"] == "failed"


def test_a_narrow_terminal_cuts_no_reason(here: Place) -> None:
    """What is not ok stands whole below the table, what is ok is cut; a wide one says it once."""
    here.write("definitions/.keep", "")
    file = here.write(f"{'long/' * 20}file", "")
    reason = f"{file} is not a directory we may write to"
    line = ("doctor", "--state-dir", str(file))
    narrow, wide = (_on_terminal(here, columns, *line) for columns in (80, 400))
    assert f"\nstate directory (failed)\n  {reason}\n" in narrow
    assert max(map(len, narrow.partition("\n\n")[0].splitlines())) <= 80
    assert wide.count(reason) == 1
    assert not any(" (ok)\n" in each for each in (narrow, wide))


def _on_terminal(here: Place, columns: int, *line: str) -> str:
    """What a command prints on a terminal of this width, without colours."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, columns))
    with subprocess.Popen(
        [*line_of(None), *line],
        cwd=here.path,
        env=environment() | {"COLUMNS": ""},
        stdin=theirs,
        stdout=theirs,
    ):
        os.close(theirs)
        said = b""
        with suppress(OSError):  # what Linux says when nobody has the other end any more
            while more := os.read(ours, 65_536):
                said += more
    os.close(ours)
    return re.sub(r"\x1b\[[0-9;]*m", "", said.decode().replace("\r\n", "\n"))
