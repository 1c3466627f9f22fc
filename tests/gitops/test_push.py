"""A forge's push: only one that is signed is heard, whoever the forge is."""

import asyncio
import hashlib
import hmac
import json
import socket
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, suppress
from itertools import repeat
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.problem import Refused
from controller.web.address import bind
from controller.web.push import Push, concerns, received
from controller.web.server import LARGEST_BODY, LARGEST_PUSH, Handlers, server
from tests.eventually import eventually

SECRET = "a long random text"  # ruff: ignore[hardcoded-password-string]  # of these tests
BODY = json.dumps({"ref": "refs/heads/main", "after": "a" * 40}).encode()


def _hmac(body: bytes, secret: str = SECRET) -> str:
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def _headers(forge: str, body: bytes = BODY) -> dict[str, str]:
    return {
        "github": {
            "x-github-event": "push",
            "x-hub-signature-256": f"sha256={_hmac(body)}",
        },
        "gitlab": {"x-gitlab-event": "Push Hook", "x-gitlab-token": SECRET},
        "gitea": {"x-gitea-event": "push", "x-gitea-signature": _hmac(body)},
        "forgejo": {"x-forgejo-event": "push", "x-forgejo-signature": _hmac(body)},
    }[forge]


@pytest.mark.parametrize(
    ("forge", "event"),
    [("github", "push"), ("gitlab", "Push Hook"), ("gitea", "push"), ("forgejo", "push")],
)
def test_each_forges_signature_is_known(forge: str, event: str) -> None:
    """What was pushed is read once the signature holds."""
    push = received(_headers(forge), BODY, SECRET)
    assert (push.event, push.ref, push.after) == (event, "refs/heads/main", "a" * 40)


@pytest.mark.parametrize("forge", ["github", "gitlab", "gitea", "forgejo"])
@pytest.mark.parametrize("secret", [None, "", "another"])
def test_without_the_secret_nothing_is_heard(forge: str, secret: str | None) -> None:
    """A wrong secret, an empty one, or none: refused."""
    with pytest.raises(Refused) as refusal:
        received(_headers(forge), BODY, secret)
    assert refusal.value.reason == "signature"


def test_an_empty_secret_signs_nothing() -> None:
    """A body signed with the empty text is not signed, nor is a token that is empty."""
    for headers in ({"x-gitlab-token": ""}, {"x-gitea-signature": _hmac(BODY, "")}, {}):
        with pytest.raises(Refused):
            received(headers, BODY, "")


@given(st.integers(0, len(BODY) * 8 - 1), st.sampled_from(["github", "gitea", "forgejo"]))
def test_one_bit_more_or_less_is_not_signed(bit: int, forge: str) -> None:
    """A changed body never verifies."""
    changed = bytearray(BODY)
    changed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(Refused):
        received(_headers(forge), bytes(changed), SECRET)


@given(st.text(max_size=80))
def test_no_header_makes_it_raise(value: str) -> None:
    """Whatever a header says, the answer is a refusal."""
    names = ("x-hub-signature-256", "x-gitlab-token", "x-gitea-signature")
    with pytest.raises(Refused):
        received(dict.fromkeys(names, value), BODY, SECRET)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"zen": "Keep it logically awesome."}, Push("github", "push")),
        ([1], Push("github", "push")),
        ({"ref": 7}, Push("github", "push")),
        ({"ref": "refs/heads/x", "after": "0" * 40}, Push("github", "push", "refs/heads/x")),
    ],
)
def test_other_events_and_deleted_branches_are_read(said: Any, expected: Push) -> None:
    """What a request does not say is None; a reference that is gone names no commit."""
    body = json.dumps(said).encode()
    assert received(_headers("github", body), body, SECRET) == expected


def test_what_is_not_json_is_refused() -> None:
    """Though it is signed."""
    with pytest.raises(Refused) as refusal:
        received(_headers("github", b"{"), b"{", SECRET)
    assert refusal.value.reason == "not-json"


