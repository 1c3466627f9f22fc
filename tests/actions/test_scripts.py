"""Shell text, command lists and Python scripts: what they are given, and what they give."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.execute import handover, scripts
from controller.execute.action import ActionFailed
from controller.execute.scripts import Script
from tests.actions.stage import ENVIRONMENT, Stage, defined, is_alive
from tests.eventually import eventually

OURS = {
    "WINDLASS_EXECUTION": "x1",
    "WINDLASS_WORKFLOW": "w",
    "WINDLASS_STEP": "a",
    "WINDLASS_ATTEMPT": "1",
    "WINDLASS_KEY": "x1/a/1",
}


async def variables(stage: Stage, **env: str) -> dict[str, str]:
    """The environment of a command."""
    said = await stage.outputs("shell", command=["/usr/bin/env", "-0"], env=env)
    return dict(each.split("=", 1) for each in said["stdout"].split("\0") if each)


async def test_a_command_sees_its_own_environment_and_nothing_of_ours(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not a variable of the daemon's reaches a step: that is where credentials are."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    found = await variables(stage, COLOR="blue")
    outputs, scratch = found.pop("WINDLASS_OUTPUTS"), found.pop("WINDLASS_SCRATCH")
    assert found == {**ENVIRONMENT, **OURS, "COLOR": "blue"}
    assert outputs.startswith(f"{scratch}/")


async def test_an_author_cannot_pretend_to_be_another_step(stage: Stage) -> None:
    """What the engine says about the attempt wins over `env`."""
    found = await variables(stage, WINDLASS_STEP="another")
    assert found["WINDLASS_STEP"] == "a"


async def test_shell_text_stops_at_the_first_failure(stage: Stage) -> None:
    """`/bin/sh -e`: a failed command fails the step, with what it said and what there was."""
    error = await stage.failure("shell", command="echo begun; echo oh no >&2; false; echo never")
    assert (error.type, error.message) == ("exit", "exit status 1: oh no")
    assert error.outputs == {"stdout": "begun\n", "exit_code": 1}
    assert stage.lines == [("info", "begun"), ("warn", "oh no")]


async def test_a_signal_has_a_name(stage: Stage) -> None:
    """A step that was killed says by what."""
    error = await stage.failure("shell", command="kill -9 $$")
    assert (error.type, error.message) == ("exit", "ended by SIGKILL")


async def test_a_list_is_no_shell(stage: Stage) -> None:
    """Arguments arrive as they are, numbers and truths as JSON has them."""
    said = await stage.outputs("shell", command=["printf", "%s|", "$HOME; `id`", 3, True, None])
    assert said["stdout"] == "$HOME; `id`|3|true||"


async def test_shell_text_longer_than_an_argument_may_be_runs(stage: Stage) -> None:
    """200 KiB of text is no reason to fail."""
    text = f"echo begin\n{'# ' + 'x' * 1000}\n" * 200
    assert (await stage.outputs("shell", command=text))["stdout"] == "begin\n" * 200


async def test_a_command_reads_stdin_in_its_directory(stage: Stage) -> None:
    """`stdin` and `cwd` are as given."""
    said = await stage.outputs("shell", command="pwd; cat", stdin="hello é", cwd="/usr")
    assert said["stdout"] == "/usr\nhello é"


async def test_an_empty_command_is_refused(stage: Stage) -> None:
    """Neither an empty text nor an empty list nor a number is a command."""
    nothing: list[object] = ["", [], 7]
    for empty in nothing:
        assert (await stage.failure("shell", command=empty)).type == "invalid_inputs"


async def test_outputs_come_from_the_file(stage: Stage) -> None:
    """The keys of the outputs file join `stdout` and `exit_code`, and may replace them."""
    text = """echo '{"rows": [1, 2], "stdout": null}' > "$WINDLASS_OUTPUTS" """
    assert await stage.outputs("shell", command=text) == {
        "stdout": None,
        "exit_code": 0,
        "rows": [1, 2],
    }


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("echo '{\"a\": ' > $WINDLASS_OUTPUTS", "is not JSON"),
        ("echo '{\"a\": NaN}' > $WINDLASS_OUTPUTS", "is not JSON"),
        ("echo '[1]' > $WINDLASS_OUTPUTS", "must hold a JSON object"),
        ("printf '\\377' > $WINDLASS_OUTPUTS", "is not JSON"),
        ("mkfifo $WINDLASS_OUTPUTS", "is not a file"),
        ("mkdir $WINDLASS_OUTPUTS", "is not a file"),
        ("ln -s /etc/hostname $WINDLASS_OUTPUTS", "cannot be read"),
        ("ln -s /dev/zero $WINDLASS_OUTPUTS", "cannot be read"),
        (f"truncate -s {handover.LARGEST + 1} $WINDLASS_OUTPUTS", "is larger than"),
        ("yes '[' | head -c 100000 > $WINDLASS_OUTPUTS", "is not JSON"),
    ],
    ids=["half", "nan", "list", "binary", "pipe", "folder", "link", "device", "huge", "deep"],
)
async def test_a_bad_outputs_file_is_a_failure(stage: Stage, text: str, says: str) -> None:
    """Whatever a script leaves there, the daemon neither waits for it nor follows it."""
    error = await stage.failure("shell", command=text)
    assert error.type == "bad_output"
    assert says in error.message


async def test_an_outputs_file_without_content_is_no_output(stage: Stage) -> None:
    """`> "$WINDLASS_OUTPUTS"` says nothing."""
    said = await stage.outputs("shell", command=': > "$WINDLASS_OUTPUTS"')
    assert said == {"stdout": "", "exit_code": 0}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(value=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
async def test_no_value_becomes_shell(stage: Stage, value: str) -> None:
    """Whatever text an input has, the shell of a defined action sees it as it is, and runs none."""
    action = defined(
        {"shell": 'printf %s "${text}"; printf "|%s" ${text} > /dev/null'},
        inputs=[{"name": "text", "type": "string", "required": True}],
    )
    assert (await stage.outputs(action, text=value))["stdout"] == value


async def test_inputs_that_would_run_do_not(stage: Stage) -> None:
    """The classics of script injection are text."""
    action = defined(
        {"shell": "echo ${text}"}, inputs=[{"name": "text", "type": "string", "required": True}]
    )
    for text in ("$(touch owned)", "`touch owned`", "; touch owned", "x && touch owned", "$HOME"):
        said = await stage.outputs(action, text=text)
        assert said["stdout"].split() == text.split()


async def test_python_gets_inputs_and_gives_outputs(stage: Stage) -> None:
    """`main(**inputs)` is called with JSON values, and what it returns are the outputs."""
    script = "def main(a, b=2):\n    return {'sum': a['n'] + b, 'text': 'é\\ud83c\\udf88'[:1]}\n"
    result = await stage.outputs("python", script=script, inputs={"a": {"n": 1}})
    assert result == {"sum": 3, "text": "é"}


async def test_python_may_write_its_outputs_itself(stage: Stage) -> None:
    """As any script; what `main` returns is put in its place, nothing is not."""
    script = """
