"""Where everything is kept: the state directory and the database, found and opened.

Both are plain text wherever no file says otherwise, and a command that only looks up needs nothing
else. So it does without the settings' models, which would be a quarter of its time.
"""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from controller.core.problem import Refused
from controller.given import given

if TYPE_CHECKING:
    from controller.clock import Clock
    from controller.store import Store

STATE_DIR = Path(".windlass")
"""The state directory when nobody says otherwise."""


class Location(NamedTuple):
    """Where everything is kept.

    Attributes:
        url: Of the database.
    """

    state_dir: Path
    url: str


def location_of(flags: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> Location:
    """The location by the command line and the environment, where there is no file of settings."""
    values = given(("state_dir", "database_url"), flags, None, environ).values
    state_dir = Path(values.get("state_dir", STATE_DIR))
    return Location(state_dir, values.get("database_url") or database_url(state_dir))


def database_url(state_dir: Path) -> str:
    """Where the database is when nobody says otherwise: a SQLite file in the state directory."""
    path = str((state_dir / "windlass.db").absolute())
    return "sqlite:///" + path.replace("%", "%25").replace("?", "%3F")  # as a URL has them


@asynccontextmanager
async def open_store(location: Location, clock: "Clock") -> "AsyncGenerator[Store]":
    """The database, with the directory around it; both are made where there is none.

    Raises:
        Refused: The state directory or the database cannot be used.
        Unavailable: The database does not answer.
    """
    from controller.store import Store  # ruff: ignore[import-outside-top-level]  # start-up time

    try:
        location.state_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Refused(
            f"cannot make the state directory {location.state_dir}: {error.strerror}",
            reason="state-dir",
            hint="choose another one with --state-dir",
        ) from None
    async with Store.open(location.url, monotonic=clock.monotonic) as store:
        yield store
