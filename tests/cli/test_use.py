"""Wrong use and failures: what is said, where, and the exit status."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest

from controller.cli import COMMANDS, ending
from controller.core.problem import Refused, Unavailable
from tests.cli.place import FAILING, GREETING, WAITING, Place, line_of
from tests.crash.daemon import environment

BETWEEN = ("--from", "2026-01-01", "--to", "2026-01-02")
LONG = "long" * 2_000
EXECUTE = ("workflows:execute", "--id", "greeting")


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        (["workflows:lst"], "Did you mean 'workflows:list'?"),
        (["workflows", "lst"], "Did you mean 'workflows:list'?"),
        (["export"], "Did you mean 'workflows:export'?"),
        (["workflows"], "There are workflows:list,"),
        (["workflows:execute", "--idd", "x"], "Did you mean '--id'?"),
        (["workflows:history", "--status", "done"], "'pending', 'running', 'completed'"),
        (["workflows:execute"], "Missing option '--id' / '-i'"),
        (["workflows:schedule", "--id", "greeting"], "Give one of --cron and --at."),
        (["schedule:next"], "Give one of --workflow and --cron."),
        (["schedule:next", "-w", "w", "-c", "@daily"], "Give one of --workflow and --cron."),
        (["schedule:next", "-w", "w", "-z", "UTC"], "--timezone goes with --cron."),
        (["schedule:next", "-c", "@daily", "-n", "1001"], "1<=x<=1000"),
        (["schedule:next", "-c", "@daily", "--after", "soon"], "`soon` is not an ISO 8601 time"),
        (["workflows:schedule", "-i", "w", "--at", "soon"], "`soon` is not an ISO 8601 time"),
        (["schedule:backfill", "-w", "w", "--from", "2026-01-01"], "Missing option '--to'"),
        (["schedule:backfill", *BETWEEN], "Give one of SCHEDULE and --workflow."),
        (["schedule:backfill", "s", "-w", "w", *BETWEEN], "Give one of SCHEDULE and --workflow."),
    ],
)
def test_wrong_use_is_answered_with_what_was_meant(
    here: Place, line: list[str], meant: str
) -> None:
    """Exit status 2, one message and one hint on stderr, nothing on stdout."""
    said = here(*line)
    assert (said.status, said.out) == (2, "")
    assert said.err.startswith("windlass: ")
    assert meant in said.err
    assert "\nhint: see windlass" in said.err


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ('{"who": Ada}', 'expected value at line 1 column 9\n    {"who": Ada}\n            ^\n'),
        ('{"é": 1, x}', 'at line 1 column 10\n    {"é": 1, x}\n             ^\n'),
        ("{\n  1\n}", "at line 2 column 3\n      1\n      ^\n"),
        ("[1]", "must be a JSON object"),
        ('{"who": "a", "x": {"b": 1, "b": 2}}', "the name 'b' is there twice"),
        ('{"who": "a", "who": "b"}', "the name 'who' is there twice"),
        ("@nowhere.json", "cannot read nowhere.json: No such file"),
        ("", "not JSON"),
    ],
)
def test_params_that_are_no_object_are_shown_with_the_place(
    here: Place, text: str, wrong: str
) -> None:
    """A caret stands below the character; the database is not even opened."""
    said = here(*EXECUTE, "--params", text)
    assert said.status == 2
    assert "Invalid value for '--params' / '-p': " in said.err
    assert wrong in said.err
    assert not (here.path / ".windlass").exists()


def test_params_come_from_a_file_or_from_stdin(here: Place) -> None:
    """`@FILE` and `-` are read instead of the text."""
    here.create(GREETING)
    here.write("who.json", '{"who": "Grace"}')
    assert here.fine(*EXECUTE, "--params", "@who.json").out == "length  5\n"
    assert here.apart(*EXECUTE, "--params", "-", stdin='{"who": "Jo"}').out == "length  2\n"


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (["workflows:execute", "--id", "nobody"], ending.NOT_FOUND),
        (["workflows:status", "--execution", "nothing"], ending.NOT_FOUND),
        (["workflows:export", "--id", "nobody"], ending.NOT_FOUND),
        (["workflows:validate", "--file", "nowhere.yaml"], ending.NOT_FOUND),
        (["schedule:cancel", "none"], ending.NOT_FOUND),
        (["schedule:pause", "none"], ending.NOT_FOUND),
        (["schedule:resume", "none"], ending.NOT_FOUND),
        (["schedule:next", "-w", "nobody"], ending.NOT_FOUND),
        (["schedule:list", "-w", "nobody"], ending.NOT_FOUND),
        (["schedule:next", "-c", "0 0 30 2 *"], ending.REFUSED),
        (["schedule:next", "-c", "61 * * * *"], ending.REFUSED),
        (["schedule:next", "-c", "@daily", "-z", "Mars/Base"], ending.REFUSED),
        (["schedule:backfill", "none", *BETWEEN], ending.NOT_FOUND),
        (["schedule:backfill", "-w", "nobody", *BETWEEN], ending.NOT_FOUND),
        (["workflows:execute", "--id", "greeting", "-p", '{"whoo": 1}'], ending.FAILED),
        (["workflows:execute", "--id", "failing"], ending.FAILED),
        (["workflows:create", "--file", "0.yaml"], ending.REFUSED),
        (["workflows:export", "--id", "greeting", "-o", "no/where"], ending.REFUSED),
        (["run", "--http-address", "nowhere"], ending.REFUSED),
        (["version", "--config", "x"], ending.WRONG_USE),
        (["sync:plan", "--source", "nowhere"], ending.NOT_FOUND),
        (["sync:plan", "--source", LONG], ending.REFUSED),
        (["workflows:list", "--state-dir", LONG], ending.REFUSED),
        (["workflows:list", "--config", LONG], ending.REFUSED),
        (["workflows:list", "--database-url", f"sqlite:///{LONG}"], ending.REFUSED),
        (["workflows:list", "--search", "é%" * 5_001], ending.REFUSED),
        (["workflows:validate", "--file", LONG], ending.REFUSED),
        (["lint", "--root", LONG], ending.REFUSED),
        (["backup", "--output", LONG], ending.REFUSED),
        (["restore", LONG], ending.REFUSED),
        (["run", "--http-address", f"{'a' * 64}:80"], ending.REFUSED),
        (["run", "--http-address", "a..b:80"], ending.REFUSED),
    ],
)
def test_the_exit_status_says_what_happens_next(here: Place, line: list[str], status: int) -> None:
    """1 failed, 2 wrong use, 3 not found, 4 refused, 5 unavailable; the reason is on stderr."""
    here.create(GREETING, FAILING)
    said = here(*line)
    assert said.status == status, said
    assert said.err.splitlines()[-2 if "hint: " in said.err else -1].startswith("windlass: ")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ExceptionGroup("", [ExceptionGroup("", [Unavailable("gone")])]), ending.UNAVAILABLE),
        (ExceptionGroup("", [Refused("no")]), ending.REFUSED),
        (OSError(28, "No space left on device"), ending.UNAVAILABLE),
        (Unavailable("full", hint="make room"), ending.UNAVAILABLE),
        (ZeroDivisionError("a bug"), ending.BUG),
    ],
)
def test_whatever_is_raised_becomes_one_message(
    here: Place, error: Exception, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Groups are unwrapped, and a bug says that it is one: no traceback reaches a person."""

    @click.command()
    def broken() -> None:
        raise error

    monkeypatch.setattr("controller.cli.about.version", broken)
    said = here("version")
    assert said.status == status
    assert said.err.startswith(
        "windlass: internal error: " if status == ending.BUG else "windlass: "
    )
    assert "Traceback" not in said.err


