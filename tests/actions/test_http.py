"""`http` against a real server."""

import asyncio
import socket
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.execute.action import ActionFailed
from controller.execute.actions import http
from controller.execute.actions.http import is_expected
from tests.actions.server import Server, client
from tests.actions.stage import Lease, Stage
from tests.eventually import eventually


async def get(stage: Stage, url: str, **inputs: Any) -> dict[str, Any]:
    """The outputs of a request."""
    async with client(stage):
        return await stage.outputs("http", url=url, **inputs)


async def refused(stage: Stage, url: str, **inputs: Any) -> ActionFailed:
    """How a request fails."""
    async with client(stage):
        return await stage.failure("http", url=url, **inputs)


@pytest.mark.usefixtures("loop_kind")
async def test_an_answer_of_json_is_parsed(stage: Stage, server: Server) -> None:
    """`json` is the value, `body` is null, and headers have lower-case names."""
    answer = await get(stage, f"{server.url}/json")
    assert answer["status"] == 200
    assert answer["json"] == {"ok": [1, 2.5, None, "é"]}
    assert answer["body"] is None
    assert answer["headers"]["content-type"] == "application/json"


@pytest.mark.parametrize("status", [b"200 OK", b"500 caf\xe9"])
async def test_a_head_may_hold_any_bytes(stage: Stage, status: bytes) -> None:
    """Those that are no UTF-8 are replaced; the request went well, or failed for what it failed."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = b"HTTP/1.1 %s\r\nX-Name: caf\xe9\r\nX-Name: \xc3\xa9\r\nContent-Length: 2\r\n\r\nok"
        writer.write(head % status)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        if status.startswith(b"200"):
            outputs = await get(stage, url)
        else:
            failure = await refused(stage, url)
            outputs = failure.outputs
            assert (failure.type, failure.message) == ("status", "500 caf\ufffd")
    assert (outputs["headers"]["x-name"], outputs["body"]) == ("caf\ufffd, é", "ok")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/text", "café"),
        ("/odd", "qaplaé"),
        ("/escapes", "?"),
        ("/broken", '{"ok": '),
        ("/binary", "\N{REPLACEMENT CHARACTER}\0"),
        ("/none", ""),
    ],
)
async def test_any_other_answer_is_text(stage: Stage, server: Server, path: str, body: str) -> None:
    """In the encoding it names, whatever cannot be read replaced."""
    answer = await get(stage, f"{server.url}{path}")
    assert (answer["json"], answer["body"]) == (None, body)


async def test_an_answer_keeps_nobody_waiting_for_its_encoding(
    stage: Stage, server: Server
) -> None:
    """Of punycode a megabyte would take the controller a minute."""
    before = time.monotonic()
    answer = await get(stage, f"{server.url}/punycode")
    assert len(answer["body"]) == 1_000_002
    assert time.monotonic() - before < 5


async def test_a_request_is_sent_as_it_is_given(stage: Stage, server: Server) -> None:
    """Method, headers and body arrive, with the attempt's key so that a repetition can be told."""
    headers = {"X-Number": 3, "Authorization": "Bearer t"}
    await get(stage, f"{server.url}/a?b=c", method="post", headers=headers, json={"é": [1]})
    await get(stage, f"{server.url}/", method="PUT", body="plain é")
    posted, put = server.received
    assert (posted.method, posted.path, posted.json) == ("POST", "/a?b=c", {"é": [1]})
    assert posted.headers["x-number"] == "3"
    assert posted.headers["authorization"] == "Bearer t"
    assert posted.headers["idempotency-key"] == "x1/a/1"
    assert (put.method, put.body.decode()) == ("PUT", "plain é")
    assert put.headers["content-type"].startswith("text/plain")


async def test_an_author_may_have_a_key_of_their_own(stage: Stage, server: Server) -> None:
    """Whatever the case of the header's name, there is one."""
    await get(stage, f"{server.url}/", headers={"idempotency-key": "mine"})
    assert server.received[0].headers["idempotency-key"] == "mine"


