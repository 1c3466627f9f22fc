"""Ranges of versions: which of a repository's tags is the newest that a source may go to.

Versions and their order are SemVer 2.0.0 (semver.org, 10 and 11), a leading `v` left out. A range
is written as in npm and Cargo: comparisons (`>=1.2 <2`), `^1.2`, `~1.2`, `1.x`, `1.2 - 2.0`, all of
which must hold, and `||` between alternatives. A pre-release is chosen only by a range that names
one.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import total_ordering

Numbers = tuple[int, int, int]

_VERSION = re.compile(
    r"v?(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})"
    r"(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+[0-9A-Za-z.-]+)?"
)
_PARTIAL = re.compile(
    r"(?P<sign>>=|<=|>|<|=|\^|~)?\s*v?(?P<major>\d{1,9}|[xX*])"
    r"(?:\.(?P<minor>\d{1,9}|[xX*]))?(?:\.(?P<patch>\d{1,9}|[xX*]))?(?:-(?P<pre>[0-9A-Za-z.-]+))?"
)
_BETWEEN = re.compile(r"(\S+)\s+-\s+(\S+)")


@total_ordering
@dataclass(frozen=True, slots=True)
class Version:
    """A version. `pre` are the identifiers of a pre-release, empty for a release."""

    numbers: Numbers
    pre: tuple[str, ...] = ()

    def __lt__(self, other: "Version") -> bool:
        return self._order() < other._order()

    def _order(self) -> tuple[Numbers, bool, list[tuple[bool, int, str]]]:
        """Numeric identifiers are below others, a pre-release is below its release (11.3, 11.4)."""
        pre = [(False, int(each), "") if each.isdigit() else (True, 0, each) for each in self.pre]
        return self.numbers, not self.pre, pre


def version_of(text: str) -> Version | None:
    """The version a tag names; None: it names none."""
    found = _VERSION.fullmatch(text)
    if found is None:
        return None
    pre = tuple(found[4].split(".")) if found[4] else ()
    return Version((int(found[1]), int(found[2]), int(found[3])), pre)


@dataclass(frozen=True, slots=True)
class _Bound:
    """Versions from `low` up to `high`, which is left out; None: no bound there."""

    low: Version
    high: Version | None
    above: bool = False  # `low` itself is left out
    upto: bool = False  # `high` itself is in

    def holds(self, version: Version) -> bool:
        if version < self.low or (self.above and version == self.low):
            return False
        if self.high is None:
            return True
        return version < self.high or (self.upto and version == self.high)


@dataclass(frozen=True, slots=True)
class Range:
    """Which versions a source may go to. Made by `range_of`."""

    alternatives: tuple[tuple[_Bound, ...], ...]
    named: frozenset[Numbers]  # releases of which the range names a pre-release

    def allows(self, version: Version) -> bool:
        """Whether the version is in the range."""
        if version.pre and version.numbers not in self.named:
            return False
        return any(all(bound.holds(version) for bound in each) for each in self.alternatives)

    def newest(self, tags: Iterable[str]) -> str | None:
        """The tag with the highest version in the range; None: no tag is in it."""
        found = [(version, tag) for tag in tags if (version := version_of(tag)) is not None]
        allowed = [each for each in found if self.allows(each[0])]
        return max(allowed)[1] if allowed else None


def range_of(text: str) -> Range | None:
    """Read a range; None: it is not one."""
    named: set[Numbers] = set()
    alternatives: list[tuple[_Bound, ...]] = []
    for part in text.split("||"):
        bounds = _bounds(part.strip(), named)
        if bounds is None:
            return None
        alternatives.append(bounds)
    return Range(tuple(alternatives), frozenset(named))


def _bounds(text: str, named: set[Numbers]) -> tuple[_Bound, ...] | None:
    if between := _BETWEEN.fullmatch(text):
        text = f">={between[1]} <={between[2]}"
    found: list[_Bound] = []
    place = 0
    while place < len(text):
        match = _PARTIAL.match(text, place)
        if match is None or (bound := _bound(match, named)) is None:
            return None
        found.append(bound)
        rest = text[match.end() :]
        if rest and not rest[0].isspace() and rest[0] != ",":
            return None
        place = len(text) - len(rest.lstrip(" \t,"))
    return tuple(found) or None


def _bound(match: re.Match[str], named: set[Numbers]) -> _Bound | None:
    """What one comparison allows; a part that is left out, or `x`, may be anything."""
    given = [match[name] for name in ("major", "minor", "patch")]
    fixed: list[int] = []
    for each in given:
        if each is None or not each.isdigit():
            break
        fixed.append(int(each))
    if any(each is not None and each.isdigit() for each in given[len(fixed) :]):
        return None
    pre = tuple(match["pre"].split(".")) if match["pre"] else ()
    full = len(fixed) == len(given)
    if pre and (not full or not all(pre)):
        return None
    low = Version(_padded(fixed), pre)
    if pre:
        named.add(low.numbers)
    return _compared(match["sign"] or "=", low, fixed)


def _compared(  # ruff: ignore[too-many-return-statements]  # one for each sign
    sign: str, low: Version, fixed: list[int]
) -> _Bound:
    floor = Version((0, 0, 0), ("0",))
    after = _after(fixed, len(fixed))
    exact = len(fixed) == len(low.numbers)
    match sign:
        case ">=":
            return _Bound(low, None)
        case ">":
            return _Bound(low, None, above=True) if exact else _Bound(after or _NOTHING, None)
        case "<":
            return _Bound(floor, low)
        case "<=":
            return _Bound(floor, low, upto=True) if exact else _Bound(floor, after)
        case "^":
            leading = next((i for i, each in enumerate(fixed) if each), len(fixed) - 1)
            return _Bound(low, _after(fixed, leading + 1))
        case "~":
            return _Bound(low, _after(fixed, min(len(fixed), 2)))
        case _:
            return _Bound(low, low, upto=True) if exact else _Bound(low, after)


_NOTHING = Version((10**9, 0, 0))
"""Above every version there can be."""


def _padded(numbers: list[int]) -> Numbers:
    major, minor, patch = (*numbers, 0, 0, 0)[:3]
    return major, minor, patch


def _after(fixed: list[int], places: int) -> Version | None:
    """The first version, pre-releases included, beyond all that begin with these numbers."""
    if places <= 0:
        return None
    numbers = [*fixed[: places - 1], fixed[places - 1] + 1]
    return Version(_padded(numbers), ("0",))