def test_every_exit_status_has_its_meaning(here: Place) -> None:
    """There is no constant without one; help has the first of them."""
    there = {value for name, value in vars(ending).items() if name.isupper() and type(value) is int}
    statuses = there - {ending.SHOWN}
    assert statuses == set(ending.STATUSES)
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGPIPE):
        assert ending.of_signal(number) in ending.STATUSES
    words = " ".join(here.fine("--help").out.split())
    said = re.findall(r"(\d) ([a-z ]+)", words.partition("Exit status: ")[2])
    assert [int(each) for each, _ in said] == list(range(6))
    assert all(ending.STATUSES[int(each)].startswith(meaning) for each, meaning in said)


def test_what_is_not_utf_8_is_said_so(here: Place) -> None:
    """As the system hands it on, with the bytes that are none escaped."""
    here.fine("workflows:list")
    said = here("logs", "caf\udce9")
    assert said.status == ending.WRONG_USE
    assert said.err == "windlass: caf\\xe9 is not UTF-8\nhint: give it in UTF-8\n"


def test_the_longest_text_is_sought(here: Place) -> None:
    """As much as may be asked for is taken by the database."""
    assert here.fine("workflows:list", "--search", "😀" * 10_000).out == "no workflows\n"
    assert here.fine("workflows:list", "--search", "%" * 10_000).out == "no workflows\n"


