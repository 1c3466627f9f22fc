"""Processes of steps: spawned, read live, ended with all they started."""

import asyncio
import os
import resource
import shlex
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from controller.clock import SystemClock
from controller.execute.action import ActionFailed
from controller.execute.process import Ended, Spawn, run_process
from tests.actions.stage import Command, has_children, is_alive
from tests.eventually import eventually
from tests.fake_clock import FakeClock

REAL = SystemClock()


async def started(
    spawn: Spawn, command: Command, clock: FakeClock | None = None
) -> "asyncio.Task[Ended]":
    """A process in the background that has said its first line."""
    running = asyncio.create_task(run_process(spawn, clock or REAL))
    await eventually(lambda: command.lines, "it says something")
    return running


async def refusal(spawn: Spawn) -> ActionFailed:
    """Why it cannot be started."""
    with pytest.raises(ActionFailed) as caught:
        await run_process(spawn, REAL)
    return caught.value


def descriptors() -> int:
    """How many this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_a_process_tells_its_lines_in_order(command: Command) -> None:
    """Lines of stdout and stderr arrive by stream, in order, the one without an end included."""
    ended = await run_process(command.shell("echo a; echo b >&2; echo; printf c"), REAL)
    assert ended.exit_code == 0
    assert [text for stream, text in command.lines if stream == "stdout"] == ["a", "", "c"]
    assert [text for stream, text in command.lines if stream == "stderr"] == ["b"]
    assert (ended.stdout, ended.truncated, ended.last_error) == ("a\n\nc", False, "b")


async def test_lines_are_told_while_the_process_runs(command: Command) -> None:
    """A line is there before the process has ended."""
    fifo = command.cwd / "go"
    os.mkfifo(fifo)
    running = await started(command.shell(f"echo waiting; cat {fifo}"), command)
    assert command.said == ["waiting"]
    fifo.write_text("done\n")
    assert (await running).stdout == "waiting\ndone\n"


async def test_an_exit_is_told_as_it_was(command: Command) -> None:
    """An exit status is positive, a signal negative."""
    assert (await run_process(command.shell("exit 7"), REAL)).exit_code == 7
    assert (await run_process(command.shell("kill -USR1 $$"), REAL)).exit_code == -signal.SIGUSR1


async def test_a_process_reads_its_stdin(command: Command) -> None:
    """A megabyte of stdin arrives, and without one there is nothing to read."""
    ended = await run_process(command.shell("wc -c", stdin=b"x" * 1_000_000), REAL)
    assert ended.stdout.strip() == "1000000"
    assert (await run_process(command.shell("wc -c"), REAL)).stdout.strip() == "0"


async def test_stdout_is_kept_from_the_beginning_and_bounded(command: Command) -> None:
    """Of a megabyte the first 256 KiB become an output, which says that it is not all."""
    ended = await run_process(command.shell("yes 0123456 | head -c 1048576"), REAL)
    assert ended.truncated
    assert ended.stdout == "0123456\n" * 32_768


async def test_a_cancelled_process_gets_sigterm_and_may_tidy_up(command: Command) -> None:
    """A cancellation is a SIGTERM to the whole group; what the process then does is waited for."""
    text = "trap 'echo tidied; exit 0' TERM; echo ready; sleep 100 & wait"
    running = await started(command.shell(text), command)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert command.said == ["ready", "tidied"]


COUNTER = """
import signal, threading
def told(*_):
    print("told", flush=True)
    threading.Timer(0.2, over.set).start()
over = threading.Event()
signal.signal(signal.SIGTERM, told)
print("ready", flush=True)
while not over.wait(0.01):
    pass
