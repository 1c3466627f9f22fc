"""What forges are told of commits, by a server that speaks as they do."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from controller.facts import Fact, FactType
from controller.observe.forge import Report, Reporter, Target, report_of
from tests.eventually import eventually
from tests.fake_clock import FakeClock

SHA = "1234567890123456789012345678901234567890"
TOKEN = "t0ken"  # ruff: ignore[hardcoded-password-string]  # of a server of the test's own

FORGES: dict[str, tuple[str, tuple[str, str], dict[str, str]]] = {
    "github": (
        f"/repos/team/flows/statuses/{SHA}",
        ("Authorization", f"Bearer {TOKEN}"),
        {"state": "failure", "context": "windlass", "description": "a.yaml:3: no such action"},
    ),
    "gitea": (
        f"/repos/team/flows/statuses/{SHA}",
        ("Authorization", f"token {TOKEN}"),
        {"state": "failure", "context": "windlass", "description": "a.yaml:3: no such action"},
    ),
    "gitlab": (
        f"/projects/team%2Fflows/statuses/{SHA}",
        ("PRIVATE-TOKEN", TOKEN),
        {"state": "failed", "name": "windlass", "description": "a.yaml:3: no such action"},
    ),
}


@dataclass
class Forge:
    """Answers each request with the next of `answers`, then with 201."""

    url: str = ""
    headers: Mapping[str, str] = field(default_factory=lambda: {"Retry-After": "30"})
    limited: tuple[int, ...] = (429,)
    answers: list[int] = field(default_factory=list)
    received: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        """Note a request."""
        said: Any = await request.json()
        self.received.append((request.raw_path, dict(request.headers), said))
        status = self.answers.pop(0) if self.answers else 201
        return web.Response(status=status, headers=self.headers if status in self.limited else {})


@asynccontextmanager
async def _forge(*answers: int) -> AsyncGenerator[Forge]:
    forge = Forge(answers=list(answers))
    application = web.Application()
    application.router.add_post("/{path:.*}", forge.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    forge.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield forge
    finally:
        await runner.cleanup()


@asynccontextmanager
async def _reporter(
    forge: Forge, clock: FakeClock, folder: Path, kind: str = "github"
) -> AsyncGenerator[Reporter]:
    token = folder / "token"
    token.write_text(f"{TOKEN}\n")
    target = Target(kind, forge.url, "team/flows", token, "windlass")
    reporter = Reporter("git", target, clock)
    running = asyncio.ensure_future(reporter.run())
    try:
        yield reporter
    finally:
        running.cancel()
        await asyncio.wait({running})


def _fact(phase: str, reason: str | None = None, **more: Any) -> Fact:
    said: dict[str, Any] = {
        "source": "git",
        "phase": phase,
        "reason": reason,
        "message": "1 invalid: a.yaml",
        "observed": SHA,
        "problem": None,
        "fates": {},
    }
    return Fact(FactType.RECONCILED, 0, data=said | more)


@pytest.mark.parametrize("kind", FORGES)
async def test_each_forge_is_told_in_its_own_way(
    tmp_path: Path, clock: FakeClock, kind: str
) -> None:
    """The path, the token's header and the body that its API documents."""
    path, (header, value), body = FORGES[kind]
    async with _forge() as forge, _reporter(forge, clock, tmp_path, kind) as reporter:
        problem = "a.yaml:3: no such action"
        reporter.observe(_fact("degraded", "invalid-files", problem=problem))
        await eventually(lambda: forge.received)
        [(where, headers, said)] = forge.received
        assert (where, headers[header], said) == (path, value, body)


def test_what_is_said_of_a_commit() -> None:
    """Success with the counts; failure with the first problem, or why it is not applied."""
    applied = report_of(_fact("ready", fates={"created": 2, "unchanged": 7}), "git")
    assert applied == Report(SHA, "success", "applied: 2 created")
    unsigned = report_of(_fact("rejected", "unsigned", message="commit is not signed"), "git")
    assert unsigned == Report(SHA, "failure", "commit is not signed")
    assert report_of(_fact("failed", "unreachable"), "git") is None
    assert report_of(_fact("suspended", "suspended"), "git") is None
    assert report_of(_fact("ready"), "another") is None


