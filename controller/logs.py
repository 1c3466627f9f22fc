"""The daemon's own log: structured, one event a line, on stderr.

The door to structlog, which is imported when something is said: most commands say nothing, and it
would be a sixth of what they take to start. A daemon says something in any case: `load_log`.
"""

import logging
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, Protocol, TextIO, cast

if TYPE_CHECKING:
    from structlog.typing import Processor

Form = Literal["auto", "console", "json"]


class Log(Protocol):
    """Where a module says what happened: an event in words, and its facts by name."""

    def debug(self, event: str, **facts: object) -> object:
        """What helps to find a defect."""

    def info(self, event: str, **facts: object) -> object:
        """What an operator may want to follow."""

    def warning(self, event: str, **facts: object) -> object:
        """What works all the same."""

    def error(self, event: str, **facts: object) -> object:
        """What does not work."""

    def exception(self, event: str, **facts: object) -> object:
        """A defect, with the trace of the exception that is being handled."""


class _Lazy:
    """A `Log` of structlog's, made when it is first used."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, level: str) -> Any:  # ruff: ignore[any-type]  # a method of structlog's
        import structlog  # ruff: ignore[import-outside-top-level]  # start-up time

        if not structlog.is_configured():
            _configure()
        return getattr(structlog.get_logger(self._name), level)


class _Bridge(logging.Handler):
    """Says what libraries say by `logging` in the form of this log.

    What uvicorn warns of is what a client did: no matter of ours.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """One event, with the trace of the exception if there is one."""
        log = get_log(record.name)
        of_client = log.info if record.name == "uvicorn.error" else log.warning
        say = log.error if record.levelno >= logging.ERROR else of_client
        say(record.getMessage(), logger=record.name, exc_info=record.exc_info)


class _Stream:
    """What a log is written to; what cannot be written is lost, and nobody fails for it.

    Whoever read it may have left, its terminal may be gone, the disk it is on may be full.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        """Some of a line."""
        with suppress(OSError):
            (self._stream or sys.stderr).write(text)

    def flush(self) -> None:
        """Its end."""
        with suppress(OSError):
            (self._stream or sys.stderr).flush()


_bridge = _Bridge(logging.WARNING)

_chosen: tuple[str, Form, TextIO | None] = ("info", "auto", None)


def get_log(name: str) -> Log:
    """The log of a part, such as `windlass.store`."""
    return _Lazy(name)


def configure_logs(level: str, form: Form, stream: TextIO | None = None) -> None:
    """Say how to log; `auto` is the console's form on a terminal, JSON lines otherwise."""
    global _chosen  # ruff: ignore[global-statement]  # a process has one log
    _chosen = (level, form, stream)
    # the driver tells its caller of errors; what it mutters besides would be no line of this log
    logging.getLogger("psycopg").setLevel(logging.CRITICAL)
    logging.getLogger().addHandler(_bridge)  # without one, Python prints what is said
    if "structlog" in sys.modules:
        _configure()


def load_log() -> None:
    """Import what it takes to say something; called while there is one thread.

    Without `rich`, as where it is not installed: that would be four fifths of the time, for traces
    in colour, which this log does not have. Whoever wants it can import it afterwards.
    """
    absent = "structlog" not in sys.modules and "rich" not in sys.modules
    if absent:
        sys.modules["rich"] = None  # type: ignore[assignment]  # which Python takes for "not there"
    try:
        _configure()
    finally:
        if absent:
            del sys.modules["rich"]


def _configure() -> None:
    import structlog  # ruff: ignore[import-outside-top-level]  # start-up time

    level, form, stream = _chosen
    out = stream if stream is not None else sys.stderr
    console = form == "console" or (form == "auto" and out.isatty())
    written = cast("TextIO", _Stream(stream))
    render: Processor = structlog.processors.JSONRenderer()
    if console:
        render = structlog.dev.ConsoleRenderer(colors=out.isatty())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=not console),
            structlog.processors.format_exc_info,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: structlog.PrintLogger(written),
        cache_logger_on_first_use=False,
    )
