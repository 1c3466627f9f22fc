"""Verbs a person types; this package only translates.

A command's module is imported when the command is run or its help is shown, so that `--help` costs
little more than the interpreter. `workflows list` is `workflows:list`.
"""

import difflib
import importlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

COMMANDS: Mapping[str, tuple[str, str]] = {
    "run": ("daemon:run", "Watch the definitions, fire schedules, execute: the daemon."),
    "workflows:list": ("workflows:list_workflows", "List workflows."),
    "workflows:create": ("workflows:create", "Create a workflow from a file."),
    "workflows:delete": ("workflows:delete", "Archive a workflow that was created, not synced."),
    "workflows:validate": ("workflows:validate", "Check a file or a directory of definitions."),
    "workflows:export": ("workflows:export", "Print a workflow as YAML."),
    "workflows:execute": ("executions:execute", "Execute a workflow, and wait for it."),
    "workflows:status": ("executions:status", "Show an execution."),
    "workflows:history": ("executions:history", "List executions."),
    "workflows:cancel": ("executions:cancel", "Cancel an execution."),
    "workflows:pause": ("executions:pause", "Start no new step of an execution."),
    "workflows:resume": ("executions:resume", "Go on with a paused execution."),
    "workflows:retry": ("executions:retry", "Try again from where an execution failed."),
    "workflows:signal": ("executions:signal", "Send a waiting step its signal."),
    "workflows:schedule": ("schedules:schedule", "Schedule a workflow, once or again and again."),
    "logs": ("executions:logs", "Show the log of an execution."),
    "schedule:list": ("schedules:list_schedules", "List schedules."),
    "schedule:cancel": ("schedules:cancel", "Stop a schedule."),
    "sync:status": ("sync:status", "Show sources, their files, and what is wrong with them."),
    "sync:plan": ("sync:plan", "Show what a directory would change; exit status 2 if anything."),
    "schema": ("about:schema", "Print the JSON Schema of definitions, for editors."),
    "doctor": ("doctor:doctor", "Check that everything needed is here and well."),
    "completion": ("about:completion", "Print the completion script of a shell."),
    "version": ("about:version", "Print the version."),
}
"""Every command: where it is, and what it does."""

WRONG_USE = 2


class Commands(click.Group):
    """The group of all commands, imported one by one."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of the table."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command; help for all of them does not come through here."""
        del ctx
        found = COMMANDS.get(cmd_name)
        if found is None:
            return None
        module, _, name = found[0].partition(":")
        command: click.Command = getattr(importlib.import_module(f"controller.cli.{module}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Names and one line each, without importing anything."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, what) for name, (_, what) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """`workflows list` is `workflows:list`; a misspelt name is answered with the nearest."""
        if len(args) > 1 and args[0] not in COMMANDS and f"{args[0]}:{args[1]}" in COMMANDS:
            args = [f"{args[0]}:{args[1]}", *args[2:]]
        if args[0] not in COMMANDS:
            close = difflib.get_close_matches(args[0], list(COMMANDS), n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            ctx.fail(f"There is no command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)


main = Commands(
    name="windlass",
    help="Windlass: commit a YAML file, and the workflow runs.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Every command explains itself: windlass COMMAND --help",
)


def start(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; the exit status."""
    program = Path(sys.argv[0]).name
    if program not in {"windlass", "systemprompt"}:
        program = "windlass"
    try:
        found = main.main(
            args=list(sys.argv[1:] if arguments is None else arguments),
            prog_name=program,
            standalone_mode=False,
        )
    except click.UsageError as error:
        error.show()
        return WRONG_USE
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.exceptions.Exit as error:
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    return found if isinstance(found, int) else 0