import os
def main(**given):
    with open(os.environ["WINDLASS_OUTPUTS"], "w") as file:
        file.write('{"written": true}')
    return given or None
"""
    assert await stage.outputs("python", script=script) == {"written": True}
    assert await stage.outputs("python", script=script, inputs={"a": 1}) == {"a": 1}


async def test_python_that_returns_nothing_has_no_outputs(stage: Stage) -> None:
    """None is an empty result."""
    assert await stage.outputs("python", script="def main(): pass") == {}


async def test_what_python_prints_is_the_log_at_once(stage: Stage) -> None:
    """A line is told while the script still runs, without `flush`."""
    script = "import time\ndef main():\n    print('begun é')\n    time.sleep(100)"
    running = asyncio.ensure_future(stage.perform("python", script=script))
    await eventually(lambda: ("info", "begun é") in stage.lines, "it is told")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


SCRIPT = """
def deeper(n):
    raise KeyError(f"no {n}")

def main():
    deeper(3)
"""


async def test_an_exception_is_the_failure(stage: Stage) -> None:
    """Its class is the type to retry on, and the log shows the script's own lines and no others."""
    error = await stage.failure("python", script=SCRIPT)
    assert (error.type, error.message) == ("KeyError", "'no 3'")
    assert {level for level, _ in stage.lines} == {"warn"}
    shown = "\n".join(stage.said)
    assert "line 6, in main\n    deeper(3)" in shown
    assert 'line 3, in deeper\n    raise KeyError(f"no {n}")' in shown
    assert shown.endswith("KeyError: 'no 3'")
    assert "python_runner" not in shown


