"""`notify` against real servers."""

import asyncio
from typing import Any

import pytest

from tests.actions.mail import receiving
from tests.actions.server import Server, client
from tests.actions.stage import Stage
from tests.eventually import eventually


async def test_notify_posts_to_a_webhook_and_to_slack(stage: Stage, server: Server) -> None:
    """A webhook gets everything as JSON; Slack gets text."""
    async with client(stage):
        await stage.outputs(
            "notify",
            message="Disk is full",
            title="Alarm",
            fields={"host": "a", "free": 0.5},
            webhook=f"{server.url}/hook",
            slack=f"{server.url}/slack",
        )
    hook, slack = server.received
    assert hook.json == {
        "title": "Alarm",
        "message": "Disk is full",
        "fields": {"host": "a", "free": 0.5},
        "key": "x1/a/1",
    }
    assert slack.json == {"text": "*Alarm*\nDisk is full\nhost: a\nfree: 0.5"}


async def test_no_letter_is_sent_without_a_lease(stage: Stage) -> None:
    """It ran out while the mail server was looked for."""
    with receiving() as post:
        email = {"host": "127.0.0.1", "port": post.port, "from": "w@x.example", "to": "a@x.example"}
        async with client(stage):
            waiting = await stage.lapsed("notify", message="x", email=email)
            assert post.letters == []
            stage.lease.renew()
            await waiting
    assert len(post.letters) == 1


async def test_no_letter_is_sent_that_was_cancelled(stage: Stage) -> None:
    """Its mail server took its time to greet."""
    with receiving() as post:
        post.greets.clear()
        email = {"host": "127.0.0.1", "port": post.port, "from": "w@x.example", "to": "a@x.example"}
        async with client(stage):
            running = asyncio.ensure_future(stage.perform("notify", message="x", email=email))
            await eventually(lambda: post.clients, "the server is asked")
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            post.greets.set()
            await eventually(lambda: post.left, "the client has left")
    assert post.letters == []


async def test_whom_the_server_refuses_is_told(stage: Stage) -> None:
    """The others get their letter; it is not sent again to them for the sake of one."""
    with receiving() as post:
        email = {
            "host": "127.0.0.1",
            "port": post.port,
            "from": "w@x.example",
            "to": ["a@x.example", "nobody@x.example"],
        }
        async with client(stage):
            await stage.outputs("notify", message="x", email=email)
            email["to"] = "nobody@x.example"
            error = await stage.failure("notify", message="x", email=email)
    assert [letter.to for letter in post.letters] == [["a@x.example"]]
    said = "nobody@x.example does not get the letter: 550 there is no nobody"
    assert stage.lines == [("warn", said)]
    assert error.type == "connection"


async def test_notify_that_reaches_nobody_has_failed(stage: Stage, server: Server) -> None:
    """A refusal of the other end is the step's failure, and so is having nowhere to send it."""
    async with client(stage):
        assert (await stage.failure("notify", message="x")).type == "invalid_inputs"
        error = await stage.failure("notify", message="x", webhook=f"{server.url}/down")
        assert (error.type, error.message) == ("status", "503 Service Unavailable")


async def test_notify_sends_mail(stage: Stage) -> None:
    """A letter with subject, addresses, text and fields arrives; no line ends in its headers."""
    with receiving() as post:
        email = {
            "host": "127.0.0.1",
            "port": post.port,
            "from": "w@x.example",
            "to": ["a@x.example", "b@x.example"],
        }
        async with client(stage):
            await stage.outputs(
                "notify",
                message="Größe\n.\nend",
                title="Two\r\nBcc: evil@x.example",
                fields={"n": 1},
                email=email,
            )
    [letter] = post.letters
    assert letter.sender == "w@x.example"
    assert letter.to == ["a@x.example", "b@x.example"]
    assert letter.message["Subject"] == "Two Bcc: evil@x.example"
    assert letter.message["Bcc"] is None
    assert letter.message.get_content().replace("\r\n", "\n") == "Größe\n.\nend\n\nn: 1\n"


@pytest.mark.parametrize(
    ("email", "kind"),
    [
        ({"host": "127.0.0.1", "from": "a@x.example"}, "invalid_inputs"),
        (
            {"host": "127.0.0.1", "port": 1, "from": "a@x.example", "to": "b@x.example"},
            "connection",
        ),
        (
            {"host": "127.0.0.1", "port": "x", "from": "a@x.example", "to": "b@x.example"},
            "invalid_inputs",
        ),
        (
            {"host": "127.0.0.1", "port": 1, "from": "a@x.example\r\nBcc: e@x.example", "to": "b"},
            "invalid_inputs",
        ),
    ],
)
async def test_mail_that_cannot_be_sent_is_a_failure(
    stage: Stage, email: dict[str, Any], kind: str
) -> None:
    """What is missing or wrong is named, an absent server is of type `connection`."""
    async with client(stage):
        assert (await stage.failure("notify", message="x", email=email)).type == kind
