"""Only what an allowed signer signed is applied; the status says which commit, and why not."""

import asyncio
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from controller.core.problem import Refused
from controller.facts import Fact, FactType
from tests.eventually import eventually
from tests.fake_clock import FakeClock
from tests.gitops.repository import Repository, run
from tests.service.place import Place, flow, opened


def _key(folder: Path, name: str) -> Path:
    key = folder / name
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(key))
    return key


def _signers(folder: Path, *keys: Path) -> Path:
    file = folder / "allowed_signers"
    lines = [f"{key.name}@example.org {key.with_suffix('.pub').read_text()}" for key in keys]
    file.write_text("".join(lines))
    return file


def _signed(repository: Repository, key: Path, path: str, text: str) -> str:
    repository.write(path, text)
    repository.git("add", "--all")
    options = ("-c", "gpg.format=ssh", "-c", f"user.signingKey={key}")
    repository.git(*options, "commit", "--quiet", "-S", "--message", "Signed")
    repository.push()
    return repository.head()


def _gpg_home(folder: Path, name: str) -> Path:
    home = folder / name
    home.mkdir(mode=0o700)
    run(
        "gpg", "--homedir", str(home), "--batch", "--quiet", "--passphrase", "",
        "--quick-generate-key", f"{name}@example.org", "ed25519", "sign", "never",
    )  # fmt: skip
    return home


def _signed_by_gpg(repository: Repository, home: Path, text: str) -> str:
    repository.write("a.yaml", flow("a", text))
    repository.git("add", "--all")
    options = ("-c", f"user.signingKey={home.name}@example.org")
    command = ("commit", "--quiet", "-S", "--message", text)
    repository.git(*options, *command, GNUPGHOME=str(home))
    repository.push()
    return repository.head()


async def _look(place: Place) -> tuple[str, str | None, str | None]:
    source = (await place.reconcile("git")).source
    return source.phase, source.reason, source.revision


async def test_only_signed_commits_are_applied(tmp_path: Path, clock: FakeClock) -> None:
    """Unsigned, signed by a stranger, and tampered with: each has its reason; none is applied."""
    repository = Repository(tmp_path)
    ada, eve = _key(tmp_path, "ada"), _key(tmp_path, "eve")
    source = {"name": "git", "url": repository.url, "verify": "ssh"}
    source["signers"] = str(_signers(tmp_path, ada))
    good = _signed(repository, ada, "a.yaml", flow("a", "good"))
    async with opened(tmp_path, clock, source) as place:
        facts: list[Fact] = []
        place.app.bus.subscribe(facts.append)
        assert await _look(place) == ("ready", None, good)
        commit = (await place.app.sources.status("git")).source.commit or {}
        assert commit["signer"].startswith("ada@example.org (ED25519 key SHA256:")

        bare = repository.put("a.yaml", flow("a", "unsigned"))
        assert await _look(place) == ("rejected", "unsigned", good)
        source_now = (await place.app.sources.status("git")).source
        assert source_now.observed == bare
        assert bare[:12] in (source_now.message or "")

        _signed(repository, eve, "a.yaml", flow("a", "stranger"))
        assert await _look(place) == ("rejected", "untrusted-signer", good)
        assert facts[-1].type is FactType.RECONCILED
        assert facts[-1].data["reason"] == "untrusted-signer"

        tampered = _tampered(repository, ada)
        assert await _look(place) == ("rejected", "bad-signature", good)
        assert (await place.app.sources.status("git")).source.observed == tampered
        assert (await place.app.service.get_workflow("a")).description == "good"

        last = _signed(repository, ada, "a.yaml", flow("a", "fine"))
        assert await _look(place) == ("ready", None, last)


async def test_a_signer_is_called_as_the_file_calls_them(tmp_path: Path, clock: FakeClock) -> None:
    """With spaces, too."""
    repository = Repository(tmp_path)
    ada, signers = _key(tmp_path, "ada"), tmp_path / "signers"
    signers.write_text(f'"Ada Lovelace" {ada.with_suffix(".pub").read_text()}')
    source = {"name": "git", "url": repository.url, "verify": "ssh", "signers": str(signers)}
    commit = _signed(repository, ada, "a.yaml", flow("a"))
    async with opened(tmp_path, clock, source) as place:
        assert await _look(place) == ("ready", None, commit)
        commit_now = (await place.app.sources.status("git")).source.commit or {}
        assert commit_now["signer"].startswith("Ada Lovelace (ED25519 key SHA256:")


