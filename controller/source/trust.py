"""Who signed a commit: only what one of the allowed signers signed is applied.

The tip of what is followed is what must be signed, for its tree is what is applied; or, where a tag
is followed, the tag. Keys come from the `signers` file and from nowhere else: no key ring and no
trust of the user's counts.
"""

import re
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from controller.core.problem import Refused
from controller.source.git import Git, GitError
from controller.source.spec import SourceSpec

_SSH = re.compile(r'Good "git" signature for (.+) with (\S+ key \S+)')
_GPG = re.compile(r"^\[GNUPG:\] GOODSIG (\S+) (.*)$", re.MULTILINE)
_BAD = re.compile(
    r"\[GNUPG:\] BADSIG|incorrect signature|signature verification failed", re.IGNORECASE
)
_BY = re.compile(r"with (\S+ key \S+)|\[GNUPG:\] (?:NO_PUBKEY|ERRSIG) (\S+)")
_WORN = re.compile(r"\[GNUPG:\] (EXPKEYSIG|EXPSIG|REVKEYSIG) (\S+)")
_IS = {
    "EXPKEYSIG": "the key has expired",
    "EXPSIG": "the signature has expired",
    "REVKEYSIG": "the key was revoked",
}
_ARMOR = b"-----BEGIN PGP"
_PACKET = 0x80
"""The bit that every OpenPGP packet begins with (RFC 9580, 4.2)."""


class Signature(NamedTuple):
    """What vouches for a commit.

    Attributes:
        signer: Who.
        tag: The tag object that is signed; None: the commit is.
    """

    signer: str
    tag: str | None


class Trust:
    """Verifies signatures for one source.

    Args:
        spec: A source with `verify` and `signers`.
        home: Where a key ring of `gpg` is made for each check, which nobody else has: a plan may be
            made while the controller looks.
    """

    def __init__(self, spec: SourceSpec, home: Path, git: Git) -> None:
        self._spec = spec
        self._home = home
        self._git = git

    def check(self, revision: str, tags: Sequence[str] = ()) -> Signature:
        """Who signed the commit, or a tag of it; `Refused` says why nobody who may."""
        signers = self._signers()
        with self._ring(signers) as ring:
            return self._checked(revision, tags, signers, ring)

    def _checked(
        self, revision: str, tags: Sequence[str], signers: Path, ring: Path | None
    ) -> Signature:
        options = ("-c", f"gpg.ssh.allowedSignersFile={signers.absolute()}")
        refusals: list[Refused] = []
        for tag in (*tags, None):
            command = ("verify-commit", "--raw", revision)
            if tag is not None:
                command = ("verify-tag", "--raw", tag)
            try:
                return Signature(self._verified((*options, *command), revision, ring), tag)
            except Refused as error:
                refusals.append(error)
        raise refusals[0]

    def _verified(self, arguments: Sequence[str], revision: str, ring: Path | None) -> str:
        status, out, err = self._git.ask(arguments, ring=ring)
        said = (out + err).decode("utf-8", "replace")
        signer = _signer(said, self._spec.verify)
        if status == 0 and signer is not None:
            return signer
        raise _refusal(said, revision)

    def _signers(self) -> Path:
        signers = self._spec.signers
        assert signers is not None  # ruff: ignore[assert]  # `verify` needs it
        if not signers.is_file():
            message = f"there is no file of signers {signers}"
            raise Refused(message, reason="no-signers", hint="nothing is applied without it")
        return signers

    @contextmanager
    def _ring(self, keys: Path) -> Generator[Path | None]:
        """A key ring of these keys only, inside the block; None where none is needed."""
        if self._spec.verify != "gpg":
            yield None
            return
        self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
        with TemporaryDirectory(
            prefix="gnupg-", dir=self._home, ignore_cleanup_errors=True
        ) as made:
            ring = Path(made)
            (ring / "pubring.gpg").write_bytes(self._packets(keys, ring))
            yield ring

    def _packets(self, keys: Path, ring: Path) -> bytes:
        """The keys as a ring has them: in a row, without armor."""
        content = keys.read_bytes()
        try:
            if content.startswith(_ARMOR) or not content:
                content = self._git.gpg("--dearmor", given=content, ring=ring)
        except GitError:
            content = b""
        if not content or not content[0] & _PACKET:
            message = f"{keys} holds no public keys"
            hint = "export them with `gpg --armor --export`"
            raise Refused(message, reason="no-signers", hint=hint)
        return content


def _signer(said: str, verify: str | None) -> str | None:
    """Who made a good signature of the kind that is asked for."""
    if verify == "ssh" and (found := _SSH.search(said)):
        return f"{found[1]} ({found[2]})"
    if verify == "gpg" and (found := _GPG.search(said)):
        return f"{found[2]} ({found[1]})"
    return None


def _refusal(said: str, revision: str) -> Refused:
    short = revision[:12]
    hint = "it is not applied; sign it (`git commit -S`), or add the key to `signers`"
    if not said.strip() or "no signature found" in said:
        return Refused(f"commit {short} is not signed", reason="unsigned", hint=hint)
    if _BAD.search(said) and "No principal matched" not in said:
        message = f"the signature of commit {short} does not belong to its content"
        return Refused(message, reason="bad-signature", hint="it is not applied")
    if worn := _WORN.search(said):
        message = f"commit {short} is signed with {worn[2]}: {_IS[worn[1]]}"
        return Refused(message, reason="untrusted-signer", hint="it is not applied")
    by = _BY.search(said)
    key = next((each for each in by.groups() if each), "a key") if by else "a key"
    message = f"commit {short} is signed with {key}, which is not an allowed signer's"
    return Refused(message, reason="untrusted-signer", hint=hint)
