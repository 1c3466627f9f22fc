"""The git command: what it is asked, how long it may take, and what its failures mean.

Nothing of the user's or the system's configuration reaches it, no hook runs, nothing is asked at a
terminal, and only https, ssh and files are spoken. A token goes to git by a credential helper that
reads it where it is: it stands in no argument, no environment and no file of ours.
"""

import os
import re
import shlex
import signal
import subprocess  # ruff: ignore[suspicious-subprocess-import]  # git, by a list
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Lock, Timer
from urllib.parse import urlsplit

from controller.core.problem import Unavailable
from controller.source.spec import SourceSpec

LOCAL_SECONDS = 60.0
"""Bound of a command that asks nobody else."""

GRACE_SECONDS = 1.0
"""What git has to remove its locks, when it is told to end."""

SHOWN = 300
"""Characters of git's own message that people see."""


class GitError(Unavailable):
    """A git command failed; the next look tries again.

    Attributes:
        reason: `auth`, `host-key`, `tls`, `not-found`, `ref-gone`, `unreachable`, `timeout`,
            `no-git`, `stopping` or `git`.
        hint: What to do about it, or None.
    """

    def __init__(self, message: str, *, reason: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.hint = hint


_MEANING: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    (
        "host-key",
        "put the server's key into `known_hosts_file`",
        ("host key verification failed",),
    ),
    (
        "auth",
        "check `token_file`, `credential_command` or `ssh_key_file`, and what the key may read",
        ("permission denied", "authentication failed", "could not read username",
         "could not read password", "terminal prompts disabled", "error: 40[13]"),
    ),
    (
        "tls",
        "name the authority's certificate in `ca_file`",
        ("ssl certificate", "certificate verif", "server certificate"),
    ),
    (
        "ref-gone",
        "check the branch, tag or commit; what is applied stays",
        ("couldn't find remote ref", "not our ref", "unadvertised object"),
    ),
    (
        "not-found",
        "check the URL; the repository may have moved",
        ("repository .*not found", "does not appear to be a git repository", "does not exist",
         "error: 404", "not found"),
    ),
    (
        "damaged",
        "the mirror is fetched anew",
        ("corrupt", "bad object", "bad tree", "object file .* is empty", "unable to read"),
    ),
    (
        "unreachable",
        "it is tried again by itself",
        ("could not resolve", "connection (?:refused|timed out|reset|closed)", "unreachable",
         "no route to host", "failed to connect", "couldn't connect", "gnutls", "ssl_",
         "early eof", "hung up"),
    ),
)  # fmt: skip


def meaning_of(said: str) -> tuple[str, str | None]:
    """The reason and the hint behind git's own words."""
    for reason, hint, patterns in _MEANING:
        if re.search("|".join(patterns), said, re.IGNORECASE):
            return reason, hint
    return "git", None


