"""Git that is in the middle of something when the controller stops."""

import asyncio
from pathlib import Path

import pytest

from controller.settings import git_environment
from controller.source.git import Git, GitError
from controller.source.spec import SourceSpec
from tests.eventually import eventually


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
