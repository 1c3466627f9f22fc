"""Waiting for an execution: progress, Ctrl-C, and what came of it."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

from controller.cli.ending import DONE, FAILED, INTERRUPTED, UNREAD, complain, of_signal
from controller.cli.output import as_json, execution_data, print_fields, print_json, took
from controller.cli.progress import Progress
from controller.cli.session import note
from controller.interpreter import ask_to_end

if TYPE_CHECKING:
    from controller.app import App
    from controller.history import ExecutionView
    from controller.store.records import ExecutionRecord


async def wait(app: "App", execution: str, form: str) -> int:
    """Follow an execution to its end, and print what came of it; the exit status.

    Where nobody reads the progress any more, what a controller executes is left to it; what this
    process executes goes on to its end.
    """
    with Progress(app.clock.now) as progress:
        async with _on_signals(app, execution, progress) as told:
            waiting = asyncio.ensure_future(app.attend(execution, progress))
            await _until(waiting, told.leave)
    if waiting.cancelled():
        note(f"follow it with: windlass workflows:status --execution {execution}")
        note(f"cancel it with: windlass workflows:cancel --execution {execution}")
        return told.status
    status = _finished(waiting.result(), form)
    return told.status if told.interrupts else status


async def _until(waiting: "asyncio.Future[ExecutionView]", leave: asyncio.Event) -> None:
    """Wait for what comes first; what has not come is called off."""
    leaving = asyncio.ensure_future(leave.wait())
    both: set[asyncio.Future[Any]] = {waiting, leaving}
    await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    leaving.cancel()
    if not waiting.done():
        waiting.cancel()
        await asyncio.wait({waiting})


class _Told:
    """What this process was told to do so far, and the exit status that comes of it."""

    def __init__(self, app: "App", execution: str, progress: Progress) -> None:
        self.leave = asyncio.Event()
        self.interrupts = 0
        self.status = DONE
        self.wishes: list[asyncio.Future[None]] = []
        self._app = app
        self._execution = execution
        self._progress = progress

    def interrupt(self) -> None:
        """Ctrl-C: leave or cancel; the second one kills what runs, the third waits for nothing."""
        self.interrupts, self.status = self.interrupts + 1, INTERRUPTED
        self.wishes.append(asyncio.ensure_future(self._interrupted(self.interrupts)))

    async def _interrupted(self, times: int) -> None:
        if times > 2 or await _has_controller(self._app):  # ruff: ignore[magic-value-comparison]  # asked, killed
            self._progress.say("leaving it")
            self.leave.set()
            return
        force = times > 1
        said = "killing what runs" if force else "cancelling; Ctrl-C again kills what runs"
        self._progress.say(said)
        await self._app.service.cancel_execution(self._execution, force=force)

    def end(self, number: signal.Signals) -> None:
        """Leave: what this process executes is stopped as a controller stops it."""
        self._progress.say("stopping; what runs here gets a grace to finish")
        self.status = of_signal(number)
        self.leave.set()

    async def unread(self) -> None:
        """Once nobody reads the progress, leave what a controller executes."""
        await self._progress.unread.wait()
        if await _has_controller(self._app):
            self.status = UNREAD
            self.leave.set()


@contextlib.asynccontextmanager
async def _on_signals(app: "App", execution: str, progress: Progress) -> AsyncGenerator[_Told]:
    """Ctrl-C leaves an execution to its controller, and cancels one that this process executes.

    SIGTERM, a closed terminal, and nobody who reads where there is a controller leave at once.
    """
    told = _Told(app, execution, progress)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, told.interrupt)
    ask_to_end(loop, told.end)
    reading = asyncio.ensure_future(told.unread())
    try:
        yield told
    finally:
        reading.cancel()
        loop.remove_signal_handler(signal.SIGINT)
        await asyncio.gather(*told.wishes, reading, return_exceptions=True)


async def _has_controller(app: "App") -> bool:
    holder = await app.at_work()
    return holder is not None and holder.role == "controller"


def _finished(view: "ExecutionView", form: str) -> int:
    """Print the end of an execution; the exit status."""
    record = view.record
    if form == "json":
        print_json(execution_data(view))
    match record.status:
        case "completed":
            note(f"completed in {took(record.duration)}")
            if form == "table":
                print_fields((name, _text(value)) for name, value in (record.outputs or {}).items())
            return DONE
        case "paused":
            note(f"paused; go on with: windlass workflows:resume --execution {record.id}")
            return FAILED
        case _:
            return _complain(record)


def _complain(record: "ExecutionRecord") -> int:
    error = record.error or {}
    where = f" at step {error['step']}" if error.get("step") else ""
    why = f": {error.get('type')}: {error.get('message')}" if error else ""
    hint = f"windlass workflows:status --execution {record.id} --detailed"
    return complain(f"execution {record.id} {record.status}{where}{why}", hint, FAILED)


def _text(value: object) -> str:
    return value.rstrip("\n") if isinstance(value, str) else as_json(value)
