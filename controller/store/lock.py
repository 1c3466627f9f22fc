"""One controller for one SQLite file; on PostgreSQL, one for one state directory.

The lock is the kernel's (`flock` on `<database>.lock`): it ends with the process that held it,
whatever ended that. What stands in the file only says who it is; what still stands there when the
lock is free is of one that crashed. The file stays when the lock is given up — removing it would
let two processes each hold a lock on a file of that name. Somebody else may remove it, so whoever
holds it for long looks after that (`keep`).
"""

import fcntl
import os
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from pydantic_core import from_json, to_json

from controller.core.problem import Refused

_TRIES = 20
_PAUSE_SECONDS = 0.01


_DOES = {"doctor": "repairs it", "restore": "replaces it"}
"""What those do by role who hold the lock and execute nothing."""


class Holder(NamedTuple):
    """Who holds the lock, `since` epoch milliseconds; `owner` of what it has in the database."""

    pid: int
    role: str
    since: int
    owner: str = ""

    @property
    def executes(self) -> bool:
        """Whether it executes what is in the database, and not only keeps others from it."""
        return self.role not in _DOES


class ControllerLock:
    """The right to be the one who executes what is in a database.

    Args:
        what: The SQLite file, its lock file stands beside it; or a directory, which holds it.
        role: What this process is, for the message another one gets, such as `controller`.
        owner: What it is called in the database.

    Attributes:
        predecessor: Who had the lock when it crashed, once we have it.
    """

    def __init__(self, what: Path, role: str = "controller", owner: str = "") -> None:
        self.predecessor: Holder | None = None
        self._what = what
        inside = what / "controller.lock"
        self._path = inside if what.is_dir() else what.with_name(what.name + ".lock")
        self._role = role
        self._owner = owner
        self._file: int | None = None

    def acquire(self, now: int) -> Self:
        """Take the lock; `Refused` when another process has it. `now`: epoch milliseconds."""
        for _ in range(_TRIES):
            if self.try_acquire(now):
                return self
            holder = self._read()
            if holder is not None and _lives(holder.pid):
                raise self._refusal(holder)
            # whoever has it is just taking it, giving it up, or asking who has it
            threading.Event().wait(_PAUSE_SECONDS)
        raise self._refusal(self._read())

    def try_acquire(self, now: int) -> bool:
        """Take the lock if it is free; whether we have it."""
        if self._file is not None:
            return True
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return False
        self.predecessor = self._read()
        os.ftruncate(file, 0)
        os.pwrite(file, to_json(Holder(os.getpid(), self._role, now, self._owner)._asdict()), 0)
        self._file = file
        return True

    def keep(self, now: int) -> None:
        """Take the lock again where somebody removed its file; `Refused` when another one has."""
        if self._file is not None and not self._stands(self._file):
            self.release()
            self.acquire(now)

    def _stands(self, file: int) -> bool:
        """Whether others find what we have locked; nobody does where the directory is gone."""
        if not self._path.exists():
            return not self._path.parent.exists()
        return os.path.samestat(self._path.stat(), os.fstat(file))

    def release(self) -> None:
        """Give the lock up; harmless without it."""
        if self._file is not None:
            with suppress(OSError):  # a full disk does not keep anybody from letting go
                os.ftruncate(self._file, 0)
            os.close(self._file)
            self._file = None

    def holder(self) -> Holder | None:
        """Who has the lock now, or None."""
        if self._file is None:
            try:
                file = os.open(self._path, os.O_RDONLY)
            except OSError:
                return None
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return self._read()
            else:
                return None
            finally:
                os.close(file)
        return self._read()

    def _read(self) -> Holder | None:
        try:
            said: dict[str, Any] = from_json(self._path.read_bytes())
            owner = str(said.get("owner", ""))
            return Holder(int(said["pid"]), str(said["role"]), int(said["since"]), owner)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _refusal(self, holder: Holder | None) -> Refused:
        who = f"process {holder.pid} ({holder.role})" if holder else "another process"
        does = _DOES.get(holder.role) if holder else None
        return Refused(
            f"{self._what} is in use: {who} {does or 'executes what is in it'}",
            reason="database-locked",
            hint=f"wait for the end of {who}"
            if does
            else f"stop {who}, or use another state directory",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
