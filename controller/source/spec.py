"""Where definitions come from, as the settings say it: a directory, or a Git repository."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from controller.core.duration import Duration
from controller.core.semver import range_of

_SCP = re.compile(r"(?:[\w.-]+@)?[\w.-]+:(?!//)[^\s]+")
_SCHEMES = ("https", "ssh", "file")
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_REF = re.compile(r"(?!/|-)(?!.*(?:\.\.|//|@\{|/$|\.lock$|\.$))[^\x00-\x20~^:?*\[\\\x7f]+")

NAME = "definitions"
"""The id of the source that `--source` and `WINDLASS_SOURCE` name."""


def _below(path: str) -> str:
    clean = path.strip("/")
    if any(part in {"", ".", ".."} for part in clean.split("/")) and clean:
        raise ValueError("write it as a path below the root, such as `team/workflows`")
    return clean


def _url(text: str) -> str:
    parts = urlsplit(text)
    if not _SCP.fullmatch(text) and parts.scheme not in _SCHEMES:
        raise ValueError("a repository's URL begins with https://, ssh:// or file://")
    if parts.password is not None or (parts.scheme == "https" and parts.username is not None):
        raise ValueError("leave the credentials out; `username` and `token_file` give them")
    return text


def _reference(text: str) -> str:
    if not _REF.fullmatch(text):
        raise ValueError("Git takes no such name")
    return text


def _commit(text: str) -> str:
    if not _COMMIT.fullmatch(text):
        raise ValueError("write the whole commit id, 40 hexadecimal digits")
    return text


def _range(text: str) -> str:
    if range_of(text) is None:
        raise ValueError("write a range of versions, such as `^1.2` or `>=1.2 <2`")
    return text


def no_boolean(value: object) -> object:
    """A number's; `true` would be 1."""
    if isinstance(value, bool):
        raise ValueError("true and false are no value of this")  # ruff: ignore[type-check-without-type-error]  # pydantic takes no other
    return value


def _named(value: object) -> object:
    if isinstance(value, str) and not value:
        raise ValueError("must not be empty")
    return value


Named = Annotated[Path, BeforeValidator(_named)]
"""A path; an empty one would be the working directory."""


