"""What an action is called with, for tests: everything real but what is watched."""

import asyncio
import os
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from controller.clock import Clock, SystemClock
from controller.core.definition import Action, Sandbox
from controller.core.document import load_document
from controller.core.plan import StepPlan
from controller.execute import launch
from controller.execute.action import ActionFailed, Call, Registry, Result
from controller.execute.actions.loading import build
from controller.execute.perform import Performer
from controller.execute.process import Spawn
from controller.execute.sandbox import Sandboxer, Support
from controller.execute.scripts import Scripts

ENVIRONMENT = {"PATH": os.environ["PATH"], "HOME": "/", "LANG": "C.UTF-8"}


class Lease:
    """That of an execution, which runs out and is renewed when a test says so."""

    def __init__(self) -> None:
        self.holds = True
        self.asked = asyncio.Event()
        self._renewed = asyncio.Event()

    async def held(self) -> None:
        """See `controller.execute.action.Lease`."""
        self.asked.set()
        await self._renewed.wait()

    def renew(self) -> None:
        """Nobody else had taken it."""
        self.holds = True
        self._renewed.set()


@dataclass
class Stage:
    """Scripts and a performer in a scratch directory, and what their actions said."""

    scratch: Path
    clock: Clock = field(default_factory=SystemClock)
    policy: str = "off"
    support: Support | None = None
    hidden: tuple[Path, ...] = ()
    grace: int = 5_000
    lines: list[tuple[str, str]] = field(default_factory=list)
    events: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)
    lease: Lease = field(default_factory=Lease)

    def __post_init__(self) -> None:
        sandboxer = Sandboxer(self.policy, self.hidden, self.support)
        self.scripts = Scripts(self.scratch, ENVIRONMENT, sandboxer, self.grace)
        self.registry = Registry(lambda name: build(name, self.scripts))
        self.performer = Performer(self.registry, self.scripts)

    def call(self, step: str = "a", attempt: int = 1) -> Call:
        """An attempt of a step."""

        def log(level: str, message: str, _fields: Mapping[str, Any] | None) -> None:
            self.lines.append((level, message))

        async def emit(_call: Call, event: str, data: Mapping[str, Any]) -> None:  # ruff: ignore[unused-async]  # as the engine's
            self.events.append((event, data))

        return Call("x1", "w", step, attempt, log, self.clock, self.lease, emit)

    @property
    def said(self) -> list[str]:
        """The messages of the log."""
        return [message for _, message in self.lines]

    async def perform(self, action: str | Action, /, **inputs: Any) -> Result:
        """The result of an action; what it was called with is JSON."""
        name = action if isinstance(action, str) else action.name
        definition = action if isinstance(action, Action) else None
        step = StepPlan("a", "", "action", 0, (), action=name, definition=definition)
        result = self.performer.perform(step, self.call(), inputs)
        return await result if isinstance(result, Coroutine) else result

    async def outputs(self, action: str | Action, /, **inputs: Any) -> dict[str, Any]:
        """The outputs of an action that does not wait."""
        result = await self.perform(action, **inputs)
        assert isinstance(result, dict)
        return result

    async def failure(self, action: str | Action, /, **inputs: Any) -> ActionFailed:
        """How an action fails."""
        try:
            result = await self.perform(action, **inputs)
        except ActionFailed as error:
            return error
        raise AssertionError(f"it did not fail: {result}")

    async def lapsed(self, action: str, /, **inputs: Any) -> asyncio.Task[Result]:
        """An action whose lease has run out, when it has asked for it again."""
        self.lease = Lease()
        self.lease.holds = False
        performed = asyncio.create_task(self.perform(action, **inputs))
        asked = asyncio.create_task(self.lease.asked.wait())
        await asyncio.wait((performed, asked), return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        assert not performed.done(), "it went on without"
        return performed

    def close(self) -> None:
        """Give back the scratch directory."""
        self.scripts.close()


def defined(run: Mapping[str, Any], **fields: Any) -> Action:
    """A defined action `d`."""
    definition, problems = load_document({"kind": "action", "name": "d", "run": run, **fields})
    assert not problems, problems
    assert isinstance(definition, Action)
    return definition


def sandbox(**fields: Any) -> Sandbox:
    """A `sandbox:`."""
    return Sandbox.model_validate(fields)


@dataclass
class Command:
    """A process to run, and the lines it wrote."""

    cwd: Path
    grace: int = 5_000
    force: bool = False
    lease: Lease = field(default_factory=Lease)
    lines: list[tuple[str, str]] = field(default_factory=list)

    def spawn(self, *argv: str, stdin: bytes | None = None, **env: str) -> Spawn:
        """What to give to `run_process`."""
        command = launch.Command(
            argv, {**ENVIRONMENT, **env}, self.cwd, lambda: self.lease.holds, stdin
        )
        return Spawn(
            make=lambda: command,
            on_line=lambda stream, text: self.lines.append((stream, text)),
            grace=self.grace,
            forced=lambda: self.force,
            lease=self.lease,
        )

    def shell(self, text: str, stdin: bytes | None = None, **env: str) -> Spawn:
        """The same for shell text."""
        return self.spawn("/bin/sh", "-c", text, stdin=stdin, **env)

    @property
    def said(self) -> list[str]:
        """The text of the lines."""
        return [text for _, text in self.lines]


def is_alive(pid: int) -> bool:
    """Whether a process is there and has not ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def has_children() -> bool:
    """Whether there is a child of ours, running or not reaped; each is its thread's."""
    return any((each / "children").read_text() for each in Path("/proc/self/task").iterdir())
