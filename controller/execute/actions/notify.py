"""`notify`: tell people — by a webhook, Slack, or e-mail; by at least one of them."""

import asyncio
import smtplib
from email.message import EmailMessage
from typing import Any

from controller.execute.action import BUILT_IN, ActionFailed, Call, Result
from controller.execute.actions.http import Http
from controller.execute.scripts import Scripts

SECONDS = 30


class Notify:
    """See `BUILT_IN["notify"]`."""

    signature = BUILT_IN["notify"]

    def __init__(self) -> None:
        self._http = Http()

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
            lines = [f"*{title}*", message, *(f"{name}: {each}" for name, each in fields.items())]
            await self._post(call, slack, {"text": "\n".join(lines)})
        if email:
            await asyncio.to_thread(_mail, email, title, message, fields)
        return {}

    async def close(self) -> None:
        """Close what is kept open between calls."""
        await self._http.close()

    async def _post(self, call: Call, url: str, said: dict[str, Any]) -> None:
        await self._http.perform(call, {"url": url, "method": "POST", "json": said})


def _mail(email: dict[str, Any], title: str, message: str, fields: dict[str, Any]) -> None:
    """`email`: {host, port, from, to, username, password, tls}."""
    letter = EmailMessage()
    try:
        letter["Subject"], letter["From"] = title, email["from"]
        to = email["to"]
        letter["To"] = ", ".join(to) if isinstance(to, list) else to
        host = email["host"]
    except KeyError as error:
        raise ActionFailed("invalid_inputs", f"`email` has no {error}") from None
    details = "\n".join(f"{name}: {value}" for name, value in fields.items())
    letter.set_content(f"{message}\n\n{details}" if details else message)
    try:
        with smtplib.SMTP(host, int(email.get("port") or 25), timeout=SECONDS) as server:
            if email.get("tls"):
                server.starttls()
            if email.get("username"):
                server.login(email["username"], email.get("password") or "")
            server.send_message(letter)
    except (OSError, smtplib.SMTPException) as error:
        raise ActionFailed("connection", f"{host}: {error}") from None


def build(_scripts: Scripts) -> Notify:
    """The action."""
    return Notify()
