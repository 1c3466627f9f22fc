"""`sleep`: wait durably, for a time or until one; nothing is held meanwhile."""

from datetime import UTC, datetime
from typing import Any

from controller.core.duration import parse_duration
from controller.execute.action import BUILT_IN, ActionFailed, Call, Result, Suspended
from controller.execute.scripts import Scripts


class Sleep:
    """See `BUILT_IN["sleep"]`."""

    signature = BUILT_IN["sleep"]

    def perform(self, call: Call, inputs: dict[str, Any]) -> Result:
        """Say until when; at once when that has passed."""
        now = call.clock.now()
        until = wake_time(now, inputs.get("duration"), inputs.get("until"))
        if until is None:
            raise ActionFailed("invalid_inputs", "give either `duration` or `until`")
        return Suspended(until=until) if until > now else {}


def wake_time(now: int, duration: Any, until: Any) -> int | None:  # ruff: ignore[any-type]  # JSON values
    """Epoch milliseconds of a duration from now, or of an ISO 8601 time; None: neither or both."""
    try:
        if duration is not None and until is None:
            return now + parse_duration(duration)
        if until is not None and duration is None:
            moment = datetime.fromisoformat(str(until))
            aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
            return round(aware.timestamp() * 1000)
    except (ValueError, OverflowError) as error:
        raise ActionFailed("invalid_inputs", str(error)) from None
    return None


def build(_scripts: Scripts) -> Sleep:
    """The action."""
    return Sleep()
