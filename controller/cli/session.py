"""One command's session: its options, its settings, its open app."""

import functools
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from controller.cli.ending import DONE

if TYPE_CHECKING:
    from controller.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])

Body = Callable[..., Awaitable[int | None]]
"""A command over an open app; it returns the exit status, None: 0."""

BASE = (
    click.option("--config", type=click.Path(path_type=Path), help="Settings, a YAML file."),
    click.option("--state-dir", type=click.Path(path_type=Path), help="Where everything is kept."),
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

    given = {name: value for name, value in flags.items() if name != "config"}
    return load_settings(given, flags.get("config"))


def with_app(body: Body) -> Callable[..., int]:
    """A command whose body is a coroutine over the open app; see `BASE` for its options."""

    @base_options
    @functools.wraps(body)
    def command(
        config: Path | None, state_dir: Path | None, database_url: str | None, **arguments: object
    ) -> int:
        import asyncio  # ruff: ignore[import-outside-top-level]  # start-up time

        flags = {"config": config, "state_dir": state_dir, "database_url": database_url}
        return asyncio.run(_opened(settings_of(flags), body, arguments))

    return command


async def _opened(settings: "Settings", body: Body, arguments: dict[str, Any]) -> int:
    from controller.app import open_app  # ruff: ignore[import-outside-top-level]  # start-up time
    from controller.logs import configure_logs  # ruff: ignore[import-outside-top-level]  # start-up time

    configure_logs("warning", "console")
    async with open_app(settings) as app:
        return await body(app, **arguments) or DONE


def note(message: str) -> None:
    """Say something beside the result, on stderr."""
    click.echo(message, err=True)
