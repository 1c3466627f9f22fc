"""What DBOS executes, in its own environment: `dbos_program.py URL WORK ARGUMENT…`.

Prints its figure as JSON on the last line. Written as DBOS's guide does: functions that are
workflows and steps; many at once from a pool of threads, which is the fastest of what it offers
(coroutines and queues are slower, measured).
"""
# mypy: disable-error-code="import-not-found,untyped-decorator"

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

from dbos import DBOS

began: dict[datetime, list[float]] = defaultdict(list)
"""Due time → how late each execution of it began."""


@DBOS.step()
def nothing(number: int) -> int:
    """A no-op step."""
    return number


@DBOS.step()
async def nothing_async(number: int) -> int:  # ruff: ignore[unused-async]  # gathered
    """The same as a coroutine."""
    return number


@DBOS.step()
def true() -> None:
    """A process."""
    subprocess.run(["true"], check=True)


@DBOS.step()
def line(script: str, execution: str, step: int, log: str) -> None:
    """A line in a file, by a process."""
    subprocess.run(["sh", "-c", script, "sh", execution, str(step), log], check=True)


@DBOS.workflow()
def sequence(count: int) -> None:
    """No-op steps, one after another."""
    for number in range(count):
        nothing(number)


@DBOS.workflow()
async def side_by_side(count: int) -> None:
    """No-op steps, all at once."""
    await asyncio.gather(*(nothing_async(number) for number in range(count)))


@DBOS.workflow()
def processes(count: int) -> None:
    """Processes, one after another."""
    for _ in range(count):
        true()


@DBOS.workflow()
def lines(script: str, execution: str, count: int, log: str) -> None:
    """Lines, one after another."""
    for number in range(count):
        line(script, execution, number, log)


@DBOS.workflow()
def due_now(due: datetime, context: object) -> None:
    """What schedules start."""
    del context
    began[due].append(time.time() - due.timestamp())
    nothing(1)


def t1(steps: int) -> float:
    """Milliseconds a step, after one execution for warming up."""
    sequence(steps)
    begin = time.perf_counter()
    sequence(steps)
    return (time.perf_counter() - begin) / steps * 1000


def _at_once(workflow: Callable[[int], object], executions: int, steps: int, width: int) -> float:
    with ThreadPoolExecutor(width) as pool:
        begin = time.perf_counter()
        list(pool.map(workflow, [steps] * executions))
        return executions * steps / (time.perf_counter() - begin)


def t2(executions: int, steps: int, width: int) -> float:
    """Steps a second."""
    return _at_once(sequence, executions, steps, width)


def t3(width: int) -> float:
    """Seconds."""

    async def measured() -> float:
        begin = time.perf_counter()
        await side_by_side(width)
        return time.perf_counter() - begin

    return asyncio.run(measured())


def t4(executions: int, steps: int, width: int) -> float:
    """Steps a second."""
    return _at_once(processes, executions, steps, width)


def t6(count: int, rounds: int) -> list[list[float]]:
    """Lateness of so many schedules, every ten seconds; the first time is for warming up."""
    DBOS.apply_schedules([
        {"schedule_name": f"s{number}", "workflow_fn": due_now, "schedule": "*/10 * * * * *"}
        for number in range(count)
    ])
    while True:
        whole = [late for _, late in sorted(began.items()) if len(late) == count]
        if len(whole) > rounds:
            return whole[1 : rounds + 1]
        time.sleep(0.1)


def serve(*begin: str) -> None:
    """Be there until the end; `SCRIPT LOG EXECUTIONS STEPS` starts what is to be interrupted."""
    if begin:
        script, log, executions, steps = begin
        for number in range(int(executions)):
            DBOS.start_workflow(lines, script, str(number), int(steps), log)
    print("ready", flush=True)
    threading.Event().wait()


def main(url: str, work: str, *arguments: str) -> None:
    """Launch, do the work, print."""
    config: Any = {"name": "peer", "system_database_url": url, "log_level": "ERROR"}
    DBOS(config=config)
    DBOS.launch()
    if work == "serve":
        serve(*arguments)
    works: dict[str, Callable[..., object]] = {"t1": t1, "t2": t2, "t3": t3, "t4": t4, "t6": t6}
    print(json.dumps(works[work](*map(int, arguments))))
    DBOS.destroy()


if __name__ == "__main__":
    main(*sys.argv[1:])
