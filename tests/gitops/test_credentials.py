"""Over https and ssh, with real servers: credentials come from files, and stay out of sight."""

import os
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from controller.core.problem import Refused
from controller.settings import load_settings
from tests.eventually import eventually
from tests.fake_clock import FakeClock
from tests.gitops.repository import Repository, run
from tests.gitops.servers import SSHD, https_server, ssh_server, tls_server
from tests.service.place import Place, flow, opened

TOKEN = "tok-53cret%&$'\" x"  # ruff: ignore[hardcoded-password-string]  # of a server of the test's own

OTHER = "tok-0ther"

needs_sshd = pytest.mark.skipif(not Path(SSHD).exists(), reason="needs an ssh server (sshd)")


async def _phase(place: Place) -> tuple[str, str | None]:
    source = (await place.reconcile("git")).source
    return source.phase, source.reason


def _seen(place: Place) -> bytes:
    """Everything the controller keeps."""
    folder = place.app.settings.state_dir
    return b"".join(each.read_bytes() for each in folder.rglob("*") if each.is_file())


@pytest.mark.parametrize("by", ["token_file", "credential_command"])
async def test_a_token_opens_a_repository_and_is_kept_nowhere(
    tmp_path: Path, clock: FakeClock, by: str
) -> None:
    """From a file or a command, read for each fetch; it stands in nothing that we write."""
    repository = Repository(tmp_path)
    repository.put("a.yaml", flow("a"))
    token = tmp_path / "token"
    token.write_text("wrong\n")
    with https_server(tmp_path, TOKEN) as server:
        source: dict[str, Any] = {
            "name": "git",
            "url": f"{server.url}/{repository.bare.name}",
            "username": "robot",
            "ca_file": server.ca,
            by: token if by == "token_file" else f"cat {token}",
        }
        async with opened(tmp_path, clock, source) as place:
            assert await _phase(place) == ("failed", "auth")
            token.write_text(TOKEN + "\n")
            assert await _phase(place) == ("ready", None)
            assert await place.names() == ["a"]
            assert TOKEN.encode() not in _seen(place)


async def test_a_token_goes_to_no_host_that_a_redirect_leads_to(
    tmp_path: Path, clock: FakeClock
) -> None:
    """Who asks for it there may be anybody."""
    heard: list[str | None] = []
    with https_server(tmp_path, TOKEN) as server:

        class Stranger(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                heard.append(self.headers.get("Authorization"))
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="git"')
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_arguments: object) -> None:
                pass

        class Moved(Stranger):
            def do_GET(self) -> None:
                self.send_response(302)
                self.send_header("Location", f"{stranger}{self.path}")
                self.send_header("Content-Length", "0")
                self.end_headers()

        keys = tmp_path / "key.pem", server.ca
        with tls_server(Stranger, *keys) as stranger, tls_server(Moved, *keys) as moved:
            token = tmp_path / "token"
            token.write_text(TOKEN)
            source = {"name": "git", "url": f"{moved}/x.git", "ca_file": server.ca}
            async with opened(tmp_path, clock, source | {"token_file": token}) as place:
                assert await _phase(place) == ("failed", "auth")
                assert stranger in str((await place.app.sources.source("git")).message)
    assert heard
    assert set(heard) == {None}


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("echo {secret} >&2; exit 3", "credential_command ended with status 3; could not read"),
        ("sh -xc 'echo {secret}'", "Authentication failed"),
        ("echo x; echo {secret}", "Authentication failed"),
        ("./{secret}", "credential_command ended with status 127"),
    ],
)
async def test_what_a_command_says_beside_the_token_is_kept_nowhere(
    tmp_path: Path, clock: FakeClock, command: str, says: str
) -> None:
    """It may be the token: how the command ended is told instead."""
    Repository(tmp_path)
    with https_server(tmp_path, TOKEN) as server:
        source: dict[str, Any] = {
            "name": "git",
            "url": f"{server.url}/workflows.git",
            "ca_file": server.ca,
            "credential_command": command.format(secret=OTHER),
        }
        async with opened(tmp_path, clock, source) as place:
            assert await _phase(place) == ("failed", "auth")
            assert says in str((await place.app.sources.source("git")).message)
            assert OTHER.encode() not in _seen(place)


