"""The daemon's own log: structured, one event a line, on stderr."""

import logging
import sys
from typing import Literal, TextIO

import structlog

_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


def configure_logs(
    level: str, form: Literal["auto", "console", "json"], stream: TextIO | None = None
) -> None:
    """Say how to log; `auto` is the console's form on a terminal, JSON lines otherwise."""
    out = stream if stream is not None else sys.stderr
    console = form == "console" or (form == "auto" and out.isatty())
    # the driver tells its caller of errors; what it mutters besides would be no line of this log
    logging.getLogger("psycopg").setLevel(logging.CRITICAL)
    render: structlog.typing.Processor = structlog.processors.JSONRenderer()
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
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
