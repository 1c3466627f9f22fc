"""Shell text, command lists and Python scripts, each in a process of its own.

A script's working directory is a scratch directory of its own, removed afterwards. It finds its
inputs as JSON in the file `$WINDLASS_INPUTS`, and may leave its outputs as a JSON object in the
file `$WINDLASS_OUTPUTS`; stdout and stderr are its log, line by line. Of the daemon's environment
it sees what `base_env` has, and never more: that is where credentials are.
"""

import asyncio
import hashlib
import os
import shutil
import signal
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic_core import to_json

from controller.core.definition import Sandbox
from controller.core.expression import to_text
from controller.execute.action import ActionFailed, Call
from controller.execute.handover import read_object
from controller.execute.process import Ended, Spawn, run_process
from controller.execute.sandbox import Sandboxer
from controller.execute.scratch import MARK, Home

RUNNER = Path(__file__).with_name("python_runner.py")

INPUTS, OUTPUTS, FAILURE, SCRIPT = "inputs.json", "outputs.json", "failure.json", "script.py"
"""Files of an attempt's directory."""

OURS = frozenset({INPUTS, OUTPUTS, FAILURE, SCRIPT})

SHELL = ("/bin/sh", "-e")

LONGEST = 100_000
"""Bytes of shell text on a command line (Linux: 128 KiB an argument); more goes to a file."""

LONGEST_NAME = 200
"""Characters of a directory's name; a file system takes 255 bytes."""


@dataclass(frozen=True, slots=True)
class Script:
    """How to run something.

    Attributes:
        inputs: Given in the inputs file; None: there is none.
        cwd: Working directory; None: the attempt's own.
    """

    env: Mapping[str, str]
    inputs: Mapping[str, Any] | None = None
    stdin: str | None = None
    cwd: str | None = None
    sandbox: Sandbox | None = None


