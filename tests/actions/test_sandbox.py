"""`sandbox:`, as it is kept: real processes in real sandboxes."""

import asyncio
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from controller.execute.action import ActionFailed
from controller.execute.sandbox import PRIVATE, Support, probe
from controller.execute.scripts import Script
from tests.actions.stage import Stage, defined, sandbox
from tests.eventually import eventually

needs_bwrap = pytest.mark.skipif(
    probe().bwrap is None, reason=f"THE SANDBOX IS NOT TESTED: {probe().reason}"
)

NOTHING = Support(None, None, "bubblewrap (bwrap) is not installed")


MEMORY = Path("/dev/shm")  # ruff: ignore[hardcoded-temp-file]  # a sandbox has its own /dev


@pytest.fixture(params=["beside", "in memory"])
def inside(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Stage]:
    """Scripts that must be sandboxed, on a machine with a directory of secrets."""
    if request.param == "in memory" and not MEMORY.is_dir():
        pytest.skip("there is no directory in memory")
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "TOKEN").write_text("hunter2")
    scratch = tmp_path if request.param == "beside" else Path(tempfile.mkdtemp(dir=MEMORY))
    stage = Stage(scratch / "scratch", policy="required", hidden=(secrets,))
    yield stage
    stage.close()
    shutil.rmtree(scratch)


async def shell(stage: Stage, text: str, **limits: Any) -> str:
    """What shell text in a sandbox writes."""
    result = await stage.outputs(defined({"shell": text}, sandbox=limits))
    stdout: str = result["stdout"]
    return stdout.strip()


async def everything_in(directory: Path) -> set[str]:
    """The names in a directory of the machine."""
    return await asyncio.to_thread(lambda: {path.name for path in directory.iterdir()})


@needs_bwrap
async def test_only_the_scratch_directory_can_be_written(inside: Stage, tmp_path: Path) -> None:
    """Files of the machine can be read and not changed; the script's own directory is its own."""
    (tmp_path / "file").write_text("as it was")
    text = f"""
    echo '{{"written": true}}' > "$WINDLASS_OUTPUTS"
    echo changed > {tmp_path}/file || true
    for path in {__file__} /etc/passwd /sys/kernel/profiling; do
        if (: >> $path) 2> /dev/null; then echo $path; fi
    done
    """
    result = await inside.outputs(defined({"shell": text}, sandbox={}))
    assert result == {"stdout": "", "exit_code": 0, "written": True}
    assert (tmp_path / "file").read_text() == "as it was"
    assert "root:" in await shell(inside, "cat /etc/passwd")


@needs_bwrap
async def test_root_cannot_make_the_file_system_writable_again(inside: Stage) -> None:
    """There are no capabilities inside, whoever the daemon runs as, and no way to get any."""
    text = """
    grep CapEff /proc/self/status
    mount -o remount,rw,bind / 2> /dev/null && echo remounted
    unshare -Urm mount -o remount,rw,bind / 2> /dev/null && echo remounted below
    value=$(cat /proc/sys/kernel/panic_on_oops)
    (echo "$value" > /proc/sys/kernel/panic_on_oops) 2> /dev/null && echo "the kernel's settings"
    (: > /proc/sysrq-trigger) 2> /dev/null && echo "the kernel's keys"
    true
    """
    assert await shell(inside, text) == "CapEff:\t0000000000000000"


@needs_bwrap
async def test_tmp_is_private(inside: Stage) -> None:
    """What others have in /tmp is not to be seen, and what is left there is seen by nobody."""
    with tempfile.NamedTemporaryFile(dir=PRIVATE) as ours:
        said = await shell(inside, f"ls {PRIVATE}; mktemp")
        mine = Path(said.splitlines()[-1])
        assert Path(ours.name).name not in said
        assert mine.parent == Path(PRIVATE)
        assert mine.name not in await everything_in(Path(PRIVATE))


