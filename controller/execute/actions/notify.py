"""`notify`: tell people — by a webhook, Slack, or e-mail; by at least one of them."""

import asyncio
import smtplib
import ssl
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from email.message import EmailMessage
from functools import partial
from typing import Any

from controller.core.expression import to_text
from controller.execute.action import BUILT_IN, ActionFailed, Call, NotNow, Result, under
from controller.execute.actions.http import Http
from controller.execute.scripts import Scripts

SECONDS = 30
"""Patience with a mail server."""

SMTP = 25
IMPLICIT_TLS = 465

THREADS = 8
"""Mails on their way at once."""

Refusals = dict[str, tuple[int, bytes]]
"""Addresses that a server takes no letter for, and what it says of each."""


class Notify:
    """See `BUILT_IN["notify"]`."""

    signature = BUILT_IN["notify"]

    def __init__(self) -> None:
        self._http = Http()
        self._threads = ThreadPoolExecutor(THREADS, "mail")

    async def perform(self, call: Call, inputs: dict[str, Any]) -> Result:
        """Send the message everywhere it is to go."""
        title = inputs.get("title") or call.workflow
        message = inputs["message"]
        fields = inputs.get("fields") or {}
        webhook, slack, email = (inputs.get(name) for name in ("webhook", "slack", "email"))
        if not (webhook or slack or email):
            raise ActionFailed("invalid_inputs", "give `webhook`, `slack` or `email`")
        if webhook:
            said = {"title": title, "message": message, "fields": fields, "key": call.key}
            await self._post(call, webhook, said)
        if slack:
            text = "\n".join([f"*{title}*", message, *_lines(fields)])
            await self._post(call, slack, {"text": text})
        if email:
            await self._mail(call, partial(_mail, email, title, message, fields))
        return {}

    async def close(self) -> None:
        """Close what is kept open between calls."""
        await self._http.close()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._threads = ThreadPoolExecutor(THREADS, "mail")

    async def _mail(self, call: Call, mail: Callable[[Callable[[], bool]], Refusals]) -> None:
        """Send a letter, unless it is cancelled before; say who does not get it."""
        gone = threading.Event()
        mail_if = partial(mail, lambda: call.lease.holds and not gone.is_set())
        run = asyncio.get_running_loop().run_in_executor
        try:
            refused = await under(call.lease, lambda: run(self._threads, mail_if))
        finally:
            gone.set()
        for address, (code, said) in refused.items():
            why = said.decode(errors="replace")
            call.log("warn", f"{address} does not get the letter: {code} {why}", None)

    async def _post(self, call: Call, url: str, said: dict[str, Any]) -> None:
        await self._http.perform(call, {"url": url, "method": "POST", "json": said})


def _mail(
    email: dict[str, Any],
    title: str,
    message: str,
    fields: dict[str, Any],
    may: Callable[[], bool],
) -> Refusals:
    """`email`: {host, port, from, to, username, password, tls}; port 465 is TLS from the start.

    Sent if it `may` be by then, to all but those whom the server refuses.
    """
    missing = [name for name in ("host", "from", "to") if not email.get(name)]
    if missing:
        raise ActionFailed("invalid_inputs", f"`email` has no {', '.join(missing)}")
    try:
        host, port = str(email["host"]), int(email.get("port") or SMTP)
        letter = _letter(email, title, message, fields)
    except (ValueError, TypeError) as error:
        raise ActionFailed("invalid_inputs", f"`email`: {error}") from None
    secure = ssl.create_default_context()
    try:
        with _server(host, port, secure) as server:
            _introduce(server, email, secure)
            if not may():
                raise NotNow
            return server.send_message(letter)
    except ssl.SSLError as error:
        raise ActionFailed("tls", f"{host}: {error}") from None
    except (OSError, smtplib.SMTPException) as error:
        raise ActionFailed("connection", f"{host}: {error}") from None


def _server(host: str, port: int, secure: ssl.SSLContext) -> smtplib.SMTP:
    if port == IMPLICIT_TLS:
        return smtplib.SMTP_SSL(host, port, timeout=SECONDS, context=secure)
    return smtplib.SMTP(host, port, timeout=SECONDS)


def _introduce(server: smtplib.SMTP, email: dict[str, Any], secure: ssl.SSLContext) -> None:
    if email.get("tls") and not isinstance(server, smtplib.SMTP_SSL):
        server.starttls(context=secure)
    if email.get("username"):
        server.login(email["username"], email.get("password") or "")


def _letter(
    email: dict[str, Any], title: str, message: str, fields: dict[str, Any]
) -> EmailMessage:
    to = email["to"] if isinstance(email["to"], list) else [email["to"]]
    details = "\n".join(_lines(fields))
    letter = EmailMessage()
    letter["Subject"] = " ".join(title.split())
    letter["From"] = str(email["from"])
    letter["To"] = ", ".join(map(str, to))
    letter.set_content(f"{message}\n\n{details}" if details else message)
    return letter


def _lines(fields: dict[str, Any]) -> list[str]:
    return [f"{name}: {to_text(value)}" for name, value in fields.items()]


def build(_scripts: Scripts) -> Notify:
    """The action."""
    return Notify()
