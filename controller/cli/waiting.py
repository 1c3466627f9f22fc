"""Waiting for an execution: progress, Ctrl-C, and what came of it."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING, Any

from controller.cli.ending import DONE, FAILED, INTERRUPTED, complain
from controller.cli.output import as_json, execution_data, print_fields, print_json, took
from controller.cli.progress import Progress
from controller.cli.session import note

if TYPE_CHECKING:
    from controller.app import App
    from controller.history import ExecutionView
    from controller.store.records import ExecutionRecord


async def wait(app: "App", execution: str, form: str) -> int:
    """Follow an execution to its end, and print what came of it; the exit status."""
    with Progress(app.clock.now) as progress:
        async with _on_interrupt(app, execution, progress.say) as interrupt:
            waiting = asyncio.ensure_future(app.attend(execution, progress))
            await _until(waiting, interrupt.leave)
    if waiting.cancelled():
        note(f"follow it with: windlass workflows:status --execution {execution}")
        note(f"cancel it with: windlass workflows:cancel --execution {execution}")
        return INTERRUPTED
    status = _finished(waiting.result(), form)
    return INTERRUPTED if interrupt.pressed else status


async def _until(waiting: "asyncio.Future[ExecutionView]", leave: asyncio.Event) -> None:
    """Wait for what comes first; what has not come is called off."""
    leaving = asyncio.ensure_future(leave.wait())
    both: set[asyncio.Future[Any]] = {waiting, leaving}
    await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    leaving.cancel()
    if not waiting.done():
        waiting.cancel()
        await asyncio.wait({waiting})


class _Interrupt:
    """What Ctrl-C has done so far."""

    def __init__(self) -> None:
        self.leave = asyncio.Event()
        self.pressed = 0
        self.wishes: list[asyncio.Future[None]] = []


@contextlib.asynccontextmanager
async def _on_interrupt(
    app: "App", execution: str, say: Callable[[str], None]
) -> AsyncGenerator[_Interrupt]:
    """Ctrl-C leaves an execution to its controller, and cancels one that this process executes.

    The second one kills what runs, the third one waits for nothing.
    """
    interrupt = _Interrupt()

    async def answer(times: int) -> None:
        if times > 2 or await _has_controller(app):  # ruff: ignore[magic-value-comparison]  # asked, killed
            say("leaving it")
            interrupt.leave.set()
            return
        force = times > 1
        say("killing what runs" if force else "cancelling; Ctrl-C again kills what runs")
        await app.service.cancel_execution(execution, force=force)

    def pressed() -> None:
        interrupt.pressed += 1
        interrupt.wishes.append(asyncio.ensure_future(answer(interrupt.pressed)))

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, pressed)
    try:
        yield interrupt
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        await asyncio.gather(*interrupt.wishes, return_exceptions=True)


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