@needs_bwrap
async def test_other_steps_and_secrets_are_not_to_be_seen(inside: Stage) -> None:
    """Neither the directories of other attempts nor hidden ones have anything in them."""
    [secrets] = inside.hidden
    other = asyncio.ensure_future(
        inside.scripts.shell(inside.call("other"), "echo up; sleep 100", Script({}))
    )
    await eventually(lambda: inside.lines, "the other step runs")
    text = f'echo "$(ls {inside.scratch}/*)"; ls {secrets}; basename "$PWD"'
    said = await shell(inside, text)
    assert "other" not in said
    assert "TOKEN" not in said
    assert said.endswith("x1:a:1")
    other.cancel()
    with pytest.raises(asyncio.CancelledError):
        await other


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A directory outside the /tmp that nobody in a sandbox sees anyway."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        yield Path(directory)


@needs_bwrap
@pytest.mark.parametrize("way", ["straight", "relative", "a link", "behind a link"])
async def test_secrets_are_hidden_wherever_they_are_said_to_be(elsewhere: Path, way: str) -> None:
    """`secrets_dir: secrets`, or `/var/run/secrets/w`, where `/var/run` is a link."""
    real = elsewhere / "real" / "secrets"
    real.mkdir(parents=True)
    (real / "TOKEN").write_text("hunter2")
    (elsewhere / "link").symlink_to(real)
    (elsewhere / "parent").symlink_to(real.parent)
    hidden = {
        "straight": real,
        "relative": Path(*[".."] * (len(Path.cwd().parts) - 1), *real.parts[1:]),
        "a link": elsewhere / "link",
        "behind a link": elsewhere / "parent" / "secrets",
    }
    stage = Stage(elsewhere / "scratch", policy="required", hidden=(hidden[way],))
    try:
        text = f"cat {real}/TOKEN {hidden[way].absolute()}/TOKEN || ls -A {real}"
        assert not await shell(stage, text)
    finally:
        stage.close()


@needs_bwrap
async def test_the_scratch_directory_may_be_behind_a_link(elsewhere: Path) -> None:
    """As a state directory is that was moved to a larger disk."""
    (elsewhere / "real").mkdir()
    (elsewhere / "link").symlink_to(elsewhere / "real")
    stage = Stage(elsewhere / "link" / "scratch", policy="required")
    try:
        text = 'echo \'{"written": true}\' > "$WINDLASS_OUTPUTS"; ls ..'
        said = await stage.outputs(defined({"shell": text}, sandbox={}))
        assert said == {"stdout": "x1:a:1\n", "exit_code": 0, "written": True}
    finally:
        stage.close()


CONNECT = """
import socket
def main(port):
    try:
        socket.create_connection(("127.0.0.1", port), 2).close()
    except OSError as error:
        return {"reached": False}
    return {"reached": True}
"""


@needs_bwrap
@pytest.mark.parametrize("network", [True, False])
async def test_without_network_there_is_none(inside: Stage, network: bool) -> None:  # ruff: ignore[boolean-type-hint-positional-argument]  # a parameter of the test
    """`network: false` cuts off this machine too; by default there is a network."""
    action = defined(
        {"python": CONNECT},
        inputs=[{"name": "port", "type": "integer"}],
        sandbox={"network": network},
    )
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        assert await inside.outputs(action, port=port) == {"reached": network}


@needs_bwrap
async def test_without_network_there_are_no_sockets_of_services(inside: Stage) -> None:
    """A socket is a file, and would be a way out: there are none where services have theirs."""
    assert not await shell(inside, "ls -A /run/", network=False)


@needs_bwrap
async def test_processes_outside_are_not_to_be_seen(inside: Stage) -> None:
    """A script sees its own processes only, and cannot signal others."""
    assert await shell(inside, f"kill -0 {os.getpid()} 2> /dev/null || echo nobody") == "nobody"
    assert int(await shell(inside, "ls -d /proc/[0-9]* | wc -l")) < 8


async def test_memory_is_bounded(tmp_path: Path) -> None:
    """A script that takes more than `memory` fails with MemoryError, sandbox or not."""
    if probe().prlimit is None:
        pytest.skip("THE MEMORY BOUND IS NOT TESTED: prlimit is not installed")
    action = defined(
        {"python": "def main(): return {'n': len(bytearray(1 << 30))}"}, sandbox={"memory": "256M"}
    )
    for support in (None, Support(None, probe().prlimit, "no bubblewrap")):
        stage = Stage(tmp_path / "scratch", policy="preferred", support=support)
        assert (await stage.failure(action)).type == "MemoryError"
        stage.close()