async def test_what_is_live_is_verified_when_it_is_first_asked_for(
    tmp_path: Path, clock: FakeClock
) -> None:
    """An unsigned commit that was applied before stays, and the status says what a plan says."""
    repository = Repository(tmp_path)
    commit = repository.put("a.yaml", flow("a"))
    source = {"name": "git", "url": repository.url}
    async with opened(tmp_path, clock, source) as place:
        assert await _look(place) == ("ready", None, commit)
    source |= {"verify": "ssh", "signers": str(_signers(tmp_path, ada := _key(tmp_path, "ada")))}
    async with opened(tmp_path, clock, source) as place:
        reconciler = place.reconciler("git")
        for _ in range(2):
            found = (await reconciler.reconcile()).source
            assert (found.phase, found.reason) == ("rejected", "unsigned")
        assert await place.names() == ["a"]
        with pytest.raises(Refused, match="is not signed"):
            await place.app.sources.plan("git")
        _signed(repository, ada, "a.yaml", flow("a", "two"))
        assert (await reconciler.reconcile()).source.phase == "ready"


def _tampered(repository: Repository, key: Path) -> str:
    """A commit whose message was changed after it was signed."""
    _signed(repository, key, "a.yaml", flow("a", "tampered"))
    body = repository.git("cat-file", "commit", "HEAD").replace("Signed", "Edited")
    raw = repository.work / ".raw"
    raw.write_text(body)
    commit = repository.git("hash-object", "-t", "commit", "-w", str(raw)).strip()
    raw.unlink()
    repository.git("reset", "--quiet", "--hard", commit)
    repository.push()
    return commit


async def test_a_signed_tag_vouches_for_its_commit(tmp_path: Path, clock: FakeClock) -> None:
    """Where a tag is followed, the tag's signature counts; one that is only a name does not."""
    repository = Repository(tmp_path)
    ada = _key(tmp_path, "ada")
    repository.put("a.yaml", flow("a"))
    repository.git("tag", "v1.0.0")
    options = ("-c", "gpg.format=ssh", "-c", f"user.signingKey={ada}")
    repository.git(*options, "tag", "-s", "--message", "one", "v1.1.0")
    repository.push("--tags")
    source: dict[str, Any] = {"name": "git", "url": repository.url, "verify": "ssh"}
    source["signers"] = _signers(tmp_path, ada)
    async with opened(tmp_path, clock, source | {"tag": "v1.0.0"}) as place:
        assert (await _look(place))[:2] == ("rejected", "unsigned")
    async with opened(tmp_path, clock, source | {"semver": "1.x"}) as place:
        assert (await _look(place))[0] == "ready"


async def test_a_signed_tag_vouches_for_what_was_applied_by_it(
    tmp_path: Path, clock: FakeClock
) -> None:
    """A rollback may go there, and a plan be of it; a stranger's tag of the same commit is none."""
    repository = Repository(tmp_path)
    ada, eve = _key(tmp_path, "ada"), _key(tmp_path, "eve")
    source = {"name": "git", "url": repository.url, "semver": "1.x", "verify": "ssh"}
    source["signers"] = str(_signers(tmp_path, ada))
    commits = []
    async with opened(tmp_path, clock, source) as place:
        for minor in (1, 2):
            commits.append(repository.put("a.yaml", flow("a", f"minor {minor}")))
            _tagged(repository, ada, f"v1.{minor}.0")
            assert await _look(place) == ("ready", None, commits[-1])
        for name in ("v1.1.0", commits[0]):
            plan = await place.app.sources.plan("git", revision=name)
            assert [(each.kind, each.name) for each in plan.changes] == [("updated", "a")]
        assert await place.app.sources.rollback("git") == commits[0]
        assert await _look(place) == ("held", "rollback", commits[0])
        assert (await place.app.service.get_workflow("a")).description == "minor 1"
        await place.app.sources.resume("git")
        _tagged(repository, eve, "v1.2.1")
        for _ in range(2):
            assert await _look(place) == ("ready", None, commits[1]), "by the tag that is kept"
        repository.put("a.yaml", flow("a", "next"))
        _tagged(repository, ada, "v2.0.0")
        assert (await place.app.sources.plan("git", revision="v2.0.0")).changes
        bare = repository.put("a.yaml", flow("a", "minor 3"))
        _tagged(repository, eve, "v1.3.0")
        assert await _look(place) == ("rejected", "untrusted-signer", commits[1])
        for name in ("v1.3.0", bare):
            with pytest.raises(Refused, match="signed"):
                await place.app.sources.plan("git", revision=name)


