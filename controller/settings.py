"""Every knob: its default, its bounds, its name in the environment.

Who may give a value is in `given.py`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import from_json

from controller.core.duration import Duration
from controller.core.policy import Policy
from controller.core.problem import Refused
from controller.given import default_file, given
from controller.location import STATE_DIR, Location, database_url
from controller.source.limits import Limits
from controller.source.spec import SourceSpec, no_boolean, spec_of

LAST_PORT = 65_535


def _address(text: str) -> str:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not (port.isascii() and port.isdigit()):
        raise ValueError("write it as host:port, such as 127.0.0.1:8228")
    if int(port) > LAST_PORT:
        raise ValueError(f"a port is at most {LAST_PORT}")
    return text


def _listed(value: object) -> object:
    """A list in a variable of the environment is JSON."""
    try:
        found = from_json(value) if isinstance(value, str) else value
    except ValueError as error:
        raise ValueError(f"write it as a JSON list: {error}") from None
    if not isinstance(found, list | tuple):
        raise ValueError("must be a list of sources")  # ruff: ignore[type-check-without-type-error]  # pydantic takes no other
    return found


class Settings(BaseModel):
    """What the daemon and the commands go by; immutable once read."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, validate_default=True
    )

    source: str = Field(
        "definitions",
        description="Where the definitions are: a directory, or a repository as `URL#branch:path`.",
    )
    sources: Annotated[tuple[SourceSpec, ...], BeforeValidator(_listed)] = Field(
        (), description="Several sources, or one with more to say; docs/gitops.md has the fields."
    )
    state_dir: Path = Field(
        STATE_DIR,
        description="Directory of everything the daemon keeps; `$STATE_DIRECTORY` under systemd.",
    )
    scratch_dir: Path | None = Field(
        None,
        description="Directory of the steps' working directories; in the state directory when not"
        " given.",
    )
    database_url: str | None = Field(
        None, description="Database; SQLite in the state directory when not given."
    )
    http_address: Annotated[str, AfterValidator(_address)] = Field(
        "127.0.0.1:8228",
        description="Where `/metrics`, `/healthz` and `/readyz` are served; port 0: one that is"
        " free, which the log says.",
    )
    max_concurrent_workflows: int = Field(
        50,
        ge=1,
        le=10_000,
        validation_alias=AliasChoices("max_concurrent_workflows", "maxConcurrentWorkflows"),
        description="Executions that may be busy at once.",
    )
    max_processes: int = Field(
        64, ge=1, le=10_000, description="Steps that may be performed at once, over all executions."
    )
    default_timeout: Duration = Field(
        3_600_000,
        gt=0,
        validation_alias=AliasChoices("default_timeout", "defaultTimeout"),
        description="Time an execution may take when its workflow has no `timeout`.",
    )
    retry_attempts: int = Field(
        3,
        ge=1,
        le=1_000,
        validation_alias=AliasChoices("retry_attempts", "retryAttempts"),
        description="Tries of a step with `on_error: retry` and no `retry.attempts`.",
    )
    retry_delay: Duration = Field(
        5_000,
        ge=0,
        validation_alias=AliasChoices("retry_delay", "retryDelay"),
        description="Delay before the second try where `retry.delay` is not given.",
    )
    checkpoint_interval: Duration = Field(
        30_000,
        ge=1_000,
        validation_alias=AliasChoices("checkpoint_interval", "checkpointInterval"),
        description="How often a running execution's owner renews its lease.",
    )
    max_gotos: int = Field(
        100, ge=1, le=100_000, description="How often one step may go back with `goto`."
    )
    max_subflow_depth: int = Field(10, ge=1, le=100, description="How deep subflows may nest.")
    resync_interval: Duration = Field(
        30_000, ge=1_000, description="How often the source is looked at without a file event."
    )
    stop_grace: Duration = Field(
        20_000, ge=0, description="Time running steps get at a graceful stop."
    )
    kill_grace: Duration = Field(
        5_000, ge=0, description="Time a step's process gets between SIGTERM and SIGKILL."
    )
    sandbox: Literal["required", "preferred", "off"] = Field(
        "preferred", description="What to do with `sandbox:` where bubblewrap is not available."
    )
    secrets_dir: Path | None = Field(
        None,
        description="Directory with one file a secret; `$CREDENTIALS_DIRECTORY` under systemd.",
    )
    retention_days: int | None = Field(
        30, ge=1, description="Days finished executions are kept where a workflow says nothing."
    )
    retention_keep_last: int | None = Field(
        None, ge=1, description="Finished executions kept for each workflow that says nothing."
    )
    retention_interval: Duration = Field(
        600_000, ge=1_000, description="How often what is not kept any longer is looked for."
    )
    retention_log_days: int | None = Field(
        None, ge=1, description="Days log lines are kept, if not as long as their execution."
    )
    retention_audit_days: int | None = Field(
        365, ge=1, description="Days entries of the audit log are kept."
    )
    retention_unused_days: int | None = Field(
        30,
        ge=1,
        description="Days after which versions nothing points to go, and schedules that are over.",
    )
    max_file_bytes: int = Field(1_048_576, ge=1_024, description="Size of a definition file.")
    max_nodes: int = Field(
        50_000, ge=100, description="Values in a definition file, after aliases are expanded."
    )
    max_nesting: int = Field(50, ge=5, le=200, description="Depth of a definition file.")
    max_text: int = Field(
        262_144, ge=256, description="Length of one text in a definition, in characters."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The daemon's own log."
    )
    log_format: Literal["auto", "console", "json"] = Field(
        "auto", description="`auto`: console on a terminal, JSON lines otherwise."
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_boolean(cls, value: object) -> object:
        return no_boolean(value)

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.sources and "source" in self.model_fields_set:
            raise ValueError("give either `source` or `sources`")
        names = [each.name for each in self.sources]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"two sources are called {twice!r}")
        return self

    @property
    def specs(self) -> tuple[SourceSpec, ...]:
        """Every source, that of `source` among them."""
        return self.sources or (SourceSpec.model_validate(spec_of(self.source)),)

    @property
    def url(self) -> str:
        """The database's URL."""
        return self.database_url or database_url(self.state_dir)

    @property
    def location(self) -> Location:
        """Where everything is kept."""
        return Location(self.state_dir, self.url)

    @property
    def policy(self) -> Policy:
        """What new executions are pinned to."""
        return Policy(
            retry_attempts=self.retry_attempts,
            retry_delay=self.retry_delay,
            timeout=self.default_timeout,
            max_gotos=self.max_gotos,
            max_depth=self.max_subflow_depth,
        )

    @property
    def limits(self) -> Limits:
        """Bounds of a definition file."""
        return Limits(
            file_bytes=self.max_file_bytes,
            nodes=self.max_nodes,
            depth=self.max_nesting,
            text=self.max_text,
        )


