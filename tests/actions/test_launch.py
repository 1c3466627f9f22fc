"""How processes begin: on threads, with what a program expects, by the C library or by Python."""

import asyncio
import os
import signal
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from controller.clock import SystemClock
from controller.execute import process
from controller.execute.action import NotNow
from controller.execute.launch import Begin, Command, Launcher, Native, best, by_popen
from controller.execute.process import Ended, Spawn, run_process
from tests.actions import stage
from tests.actions.stage import ENVIRONMENT, has_children
from tests.eventually import wait_until

REAL = SystemClock()


@pytest.fixture(params=["native", "popen"])
def begin(request: pytest.FixtureRequest) -> Begin:
    """Each way to begin a process."""
    if request.param == "popen":
        return by_popen
    if not isinstance(best(), Native):
        pytest.skip("the C library is too old")
    return best()


async def said(begin: Begin, cwd: Path, *argv: str, **env: str) -> str:
    """What a process wrote until its end."""
    command = Command(argv, {**ENVIRONMENT, **env}, cwd, lambda: True)
    launched = await Launcher(begin).launch(lambda: command)
    os.close(launched.stderr)
    os.close(launched.pidfd)
    os.set_blocking(launched.stdout, True)
    with os.fdopen(launched.stdout, "rb") as file:
        text = (await asyncio.to_thread(file.read)).decode()
    await asyncio.to_thread(os.waitpid, launched.pid, 0)
    return text


def script(path: Path, text: str) -> None:
    """A program."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


async def test_a_process_leads_a_session_of_its_own(begin: Begin, tmp_path: Path) -> None:
    """Its group and its session are its own, so that all of it can be ended."""
    fields = (await said(begin, tmp_path, "cat", "/proc/self/stat")).rpartition(")")[2].split()
    group, session = fields[2], fields[3]
    assert group == session != str(os.getpgrp())
    assert session != str(os.getsid(0))


async def test_a_process_sees_no_descriptor_but_its_own(begin: Begin, tmp_path: Path) -> None:
    """Not even one that we had inherited, and would pass on."""
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)  # ruff: ignore[boolean-positional-value-in-call]  # as it is declared
    try:
        listed = await said(begin, tmp_path, "/bin/sh", "-c", "exec ls /proc/$$/fd")
    finally:
        os.close(reading)
        os.close(writing)
    assert [each for each in listed.split() if int(each) > 2] == ["3"]  # ls has the folder open


async def test_a_process_is_ended_by_signals_that_python_ignores(
    begin: Begin, tmp_path: Path
) -> None:
    """`yes | head` ends by SIGPIPE; ignored is only what we were started to ignore, as by nohup."""
    status = await said(begin, tmp_path, "cat", "/proc/self/status")
    masks = dict(line.split(":\t") for line in status.splitlines() if line.startswith("Sig"))
    assert int(masks["SigBlk"], 16) == 0
    ignored = int(masks["SigIgn"], 16)
    by_us = {each for each in signal.Signals if signal.getsignal(each) is signal.SIG_IGN}
    assert signal.SIGPIPE in by_us
    inherited = by_us - {signal.SIGPIPE, signal.SIGXFSZ}
    assert {each for each in signal.Signals if ignored >> (each - 1) & 1} == inherited


async def test_a_program_is_looked_for_where_the_process_will_be(
    begin: Begin, tmp_path: Path
) -> None:
    """By the PATH that it will have, relative to its directory; what cannot be run is passed by."""
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "greet").write_text("not to be run")
    script(tmp_path / "second" / "greet", "echo second $0")
    script(tmp_path / "greet", "echo here")
    (tmp_path / "third").mkdir()
    (tmp_path / "third" / "greet").symlink_to("nothing")
    path = "nowhere:first:second"
    assert await said(begin, tmp_path, "greet", PATH=path) == "second second/greet\n"
    assert await said(begin, tmp_path, "greet", PATH="") == "here\n"
    assert await said(begin, tmp_path, "./greet", PATH="nowhere") == "here\n"
    with pytest.raises(PermissionError):
        await said(begin, tmp_path, "greet", PATH="nowhere:first:third")
    with pytest.raises(FileNotFoundError):
        await said(begin, tmp_path, "greet", PATH="nowhere")


async def test_a_directory_that_cannot_be_entered_is_named(begin: Begin, tmp_path: Path) -> None:
    """A file is no working directory."""
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError) as caught:
        await said(begin, tmp_path / "file", "true")
    assert caught.value.filename in {str(tmp_path / "file"), tmp_path / "file"}


async def test_a_standard_descriptor_that_is_free_confuses_nobody(
    begin: Begin, tmp_path: Path
) -> None:
    """A daemon started without them has pipes there: the process has the right ones."""
    kept = [os.dup(each) for each in range(3)]
    os.closerange(0, 3)
    try:
        text = await said(begin, tmp_path, "/bin/sh", "-c", "cat; echo out; echo error >&2")
    finally:
        for number, each in enumerate(kept):
            os.dup2(each, number)
            os.close(each)
    assert text == "out\n"


async def test_whether_a_process_may_begin_is_asked_last(begin: Begin, tmp_path: Path) -> None:
    """By the thread that would begin it, when everything is there; else nothing is left of it."""
    asked: list[tuple[str, int]] = []

    def may() -> bool:
        asked.append((threading.current_thread().name, len(os.listdir("/dev/fd"))))  # ruff: ignore[os-listdir]  # as names
        return False

    launcher, before = Launcher(begin), len(os.listdir("/dev/fd"))  # ruff: ignore[os-listdir]  # as names
    with pytest.raises(NotNow):
        await launcher.launch(
            lambda: Command(("sleep", "100"), ENVIRONMENT, tmp_path, may, b"text")
        )
    assert asked == [("pool", before + 5)]  # two pipes, and what it would read
    assert len(os.listdir("/dev/fd")) == before  # ruff: ignore[os-listdir]  # as names
    assert not has_children()


@contextmanager
def held() -> Generator[tuple[Launcher, threading.Event, Callable[[], None]]]:
    """A launcher that waits before it begins a process: has come so far, and let it go on."""
    reached, free = threading.Event(), threading.Event()

    def begin(command: Command, stdin: int, stdout: int, stderr: int) -> int:
        reached.set()
        assert free.wait(10)
        return best()(command, stdin, stdout, stderr)

    try:
        yield Launcher(begin), reached, free.set
    finally:
        free.set()


@asynccontextmanager
async def beginning(
    spawn: Spawn, monkeypatch: pytest.MonkeyPatch
) -> AsyncGenerator[tuple[asyncio.Task[Ended], Callable[[], None]]]:
    """A process that is about to begin, and let it go on."""
    with held() as (launcher, reached, go_on):
        monkeypatch.setattr(process, "LAUNCHER", launcher)
        running = asyncio.create_task(run_process(spawn, REAL))
        await asyncio.to_thread(reached.wait)
        yield running, go_on


async def test_what_is_cancelled_while_it_begins_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process begins all the same, gets its SIGTERM, and is waited for."""
    command = stage.Command(tmp_path)
    text = f"echo $$ > {tmp_path}/pid; exec sleep 100"
    async with beginning(command.shell(text), monkeypatch) as (running, go_on):
        running.cancel()
        await asyncio.sleep(0)
        assert not running.done()
        go_on()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert not has_children()


