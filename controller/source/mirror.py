"""A repository's mirror on disk: made, shared by those who write to it, swept of what they left.

A controller, and commands that plan, may use one mirror at the same time. Whoever writes to it
shares a lock of the kernel's, which git inherits: so it lasts as long as a git whose controller was
killed. Whoever gets the lock alone knows that each lock file, temporary file and reference of a
plan that is there was left by somebody who was killed, whatever its age.
"""

import fcntl
import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from controller.source.git import CONFIG, LOCAL_SECONDS, Git, GitError

PLANS = "refs/windlass/plans/"
"""Each plan has a reference of its own here, for as long as it takes."""

_PAUSE_SECONDS = 0.02
_TEMPORARY = ("tmp_", ".tmp-")
"""How the names begin that git gives to what is not yet an object or a pack."""


class Mirror:
    """The mirror of one source.

    Args:
        home: A directory of its own; made when it is needed.
        git: The command, for this mirror.
    """

    def __init__(self, home: Path, git: Git) -> None:
        self._home = home
        self._path = home / "mirror.git"
        self._git = git
        self._swept = False

    @contextmanager
    def writing(self) -> Generator[None]:
        """There, and whole, for commands that write to it; raises `GitError`."""
        self._home.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(self._home / "mirror.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            with self._git.lending(lock):
                if not self._swept and _taken(lock, fcntl.LOCK_EX):
                    self._sweep()
                    self._make()
                self._share(lock)
                self._make()
                try:
                    yield
                except BaseException:
                    self._swept = False  # what failed may have been killed
                    raise
        finally:
            os.close(lock)

    def discard(self) -> None:
        """Throw the mirror away; whoever writes next begins with an empty one."""
        shutil.rmtree(self._path, ignore_errors=True)

    def drop(self, *references: str) -> None:
        """Remove references, and those below them; raises `GitError`."""
        found = self._git.local("for-each-ref", "--format=delete %(refname)", *references)
        if found:
            self._git.local("update-ref", "--stdin", given=found)

    def _share(self, lock: int) -> None:
        """Wait for whoever makes or sweeps it."""
        for _ in range(int(LOCAL_SECONDS / _PAUSE_SECONDS)):
            if _taken(lock, fcntl.LOCK_SH):
                return
            self._git.pause(_PAUSE_SECONDS)
        message = f"somebody has kept {self._home} locked for {LOCAL_SECONDS:g} s"
        raise GitError(message, reason="timeout", hint="end what uses the mirror")

    def _make(self) -> None:
        config = self._home / "gitconfig"
        if not config.is_file() or config.read_bytes() != CONFIG.encode():
            config.write_text(CONFIG)
        if not (self._path / "HEAD").is_file():
            shutil.rmtree(self._path, ignore_errors=True)
            self._git.local("init", "--quiet", "--bare", "--template=", str(self._path))

    def _sweep(self) -> None:
        """Remove what was left; nobody else writes."""
        for folder, inner, files in os.walk(self._path):
            for name in inner + files:
                if name.startswith(_TEMPORARY) or name.endswith(".lock"):
                    _remove(Path(folder, name))
        if (self._path / "HEAD").is_file():
            self.drop(PLANS, "refs/windlass/planned")
        self._swept = True


def _taken(lock: int, how: int) -> bool:
    """Whether a lock that somebody may have was got without waiting."""
    try:
        fcntl.flock(lock, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(FileNotFoundError):
            path.unlink()
