"""`windlass run`: the daemon."""

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from controller.cli.session import base_options, note, settings_of
from controller.interpreter import loading, thawed

if TYPE_CHECKING:
    from controller.reconcile import Crew
    from controller.settings import Settings


@click.command("run")
@click.option("--source", help="The definitions: a directory, or URL#branch:path.")
@click.option("--http-address", help="Where to serve, as host:port.")
@base_options
def run(**flags: str | Path | None) -> None:
    """Watch the definitions, fire schedules and execute, until SIGTERM or Ctrl-C."""
    with thawed(), ExitStack() as starting:  # which ends when all is ready, or before
        starting.enter_context(loading())  # modules are many objects too, and they stay
        _run(flags, starting)


def _run(flags: "dict[str, str | Path | None]", starting: ExitStack) -> None:
    """Be the controller; `starting` is closed when it is ready."""
    from controller.app import crew_of_this_machine, run_main  # ruff: ignore[import-outside-top-level]  # start-up time
    from controller.given import unknown_variables  # ruff: ignore[import-outside-top-level]  # start-up time
    from controller.logs import configure_logs, get_log, load_log  # ruff: ignore[import-outside-top-level]  # start-up time

    settings = settings_of(flags)
    configure_logs(settings.log_level, settings.log_format)
    load_log()
    for name, hint in unknown_variables(type(settings).model_fields).items():
        get_log("windlass.settings").warning(
            "a variable that is no setting is ignored", variable=name, hint=hint
        )
    with crew_of_this_machine() as crew:  # forked while there is one thread
        run_main(_serve(settings, crew, starting))


async def _serve(settings: "Settings", crew: "Crew", starting: ExitStack) -> None:
    from controller.app import open_app  # ruff: ignore[import-outside-top-level]  # start-up time
    from controller.daemon import serve  # ruff: ignore[import-outside-top-level]  # start-up time

    def ready(address: str) -> None:
        starting.close()
        if sys.stderr.isatty():
            note(f"listening on http://{address}, watching {settings.source}; Ctrl-C stops")

    async with open_app(settings, crew) as app:
        await serve(app, ready)