def _tagged(repository: Repository, key: Path, name: str) -> None:
    options = ("-c", "gpg.format=ssh", "-c", f"user.signingKey={key}")
    repository.git(*options, "tag", "-s", "--message", name, name)
    repository.push("--tags")


async def test_a_tag_that_was_lost_with_the_mirror_vouches_again(
    tmp_path: Path, clock: FakeClock
) -> None:
    """A rollback asks the repository for it; a stranger's tag, or a bare one, is still none."""
    repository = Repository(tmp_path)
    ada, eve = _key(tmp_path, "ada"), _key(tmp_path, "eve")
    source: dict[str, Any] = {"name": "git", "url": repository.url, "verify": "ssh"}
    source |= {"signers": _signers(tmp_path, ada), "semver": "1.x"}
    async with opened(tmp_path, clock, source) as place:
        commits = []
        for minor in (1, 2):
            commits.append(repository.put("a.yaml", flow("a", f"minor {minor}")))
            _tagged(repository, ada, f"v1.{minor}.0")
            await _look(place)
        repository.git("tag", "bare", commits[0])
        repository.git("switch", "--quiet", "--create", "old", commits[0])
        _tagged(repository, eve, "a-stranger")
        await place.app.sources.rollback("git")
        shutil.rmtree(place.app.homes)
        for _ in range(2):
            assert await _look(place) == ("held", "rollback", commits[0])
        mirror = ("git", "--git-dir", place.app.homes / "git" / "mirror.git")
        assert "plans" not in run(*mirror, "for-each-ref")
        shutil.rmtree(place.app.homes)
        run("git", "tag", "--delete", "v1.1.0", cwd=repository.bare)
        assert await _look(place) == ("rejected", "untrusted-signer", commits[0])
    source |= {"signers": _signers(tmp_path, eve)}
    async with opened(tmp_path, clock, source) as place:
        assert await _look(place) == ("held", "rollback", commits[0])


async def test_a_tag_vouches_for_no_other_commit(tmp_path: Path, clock: FakeClock) -> None:
    """Whatever the mirror's references come to name; what the history forgot is not kept."""
    repository = Repository(tmp_path)
    ada = _key(tmp_path, "ada")
    source: dict[str, Any] = {"name": "git", "url": repository.url, "verify": "ssh"}
    source |= {"signers": _signers(tmp_path, ada), "semver": "1.x"}
    async with opened(tmp_path, clock, source) as place:
        first = repository.put("a.yaml", flow("a", "one"))
        _tagged(repository, ada, "v1.0.0")
        await _look(place)
        other = repository.put("a.yaml", flow("a", "two"))
        repository.git("tag", "v1.1.0")
        repository.push("--tags")
        mirror = ("git", "--git-dir", place.app.homes / "git" / "mirror.git")
        kept = "refs/windlass/signed/"
        run(*mirror, "update-ref", f"{kept}{other}", f"{kept}{first}")
        assert await _look(place) == ("rejected", "unsigned", first)
        repository.git("tag", "--annotate", "--message", "Files", "v1.2.0", "HEAD^{tree}")
        repository.push("--tags")
        assert (await _look(place))[0] == "failed"
        await place.app.sources.rollback("git", first)
        assert await _look(place) == ("held", "rollback", first)
        origin = place.app.origin(place.app.specs["git"])
        origin.applied(first, [first])
        assert run(*mirror, "for-each-ref", f"{kept}{first}")
        origin.applied(first, [other])
        assert not run(*mirror, "for-each-ref", f"{kept}{other}")


