"""Shell text, command lists and Python scripts, each in a process of its own.

A script's working directory is a scratch directory of its own, removed afterwards. It finds its
inputs as JSON in the file `$WINDLASS_INPUTS`, and may leave its outputs as a JSON object in the
file `$WINDLASS_OUTPUTS`; stdout and stderr are its log, line by line.
"""

import hashlib
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic_core import from_json, to_json

from controller.core.definition import Sandbox
from controller.execute.action import ActionFailed, Call
from controller.execute.process import MARK, Ended, Spawn, run_process
from controller.execute.sandbox import Sandboxer

LARGEST_OUTPUTS = 16_777_216
"""Bytes of an outputs file."""

RUNNER = Path(__file__).with_name("python_runner.py")

SHELL = ("/bin/sh", "-e", "-c")


@dataclass(frozen=True, slots=True)
class Script:
    """What to run.

    Attributes:
        inputs: Given in the inputs file; None: there is none.
    """

    argv: Sequence[str]
    env: Mapping[str, str]
    inputs: Mapping[str, Any] | None = None
    stdin: str | None = None
    cwd: str | None = None
    sandbox: Sandbox | None = None


class Scripts:
    """Runs scripts.

    Args:
        scratch: Directory below which every attempt gets its own.
        base_env: What processes see of the daemon's environment.
        kill_grace: Milliseconds between SIGTERM and SIGKILL.
    """

    def __init__(
        self, scratch: Path, base_env: Mapping[str, str], sandboxer: Sandboxer, kill_grace: int
    ) -> None:
        self.scratch = scratch
        self._base_env = dict(base_env)
        self._sandboxer = sandboxer
        self._kill_grace = kill_grace
        self._made = False

    async def shell(
        self, call: Call, command: str | Sequence[str], script: Script
    ) -> dict[str, Any]:
        """Shell text, or a command and its arguments: `stdout`, `exit_code`, and its outputs."""
        argv = (*SHELL, command) if isinstance(command, str) else tuple(map(str, command))
        if not argv:
            raise ActionFailed("invalid_inputs", "`command` is empty")
        with self._directory(call) as directory:
            ended = await self._run(call, argv, script, directory)
            outputs = {"stdout": ended.stdout, "exit_code": ended.exit_code}
            if ended.truncated:
                call.log("warn", "stdout is longer than what is kept as an output", None)
            if ended.exit_code != 0:
                raise ActionFailed("exit", _how(ended), outputs)
            return outputs | _read_outputs(directory)

    async def python(self, call: Call, text: str, script: Script) -> dict[str, Any]:
        """A script with `main(**inputs)`: what it returns."""
        with self._directory(call) as directory:
            source = directory / "script.py"
            source.write_text(text)
            argv = (sys.executable, "-I", "-u", str(RUNNER), str(source))
            ended = await self._run(call, argv, script, directory)
            failure = directory / "failure.json"
            if failure.is_file():
                said = from_json(failure.read_bytes())
                raise ActionFailed(said["type"], said["message"])
            if ended.exit_code != 0:
                raise ActionFailed("exit", _how(ended), {"exit_code": ended.exit_code})
            return _read_outputs(directory)

    async def _run(self, call: Call, argv: Sequence[str], script: Script, directory: Path) -> Ended:
        env = {
            **self._base_env,
            **script.env,
            "WINDLASS_EXECUTION": call.execution,
            "WINDLASS_WORKFLOW": call.workflow,
            "WINDLASS_STEP": call.step,
            "WINDLASS_ATTEMPT": str(call.attempt),
            "WINDLASS_KEY": call.key,
            "WINDLASS_INPUTS": f"{directory}/inputs.json",
            "WINDLASS_OUTPUTS": f"{directory}/outputs.json",
            MARK: str(self.scratch),
        }
        if script.inputs is not None:
            (directory / "inputs.json").write_bytes(to_json(script.inputs))

        def on_line(stream: str, text: str) -> None:
            call.log("info" if stream == "stdout" else "warn", text, None)

        spawn = Spawn(
            argv=self._sandboxer.wrap(argv, script.sandbox, directory, call),
            env=env,
            cwd=Path(script.cwd) if script.cwd is not None else directory,
            on_line=on_line,
            grace=self._kill_grace,
            forced=lambda: call.force,
            stdin=script.stdin.encode() if script.stdin is not None else None,
        )
        return await run_process(spawn, call.clock)

    @contextmanager
    def _directory(self, call: Call) -> Iterator[Path]:
        """The attempt's own directory; a longer name than a file may have is hashed."""
        if not self._made:
            self.scratch.mkdir(parents=True, exist_ok=True)
            self._made = True
        name = call.key.replace("/", ":")
        if len(name) > 200:  # noqa: PLR2004  # under the 255 bytes of a file name
            name = hashlib.sha256(name.encode()).hexdigest()
        directory = self.scratch / name
        try:
            os.mkdir(directory, 0o700)  # noqa: PTH102  # half the cost, once an attempt
        except FileExistsError:
            shutil.rmtree(directory, ignore_errors=True)  # of the same attempt before a crash
            directory.mkdir(0o700, exist_ok=True)
        try:
            yield directory
        finally:
            try:
                os.rmdir(directory)  # noqa: PTH106  # half the cost, once an attempt
            except OSError:
                shutil.rmtree(directory, ignore_errors=True)


def _read_outputs(directory: Path) -> dict[str, Any]:
    path = directory / "outputs.json"
    with suppress(FileNotFoundError):
        if path.stat().st_size > LARGEST_OUTPUTS:
            message = f"the outputs file is larger than {LARGEST_OUTPUTS:,} bytes"
            raise ActionFailed("bad_output", message)
        content = path.read_bytes()
        if not content.strip():
            return {}
        try:
            outputs = from_json(content, allow_inf_nan=False)
        except ValueError as error:
            raise ActionFailed("bad_output", f"the outputs file is not JSON: {error}") from None
        if not isinstance(outputs, dict):
            raise ActionFailed("bad_output", "the outputs file must hold a JSON object")
        return outputs
    return {}


def _how(ended: Ended) -> str:
    """How a process failed, with the last thing it said."""
    if ended.exit_code < 0:
        how = f"ended by signal {-ended.exit_code}"
    else:
        how = f"exit status {ended.exit_code}"
    return f"{how}: {ended.last_error}" if ended.last_error else how
