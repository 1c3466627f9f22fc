"""What errors of a database mean to us: to try again later, to be refused, or a bug of ours."""

import sqlite3

from sqlalchemy.exc import DBAPIError

from controller.core.problem import MAKE_ROOM, Refused, Unavailable

_SQLITE_DUPLICATE = {1555, 2067}  # SQLITE_CONSTRAINT_PRIMARYKEY, _UNIQUE
_SQLITE_ORPHAN = 787  # SQLITE_CONSTRAINT_FOREIGNKEY
_MOVED = 1032  # SQLITE_READONLY_DBMOVED
_TOO_BIG = 18  # SQLITE_TOOBIG: a thousand million bytes
_FULL = 13
_AWAY = {
    5: "{where} is kept locked by another process",
    6: "{where} is kept locked by another process",
    7: "{where}: out of memory",
    10: "{where}: the disk does not take or give the data ({said})",
    _FULL: "disk full: {where} cannot grow",
    14: "{where} cannot be opened ({said})",
}
"""SQLite's primary result codes after which trying again later makes sense."""


class Undone(Unavailable):
    """Nothing of the transaction is there, and it may be tried again at once."""


def is_collision(error: DBAPIError) -> bool:
    """Whether the row was there already, or what it belongs to is gone."""
    code = getattr(error.orig, "sqlite_errorcode", None)
    if code is not None:
        return code in _SQLITE_DUPLICATE or code == _SQLITE_ORPHAN
    return getattr(error.orig, "sqlstate", None) in {"23505", "23503"}


def is_too_big(error: DBAPIError) -> bool:
    """Whether a value would be longer than SQLite lets one be."""
    return getattr(error.orig, "sqlite_errorcode", None) == _TOO_BIG


def is_no_value(error: DBAPIError) -> bool:
    """Whether SQLite gave a text that is not UTF-8: its driver says so, and has no code for it."""
    coded = getattr(error.orig, "sqlite_errorcode", None) is not None
    return isinstance(error.orig, sqlite3.OperationalError) and not coded


def problem_of(error: DBAPIError, where: str) -> Unavailable | Refused | None:
    """What a database error asks of us; None when it is about the statement, not the database."""
    if (code := getattr(error.orig, "sqlite_errorcode", None)) is not None:
        return sqlite_problem(code, where, str(error.orig))
    state = getattr(error.orig, "sqlstate", None)
    return _postgres_problem(state, error, where)


def problem_in_use(error: DBAPIError, where: str) -> Unavailable | Refused | None:
    """`problem_of` a database that we have used: what it refuses us now it may allow again."""
    problem = problem_of(error, where)
    state = getattr(error.orig, "sqlstate", None) or ""
    if isinstance(problem, Refused) and (state[:2] in _ACCESS or state == _NOT_ALLOWED):
        return Unavailable(str(problem), hint=ALLOWED)
    return problem


def sqlite_problem(code: int, where: str, said: str) -> Unavailable | Refused | None:
    """`problem_of` one of SQLite's result codes."""
    if code == _MOVED:
        return moved(where)
    primary = code & 0xFF
    if primary in _AWAY:
        hint = MAKE_ROOM if primary == _FULL else None
        return Unavailable(_AWAY[primary].format(where=where, said=said), hint=hint)
    if primary in {3, 8}:
        return read_only(where)
    if primary in {11, 26}:
        return Refused(
            f"{where} is damaged, or is not a database ({said})",
            reason="database-damaged",
            hint="restore it from a backup, or move it away to start with a new one",
        )
    return None


_CROSSED = {"40001", "40P01"}
"""Two transactions cannot both go on, such as where each waits for the other: this one is ended."""

WRITABLE = "wait until it is the primary, or may be written again"
"""The hint where PostgreSQL is a standby, or kept from being written for a while."""

ALLOWED = "give the user Windlass connects as its rights again; a controller goes on by itself"
"""The hint where PostgreSQL allows us no longer what it has allowed."""

_ACCESS = {"28", "3D"}
"""Classes of SQLSTATE: authorisation, and no such database."""

_NOT_ALLOWED = "42501"
"""A right that this user does not have."""

_POSTGRES_AWAY = {"08", "40", "53", "55", "57", "58"}
"""Classes of SQLSTATE: connection, rollback, resources, not ready, operator, system."""


def _postgres_problem(
    state: str | None, error: DBAPIError, where: str
) -> Unavailable | Refused | None:
    said = str(error.orig).strip().partition("\n")[0]
    if state == "53100":
        return Unavailable(f"disk full: {where} cannot grow ({said})", hint=MAKE_ROOM)
    if state == "25006":
        return Unavailable(f"{where} is read-only ({said})", hint=WRITABLE)
    if state in _CROSSED:
        return Undone(f"{where} does not answer ({said})")
    if state is not None and state[:2] in {*_ACCESS, "42"}:
        return Refused(f"{where} refuses us ({said})", reason="database-access")
    lost = (
        error.connection_invalidated
        or _has_ended(error)
        or (state is None and type(error.orig).__name__ == "OperationalError")
    )
    if lost or (state is not None and state[:2] in _POSTGRES_AWAY):
        return Unavailable(f"{where} does not answer ({said})")
    return None


def _has_ended(error: DBAPIError) -> bool:
    """Whether PostgreSQL has ended the connection with this error, such as for a timeout of its."""
    diagnosis = getattr(error.orig, "diag", None)
    return getattr(diagnosis, "severity_nonlocalized", None) in {"FATAL", "PANIC"}


def moved(where: str) -> Refused:
    """Another file, or none, is in the place of the one that is open."""
    return Refused(
        f"{where} was moved or deleted while it was open",
        reason="database-moved",
        hint="put it back, or start again with a new one",
    )


def read_only(where: str) -> Refused:
    """The database cannot be written, by this user or at all."""
    return Refused(
        f"{where} is read-only",
        reason="database-read-only",
        hint="give the user Windlass runs as the right to write the file and its folder",
    )
