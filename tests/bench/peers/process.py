"""Peers' processes: on loopback, in a group of their own, bounded in time, gone afterwards."""

import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.bench.peers.system import ROUNDS, Figures
from tests.bench.t8_start import idle
from tests.eventually import wait_until

PATIENCE = 180.0
"""Seconds anything of a peer may take."""

ENDING = 10.0
"""Seconds a process may take to end when it is asked to."""


class Failed(Exception):
    """A peer did not do what it was asked for; the message says what it said."""


def environment(home: Path, **more: str) -> dict[str, str]:
    """Nothing of the user's but the search path; whatever a peer keeps is in `home`."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TZ") if name in os.environ}
    return kept | {"HOME": str(home), "TMPDIR": str(home), "DO_NOT_TRACK": "1"} | more


def members(group: int) -> list[int]:
    """The processes of a group that are alive."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state, _parent, of = (place / "stat").read_text().rpartition(")")[2].split()[:3]
            if int(of) == group and state != "Z":
                found.append(int(place.name))
    return found


def _signal(group: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, number)


def end(process: "subprocess.Popen[bytes]") -> None:
    """Ask the group to end, then make it; only what was started here is in it."""
    _signal(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(ENDING)
    _signal(process.pid, signal.SIGKILL)
    process.wait(ENDING)


def kill(process: "subprocess.Popen[bytes]") -> None:
    """`kill -9` of the process alone, as a crash is."""
    process.kill()
    process.wait(ENDING)


def run(
    command: Sequence[str],
    folder: Path,
    env: Mapping[str, str],
    said: str = "",
    within: float = PATIENCE,
) -> str:
    """What a command prints, when it ends well within its time."""
    with subprocess.Popen(
        command,
        cwd=folder,
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        try:
            out, err = process.communicate(said.encode(), within)
        except subprocess.TimeoutExpired:
            raise Failed(f"{command[0]} took longer than {within:.0f} s") from None
        finally:
            end(process)
    if process.returncode != 0:
        tail = (err or out).decode(errors="replace").strip()[-500:]
        raise Failed(f"{' '.join(command)}: exit {process.returncode}: {tail}")
    return out.decode()


def figures_of(
    command: Sequence[str], folder: Path, env: Mapping[str, str], within: float = PATIENCE
) -> Any:
    """The JSON on the last line that a program of ours printed in a peer's environment."""
    return json.loads(run(command, folder, env, within=within).splitlines()[-1])


@contextmanager
def started(
    command: Sequence[str],
    folder: Path,
    env: Mapping[str, str],
    ready: Callable[[Path], bool],
) -> Generator["subprocess.Popen[bytes]"]:
    """A process that goes on, once `ready` of its output; ended on the way out."""
    log = folder / "output.log"
    log.unlink(missing_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )

    def is_ready() -> bool:
        if process.poll() is not None:
            raise Failed(f"{command[0]} ended: {log.read_text(errors='replace')[-500:]}")
        return ready(log)

    try:
        wait_until(is_ready, f"{command[0]} is ready", within=PATIENCE)
        yield process
    finally:
        end(process)


def answers(url: str) -> bool:
    """Whether something answers there, well."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def start_and_idle(
    start: Callable[[], AbstractContextManager["subprocess.Popen[bytes]"]],
) -> Figures:
    """T8: starts on a state that is there, then what the last one costs while nothing happens."""
    ready = []
    memory = processor = 0.0
    for number in range(ROUNDS + 1):
        begin = time.perf_counter()
        with start() as process:
            ready.append(time.perf_counter() - begin)
            if number == ROUNDS:
                memory, processor = idle(members(process.pid))
    return {"ready": ready[1:], "memory": [memory], "processor": [processor]}
