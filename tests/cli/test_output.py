"""What is printed: one JSON document that is stable, and tables that stay tables."""

import asyncio
import json
import operator
import os
import pty
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.cli.output import LEAST, folded, print_fields, print_table
from controller.core.plain import iso, plain
from tests.cli.place import GREETING, Place, line_of
from tests.crash.daemon import environment
from tests.fake_clock import FakeClock
from tests.gitops.repository import Repository
from tests.service.place import opened

TIMES = """\
name: times
inputs:
  - {name: created_at, type: integer, default: 5}
  - {name: at, type: object, default: {due_at: 6}}
outputs:
  - {name: timestamp, type: integer, source: echo.timestamp}
steps:
  - {id: echo, type: action, action: set, inputs: {timestamp: '${created_at}'}}
"""


@pytest.fixture
def _in_india() -> Iterator[None]:
    """Tables show the time of the machine's zone; here it is India's."""
    with pytest.MonkeyPatch.context() as changed:
        changed.setenv("TZ", "Asia/Kolkata")
        time.tzset()
        yield
    time.tzset()


def test_json_has_the_columns_names_and_utc_times(here: Place) -> None:
    """Keys are the seed's columns; times are ISO 8601 in UTC, durations milliseconds."""
    here.create(GREETING)
    (workflow,) = here.fine("workflows:list", "--format", "json").data
    seed = "id name description version status triggers inputs outputs steps error_handler metadata"
    assert set(seed.split()) <= workflow.keys()
    assert workflow["created_at"].endswith("Z")
    execution = here.fine("workflows:execute", "--id", "greeting", "-f", "json").data["execution"]
    seed = (
        "id workflow_id workflow_version status inputs outputs error duration current_step context"
    )
    assert set(seed.split()) <= execution.keys()
    assert isinstance(execution["duration"], int)
    assert execution["started_at"][10] == "T"


def test_a_commit_is_the_same_wherever_it_is_printed(here: Place) -> None:
    """Beside each execution, of each source and revision; when it was made is ISO 8601, too."""
    repository = Repository(here.path)
    commit = repository.put("greeting.yaml", GREETING)
    source = {"name": "git", "url": repository.url}
    here.write("windlass.yaml", f"state_dir: state\nsources: [{json.dumps(source)}]\n")

    async def applied() -> None:
        async with opened(here.path, FakeClock(), source) as place:
            await place.reconcile("git")

    asyncio.run(applied())
    json_form = ("--format", "json")
    executed = here.fine("workflows:execute", "--id", "greeting", *json_form).data
    execution = executed["execution"]["id"]
    retried = ("workflows:retry", "-e", execution, "--from", "measure", *json_form)
    [status] = here.fine("sync:status", *json_form).data
    [revision] = here.fine("sync:history", "git", *json_form).data
    found = [
        executed["commit"],
        here.fine("workflows:status", "-e", execution, *json_form).data["commit"],
        here.fine(*retried).data["commit"],
        status["source"]["commit"],
        revision["commit"],
    ]
    made = repository.git("log", "-1", "--format=%ct").strip()
    assert [each["id"] for each in found] == [commit] * 5
    assert [each["committed_at"] for each in found] == [iso(int(made) * 1000)] * 5


def test_what_users_put_in_is_printed_as_they_put_it(here: Place) -> None:
    """A number of theirs is not taken for one of our times, whatever it is called."""
    here.create(TIMES)
    shown = here.fine("workflows:execute", "--id", "times", "--format", "json").data
    assert shown["execution"]["inputs"] == {"created_at": 5, "at": {"due_at": 6}}
    assert shown["execution"]["outputs"] == {"timestamp": 5}
    assert shown["steps"][0]["outputs"]["timestamp"] == 5


