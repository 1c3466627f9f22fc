"""The result of a reconcile, told to the forge as the status of the commit.

    https://docs.github.com/rest/commits/statuses
    https://docs.gitlab.com/api/commits/#set-commit-pipeline-status
    https://docs.gitea.com/api — POST /repos/{owner}/{repo}/statuses/{sha}

It is a courtesy: nothing waits for it, and a forge that does not answer delays nothing.
"""

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp

from controller.clock import Clock
from controller.facts import Fact, FactType
from controller.logs import get_log

SECONDS = 10.0
"""Bound of one request."""

TRIES = 6
FIRST_WAIT = 1.0
LONGEST_WAIT = 60.0

SHOWN = 140
"""Characters of a description: GitHub's bound, the smallest of the three."""

_CLIENT_ERROR, _SERVER_ERROR, _TOO_MANY = 400, 500, 429
_SPACE, _DELETE = 0x20, 0x7F
_STATES = {"success": "success", "failure": "failed"}

log = get_log("windlass.forge")


@dataclass(frozen=True, slots=True)
class Target:
    """Where statuses of a source's commits go.

    Attributes:
        forge: `github`, `gitlab` or `gitea`.
        api: Its address, such as `https://api.github.com`.
        repository: `owner/name`, or the project's path.
        token_file: Read for each request, so that it may change.
    """

    forge: str
    api: str
    repository: str
    token_file: Path
    context: str


@dataclass(frozen=True, slots=True)
class Report:
    """What to say of a commit; `state` is `success` or `failure`."""

    revision: str
    state: str
    description: str


@dataclass(frozen=True, slots=True)
class Request:
    """What a forge is sent."""

    url: str
    headers: Mapping[str, str]
    json: Mapping[str, str]


def report_of(fact: Fact, source: str) -> Report | None:
    """What a fact says of a commit of the source; None: nothing."""
    said = fact.data
    if fact.type is not FactType.RECONCILED or said["source"] != source or not said["observed"]:
        return None
    match said["phase"], said["reason"]:
        case "ready", _:
            changes = {name: count for name, count in said["fates"].items() if name != "unchanged"}
            listed = ", ".join(f"{count} {name}" for name, count in changes.items())
            return Report(said["observed"], "success", f"applied: {listed or 'no change'}")
        case ("degraded" | "rejected", _) | ("held", "prune-limit"):
            description = said["problem"] or said["message"] or said["reason"]
            return Report(said["observed"], "failure", description)
        case _:
            return None


def request_of(target: Target, report: Report, token: str) -> Request:
    """The request that tells a forge."""
    description = report.description.replace("\n", " ")
    if len(description) > SHOWN:
        description = description[: SHOWN - 1] + "…"
    api = target.api.rstrip("/")
    if target.forge == "gitlab":
        project = quote(target.repository, safe="")
        return Request(
            f"{api}/projects/{project}/statuses/{report.revision}",
            {"PRIVATE-TOKEN": token},
            {
                "state": _STATES[report.state],
                "name": target.context,
                "description": description,
            },
        )
    scheme = "Bearer" if target.forge == "github" else "token"
    return Request(
        f"{api}/repos/{quote(target.repository)}/statuses/{report.revision}",
        {"Authorization": f"{scheme} {token}", "Accept": "application/json"},
        {"state": report.state, "context": target.context, "description": description},
    )


class Reporter:
    """Tells one forge; only the newest word about a commit is sent."""

    def __init__(self, source: str, target: Target, clock: Clock) -> None:
        self._source = source
        self._target = target
        self._clock = clock
        self._waiting: dict[str, Report] = {}
        self._told: dict[str, Report] = {}
        self._woken = asyncio.Event()

    def observe(self, fact: Fact) -> None:
        """Take a fact in."""
        report = report_of(fact, self._source)
        if report is not None and self._told.get(report.revision) != report:
            self._told = {report.revision: report}
            self._waiting = {report.revision: report}
            self._woken.set()

    async def run(self) -> None:
        """Send what there is to send, until cancelled."""
        bound = aiohttp.ClientTimeout(total=SECONDS)
        async with aiohttp.ClientSession(timeout=bound) as session:
            while True:
                await self._woken.wait()
                self._woken.clear()
                for report in tuple(self._waiting.values()):
                    await self._tell(session, report)
                    if self._waiting.get(report.revision) == report:
                        del self._waiting[report.revision]

    async def _tell(self, session: aiohttp.ClientSession, report: Report) -> None:
        """Send one, and again while there is hope."""
        for attempt in range(1, TRIES + 1):
            wait, said = await self._send(session, report, attempt)
            if wait is None:
                break
            if attempt < TRIES:
                await self._clock.sleep(wait)
        else:
            said = f"gave up after {TRIES} tries: {said}"
        if said:
            where = {"source": self._source, "forge": self._target.forge}
            log.warning("commit status not reported", **where, revision=report.revision, error=said)

    async def _send(
        self, session: aiohttp.ClientSession, report: Report, attempt: int
    ) -> tuple[float | None, str | None]:
        """Seconds until another try, None: there is none; and what went wrong, if anything."""
        try:
            token = await asyncio.to_thread(_token_in, self._target.token_file)
        except OSError as error:
            return None, f"cannot read {self._target.token_file}: {error.strerror}"
        except ValueError as error:
            return None, f"{self._target.token_file} {error}"
        request = request_of(self._target, report, token)
        try:
            async with session.post(
                request.url, headers=request.headers, json=request.json, allow_redirects=False
            ) as answer:
                return _meaning(answer.status, answer.headers, self._wait(report, attempt))
        except (aiohttp.ClientError, TimeoutError) as error:
            return self._wait(report, attempt), type(error).__name__

    def _wait(self, report: Report, attempt: int) -> float:
        """Seconds, doubled each time, up to a quarter less for each commit."""
        share = hashlib.sha256(f"{report.revision}/{attempt}".encode()).digest()[0] / 1024
        return float(min(FIRST_WAIT * 2 ** (attempt - 1), LONGEST_WAIT)) * (1 - share)


def _token_in(file: Path) -> str:
    """The token; `ValueError` says, without it, why there is none."""
    token = file.read_bytes().strip()
    if not token or not all(_SPACE < each < _DELETE for each in token):
        raise ValueError("holds no token: write one line of ASCII into it, without spaces")
    return token.decode("ascii")


def _is_limited(headers: Mapping[str, Any]) -> bool:
    """GitHub answers 403 to who asks too often, too: what else comes with it tells."""
    return "Retry-After" in headers or headers.get("X-RateLimit-Remaining") == "0"


def _meaning(
    status: int, headers: Mapping[str, Any], wait: float
) -> tuple[float | None, str | None]:
    """What to do after an answer."""
    if status < _CLIENT_ERROR:
        return None, None
    if status == _TOO_MANY or status >= _SERVER_ERROR or _is_limited(headers):
        asked = str(headers.get("Retry-After", ""))
        longer = float(asked) if asked.isdecimal() else 0.0
        return min(max(wait, longer), LONGEST_WAIT), f"it answered {status}"
    advice = {
        401: "the token is not valid",
        403: "the token may not set statuses (GitHub: `statuses: write`; GitLab: `api`)",
        404: "check `api` and `repository`, and that the token may see it",
    }
    return None, f"it answered {status}: {advice.get(status, 'it does not take the status')}"
