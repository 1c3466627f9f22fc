"""The world outside, as `http` sees it: it takes its time, and gives or fails as the seed says.

Asked to end, it takes its time too, as a process does that cleans up.

What a call comes to follows from the seed and the call's key alone: a call made again comes to the
same, whatever else has happened meanwhile.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

from controller.core.plan import Signature
from controller.execute.action import BUILT_IN, ActionFailed, Call, Result

Began = Callable[[Call, str, bool], None]


class Outside:
    """`http`, for one process.

    Args:
        began: Called when somebody is called, before anything happens: with the URL, and whether
            an earlier call for the same step is still going on.
    """

    signature: Signature = BUILT_IN["http"]

    def __init__(self, seed: int, began: Began) -> None:
        self._seed = seed
        self._began = began
        self._now: Counter[tuple[str, str]] = Counter()

    async def perform(self, call: Call, inputs: dict[str, Any]) -> Result:
        """Be called."""
        step = call.execution, call.step
        self._began(call, inputs["url"], self._now[step] > 0)
        self._now[step] += 1
        try:
            return await self._called(call)
        finally:
            self._now[step] -= 1

    async def _called(self, call: Call) -> Result:
        chance = Random(f"{self._seed}/{call.workflow}/{call.step}/{call.attempt}")
        try:
            await call.clock.sleep(chance.choice((0, 0, 0.01, 0.3, 1.5, 6.0)))
        except asyncio.CancelledError:
            await call.clock.sleep(0 if call.force else chance.choice((0, 0.5, 3.0, 8.0)))
            raise
        match chance.randrange(8):
            case 0 | 1:
                raise ActionFailed("status", "it did not go well")
            case 2:
                raise RuntimeError("it went wrong")
            case _:
                return {"status": 200, "json": {"given": chance.randrange(9)}}