def load_settings(
    flags: Mapping[str, Any] | None = None,
    config: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """Read the settings; raises `Refused` with one message that names the value and its source.

    Args:
        flags: Values of the command line by setting; None counts as not given.
        config: The YAML file; None: `windlass.yaml` in the working directory, if there is one.
        environ: The environment; None: this process's.
    """
    values, origin = given(Settings.model_fields, flags or {}, config or default_file(), environ)
    try:
        settings = Settings(**values)
        settings.specs  # ruff: ignore[useless-expression]  # so that a bad URL is refused here
    except ValidationError as error:
        raise _refusal(error, origin) from None
    return settings


def _refusal(error: ValidationError, origin: Mapping[str, str]) -> Refused:
    first = error.errors()[0]
    loc = ("source", *first["loc"]) if error.title == SourceSpec.__name__ else first["loc"]
    place = ".".join(map(str, loc)) or "sources"
    where = origin.get(place.partition(".")[0], "the settings")
    if first["type"] == "extra_forbidden":
        return Refused(
            f"{where}: there is no setting `{place}`",
            reason="settings",
            hint="docs/settings.md lists all of them",
        )
    message = first["msg"].removeprefix("Value error, ")
    plain = isinstance(first["input"], (str, int, float)) and not place.endswith("url")
    got = f" (got {first['input']!r})" if plain else ""  # a URL may have a password in it
    return Refused(f"{where}: `{place}`: {message}{got}", reason="settings")