async def test_what_is_cancelled_and_cannot_begin_is_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody asks any more why."""
    spawn = stage.Command(tmp_path).spawn("no-such")
    async with beginning(spawn, monkeypatch) as (running, go_on):
        running.cancel()
        await asyncio.sleep(0)
        go_on()
        with pytest.raises(asyncio.CancelledError):
            await running


async def test_a_process_whose_lease_ran_out_on_the_way_begins_when_it_is_renewed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The controller slept after it had looked: whoever took the execution had begun the step."""
    command = stage.Command(tmp_path)
    async with beginning(command.shell("echo begun"), monkeypatch) as (running, go_on):
        command.lease.holds = False
        go_on()
        await command.lease.asked.wait()
        assert not has_children()
        assert not running.done()
        command.lease.renew()
        assert (await running).exit_code == 0
    assert command.said == ["begun"]


async def test_what_was_taken_while_it_began_never_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancelled before the launcher asks, or while the lease is waited for."""
    for first in (True, False):
        command = stage.Command(tmp_path)
        async with beginning(command.shell("echo begun"), monkeypatch) as (running, go_on):
            command.lease.holds = False
            if first:
                running.cancel()
                await asyncio.sleep(0)
                go_on()
            else:
                go_on()
                await command.lease.asked.wait()
                running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
        assert command.said == []
        assert not has_children()


def test_a_process_that_nobody_can_be_told_of_is_ended(tmp_path: Path) -> None:
    """The loop is closed while a process begins: it does not outlive that."""
    with held() as (launcher, reached, go_on):
        command = Command(("sleep", "100"), ENVIRONMENT, tmp_path, lambda: True)

        async def ask() -> None:  # ruff: ignore[unused-async]  # on a loop
            _ = launcher.launch(lambda: command)

        asyncio.run(ask())
        assert reached.wait(10)
        go_on()
        wait_until(lambda: not has_children(), "it is ended and reaped")
