"""What Prefect executes, in its own environment: `prefect_program.py WORK ARGUMENT…`.

Prints its figure as JSON on the last line. Flows are called here, in this process, against the
server that `PREFECT_API_URL` names: nothing it offers is faster. Only T6 starts a process a flow,
as its schedules do.
"""
# mypy: disable-error-code="import-not-found,untyped-decorator"

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

from prefect import flow, get_client, serve, task


@task
def nothing(number: int) -> int:
    """A no-op step."""
    return number


@task
def true() -> None:
    """A process."""
    subprocess.run(["true"], check=True)


@flow
def sequence(count: int) -> None:
    """No-op steps, one after another."""
    for number in range(count):
        nothing(number)


@flow
def side_by_side(count: int) -> None:
    """No-op steps, all at once."""
    for future in nothing.map(range(count)):
        future.result()


@flow
def processes(count: int) -> None:
    """Processes, one after another."""
    for _ in range(count):
        true()


def t1(steps: int) -> float:
    """Milliseconds a step, after a short execution; a long one leaves the server busy."""
    sequence(2)
    begin = time.perf_counter()
    sequence(steps)
    return (time.perf_counter() - begin) / steps * 1000


def _at_once(workflow: Callable[[int], object], executions: int, steps: int, width: int) -> float:
    workflow(1)
    with ThreadPoolExecutor(width) as pool:
        begin = time.perf_counter()
        list(pool.map(workflow, [steps] * executions))
        return executions * steps / (time.perf_counter() - begin)


def t2(executions: int, steps: int, width: int) -> float:
    """Steps a second."""
    return _at_once(sequence, executions, steps, width)


def t3(width: int) -> float:
    """Seconds."""
    side_by_side(1)
    begin = time.perf_counter()
    side_by_side(width)
    return time.perf_counter() - begin


def t4(executions: int, steps: int, width: int) -> float:
    """Steps a second."""
    return _at_once(processes, executions, steps, width)


def served(count: int, seconds: int) -> None:
    """Serve so many schedules until the end."""
    deployments = [
        sequence.to_deployment(
            f"d{number}", interval=timedelta(seconds=seconds), parameters={"count": 1}
        )
        for number in range(count)
    ]
    serve(*deployments, limit=count)


async def _whole(count: int) -> list[list[float]]:
    """Seconds from due to begun, of the due times of which all have begun."""
    late: dict[datetime, list[float]] = {}
    async with get_client() as client:
        for found in await client.read_flow_runs(limit=200):
            due, begun = found.expected_start_time, found.start_time
            if due is not None and begun is not None:
                late.setdefault(due, []).append((begun - due).total_seconds())
    return [each for _, each in sorted(late.items()) if len(each) == count]


def t6(count: int, rounds: int) -> list[list[float]]:
    """Lateness of what is served; the first time is for warming up."""
    while len(whole := asyncio.run(_whole(count))) <= rounds:
        time.sleep(1)
    return whole[1 : rounds + 1]


def main(work: str, *arguments: str) -> None:
    """Do the work, print."""
    works: dict[str, Callable[..., object]] = {"t1": t1, "t2": t2, "t3": t3, "t4": t4, "t6": t6}
    if work == "serve":
        served(*map(int, arguments))
    print(json.dumps(works[work](*map(int, arguments))))


if __name__ == "__main__":
    main(*sys.argv[1:])
