"""`lint`: what a commit hook and a pipeline run; it needs no database and no controller."""

from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import click

from controller.cli.annotations import from_here, github, gitlab
from controller.cli.ending import DONE, FAILED
from controller.cli.output import print_json
from controller.cli.session import note
from controller.cli.sync import FORMATS

if TYPE_CHECKING:
    from controller.settings import Settings
    from controller.source.diagnostic import Diagnostic


@click.command("lint")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path, exists=True))
@click.option("--root", type=click.Path(path_type=Path), help="Directory; default: the source's.")
@click.option(
    "--format",
    "-f",
    "form",
    type=click.Choice(FORMATS),
    default="text",
    show_default=True,
    help="How to print.",
)
@click.option("--config", type=click.Path(path_type=Path), help="Settings, a YAML file.")
def lint(paths: tuple[Path, ...], root: Path | None, form: str, config: Path | None) -> int:
    """Check definition files against each other; exit status 1 if one is wrong.

    With PATHS, as a commit hook gives them, all files are read and only what is wrong with these,
    or below them, is told.
    """
    from controller.app import lint_directory  # ruff: ignore[import-outside-top-level]  # start-up time
    from controller.settings import load_settings  # ruff: ignore[import-outside-top-level]  # start-up time

    settings = load_settings({}, config)
    directory = root if root is not None else _directory(settings)
    found = lint_directory(directory, settings)
    wanted = _below(directory, paths)
    shown = [each for each in found if not paths or wanted & {*_parents(each.path)}]
    _print(from_here(shown, directory), form)
    return FAILED if any(each.severity == "error" for each in shown) else DONE


def _directory(settings: "Settings") -> Path:
    """The first source's directory; of a repository, the directory one stands in."""
    spec = settings.specs[0]
    return spec.root if spec.url is None else Path(spec.path or ".")


def _below(directory: Path, paths: Sequence[Path]) -> set[PurePath]:
    """Paths as the diagnostics have them; a hook gives others too, which are no definitions."""
    real, wanted, outside = directory.resolve(), set(), []
    for path in paths:
        each = path.resolve()
        if each.is_relative_to(real):
            wanted.add(PurePath(each.relative_to(real)))
        elif real.is_relative_to(each):
            wanted.add(PurePath())
        else:
            outside.append(path)
    if outside:
        more = f" and {len(outside) - 1} more" if len(outside) > 1 else ""
        note(f"not checked: {outside[0]}{more}: not below {directory.as_posix()}")
    return wanted


def _parents(path: str) -> tuple[PurePath, ...]:
    """A path, and the directories it is in."""
    return PurePath(path), *PurePath(path).parents


def _print(found: Sequence["Diagnostic"], form: str) -> None:
    match form:
        case "json":
            print_json([each.as_json() for each in found])
        case "github":
            for line in github(found):
                click.echo(line)
        case "gitlab":
            print_json(gitlab(found))
        case _:
            for each in found:
                note(each.render())