"""


async def test_nobody_is_asked_twice_to_end(command: Command) -> None:
    """To some that would mean to end at once."""
    child = f"{shlex.quote(sys.executable)} -c {shlex.quote(COUNTER)}"
    running = await started(command.shell(f"trap wait TERM; {child} & wait"), command)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert command.said == ["ready", "told"]


async def test_a_process_that_ignores_sigterm_is_killed_after_the_grace(
    command: Command, clock: FakeClock
) -> None:
    """Until the grace is over it may go on; then the whole group is killed."""
    text = "trap '' TERM; echo $$; while :; do sleep 0.01; done"
    running = await started(command.shell(text), command, clock)
    running.cancel()
    await clock.advance(0)
    clock.jump(-3_600_000)  # what somebody does to the wall clock changes nothing
    await clock.advance(command.grace - 1)
    assert is_alive(int(command.said[0]))
    await clock.advance(1)
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not is_alive(int(command.said[0]))


async def test_force_does_not_wait(command: Command, clock: FakeClock) -> None:
    """Forced, it is killed without time passing."""
    running = await started(command.shell("trap '' TERM; echo up; sleep 100"), command, clock)
    command.force = True
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_cancelled_again_it_is_killed_at_once(command: Command, clock: FakeClock) -> None:
    """The second cancellation ends the grace of the first."""
    running = await started(command.shell("trap '' TERM; echo up; sleep 100"), command, clock)
    running.cancel()
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_what_a_process_leaves_in_its_group_is_killed(command: Command) -> None:
    """A child in the background neither survives its parent nor keeps anybody waiting."""
    before = time.monotonic()
    ended = await run_process(command.shell("sleep 100 & echo $!"), REAL)
    assert time.monotonic() - before < 0.5
    await eventually(lambda: not is_alive(int(ended.stdout)), "the child is gone")


async def test_a_detached_child_that_holds_the_pipe_keeps_nobody_waiting(
    command: Command,
) -> None:
    """What left the session lives on; its pipe is let go soon after the end of its parent."""
    text = "setsid sh -c 'echo $$ > pid; exec sleep 100' & until test -s pid; do :; done; cat pid"
    ended = await run_process(command.shell(text), REAL)
    pid = int(ended.stdout)
    try:
        assert ended.exit_code == 0
        assert is_alive(pid)
    finally:
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("make", "kind", "says"),
    [
        (lambda c: c.spawn("no-such-program"), "not_found", "no-such-program: not found"),
        (lambda c: c.spawn("./plain"), "permission", "./plain: Permission denied"),
        (lambda c: c.spawn("./text"), "spawn", "Exec format error"),
        (lambda c: c.spawn("true", "a\0b"), "spawn", "null byte"),
        (lambda c: c.spawn("true", BIG="x" * 200_000), "spawn", "too large for the environment"),
    ],
    ids=["not-found", "not-executable", "no-program", "nul", "too-large"],
)
async def test_what_cannot_be_started_says_why(
    command: Command, make: Callable[[Command], Spawn], kind: str, says: str
) -> None:
    """Each way of not starting has a type to retry on and a message to read."""
    (command.cwd / "plain").write_text("")
    (command.cwd / "text").write_text("nothing")
    (command.cwd / "text").chmod(0o755)
    error = await refusal(make(command))
    assert error.type == kind
    assert says in error.message


async def test_a_missing_working_directory_is_named(tmp_path: Path) -> None:
    """It is the directory that is not found, not the program."""
    error = await refusal(Command(tmp_path / "nowhere").spawn("true"))
    assert (error.type, error.message) == ("not_found", f"{tmp_path}/nowhere: not found")


async def test_without_descriptors_nothing_starts_and_nothing_leaks(command: Command) -> None:
    """EMFILE is a failure of the step, not of the loop; afterwards all is as before."""
    before = descriptors()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        error = await refusal(command.spawn("true"))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (error.type, error.message) == ("spawn", "cannot start true: Too many open files")
    assert descriptors() == before
    assert (await run_process(command.spawn("true"), REAL)).exit_code == 0


async def test_a_process_that_cannot_be_watched_is_ended(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process without a pidfd is not left behind."""

    def none_left(_pid: int) -> int:
        raise OSError(24, "Too many open files")

    before = descriptors()
    monkeypatch.setattr(os, "pidfd_open", none_left)
    error = await refusal(command.shell(f"echo $$ > {command.cwd}/pid; sleep 100"))
    assert error.type == "spawn"
    assert descriptors() == before
    assert not has_children()


async def test_without_pidfds_a_thread_waits(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the system has no pidfds, processes run and are cancelled all the same."""
    monkeypatch.delattr(os, "pidfd_open")
    assert (await run_process(command.shell("echo hello; exit 3"), REAL)).exit_code == 3
    running = await started(command.shell("echo up; sleep 100"), command)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_processes_leave_nothing_behind(command: Command) -> None:
    """Fifty processes, twenty at once, leave no descriptor and no zombie."""
    await run_process(command.spawn("true"), REAL)
    before = descriptors()
    gate = asyncio.Semaphore(20)

    async def one() -> int:
        async with gate:
            return (await run_process(command.shell("echo x", stdin=b"y"), REAL)).exit_code

    assert await asyncio.gather(*(one() for _ in range(50))) == [0] * 50
    assert descriptors() == before
    assert not has_children()
