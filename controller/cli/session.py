"""One command's session: its options, its settings, its open app."""

import functools
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from controller.cli.ending import DONE

if TYPE_CHECKING:
    from controller.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])

Body = Callable[..., Awaitable[int | None]]
"""A command over an open app, or a lookup; it returns the exit status, None: 0."""

Opening = Callable[[dict[str, Any]], AbstractAsyncContextManager[Any]]
"""Of the flags in `BASE`, what a command is over."""

BASE = (
    click.option("--config", type=click.Path(path_type=Path), help="Settings, a YAML file."),
    click.option("--state-dir", type=click.Path(), help="Where everything is kept."),
    click.option("--database-url", help="Database, if not SQLite in the state directory."),
)
"""Options of every command that opens the database."""


def base_options(command: F) -> F:
    """Give a command the options in `BASE`; they reach it as keyword arguments."""
    for option in reversed(BASE):
        command = option(command)
    return command


def format_option(*flags: str) -> Callable[[F], F]:
    """`--format`, under these flags, as the keyword argument `form`."""
    return click.option(
        *flags,
        "form",
        type=click.Choice(["table", "json"]),
        default="table",
        show_default=True,
        help="How to print.",
    )


def settings_of(flags: dict[str, Any]) -> "Settings":
    """The settings, with the command line's flags first."""
    from controller.settings import load_settings  # ruff: ignore[import-outside-top-level]  # start-up time

    return load_settings(_without_file(flags), flags.get("config"))


def _without_file(flags: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in flags.items() if name != "config"}


def with_app(body: Body) -> Callable[..., int]:
    """A command whose body is a coroutine over the open app; see `BASE` for its options."""
    return _with(_app, body)


def with_lookup(body: Body) -> Callable[..., int]:
    """A command whose body is a coroutine that only looks up: it is sooner ready for that."""
    return _with(_lookup, body)


def _with(opening: Opening, body: Body) -> Callable[..., int]:
    @base_options
    @functools.wraps(body)
    def command(
        config: Path | None, state_dir: str | None, database_url: str | None, **arguments: object
    ) -> int:
        import asyncio  # ruff: ignore[import-outside-top-level]  # start-up time

        flags = {"config": config, "state_dir": state_dir, "database_url": database_url}
        return asyncio.run(_run(opening(flags), body, arguments))

    return command


def _app(flags: dict[str, Any]) -> AbstractAsyncContextManager[Any]:
    settings = settings_of(flags)
    from controller.app import open_app  # ruff: ignore[import-outside-top-level]  # start-up time

    return open_app(settings)


def _lookup(flags: dict[str, Any]) -> AbstractAsyncContextManager[Any]:
    from controller.given import default_file  # ruff: ignore[import-outside-top-level]  # start-up time
    from controller.location import location_of  # ruff: ignore[import-outside-top-level]  # start-up time
    from controller.lookup import open_lookup  # ruff: ignore[import-outside-top-level]  # start-up time

    if flags["config"] is None and default_file() is None:
        return open_lookup(location_of(_without_file(flags)))
    return open_lookup(settings_of(flags).location)  # a file has to be right as a whole


async def _run(
    opening: AbstractAsyncContextManager[Any], body: Body, arguments: dict[str, Any]
) -> int:
    from controller.logs import configure_logs  # ruff: ignore[import-outside-top-level]  # start-up time

    configure_logs("warning", "console")
    async with opening as opened:
        return await body(opened, **arguments) or DONE


def note(message: str) -> None:
    """Say something beside the result, on stderr, if anybody reads it."""
    with suppress(OSError):
        click.echo(message, err=True)
