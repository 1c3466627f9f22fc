"""A forge says that somebody pushed: whether it is who it says, and what was pushed. Pure.

GitHub signs with HMAC-SHA256 in `X-Hub-Signature-256`; Gitea and Forgejo in a header of their own,
without a prefix; GitLab sends the secret itself in `X-Gitlab-Token`.
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json

from controller.core.problem import Refused

_SIGNED = {
    "x-hub-signature-256": "github",
    "x-gitea-signature": "gitea",
    "x-forgejo-signature": "gitea",
}
_EVENTS = ("x-github-event", "x-gitlab-event", "x-gitea-event", "x-forgejo-event")


@dataclass(frozen=True, slots=True)
class Push:
    """What a forge says happened.

    Attributes:
        event: As the forge calls it.
        ref: What was pushed, such as `refs/heads/main`; None: it does not say.
        after: The commit it names now; None: it does not say, or the reference is gone.
    """

    forge: str
    event: str
    ref: str | None = None
    after: str | None = None


def received(headers: Mapping[str, str], body: bytes, secret: str | None) -> Push:
    """What a signed request says.

    Args:
        headers: By name in lower case.
        body: The request's.
        secret: What it must be signed with; None: nothing is.

    Raises:
        Refused: It is not signed with the secret, or is not JSON.
    """
    forge = _forge(headers, body, secret or "")
    if forge is None:
        hint = "give the forge the secret that `webhook_secret` names"
        raise Refused(
            "the push is not signed with the source's secret", reason="signature", hint=hint
        )
    try:
        said = from_json(body or b"null")
    except ValueError as error:
        raise Refused(f"the request is not JSON: {error}", reason="not-json") from None
    event = next((headers[name] for name in _EVENTS if name in headers), "push")
    fields: Mapping[str, Any] = said if isinstance(said, dict) else {}
    after = _text(fields.get("after"))
    gone = after is not None and not after.strip("0")
    return Push(forge, event, _text(fields.get("ref")), None if gone else after)


def concerns(push: Push, followed: str | None) -> bool:
    """Whether a source that follows a branch has to look; any other source looks in any case."""
    return push.ref is None or followed is None or push.ref == f"refs/heads/{followed}"


def _forge(headers: Mapping[str, str], body: bytes, secret: str) -> str | None:
    """Who signed it with the secret; an empty secret signs nothing."""
    if not secret:
        return None
    due = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    for name, forge in _SIGNED.items():
        given = headers.get(name, "").removeprefix("sha256=")
        if hmac.compare_digest(given.encode("utf-8", "replace"), due.encode()):
            return forge
    token = headers.get("x-gitlab-token", "")
    if hmac.compare_digest(token.encode("utf-8", "replace"), secret.encode()):
        return "gitlab"
    return None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