async def test_the_same_word_is_said_once(tmp_path: Path, clock: FakeClock) -> None:
    """Again and again the same: one request. A new word about the commit: another."""
    async with _forge() as forge, _reporter(forge, clock, tmp_path) as reporter:
        for _ in range(3):
            reporter.observe(_fact("degraded"))
        await eventually(lambda: forge.received)
        reporter.observe(_fact("ready"))
        await eventually(lambda: len(forge.received) > 1)
        assert [said["state"] for _, _, said in forge.received] == ["failure", "success"]


async def test_a_forge_that_is_busy_is_asked_again(tmp_path: Path, clock: FakeClock) -> None:
    """Errors of its own are tried again after a while, longer where it says how long."""
    async with _forge(500, 429) as forge, _reporter(forge, clock, tmp_path) as reporter:
        reporter.observe(_fact("ready"))
        await eventually(lambda: len(forge.received) == 1)
        await eventually(clock.pending)
        await clock.advance(1_000)
        await eventually(lambda: len(forge.received) == 2)
        await eventually(clock.pending)
        await clock.advance(29_000)
        assert len(forge.received) == 2
        await clock.advance(1_000)
        await eventually(lambda: len(forge.received) == 3)


@pytest.mark.parametrize("headers", [{"Retry-After": "1"}, {"X-RateLimit-Remaining": "0"}])
async def test_who_asks_too_often_asks_again(
    tmp_path: Path, clock: FakeClock, headers: dict[str, str]
) -> None:
    """A 403 is no word about the token where it comes with a limit (GitHub's)."""
    async with _forge(403) as forge, _reporter(forge, clock, tmp_path) as reporter:
        forge.limited, forge.headers = (403,), headers
        reporter.observe(_fact("ready"))
        await eventually(clock.pending)
        await clock.advance(1_000)
        await eventually(lambda: len(forge.received) == 2)


@pytest.mark.parametrize("status", [401, 403, 404, 422])
async def test_what_no_try_mends_is_told_at_once(
    tmp_path: Path, clock: FakeClock, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong token or repository: one request, one line that says so, without the token."""
    async with _forge(status) as forge, _reporter(forge, clock, tmp_path) as reporter:
        reporter.observe(_fact("ready"))
        await eventually(lambda: forge.received)
        said = await eventually(lambda: capsys.readouterr().err)
        assert f"it answered {status}" in said
        assert TOKEN not in said


@pytest.mark.parametrize("content", [b"\xff\xfe", b"one\ntwo\n", b"t\xc3\xb6ken", b"\n"])
async def test_a_file_that_holds_no_token_is_told(
    tmp_path: Path, clock: FakeClock, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once, with what to do and not what is in it; the file is read again for the next word."""
    async with _forge() as forge, _reporter(forge, clock, tmp_path) as reporter:
        (tmp_path / "token").write_bytes(content)
        reporter.observe(_fact("degraded"))
        said = await eventually(lambda: capsys.readouterr().err)
        assert said.count(f"{tmp_path}/token holds no token: write one line") == 1
        assert forge.received == []
        (tmp_path / "token").write_text(TOKEN)
        reporter.observe(_fact("ready"))
        await eventually(lambda: forge.received)


async def test_what_is_no_number_asks_for_nothing(tmp_path: Path, clock: FakeClock) -> None:
    """Whatever a forge says of when to try again, it is tried."""
    async with _forge(429) as forge, _reporter(forge, clock, tmp_path) as reporter:
        forge.headers = {"Retry-After": "²"}
        reporter.observe(_fact("ready"))
        await eventually(clock.pending)
        await clock.advance(1_000)
        await eventually(lambda: len(forge.received) == 2)


async def test_a_forge_that_is_away_is_given_up(
    tmp_path: Path, clock: FakeClock, capsys: pytest.CaptureFixture[str]
) -> None:
    """After some tries, with one line; the next commit is told again."""
    async with (
        _forge() as forge,
        _reporter(Forge("http://127.0.0.1:9"), clock, tmp_path) as reporter,
    ):
        del forge
        reporter.observe(_fact("ready"))
        for _ in range(5):
            await eventually(clock.pending)
            await clock.advance(60_000)
        said = await eventually(lambda: capsys.readouterr().err)
        assert said.count("gave up after 6 tries") == 1
