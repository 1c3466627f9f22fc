"""`schema`, `version`."""

import click

from controller import __version__


@click.command("schema")
def schema() -> None:
    """Print the JSON Schema of definitions, for editors."""
    from controller.cli.output import print_json  # ruff: ignore[import-outside-top-level]  # start-up time
    from controller.core.schema import definition_schema  # ruff: ignore[import-outside-top-level]  # start-up time

    print_json(definition_schema())


@click.command("version")
def version() -> None:
    """Print the version."""
    click.echo(f"windlass {__version__}")
