"""The HTTP port's address: taken long before there is anything to answer with."""

import socket
from contextlib import ExitStack

from controller.core.problem import Refused


def address_of(listening: socket.socket, asked: str) -> str:
    """Where a socket of `bind` listens: the host as it was asked for, with the port it got."""
    host, _, _ = asked.rpartition(":")
    return f"{host}:{listening.getsockname()[1]}"


def bind(address: str) -> socket.socket:
    """A listening socket, on a port that is free for port 0; `Refused` says why there is none."""
    host, _, port = address.rpartition(":")
    try:
        listening = _bound(host.strip("[]"), int(port))
    except (OSError, UnicodeError) as error:  # the latter: a host that no name can be
        why = (error.strerror if isinstance(error, OSError) else error.__cause__) or error
        raise Refused(
            f"cannot listen on {address}: {why}",
            reason="address",
            hint="choose another one with --http-address, or stop what uses it",
        ) from None
    listening.setblocking(False)  # ruff: ignore[boolean-positional-value-in-call]  # its signature
    return listening


def _bound(host: str, port: int) -> socket.socket:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    family, kind, protocol, _, where = found[0]
    with ExitStack() as unless_bound:
        listening = unless_bound.enter_context(socket.socket(family, kind, protocol))
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(where)
        unless_bound.pop_all()
    return listening
