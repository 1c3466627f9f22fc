"""Which tag a range chooses."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.semver import Version, range_of, version_of

ORDER = [
    "1.0.0-alpha",
    "1.0.0-alpha.1",
    "1.0.0-alpha.beta",
    "1.0.0-beta",
    "1.0.0-beta.2",
    "1.0.0-beta.11",
    "1.0.0-rc.1",
    "1.0.0",
    "2.0.0",
    "2.1.0",
    "2.1.1",
]


def _version(text: str) -> Version:
    found = version_of(text)
    assert found is not None, text
    return found


def test_versions_are_ordered_as_semver_says() -> None:
    """The example of semver.org, 11, in its order; build metadata and a `v` say nothing."""
    versions = [_version(each) for each in ORDER]
    assert all(one < other for one, other in pairwise(versions))
    assert _version("v1.2.3+build.5") == _version("1.2.3")


@pytest.mark.parametrize("text", ["", "1", "1.2", "01.2.3", "1.2.3-", "1.2.3.4", "vv1.2.3", "x"])
def test_a_tag_that_is_no_version_is_none(text: str) -> None:
    """What is not a version is left out, not guessed at."""
    assert version_of(text) is None


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("1.2.3", "1.2.3", "1.2.4 1.2.2"),
        ("=1.2", "1.2.0 1.2.9", "1.3.0 1.1.9"),
        ("1.x", "1.0.0 1.9.9", "2.0.0 0.9.9"),
        ("*", "0.0.0 9.9.9", "1.0.0-rc.1"),
        (">=1.2 <2", "1.2.0 1.9.9", "1.1.9 2.0.0 2.0.0-rc.1"),
        (">=1.2, <2", "1.2.0 1.9.9", "2.0.0"),
        (">1.2", "1.3.0 2.0.0", "1.2.9"),
        (">1.2.3", "1.2.4", "1.2.3"),
        ("<=1.2", "1.2.9 0.1.0", "1.3.0"),
        ("<=1.2.3", "1.2.3", "1.2.4"),
        ("^1.2.3", "1.2.3 1.9.0", "1.2.2 2.0.0"),
        ("^0.2.3", "0.2.3 0.2.9", "0.3.0"),
        ("^0.0.3", "0.0.3", "0.0.4"),
        ("~1.2.3", "1.2.3 1.2.9", "1.3.0"),
        ("~1", "1.0.0 1.9.9", "2.0.0"),
        ("1.2 - 2.0", "1.2.0 2.0.9", "2.1.0 1.1.0"),
        ("^1 || ^3", "1.5.0 3.5.0", "2.5.0"),
        (">=1.2.3-rc.1 <2", "1.2.3-rc.1 1.2.3-rc.2 1.2.3", "1.2.3-beta 1.4.0-rc.1"),
    ],
)
def test_a_range_holds_what_npm_says(text: str, inside: str, outside: str) -> None:
    """Each form of a comparison, at its edges."""
    found = range_of(text)
    assert found is not None
    assert [each for each in inside.split() if not found.allows(_version(each))] == []
    assert [each for each in outside.split() if found.allows(_version(each))] == []


@pytest.mark.parametrize(
    "text", ["", "||", "latest", ">=", "1.x.3", "1.2-rc", ">=1 and <2", "1.2.3.4"]
)
def test_what_is_no_range_is_none(text: str) -> None:
    """Settings refuse it where it stands."""
    assert range_of(text) is None


def test_the_newest_tag_in_the_range_is_chosen() -> None:
    """By version and not by text; tags that name no version are left out."""
    found = range_of("1.x")
    assert found is not None
    tags = ["v1.9.0", "v1.10.0", "v2.0.0", "nightly", "1.11.0-rc.1"]
    assert found.newest(tags) == "v1.10.0"
    assert found.newest(["v2.0.0"]) is None


@given(st.text(alphabet="0123456789.xX*^~<>=-| ,vrc+", max_size=24))
def test_no_text_makes_it_raise(text: str) -> None:
    """A range is read or refused."""
    found = range_of(text)
    if found is not None:
        found.allows(Version((1, 2, 3)))