@needs_bwrap
async def test_what_is_in_a_sandbox_gets_its_grace(inside: Stage) -> None:
    """A cancellation is a SIGTERM for the script, which may tidy up, as outside."""
    text = "trap 'echo tidied; exit 0' TERM; echo ready; sleep 100 & wait"
    running = asyncio.ensure_future(inside.perform(defined({"shell": text}, sandbox={})))
    await eventually(lambda: inside.lines, "it runs")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert inside.said == ["ready", "tidied"]


@needs_bwrap
async def test_nothing_leaves_a_sandbox_alive(inside: Stage) -> None:
    """A process that detaches itself ends with the sandbox."""
    mark = f"9{os.getpid()}.25"
    await shell(inside, f"setsid sleep {mark} > /dev/null 2>&1 & sleep 0.05")

    def sleepers() -> list[bytes]:
        lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline")]
        return [line for line in lines if mark.encode() in line]

    await eventually(lambda: not sleepers(), "it has ended")


DIVIDE = """
import tempfile
import pydantic
import shutil
import tempfile
def main(n):
    with tempfile.TemporaryFile():
        return {"n": 1 / n}
"""


@needs_bwrap
async def test_python_works_inside(inside: Stage) -> None:
    """Inputs, outputs, failures and the packages of the controller are as outside."""
    action = defined(
        {"python": DIVIDE},
        inputs=[{"name": "n", "type": "integer"}],
        sandbox={"network": False, "memory": "1G"},
    )
    assert await inside.outputs(action, n=2) == {"n": 0.5}
    assert (await inside.failure(action, n=0)).type == "ZeroDivisionError"


async def test_required_and_unavailable_is_a_failure(tmp_path: Path) -> None:
    """Where the sandbox is required and cannot be had, the script does not run."""
    stage = Stage(tmp_path / "scratch", policy="required", support=NOTHING)
    error = await stage.failure(defined({"shell": "echo ran"}, sandbox={"network": False}))
    assert error.type == "sandbox"
    assert "bubblewrap (bwrap) is not installed" in error.message
    assert (
        await stage.failure(defined({"shell": "echo ran"}, sandbox={"memory": 1}))
    ).type == "sandbox"
    assert stage.lines == []
    stage.close()


async def test_preferred_and_unavailable_is_a_warning(tmp_path: Path) -> None:
    """The script runs, and its log says that it is not sandboxed and why."""
    stage = Stage(tmp_path / "scratch", policy="preferred", support=NOTHING)
    await stage.outputs(defined({"shell": "echo ran"}, sandbox={"memory": "64M"}))
    assert stage.lines == [
        ("warn", "not sandboxed: prlimit is not installed, so memory is not bounded"),
        ("warn", "not sandboxed: bubblewrap (bwrap) is not installed"),
        ("info", "ran"),
    ]
    stage.close()


@pytest.mark.parametrize("policy", ["required", "preferred"])
async def test_the_controller_says_once_that_there_is_no_sandbox(
    tmp_path: Path, policy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever looks at the daemon's own log learns of it too, and is not told with every step."""
    stage = Stage(tmp_path / "scratch", policy=policy, support=NOTHING)
    for _ in range(2):
        with suppress(ActionFailed):
            await stage.outputs(defined({"shell": "true"}, sandbox={}))
    said = capsys.readouterr().err
    assert said.count("steps ask for a sandbox; there is none") == 1
    assert "bubblewrap (bwrap) is not installed" in said
    stage.close()


async def test_off_is_off(tmp_path: Path) -> None:
    """With the policy `off` a script runs as it is, silently."""
    stage = Stage(tmp_path / "scratch", policy="off", support=NOTHING)
    await stage.outputs(defined({"shell": "echo ran"}, sandbox={"network": False}))
    assert stage.lines == [("info", "ran")]
    stage.close()


async def test_a_script_without_sandbox_is_not_wrapped(tmp_path: Path) -> None:
    """Where nothing is asked for, nothing is put in front, whatever the policy."""
    stage = Stage(tmp_path / "scratch", policy="required", support=NOTHING)
    assert (await stage.outputs(defined({"shell": "echo ran"})))["stdout"] == "ran\n"
    with pytest.raises(ActionFailed):
        await stage.scripts.shell(stage.call(), "true", Script({}, sandbox=sandbox()))
    stage.close()