@pytest.mark.parametrize(
    ("script", "kind", "says"),
    [
        ("def main(:", "SyntaxError", "line 1"),
        ("x = 1", "TypeError", "the script defines no function `main`"),
        ("def main(): return 3", "bad_output", "main() must return a dict, not int"),
        ("async def main(): return {}", "bad_output", "not coroutine"),
        ("def main(): return {'a': {1, 2}}", "bad_output", "set is not JSON serializable"),
        ("def main(): return {'a': float('nan')}", "bad_output", "not JSON compliant"),
        ("def main(): a = {}; a['a'] = a; return a", "bad_output", "Circular reference"),
        ("def main(x): return {}", "TypeError", "missing 1 required positional argument: 'x'"),
        ("class Odd(Exception): pass\ndef main(): raise Odd()", "Odd", "Odd"),
        ("def main(): assert 1 > 2, 'arithmetic'", "AssertionError", "arithmetic"),
        ("def main(): open('/no/\\udcff')", "FileNotFoundError", "/no/\\udcff"),
        ("def main(): raise OSError('no \\udcff')", "OSError", "no \\udcff"),
        ("import sys\ndef main(): sys.exit('gave up')", "exit", "exit status 1: gave up"),
        ("import sys\ndef main(): sys.exit(4)", "exit", "exit status 4"),
        ("import os\ndef main(): os.kill(os.getpid(), 9)", "exit", "ended by SIGKILL"),
    ],
)
async def test_a_script_that_fails_says_why(
    stage: Stage, script: str, kind: str, says: str
) -> None:
    """Every way in which a script does not return an object has a type and a message."""
    error = await stage.failure("python", script=script)
    assert error.type == kind
    assert says in error.message


async def test_a_script_may_end_early(stage: Stage) -> None:
    """`sys.exit()` is no failure."""
    assert await stage.outputs("python", script="import sys\ndef main(): sys.exit()") == {}


@pytest.mark.parametrize(
    "way",
    [
        "timeout 100",
        "cd /; env -i timeout 100",
        "cd /; setsid --wait",
        "env -i setsid --wait",
    ],
)
@pytest.mark.parametrize("force", [False, True])
async def test_what_is_cancelled_ends_with_all_that_it_started(
    stage: Stage, tmp_path: Path, way: str, *, force: bool
) -> None:
    """Or it would go on beside the next attempt; what belongs to another one is left alone."""
    texts = {
        attempt: f"{way} sh -c 'trap : TERM; echo $$ > {tmp_path}/{attempt}; "
        "while :; do sleep 0.1; done'; true"
        for attempt in (1, 10)
    }
    calls = {attempt: stage.call("a", attempt) for attempt in texts}
    running = {
        attempt: asyncio.ensure_future(stage.scripts.shell(calls[attempt], text, Script({})))
        for attempt, text in texts.items()
    }

    def pid(attempt: int) -> int:
        path = tmp_path / str(attempt)
        return int(path.read_text() or 0) if path.exists() else 0

    await eventually(lambda: pid(1) and pid(10), "both run")
    for attempt in (1, 10):
        calls[attempt].force = force
        running[attempt].cancel()
        with pytest.raises(asyncio.CancelledError):
            await running[attempt]
        assert [is_alive(pid(each)) for each in (1, 10)] == [False, attempt == 1]


