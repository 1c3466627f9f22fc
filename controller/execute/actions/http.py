"""`http`: one request, its answer bounded; what is not as expected is a failure."""

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
"""Milliseconds, unless `timeout` says otherwise."""

REDIRECTS = 5

KEY = "Idempotency-Key"
"""Header with the attempt's key: after a crash the same attempt is made with the same key."""


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
            jar = aiohttp.DummyCookieJar()
            self._session = aiohttp.ClientSession(cookie_jar=jar, request_class=_leased())
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
        except aiohttp.ClientSSLError as error:
            raise ActionFailed("tls", str(error)) from None
        except aiohttp.TooManyRedirects:
            raise ActionFailed("connection", f"more than {REDIRECTS} redirects") from None
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError, ValueError) as error:
            raise ActionFailed("invalid_inputs", f"cannot request this: {error}") from None
        except (aiohttp.ClientError, OSError) as error:
            raise ActionFailed("connection", str(error) or type(error).__name__) from None

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
        milliseconds = parse_duration(inputs.get("timeout") or TIMEOUT)
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
        return content.decode(charset or "utf-8", "replace")
    except (LookupError, ValueError):  # there is none of that name, or it cannot be one
        return content.decode("utf-8", "replace")


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
