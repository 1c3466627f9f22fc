"""Shell text, command lists and Python scripts, each in a process of its own.

A script's working directory is a scratch directory of its own, removed afterwards. It finds its
inputs as JSON in the file `$WINDLASS_INPUTS`, if it has any — a plain `shell` step has none — and
may leave its outputs as a JSON object in the file `$WINDLASS_OUTPUTS`; stdout and stderr are its
log, line by line. Of the daemon's environment it sees what `base_env` has, and never more: that is
where credentials are.
"""

import hashlib
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from pydantic_core import to_json

from controller.core.definition import Sandbox
from controller.core.expression import to_text
from controller.execute.action import ActionFailed, Call
from controller.execute.handover import read_object
from controller.execute.launch import Command
from controller.execute.pool import POOL, settled
from controller.execute.process import Ended, Spawn, run_process
from controller.execute.sandbox import Sandboxer
from controller.execute.scratch import MARK, Home

RUNNER = Path(__file__).with_name("python_runner.py")

INPUTS, OUTPUTS, FAILURE, SCRIPT = "inputs.json", "outputs.json", "failure.json", "script.py"
"""Files of an attempt's directory."""

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


class Program(Protocol):
    """What to run in an attempt's directory, and what comes of it."""

    def argv(self, directory: Path) -> Sequence[str]:
        """The command line, what it needs written; raises `OSError`."""

    def outputs(self, ended: Ended, directory: Path) -> dict[str, Any]:
        """What it gave; raises `ActionFailed`."""


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
        self.home = Home(scratch)
        self.base_env = dict(base_env)
        self.sandboxer = sandboxer
        self._kill_grace = kill_grace

    async def shell(
        self, call: Call, command: str | Sequence[Any], script: Script
    ) -> dict[str, Any]:
        """Shell text, or a command and its arguments: `stdout`, `exit_code`, and its outputs."""
        if not command:
            raise ActionFailed("invalid_inputs", "`command` is empty")
        return await self._run(call, _Shell(command), script)

    async def python(self, call: Call, text: str, script: Script) -> dict[str, Any]:
        """A script with `main(**inputs)`: what it returns.

        It runs isolated (`-I`: no `PYTHON*` variables, nothing of the working directory), with the
        packages that the controller has, too.
        """
        return await self._run(call, _Python(text), script)

    def close(self) -> None:
        """Give back the scratch directory; no script may be running."""
        self.home.close()

    async def _run(self, call: Call, program: Program, script: Script) -> dict[str, Any]:
        def on_line(stream: str, text: str) -> None:
            call.log("info" if stream == "stdout" else "warn", text, None)

        attempt = _Attempt(self, call, program, script)
        spawn = Spawn(
            make=attempt.begin,
            on_line=on_line,
            grace=self._kill_grace,
            forced=lambda: call.force,
            lease=call.lease,
            cut=call.cut,
        )
        ended: Ended | None = None
        try:
            ended = await run_process(spawn, call.clock)
            if ended.truncated:
                call.log("warn", "stdout is longer than what is kept as an output", None)
        finally:
            outputs = await settled(POOL.do(partial(attempt.end, ended)))
        return outputs


class _Attempt:
    """One run of a program in a directory of its own; all of it is done on threads."""

    def __init__(self, scripts: Scripts, call: Call, program: Program, script: Script) -> None:
        self._scripts = scripts
        self._call = call
        self._program = program
        self._script = script
        self._directory: Path | None = None

    def begin(self) -> Command:
        """Make its directory; raises `ActionFailed`."""
        call, script, scripts = self._call, self._script, self._scripts
        try:
            directory = self._directory = scripts.home.make(_name(call.key))
            argv = self._program.argv(directory)
            if script.inputs is not None:
                (directory / INPUTS).write_bytes(to_json(script.inputs))
        except OSError as error:
            where = error.filename or scripts.scratch
            raise ActionFailed("spawn", f"cannot write {where}: {error.strerror}") from None
        wrapped = scripts.sandboxer.wrap(argv, script.sandbox, directory)
        return Command(
            argv=wrapped.argv,
            env=self._env(directory),
            cwd=Path(script.cwd) if script.cwd is not None else directory,
            may=lambda: call.lease.holds,
            stdin=script.stdin.encode(errors="replace") if script.stdin is not None else None,
            sandboxed=wrapped.inside,
            warnings=wrapped.missing,
        )

    def end(self, ended: Ended | None) -> dict[str, Any]:
        """Its outputs, if it has ended by itself; its directory is nobody's then."""
        if self._directory is None:
            return {}
        try:
            return {} if ended is None else self._program.outputs(ended, self._directory)
        finally:
            self._scripts.home.discard(self._directory)

    def _env(self, directory: Path) -> dict[str, str]:
        call = self._call
        env = {
            **self._scripts.base_env,
            **self._script.env,
            "WINDLASS_EXECUTION": call.execution,
            "WINDLASS_WORKFLOW": call.workflow,
            "WINDLASS_STEP": call.step,
            "WINDLASS_ATTEMPT": str(call.attempt),
            "WINDLASS_KEY": call.key,
            "WINDLASS_OUTPUTS": f"{directory}/{OUTPUTS}",
            MARK: str(directory),
        }
        if self._script.inputs is not None:
            env["WINDLASS_INPUTS"] = f"{directory}/{INPUTS}"
        return env


class _Shell:
    """Shell text, or a command and its arguments."""

    def __init__(self, command: str | Sequence[Any]) -> None:
        self._command = command

    def argv(self, directory: Path) -> Sequence[str]:
        """See `Program`."""
        if not isinstance(self._command, str):
            return [to_text(each) for each in self._command]
        content = self._command.encode(errors="replace")
        if len(content) <= LONGEST:
            return (*SHELL, "-c", self._command)
        file = directory / "script.sh"
        file.write_bytes(content)
        return (*SHELL, str(file))

    def outputs(self, ended: Ended, directory: Path) -> dict[str, Any]:
        """See `Program`."""
        outputs = {"stdout": ended.stdout, "exit_code": ended.exit_code}
        if ended.exit_code != 0:
            raise ActionFailed("exit", _how(ended), outputs)
        return outputs | (read_object(directory / OUTPUTS) or {})


class _Python:
    """Text that defines `main`."""

    def __init__(self, text: str) -> None:
        self._text = text

    def argv(self, directory: Path) -> Sequence[str]:
        """See `Program`."""
        source = directory / SCRIPT
        source.write_text(self._text, encoding="utf-8")
        files = (source, *(directory / name for name in (INPUTS, OUTPUTS, FAILURE)))
        return (sys.executable, "-I", "-u", "-X", "utf8", str(RUNNER), *map(str, files))

    def outputs(self, ended: Ended, directory: Path) -> dict[str, Any]:
        """See `Program`."""
        failure = read_object(directory / FAILURE)
        if failure is not None:
            raise ActionFailed(str(failure.get("type")), str(failure.get("message")))
        if ended.exit_code != 0:
            raise ActionFailed("exit", _how(ended), {"exit_code": ended.exit_code})
        return read_object(directory / OUTPUTS) or {}


def _name(key: str) -> str:
    """Of an attempt's directory; too long a name is hashed."""
    name = key.replace("/", ":")
    return name if len(name) <= LONGEST_NAME else hashlib.sha256(name.encode()).hexdigest()


def _how(ended: Ended) -> str:
    """How a process failed, with the last thing it said."""
    if ended.exit_code < 0:
        how = f"ended by {_signal_name(-ended.exit_code)}"
    else:
        how = f"exit status {ended.exit_code}"
    return f"{how}: {ended.last_error}" if ended.last_error else how


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