async def test_what_is_started_to_escape_a_cancellation_does_not(
    stage: Stage, tmp_path: Path
) -> None:
    """It was not there when the others were asked to end."""
    text = f"""
    trap 'until test -s {tmp_path}/escaped; do :; done; exit' TERM
    setsid sh -c 'trap "setsid sleep 100 & echo \\$! > {tmp_path}/escaped; exit" TERM
        echo up; while :; do sleep 0.1; done' &
    while :; do sleep 0.1; done
    """
    running = asyncio.ensure_future(stage.perform("shell", command=text))
    await eventually(lambda: stage.said, "it runs")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not is_alive(int((tmp_path / "escaped").read_text()))


async def test_python_text_is_never_interpolated(stage: Stage) -> None:
    """`${…}` in a script is the script's own."""
    action = defined({"python": "def main(a): return {'a': a, 'raw': '${a}'}"}, inputs=[
        {"name": "a", "type": "string", "default": "x"}
    ])  # fmt: skip
    assert await stage.outputs(action) == {"a": "x", "raw": "${a}"}


async def test_a_shell_script_finds_its_inputs_in_a_file(stage: Stage) -> None:
    """`$WINDLASS_INPUTS` is the inputs with their defaults, as JSON."""
    action = defined(
        {"shell": 'cat "$WINDLASS_INPUTS"'},
        inputs=[
            {"name": "a", "type": "object", "required": True},
            {"name": "b", "type": "integer", "default": 2},
        ],
        env={"FIXED": "1"},
    )
    said: dict[str, Any] = await stage.outputs(action, a={"é": [1.5, None]})
    assert json.loads(said["stdout"]) == {"a": {"é": [1.5, None]}, "b": 2}


async def test_a_plain_shell_step_has_no_inputs_file(stage: Stage) -> None:
    """What it is given, it finds in its text and in its `env`."""
    said = await stage.outputs("shell", command="env")
    assert "WINDLASS_OUTPUTS=" in said["stdout"]
    assert "WINDLASS_INPUTS=" not in said["stdout"]


async def test_a_cancelled_script_is_ended_and_forgotten(stage: Stage) -> None:
    """A cancellation goes through as one, and the attempt's directory is gone."""
    running = asyncio.ensure_future(stage.perform("shell", command="echo up; sleep 100"))
    await eventually(lambda: stage.lines, "it runs")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    [home] = stage.scratch.iterdir()
    assert not list(home.glob("x1*"))
    await eventually(lambda: len(list(home.iterdir())) == 1, "nothing is left of it")


async def test_force_ends_a_script_that_ignores_everything(stage: Stage) -> None:
    """`call.force`, set before the cancellation, leaves out the grace."""
    call = stage.call()
    text = "trap '' TERM; echo up; sleep 100"
    work = stage.scripts.shell(call, text, scripts.Script({}))
    running = asyncio.ensure_future(work)
    await eventually(lambda: stage.lines, "it runs")
    call.force = True
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_steps_with_long_names_have_directories(stage: Stage) -> None:
    """A key longer than a file name may be is no failure."""
    result = await stage.scripts.shell(stage.call("s" * 300), "pwd", scripts.Script({}))
    assert len(result["stdout"].strip().rpartition("/")[2]) == 64


async def test_the_same_attempt_begins_afresh(stage: Stage) -> None:
    """What a lost attempt left in its directory is not there when it runs again."""
    await stage.outputs("shell", command="true")
    [home] = stage.scratch.iterdir()
    left = home / "x1:a:1"
    left.mkdir()
    (left / "outputs.json").write_text('{"old": 1}')
    assert "old" not in await stage.outputs("shell", command="true")


async def test_a_directory_that_cannot_be_made_is_a_failure_of_the_step(stage: Stage) -> None:
    """It says what cannot be written, and why."""
    stage.scratch.write_text("a file where the directory should be")
    with pytest.raises(ActionFailed, match=f"spawn: cannot write {stage.scratch}: File exists"):
        await stage.perform("shell", command="true")
    stage.scratch.unlink()
