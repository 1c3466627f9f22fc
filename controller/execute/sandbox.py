"""`sandbox:`: what a script is kept from, by bubblewrap and prlimit.

The file system is read-only but for the script's own scratch directory and a private /tmp; the
directories of other steps are not to be seen. It has processes, semaphores and capabilities of its
own — none of the latter, because root with capabilities would mount the file system writable again.
With `network: false` there is no network, not even of this machine. `memory` bounds the address
space of each of its processes. What is not available here is found out once.
"""

import shutil
import subprocess  # ruff: ignore[suspicious-subprocess-import]  # bubblewrap is a program
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from controller.core.definition import Sandbox
from controller.execute.action import ActionFailed
from controller.logs import get_log

SECONDS = 10
"""Time bubblewrap gets to show that it works."""

PRIVATE = "/tmp"  # ruff: ignore[hardcoded-temp-file]  # a file system of the sandbox's own

log = get_log("windlass.execute")

_FIRM = (
    *("--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"),
    *("--ro-bind", "/proc/sys", "/proc/sys"),  # the kernel lets root write there by its uid alone
    *("--tmpfs", PRIVATE),
)
_APART = (
    *("--unshare-pid", "--unshare-ipc", "--unshare-uts"),
    *("--cap-drop", "ALL", "--die-with-parent"),
)
_OFFLINE = ("--unshare-net", "--tmpfs", "/run")  # where services have their sockets


@dataclass(frozen=True, slots=True)
class Support:
    """What there is to make a sandbox of; `reason` says why there is no bubblewrap."""

    bwrap: str | None
    prlimit: str | None
    reason: str | None


@cache
def probe() -> Support:
    """Try bubblewrap once; it may be installed and forbidden."""
    prlimit = shutil.which("prlimit")
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        return Support(None, prlimit, "bubblewrap (bwrap) is not installed")
    command = [bwrap, *_FIRM, *_OFFLINE, *_APART, "true"]
    try:
        subprocess.run(command, capture_output=True, check=True, timeout=SECONDS)  # ruff: ignore[subprocess-without-shell-equals-true]  # a fixed command
    except subprocess.CalledProcessError as error:
        why = error.stderr.decode(errors="replace").strip().partition("\n")[0]
        return Support(None, prlimit, f"bubblewrap does not work here: {why}")
    except (OSError, subprocess.TimeoutExpired) as error:
        return Support(None, prlimit, f"bubblewrap does not work here: {error}")
    return Support(bwrap, prlimit, None)


@dataclass(frozen=True, slots=True)
class Wrapped:
    """A command line.

    Attributes:
        inside: Bubblewrap is in front of it.
        missing: What it is not kept from, and why.
    """

    argv: Sequence[str]
    inside: bool
    missing: tuple[str, ...] = ()


class Sandboxer:
    """Wraps command lines.

    Args:
        policy: `required`: refuse without bubblewrap; `preferred`: warn and go on; `off`: never.
        hidden: Directories nobody in a sandbox is to see, such as the one with the secrets.
        support: What there is; None: find out.
    """

    def __init__(
        self, policy: str, hidden: Sequence[Path] = (), support: Support | None = None
    ) -> None:
        self._policy = policy
        self._hidden = hidden
        self._support = support
        self._missed: set[str] = set()

    def wrap(self, argv: Sequence[str], sandbox: Sandbox | None, directory: Path) -> Wrapped:
        """The command line that runs `argv` in a sandbox; raises `ActionFailed`.

        `directory` is the attempt's own; its parent holds those of others. The first time it may
        take as long as `probe` does.
        """
        if sandbox is None or self._policy == "off":
            return Wrapped(argv, inside=False)
        support = self._support or probe()
        missing: list[str] = []
        if sandbox.memory is not None:
            if support.prlimit is None:
                missing.append("prlimit is not installed, so memory is not bounded")
            else:
                argv = [support.prlimit, f"--as={sandbox.memory}", "--", *argv]
        if support.bwrap is None:
            missing.append(f"{support.reason}")
        else:
            firm = _FIRM if sandbox.network else (*_FIRM, *_OFFLINE)
            argv = [support.bwrap, *firm, *self._places(directory), *_APART, "--", *argv]
        for why in missing:
            self._complain(why)
        said = tuple(f"not sandboxed: {why}" for why in missing)
        return Wrapped(argv, support.bwrap is not None, said)

    def _places(self, directory: Path) -> Iterator[str]:
        for path in (sys.prefix, sys.base_prefix, str(Path(__file__).parent)):
            if Path(path).is_relative_to(PRIVATE):  # or there would be no Python
                yield from ("--ro-bind", path, path)
        for hidden in (directory.parent, *self._hidden):
            if hidden.is_dir():  # bubblewrap knows no links, and has a working directory of its own
                yield from ("--tmpfs", str(hidden.resolve()))
        own = str(directory)
        yield from ("--bind", own, own, "--chdir", own, "--setenv", "TMPDIR", PRIVATE)

    def _complain(self, why: str) -> None:
        """Raises `ActionFailed` where the sandbox is required."""
        if why not in self._missed:  # the step's log says it each time, the controller's once
            self._missed.add(why)
            log.warning("steps ask for a sandbox; there is none", policy=self._policy, reason=why)
        if self._policy == "required":
            raise ActionFailed("sandbox", f"the sandbox is required: {why}")
