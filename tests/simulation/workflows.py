"""Random workflows of everything the definition language has.

`http` is the world outside: it takes its time, and gives or fails as the seed says. Its URL names
the version of the definition, so that whoever is called can tell which one called.
"""

from random import Random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

KINDS = ("call", "call", "call", "call", "set", "sleep", "signal", "emit")
HOLDERS = ("condition", "parallel", "loop", "while", "subflow")
OVERLAPS = ("skip", "queue_one", "queue_all", "cancel_running", "allow")

Step = dict[str, Any]


def workflow(chance: Random, name: str, version: int, children: list[str]) -> dict[str, Any]:
    """A document; `children` may be its subflows."""
    author = _Author(chance, version, children)
    document: dict[str, Any] = {
        "name": name,
        "version": f"{version}.0.0",
        "inputs": [{"name": "n", "type": "integer", "default": 3}],
        "steps": author.steps(chance.choice((1, 2, 2))),
        "timeout": chance.choice((20_000, 40_000, 60_000)),
    }
    if chance.random() < 0.4:
        document["error_handler"] = author.call("handler")
    if chance.random() < 0.2:
        full = chance.choice(("queue", "queue", "skip", "cancel_oldest"))
        document["concurrency"] = {"max": chance.choice((1, 1, 2)), "on_full": full}
    return document


def scheduled(chance: Random, document: dict[str, Any], end: str) -> dict[str, Any]:
    """The same workflow with a schedule that ends."""
    config: dict[str, Any] = {
        "cron": f"*/{chance.choice((3, 7, 10))} * * * * *",
        "overlap": chance.choice(OVERLAPS),
        "end": end,
    }
    if chance.random() < 0.6:
        config["catchup"] = "1h"
    return {**document, "triggers": [{"type": "scheduled", "config": config}]}


class _Author:
    def __init__(self, chance: Random, version: int, children: list[str]) -> None:
        self._chance = chance
        self._version = version
        self._children = children
        self._ids: Iterator[int] = iter(range(1_000))

    def call(self, step: str) -> Step:
        """A step that calls the world outside."""
        url = f"v{self._version}"
        found: Step = {"id": step, "type": "action", "action": "http", "inputs": {"url": url}}
        if self._chance.random() < 0.35:
            found["idempotent"] = False
        if self._chance.random() < 0.2:
            found["timeout"] = self._chance.choice((500, 2_000, 5_000))
        return found

    def steps(self, depth: int) -> list[Step]:
        """A list of steps, which depend on the one above or on some of them."""
        found: list[Step] = []
        for _ in range(self._chance.choice((1, 2, 2, 3))):
            step = self._step(f"s{next(self._ids)}", depth)
            above = [each["id"] for each in found]
            if above and self._chance.random() < 0.5:
                step["depends_on"] = sorted(
                    self._chance.sample(above, self._chance.randint(0, len(above)))
                )
            found.append(step | self._reaction(above))
        return found

    def _step(self, step: str, depth: int) -> Step:
        if depth and self._chance.random() < 0.4:
            kind = self._chance.choice(HOLDERS)
            if kind != "subflow" or self._children:
                holder: Step = {"id": step, **self._holder(kind, depth - 1)}
                if self._chance.random() < 0.25:
                    holder["timeout"] = self._chance.choice((500, 2_000, 5_000))
                return holder
        kind = self._chance.choice(KINDS)
        action: Step = {"id": step, "type": "action"}
        seconds = self._chance.choice((1, 4, 12))
        match kind:
            case "set":
                return action | {"action": "set", "inputs": {f"{step}_x": "${n + 1}"}}
            case "sleep":
                return action | {"action": "sleep", "inputs": {"duration": f"{seconds}s"}}
            case "signal":
                waits = {"name": "go", "timeout": f"{seconds}s"}
                return action | {"action": "wait_for_signal", "inputs": waits}
            case "emit":
                event = "rang" if self._children else "heard"  # nobody sets off itself
                return action | {"action": "emit", "inputs": {"event": event}}
            case _:
                return self.call(step)

    def _holder(self, kind: str, depth: int) -> Step:
        chance = self._chance
        match kind:
            case "condition":
                condition = {
                    "expression": f"${{n > {chance.randint(0, 5)}}}",
                    "then_steps": self.steps(depth),
                    "else_steps": self.steps(depth) if chance.random() < 0.5 else [],
                }
                return {"type": "condition", "condition": condition}
            case "parallel":
                branches = [self.steps(depth) for _ in range(chance.randint(1, 3))]
                more = {"max_parallel": chance.randint(1, 2)} if chance.random() < 0.3 else {}
                wait_all = chance.random() < 0.6
                return {
                    "type": "parallel",
                    "parallel": {"branches": branches, "wait_all": wait_all, **more},
                }
            case "loop":
                items = list(range(chance.randint(0, 3)))
                loop = {"over": items, "as": "item", "steps": self.steps(depth)}
                return {"type": "loop", "loop": {**loop, "parallel": chance.randint(1, 3)}}
            case "while":
                counted = {"while": "${i_index < 1}", "as": "i", "steps": self.steps(depth)}
                return {"type": "loop", "loop": counted}
            case _:
                return {"type": "subflow", "subflow": chance.choice(self._children)}

    def _reaction(self, above: list[str]) -> Step:
        """What a step does when it fails, and whether it is done at all."""
        chance = self._chance
        kind = chance.choice((
            "fail",
            "fail",
            "continue",
            "continue",
            "retry",
            "retry",
            "goto",
            "goto",
        ))
        found: Step = {}
        if kind == "goto" and above:
            found |= {"on_error": "goto", "goto": chance.choice(above)}
        elif kind == "retry":
            backoff = chance.choice(("linear", "exponential", "constant"))
            retry = {"attempts": chance.randint(2, 3), "delay": chance.choice((0, 500, 2_000))}
            found |= {"on_error": "retry", "retry": {**retry, "backoff": backoff}}
        elif kind != "goto":
            found |= {"on_error": kind}
        if chance.random() < 0.15:
            found["when"] = f"${{n > {chance.randint(0, 5)}}}"
        return found