async def test_a_certificate_nobody_vouches_for_is_refused(
    tmp_path: Path, clock: FakeClock
) -> None:
    """Without `ca_file` the server may be anybody: nothing is sent to it."""
    repository = Repository(tmp_path)
    with https_server(tmp_path, TOKEN) as server:
        source = {"name": "git", "url": f"{server.url}/{repository.bare.name}"}
        async with opened(tmp_path, clock, source) as place:
            assert await _phase(place) == ("failed", "tls")


async def test_a_server_that_gives_out_no_single_commit_gives_all(
    tmp_path: Path, clock: FakeClock
) -> None:
    """One that speaks Git's oldest protocol: a commit of a branch's or a tag's past is found."""
    repository = Repository(tmp_path)
    commits = {"branch": repository.put("a.yaml", flow("a", "branch"))}
    repository.put("a.yaml", flow("a", "main"))
    repository.git("switch", "--quiet", "--create", "released")
    commits["tag"] = repository.put("a.yaml", flow("a", "tag"))
    repository.put("a.yaml", flow("a", "released"))
    repository.git("tag", "v1")
    repository.push("--tags")
    run("git", "branch", "--quiet", "-D", "released", cwd=repository.bare)
    run("git", "branch", "old", "main", cwd=repository.bare)
    with https_server(tmp_path, TOKEN, versions=False) as server:
        token = tmp_path / "token"
        token.write_text(TOKEN)
        source: dict[str, Any] = {
            "name": "git",
            "url": f"{server.url}/{repository.bare.name}",
            "username": "robot",
            "ca_file": server.ca,
            "token_file": token,
        }
        old = "old"
        for by, commit in commits.items():
            async with opened(tmp_path, clock, source | {"commit": commit}) as place:
                assert await _phase(place) == ("ready", None)
                assert (await place.app.service.get_workflow("a")).description == by
            run("git", "branch", "--move", old, f"{old}/one", cwd=repository.bare)
            old += "/one"
        async with opened(tmp_path, clock, source | {"commit": "0" * 39 + "1"}) as place:
            assert await _phase(place) == ("failed", "ref-gone")


@needs_sshd
async def test_a_key_opens_a_repository_over_ssh(tmp_path: Path, clock: FakeClock) -> None:
    """With the server's key known; a server with another key is refused, and so is another key."""
    repository = Repository(tmp_path)
    repository.put("a.yaml", flow("a"))
    with ssh_server(tmp_path) as server:
        source: dict[str, Any] = {
            "name": "git",
            "url": f"{server.url}{repository.bare}",
            "ssh_key_file": server.key,
            "known_hosts_file": server.known_hosts,
        }
        async with opened(tmp_path, clock, source) as place:
            assert await _phase(place) == ("ready", None)
        stranger = tmp_path / "nobody"
        stranger.write_text("")
        async with opened(tmp_path, clock, source | {"known_hosts_file": stranger}) as place:
            assert await _phase(place) == ("failed", "host-key")
        other = tmp_path / "host_key"
        async with opened(tmp_path, clock, source | {"ssh_key_file": other}) as place:
            assert await _phase(place) == ("failed", "auth")


async def test_a_server_that_says_nothing_costs_the_timeout(
    tmp_path: Path, clock: FakeClock
) -> None:
    """Git, and all it started, ends; the status says so, and when it is tried again."""
    command = tmp_path / "ssh"
    command.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 600\n")
    command.chmod(0o755)
    source = {"name": "git", "url": "ssh://nowhere.invalid/x.git", "timeout": 1_000}
    async with opened(tmp_path, clock, source) as place:
        reconciler = place.reconciler("git")
        git = reconciler._origin._checkout.git  # type: ignore[attr-defined]  # a Git source
        git._environment["PATH"] = f"{tmp_path}:{os.environ['PATH']}"
        found = (await reconciler.reconcile()).source
        assert (found.phase, found.reason) == ("failed", "timeout")
        assert found.next_at is not None
        assert found.next_at > clock.now()
    pid = int((tmp_path / "pid").read_text())
    await eventually(lambda: _ended(pid), "what git started has ended")