@pytest.mark.parametrize(
    "line",
    [
        ["workflows:list"],
        ["workflows:history"],
        ["schedule:list"],
        ["sync:status"],
        ["workflows:validate", "--file", "0.yaml"],
        ["sync:plan", "--source", "."],
        ["doctor"],
        ["logs", "EXECUTION"],
        ["workflows:status", "-d", "-e", "EXECUTION"],
        ["workflows:retry", "--from", "measure", "--async", "-e", "EXECUTION"],
        ["workflows:schedule", "--id", "greeting", "--cron", "@daily"],
    ],
    ids=operator.itemgetter(0),
)
def test_every_listing_is_one_json_document(here: Place, line: list[str]) -> None:
    """`--format json` prints one document on stdout, whatever else is said on stderr."""
    here.create(GREETING)
    here.fine("workflows:execute", "--id", "greeting")
    (execution,) = here.fine("workflows:history", "-f", "json").data["executions"]
    said = here(*(each.replace("EXECUTION", execution["id"]) for each in line), "--format", "json")
    assert json.loads(said.out) is not None


@pytest.mark.usefixtures("_in_india")
def test_history_is_a_table_with_a_summary(here: Place) -> None:
    """Local times with their zone, newest first, and how many of each status there are."""
    here.create(GREETING)
    for _ in range(2):
        here.fine("workflows:execute", "--id", "greeting")
    here.fine("workflows:execute", "--id", "greeting", "--async")
    lines = here.fine("workflows:history", "--limit", "2").out.splitlines()
    assert lines[0].split() == ["EXECUTION", "WORKFLOW", "STATUS", "CREATED", "TOOK", "TRIGGER"]
    assert [line.split()[2] for line in lines[1:3]] == ["pending", "completed"]
    assert " IST " in lines[1]
    assert lines[3:] == ["", "3 in all: 1 pending, 2 completed"]


def test_history_goes_on_where_a_page_ended(here: Place) -> None:
    """A page says where the next one begins, the last one nothing; the summary is on the first."""
    here.create(GREETING)
    for _ in range(3):
        here.fine("workflows:execute", "--id", "greeting", "--async")
    first = here.fine("workflows:history", "--limit", "2", "--format", "json").data
    here.fine("workflows:execute", "--id", "greeting", "--async")
    page = ("workflows:history", "--limit", "2", "--cursor", first["next"])
    assert f"more: --cursor {first['next']}" not in here.fine(*page).err
    second = here.fine(*page, "--format", "json").data
    assert [len(each["executions"]) for each in (first, second)] == [2, 1]
    assert not {each["id"] for each in first["executions"]} & {second["executions"][0]["id"]}
    assert (second["next"], second["summary"]) == (None, None)
    assert "more: --cursor" in here.fine("workflows:history", "--limit", "2").err
    wrong = here("workflows:history", "--cursor", "x")
    assert (wrong.status, "not a cursor: 'x'" in wrong.err) == (4, True)


def test_detailed_status_tells_everything(here: Place) -> None:
    """Steps with their times, inputs, outputs of the steps and of the execution, the log's end."""
    here.create(GREETING)
    here.fine("workflows:execute", "--id", "greeting", "--params", '{"who": "Ada"}')
    (execution,) = here.fine("workflows:history", "-f", "json").data["executions"]
    said = here.fine("workflows:status", "--execution", execution["id"][:20], "--detailed").out
    parts = ["status     completed (2 of 2 steps)", "STARTED", 'who  "Ada"', "length  3"]
    assert [part for part in [*parts, "hello hello, Ada"] if part not in said] == []


def test_only_the_last_lines_of_a_long_log_are_shown(here: Place) -> None:
    """`--detailed` shows the end of a log that is longer than one reading of it."""
    here.create("""\
name: talking
steps:
  - {id: talk, type: action, action: shell, inputs: {command: 'seq 1 2500'}}
""")
    here.fine("workflows:execute", "--id", "talking")
    (execution,) = here.fine("workflows:history", "-f", "json").data["executions"]
    shown = here.fine("workflows:status", "-e", execution["id"], "-d").out
    assert [line.split()[-1] for line in shown.splitlines()[-20:]] == [
        str(number) for number in range(2481, 2501)
    ]


