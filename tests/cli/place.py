"""A directory in which command lines are run: in this process, or each in one of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import structlog

from controller.cli import start
from tests.crash.daemon import environment

if TYPE_CHECKING:
    from collections.abc import Generator

PATIENCE = 30.0
"""Seconds a command line may take."""

GREETING = """\
name: greeting
description: Say hello
inputs:
  - {name: who, type: string, default: world}
outputs:
  - {name: length, type: integer, source: measure.length}
steps:
  - {id: hello, type: action, action: log, inputs: {message: 'hello, ${who}'}}
  - {id: measure, type: action, action: set, inputs: {length: '${size(who)}'}}
"""

WAITING = """\
name: waiting
steps:
  - {id: before, type: action, action: log, inputs: {message: before}}
  - {id: gate, type: action, action: wait_for_signal, inputs: {name: go}}
  - {id: after, type: action, action: log, inputs: {message: after}}
"""

FAILING = """\
name: failing
steps:
  - {id: fine, type: action, action: set, inputs: {x: 1}}
  - {id: bad, type: action, action: fail, inputs: {message: 'no luck', type: luck}}
"""

STUBBORN = """\
name: stubborn
steps:
  - id: hold
    type: action
    action: shell
    inputs:
      command: |
        trap "" TERM
        echo $$ > "${file}"
        while :; do sleep 0.1; done
inputs:
  - {name: file, type: string, required: true}
"""


class Said(NamedTuple):
    """What came of a command line."""

    status: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        """The one document on stdout."""
        return json.loads(self.out)


@dataclass
class Place:
    """A working directory; its state is in `.windlass`."""

    path: Path
    capture: pytest.CaptureFixture[str] | None = None

    def __call__(self, *arguments: str | Path) -> Said:
        """Run a command line in this process; for `here`, whose output is captured."""
        assert self.capture is not None
        self.capture.readouterr()
        status = start([str(each) for each in arguments])
        said = self.capture.readouterr()
        return Said(status, said.out, said.err)

    def fine(self, *arguments: str | Path) -> Said:
        """Run a command line that has to end with 0."""
        said = self(*arguments)
        assert said.status == 0, said
        return said

    def apart(self, *arguments: str, stdin: str = "", program: str | None = None) -> Said:
        """Run a command line in a process of its own."""
        done = subprocess.run(
            [*line_of(program), *arguments],
            cwd=self.path,
            env=environment(),
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        return Said(done.returncode, done.stdout, done.stderr)

    @contextmanager
    def beside(self, *arguments: str) -> "Generator[subprocess.Popen[str]]":
        """A command line that goes on while the test does; killed in the end if it still runs."""
        process = subprocess.Popen(
            [*line_of(None), *arguments],
            cwd=self.path,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.kill()

    def write(self, name: str, content: str) -> Path:
        """A file in it."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return path

    def create(self, *definitions: str) -> None:
        """Record workflows from the texts above."""
        for number, definition in enumerate(definitions):
            self.fine("workflows:create", "--file", self.write(f"{number}.yaml", definition))


def line_of(program: str | None) -> list[str]:
    """How a program is called: installed under this name, or as a module."""
    if program is None:
        return [sys.executable, "-m", "controller"]
    return [str(Path(sys.executable).with_name(program))]


@contextmanager
def place_at(path: Path, capture: pytest.CaptureFixture[str] | None) -> "Generator[Place]":
    """Work in a directory, without settings of the one who runs the tests."""
    before, settings = Path.cwd(), _take_settings()
    os.chdir(path)
    try:
        yield Place(path, capture)
    finally:
        os.chdir(before)
        os.environ.update(settings)
        structlog.reset_defaults()


def _take_settings() -> Mapping[str, str]:
    ours = [name for name in os.environ if name.startswith("WINDLASS_")]
    return {name: os.environ.pop(name) for name in ours}
