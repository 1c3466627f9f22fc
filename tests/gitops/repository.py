"""Real repositories on disk, made with the git command, and what may stand in their history."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path


class Repository:
    """A work tree of the test's own, and the bare repository that it is pushed to."""

    def __init__(self, folder: Path, name: str = "workflows") -> None:
        self.work = folder / f"{name}-work"
        self.bare = folder / f"{name}.git"
        self.work.mkdir(parents=True)
        self._clock = 1_790_000_000
        self.git("init", "--quiet", "--initial-branch=main")
        run("git", "init", "--quiet", "--bare", "--initial-branch=main", str(self.bare))
        self.git("remote", "add", "origin", str(self.bare))

    @property
    def url(self) -> str:
        """As a source names it."""
        return f"file://{self.bare}"

    def git(self, *arguments: str, **environment: str) -> str:
        """Run git in the work tree; each command a minute later than the last."""
        self._clock += 60
        when = f"@{self._clock} +0000"
        dates = {"GIT_AUTHOR_DATE": when, "GIT_COMMITTER_DATE": when}
        return run("git", *arguments, cwd=self.work, **dates, **environment)

    def write(self, path: str, text: str) -> None:
        """Write a file of the work tree."""
        target = self.work / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def commit(self, message: str = "Change", *options: str, push: bool = True) -> str:
        """Commit all of the work tree, and push it; the commit's id."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message, *options)
        if push:
            self.push()
        return self.head()

    def put(self, path: str, text: str, message: str = "Change") -> str:
        """Write one file, commit and push it."""
        self.write(path, text)
        return self.commit(message)

    def push(self, *options: str) -> None:
        """Push the branch that is checked out."""
        self.git("push", "--quiet", "--force", *options, "origin", "HEAD")

    def head(self) -> str:
        """The commit that is checked out."""
        return self.git("rev-parse", "HEAD").strip()


class Line:
    """A bare repository whose branch is written commit by commit, with one command for each."""

    def __init__(self, folder: Path) -> None:
        self.bare = folder / "workflows.git"
        self.commits: list[str] = []
        self._count = 0
        run("git", "init", "--quiet", "--bare", "--template=", "--initial-branch=main", self.bare)

    @property
    def url(self) -> str:
        """As a source names it."""
        return f"file://{self.bare}"

    @property
    def head(self) -> str:
        """The branch's tip."""
        return self.commits[-1]

    def commit(self, files: Mapping[str, str], *, amend: bool = False) -> None:
        """These are all the files from now on; `amend`: in place of the last commit."""
        self._count += 1
        before = self.commits[:-1] if amend else self.commits
        lines = ["commit refs/heads/main", "mark :1"]
        lines += [f"committer Ada <ada@example.org> {1_790_000_000 + 60 * self._count} +0000"]
        lines += ["data 6", "Change", *(f"from {each}" for each in before[-1:]), "deleteall"]
        for path, text in files.items():
            lines += [f"M 100644 inline {path}", f"data {len(text.encode())}", text]
        stream = "\n".join([*lines, "get-mark :1", ""])
        made = run("git", "fast-import", "--quiet", "--force", cwd=self.bare, given=stream)
        self.commits = [*before, made.strip()]


def run(
    *command: str | Path, cwd: Path | None = None, given: str | None = None, **environment: str
) -> str:
    """Run a command with nobody's configuration; what it says on stdout."""
    clean = {
        "PATH": os.environ["PATH"],
        "HOME": "/nonexistent",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_AUTHOR_NAME": "Ada",
        "GIT_AUTHOR_EMAIL": "ada@example.org",
        "GIT_COMMITTER_NAME": "Ada",
        "GIT_COMMITTER_EMAIL": "ada@example.org",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "core.fsync",
        "GIT_CONFIG_VALUE_0": "none",
        "LC_ALL": "C",
    }
    done = subprocess.run(
        command,
        cwd=cwd,
        env=clean | environment,
        input=given,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout
