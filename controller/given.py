"""What is given from outside: values of the settings, and what steps see of the environment.

A value comes from the first that has one: a flag of the command line, a `WINDLASS_*` variable, the
YAML file (`--config`, or `windlass.yaml` in the working directory), the service manager. The file
may have the seed's `config:` section with the seed's own names.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from controller.core.problem import Refused

PREFIX = "WINDLASS_"
FILE = "windlass.yaml"


class Given(NamedTuple):
    """What is given.

    Attributes:
        values: By setting, as they were written.
        origin: Who gave each, in words.
    """

    values: dict[str, Any]
    origin: dict[str, str]


def given(
    names: Iterable[str],
    flags: Mapping[str, Any],
    file: Path | None,
    environ: Mapping[str, str] | None,
) -> Given:
    """Values of settings; raises `Refused` where one is empty, or the file cannot be read.

    A variable that is empty is not given.

    Args:
        names: Settings that are looked for in the environment.
        flags: Values of the command line by setting; None counts as not given.
        file: The YAML file, if there is one.
        environ: The environment; None: this process's.
    """
    environment = os.environ if environ is None else environ
    found = Given({}, {})
    for where, values in _by_all(names, environment, file, flags):
        if ("source" in values) != ("sources" in values):  # the nearer of the two counts
            found.values.pop("sources" if "source" in values else "source", None)
        if empty := [name for name, value in values.items() if _is_empty(value)]:
            message = f"{where}: `{empty[0]}` is empty; leave it out to have its default"
            raise Refused(message, reason="settings")
        found.values.update(values)
        found.origin.update(dict.fromkeys(values, where))
    return found


def _is_empty(value: object) -> bool:
    return isinstance(value, str) and not value


def default_file() -> Path | None:
    """The file that is read if no other is named."""
    return Path(FILE) if Path(FILE).exists() else None


def unknown_variables(
    names: Iterable[str], environ: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Variables with our prefix that are none of the settings → what to do; they are ignored.

    They are no error: a cluster sets some for a service called windlass, and steps are given some.
    """
    import difflib  # ruff: ignore[import-outside-top-level]  # start-up time

    known = [PREFIX + name.upper() for name in names]
    found = {}
    for name in os.environ if environ is None else environ:
        if name.startswith(PREFIX) and name not in known:
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
            found[name] = f"did you mean {close[0]}?" if close else "docs/settings.md lists them"
    return found


def child_environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """What the processes of steps see of the daemon's environment: never its secrets."""
    environment = os.environ if environ is None else environ
    kept = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "USER", "LOGNAME", "TMPDIR")
    found = {name: environment[name] for name in kept if name in environment}
    return {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/", "LANG": "C.UTF-8"} | found


def git_environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """What git and ssh see of the daemon's environment: an agent's socket and proxies besides."""
    environment = os.environ if environ is None else environ
    proxies = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
    kept = ("SSH_AUTH_SOCK", *proxies, *(name.upper() for name in proxies))
    found = {name: environment[name] for name in kept if name in environment}
    return child_environment(environ) | found


def _by_all(
    names: Iterable[str],
    environment: Mapping[str, str],
    file: Path | None,
    flags: Mapping[str, Any],
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Where values come from, each with its values; the later one wins."""
    yield "the service manager", _by_the_system(environment)
    if file is not None:
        yield str(file), _by_the_file(file)
    for name in names:
        value = environment.get(PREFIX + name.upper())
        if value:
            yield f"the variable {PREFIX}{name.upper()}", {name: value}
    for name, value in flags.items():
        if value is not None:
            yield f"--{name.replace('_', '-')}", {name: value}


def _by_the_system(environment: Mapping[str, str]) -> dict[str, str]:
    """What systemd says: `StateDirectory=` and `LoadCredential=`."""
    found: dict[str, str] = {}
    if environment.get("STATE_DIRECTORY"):
        found["state_dir"] = environment["STATE_DIRECTORY"].split(":")[0]
    if environment.get("CREDENTIALS_DIRECTORY"):
        found["secrets_dir"] = environment["CREDENTIALS_DIRECTORY"]
    return found


_SEED_NAMES = {
    "maxConcurrentWorkflows": "max_concurrent_workflows",
    "defaultTimeout": "default_timeout",
    "retryAttempts": "retry_attempts",
    "retryDelay": "retry_delay",
    "checkpointInterval": "checkpoint_interval",
}


def _by_the_file(path: Path) -> dict[str, Any]:
    """The file's settings: at the top, and in the seed's `config:` section."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Refused(f"cannot read {path}: {error.strerror}", reason="settings") from None
    from controller.source.parse import read_data  # ruff: ignore[import-outside-top-level]  # start-up time: few have a file

    data, problems = read_data(str(path), content)
    if problems:
        raise Refused(problems[0].render(), reason="settings")
    if data is None:
        return {}
    if not isinstance(data, dict) or not isinstance(data.get("config") or {}, dict):
        raise Refused(f"{path}: settings are names with values", reason="settings")
    top = {name: value for name, value in data.items() if name != "config"}
    found: dict[str, Any] = {}
    said: dict[str, str] = {}
    for section, values in (("", top), ("config.", data.get("config") or {})):
        for name, value in values.items():
            setting = _SEED_NAMES.get(name, name)
            if setting in said:
                message = f"{path}: `{said[setting]}` and `{section}{name}` are the same setting"
                raise Refused(message, reason="settings", hint="give one of them")
            said[setting] = f"{section}{name}"
            found[setting] = value
    return found