def test_a_push_elsewhere_does_not_concern_a_source() -> None:
    """A source that follows a branch need not look for another; any other looks."""
    push = Push("github", "push", "refs/heads/next")
    assert [concerns(push, followed) for followed in ("next", "main", None)] == [True, False, True]


PART = b"10000\r\n" + bytes(0x10000) + b"\r\n"
"""64 KiB of a chunked body."""

BUFFERED = 16_777_216
"""Bytes that may be under way between two sockets of one machine."""


@asynccontextmanager
async def _listening(heard: list[bytes]) -> AsyncGenerator[tuple[str, int]]:
    """The HTTP port, with a source that notes what it hears; its address."""

    def pushed(_source: str, _headers: object, body: bytes) -> dict[str, Any]:
        heard.append(body)
        return {}

    async def hook(_workflow: str, body: bytes, **_more: object) -> Any:  # ruff: ignore[unused-async]  # as the service's
        heard.append(body)
        raise Refused("there is no such workflow", reason="not-found")

    async def sources(_name: str | None) -> Any:  # ruff: ignore[unused-async]  # as the service's
        return []

    with bind("127.0.0.1:0") as taken:
        web = server(Handlers(bytes, "text/plain", dict, hook, pushed, sources))
        serving = asyncio.create_task(web.serve(sockets=[taken]))
        try:
            await eventually(lambda: web.started, "it listens")
            yield taken.getsockname()
        finally:
            web.leave()
            await serving


def _post(address: tuple[str, int], path: str, how: str, parts: Iterator[bytes]) -> tuple[int, str]:
    """Send until there are no more parts or nobody takes them; bytes sent, and the answer."""
    sent, answer = 0, b""
    with socket.create_connection(address, 10) as client:
        with suppress(ConnectionError):
            client.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\n{how}\r\n\r\n".encode())
            for part in parts:
                client.sendall(part)
                sent += len(part)
        with suppress(ConnectionError):
            answer = client.recv(65536)
    return sent, answer.decode()


@pytest.mark.parametrize(
    ("path", "largest"), [("/push/team", LARGEST_PUSH), ("/hooks/flow", LARGEST_BODY)]
)
async def test_a_body_over_the_bound_is_not_taken(path: str, largest: int) -> None:
    """From anybody: refused unread where its length is announced, else cut off at the bound."""
    heard: list[bytes] = []
    async with _listening(heard) as address:
        announced = f"Content-Length: {largest + 1}"
        _, said = await asyncio.to_thread(_post, address, path, announced, iter(()))
        assert said.startswith("HTTP/1.1 413 "), said
        endless = repeat(PART, 10 * LARGEST_PUSH // len(PART))
        chunked = "Transfer-Encoding: chunked"
        sent, said = await asyncio.to_thread(_post, address, path, chunked, endless)
        assert sent < largest + BUFFERED
        assert not said or said.startswith("HTTP/1.1 413 "), said
        assert heard == []


async def test_a_body_at_the_bound_is_taken_whole() -> None:
    """In parts or at once."""
    heard: list[bytes] = []
    async with _listening(heard) as address:
        whole = f"Content-Length: {LARGEST_BODY}"
        body = bytes(LARGEST_BODY)
        _, said = await asyncio.to_thread(_post, address, "/hooks/flow", whole, iter([body]))
        assert said.startswith("HTTP/1.1 404 "), said
        parts = iter([*repeat(PART, LARGEST_BODY // 0x10000), b"0\r\n\r\n"])
        chunked = "Transfer-Encoding: chunked"
        _, said = await asyncio.to_thread(_post, address, "/push/team", chunked, parts)
        assert said.startswith("HTTP/1.1 202 "), said
        assert heard == [body, body]


async def test_whoever_leaves_in_the_middle_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is heard, and nothing is logged that anybody could fill a disk with."""
    heard: list[bytes] = []
    async with _listening(heard) as address:
        client = await asyncio.to_thread(socket.create_connection, address, 10)
        with client:
            client.sendall(b"POST /push/team HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc")
            client.shutdown(socket.SHUT_WR)
            assert await asyncio.to_thread(client.recv, 65536) == b""
    assert heard == []
    assert caplog.records == []