async def test_keys_of_gpg_are_those_of_the_file(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key ring of the user's does not count; a key that is taken out of the file is no more."""
    homes = {name: _gpg_home(tmp_path, name) for name in ("ada", "eve")}
    monkeypatch.setenv("GNUPGHOME", str(homes["eve"]))
    repository = Repository(tmp_path)
    signers = tmp_path / "signers.asc"
    signers.write_text(run("gpg", "--homedir", str(homes["ada"]), "--armor", "--export"))

    def signed(name: str, text: str) -> str:
        return _signed_by_gpg(repository, homes[name], text)

    source = {"name": "git", "url": repository.url, "verify": "gpg", "signers": str(signers)}
    async with opened(tmp_path, clock, source) as place:
        good = signed("ada", "one")
        assert await _look(place) == ("ready", None, good)
        signed("eve", "two")
        assert await _look(place) == ("rejected", "untrusted-signer", good)
        signed("ada", "three")
        signers.write_text(run("gpg", "--homedir", str(homes["eve"]), "--armor", "--export"))
        assert await _look(place) == ("rejected", "untrusted-signer", good)
        signers.write_text("not a key\n")
        assert await _look(place) == ("rejected", "no-signers", good)
        signers.unlink()
        assert await _look(place) == ("rejected", "no-signers", good)
    for home in homes.values():
        run("gpgconf", "--homedir", str(home), "--kill", "all")


HELD = """#!/bin/sh
case "$*" in
    *--dearmor*) if mv gate entered 2> /dev/null; then cat entered; fi ;;
esac
exec {gpg} "$@"
"""
"""A gpg that waits, the first time that it reads keys, until somebody writes to the gate."""


async def test_a_plan_does_not_disturb_whoever_looks(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may stop in the midst of reading the keys: what is signed is applied all the same."""
    home, repository, signers = _gpg_home(tmp_path, "ada"), Repository(tmp_path), tmp_path / "keys"
    signers.write_text(run("gpg", "--homedir", str(home), "--armor", "--export"))
    program = tmp_path / "bin" / "gpg"
    program.parent.mkdir()
    program.write_text(HELD.format(gpg=shutil.which("gpg")))
    program.chmod(0o755)
    source = {"name": "git", "url": repository.url, "verify": "gpg", "signers": str(signers)}
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    async with opened(tmp_path, clock, source) as place:
        first = _signed_by_gpg(repository, home, "one")
        reconciler = place.reconciler("git")
        assert (await reconciler.reconcile()).source.revision == first
        os.mkfifo(place.app.homes / "git" / "gate")
        plan = asyncio.ensure_future(place.app.sources.plan("git"))
        entered = place.app.homes / "git" / "entered"
        await eventually(entered.exists, "the plan reads the keys")
        second = _signed_by_gpg(repository, home, "two")
        looked = (await reconciler.reconcile()).source
        entered.write_text("")
        assert (looked.phase, looked.reason, looked.revision) == ("ready", None, second)
        assert (await plan).revision in {first, second}
        assert not list((place.app.homes / "git").glob("gnupg*"))
    run("gpgconf", "--homedir", str(home), "--kill", "all")


@pytest.mark.parametrize("because", ["has expired", "was revoked"])
async def test_a_key_that_is_good_no_more_is_not_called_unknown(
    tmp_path: Path, clock: FakeClock, because: str
) -> None:
    """It is in the file, where somebody would look for it in vain."""
    home, repository = tmp_path / "ada", Repository(tmp_path)
    home.mkdir(mode=0o700)
    long_ago = tmp_path / "gpg"
    long_ago.write_text('#!/bin/sh\nexec gpg --faked-system-time 20260101T000100 "$@"\n')
    long_ago.chmod(0o755)
    gpg = (long_ago, "--homedir", home, "--batch", "--quiet")
    key = ("ada@example.org", "ed25519", "sign")
    lasts = "seconds=3600" if because == "has expired" else "never"
    run(*gpg, "--passphrase", "", "--quick-generate-key", *key, lasts)
    repository.write("a.yaml", flow("a"))
    repository.git("add", "--all")
    options = ("-c", f"gpg.program={long_ago}", "-c", "user.signingKey=ada@example.org")
    repository.git(*options, "commit", "--quiet", "-S", "--message", "x", GNUPGHOME=str(home))
    repository.push()
    if because == "was revoked":
        [revocation] = (home / "openpgp-revocs.d").glob("*.rev")
        run(*gpg, "--import", given=revocation.read_text().replace(":-----", "-----"))
    signers = tmp_path / "signers.asc"
    signers.write_text(run(*gpg, "--armor", "--export"))
    run("gpgconf", "--homedir", home, "--kill", "all")
    source = {"name": "git", "url": repository.url, "verify": "gpg", "signers": str(signers)}
    async with opened(tmp_path, clock, source) as place:
        assert await _look(place) == ("rejected", "untrusted-signer", None)
        said = (await place.app.sources.status("git")).source.message or ""
        assert f"the key {because}" in said