class Scripts:
    """Runs scripts.

    Args:
        scratch: Directory below which every attempt gets its own; absolute.
        base_env: What processes see of the daemon's environment.
        kill_grace: Milliseconds between SIGTERM and SIGKILL.
    """

    def __init__(
        self, scratch: Path, base_env: Mapping[str, str], sandboxer: Sandboxer, kill_grace: int
    ) -> None:
        self.scratch = scratch
        self._home = Home(scratch)
        self._removal: asyncio.Future[None] | None = None
        self._base_env = dict(base_env)
        self._sandboxer = sandboxer
        self._kill_grace = kill_grace

    async def shell(
        self, call: Call, command: str | Sequence[Any], script: Script
    ) -> dict[str, Any]:
        """Shell text, or a command and its arguments: `stdout`, `exit_code`, and its outputs."""
        if not command:
            raise ActionFailed("invalid_inputs", "`command` is empty")
        async with self._directory(call) as directory:
            if isinstance(command, str):
                argv = _shell(command, directory)
            else:
                argv = [to_text(each) for each in command]
            ended = await self._run(call, argv, script, directory)
            outputs = {"stdout": ended.stdout, "exit_code": ended.exit_code}
            if ended.truncated:
                call.log("warn", "stdout is longer than what is kept as an output", None)
            if ended.exit_code != 0:
                raise ActionFailed("exit", _how(ended), outputs)
            return outputs | (read_object(directory / OUTPUTS) or {})

    async def python(self, call: Call, text: str, script: Script) -> dict[str, Any]:
        """A script with `main(**inputs)`: what it returns.

        It runs isolated (`-I`: no `PYTHON*` variables, nothing of the working directory), with the
        packages that the controller has, too.
        """
        async with self._directory(call) as directory:
            source = directory / SCRIPT
            source.write_text(text, encoding="utf-8")
            files = (source, *(directory / name for name in (INPUTS, OUTPUTS, FAILURE)))
            argv = (sys.executable, "-I", "-u", "-X", "utf8", str(RUNNER), *map(str, files))
            ended = await self._run(call, argv, script, directory)
            failure = read_object(directory / FAILURE)
            if failure is not None:
                raise ActionFailed(str(failure.get("type")), str(failure.get("message")))
            if ended.exit_code != 0:
                raise ActionFailed("exit", _how(ended), {"exit_code": ended.exit_code})
            return read_object(directory / OUTPUTS) or {}

    def close(self) -> None:
        """Give back the scratch directory; no script may be running."""
        self._home.close()

    async def _run(self, call: Call, argv: Sequence[str], script: Script, directory: Path) -> Ended:
        env = {
            **self._base_env,
            **script.env,
            "WINDLASS_EXECUTION": call.execution,
            "WINDLASS_WORKFLOW": call.workflow,
            "WINDLASS_STEP": call.step,
            "WINDLASS_ATTEMPT": str(call.attempt),
            "WINDLASS_KEY": call.key,
            "WINDLASS_OUTPUTS": f"{directory}/{OUTPUTS}",
            MARK: str(directory),
        }
        if script.inputs is not None:
            (directory / INPUTS).write_bytes(to_json(script.inputs))
            env["WINDLASS_INPUTS"] = f"{directory}/{INPUTS}"

        def on_line(stream: str, text: str) -> None:
            call.log("info" if stream == "stdout" else "warn", text, None)

        wrapped = self._sandboxer.wrap(argv, script.sandbox, directory, call)
        spawn = Spawn(
            argv=wrapped.argv,
            env=env,
            lease=call.lease,
            cwd=Path(script.cwd) if script.cwd is not None else directory,
            on_line=on_line,
            grace=self._kill_grace,
            forced=lambda: call.force,
            stdin=script.stdin.encode(errors="replace") if script.stdin is not None else None,
            wrapped=wrapped.inside,
        )
        return await run_process(spawn, call.clock)

    @asynccontextmanager
    async def _directory(self, call: Call) -> AsyncGenerator[Path]:
        """The attempt's own directory; too long a name is hashed."""
        name = call.key.replace("/", ":")
        if len(name) > LONGEST_NAME:
            name = hashlib.sha256(name.encode()).hexdigest()
        directory = self._home.make(name)
        try:
            yield directory
        finally:
            try:
                await _empty(directory, _names(directory))
            finally:
                self._home.discard(directory)
                self._tidy()

    def _tidy(self) -> None:
        """Have what is discarded removed by somebody who has the time."""
        if self._removal is None and self._home.has_discarded:
            loop = asyncio.get_running_loop()
            self._removal = loop.run_in_executor(None, self._home.remove_discarded)
            self._removal.add_done_callback(self._tidied)

    def _tidied(self, _: "asyncio.Future[None]") -> None:
        self._removal = None
        self._tidy()


def _names(directory: Path) -> list[str]:
    """What is in it; nothing where there is none any more."""
    try:
        return os.listdir(directory)  # ruff: ignore[os-listdir]  # half the cost, once an attempt
    except OSError:
        return []


def _shell(text: str, directory: Path) -> Sequence[str]:
    content = text.encode(errors="replace")
    if len(content) <= LONGEST:
        return (*SHELL, "-c", text)
    file = directory / "script.sh"
    file.write_bytes(content)
    return (*SHELL, str(file))


async def _empty(directory: Path, names: Sequence[str]) -> None:
    """Remove what a directory holds: off the loop where a script left more than what we know of."""
    if OURS.issuperset(names):
        for name in names:
            with suppress(OSError):
                os.unlink(f"{directory}/{name}")  # ruff: ignore[os-unlink]  # half the cost, once an attempt
    else:
        await asyncio.shield(asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True))


def _how(ended: Ended) -> str:
    """How a process failed, with the last thing it said."""
    if ended.exit_code < 0:
        how = f"ended by {_name(-ended.exit_code)}"
    else:
        how = f"exit status {ended.exit_code}"
    return f"{how}: {ended.last_error}" if ended.last_error else how


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
