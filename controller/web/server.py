"""The HTTP port: `/metrics`, `/healthz`, `/readyz`."""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Generator, Mapping
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from controller.core.problem import Refused

GRACE_SECONDS = 2


class Server(uvicorn.Server):
    """uvicorn in a loop of ours: signals are the daemon's business."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave them alone."""
        yield


def bind(address: str) -> socket.socket:
    """A listening socket; `Refused` says why there is none."""
    host, _, port = address.rpartition(":")
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
        family, kind, protocol, _, where = found[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(where)
    except OSError as error:
        raise Refused(
            f"cannot listen on {address}: {error.strerror or error}",
            reason="address",
            hint="choose another one with --http-address, or stop what uses it",
        ) from None
    listening.setblocking(False)  # ruff: ignore[boolean-positional-value-in-call]  # its signature
    return listening


def server(
    *,
    metrics: Callable[[], bytes],
    content_type: str,
    report: Callable[[], Mapping[str, Any]],
    ready: Callable[[], bool],
) -> Server:
    """The server; run it with `serve(sockets=[bind(…)])`."""

    async def show_metrics(_request: Request) -> Response:
        text = await asyncio.to_thread(metrics)
        return Response(text, headers={"content-type": content_type})

    async def healthz(_request: Request) -> Response:  # ruff: ignore[unused-async]  # on the loop
        return PlainTextResponse("ok\n")

    async def readyz(_request: Request) -> Response:  # ruff: ignore[unused-async]  # on the loop
        return JSONResponse(dict(report()), status_code=200 if ready() else 503)

    application = Starlette(
        routes=[
            Route("/metrics", show_metrics),
            Route("/healthz", healthz),
            Route("/readyz", readyz),
        ]
    )
    config = uvicorn.Config(
        application,
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
        ws="none",
    )
    return Server(config)