class Git:
    """Runs git for one repository of ours; `close` ends what still runs.

    Args:
        home: A private directory for git's own configuration.
        environment: `PATH` and the like for git and for what it starts.
        spec: Whose credentials to use.
    """

    def __init__(self, home: Path, environment: Mapping[str, str], spec: SourceSpec) -> None:
        self._home = home
        self._environment = {**environment, **_private(home), **_credentials(spec)}
        self._options = _options(spec)
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = Lock()
        self._closed = Event()
        self._lent: tuple[int, ...] = ()

    def local(self, *arguments: str, given: bytes = b"") -> bytes:
        """Ask the mirror; raises `GitError`."""
        return self.run(arguments, seconds=LOCAL_SECONDS, given=given)

    def remote(self, *arguments: str, seconds: float) -> bytes:
        """Ask the other side; raises `GitError`."""
        return self.run(arguments, seconds=seconds)

    def run(self, arguments: Sequence[str], *, seconds: float, given: bytes = b"") -> bytes:
        """What git says on stdout; raises `GitError`.

        Args:
            arguments: The command and its arguments.
            seconds: After which git and all it started are ended, at the latest a second later.
            given: Its stdin.
        """
        status, out, err = self.ask(arguments, seconds=seconds, given=given)
        if status:
            said = _clean(err)
            reason, hint = meaning_of(said)
            raise GitError(f"git {_verb(arguments)}: {said}", reason=reason, hint=hint)
        return out

    def ask(
        self,
        arguments: Sequence[str],
        *,
        seconds: float = LOCAL_SECONDS,
        given: bytes = b"",
        ring: Path | None = None,
    ) -> tuple[int, bytes, bytes]:
        """Exit status, stdout and stderr, where a failure is an answer too; see `run`.

        Args:
            arguments: The command and its arguments.
            seconds: As there.
            given: As there.
            ring: Whose keys `gpg` knows; None: nobody's.
        """
        mirror = str(self._home / "mirror.git")
        command = ["git", "--git-dir", mirror, *self._options, *arguments]
        return self._finish(command, seconds, given, ring)

    def _finish(
        self, command: Sequence[str], seconds: float, given: bytes, ring: Path | None
    ) -> tuple[int, bytes, bytes]:
        process = self._start(command, ring)
        late = False
        try:
            out, err = process.communicate(given, timeout=seconds)
        except subprocess.TimeoutExpired:
            late = True
            self._end(process)
            out, err = process.communicate()
        finally:
            with self._lock:
                self._running.discard(process)
        stopped = self._closed.is_set() and process.returncode != 0
        if late or stopped:
            _signal(process, signal.SIGKILL)  # those of its session that nobody waited for
        if stopped:
            raise _stopping()
        if late:
            message = f"{command[0]} took longer than {seconds:g} s"
            raise GitError(message, reason="timeout", hint="raise `timeout`")
        return process.returncode, out, err

    def _start(self, command: Sequence[str], ring: Path | None) -> subprocess.Popen[bytes]:
        self._home.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._lock:
            if self._closed.is_set():
                raise _stopping()
            try:
                process = subprocess.Popen(  # ruff: ignore[subprocess-without-shell-equals-true]  # as above
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    env={**self._environment, "GNUPGHOME": str(ring or self._home / "gnupg")},
                    cwd=self._home,
                    pass_fds=self._lent,
                    start_new_session=True,
                )
            except FileNotFoundError:
                message = f"{command[0]} is not installed"
                raise GitError(message, reason="no-git", hint="install it") from None
            self._running.add(process)
        return process

    def gpg(self, *arguments: str, given: bytes, ring: Path) -> bytes:
        """Run gpg with a key ring, without an agent; raises `GitError`."""
        command = ["gpg", "--batch", "--quiet", "--no-tty", "--no-autostart", *arguments]
        status, out, err = self._finish(command, LOCAL_SECONDS, given, ring)
        if status:
            raise GitError(_clean(err), reason="git")
        return out

    @contextmanager
    def lending(self, lock: int) -> Generator[None]:
        """What starts meanwhile has the descriptor too, for as long as it lives."""
        self._lent = (lock,)
        try:
            yield
        finally:
            self._lent = ()

    def pause(self, seconds: float) -> None:
        """Wait, but not for longer than until `close`; that raises `GitError`."""
        if self._closed.wait(seconds):
            raise _stopping()

    def close(self) -> None:
        """End what runs, and do not wait for it; nothing starts any more."""
        with self._lock:
            self._closed.set()
            for process in self._running:
                self._end(process)

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        """Ask git to end, with what it started, so that it can tidy up; later it is not asked."""
        _signal(process, signal.SIGTERM)
        timer = Timer(GRACE_SECONDS, self._kill, (process,))
        timer.daemon = True
        timer.start()

    def _kill(self, process: subprocess.Popen[bytes]) -> None:
        with self._lock:
            if process in self._running:
                _signal(process, signal.SIGKILL)