@pytest.mark.parametrize("form", ["table", "json"])
def test_a_step_without_a_line_is_told(here: Place, form: str) -> None:
    """On stderr, beside the empty log; not where the step has said something."""
    here.create(GREETING)
    here.fine("workflows:execute", "--id", "greeting")
    (execution,) = here.fine("workflows:history", "-f", "json").data["executions"]
    for step, err in (("nope", "no line is of a step 'nope'\n"), ("hello", "")):
        said = here.fine("logs", execution["id"], "--step", step, "--format", form)
        assert said.err == err
        assert ("hello, world" in said.out) == (step == "hello")
    assert not here.fine("logs", execution["id"], "--follow", "--step", "hello").err


def test_a_directory_is_validated_with_carets(here: Place) -> None:
    """Problems stand on stderr with their place; a directory without any says what is defined."""
    here.write("good/greeting.yaml", GREETING)
    said = here.fine("workflows:validate", "--file", "good")
    assert said.out == "good: valid (workflow greeting)\n"
    here.write("bad/greeting.yaml", GREETING.replace("action: log", "action: lgo"))
    said = here("workflows:validate", "--file", "bad")
    assert (said.status, said.out) == (1, "")
    assert "greeting.yaml:8:" in said.err
    assert "^" in said.err
    assert said.err.endswith("bad: 1 problem\n")


