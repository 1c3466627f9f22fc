"""Every command by name, and the group that imports them one by one."""

import importlib
from collections.abc import Mapping

import click

from controller import __version__

COMMANDS: Mapping[str, tuple[str, str]] = {
    "run": ("controller.cli.daemon:run", "Be the controller: watch, schedule, execute, serve."),
    "workflows:list": ("controller.cli.workflows:list_workflows", "List workflows."),
    "workflows:create": ("controller.cli.workflows:create", "Create a workflow from a file."),
    "workflows:delete": ("controller.cli.workflows:delete", "Archive a workflow of no source."),
    "workflows:validate": ("controller.cli.workflows:validate", "Check a file or a directory."),
    "workflows:export": ("controller.cli.workflows:export", "Print a workflow as YAML."),
    "workflows:execute": ("controller.cli.executions:execute", "Execute a workflow; wait for it."),
    "workflows:status": ("controller.cli.looking:status", "Show an execution and its steps."),
    "workflows:history": ("controller.cli.looking:history", "List executions, newest first."),
    "workflows:cancel": ("controller.cli.executions:cancel", "Cancel an execution."),
    "workflows:pause": ("controller.cli.executions:pause", "Start no new step of an execution."),
    "workflows:resume": ("controller.cli.executions:resume", "Go on with a paused execution."),
    "workflows:retry": ("controller.cli.executions:retry", "Try an execution that ended again."),
    "workflows:signal": ("controller.cli.executions:signal", "Send a waiting step its signal."),
    "workflows:schedule": ("controller.cli.schedules:schedule", "Schedule a workflow."),
    "logs": ("controller.cli.looking:logs", "Show the log of an execution."),
    "schedule:list": ("controller.cli.schedules:list_schedules", "List schedules."),
    "schedule:next": ("controller.cli.schedules:upcoming", "Show when schedules fire next."),
    "schedule:backfill": ("controller.cli.schedules:backfill", "Make up due times of a range."),
    "schedule:pause": ("controller.cli.schedules:pause", "Let a schedule fire no more for now."),
    "schedule:resume": ("controller.cli.schedules:resume", "Let a paused schedule fire again."),
    "schedule:cancel": ("controller.cli.schedules:cancel", "Stop a schedule."),
    "sync:status": ("controller.cli.sync:status", "Show sources and what is wrong with files."),
    "sync:history": ("controller.cli.sync:history", "List the revisions that were applied."),
    "sync:plan": ("controller.cli.sync:plan", "Show what a directory or a commit would change."),
    "sync:now": ("controller.cli.sources:now", "Look at a source at once."),
    "sync:suspend": ("controller.cli.sources:suspend", "Apply nothing of a source for a while."),
    "sync:resume": ("controller.cli.sources:resume", "Follow a source again."),
    "sync:rollback": ("controller.cli.sources:rollback", "Go back to an earlier revision."),
    "sync:approve": ("controller.cli.sources:approve", "Let a revision archive many workflows."),
    "sync:forget": ("controller.cli.sources:forget", "Archive what a removed source owns."),
    "lint": ("controller.cli.lint:lint", "Check definition files, such as before a commit."),
    "schema": ("controller.cli.about:schema", "Print the JSON Schema of definitions."),
    "doctor": ("controller.cli.doctor:doctor", "Check that all is well, the database too."),
    "backup": ("controller.cli.backup:backup", "Copy the database, also while it is in use."),
    "restore": ("controller.cli.backup:restore", "Put a copy in the place of the database."),
    "completion": ("controller.cli.completion:completion", "Print a shell's completion script."),
    "version": ("controller.cli.about:version", "Print the version."),
}
"""Every command: where it is, and what it does."""

ALIASES: Mapping[str, str] = {"workflows:logs": "logs"}
"""Second names, which no list shows."""


class Commands(click.Group):
    """The group of all commands; `workflows list` is `workflows:list`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of the table."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command; help for all of them does not come through here."""
        del ctx
        found = COMMANDS.get(ALIASES.get(cmd_name, cmd_name))
        if found is None:
            return None
        module, _, name = found[0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Names and one line each, without importing anything."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, what) for name, (_, what) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Join two words to a name; answer a misspelt one with what it may have meant."""
        names = {**COMMANDS, **ALIASES}
        joined = ":".join(args[:2])
        if args[0] not in names and joined in names:
            args = [joined, *args[2:]]
        if args[0] not in names:
            _refuse(ctx, args)
        return super().resolve_command(ctx, args)


def _refuse(ctx: click.Context, args: list[str]) -> None:
    """Raise the usage error for a command that is not there."""
    import difflib  # ruff: ignore[import-outside-top-level]  # start-up time

    inside = [name for name in COMMANDS if name.startswith(f"{args[0]}:")]
    words = [args[0], *(word for word in args[1:2] if not word.startswith("-"))]
    said = ":".join(words) if inside else args[0]
    close = [name for name in COMMANDS if name.endswith(f":{said}")]
    close += difflib.get_close_matches(said, COMMANDS, n=1)
    hint = f"Did you mean {close[0]!r}?" if close else ""
    if inside and said == args[0]:
        hint = f"There are {', '.join(inside)}."
    ctx.fail(f"There is no command {said!r}. {hint}".rstrip())


main = Commands(
    name="windlass",
    help="Windlass: commit a YAML file, and the workflow runs.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Every command explains itself: windlass COMMAND --help\n\n"
    "Exit status: 0 done, 1 failed, 2 wrong use, 3 not found, 4 refused, 5 unavailable;"
    " docs/reference.md has all of them.",
)
main = click.version_option(__version__, message="windlass %(version)s")(main)