def _stopping() -> GitError:
    return GitError("the controller is stopping", reason="stopping")


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Tell git and the ssh, helper or transport it started: they share a session of their own."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _verb(arguments: Sequence[str]) -> str:
    """The command among its options."""
    return next(each for each in arguments if not each.startswith("-") and "=" not in each)


def _clean(said: bytes) -> str:
    """What git said,  on one line, as far as they say something."""
    lines = [
        re.sub(r"^(?:fatal|error|remote): ?", "", line.strip())
        for line in said.decode("utf-8", "replace").splitlines()
        if not line.startswith(("hint:", "warning:", "Please make sure"))
    ]
    text = "; ".join(line for line in lines if line) or "failed without a word"
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


def _private(home: Path) -> dict[str, str]:
    """An environment that nobody else's configuration gets into."""
    return {
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home),
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": str(home / "gitconfig"),
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "",
        "SSH_ASKPASS": "",
        "GIT_ALLOW_PROTOCOL": "https:ssh:file",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_OPTIONAL_LOCKS": "0",
    }


CONFIG = """[safe]
\tdirectory = *
[core]
\thooksPath = /dev/null
[gc]
\tauto = 0
[maintenance]
\tauto = false
[fetch]
\trecurseSubmodules = false
[protocol "file"]
\tallow = always
"""
"""`safe.directory`: a repository on disk that an operator names is meant, whoever owns it. Objects
are not checked as `fsck` does: no path of a tree becomes a path here, only contents are read."""


def _credentials(spec: SourceSpec) -> dict[str, str]:
    """What the helper in `_options` and ssh go by: names of files, never what is in them."""
    found = {"GIT_SSH_COMMAND": shlex.join(_ssh(spec)), "GIT_SSH_VARIANT": "ssh"}
    if spec.token_file is not None:
        found["WINDLASS_TOKEN_FILE"] = str(spec.token_file.absolute())
    if spec.credential_command is not None:
        found["WINDLASS_CREDENTIAL_COMMAND"] = spec.credential_command
    found["WINDLASS_USERNAME"] = spec.username or "git"
    return found


def _ssh(spec: SourceSpec) -> list[str]:
    seconds = max(1, spec.timeout // 1000)
    command = ["ssh", "-o", "BatchMode=yes", "-o", f"ConnectTimeout={seconds}"]
    if spec.ssh_key_file is not None:
        key = str(spec.ssh_key_file.absolute())
        command += ["-F", "none", "-o", "IdentitiesOnly=yes", "-i", key]
    if spec.known_hosts_file is not None:
        hosts = str(spec.known_hosts_file.absolute())
        command += ["-o", f"UserKnownHostsFile={hosts}", "-o", "StrictHostKeyChecking=yes"]
    return command


_HELPER = '!f() { test "$1" = get || exit 0; echo "username=$WINDLASS_USERNAME"; %s; }; f'
_FROM_FILE = 'printf "password=%s\\n" "$(cat "$WINDLASS_TOKEN_FILE")"'
_FROM_COMMAND = (
    'token=$(sh -c "$WINDLASS_CREDENTIAL_COMMAND" 2> /dev/null)'
    ' || { echo "credential_command ended with status $?" >&2; exit; };'
    ' printf "password=%s\\n" "$token"'
)
"""What a command says on stderr may be the token: nobody is shown it."""


def _options(spec: SourceSpec) -> list[str]:
    url = urlsplit(spec.url or "")
    helper = f"credential.{url.scheme}://{url.netloc}.helper"  # none elsewhere, if it redirects
    found = ["-c", "credential.helper="]
    if spec.token_file is not None:
        found += ["-c", f"{helper}={_HELPER.replace('%s', _FROM_FILE, 1)}"]
    if spec.credential_command is not None:
        found += ["-c", f"{helper}={_HELPER.replace('%s', _FROM_COMMAND, 1)}"]
    if spec.ca_file is not None:
        found += ["-c", f"http.sslCAInfo={spec.ca_file.absolute()}"]
    return found
