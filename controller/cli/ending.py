"""How a command line ends: the one place where whatever happened becomes words and an exit status.

`STATUSES` has them all; scripts rely on them.
"""

import errno
import gc
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path
from typing import TextIO

import click

from controller.cli.commands import main

DONE = 0
FAILED = 1
WRONG_USE = 2
NOT_FOUND = 3
REFUSED = 4
UNAVAILABLE = 5
BUG = 70
HUNG_UP = 129
INTERRUPTED = 130
UNREAD = 141
TERMINATED = 143

STATUSES = {
    DONE: "done",
    FAILED: "failed: the execution did not complete, or what was checked is wrong, such as"
    " definitions, inputs, a database",
    WRONG_USE: "wrong use: an option, an argument or a value in one that is not understood",
    NOT_FOUND: "not found: what was named is not there",
    REFUSED: "refused: trying again does not help before something is changed, such as a setting",
    UNAVAILABLE: "unavailable: something does not answer now, such as the database; trying again"
    " may help",
    BUG: "an internal error: a bug of Windlass",
    HUNG_UP: "the terminal was closed (SIGHUP); `run` stops in order then, with 0",
    INTERRUPTED: "interrupted (Ctrl-C)",
    UNREAD: "whoever read the output has left",
    TERMINATED: "told to end (SIGTERM); `run` stops in order then, with 0",
}
"""What each exit status means, for who wrote the script around it."""

CHECKS = frozenset({"invalid-definition", "invalid-inputs", "damaged"})
"""Reasons of a refusal that are a check which failed."""

NAMES = ("windlass", "systemprompt")

SHOWN = 60
"""Characters of a path that is too long for the system."""

COLLECT = (50_000, 20, 50)
"""Thresholds of the garbage collector. Modules and definitions are many objects that stay: looking
at all of them for every few hundred new ones took half of a cold start, and a tenth of a command.
"""


def start(arguments: Sequence[str] | None = None) -> int:
    """Run a command line, this process's own by default; the exit status."""
    gc.set_threshold(*COLLECT)
    _open_streams()
    called = Path(sys.argv[0]).name
    program = called if called in NAMES else NAMES[0]
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with main.make_context(program, given) as context:
            found = main.invoke(context)
    except click.exceptions.Exit as error:
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except Exception as error:  # ruff: ignore[blind-except]  # no traceback reaches a person
        return _explain(_cause(error))
    return found if isinstance(found, int) else DONE


def of_signal(number: int) -> int:
    """The exit status of what a signal has ended, in order: the one a shell gives that."""
    return 128 + number


def _open_streams() -> None:
    """Give a stream that was closed before we began to nowhere: its number goes to no file."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            nowhere = Path(os.devnull).open(mode)  # ruff: ignore[open-file-with-context-handler]  # until the process ends
            os.set_inheritable(nowhere.fileno(), True)  # ruff: ignore[boolean-positional-value-in-call]  # its signature
            setattr(sys, name, nowhere)
    if isinstance(sys.stdout, TextIOWrapper) and not takes_all(sys.stdout):
        sys.stdout.reconfigure(errors="replace")  # as Python itself does for stderr


def takes_all(stream: TextIO) -> bool:
    """Whether a stream can be given every character."""
    return (stream.encoding or "").lower().startswith("utf")


def complain(message: str, hint: str | None, status: int) -> int:
    """Say what is wrong on stderr, if anybody reads it; the status."""
    with suppress(OSError):
        click.echo(f"windlass: {message}", err=True)
        if hint:
            click.echo(f"hint: {hint}", err=True)
    return status


def _cause(error: Exception) -> Exception:
    """What happened: parts that work side by side wrap it in groups."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


def _explain(error: Exception) -> int:
    """Say what happened and what to do about it; the exit status."""
    from controller.core.problem import MAKE_ROOM, NotFound, Refused, Unavailable  # ruff: ignore[import-outside-top-level]  # start-up time

    match error:
        case click.ClickException():
            return _misused(error)
        case Refused():
            status = FAILED if error.reason in CHECKS else REFUSED
            found = not isinstance(error, NotFound)
            return complain(str(error), error.hint, status if found else NOT_FOUND)
        case Unavailable():
            return complain(str(error), error.hint or "try again when it is back", UNAVAILABLE)
        case OSError(errno=errno.ENOSPC):
            return complain("no space left on the disk", MAKE_ROOM, UNAVAILABLE)
        case OSError():
            return _around_us(error) or _bug(error)
        case _:
            return _garbled(error) or _bug(error)


def _around_us(error: OSError) -> int | None:
    """Of what we were started with: a pipe, a path, a directory; None: of something else."""
    match error.errno:
        case errno.EPIPE:
            return _unread()
        case errno.ENAMETOOLONG:
            given = os.fsdecode(error.filename or "")[:SHOWN]
            return complain(f"no file's name is as long as this: {given}…", None, REFUSED)
        case errno.ENOENT if _is_nowhere():
            return complain("the working directory is gone", "change into another one", REFUSED)
        case _:
            return None


def _is_nowhere() -> bool:
    """Whether the working directory was removed."""
    try:
        Path.cwd()
    except FileNotFoundError:
        return True
    return False


def _garbled(error: Exception) -> int | None:
    """Of an argument, or a file's name, that is not UTF-8; None: of something else."""
    text = error.object if isinstance(error, UnicodeEncodeError) else ""
    if not any("\udc80" <= each <= "\udcff" for each in text):  # PEP 383
        return None
    given = os.fsencode(text).decode(errors="backslashreplace")
    return complain(f"{given} is not UTF-8", "give it in UTF-8", WRONG_USE)


def _bug(error: Exception) -> int:
    if os.environ.get("WINDLASS_DEBUG"):  # ruff: ignore[banned-api]  # for us; no setting, since reading those may be what failed
        raise error
    message = f"internal error: {type(error).__name__}: {error}"
    return complain(message, "set WINDLASS_DEBUG=1 to see where, and report it", BUG)


def _misused(error: click.ClickException) -> int:
    """Wrong use, with the command whose help would have told."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message(), err=True)
        return WRONG_USE
    context = error.ctx if isinstance(error, click.UsageError) else None
    hint = f"see {context.command_path} --help" if context is not None else None
    return complain(error.format_message(), hint, error.exit_code)


def _unread() -> int:
    """Whoever read our output has left: say no more, not even when the interpreter ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    return UNREAD
