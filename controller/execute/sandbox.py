"""`sandbox:`: what a script is kept from, by bubblewrap and prlimit.

Read-only file system, private /tmp, its own process tree, its scratch directory to write in; no
network where `network: false`; bounded memory. What is not available is found out once, at start.
"""

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from controller.core.definition import Sandbox
from controller.execute.action import ActionFailed, Call

_PROBE = ("--ro-bind", "/", "/", "--unshare-pid", "--unshare-net", "--die-with-parent", "true")


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
    tried = subprocess.run([bwrap, *_PROBE], capture_output=True, check=False)  # noqa: S603  # a fixed command
    if tried.returncode != 0:
        why = tried.stderr.decode(errors="replace").strip().partition("\n")[0]
        return Support(None, prlimit, f"bubblewrap does not work here: {why}")
    return Support(bwrap, prlimit, None)


class Sandboxer:
    """Wraps command lines.

    Args:
        policy: `required`: refuse without bubblewrap; `preferred`: warn and go on; `off`: never.
    """

    def __init__(self, policy: str) -> None:
        self._policy = policy

    def wrap(
        self, argv: Sequence[str], sandbox: Sandbox | None, scratch: Path, call: Call
    ) -> list[str]:
        """The command line that runs `argv` in a sandbox; raises `ActionFailed`."""
        if sandbox is None or self._policy == "off":
            return list(argv)
        support = probe()
        wrapped = list(argv)
        if sandbox.memory is not None:
            wrapped = self._limited(wrapped, sandbox.memory, support, call)
        if support.bwrap is None:
            self._missing(f"{support.reason}", call)
            return wrapped
        network = [] if sandbox.network else ["--unshare-net"]
        return [
            support.bwrap,
            *("--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp"),  # noqa: S108  # private
            *("--bind", str(scratch), str(scratch), "--chdir", str(scratch)),
            *("--unshare-pid", "--unshare-ipc", "--unshare-uts", "--die-with-parent"),
            *network,
            "--",
            *wrapped,
        ]

    def _limited(self, argv: list[str], memory: int, support: Support, call: Call) -> list[str]:
        if support.prlimit is None:
            self._missing("prlimit is not installed, so memory is not bounded", call)
            return argv
        return [support.prlimit, f"--as={memory}", "--", *argv]

    def _missing(self, why: str, call: Call) -> None:
        if self._policy == "required":
            raise ActionFailed("sandbox", f"the sandbox is required: {why}")
        call.log("warn", f"not sandboxed: {why}", None)
