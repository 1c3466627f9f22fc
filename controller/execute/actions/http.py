"""`http`: one request, its answer bounded; what is not as expected is a failure."""

import codecs
from contextvars import ContextVar
from functools import cache
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

from controller.core.duration import parse_duration
from controller.core.expression import to_text
from controller.execute.action import BUILT_IN, ActionFailed, Call, Lease, NotNow, Result, under
from controller.execute.scripts import Scripts

if TYPE_CHECKING:
    from aiohttp import ClientRequest, ClientResponse, ClientSession
    from aiohttp.connector import Connection

LARGEST_BODY = 4_194_304
"""Bytes of an answer that are read."""

TIMEOUT = 30_000
"""Milliseconds, unless `timeout` says otherwise; 0 says nothing."""

REDIRECTS = 5

KEY = "Idempotency-Key"
"""Header with the attempt's key: after a crash the same attempt is made with the same key."""


_NO_CHARSETS = frozenset({"idna", "punycode"})
"""What Python can decode text from, in the square of its length."""

_unsent: ContextVar[Lease | None] = ContextVar("unsent", default=None)
"""Under which lease the request of this task is to be sent; None: its first part has been."""


class Http:
    """See `BUILT_IN["http"]`."""

    signature = BUILT_IN["http"]

    def __init__(self) -> None:
        self._session: ClientSession | None = None

    async def perform(self, call: Call, inputs: dict[str, Any]) -> Result:
        """Send the request.

        Fails with type `status` (with the answer as outputs), `timeout`, `tls` or `connection`.
        """
        import aiohttp  # ruff: ignore[import-outside-top-level]  # start-up time

        request = _request(call, inputs)
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),  # who waits for a turn would time out
                cookie_jar=aiohttp.DummyCookieJar(),
                request_class=_leased(),
            )
        session, seconds = self._session, request.pop("seconds")
        timeout = aiohttp.ClientTimeout(seconds)

        async def send() -> Result:
            _unsent.set(call.lease)
            async with session.request(**request, timeout=timeout) as answer:
                return await _outputs(answer, inputs.get("expect_status"))

        try:
            return await under(call.lease, send)
        except TimeoutError:
            raise ActionFailed("timeout", f"no answer within {seconds:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _failure(error, inputs["url"]) from None

    async def close(self) -> None:
        """Close what is kept open between calls."""
        if self._session is not None:
            await self._session.close()
            self._session = None


@cache
def _leased() -> "type[ClientRequest]":
    """A request that is sent only under its lease, which it is asked for when it is connected.

    What follows from it — a redirect, another try where the server had hung up — is sent in any
    case: what was sent is not begun again.
    """
    import aiohttp  # ruff: ignore[import-outside-top-level]  # start-up time

    class Leased(aiohttp.ClientRequest):
        async def send(self, conn: "Connection") -> "ClientResponse":
            lease = _unsent.get()
            if lease is not None and not lease.holds:
                raise NotNow
            _unsent.set(None)
            return await super().send(conn)

    return Leased


def _request(call: Call, inputs: dict[str, Any]) -> dict[str, Any]:
    headers = {name: to_text(value) for name, value in (inputs.get("headers") or {}).items()}
    if KEY.lower() not in {name.lower() for name in headers}:
        headers[KEY] = call.key
    try:
        milliseconds = parse_duration(inputs.get("timeout") or 0) or TIMEOUT
    except ValueError as error:
        raise ActionFailed("invalid_inputs", f"`timeout`: {error}") from None
    return {
        "method": (inputs.get("method") or "GET").upper(),
        "url": inputs["url"],
        "headers": headers,
        "json": inputs.get("json"),
        "data": inputs.get("body"),
        "max_redirects": REDIRECTS,
        "seconds": milliseconds / 1000,
    }


def _failure(error: Exception, url: str) -> ActionFailed:
    """The URL as it was given: a secret in it is not found once it is escaped."""
    import aiohttp  # ruff: ignore[import-outside-top-level]  # start-up time

    match error:
        case aiohttp.ClientSSLError():
            return ActionFailed("tls", str(error))
        case aiohttp.TooManyRedirects():
            return ActionFailed("connection", f"more than {REDIRECTS} redirects")
        case aiohttp.ClientResponseError():
            return ActionFailed("connection", error.message)
        case aiohttp.InvalidURL() | aiohttp.NonHttpUrlClientError():
            leads = "leads to" if isinstance(error, aiohttp.RedirectClientError) else "is"
            return ActionFailed("invalid_inputs", f"{url} {leads} no URL of http or https")
        case ValueError():
            return ActionFailed("invalid_inputs", f"cannot request this: {error}")
        case _:
            return ActionFailed("connection", str(error) or type(error).__name__)


async def _outputs(answer: "ClientResponse", expected: Any) -> Result:  # ruff: ignore[any-type]  # a JSON value
    content = await _content(answer)
    parsed = _json(content) if "json" in answer.content_type else None
    body = _text(content, answer.charset) if parsed is None else None
    headers: dict[str, str] = {}
    for name, value in answer.headers.items():
        key, said = _written(name).lower(), _written(value)
        headers[key] = f"{headers[key]}, {said}" if key in headers else said
    outputs = {"status": answer.status, "headers": headers, "json": parsed, "body": body}
    if not is_expected(answer.status, expected):
        reason = _written(answer.reason or "")
        raise ActionFailed("status", f"{answer.status} {reason}".strip(), outputs)
    return outputs


def _written(text: str) -> str:
    """What a head says, where it is UTF-8: nothing keeps a server from sending other bytes."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


async def _content(answer: "ClientResponse") -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in answer.content.iter_any():
        parts.append(part)
        size += len(part)
        if size > LARGEST_BODY:
            raise ActionFailed("too_large", f"the answer is larger than {LARGEST_BODY:,} bytes")
    return b"".join(parts)


def _json(content: bytes) -> Any:  # ruff: ignore[any-type]  # a JSON value
    try:
        return from_json(content, allow_inf_nan=False)
    except ValueError:  # it only says that it is JSON
        return None


def _text(content: bytes, charset: str | None) -> str:
    try:
        known = codecs.lookup(charset or "utf-8").name not in _NO_CHARSETS
        text = content.decode(charset if known and charset else "utf-8", "replace")
    except (LookupError, ValueError):  # there is none of that name, or it cannot be one
        text = content.decode("utf-8", "replace")
    return text.encode("utf-8", "replace").decode()


def is_expected(status: int, expected: Any) -> bool:  # ruff: ignore[any-type]  # a JSON value
    """`expect_status`: a number, text such as `2xx`, or a list of them; default: 2xx."""
    if expected is None:
        expected = "2xx"
    if isinstance(expected, list):
        return any(is_expected(status, each) for each in expected)
    text = to_text(expected).lower()
    return str(status) == text or (text.endswith("xx") and str(status)[0] == text[:-2])


def build(_scripts: Scripts) -> Http:
    """The action."""
    return Http()
