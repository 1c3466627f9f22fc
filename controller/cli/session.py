"""One command's session: its settings, its open app, and the one place where errors become exits.

Exit status: 0 done, 1 the execution or the check failed, 2 wrong use, 3 not found, 4 refused,
5 unavailable, 70 a bug of ours.
"""

import asyncio
import functools
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from controller.app import App
    from controller.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])

FAILED = 1
NOT_FOUND = 3
REFUSED = 4
UNAVAILABLE = 5
BUG = 70

COMMON = (
    click.option("--config", type=click.Path(path_type=Path), help="Settings, a YAML file."),
    click.option("--state-dir", type=click.Path(path_type=Path), help="Where everything is kept."),
    click.option("--database-url", help="Database, if not SQLite in the state directory."),
)
"""Options every command that opens the database has."""

as_format = click.option(
    "--format",
    "-f",
    "form",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="How to print.",
)


def common(command: F) -> F:
    """Give a command the options in `COMMON`; they reach it as keyword arguments."""
    for option in reversed(COMMON):
        command = option(command)
    return command


def settings_of(flags: dict[str, Any]) -> "Settings":
    """The settings, with the command line's flags first."""
    from controller.settings import load_settings  # noqa: PLC0415  # start-up time

    config = flags.pop("config", None)
    return load_settings(flags, config)


def with_app(body: Callable[..., Awaitable[int | None]]) -> Callable[..., int]:
    """A command whose body is a coroutine over the open app; see `COMMON` for its options."""

    @common
    @functools.wraps(body)
    def command(**arguments: Any) -> int:  # noqa: ANN401  # click's own
        flags = {name: arguments.pop(name) for name in ("config", "state_dir", "database_url")}
        return guarded(lambda: asyncio.run(_opened(flags, body, arguments)))

    return command


async def _opened(
    flags: dict[str, Any], body: Callable[..., Awaitable[int | None]], arguments: dict[str, Any]
) -> int:
    from controller.app import open_app  # noqa: PLC0415  # start-up time
    from controller.observe.logs import configure_logs  # noqa: PLC0415  # start-up time

    settings = settings_of(flags)
    configure_logs("warning", "console")
    async with open_app(settings) as app:
        return await body(app, **arguments) or 0


def guarded(work: Callable[[], int]) -> int:
    """Run a command's work; whatever it raises becomes one message and an exit status."""
    from controller.core.problem import NotFound, Refused, Unavailable  # noqa: PLC0415  # start-up time

    try:
        return work()
    except click.ClickException:
        raise
    except NotFound as error:
        return complain(str(error), error.hint, NOT_FOUND)
    except Refused as error:
        invalid = {"invalid-definition", "invalid-inputs"}
        return complain(str(error), error.hint, FAILED if error.reason in invalid else REFUSED)
    except Unavailable as error:
        return complain(str(error), "try again when it is back", UNAVAILABLE)
    except BrokenPipeError:
        raise
    except Exception as error:  # noqa: BLE001  # no traceback reaches a user
        if os.environ.get("WINDLASS_DEBUG"):  # noqa: TID251  # for us, not a setting
            raise
        message = f"internal error: {type(error).__name__}: {error}"
        return complain(message, "set WINDLASS_DEBUG=1 to see where, and report it", BUG)


def complain(message: str, hint: str | None, status: int) -> int:
    """Say what is wrong on stderr; the status."""
    click.echo(f"windlass: {message}", err=True)
    if hint:
        click.echo(f"hint: {hint}", err=True)
    return status


def note(message: str) -> None:
    """Say something beside the result, on stderr."""
    click.echo(message, err=True)


def params(text: str | None) -> dict[str, Any]:
    """`--params`: a JSON object, `@FILE`, or `-` for stdin."""
    from pydantic_core import from_json  # noqa: PLC0415  # start-up time

    if text is None:
        return {}
    if text == "-":
        text = sys.stdin.read()
    elif text.startswith("@"):
        try:
            text = Path(text[1:]).read_text()
        except OSError as error:
            raise click.BadParameter(f"cannot read {text[1:]}: {error.strerror}") from None
    try:
        found = from_json(text, allow_inf_nan=False)
    except ValueError as error:
        raise click.BadParameter(f"not JSON: {error}", param_hint="'--params' / '-p'") from None
    if not isinstance(found, dict):
        raise click.BadParameter("must be a JSON object", param_hint="'--params' / '-p'")
    return found