async def test_headers_that_come_twice_are_joined(stage: Stage, server: Server) -> None:
    """No value is lost."""
    answer = await get(stage, f"{server.url}/cookies")
    assert answer["headers"]["set-cookie"] == "a=1, b=2"


async def test_cookies_of_one_step_are_not_those_of_another(stage: Stage, server: Server) -> None:
    """Nothing of an answer goes into another request."""
    async with client(stage):
        await stage.outputs("http", url=f"{server.url}/cookies")
        await stage.outputs("http", url=f"{server.url}/")
    assert "cookie" not in server.received[1].headers


async def test_an_unexpected_status_is_a_failure_with_the_answer(
    stage: Stage, server: Server
) -> None:
    """Type `status`; what came is in the outputs all the same."""
    error = await refused(stage, f"{server.url}/problem")
    assert (error.type, error.message) == ("status", "400 Bad Request")
    assert error.outputs["status"] == 400
    assert error.outputs["json"] == {"title": "no"}


@pytest.mark.parametrize("expected", [404, "404", "4xx", "4XX", [200, 404], ["2xx", "4xx"]])
async def test_what_is_expected_is_no_failure(
    stage: Stage, server: Server, expected: object
) -> None:
    """A number, a class, or a list of them."""
    answer = await get(stage, f"{server.url}/missing", expect_status=expected)
    assert (answer["status"], answer["body"]) == (404, "nothing here")


@given(status=st.integers(100, 599))
def test_two_hundreds_are_expected_by_default(status: int) -> None:
    """200 to 299, and nothing else."""
    assert is_expected(status, None) == (200 <= status <= 299)
    assert is_expected(status, status)
    assert is_expected(status, f"{status // 100}xx")
    assert not is_expected(status, [])
    assert not is_expected(status, "xx")


async def test_a_redirect_is_followed_but_not_in_circles(stage: Stage, server: Server) -> None:
    """Five at most."""
    assert (await get(stage, f"{server.url}/moved"))["json"] is not None
    error = await refused(stage, f"{server.url}/circle")
    assert (error.type, error.message) == ("connection", "more than 5 redirects")


@pytest.mark.usefixtures("loop_kind")
async def test_nothing_is_requested_without_a_lease(stage: Stage, server: Server) -> None:
    """It ran out while the server was connected to; renewed, the request is made once."""
    async with client(stage):
        waiting = await stage.lapsed("http", url=f"{server.url}/json", method="POST", json=1)
        assert server.received == []
        stage.lease.renew()
        await waiting
    assert [each.body for each in server.received] == [b"1"]


@pytest.mark.usefixtures("loop_kind")
async def test_who_waits_for_a_lease_can_be_cancelled(stage: Stage, server: Server) -> None:
    """No connection stays open, and the next request works."""
    async with client(stage):
        waiting = await stage.lapsed("http", url=f"{server.url}/json")
        waiting.cancel()
        await asyncio.wait((waiting,))
        assert waiting.cancelled()
        stage.lease = Lease()
        await stage.outputs("http", url=f"{server.url}/text")
    assert [each.path for each in server.received] == ["/text"]


async def test_what_follows_from_a_request_asks_for_no_lease(stage: Stage, server: Server) -> None:
    """A redirect of what was sent is followed: the whole would be sent twice."""

    class Once(Lease):
        answers = iter([True])

        @property
        def holds(self) -> bool:
            return next(self.answers, False)

        @holds.setter
        def holds(self, _: bool) -> None:
            pass

    stage.lease = Once()
    await get(stage, f"{server.url}/moved", method="POST", json=1)
    assert [each.path for each in server.received] == ["/moved", "/json"]


async def test_an_answer_that_does_not_come_is_a_timeout(stage: Stage, server: Server) -> None:
    """Type `timeout`, after the time the author gave it."""
    error = await refused(stage, f"{server.url}/slow", timeout="50ms")
    assert (error.type, error.message) == ("timeout", "no answer within 0.05 s")


