"""A real daemon that follows a real repository: pushed to, killed, watched, and reporting."""

import hashlib
import hmac
import json
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.actions.server import listening
from tests.crash.daemon import Daemon, windlass
from tests.eventually import wait_until
from tests.gitops.repository import Repository
from tests.service.place import flow

SECRET = "a long random text"  # ruff: ignore[hardcoded-password-string]  # of these tests


def _settings(folder: Path, repository: Repository, **more: Any) -> None:
    secrets = folder / "secrets"
    secrets.mkdir()
    (secrets / "push").write_text(SECRET)
    source = {"name": "team", "url": repository.url, "interval": "10m", "webhook_secret": "push"}
    given = {"secrets_dir": str(secrets), "sources": [source | more]}
    (folder / "windlass.yaml").write_text(json.dumps(given))


def _push(daemon: Daemon, body: bytes, **headers: str) -> tuple[int, Any]:
    """What the daemon answers to a forge."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{daemon.port}/push/team", data=body, headers=headers
    )
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def _signed(body: bytes) -> dict[str, str]:
    signature = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    return {"X-Gitea-Signature": signature, "X-Gitea-Event": "push"}


def _source(daemon: Daemon) -> dict[str, Any]:
    shown: dict[str, Any] = json.loads(daemon.get("/api/sources/team"))
    return shown


def _is_at(daemon: Daemon, revision: str) -> Callable[[], bool]:
    return lambda: bool(_source(daemon)["source"]["revision"] == revision)


def test_a_signed_push_is_live_at_once(tmp_path: Path) -> None:
    """Long before the interval; an unsigned one, and one for another branch, change nothing."""
    repository = Repository(tmp_path)
    first = repository.put("a.yaml", flow("a", "one"))
    _settings(tmp_path, repository, branch="main")
    with Daemon(tmp_path) as daemon:
        second = repository.put("a.yaml", flow("a", "two"))
        body = b'{"ref": "refs/heads/main"}'
        assert _push(daemon, body)[0] == 401
        other = b'{"ref": "refs/heads/other"}'
        answer = _push(daemon, other, **_signed(other))
        assert (answer[0], "ignored" in answer[1]) == (202, True)
        assert _is_at(daemon, first)()
        assert _push(daemon, body, **_signed(body)) == (202, {"source": "team", "event": "push"})
        wait_until(_is_at(daemon, second), "the push is live")
        assert _push(daemon, b"{", **_signed(b"{"))[0] == 400
        shown = _source(daemon)
        assert shown["source"]["commit"]["author"] == "Ada"
        assert [each["source"]["id"] for each in json.loads(daemon.get("/api/sources"))] == ["team"]
        metrics = daemon.get("/metrics").decode()
        assert 'windlass_source_phase{phase="ready",reason="",source="team"} 1.0' in metrics
        assert f'windlass_source_revision_info{{revision="{second}",source="team"}} 1.0' in metrics


def test_a_problem_is_shown_without_the_line_it_stands_in(tmp_path: Path) -> None:
    """Over HTTP: path, line, problem and the version that stays live, but no text of the file."""
    repository = Repository(tmp_path)
    repository.put("a.yaml", flow("a", "one"))
    _settings(tmp_path, repository)
    with Daemon(tmp_path) as daemon:
        repository.put("a.yaml", flow("a", "s3cret", action="lgo"))
        windlass("sync:now", "--state-dir", ".windlass", cwd=tmp_path, check=False)
        shown = _source(daemon)
        [file] = shown["files"]
        [problem] = file["problems"]
        assert (shown["source"]["phase"], problem["line"]) == ("degraded", 4)
        assert file["definitions"][0]["version"] == "1.0.0"
        assert b"s3cret" not in daemon.get("/api/sources/team")


def test_a_forge_is_told_what_came_of_a_commit(tmp_path: Path) -> None:
    """Success, then failure with the first problem: the daemon's own wiring, to a real server."""
    repository = Repository(tmp_path)
    first = repository.put("a.yaml", flow("a"))
    token = tmp_path / "token"
    token.write_text("t0ken")
    with listening() as server:
        report = {"forge": "gitea", "api": server.url, "repository": "team/flows"}
        _settings(tmp_path, repository, report=report | {"token_file": str(token)})
        with Daemon(tmp_path):
            wait_until(lambda: server.received, "a status is reported")
            second = repository.put("b.yaml", "name: b\nsteps: [\n")
            windlass("sync:now", cwd=tmp_path, check=False)
            wait_until(lambda: len(server.received) > 1, "another status is reported")
    said = [(each.path.rsplit("/", 1)[-1], each.json["state"]) for each in server.received]
    assert said == [(first, "success"), (second, "failure")]
    assert server.received[1].json["description"].startswith("b.yaml:")


def test_a_daemon_that_is_killed_goes_on_where_the_source_is(tmp_path: Path) -> None:
    """Killed again and again while commits come: in the end it has what the branch says.

    And no mirror of what it does not follow.
    """
    repository = Repository(tmp_path)
    repository.put("a.yaml", flow("a", "first"))
    _settings(tmp_path, repository)
    unused = tmp_path / ".windlass" / "sources" / "followed-before"
    (unused / "mirror.git").mkdir(parents=True)
    daemon = Daemon(tmp_path)
    for number in range(1, 6):
        daemon.start()
        revision = repository.put(f"w{number}.yaml", flow(f"w{number}"))
        body = b'{"ref": "refs/heads/main"}'
        _push(daemon, body, **_signed(body))
        if number % 2:
            wait_until(_is_at(daemon, revision), "the push is live")
        daemon.kill()
    with daemon:
        assert _is_at(daemon, repository.head())()
        listed = json.loads(windlass("workflows:list", "-f", "json", cwd=tmp_path).stdout)
        assert sorted(each["name"] for each in listed) == ["a", *(f"w{n}" for n in range(1, 6))]
        assert not unused.exists()
        assert (unused.parent / "team" / "mirror.git").is_dir()
