"""A forge's push: only one that is signed is heard, whoever the forge is."""

import hashlib
import hmac
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.problem import Refused
from controller.web.push import Push, concerns, received

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
