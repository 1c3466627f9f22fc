"""The HTTP port: metrics and health, webhooks of workflows, pushes of forges, sources.

`/metrics`, `/healthz`, `/readyz`; `POST /hooks/WORKFLOW` for webhook triggers; `POST /push/SOURCE`
for a forge; `GET /api/sources` and `GET /api/sources/SOURCE` for what `sync:status` shows.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from controller.core.problem import Refused, Unavailable
from controller.store.records import ExecutionRecord
from controller.web.connection import Connection

GRACE_SECONDS = 2

BACKLOG = 64
"""Clients that the system lets wait: as many may be taken at once before one is turned away."""

LARGEST_BODY = 1_048_576
"""Bytes of a request."""

LARGEST_PUSH = 26_214_400
"""Bytes of a push, which lists commits and files: GitHub's own bound."""

Hook = Callable[..., Awaitable[ExecutionRecord]]
"""`WorkflowService.receive_webhook`."""

Pushed = Callable[[str, Mapping[str, str], bytes], Mapping[str, Any]]
"""Takes a forge's push for a source, by its name; says what comes of it."""

Looked = Callable[[str | None], Awaitable[Any]]
"""Plain data of a source, or of all."""


@dataclass(frozen=True, slots=True)
class Handlers:
    """What answers, by whom it is known."""

    metrics: Callable[[], bytes]
    content_type: str
    report: Callable[[], Mapping[str, Any]]  # `Health.report`, on any thread
    hook: Hook
    pushed: Pushed
    sources: Looked


class Server(uvicorn.Server):
    """uvicorn in a loop of ours: signals are the daemon's business, and nothing ticks when idle."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._left = asyncio.Event()

    async def main_loop(self) -> None:
        """Wait to be told to leave; uvicorn's own looks ten times a second."""
        await self._left.wait()

    def leave(self) -> None:
        """Finish what is being answered, and end."""
        self.should_exit = True
        self._left.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave them alone."""
        yield


def server(handlers: Handlers) -> Server:
    """The server; run it with `serve(sockets=[bind(…)])`, see `address.py`."""

    async def show_metrics(_request: Request) -> Response:
        text = await asyncio.to_thread(handlers.metrics)
        return Response(text, headers={"content-type": handlers.content_type})

    async def healthz(_request: Request) -> Response:  # ruff: ignore[unused-async]  # on the loop
        return PlainTextResponse("ok\n")

    async def readyz(_request: Request) -> Response:
        said = await asyncio.to_thread(handlers.report)  # a disk that hangs, hangs only this
        return JSONResponse(dict(said), status_code=200 if said["status"] == "ready" else 503)

    application = Starlette(
        routes=[
            Route("/metrics", show_metrics),
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/hooks/{workflow:path}", receiver(handlers.hook), methods=["POST"]),
            Route("/push/{source}", push_receiver(handlers.pushed), methods=["POST"]),
            Route("/api/sources", looker(handlers.sources)),
            Route("/api/sources/{source}", looker(handlers.sources)),
        ],
        exception_handlers={ClientDisconnect: _left},
    )
    config = uvicorn.Config(
        application,
        http=Connection,
        backlog=BACKLOG,
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        date_header=False,  # it would have to be renewed every second
        timeout_graceful_shutdown=GRACE_SECONDS,
        ws="none",
    )
    return Server(config)


async def body_of(request: Request, largest: int) -> bytes | None:
    """The body of a request, from anybody; None: it is larger, and no more of it is taken."""
    if int(request.headers.get("content-length", 0)) > largest:  # a number: h11 saw to that
        return None
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > largest:
            return None
    return bytes(body)


def receiver(hook: Hook) -> Callable[[Request], Awaitable[Response]]:
    """What answers `POST /hooks/WORKFLOW`."""

    async def receive(request: Request) -> Response:
        body = await body_of(request, LARGEST_BODY)
        if body is None:
            return _too_large()
        try:
            record = await hook(
                request.path_params["workflow"],
                body,
                signature=request.headers.get("x-hub-signature-256"),
                delivery=request.headers.get("x-github-delivery")
                or request.headers.get("idempotency-key"),
            )
        except (Refused, Unavailable) as error:
            return JSONResponse({"error": str(error)}, status_code=_status(error))
        return JSONResponse({"execution": record.id}, status_code=202)

    return receive


def push_receiver(pushed: Pushed) -> Callable[[Request], Awaitable[Response]]:
    """What answers `POST /push/SOURCE`: at once, before anything is fetched."""

    async def receive(request: Request) -> Response:
        body = await body_of(request, LARGEST_PUSH)
        if body is None:
            return _too_large()
        try:
            said = pushed(request.path_params["source"], request.headers, body)
        except Refused as error:
            return JSONResponse({"error": str(error)}, status_code=_status(error))
        return JSONResponse(dict(said), status_code=202)

    return receive


def looker(sources: Looked) -> Callable[[Request], Awaitable[Response]]:
    """What answers `GET /api/sources`."""

    async def look(request: Request) -> Response:
        try:
            return JSONResponse(await sources(request.path_params.get("source")))
        except (Refused, Unavailable) as error:
            return JSONResponse({"error": str(error)}, status_code=_status(error))

    return look


def _too_large() -> Response:
    """Without a word about the rest: a connection that is kept would have to read it."""
    said = {"error": "the request is too large"}
    return JSONResponse(said, status_code=413, headers={"connection": "close"})


async def _left(_request: Request, _error: Exception) -> Response:  # ruff: ignore[unused-async]  # on the loop
    """Whoever leaves in the middle of a request hears nothing, and it is no error of ours."""
    return Response(status_code=400)


def _status(error: Refused | Unavailable) -> int:
    """The HTTP status of an error."""
    if isinstance(error, Unavailable):
        return 503
    known = {"not-found": 404, "signature": 401, "not-json": 400, "invalid-inputs": 422}
    return known.get(error.reason, 409)
