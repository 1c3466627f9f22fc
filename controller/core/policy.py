"""The settings that an execution is pinned to."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Policy:
    """The settings that decide how an execution goes; pinned when it is created.

    They are part of the execution, not of the daemon: a fold after a restart with other settings
    must come to the same state. Durations in milliseconds.
    """

    retry_attempts: int = 3
    retry_delay: int = 5_000
    timeout: int = 3_600_000
    max_gotos: int = 100
    max_depth: int = 10


def policy_to_json(policy: Policy) -> dict[str, Any]:
    """As an execution's row keeps it."""
    return asdict(policy)


def policy_from_json(data: Mapping[str, Any]) -> Policy:
    """What `policy_to_json` made; a setting added since has its default."""
    known = Policy.__dataclass_fields__
    return Policy(**{name: value for name, value in data.items() if name in known})