def _ended(pid: int) -> bool:
    """Gone, or waiting for nobody but its parent to look."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("source: https://user:pass@host/x.git", "leave the credentials out"),
        ("source: http://host/x.git", "begins with https://"),
        ("sources: [{name: a, url: 'git://host/x'}]", "begins with https://"),
        ("sources: [{name: a}]", "either `directory` or `url`"),
        ("sources: [{name: a, directory: d, branch: main}]", "`branch` is for a source with `url`"),
        ("sources: [{name: a, url: 'file:///x', branch: a, tag: b}]", "give one of `branch`"),
        ("sources: [{name: a, url: 'file:///x', semver: newest}]", "range of versions"),
        ("sources: [{name: a, url: 'file:///x', commit: abc}]", "40 hexadecimal digits"),
        ("sources: [{name: a, url: 'file:///x', branch: '--upload-pack=x'}]", "no such name"),
        ("sources: [{name: a, url: 'file:///x', path: ../y}]", "a path below the root"),
        ("sources: [{name: a, url: 'file:///x', verify: ssh}]", "need each other"),
        ("sources: [{name: api, directory: d}]", "owns what people create"),
        ("sources: [{name: a, directory: d}, {name: a, directory: e}]", "two sources are called"),
        ("sources: [{name: a, directory: d, brnch: x}]", "no setting `sources.0.brnch`"),
        ("source: d\nsources: [{name: a, directory: d}]", "either `source` or `sources`"),
    ],
)
def test_a_wrong_source_is_refused_where_it_stands(tmp_path: Path, text: str, says: str) -> None:
    """One message, which names the file and the field, and shows no password."""
    file = tmp_path / "windlass.yaml"
    file.write_text(text)
    with pytest.raises(Refused) as refusal:
        load_settings({}, file, {})
    assert says in str(refusal.value)
    assert str(file) in str(refusal.value)
    assert "user:pass" not in str(refusal.value)


def test_the_flag_takes_a_url_with_branch_and_path() -> None:
    """As Docker writes it; an scp-like address is ssh, and a directory stays one."""
    for text, url, branch, path in (
        ("https://h/x.git#next:team/flows", "https://h/x.git", "next", "team/flows"),
        ("git@h:team/x.git", "git@h:team/x.git", None, ""),
        ("file:///srv/x.git#:flows", "file:///srv/x.git", None, "flows"),
    ):
        [spec] = load_settings({"source": text}, None, {}).specs
        assert (spec.url, spec.branch, spec.path) == (url, branch, path)
    [spec] = load_settings({"source": "some/folder"}, None, {}).specs
    assert (spec.type, spec.root) == ("directory", Path("some/folder"))


def test_the_nearer_of_source_and_sources_counts(tmp_path: Path) -> None:
    """A flag goes before a variable, and a variable before the file, whichever of the two it is."""
    file = tmp_path / "windlass.yaml"
    file.write_text("sources: [{name: a, directory: d}]")
    several = {"WINDLASS_SOURCES": '[{"name": "b", "directory": "e"}]'}

    def names(flags: dict[str, str], environ: dict[str, str]) -> list[str]:
        return [each.name for each in load_settings(flags, file, environ).specs]

    assert names({}, {}) == ["a"]
    assert names({}, {"WINDLASS_SOURCE": "x"}) == ["definitions"]
    assert names({"source": "x"}, several) == ["definitions"]
    assert names({}, several) == ["b"]
    assert names({}, {"WINDLASS_SOURCE": ""}) == ["a"]
    file.write_text("source: x\nsources: [{name: a, directory: d}]")
    with pytest.raises(Refused, match="either `source` or `sources`"):
        names({}, {})
