"""Git that is in the middle of something when the controller stops."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from controller.app import open_app
from controller.given import git_environment
from controller.settings import Settings
from controller.source.git import Git, GitError
from controller.source.spec import SourceSpec
from controller.store import ledger
from tests.eventually import eventually
from tests.gitops.repository import Repository


async def test_what_a_stop_ends_says_so(tmp_path: Path) -> None:
    """It is killed, and that is no failure of the repository or of git."""
    spec = SourceSpec(name="s", url=f"file://{tmp_path}/origin")
    git = Git(tmp_path / "home", git_environment(), spec)
    command = ("-c", "alias.wait=!touch begun; exec sleep 60", "wait")
    asked = asyncio.create_task(asyncio.to_thread(git.run, command, seconds=60))
    await eventually((tmp_path / "home" / "begun").exists, "git is at it")
    git.close()
    with pytest.raises(GitError, match="the controller is stopping") as caught:
        await asked
    assert caught.value.reason == "stopping"


@pytest.mark.parametrize("held", [False, True], ids=["followed", "rolled back"])
async def test_a_look_that_a_stop_ends_is_no_failure_of_the_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, held: bool
) -> None:
    """Whoever asks for the status while the controller is away is not told of one."""
    hanging = tmp_path / "bin" / "git"
    hanging.parent.mkdir()
    monkeypatch.setenv("PATH", f"{hanging.parent}:{os.environ['PATH']}")
    repository = Repository(tmp_path)
    repository.put("w.yaml", "name: w\nsteps: [{id: a, type: action, action: log}]\n")
    given: dict[str, Any] = {"sources": [{"name": "s", "url": repository.url}]}
    async with open_app(Settings(state_dir=tmp_path / "state", **given)) as app:
        reconciler = app.reconciler(app.specs["s"], lambda: None)
        loop = asyncio.ensure_future(reconciler.run())
        await reconciler.first.wait()
        before = await app.store.read(ledger.source, "s")
        assert before is not None
        assert before.revision is not None
        if held:
            other = {"reason": "rollback", "revision": "0" * 40, "by": "ada", "at": 0}
            await app.store.write(ledger.put_wish, "s", {"held": other})
        hanging.write_text(f"#!/bin/sh\ntouch {tmp_path}/begun\nexec sleep 60\n")
        hanging.chmod(0o755)
        reconciler.look_at_everything()
        await eventually((tmp_path / "begun").exists, "git is at it")
        reconciler.stop()
        await loop
        assert await app.store.read(ledger.source, "s") == before
