"""`http`: one request, its answer bounded; what is not as expected is a failure."""

import asyncio
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

from controller.core.duration import parse_duration
from controller.execute.action import BUILT_IN, ActionFailed, Call, Result
from controller.execute.scripts import Scripts

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

LARGEST_BODY = 4_194_304
"""Bytes of an answer that are read."""

TIMEOUT = 30_000
"""Milliseconds, unless `timeout` says otherwise."""

REDIRECTS = 5


class Http:
    """See `BUILT_IN["http"]`."""

    signature = BUILT_IN["http"]

    def __init__(self) -> None:
        self._session: ClientSession | None = None

    async def perform(self, call: Call, inputs: dict[str, Any]) -> Result:
        """Send the request.

        Fails with type `status` (with the answer as outputs), `timeout`, `tls` or `connection`.
        """
        import aiohttp  # noqa: PLC0415  # start-up time

        if self._session is None:
            self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
        timeout = aiohttp.ClientTimeout(parse_duration(inputs.get("timeout") or TIMEOUT) / 1000)
        headers = {name: str(value) for name, value in (inputs.get("headers") or {}).items()}
        headers.setdefault("Idempotency-Key", call.key)
        try:
            async with self._session.request(
                (inputs.get("method") or "GET").upper(),
                inputs["url"],
                headers=headers,
                json=inputs.get("json"),
                data=inputs.get("body"),
                timeout=timeout,
                max_redirects=REDIRECTS,
            ) as answer:
                return await _outputs(answer, inputs.get("expect_status"))
        except asyncio.TimeoutError:
            raise ActionFailed("timeout", f"no answer within {timeout.total:g} s") from None
        except aiohttp.ClientSSLError as error:
            raise ActionFailed("tls", str(error)) from None
        except aiohttp.TooManyRedirects:
            raise ActionFailed("connection", f"more than {REDIRECTS} redirects") from None
        except (aiohttp.ClientError, OSError) as error:
            raise ActionFailed("connection", str(error) or type(error).__name__) from None
        except ValueError as error:
            raise ActionFailed("invalid_inputs", str(error)) from None

    async def close(self) -> None:
        """Close what is kept open between calls."""
        if self._session is not None:
            await self._session.close()
            self._session = None


async def _outputs(answer: "ClientResponse", expected: Any) -> Result:  # noqa: ANN401  # a JSON value
    content = await answer.content.read(LARGEST_BODY + 1)
    while 0 < len(content) <= LARGEST_BODY:
        more = await answer.content.read(LARGEST_BODY + 1 - len(content))
        if not more:
            break
        content += more
    if len(content) > LARGEST_BODY:
        raise ActionFailed("too_large", f"the answer is larger than {LARGEST_BODY:,} bytes")
    body = content.decode(answer.charset or "utf-8", "replace")
    outputs: dict[str, Any] = {
        "status": answer.status,
        "headers": {name.lower(): value for name, value in answer.headers.items()},
        "body": body,
        "json": None,
    }
    if "json" in answer.content_type:
        try:
            outputs["json"] = from_json(content, allow_inf_nan=False)
        except ValueError:
            pass
    if not _is_expected(answer.status, expected):
        raise ActionFailed("status", f"{answer.status} {answer.reason or ''}".strip(), outputs)
    return outputs


def _is_expected(status: int, expected: Any) -> bool:  # noqa: ANN401  # a JSON value
    """`expect_status`: a number, text such as `2xx`, or a list of them; default: 2xx."""
    if expected is None:
        expected = "2xx"
    if isinstance(expected, list):
        return any(_is_expected(status, each) for each in expected)
    text = str(expected).lower()
    return str(status) == text or (text.endswith("xx") and str(status)[0] == text[:1])


def build(_scripts: Scripts) -> Http:
    """The action."""
    return Http()