@pytest.mark.parametrize("line", [["workflows:list"], ["run"], ["doctor"]])
def test_a_working_directory_that_is_gone_is_said_so(here: Place, line: list[str]) -> None:
    """What stands below it cannot be found any more."""
    (here.path / "gone").mkdir()
    os.chdir("gone")
    Path("../gone").rmdir()
    said = here(*line)
    assert said.status == ending.REFUSED
    assert said.err == "windlass: the working directory is gone\nhint: change into another one\n"


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_what_a_terminal_cannot_show_is_replaced(here: Place, encoding: str) -> None:
    """A table has another character there; JSON has the same value, written otherwise."""
    here.create(GREETING.replace("Say hello", "Say hello… ☃"))
    said = []
    for form in ("table", "json"):
        command = [*line_of(None), "workflows:list", "--format", form]
        known = environment() | {"PYTHONIOENCODING": encoding, "LC_ALL": "C"}
        done = subprocess.run(command, env=known, capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, b"")
        said.append(done.stdout)
    assert b"Say hello" in said[0]
    assert json.loads(said[1])[0]["description"] == "Say hello… ☃"


def test_two_words_are_one_command(here: Place) -> None:
    """`workflows list` is `workflows:list`, and `workflows:logs` is `logs`."""
    assert here.fine("workflows", "list").out == "no workflows\n"
    assert here("workflows", "logs", "nothing").status == ending.NOT_FOUND


def test_every_command_explains_itself(here: Place) -> None:
    """Each command of the table is there, has a text, and every option of it has one."""
    for name in COMMANDS:
        said = here.fine(name, "--help")
        assert said.out.startswith(f"Usage: windlass {name}")
        lines = said.out.partition("Options:\n")[2].splitlines()
        bare = [each for each in lines if each.startswith("  -") and "  " not in each.strip()]
        # a text too long for its line stands on the next
        assert all(lines[lines.index(each) + 1].startswith("     ") for each in bare), bare


def test_nobody_reading_is_no_failure_of_ours(here: Place) -> None:
    """A closed pipe ends the command quietly, with the status a shell gives that."""
    with here.beside("schema") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.wait(20) == ending.UNREAD
        assert not process.stderr.read()


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("workflows:list >&-", ending.DONE),
        ("workflows:list <&- >&- 2>&-", ending.DONE),
        ("workflows:status -e nothing 2>&-", ending.NOT_FOUND),
        ("workflows:execute --id greeting --params - <&-", ending.WRONG_USE),
        ("run --http-address 192.0.2.1:80 2>&-", ending.REFUSED),
    ],
)
def test_a_closed_stream_is_no_failure_of_ours(here: Place, line: str, status: int) -> None:
    """The command does what it does, and says what it says to nobody."""
    here.create(GREETING)
    command = f"{sys.executable} -m controller {line}"
    done = subprocess.run(
        ["sh", "-c", command], env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == status, done.stderr
    assert "internal error" not in done.stderr


@pytest.mark.parametrize(
    ("settings", "wrong"),
    [
        ("http_address: 127.0.0.1:99999", "a port is at most 65535"),
        ("http_address: '8228'", "write it as host:port"),
        ("sources: 5", "must be a list of sources"),
        ("sources: '{}'", "must be a list of sources"),
    ],
)
def test_a_wrong_setting_says_what_is_right(here: Place, settings: str, wrong: str) -> None:
    """The file, the setting, and in our words what it takes."""
    here.write("windlass.yaml", settings)
    said = here("workflows:list")
    assert (said.status, wrong in said.err) == (ending.REFUSED, True), said.err
    assert f"windlass.yaml: `{settings.partition(':')[0]}`: " in said.err


def test_a_flag_is_stronger_than_the_environment(
    here: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--state-dir` decides where things are kept, whatever the variable says."""
    monkeypatch.setenv("WINDLASS_STATE_DIR", "elsewhere")
    here.fine("workflows:list", "--state-dir", "chosen")
    assert Path("chosen/windlass.db").exists()
    assert not Path("elsewhere").exists()


def test_signal_takes_any_json(here: Place) -> None:
    """A payload need not be an object; without a controller the command says that nothing moves."""
    here.create(WAITING)
    execution = here.fine("workflows:execute", "--id", "waiting", "--async").out.strip()
    said = here.fine("workflows:signal", "-e", execution[:30], "-n", "go", "-p", '"yes"')
    assert said.out == f"sent go to {execution}\n"
    assert "no controller is at work" in said.err