@pytest.mark.parametrize(
    "line",
    [
        ("lint", "--root", "defs", "--format", "json"),
        ("workflows:validate", "--file", "defs", "--format", "json"),
        ("workflows:validate", "--file", "defs/large.yaml", "--format", "json"),
        ("sync:plan", "--source", "defs", "--format", "json"),
    ],
    ids=" ".join,
)
def test_a_file_that_is_too_large_is_called_that_everywhere(
    here: Place, line: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The documented code, whoever reads it, and the setting that lets it be read."""
    monkeypatch.setenv("WINDLASS_MAX_FILE_BYTES", "2000")
    here.write("defs/large.yaml", f"# {'x' * 3_000}\n{GREETING}")
    said = here(*line)
    assert said.status == 1, said
    found = said.data if isinstance(said.data, list) else said.data["diagnostics"]
    assert [each["code"] for each in found] == ["file-too-large"]
    assert "at most 2,000 are read" in found[0]["message"]
    assert found[0]["hint"] == "split it, or raise WINDLASS_MAX_FILE_BYTES"


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (("lint", "--root", "a/defs", "--format", "json"), "a/defs/x/bad.yaml"),
        (("lint", "--root", "HERE/a/defs", "--format", "json"), "a/defs/x/bad.yaml"),
        (("lint", "--root", "a/../../outside", "--format", "json"), "a/../../outside/x/bad.yaml"),
        (("workflows:validate", "-f", "a/defs", "--format", "json"), "a/defs/x/bad.yaml"),
        (
            ("workflows:validate", "-f", "a/defs/x/bad.yaml", "--format", "json"),
            "a/defs/x/bad.yaml",
        ),
    ],
)
def test_a_path_can_be_opened_from_where_one_stands(
    here: Place, line: tuple[str, ...], shown: str
) -> None:
    """Whatever names the directory; below the working directory the path is relative."""
    bad = GREETING.replace("action: log", "action: lgo")
    here.write("a/defs/x/bad.yaml", bad)
    here.write("../outside/x/bad.yaml", bad)
    line = tuple(each.replace("HERE", str(here.path)) for each in line)
    said = here(*line)
    assert said.status == 1, said
    [found] = said.data if isinstance(said.data, list) else said.data["diagnostics"]
    assert found["path"] == shown
    assert Path(found["path"]).read_text() == bad
    assert here(*line[:-2]).err.startswith(f"{shown}:8:")


def test_an_export_takes_the_place_of_a_file_whole(here: Place) -> None:
    """The file keeps its mode and its links, nothing is left beside it, and it is valid again."""
    here.create(GREETING)
    file = here.write("kept/greeting.yaml", "old")
    file.chmod(0o640)
    (here.path / "link.yaml").symlink_to(file)
    here.fine("workflows:export", "--id", "greeting", "--output", "link.yaml")
    assert (here.path / "link.yaml").is_symlink()
    assert file.stat().st_mode & 0o777 == 0o640
    assert list(file.parent.iterdir()) == [file]
    assert file.read_text() == here.fine("workflows:export", "--id", "greeting").out
    here.fine("workflows:validate", "--file", file)


def test_cells_cannot_break_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    """Line ends and escape sequences become spaces; wide characters count as two columns."""
    rows = [("日本", "a\nb\x1b[31m"), ("ab", "c")]
    print_table(("NAME", "WHAT"), rows, "none")
    assert capsys.readouterr().out == "NAME  WHAT\n日本  a b [31m\nab    c\n"


def _shown(here: Place, columns: int, *arguments: str) -> list[str]:
    """The lines that a terminal of so many columns shows, without colours."""
    ours, theirs = pty.openpty()
    known = environment() | {"COLUMNS": str(columns)}
    process = subprocess.Popen(
        [*line_of(None), *arguments], cwd=here.path, env=known, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    found = b""
    with suppress(OSError):  # EIO: nobody has the other end any more
        while part := os.read(ours, 65_536):
            found += part
    os.close(ours)
    assert process.wait(20) == 0, found
    return re.sub(r"\x1b\[[0-9;]*m", "", found.decode()).splitlines()


def test_a_history_is_readable_on_a_narrow_terminal(here: Place) -> None:
    """What there is no room for beside the rest stands below it, and nothing is cut."""
    here.create(GREETING)
    here.fine("workflows:execute", "--id", "greeting")
    [execution] = here.fine("workflows:history", "-f", "json").data["executions"]
    lines = _shown(here, 80, "workflows:history")
    assert [line.split() for line in lines[:2]] == [
        ["EXECUTION", "WORKFLOW", "STATUS"],
        ["CREATED", "TOOK", "TRIGGER"],
    ]
    assert lines[2].split() == [execution["id"], "greeting", "completed"]
    assert lines[3].startswith("    20")
    assert lines[3].endswith(" manual")
    assert max(map(len, lines)) <= 80
    assert len(_shown(here, 120, "workflows:history")) == len(lines) - 2


@given(st.lists(st.integers(0, 60), min_size=1, max_size=9), st.integers(20, 120))
def test_every_column_has_its_place_on_a_terminal(widths: list[int], limit: int) -> None:
    """In order, in lines no longer than the terminal; only a wide column alone in one is longer."""
    folds = folded(widths, limit)
    assert [width for fold in folds for width in fold.widths] == widths
    for fold in folds:
        *leading, last = fold.widths
        taken = fold.indent + sum(leading) + 2 * len(leading)
        own = last if fold.room is None else min(last, LEAST)
        assert taken + own <= limit or not leading
        assert fold.room is None or fold.room >= min(last, LEAST) or not leading


def test_a_value_of_many_lines_stays_beside_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    """What follows the first line of a value stands below it; no value is a dash."""
    print_fields([("text", "one\ntwo\x1b[2J"), ("longer", "")])
    assert capsys.readouterr().out == "text    one\n        two [2J\nlonger  -\n"


@given(st.integers(0, 253_402_300_799_999))
def test_a_printed_time_has_the_milliseconds_it_came_from(moment: int) -> None:
    """ISO text sorts as the times do and always has the same length."""
    assert len(iso(moment)) == len("2026-01-01T00:00:00.000Z")
    assert iso(moment) <= iso(min(moment + 1, 253_402_300_799_999))


NAMES = st.sampled_from(["at", "created_at", "trigger", "due_at"])


@given(st.recursive(st.integers(), lambda each: st.dictionaries(NAMES, each), max_leaves=5))
def test_plain_data_is_printed_unchanged(value: object) -> None:
    """What is not a record of ours is not touched."""
    assert plain(value) == value