async def test_no_request_waits_for_another(stage: Stage) -> None:
    """All that may be performed at once are: who waited for its turn would be a timeout."""
    many = 150
    arrived = 0
    all_there = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal arrived
        await reader.readuntil(b"\r\n\r\n")
        arrived += 1
        if arrived == many:
            all_there.set()
        await all_there.wait()
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0, backlog=many) as there:
        url = f"http://127.0.0.1:{there.sockets[0].getsockname()[1]}"
        async with client(stage):
            requests = (stage.outputs("http", url=url, timeout="10s") for _ in range(many))
            answers = await asyncio.gather(*requests)
    assert [each["status"] for each in answers] == [204] * many


async def test_no_timeout_is_the_usual_one(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """`0s` is none, as `0` is, and not an endless one."""
    monkeypatch.setattr(http, "TIMEOUT", 50)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"http://127.0.0.1:{mute.getsockname()[1]}"
        assert (await refused(stage, url, timeout="0s")).type == "timeout"


async def test_a_request_can_be_cancelled(stage: Stage, server: Server) -> None:
    """A cancellation goes through, and the next request works."""
    async with client(stage):
        running = asyncio.ensure_future(stage.perform("http", url=f"{server.url}/slow"))
        await eventually(lambda: server.received, "the request has arrived")
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert (await stage.outputs("http", url=f"{server.url}/json"))["status"] == 200


async def test_nobody_there_is_a_failed_connection(stage: Stage) -> None:
    """A refused connection, an unknown name and a cut one are of type `connection`."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    assert (await refused(stage, f"http://127.0.0.1:{port}/")).type == "connection"
    assert (await refused(stage, "http://name.invalid/")).type == "connection"


async def test_a_cut_connection_is_a_failure(stage: Stage, server: Server) -> None:
    """An answer that ends before it begins is of type `connection`."""
    assert (await refused(stage, f"{server.url}/cut", method="POST")).type == "connection"


async def test_a_large_answer_is_refused(stage: Stage, server: Server) -> None:
    """Bodies above 4 MiB are not read to the end."""
    assert (await refused(stage, f"{server.url}/large")).type == "too_large"


async def test_no_tls_is_a_failure_of_its_own_type(stage: Stage, server: Server) -> None:
    """A server that does not speak TLS, asked for it, is of type `tls`."""
    error = await refused(stage, server.url.replace("http:", "https:"))
    assert error.type in {"tls", "connection"}


@pytest.mark.parametrize(
    "inputs",
    [
        {"url": "nowhere"},
        {"url": "ftp://127.0.0.1/"},
        {"url": "http://127.0.0.1:99999/"},
        {"url": "http://127.0.0.1/", "json": 1, "body": "x"},
        {"url": "http://127.0.0.1/", "method": "GET / HTTP/1.1\r\nEvil: 1"},
        {"url": "http://127.0.0.1/", "timeout": "soon"},
    ],
)
async def test_what_is_no_request_is_refused(stage: Stage, inputs: dict[str, Any]) -> None:
    """It fails as `invalid_inputs`, before anything is sent."""
    assert (await refused(stage, **inputs)).type == "invalid_inputs"


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("//?token=a b", "http:///?token=a b is no URL of http or https"),
        ("/elsewhere?a b", "{url}/elsewhere?a b leads to no URL of http or https"),
        ("/no-http?a b", "Bad status line"),
    ],
)
async def test_a_failure_tells_the_url_as_it_is_given(
    stage: Stage, server: Server, path: str, says: str
) -> None:
    """A secret in it would not be found, and masked, in what it is for HTTP."""
    url = f"{server.url}{path}" if path[1] != "/" else f"http:/{path}"
    error = await refused(stage, url)
    assert says.format(url=server.url) in error.message
    assert "a%20b" not in error.message
    assert "a+b" not in error.message


async def test_no_header_hides_in_another(stage: Stage, server: Server) -> None:
    """A value with a line end is refused, and nothing is sent."""
    error = await refused(stage, f"{server.url}/", headers={"X": "a\r\nEvil: 1"})
    assert error.type == "invalid_inputs"
    assert server.received == []
