"""The world outside, as `http` sees it: it takes its time, and gives or fails as the seed says.

What a call comes to follows from the seed and the call's key alone: a call made again comes to the
same, whatever else has happened meanwhile.
"""

from collections.abc import Callable
from random import Random
from typing import Any

from controller.core.plan import Signature
from controller.execute.action import BUILT_IN, ActionFailed, Call, Result

Began = Callable[[Call, str], None]


class Outside:
    """`http`, for one process.

    Args:
        began: Called when somebody is called, with the URL, before anything happens.
    """

    signature: Signature = BUILT_IN["http"]

    def __init__(self, seed: int, began: Began) -> None:
        self._seed = seed
        self._began = began

    async def perform(self, call: Call, inputs: dict[str, Any]) -> Result:
        """Be called."""
        self._began(call, inputs["url"])
        chance = Random(f"{self._seed}/{call.workflow}/{call.step}/{call.attempt}")
        await call.clock.sleep(chance.choice((0, 0, 0.01, 0.3, 1.5, 6.0)))
        match chance.randrange(8):
            case 0 | 1:
                raise ActionFailed("status", "it did not go well")
            case 2:
                raise RuntimeError("it went wrong")
            case _:
                return {"status": 200, "json": {"given": chance.randrange(9)}}