class Report(BaseModel):
    """Where the result of a reconcile is told, as the status of the commit.

    Attributes:
        api: Of the forge, such as `https://api.github.com`.
        repository: `owner/name`, or the project's path.
        token_file: With the token; read each time it is used.
        context: What the status is called there.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    forge: Literal["github", "gitlab", "gitea"]
    api: str = Field(pattern=r"^https?://")
    repository: str = Field(pattern=r"^[^/\s]+(/[^/\s]+)+$")
    token_file: Named
    context: str = "windlass"


class SourceSpec(BaseModel):
    """One source: either `directory` or `url` is given. docs/gitops.md has the fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(
        NAME,
        pattern=r"^[a-z0-9]([a-z0-9._-]*[a-z0-9])?$",
        max_length=63,
        description="Identity: what it applied belongs to it for as long as it has this name.",
    )
    directory: Named | None = Field(None, description="A directory of files.")
    url: Annotated[str, AfterValidator(_url)] | None = Field(
        None, description="A Git repository: https, ssh or file."
    )
    branch: Annotated[str, AfterValidator(_reference)] | None = Field(
        None, description="What is followed; without any of these four, the default branch."
    )
    tag: Annotated[str, AfterValidator(_reference)] | None = Field(
        None, description="Instead of a branch, one tag."
    )
    semver: Annotated[str, AfterValidator(_range)] | None = Field(
        None, description="Instead of a branch, the newest tag in a range, such as `^1.2`."
    )
    commit: Annotated[str, AfterValidator(_commit)] | None = Field(
        None, description="Instead of a branch, one commit."
    )
    path: Annotated[str, AfterValidator(_below)] = Field("", description="Below the root.")
    interval: Duration | None = Field(
        None, ge=1_000, description="Time between looks without a hint; default `resync_interval`."
    )
    timeout: Duration = Field(60_000, ge=1_000, description="Bound of one fetch.")
    prune: bool = Field(default=True, description="Whether a workflow goes when its file goes.")
    prune_limit: Annotated[int, BeforeValidator(no_boolean)] = Field(
        50,
        ge=0,
        le=100,
        description="Percent of its workflows that may go at once; more waits for a person.",
    )
    on_invalid: Literal["keep_last_good", "reject_revision"] = Field(
        "keep_last_good",
        description="What a file with a problem holds back: itself, or the whole revision.",
    )
    watch: Literal["auto", "events", "poll"] = Field(
        "auto", description="Of a directory: file events where its file system has them, or polls."
    )
    verify: Literal["ssh", "gpg"] | None = Field(
        None, description="The commit, or the tag that is followed, must be signed."
    )
    signers: Named | None = Field(
        None, description="By whom: an allowed-signers file (ssh), or a file of public keys (gpg)."
    )
    username: str | None = Field(None, description="For https; `git` when not given.")
    token_file: Named | None = Field(None, description="A file with the password or token.")
    credential_command: str | None = Field(
        None, description="A shell command that prints the password or token."
    )
    ssh_key_file: Named | None = Field(None, description="The private key for ssh.")
    known_hosts_file: Named | None = Field(
        None, description="The servers' keys; others are refused. Default: the user's file."
    )
    ca_file: Named | None = Field(None, description="The authority that vouches for https.")
    webhook_secret: str | None = Field(
        None, description="Name of the secret that pushes are signed with."
    )
    report: Report | None = Field(
        None,
        description="Where results are told as commit statuses: `forge` (`github`, `gitlab`,"
        " `gitea`), `api`, `repository`, `token_file`, `context`.",
    )

    @field_validator("name")
    @classmethod
    def _free(cls, name: str) -> str:
        if name == "api":
            raise ValueError("`api` owns what people create")
        return name

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.directory is None) == (self.url is None):
            raise ValueError("a source has either `directory` or `url`")
        if len([each for each in self._references if each is not None]) > 1:
            raise ValueError("give one of `branch`, `tag`, `semver` and `commit`")
        if (self.verify is None) != (self.signers is None):
            raise ValueError("`verify` and `signers` need each other")
        if self.token_file is not None and self.credential_command is not None:
            raise ValueError("give one of `token_file` and `credential_command`")
        for name in _OF_GIT if self.url is None else ():
            if getattr(self, name) is not None:
                raise ValueError(f"`{name}` is for a source with `url`")
        return self

    @property
    def _references(self) -> tuple[str | None, ...]:
        return self.branch, self.tag, self.semver, self.commit

    @property
    def type(self) -> Literal["git", "directory"]:
        """What kind it is, for status and metrics."""
        return "directory" if self.url is None else "git"

    @property
    def location(self) -> str:
        """Where it is, as people write it: `URL#reference:path`, or the directory."""
        if self.url is None:
            return str(self.root.resolve())
        follows = next((each for each in self._references if each is not None), "")
        below = f":{self.path}" if self.path else ""
        return f"{self.url}#{follows}{below}" if follows or below else self.url

    @property
    def root(self) -> Path:
        """The directory that is looked at."""
        assert self.directory is not None  # ruff: ignore[assert]  # only for one with a directory
        return self.directory / self.path


_OF_GIT = (
    "branch", "tag", "semver", "commit", "verify", "username", "token_file",
    "credential_command", "ssh_key_file", "known_hosts_file", "ca_file", "report",
)  # fmt: skip


def spec_of(text: str) -> Mapping[str, Any]:
    """The fields that `--source` gives: a directory, or `URL#branch:path` (as Docker writes it)."""
    if urlsplit(text).scheme not in {*_SCHEMES, "http", "git"} and not _is_scp(text):
        return {"directory": text}
    url, _, rest = text.partition("#")
    branch, _, path = rest.partition(":")
    return {"url": url, "branch": branch or None, "path": path}


def _is_scp(text: str) -> bool:
    """`git@host:team/repository`: an ssh URL, unless there is such a directory."""
    return "@" in text.partition(":")[0] and _SCP.fullmatch(text.partition("#")[0]) is not None
